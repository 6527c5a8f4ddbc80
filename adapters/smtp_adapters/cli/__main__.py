"""`python -m smtp_adapters.cli` is the command `smtp-proto`."""

import sys

from smtp_adapters.cli import main

sys.exit(main())
