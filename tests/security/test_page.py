"""The page about attacks: what it names is there, and its differences are those that are tested.

Knows how the page names files and tests. Must not know what they are about.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.security.differences import (
    AIOSMTPD,
    EXIM,
    POSTFIX,
    STARTTLS,
    VERSIONS,
    Difference,
    rows,
)
from tools.page import ROOT

PAGE = ROOT / "docs" / "security.md"
TEXT = PAGE.read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
FILE = re.compile(r"`([\w/.-]+/[\w.-]+\.(?:py|md)|[\w/]+/)`")


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of the tests in a file."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def attacks() -> Iterator[list[str]]:
    """The rows of the tables of attacks: attack, what happens, where, test."""
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and "::test_" in line:
            yield cells


@pytest.mark.parametrize(("file", "name"), sorted(set(TEST.findall(TEXT))))
def test_each_test_is_there(file: str, name: str) -> None:
    assert name in names_in(ROOT / file)


def test_each_file_is_there() -> None:
    named = set(FILE.findall(TEXT))
    assert len(named) > 20
    for name in named:
        assert any((ROOT / folder / name).exists() for folder in ("", "adapters")), name


def test_each_attack_has_a_defence_and_a_test() -> None:
    seen = list(attacks())
    assert len(seen) > 80
    for cells in seen:
        assert len(cells) == 4, cells
        assert FILE.search(cells[2]), cells
        assert TEST.search(cells[3]), cells


def test_each_test_of_attacks_is_named() -> None:
    for path in Path(__file__).parent.glob("test_*.py"):
        if path.name == Path(__file__).name:
            continue
        for name in names_in(path):
            if name.startswith("test_"):
                assert f"`tests/security/{path.name}::{name}`" in TEXT, name


@pytest.mark.parametrize(
    "differences",
    [AIOSMTPD, STARTTLS, POSTFIX, EXIM],
    ids=["aiosmtpd", "STARTTLS", "Postfix", "Exim"],
)
def test_the_differences_are_told(differences: tuple[Difference, ...]) -> None:
    table = "\n".join(rows(differences))
    assert f"|---|---|---|---|\n{table}\n\n" in f"{TEXT}\n"


@pytest.mark.parametrize(("server", "version"), VERSIONS.items())
def test_the_versions_are_told(server: str, version: str) -> None:
    assert f"### {server} {version}, as it is installed\n" in TEXT
