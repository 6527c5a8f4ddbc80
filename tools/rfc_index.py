"""Lists code and tests by section of an RFC: `python -m tools.rfc_index [--check]`.

Knows comments and docstrings of Python, and how they cite: "RFC 5321 4.5.2"; and the tests that
`tools/musts.toml` names. Gives names and no line numbers, so that the list stays true while lines
move. Must not know what any section says.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from tools.musts import musts
from tools.page import ROOT, keep_fresh

PAGE = ROOT / "docs" / "rfc-index.md"
SOURCES = ("smtp_proto", "adapters")

OPENING = """\
# Which code follows which section, and which tests hold it

Made from the comments and docstrings of `smtp_proto`, `adapters` and `tests` by `make docs`;
`make check` tells when it is stale. A comment cites the section on the line that decides; a
docstring, what its class or function is for. Where only the file is named, all of it is meant.
The tests are those that cite the section, and those that hold what it demands: see
[the list of that](musts.md).
"""

# "RFC 5321 4.1.2 and 4.1.3", "RFC 5321 4.2, 4.3.2", "RFC 2034"
_CITATION = re.compile(r"\bRFC\s+(\d+)((?:\s+\d+(?:\.\d+)*)?(?:(?:,|\s+and)\s+\d+(?:\.\d+)+)*)")
_SECTION = re.compile(r"\d+(?:\.\d+)*")

Section: TypeAlias = tuple[int, ...]
"""The numbers of a section; none: the RFC as a whole."""
Places: TypeAlias = dict[Section, dict[str, list[str]]]
"""Section, file: the names in it that cite the section."""
Index: TypeAlias = dict[int, Places]
"""The same for each RFC."""

# --- Reading ---------------------------------------------------------------------------------


def citations(text: str) -> Iterator[tuple[int, Section]]:
    """Yield what a text cites: the number of the RFC, and the section."""
    for rfc, sections in _CITATION.findall(text):
        for section in _SECTION.findall(sections) or [""]:
            yield int(rfc), numbers(section)


def numbers(section: str) -> Section:
    """Read the number of a section."""
    return tuple(map(int, section.split("."))) if section else ()


def cited(source: str) -> Iterator[tuple[str, int, Section]]:
    """Yield what a source cites: the name of the function, class or variable, RFC, section."""
    tree = ast.parse(source)
    for line, text in sorted([*comments(source), *docstrings(tree)]):
        for rfc, section in citations(text):
            yield name_at(tree.body, line), rfc, section


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield each comment with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each docstring, those behind variables too, with its first line."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as text)):
                yield node.lineno, text
            case _:
                pass


def name_at(body: Sequence[ast.stmt], line: int, owner: str = "") -> str:
    """Return the name of what a line is part of, or stands in front of; "" for the whole file."""
    name = owner
    for statement in body:
        before, name = name, ".".join(filter(None, [owner, own_name(statement)]))
        if line > (statement.end_lineno or 0):
            continue
        match statement:
            case ast.Expr():
                return before
            case ast.ClassDef() if line >= statement.lineno:
                return name_at(statement.body, line, name)
            case _:
                return name
    return owner


def own_name(statement: ast.stmt) -> str:
    """Return the name that a statement gives to something, "" if none."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case _:
            return ""


# --- Writing ---------------------------------------------------------------------------------


def index_of(folders: Iterable[str]) -> Index:
    """Collect what the files in folders cite."""
    index: Index = {}
    for file in (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))):
        path = file.relative_to(ROOT).as_posix()
        for name, rfc, section in cited(file.read_text(encoding="utf-8")):
            add(index, rfc, section, path, name)
    return index


def index_of_tests() -> Index:
    """Collect what tests cite, and those that are named to hold what an RFC demands."""
    index = index_of(["tests"])
    for must in musts():
        for section in filter(_SECTION.fullmatch, must.sections.split(", ")):
            for test in must.tests:
                path, _, name = test.partition("::")
                add(index, must.rfc, numbers(section), path, name.partition("[")[0])
    return index


def add(index: Index, rfc: int, section: Section, path: str, name: str) -> None:
    """Add a name to the index, if it is not there."""
    names = index.setdefault(rfc, {}).setdefault(section, {}).setdefault(path, [])
    if name not in names:
        names.append(name)


def page() -> str:
    """Write the whole page."""
    code, tests = index_of(SOURCES), index_of_tests()
    chapters = (chapter(rfc, code.get(rfc, {}), tests.get(rfc, {})) for rfc in sorted(code | tests))
    return OPENING + "".join(chapters)


def chapter(rfc: int, code: Places, tests: Places) -> str:
    """Write the part about one RFC."""
    rows = "".join(
        f"| {'.'.join(map(str, section)) or 'all'} |"
        f" {places(code.get(section, {}))} | {places(tests.get(section, {}))} |\n"
        for section in sorted(code | tests)
    )
    return f"\n## RFC {rfc}\n\n| section | code | tests |\n|---|---|---|\n{rows}"


def places(files: Mapping[str, Sequence[str]]) -> str:
    """Write the places that cite one section."""
    return "<br/>".join(
        ": ".join(filter(None, [f"`{path}`", ", ".join(f"`{name}`" for name in names if name)]))
        for path, names in files.items()
    )


if __name__ == "__main__":
    sys.exit(keep_fresh(PAGE, page, "List code and tests by section of an RFC."))
