"""The tools that say what the tests are worth: the list of MUSTs, mutants, the matrix of peers.

Knows small inputs and what has to come out. Must not run what takes minutes.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import defences, musts, mutation, peer_matrix, rfc_index, trial
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
    monkeypatch.setattr(trial, "ROOT", tree)
    monkeypatch.setattr(trial, "NEEDED", ("halves", "tests", "pyproject.toml"))
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


# --- Defences --------------------------------------------------------------------------------


def test_each_defence_is_where_it_can_be_taken_out() -> None:
    for defence in defences.defences():
        for file, source in defence.sources(ROOT).items():
            ast.parse(source, file)


def test_each_row_of_attacks_has_its_defences() -> None:
    assert list(defences.missing(defences.rows(), defences.defences())) == []


def test_the_page_of_attacks_says_how_many_were_taken_out() -> None:
    number = len(defences.defences())
    said = f"of {number} defences all {number} were taken out by `make defences`"
    assert said in " ".join(defences.PAGE.read_text(encoding="utf-8").split())


ROW = f"| The larger one wins | It does | `{SUM}` | `tests/wire/test_sum.py::test_it` |\n"
ENTRY = """
[[defence]]
attack = "The larger"
[[defence.change]]
file = "halves/wire/sum.py"
old = "a if a > b else b"
new = "{}"
"""


@pytest.fixture
def listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lists the small tree's only defence; what it is given takes its place."""
    monkeypatch.setattr(defences, "PAGE", tree / "security.md")
    monkeypatch.setattr(defences, "LIST", tree / "defences.toml")
    monkeypatch.setattr(sys, "argv", ["defences"])
    defences.PAGE.write_text(f"## Sums\n\n{ROW}")

    def put(new: str) -> None:
        defences.LIST.write_text(ENTRY.format(new))

    return put


@pytest.mark.parametrize(
    ("new", "fate", "code"),
    [
        ("a if a < b else b", "red", 0),
        ("a if a >= b else b", "GREEN", 1),
        ("[0 for _ in iter(int, 1)]", "HUNG", 1),
        ("a if a > b else b)", "NOT RUN", 1),
    ],
)
def test_what_becomes_of_a_test_without_its_defence(
    listed: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    new: str,
    fate: str,
    code: int,
) -> None:
    monkeypatch.setattr(defences, "PATIENCE", 0.01 if fate == "HUNG" else 60)
    listed(new)
    assert defences.main() == code
    said, count = capsys.readouterr().out.splitlines()
    assert said == f"{fate}: The larger one wins: tests/wire/test_sum.py::test_it"
    assert count.startswith("1 defences taken out; tests: ")
    assert f"1 {fate}" in count


def test_a_defence_that_is_there_twice_cannot_be_taken_out(
    tree: Path, listed: Callable[[str], None]
) -> None:
    listed("0")
    (tree / SUM).write_text((tree / SUM).read_text() * 2)
    with pytest.raises(ValueError, match="sum.py has 2 times 'a if a > b else b'"):
        defences.main()


def test_what_the_list_of_defences_does_not_have_is_told(
    listed: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed("0")
    defences.PAGE.write_text(ROW + ROW.replace("larger", "smaller").replace("test_it", "test_no"))
    monkeypatch.setattr(sys, "argv", ["defences", "--only", "larger"])
    assert defences.main() == 1
    told = capsys.readouterr().out
    assert "NO ENTRY: The smaller one wins: tests/wire/test_sum.py::test_no\n" in told
    defences.PAGE.write_text(ROW.replace("larger", "smaller"))
    assert "no row, or more than one, begins with 'The larger'" in list(
        defences.missing(defences.rows(), defences.defences())
    )
    with pytest.raises(SystemExit, match="no row has that in it"):
        defences.main()


# --- Peers -----------------------------------------------------------------------------------


def test_the_page_of_peers_has_what_was_proved() -> None:
    every_mode = "every_mode_of_security_with_every_mechanism"
    proofs = {
        ("messages", frozenset({"Exim-none"})),
        ("messages", frozenset({"Exim-implicit"})),
        ("every_mechanism", frozenset({"Exim-starttls", "CRAM-MD5"})),
        ("every_mechanism", frozenset({"Exim", "IMPLICIT", "CRAM-MD5"})),
        ("every_mechanism", frozenset({"SCRAM-SHA-256-PLUS"})),
        (every_mode, frozenset({"curl", "starttls", "None"})),
        (every_mode, frozenset({"curl", "implicit", "LOGIN"})),
        ("a_message", frozenset({"squid https"})),
        ("chains", frozenset({"squid https > ssh socks5"})),
        ("the_server_learns_where_the_client_is", frozenset({"Exim", "IPv6", "2"})),
        ("a_server_that_breaks_off_the_handshake", frozenset[str]()),
        ("a_message_to_dovecot", frozenset({"GSS-SPNEGO", "tickets"})),
        ("clients_of_others_deliver", frozenset({"msmtp"})),
    }
    lines = peer_matrix.page(frozenset(proofs)).splitlines()
    assert "| Exim | yes |  | yes |  |  |" in lines
    assert "| Exim | clear, TLS | clear, TLS | clear, TLS | clear, TLS |  |  |  |" in lines
    logins = lines.index("## Servers: logins")
    titles, exim = (
        next(line for line in lines[logins:] if line.startswith(start)).split(" | ")
        for start in ("| server", "| Exim")
    )
    assert dict(zip(titles, exim, strict=True))["CRAM-MD5"] == "STARTTLS, TLS"
    assert exim.count("") == len(exim) - 3
    assert "| curl |  | yes |  |  |" in lines
    assert "| curl | TLS |" in lines
    assert "| SCRAM-SHA-256-PLUS | yes |" in lines
    assert "| squid | https |  | yes |  |  |  |" in lines
    assert "| squid https > ssh socks5 |" in lines
    assert "| Exim | IPv6 | 2 |" in lines
    assert "| Dovecot submission |  | yes |" in lines
    assert "| msmtp | yes |  |" in lines
    assert "yes" not in peer_matrix.page(frozenset()).partition("##")[2]


_RECORDED = """\
import sys
import pytest
from tools.peer_matrix import Recorder

recorder = Recorder()
pytest.main(["-q", "-p", "no:cacheprovider", "tests"], plugins=[recorder])
sys.exit(f"recorded: {sorted((name, *given) for name, given in recorder.passed)}")
"""


def test_what_passed_with_peers_is_recorded_whatever_other_folders_bring_along(
    tmp_path: Path,
) -> None:
    interop, others = tmp_path / "tests" / "interop", tmp_path / "tests" / "adapters"
    for folder in (interop, others):
        folder.mkdir(parents=True)
    # pytest sorts out for each test which hooks of other folders are none of its business.
    (others / "conftest.py").write_text("def pytest_runtest_makereport(): pass\n")
    (others / "test_modes.py").write_text("def test_of_others(): pass\n")
    (interop / "test_servers.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('world', ['trio'])\n"
        "@pytest.mark.parametrize('server', ['Exim', 'Postfix'])\n"
        "def test_messages(server, world): assert server == 'Exim'\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", _RECORDED],
        cwd=tmp_path,
        env=os.environ | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.stderr == "recorded: [('messages', 'Exim')]\n", run.stdout


def test_the_page_of_peers_is_to_be_what_a_run_with_all_of_them_proves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = dict.fromkeys(peer_matrix.VERSIONS, lambda: "1.2.3")
    monkeypatch.setattr(peer_matrix, "VERSIONS", versions)
    monkeypatch.setattr(peer_matrix, "PAGE", tmp_path / "peers.md")
    monkeypatch.setenv("SMTP_PROTO_CI", "1")
    proven = peer_matrix.page(frozenset({("messages", frozenset({"Exim-none"}))}))
    peer_matrix.PAGE.write_text(proven + peer_matrix.versions())
    versions["Exim"] = lambda: "1.2.4"
    assert peer_matrix.check(proven) == 0
    assert peer_matrix.check(None) == 1
    assert capsys.readouterr().err == ""
    less = peer_matrix.page(frozenset())
    assert peer_matrix.check(less) == 1
    assert "run `make peers`" in capsys.readouterr().err
    monkeypatch.delenv("SMTP_PROTO_CI")
    assert peer_matrix.check(less) == 0
