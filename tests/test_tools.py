"""The tools that say what the tests are worth: the list of MUSTs, mutants, the matrix of peers.

Knows small inputs and what has to come out. Must not run what takes minutes.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools import musts, mutation, peer_matrix, rfc_index
from tools.page import ROOT

# --- MUSTs -----------------------------------------------------------------------------------

ROWS = musts.musts()


def test_the_page_of_musts_is_fresh() -> None:
    subprocess.run([sys.executable, "-m", "tools.musts", "--check"], cwd=ROOT, check=True)


@pytest.mark.parametrize("test", sorted({test for row in ROWS for test in row.tests}))
def test_each_test_that_holds_a_must_is_there(test: str) -> None:
    assert musts.exists(test)


@pytest.mark.parametrize(
    "test",
    [
        "tests/test_nothing.py::test_a_talk",
        "tests/test_musts.py::test_a_song",
        "tests/test_musts.py::test_a_talk[of nothing]",
        "tests/test_musts.py",
    ],
)
def test_what_is_no_test_is_not_there(test: str) -> None:
    assert not musts.exists(test)


def test_each_must_has_its_rfc_and_its_end() -> None:
    assert {row.rfc for row in ROWS} == set(musts.TITLES)
    assert {row.who for row in ROWS} == {"client", "server", "both"}
    assert {row.rfc for row in musts.elsewhere()} <= set(musts.TITLES)


@pytest.mark.parametrize(
    "held", [{}, {"tests": ["a"], "why": "b"}, {"why": "a", "open": "b"}], ids=str
)
def test_a_must_is_held_or_it_is_said_why_not(held: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="one of tests, why and open"):
        musts.Must(5321, "1", "client", "something", **held)


def test_the_index_names_the_tests_of_a_section() -> None:
    tests = rfc_index.index_of_tests()[3461]
    assert tests[(5, 4)]["tests/test_musts.py"] == ["TALKS", "test_a_talk"]


# --- Mutants ---------------------------------------------------------------------------------

SOURCE = '''\
"""What nobody runs: 1"""
__all__ = [1]
LIMIT: Annotated[int, 7] = 3


@decorated(True)
def function(a: int = 0) -> int:
    """Nor this: 2"""
    if not a and LIMIT < 4:
        return None
    while a:
        a = a - 5
    call(b"x", True)
    return a
'''
CHANGES = [
    "3 -> 4 in LIMIT: Annotated[int, 7] = 3",
    "3 -> 2 in LIMIT: Annotated[int, 7] = 3",
    "0 -> 1 in @decorated(True)",
    "0 -> -1 in @decorated(True)",
    "not a and LIMIT < 4 -> not a or LIMIT < 4 in if not a and LIMIT < 4:",
    "not a -> a in if not a and LIMIT < 4:",
    "LIMIT < 4 -> LIMIT <= 4 in if not a and LIMIT < 4:",
    "4 -> 5 in if not a and LIMIT < 4:",
    "4 -> 3 in if not a and LIMIT < 4:",
    "a -> not a in while a:",
    "a = a - 5 -> pass",
    "5 -> 6 in a = a - 5",
    "5 -> 4 in a = a - 5",
    "call(b'x', True) -> pass",
    "b'x' -> b'x!' in call(b'x', True)",
    "True -> False in call(b'x', True)",
    "return a -> return None",
]


def test_what_can_be_broken() -> None:
    assert [str(change) for change in mutation.changes(ast.parse(SOURCE))] == CHANGES


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_each_break_is_one_line(number: int) -> None:
    tree = ast.parse(SOURCE)
    before = ast.unparse(tree).splitlines()
    change = list(mutation.changes(tree))[number]
    change.place.put(change.other)
    after = ast.unparse(ast.fix_missing_locations(tree)).splitlines()
    assert len(before) == len(after)
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1


def test_a_larger_sample_begins_with_the_smaller_one() -> None:
    file = "smtp_proto/wire/buffer.py"
    few, many = mutation.sample(file, 3, 1), mutation.sample(file, 9, 1)
    assert list(many[:3]) == list(few)
    assert len(set(many)) == 9
    assert list(mutation.sample(file, 3, 2)) != list(few)
    assert list(mutation.chosen([f"{file}:7"], 0, 0)) == [mutation.mutant(file, 7)]
    assert list(mutation.chosen([file], 3, 1)) == list(few)


def test_every_file_of_the_four_floors_is_broken() -> None:
    files = mutation.all_files()
    assert "smtp_proto/engine/server.py" in files
    assert {file.split("/")[1] for file in files} == set(mutation.FOLDERS)


def test_each_equivalent_can_still_be_made() -> None:
    for known in mutation.equivalents():
        tree = ast.parse((ROOT / known.file).read_text(encoding="utf-8"))
        made = {
            (rfc_index.name_at(tree.body, change.line), str(change))
            for change in mutation.changes(tree)
        }
        assert (known.name, known.change) in made, known


SUM = "halves/wire/sum.py"
KILLED = f"{SUM}:0 larger: return a if a > b else b -> return None"
SURVIVOR = f"{SUM}:1 larger: a > b -> a >= b in return a if a > b else b"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree, that takes the place of ours."""
    tree = tmp_path / "tree"
    (tree / "halves/wire").mkdir(parents=True)
    (tree / "tests/wire").mkdir(parents=True)
    (tree / SUM).write_text("def larger(a, b):\n    return a if a > b else b\n")
    (tree / "tests/wire/test_sum.py").write_text(
        "from halves.wire.sum import larger\n\n\n"
        "def test_it():\n    assert larger(1, 2) == larger(2, 1) == 2\n"
    )
    (tree / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    monkeypatch.setattr(mutation, "ROOT", tree)
    monkeypatch.setattr(mutation, "NEEDED", ("halves", "tests", "pyproject.toml"))
    return tree


def test_a_mutant_that_a_test_sees_and_one_that_none_does(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    copied = mutation.Copy(copy)
    fates = {str(mutant): copied.fate(mutant) for mutant in mutation.sample(SUM, 9, 1)}
    assert fates == {KILLED: mutation.Fate.KILLED, SURVIVOR: mutation.Fate.SURVIVED}
    assert (copy / SUM).read_text() == (tree / SUM).read_text()


@pytest.mark.parametrize(
    ("earlier", "later", "code"),
    [
        ([], [f"killed: {KILLED}", f"SURVIVED: {SURVIVOR}"], 1),
        ([f"killed, it hung: {KILLED}"], [f"SURVIVED: {SURVIVOR}"], 1),
        ([f"SURVIVED: {KILLED}", f"equivalent: {SURVIVOR}"], [f"killed: {KILLED}"], 0),
        ([f"killed: {KILLED}", f"killed: {SURVIVOR}"], [], 0),
    ],
)
def test_a_run_goes_on_where_one_was_interrupted(
    tree: Path, monkeypatch: pytest.MonkeyPatch, earlier: list[str], later: list[str], code: int
) -> None:
    log = tree / "log"
    log.write_text("".join(f"{line}\n" for line in earlier))
    monkeypatch.setattr(sys, "argv", ["mutation", SUM, "--resume", str(log)])
    assert mutation.main() == code
    lines = log.read_text().splitlines()
    assert lines[: len(earlier)] == earlier
    assert sorted(lines[len(earlier) :]) == sorted(later)


def test_the_page_of_mutants_counts_them() -> None:
    [killed, hung, equal] = mutation.sample("smtp_proto/wire/reply.py", 3, 1)
    [survivor] = mutation.sample("smtp_proto/sasl/plain.py", 1, 1)
    fates = {
        killed: mutation.Fate.KILLED,
        hung: mutation.Fate.HUNG,
        equal: mutation.Fate.EQUIVALENT,
        survivor: mutation.Fate.SURVIVED,
    }
    text = mutation.page(fates, 15, 1)
    assert "| `smtp_proto/wire/reply.py` | 3 | 2 | 1 | 0 |" in text
    assert "| `smtp_proto/sasl/plain.py` | 1 | 0 | 0 | 1 |" in text
    assert "| all | 4 | 2 | 1 | 1 |" in text


# --- Peers -----------------------------------------------------------------------------------


def test_the_page_of_peers_has_what_was_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        peer_matrix, "VERSIONS", dict.fromkeys(peer_matrix.VERSIONS, lambda: "1.2.3")
    )
    every_mode = "every_mode_of_security_with_every_mechanism"
    proofs = {
        ("messages", frozenset({"Exim-none"})),
        ("every_mechanism", frozenset({"Exim-starttls", "CRAM-MD5"})),
        ("every_mechanism", frozenset({"Exim", "IMPLICIT", "CRAM-MD5"})),
        ("every_mechanism", frozenset({"SCRAM-SHA-256-PLUS"})),
        (every_mode, frozenset({"curl", "starttls", "None"})),
        (every_mode, frozenset({"curl", "implicit", "LOGIN"})),
        ("a_message", frozenset({"squid https"})),
        ("chains", frozenset({"squid https > ssh socks5"})),
        ("the_server_learns_where_the_client_is", frozenset({"Exim", "IPv6", "2"})),
        ("a_server_that_breaks_off_the_handshake", frozenset[str]()),
    }
    lines = peer_matrix.page(frozenset(proofs)).splitlines()
    assert "| Exim | 1.2.3 | yes |  |  |  |  |" in lines
    logins = lines.index("## Servers: logins")
    titles, exim = (
        next(line for line in lines[logins:] if line.startswith(start)).split(" | ")
        for start in ("| server", "| Exim")
    )
    assert dict(zip(titles, exim, strict=True))["CRAM-MD5"] == "STARTTLS, TLS"
    assert exim.count("") == len(exim) - 3
    assert "| curl | 1.2.3 |  | yes |  |  |" in lines
    assert "| curl | TLS |" in lines
    assert "| SCRAM-SHA-256-PLUS | yes |" in lines
    assert "| squid | 1.2.3 | https |  | yes |  |  |  |" in lines
    assert "| squid https > ssh socks5 |" in lines
    assert "| Exim | IPv6 | 2 |" in lines
    assert "yes" not in peer_matrix.page(frozenset()).partition("##")[2]
