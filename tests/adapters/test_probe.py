"""`probe` and `check-credentials`: what they show, to people and to programs, and how they end."""

import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from smtp_adapters.cli import main, probe, text
from smtp_adapters.cli.findings import meaning
from smtp_adapters.cli.text import Cell, Exit, Mood, show_table
from smtp_adapters.socket import SMTPServer
from smtp_adapters.tls.certificates import expiry, fingerprint, names
from smtp_proto import Handler, Security, ServerSession
from smtp_proto.flow import Phase, errors
from smtp_proto.sasl import Credentials
from smtp_proto.wire import Reply
from tests.adapters import peers
from tests.adapters.canaries import PASSWORD, WRONG_PASSWORD, found_in
from tests.adapters.handshakes import der
from tests.adapters.peers import Conversation
from tests.adapters.test_cli import complaint


class Door(Handler):
    """Lets ann in; `greeting`: what it says to everybody."""

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return credentials == Credentials("ann", PASSWORD)


@pytest.fixture(scope="session")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def server(server_tls: ssl.SSLContext) -> Iterator[str]:
    """A server that takes logins under STARTTLS; its HOST:PORT."""
    with SMTPServer(
        Door(), security=Security.STARTTLS, tls=server_tls, mechanisms=["PLAIN", "LOGIN"]
    ) as running:
        yield f"127.0.0.1:{running.port}"


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return str(path)


def rows(said: str) -> dict[str, str]:
    """The tables, each line by its first word."""
    parts = [line.split(maxsplit=1) for line in said.splitlines() if line.split()]
    return {part[0]: part[-1] for part in parts}


# --- probe ------------------------------------------------------------------------------------


def test_what_a_server_offers_is_shown(
    server: str,
    authority_file: str,
    server_certificate: trustme.LeafCert,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["probe", server, "--ca-file", authority_file, "--timeout", "20"]) == Exit.OK
    said, err = capsys.readouterr()
    assert err == ""
    port = server.rpartition(":")[2]
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines[0] == "port way outcome"
    assert lines[2].startswith(f"{port} TLS from the start the server speaks clear text where")
    assert lines[3:5] == [f"{port} STARTTLS works", f"{port} clear text works"]
    assert f"Port {port}, STARTTLS" in lines
    assert f"Port {port}, clear text" in lines
    assert f"Port {port}, TLS from the start" not in lines
    assert "greeting 220 localhost ESMTP" in lines
    assert "certificate verified" in lines
    assert f"SHA-256 {fingerprint(der(server_certificate))}" in lines
    assert "for mx.example.org, localhost, 127.0.0.1" in lines
    assert "AUTH PLAIN LOGIN only under TLS takes logins (RFC 4954)" in lines
    assert "STARTTLS only before TLS changes to TLS (RFC 3207)" in lines
    assert "SIZE 52428800 says how large a message it takes (RFC 1870)" in lines


def test_a_certificate_that_is_refused_is_shown_and_a_failure(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", server]) == Exit.CERTIFICATE
    said = capsys.readouterr().out
    assert "the server's certificate is refused for 127.0.0.1" in said
    assert rows(said)["certificate"] == "not verified"
    # Looked at all the same.
    assert "SHA-256" in rows(said)
    assert rows(said)["AUTH"].startswith("PLAIN LOGIN")


def test_what_programs_read(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", server, "--json"]) == Exit.CERTIFICATE
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isascii()
    found = json.loads(line)
    assert found["host"] == "127.0.0.1"
    implicit, starttls, clear = found["ways"]
    assert [way["security"] for way in found["ways"]] == ["implicit", "starttls", "none"]
    assert {way["port"] for way in found["ways"]} == {int(server.rpartition(":")[2])}
    assert implicit["error"]["kind"] == "TLSError"
    assert implicit["error"]["phase"] == "tls"
    assert (implicit["greeting"], implicit["tls"], implicit["capabilities"]) == (None, None, None)
    assert starttls["error"]["kind"] == "CertificateError"
    assert starttls["tls"]["verified"] is False
    assert starttls["tls"]["not_verified_because"] == starttls["error"]["text"]
    assert starttls["tls"]["certificate"]["names"] == ["mx.example.org", "localhost", "127.0.0.1"]
    assert datetime.fromisoformat(starttls["tls"]["certificate"]["until"]).tzinfo == UTC
    assert "AUTH" not in starttls["capabilities_before_tls"]
    assert starttls["capabilities"]["AUTH"] == ["PLAIN", "LOGIN"]
    assert clear["error"] is None
    assert clear["tls"] is None
    assert clear["greeting"] == "220 localhost ESMTP"


def test_without_a_port_each_usual_way_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probe, "_WAYS", tuple((1, security) for _, security in probe._WAYS))
    assert main(["probe", "127.0.0.1", "--json"]) == Exit.CONNECT
    ways = json.loads(capsys.readouterr().out)["ways"]
    assert [way["security"] for way in ways] == ["implicit", "starttls", "starttls", "none"]
    assert {way["error"]["phase"] for way in ways} == {"connect"}


def test_the_usual_ways() -> None:
    assert probe._WAYS == (
        (465, Security.IMPLICIT),
        (587, Security.STARTTLS),
        (25, Security.STARTTLS),
        (25, Security.NONE),
    )


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "127.0.0.1:1"]) == Exit.CONNECT
    said = capsys.readouterr().out
    assert said.count("cannot connect to 127.0.0.1 port 1: Connection refused") == 3
    assert "Port 1" not in said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["127.0.0.1:25", "--timeout", "0"], "timeout"),
        (["127.0.0.1:25", "--timeout", "nan"], "timeout"),
        (["127.0.0.1:25", "--local-hostname", "a b"], "--local-hostname: not 1 to 63"),
        (["127.0.0.1:25", "--ca-file", "/dev/null"], "/dev/null"),
        (["127.0.0.1:99999"], "a port is a number"),
        (["127.0.0.1:25", "--ca-file", "/no/such"], "/no/such"),
        ([], "required"),
    ],
)
def test_bad_usage(given: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(["probe", *given]) == Exit.USAGE
    except SystemExit as end:
        assert end.code == Exit.USAGE  # noqa: PT017 - argparse ends so
    assert why in complaint(capsys)


# --- Servers that are none --------------------------------------------------------------------

BAD = "x\u0085\u2028\u202e\x9b[2J forged"


def hostile(client: Conversation) -> None:
    client.say(f"220 {BAD}")
    client.hear("EHLO")
    client.say(f"250-{BAD}", f"250-X-{'Y' * 40} {BAD}", "250 SIZE 99999999999999999999")
    client.hear("QUIT")
    client.say(f"221 {BAD}")


def hang_up(_client: Conversation) -> None:
    pass


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (hostile, Exit.OK),
        (hang_up, Exit.LOST),
        (lambda client: client.say("HTTP/1.1 400 Bad Request", ""), Exit.LOST),
        (lambda client: client.say("220-a", "250 b"), Exit.LOST),
        (lambda client: client.send(bytes(range(256)) * 100), Exit.LOST),
        (lambda client: (client.say("554 no"), client.hear_all()), Exit.REFUSED),
        (lambda client: (client.say("\x1b[2J"), client.hear_all()), Exit.LOST),
    ],
    ids=["hostile", "hang up", "http", "two codes", "octets", "refusal", "escape"],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_server_that_is_none(
    script: Callable[[Conversation], object],
    code: Exit,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(probe, "_MODES", (Security.NONE,))
    options = ["--json"] if form == "json" else []
    with peers.server(script) as port:
        assert main(["probe", f"127.0.0.1:{port}", *options]) == code
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.split("\n"))
    if form == "json":
        assert said.isascii()
        json.loads(said)


# --- check-credentials ------------------------------------------------------------------------


def test_a_login_that_succeeds(
    server: str, authority_file: str, password_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--server", server, "--ca-file", authority_file, "--user", "ann"]
    assert main(["check-credentials", *given, "--password-file", password_file]) == Exit.OK
    said, err = capsys.readouterr()
    assert err == ""
    found = rows(said)
    assert found["login"] == "succeeded"
    assert found["tried"] == "PLAIN"
    assert found["not"].split(maxsplit=1) == ["LOGIN", "PLAIN comes first"]
    assert found["reply"].startswith("235 ")
    assert found["certificate"] == "verified"
    assert "STARTTLS  greeted" in said
    assert not found_in([said])


def test_a_login_that_is_refused(
    server: str,
    authority_file: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", WRONG_PASSWORD)
    given = ["--server", server, "--ca-file", authority_file, "--user", "ann"]
    given += ["--password-env", "MAIL_PASSWORD"]
    assert main(["check-credentials", *given]) == Exit.AUTHENTICATION
    said, err = capsys.readouterr()
    assert rows(said)["login"] == "failed in phase auth"
    assert rows(said)["reply"].startswith("535 ")
    assert "535 5.7.8" in err
    assert "check --user and the password" in err
    assert not found_in([said, err])
    assert main(["check-credentials", *given, "--json"]) == Exit.AUTHENTICATION
    said, err = capsys.readouterr()
    assert said.isascii()
    assert not found_in([said, err])
    found = json.loads(said)
    assert found["authenticated"] is False
    assert found["tried"] == ["PLAIN"]
    assert found["passed_over"] == {"LOGIN": "PLAIN comes first"}
    assert found["error"]["kind"] == "AuthenticationError"
    assert found["error"]["phase"] == "auth"
    assert found["attempts"][-1] == {
        "port": int(server.rpartition(":")[2]),
        "security": "starttls",
        "error": None,
    }


def test_a_password_is_asked_for(
    server: str,
    authority_file: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda _prompt: PASSWORD)
    given = ["--server", server, "--ca-file", authority_file, "--user", "ann"]
    assert main(["check-credentials", *given]) == Exit.OK
    capsys.readouterr()


@pytest.mark.parametrize("given", [["--password", "x"], ["--token", "x"]])
def test_a_password_is_no_option(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check-credentials", "--server", "127.0.0.1:25", "--user", "ann", *given])
    assert f"there is no option {given[0]}, whose value" in complaint(capsys)


def test_nobody_to_log_in_as(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-credentials", "--server", "127.0.0.1:1"]) == Exit.USAGE
    assert "nobody to log in as" in complaint(capsys)


def refuse_tunnel(client: Conversation) -> None:
    while client.hear(""):
        pass
    client.say("HTTP/1.1 403 Forbidden", "")


CHECKS: list[tuple[peers.Script, list[str], Exit]] = [
    (hang_up, ["--security", "none"], Exit.LOST),
    (lambda client: client.say("220 a", "220 b"), ["--security", "none"], Exit.LOST),
    (Conversation.hear_all, ["--security", "none", "--timeout", "0.1"], Exit.TIMEOUT),
    (lambda client: client.say("220 x"), ["--security", "implicit"], Exit.TLS),
    (lambda client: client.say("554 no"), ["--security", "none"], Exit.REFUSED),
    (refuse_tunnel, ["--proxy", "http://127.0.0.1:PORT"], Exit.PROXY),
]


@pytest.mark.parametrize(("script", "given", "code"), CHECKS, ids=lambda value: str(value)[:20])
def test_each_kind_of_failure_has_its_code(
    script: peers.Script,
    given: list[str],
    code: Exit,
    password_file: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with peers.server(script) as port:
        options = [option.replace("PORT", str(port)) for option in given]
        login = ["--user", "ann", "--password-file", password_file]
        server = f"127.0.0.1:{port}"
        assert main(["check-credentials", "--server", server, *login, *options]) == code
    said, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert "phase " in line
    assert rows(said)["login"].startswith("failed in phase ")
    assert not found_in([said, err])


def test_each_error_has_a_code_of_its_own() -> None:
    """Each direct kind of SMTPError, but refusals, which are one, and losses, which are one."""
    kinds = {
        errors.ConnectError("x"): Exit.CONNECT,
        errors.ProxyError("x", proxy="http://p"): Exit.PROXY,
        errors.TLSError("x"): Exit.TLS,
        errors.CertificateError("x"): Exit.CERTIFICATE,
        errors.AuthenticationError("x"): Exit.AUTHENTICATION,
        errors.SMTPTimeout(Phase.DATA, 1.0): Exit.TIMEOUT,
        errors.ConnectionLost("x"): Exit.LOST,
        errors.ProtocolViolation("x"): Exit.LOST,
        errors.DeliveryInDoubt("x", accepted={}, refused={}): Exit.IN_DOUBT,
        errors.MessageTooLarge(2, 1): Exit.REFUSED,
        errors.CapabilityMissing("x", capability="DSN"): Exit.REFUSED,
        errors.RecipientsRefused(Phase.RCPT, {"a@b": Reply(550, ("no",))}): Exit.REFUSED,
        errors.reply_error(Phase.EHLO, "EHLO", Reply(550, ("no",))): Exit.REFUSED,
    }
    for error, code in kinds.items():
        assert text.exit_of(error) is code
    direct = {kind for kind in errors.SMTPError.__subclasses__() if kind.__module__[0] != "t"}
    assert direct <= {base for error in kinds for base in type(error).__mro__}


# --- Tables -----------------------------------------------------------------------------------


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_mood_is_a_colour_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [("a", Cell("fine\x1b[2J", Mood.GOOD)), ("b", Cell("bad", Mood.BAD))]
    show_table(("", ""), table)
    assert capsys.readouterr().out == "a  fine\\x1b[2J\nb  bad\n"
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    show_table(("", ""), table)
    shown = out.getvalue()
    assert "\x1b[32mfine\\x1b[2J" in shown
    assert "\x1b[31mbad" in shown
    assert "\x1b[2J" not in shown


def test_what_is_long_goes_on_in_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    show_table(("way", "outcome"), [("STARTTLS", "word " * 30)])
    assert out.getvalue().count("word") == 30


def test_what_is_not_known_has_no_meaning() -> None:
    assert meaning("X-UNKNOWN") == ""
    assert "RFC 4954" in meaning("AUTH")


# --- Certificates -----------------------------------------------------------------------------


@pytest.mark.parametrize("year", [1955, 1999, 2031, 2077])
def test_until_when_and_for_whom(authority: trustme.CA, year: int) -> None:
    end = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    issued = authority.issue_cert(
        "mx.example.org",
        "*.example.org",
        "192.0.2.1",
        "2001:db8::1",
        not_before=end - timedelta(days=9),
        not_after=end,
    )
    certificate = der(issued)
    oracle = x509.load_der_x509_certificate(certificate)
    assert expiry(certificate) == end == oracle.not_valid_after_utc
    assert names(certificate) == ("mx.example.org", "*.example.org", "192.0.2.1", "2001:db8::1")


def test_what_cannot_be_read(authority: trustme.CA) -> None:
    certificate = der(authority.issue_cert("mx.example.org"))
    for end in range(len(certificate)):
        assert expiry(certificate[:end]) is None
        assert names(certificate[:end]) == ()
    assert names(ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())) == ()


@given(st.binary(max_size=300))
def test_any_octets_are_read_without_harm(octets: bytes) -> None:
    assert expiry(octets) is None
    assert names(octets) == ()
