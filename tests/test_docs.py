"""The docs: what is made of the code is fresh, and what shows code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from smtp_proto.engine import LEGAL, TABLE, legal
from tools import rfc_index, state_diagram
from tools.page import ROOT, keep_fresh

DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize(
    "name", ["client.md", "engine.md", "server.md", "testing.md", "transport.md"]
)
def test_the_code_of_a_page_runs_from_top_to_bottom(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert blocks
    names: dict[str, object] = {"__name__": name}
    for block in blocks:
        # A traceback names the line of the page.
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(DOCS / name), "exec"), names)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


# --- Pages made of the code ------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["state_diagram", "rfc_index"])
def test_the_page_is_fresh(tool: str) -> None:
    command = [sys.executable, "-m", f"tools.{tool}", "--check"]
    subprocess.run(command, cwd=ROOT, check=True)


def test_a_stale_page_is_told_and_a_new_one_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    assert keep_fresh(page, lambda: "new", "", ["--check"]) == 1
    assert not page.exists()
    page.write_text("old")
    assert keep_fresh(page, lambda: "new", "", ["--check"]) == 1
    assert page.read_text() == "old"
    assert str(page) in capsys.readouterr().err
    assert keep_fresh(page, lambda: "new", "", []) == 0
    assert page.read_text() == "new"
    assert keep_fresh(page, lambda: "new", "", ["--check"]) == 0
    assert not capsys.readouterr().err


def test_the_diagram_and_the_tables_have_every_row() -> None:
    text = state_diagram.page()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    named = {(row[0].strip("| "), move) for row in rows for move in row[1].split(", ")}
    for state, move in LEGAL:
        assert (state.name, move.value) in named
    for (state, move, outcome), following in TABLE.items():
        if legal(state, move) and following is not state:
            arrow = f"    {state.name} --> {following.name} : "
            (label,) = (line for line in text.splitlines() if line.startswith(arrow))
            assert move.value in label
            assert outcome.value in label


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# RFC 5321 4.5.2", [(5321, (4, 5, 2))]),
        ("# Dots.  RFC 5321 4.5.2", [(5321, (4, 5, 2))]),
        ("# RFC 4954 4: a line", [(4954, (4,))]),
        ("# in octets.  RFC 5321 4.5.3.1.1.", [(5321, (4, 5, 3, 1, 1))]),
        ("# RFC 2034", [(2034, ())]),
        (
            "RFC 5321 4.1.2 and 4.1.3, RFC 6531 3.3",
            [(5321, (4, 1, 2)), (5321, (4, 1, 3)), (6531, (3, 3))],
        ),
        ("RFC 5321 4.2, 4.3.2", [(5321, (4, 2)), (5321, (4, 3, 2))]),
        ("(RFC 5321\n    4.1.1.10).", [(5321, (4, 1, 1, 10))]),
        ("RFC 3030 2; more than 20 digits", [(3030, (2,))]),
        ("The RFC says 512", []),
    ],
)
def test_what_a_text_cites(text: str, found: list[tuple[int, tuple[int, ...]]]) -> None:
    assert list(rfc_index.citations(text)) == found


SOURCE = '''\
"""A module. RFC 1 1"""
# RFC 1 2
NAME = 1  # RFC 1 3
"""A variable. RFC 1 4"""

if NAME:
    pass  # RFC 1 5


class Some:  # RFC 1 6
    """A class. RFC 1 7"""

    field: int = 1
    """A field. RFC 1 8"""

    # RFC 1 9
    @property
    def look(self) -> int:
        """A method. RFC 1 10"""
        # RFC 1 11
        text = "RFC 1 99"

        def inner() -> int:
            return 1  # RFC 1 12

        return inner()


async def function() -> None:
    pass  # RFC 1 13
    # RFC 1 14


# RFC 1 15
'''


def test_names_of_what_cites() -> None:
    names = {section: name for name, _, section in rfc_index.cited(SOURCE)}
    assert names == {
        (1,): "",
        (2,): "NAME",
        (3,): "NAME",
        (4,): "NAME",
        (5,): "",
        (6,): "Some",
        (7,): "Some",
        (8,): "Some.field",
        (9,): "Some.look",
        (10,): "Some.look",
        (11,): "Some.look",
        (12,): "Some.look",
        (13,): "function",
        (14,): "",
        (15,): "",
    }


def test_the_index_has_what_was_cited_last() -> None:
    assert "| 4.5.2 |" in rfc_index.page()
    assert "`ContentEncoder._with_dots`" in rfc_index.page()
