"""Prints the interpreters to test with, one a line: each supported version that is here and runs.

Must run on the oldest of them. The interpreter that runs this comes first.
"""

import shutil
import subprocess
import sys

SUPPORTED = ("3.11", "3.12", "3.13")
ASK = "import sys; print('%d.%d' % sys.version_info[:2])"


def version_of(executable: str) -> str | None:
    """The version that an executable runs; None if it does not run."""
    asked = subprocess.run([executable, "-c", ASK], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None


def main() -> None:
    """Print one interpreter for each version."""
    candidates = [sys.executable, *(shutil.which(f"python{version}") for version in SUPPORTED)]
    interpreters: dict[str, str] = {}
    for executable in filter(None, candidates):
        if version := version_of(executable):
            interpreters.setdefault(version, executable)
    print(*interpreters.values(), sep="\n")


if __name__ == "__main__":
    main()
