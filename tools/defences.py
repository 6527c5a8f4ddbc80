"""Takes each defence of docs/security.md out, and sees its tests go red: `make defences`.

Knows the rows of the page, and for each of them how its defence is taken out of the code, which is
in tools/defences.toml. What it breaks is a private copy of the tree. Must not know SMTP.

    python -m tools.defences                      all rows
    python -m tools.defences --only "VRFY"        rows that have this text in them
    python -m tools.defences --only "## Proxies"  those below a heading
"""

import argparse
import re
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tools.page import ROOT
from tools.trial import Trial

PAGE = ROOT / "docs" / "security.md"
LIST = ROOT / "tools" / "defences.toml"

PATIENCE = 180
"""The seconds that a test may take: else it hangs."""
EXAMPLES = 100
"""How often hypothesis tries a property."""

_TEST = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")

# --- The page --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One attack of the page."""

    heading: str
    attack: str
    tests: tuple[str, ...]

    def has(self, text: str) -> bool:
        """Whether a text is in it, or the heading above it begins so."""
        return text in self.attack or self.heading.startswith(text)


def rows() -> Sequence[Row]:
    """Read the rows that name tests."""
    found: list[Row] = []
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line
        tests = tuple(_TEST.findall(line))
        if line.startswith("| ") and tests:
            found.append(Row(heading, line.strip("| ").partition(" | ")[0], tests))
    return found


# --- The list --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A text of a file, and what is put in its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Defence:
    """How the defence of a row is taken out; of one that has several, how one of them is.

    `attack`: how the row begins. `tests`: the names of those of the row that see it; (): all do.
    """

    attack: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...] = ()

    def is_of(self, row: Row) -> bool:
        """Whether it is a row's."""
        return row.attack.startswith(self.attack)

    def tests_in(self, row: Row) -> Sequence[str]:
        """The tests of its row that are to go red."""
        named = (test for test in row.tests if test.partition("::")[2] in self.tests)
        return tuple(named) if self.tests else row.tests

    def sources(self, folder: Path) -> Mapping[str, str]:
        """The files without it. Raises ValueError unless each text is there, and once."""
        sources: dict[str, str] = {}
        for change in self.changes:
            source = sources.get(change.file) or (folder / change.file).read_text(encoding="utf-8")
            count = source.count(change.old)
            if count != 1:
                raise ValueError(f"{self.attack}: {change.file} has {count} times {change.old!r}")
            sources[change.file] = source.replace(change.old, change.new)
        return sources


def defences() -> Sequence[Defence]:
    """Read the list."""
    table = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return [
        Defence(
            entry["attack"],
            tuple(Change(**change) for change in entry["change"]),
            tuple(entry.get("tests", ())),
        )
        for entry in table["defence"]
    ]


def missing(every: Sequence[Row], known: Sequence[Defence]) -> Iterator[str]:
    """Yield what the list does not have: rows, single tests of them; and entries of no row."""
    for row in every:
        own = [defence for defence in known if defence.is_of(row)]
        red = {test for defence in own for test in defence.tests_in(row)}
        yield from (f"{row.attack}: {test}" for test in row.tests if test not in red)
    for defence in known:
        own_rows = [row for row in every if defence.is_of(row)]
        if len(own_rows) != 1:
            yield f"no row, or more than one, begins with {defence.attack!r}"
        elif len(defence.tests_in(own_rows[0])) < len(defence.tests):
            yield f"{defence.attack}: its row does not name all of {', '.join(defence.tests)}"


# --- Running ---------------------------------------------------------------------------------


class Fate(Enum):
    """What becomes of a test when the defence is out."""

    RED = "red"
    HUNG = "HUNG"
    GREEN = "GREEN"
    NOT_RUN = "NOT RUN"
    """Nothing was found out: the code cannot be imported, or there is no such test."""


def fate(trial: Trial, test: str) -> Fate:
    """Run a test in a copy of the tree."""
    match trial.run(test, examples=EXAMPLES, seconds=PATIENCE):
        case 0:
            return Fate.GREEN
        case 1:
            return Fate.RED
        case None:
            return Fate.HUNG
        case _:
            return Fate.NOT_RUN


def take_out(trial: Trial, defence: Defence, row: Row) -> Iterator[tuple[str, Fate]]:
    """Run the tests of a row without one of its defences, each by itself."""
    with trial.broken(defence.sources(trial.folder)):
        for test in defence.tests_in(row):
            yield test, fate(trial, test)


def main() -> int:
    """Return the exit code: 1 if a test did not go red, or there is no entry for one."""
    parser = argparse.ArgumentParser(description="Take the defences out, and see tests go red.")
    parser.add_argument("--only", metavar="TEXT", default="", help="rows with this text in them")
    only: str = parser.parse_args().only
    known, every = defences(), rows()
    chosen = [
        (defence, row) for row in every if row.has(only) for defence in known if defence.is_of(row)
    ]
    if not chosen:
        sys.exit("no row has that in it")
    fates: Counter[Fate] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        tests = {test for defence, row in chosen for test in defence.tests_in(row)}
        if trial.run(*sorted(tests), examples=EXAMPLES) != 0:
            sys.exit("a test fails with all defences in place")
        for defence, row in chosen:
            for test, seen in take_out(trial, defence, row):
                fates[seen] += 1
                print(f"{seen.value}: {row.attack}: {test}", flush=True)
    without = list(missing(every, known))
    for each in without:
        print(f"NO ENTRY: {each}")
    count = ", ".join(f"{fates[each]} {each.value}" for each in Fate)
    print(f"{len(chosen)} defences taken out; tests: {count}")
    return int(bool(without) or fates.keys() != {Fate.RED})


if __name__ == "__main__":
    sys.exit(main())
