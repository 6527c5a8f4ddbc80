"""A page of the docs that is made of the code: writes it, or says whether it is fresh.

Knows files and exit codes. Must not know what any page shows.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def keep_fresh(
    path: Path, make: Callable[[], str], description: str, arguments: Sequence[str] | None = None
) -> int:
    """Write what `make` returns; with --check, only say if that would change the page.

    Returns the exit code: 1 if the page is stale.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="change nothing: is the page fresh?")
    options = parser.parse_args(arguments)
    if not options.check:
        path.write_text(make(), encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != make():
        print(f"{path} is stale: run `make docs`", file=sys.stderr)
        return 1
    return 0
