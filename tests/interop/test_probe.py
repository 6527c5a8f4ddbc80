"""`probe` and `check-credentials` against real servers.

Knows what each server offers, and what the commands print. Must not know how they work.
"""

import json

import pytest

from smtp_adapters.cli import main
from smtp_adapters.cli.findings import meaning
from smtp_adapters.cli.text import Exit
from tests.interop.conftest import Peers
from tests.interop.peers import HOST, PASSWORD, SERVERS, USER, Mode, ServerKind

pytestmark = pytest.mark.interop

KINDS = [kind for kind in SERVERS if not kind.lmtp]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param(kind, mode, id=f"{kind.name}-{mode.value}")
        for kind in KINDS
        for mode in (Mode.STARTTLS, Mode.IMPLICIT)
        if mode in kind.modes
    ],
)
def test_what_a_server_offers(
    peers: Peers, kind: ServerKind, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    port = peers.server(kind).ports[mode]
    given = ["probe", f"{HOST}:{port}", "--timeout", "2"]
    code = main([*given, "--ca-file", str(peers.certificate.ca), "--json"])
    said = capsys.readouterr().out
    assert said.isascii()
    ways = {way["security"]: way for way in json.loads(said)["ways"]}
    way = ways[mode.value]
    if way["error"]:
        assert way["error"]["kind"] != "CertificateError"
    else:
        assert code == Exit.OK
        assert way["tls"]["verified"]
        assert set(way["capabilities"]["AUTH"]) == kind.mechanisms | kind.token_mechanisms
        assert kind.keywords <= set(way["capabilities"])
        assert all(meaning(keyword) for keyword in kind.keywords)
    assert main(given) in {Exit.CERTIFICATE, code}
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.mechanisms], ids=lambda k: k.name)
@pytest.mark.parametrize("password", [PASSWORD, "sesame"], ids=["right", "wrong"])
def test_a_login(
    peers: Peers,
    kind: ServerKind,
    password: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", password)
    port = peers.server(kind).ports[Mode.STARTTLS]
    login = ["--user", USER, "--password-env", "MAIL_PASSWORD"]
    given = ["--server", f"{HOST}:{port}", "--ca-file", str(peers.certificate.ca), *login]
    code = main(["check-credentials", *given, "--json"])
    assert code == (Exit.OK if password == PASSWORD else Exit.AUTHENTICATION)
    said, err = capsys.readouterr()
    found = json.loads(said)
    assert found["authenticated"] is (password == PASSWORD)
    assert found["tls"]["verified"]
    assert len(found["tried"]) == 1
    assert "sesame" not in said + err
