"""Lists what the RFCs demand and the tests that hold it: `python -m tools.musts [--check]`.

Knows the list in `tools/musts.toml`, and what a test is called. Must not know what any test does.
"""

import ast
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tools.page import ROOT, keep_fresh

PAGE = ROOT / "docs" / "musts.md"
LIST = ROOT / "tools" / "musts.toml"

TITLES: Mapping[int, str] = {
    5321: "SMTP",
    1870: "SIZE",
    2920: "PIPELINING",
    3030: "CHUNKING and BINARYMIME",
    3207: "STARTTLS",
    3461: "DSN",
    4954: "AUTH",
    6531: "SMTPUTF8",
}

OPENING = """\
# What the RFCs demand, and the tests that hold it

Made from `tools/musts.toml` by `make docs`; `make check` tells when it is stale. It has what these
RFCs demand by MUST, REQUIRED or SHALL of the two ends of a session, in our words, and for each the
tests that fail when it is broken. What they demand of others stands below each table.

"""


@dataclass(frozen=True, slots=True)
class Must:
    """What one or more sections of an RFC demand, and who sees to it."""

    rfc: int
    sections: str
    who: str
    what: str
    tests: Sequence[str] = ()
    why: str = ""
    """Why no test holds it."""
    open: str = ""
    """What is missing, where the code does not hold it."""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.tests, self.why, self.open))) != 1:
            raise ValueError(f"one of tests, why and open is to be said: {self}")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What sections of an RFC demand of others than the two ends of a session."""

    rfc: int
    sections: str
    what: str
    why: str


# --- Reading ---------------------------------------------------------------------------------


def musts() -> Sequence[Must]:
    """Read what is demanded of a client or a server."""
    return [Must(**row) for row in tomllib.loads(LIST.read_text(encoding="utf-8"))["must"]]


def elsewhere() -> Sequence[Elsewhere]:
    """Read what is demanded of others."""
    rows = tomllib.loads(LIST.read_text(encoding="utf-8"))["elsewhere"]
    return [Elsewhere(**row) for row in rows]


def exists(test: str) -> bool:
    """Whether there is a test of this name, such as "tests/test_musts.py::test_a_talk[RSET]"."""
    path, _, name = test.partition("::")
    function, _, parameter = name.removesuffix("]").partition("[")
    if not (ROOT / path).is_file():
        return False
    functions, texts = names_in(path)
    return function in functions and (not parameter or parameter in texts)


@cache
def names_in(path: str) -> tuple[frozenset[str], frozenset[str]]:
    """Find the functions that a file defines, and the texts in it, which name parameters."""
    nodes = list(ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return (
        frozenset(node.name for node in functions),
        frozenset(value for value in constants if isinstance(value, str)),
    )


# --- Writing ---------------------------------------------------------------------------------


def page() -> str:
    """Write the whole page."""
    rows, others = musts(), elsewhere()
    chapters = (
        chapter(
            f"RFC {rfc}: {title}",
            [row for row in rows if row.rfc == rfc],
            [row for row in others if row.rfc == rfc],
        )
        for rfc, title in TITLES.items()
    )
    return OPENING + count(rows) + "".join(chapters)


def count(rows: Sequence[Must]) -> str:
    """Say how many there are, and how many are held."""
    missing = sum(1 for row in rows if row.open)
    needless = sum(1 for row in rows if row.why)
    held = len(rows) - missing - needless
    return f"Of {len(rows)}, tests hold {held}; {needless} cannot arise here; {missing} are open.\n"


def chapter(title: str, rows: Iterable[Must], others: Sequence[Elsewhere]) -> str:
    """Write the part about one RFC."""
    lines = "".join(
        f"| {row.sections} | {row.who} | {row.what} | {holder(row)} |\n" for row in rows
    )
    text = (
        f"\n## {title}\n\n| section | who | what must hold | held by |\n|---|---|---|---|\n{lines}"
    )
    if others:
        lines = "".join(f"| {row.sections} | {row.what} | {row.why} |\n" for row in others)
        text += f"\nNot of this layer:\n\n| section | what | why not |\n|---|---|---|\n{lines}"
    return text


def holder(row: Must) -> str:
    """Write which tests hold it, or why none does."""
    if row.open:
        return f"**open:** {row.open}"
    return row.why or "<br/>".join(f"`{test}`" for test in row.tests)


if __name__ == "__main__":
    sys.exit(keep_fresh(PAGE, page, "List what the RFCs demand, and the tests that hold it."))
