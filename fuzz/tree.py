"""Makes the adapters of this tree importable, whether they are installed or not.

Knows where they are. Must not know what is in them.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "adapters"))
