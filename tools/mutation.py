"""Breaks the code in small ways and counts which breaks the tests see: `make mutation`.

Knows the grammar of Python, and that `smtp_proto/X` is tested by `tests/X`. What it breaks is a
private copy of the tree. Must not know SMTP.

    python -m tools.mutation                              a sample of each file, and the page
    python -m tools.mutation smtp_proto/wire/reply.py     a sample of one file
    python -m tools.mutation smtp_proto/wire/reply.py:7   one mutant, by its number
    python -m tools.mutation --resume FILE                goes on where it was interrupted
"""

import argparse
import ast
import math
import os
import random
import resource
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from tools.page import ROOT
from tools.rfc_index import name_at
from tools.trial import Trial

PAGE = ROOT / "docs" / "mutation.md"
EQUIVALENTS = ROOT / "tools" / "mutation_equivalents.toml"

FOLDERS = ("wire", "engine", "sasl", "proxy")
PATIENCE = 2
"""How many times the processor time of the unbroken code a mutant may take: else it hangs."""
EXAMPLES = 25
"""How often hypothesis tries a property: what is broken mostly shows at once."""

# --- What can be broken ----------------------------------------------------------------------

SWAPS: Mapping[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Gt: ast.GtE(),
    ast.GtE: ast.Gt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
}
"""Each comparison, and the one that takes its place."""

TESTS = frozenset({"test", "ifs", "guard"})
"""The fields of a node that hold a condition."""

NOT_RUN = frozenset({"annotation", "returns", "decorator_list"})
"""The fields of a node that only type checkers read, or that say how, not what."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node in its tree, the statement that it is part of, and how to put another one there."""

    node: ast.AST
    statement: ast.AST
    field: str
    put: Callable[[ast.AST], None]
    in_function: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A place, and what is put there."""

    place: Place
    other: ast.AST

    @property
    def line(self) -> int:
        """The line of the source."""
        line: int = getattr(self.place.node, "lineno", 0)
        return line

    def __str__(self) -> str:
        node, statement = self.place.node, self.place.statement
        where = "" if node is statement else f" in {first_line(statement)}"
        return f"{first_line(node)} -> {first_line(self.other)}{where}"


def first_line(node: ast.AST) -> str:
    """Write a node, the first line of it if it has many."""
    return ast.unparse(node).partition("\n")[0]


def changes(tree: ast.Module) -> Iterator[Change]:
    """Yield everything that can be broken, always in the same order."""
    for place in places(tree, tree):
        for other in instead(place):
            yield Change(place, other)


def places(node: ast.AST, statement: ast.AST, in_function: bool = False) -> Iterator[Place]:
    """Yield what runs below a node that is part of a statement, or one itself."""
    in_function = in_function or isinstance(node, ast.FunctionDef)
    for field, child, put in children(node):
        around = child if isinstance(child, ast.stmt) else statement
        yield Place(child, around, field, put, in_function)
        yield from places(child, around, in_function)


def children(node: ast.AST) -> Iterator[tuple[str, ast.AST, Callable[[ast.AST], None]]]:
    """Yield the nodes right below one: in which field, and how to put others there."""
    for field, value in ast.iter_fields(node):
        if field in NOT_RUN:
            continue
        if isinstance(value, ast.AST):
            yield field, value, partial(setattr, node, field)
        elif isinstance(value, list):
            for index, child in enumerate(value):
                if isinstance(child, ast.AST) and not only_read(child):
                    yield field, child, partial(value.__setitem__, index)


def only_read(node: ast.AST) -> bool:
    """Whether a node is a docstring, or the list of public names."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case _:
            return False


def instead(place: Place) -> Iterator[ast.AST]:
    """Yield what can be put at a place to break it."""
    match place.node:
        case ast.Compare(left=left, ops=operators, comparators=others):
            for index, operator in enumerate(operators):
                swapped = [*operators[:index], SWAPS[type(operator)], *operators[index + 1 :]]
                yield ast.Compare(left, swapped, others)
        case ast.BoolOp(op=operator, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.Constant(value=value):
            yield from map(ast.Constant, other_values(value))
        case ast.Return(value=ast.expr() as value) if not is_none(value):
            yield ast.Return(ast.Constant(None))
        case ast.Expr() | ast.Assign() | ast.AugAssign() | ast.Raise() | ast.Delete():
            if place.in_function:
                yield ast.Pass()
        case ast.expr() as test if place.field in TESTS:
            yield ast.UnaryOp(ast.Not(), test)
        case _:
            pass


def other_values(value: object) -> Sequence[bool | int | bytes]:
    """Give what can stand in place of a constant."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1]
        case bytes():
            return [value + b"!"]
        case _:
            return []


def is_none(node: ast.expr) -> bool:
    """Whether an expression is None."""
    return isinstance(node, ast.Constant) and node.value is None


# --- Mutants ---------------------------------------------------------------------------------


class Fate(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    HUNG = "killed, it hung"
    EQUIVALENT = "equivalent"
    SURVIVED = "SURVIVED"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One file with one change."""

    file: str
    number: int
    name: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number} {self.name}: {self.change}"


def mutant(file: str, number: int) -> Mutant:
    """Make a mutant of a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    change = list(changes(tree))[number]
    name, text = name_at(tree.body, change.line), str(change)
    change.place.put(change.other)
    return Mutant(file, number, name, text, ast.unparse(ast.fix_missing_locations(tree)))


def sample(file: str, size: int, seed: int) -> Sequence[Mutant]:
    """Choose mutants of a file by chance, the same ones for the same seed."""
    count = sum(1 for _ in changes(ast.parse((ROOT / file).read_text(encoding="utf-8"))))
    chance = random.Random(f"{seed} {file}")  # noqa: S311 - nothing is secret here
    numbers = chance.sample(range(count), count)
    return [mutant(file, number) for number in numbers[:size]]


def all_files() -> Sequence[str]:
    """List the files that are broken when none is named."""
    return [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in sorted((ROOT / "smtp_proto" / folder).glob("*.py"))
        if path.name != "__init__.py"
    ]


# --- Running ---------------------------------------------------------------------------------


class Copy(Trial):
    """A copy of the tree, in which one file at a time is broken."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._patience: dict[str, int] = {}

    def fate(self, mutant: Mutant) -> Fate:
        """Run the tests on a mutant."""
        *own, folder = self._tests(mutant.file)
        patience = self._patience_with(folder)
        with self.broken({mutant.file: mutant.source}):
            fates = (self._fate(tests, patience) for tests in (*own, folder))
            return next((fate for fate in fates if fate is not Fate.SURVIVED), Fate.SURVIVED)

    def _tests(self, file: str) -> Sequence[str]:
        """Name the tests of a file: those of the same name first, then all of its folder."""
        folder = f"tests/{Path(file).parent.name}"
        own = f"{folder}/test_{Path(file).name}"
        return [own, folder] if (self.folder / own).exists() else [folder]

    def _patience_with(self, folder: str) -> int:
        """Give the seconds of processor time that the tests of a folder may take; measured once."""
        if folder not in self._patience:
            start = processor_time()
            if self._fate(folder, resource.RLIM_INFINITY) is not Fate.SURVIVED:
                sys.exit(f"{folder} fails without any change")
            self._patience[folder] = PATIENCE * math.ceil(processor_time() - start)
        return self._patience[folder]

    def _fate(self, tests: str, patience: int) -> Fate:
        match self.run(tests, "-mnot slow", examples=EXAMPLES, processor_seconds=patience):
            case 0:
                return Fate.SURVIVED
            case None:
                return Fate.HUNG
            case _:
                return Fate.KILLED


def processor_time() -> float:
    """Give the seconds that all processes took that this one has waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


# --- The page --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A change that changes nothing that anybody could see."""

    file: str
    name: str
    change: str
    why: str

    def is_made_by(self, mutant: Mutant) -> bool:
        """Whether a mutant is this change."""
        return (self.file, self.name, self.change) == (mutant.file, mutant.name, mutant.change)


def equivalents() -> Sequence[Equivalent]:
    """Read the list of those that are known."""
    table = tomllib.loads(EQUIVALENTS.read_text(encoding="utf-8"))
    return [Equivalent(**row) for row in table["equivalent"]]


OPENING = """\
# What the tests see

Made by `make mutation`, which breaks the code in small ways, one at a time in a private copy, and
runs the tests of the folder on each: `tests/wire` on what is broken in `smtp_proto/wire`. A break
that fails a test is killed. One that survives is a line that no test holds, unless it changes
nothing that anybody could see: those are listed below, each with its reason.

A break swaps a comparison for its neighbour or opposite, turns a condition round, swaps `and` and
`or`, adds one to a number or takes it away, makes True of False, adds an octet to a constant,
returns None, or leaves out a statement.
"""


def page(fates: Mapping[Mutant, Fate], size: int, seed: int) -> str:
    """Write the whole page."""
    chance = f"\nBy chance, up to {size} of each file were tried (seed {seed}).\n\n"
    rows = [row(name, fates) for name in sorted({mutant.file for mutant in fates})]
    total = row("", fates).replace("``", "all")
    head = "| file | breaks | killed | equivalent | survived |\n|---|---|---|---|---|\n"
    kept = "".join(
        f"| `{known.file}` {known.name} | `{known.change}` | {known.why} |\n"
        for known in equivalents()
        if any(known.is_made_by(mutant) for mutant in fates)
    )
    kept = f"\n## Equivalent\n\n| where | break | why nobody sees it |\n|---|---|---|\n{kept}"
    return OPENING + chance + head + "".join(rows) + total + kept


def row(file: str, fates: Mapping[Mutant, Fate]) -> str:
    """Write the line of one file; of all, if it is "" that is named."""
    count = Counter(fate for mutant, fate in fates.items() if mutant.file.startswith(file))
    killed = count[Fate.KILLED] + count[Fate.HUNG]
    return (
        f"| `{file}` | {count.total()} | {killed} |"
        f" {count[Fate.EQUIVALENT]} | {count[Fate.SURVIVED]} |\n"
    )


# --- The command -----------------------------------------------------------------------------


def chosen(names: Iterable[str], size: int, seed: int) -> Iterator[Mutant]:
    """Give the mutants that are named: all of a sample, or one by its number."""
    for name in names:
        file, _, number = name.partition(":")
        if number:
            yield mutant(file, int(number))
        else:
            yield from sample(file, size, seed)


def remembered(log: Path) -> Mapping[str, Fate]:
    """Read what became of the mutants of earlier runs; those that survived are to be tried again.

    They hold for the same code, and for tests to which some have been added at most.
    """
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    fates = {name: Fate(fate) for fate, _, name in (line.partition(": ") for line in lines)}
    return {name: fate for name, fate in fates.items() if fate is not Fate.SURVIVED}


def main() -> int:
    """Return the exit code: 1 if a mutant survived that is not known to be equivalent."""
    parser = argparse.ArgumentParser(description="Break the code, and see whether a test fails.")
    parser.add_argument("names", nargs="*", help="files, or single mutants such as FILE:NUMBER")
    parser.add_argument("--size", type=int, default=40, help="how many mutants of each file")
    parser.add_argument("--seed", type=int, default=1, help="what chooses them")
    parser.add_argument(
        "--resume", type=Path, default=os.devnull, help="keeps what became of each, and goes on"
    )
    options = parser.parse_args()
    known = equivalents()
    earlier = remembered(options.resume)
    fates: dict[Mutant, Fate] = {}
    with tempfile.TemporaryDirectory() as folder, options.resume.open("a") as log:
        copy = Copy(Path(folder))
        for each in chosen(options.names or all_files(), options.size, options.seed):
            fate = earlier.get(str(each)) or copy.fate(each)
            if fate is Fate.SURVIVED and any(change.is_made_by(each) for change in known):
                fate = Fate.EQUIVALENT
            fates[each] = fate
            print(f"{fate.value}: {each}", flush=True)
            if str(each) not in earlier:
                print(f"{fate.value}: {each}", file=log, flush=True)
    if not options.names:
        PAGE.write_text(page(fates, options.size, options.seed), encoding="utf-8")
    return int(Fate.SURVIVED in fates.values())


if __name__ == "__main__":
    sys.exit(main())
