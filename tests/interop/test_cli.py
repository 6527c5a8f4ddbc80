"""The command line as processes: what it sends Postfix, what it keeps for swaks, how it fails.

Knows arguments, files, lines and exit codes. Must not know how the commands work.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from smtp_adapters.cli import demo
from smtp_adapters.cli.text import Exit
from tests.adapters.test_cli import serving, started
from tests.interop.clients import ClientFailed, Errand, curl, swaks
from tests.interop.peers import (
    HOST,
    HOSTNAME,
    PASSWORD,
    UNKNOWN_RECIPIENT,
    USER,
    PeerMissing,
    Postfix,
    ServerCertificate,
    address,
)

pytestmark = pytest.mark.interop

SENDER = f"sender@{HOSTNAME}"
MESSAGE = b"From: sender@mail.test\nTo: box@mail.test\nSubject: hello\n\nGood morning.\n.\n"
CONTENT = MESSAGE.replace(b"\n", b"\r\n")

Client = Callable[[Errand], None]
Deliver = Callable[..., None]


def run(*given: str) -> tuple[int, str, str]:
    """Run the command to its end: its exit code, and what it has said."""
    with started(*given) as process:
        out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture
def password(tmp_path: Path) -> list[str]:
    """The arguments for a login."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    return ["--user", USER, "--password-file", str(file)]


@pytest.fixture
def message(tmp_path: Path) -> str:
    file = tmp_path / "message.eml"
    file.write_bytes(MESSAGE)
    return str(file)


# --- send --------------------------------------------------------------------------------------


def test_the_messages_of_the_demo_go_to_postfix(
    postfix_server: Postfix,
    server_certificate: ServerCertificate,
    password: list[str],
    tmp_path: Path,
) -> None:
    """Files are sent as they are, over STARTTLS and with a login."""
    server = f"{HOST}:{postfix_server.submission_port}"
    options = ["--server", server, "--ca-file", str(server_certificate.ca), *password]
    for _, prepared in demo._messages().values():
        file = tmp_path / "message.eml"
        file.write_bytes(prepared.content)
        recipient = address("用户")
        code, out, err = run("send", str(file), "--to", recipient, *options)
        assert (code, err) == (Exit.OK, "")
        assert re.fullmatch(rf"{server} has taken the message for <{recipient}>: 250 .*\n", out)
        delivery = postfix_server.delivery(recipient)
        assert demo._compared(prepared.content, delivery.content) == demo._SAME
        assert delivery.protocol == "UTF8SMTPSA"


@pytest.mark.parametrize(
    ("security", "protocol"),
    [("implicit", "ESMTPSA"), ("starttls", "ESMTPSA"), ("opportunistic", "ESMTPS"),
     ("none", "ESMTP")],
)  # fmt: skip
def test_each_mode_of_security(
    postfix_server: Postfix,
    server_certificate: ServerCertificate,
    password: list[str],
    message: str,
    security: str,
    protocol: str,
) -> None:
    recipient = address(security)
    port = postfix_server.smtps_port if security == "implicit" else postfix_server.smtp_port
    options = ["--server", f"{HOST}:{port}", "--security", security, "--to", recipient]
    options += ["--ca-file", str(server_certificate.ca)] if security != "none" else []
    options += password if protocol.endswith("A") else []
    assert run("send", message, *options, "--quiet") == (Exit.OK, "", "")
    delivery = postfix_server.delivery(recipient)
    assert (delivery.content, delivery.protocol) == (CONTENT, protocol)


def test_recipients_refused(postfix_server: Postfix, message: str) -> None:
    server = f"{HOST}:{postfix_server.smtp_port}"
    good = address("good")
    to = ["--to", UNKNOWN_RECIPIENT, "--to", good]
    code, out, err = run("send", message, "--server", server, "--security", "none", *to)
    assert code == Exit.REFUSED
    assert f"for <{good}>: 250" in out
    (line,) = err.splitlines()
    assert line.startswith(f"smtp-proto: <{UNKNOWN_RECIPIENT}> was refused: 550 5.1.1 ")
    postfix_server.delivery(good)
    code, out, err = run("send", message, "--server", server, "--security", "none", *to[:2])
    assert (code, out) == (Exit.REFUSED, "")
    assert err.splitlines()[-1] == "smtp-proto: no recipient was accepted: nothing was delivered"


# --- send: every door --------------------------------------------------------------------------


def only_the_journal(err: str) -> bool:
    """Whether a server has said nothing but what happens in its connections."""
    return all(
        re.match(r"smtp-proto: server-\d+ 127\.0\.0\.1: ", line) for line in err.splitlines()
    )


def fails(*given: str) -> tuple[int, str]:
    """Run `send`, which is to fail with one line: its exit code, and the line."""
    code, out, err = run("send", *given)
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("smtp-proto: ")
    assert line.isprintable()
    return code, line


def test_a_host_that_is_not_there(message: str) -> None:
    code, line = fails(message, "--server", "no-such-host.invalid")
    assert code == Exit.CONNECT
    assert "cannot connect to no-such-host.invalid" in line
    assert "phase connect" in line
    assert "--server" in line


def test_a_closed_port(message: str) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    code, line = fails(message, "--server", f"{HOST}:{port}")
    assert code == Exit.CONNECT
    assert f"cannot connect to {HOST} port {port}" in line
    assert "refused" in line


@pytest.mark.parametrize(
    ("security", "phase"), [("none", "greeting"), ("starttls", "greeting"), ("implicit", "tls")]
)
def test_a_server_that_says_nothing(message: str, security: str, phase: str) -> None:
    with socket.create_server((HOST, 0)) as listener:
        server = f"{HOST}:{listener.getsockname()[1]}"
        given = ["--server", server, "--security", security, "--timeout", "1"]
        code, line = fails(message, *given)
        with listener.accept()[0] as connection:  # it has been closed, not left
            while connection.recv(65_536):
                pass
    assert code == Exit.TIMEOUT
    assert "timed out" in line
    assert f"phase {phase}" in line
    assert "--timeout" in line


@pytest.mark.parametrize("security", ["none", "starttls"])
def test_tls_where_clear_text_is_expected(
    postfix_server: Postfix, message: str, security: str
) -> None:
    server = f"{HOST}:{postfix_server.smtps_port}"
    # Each waits for the other to begin.
    code, line = fails(message, "--server", server, "--security", security, "--timeout", "1")
    assert code == Exit.TIMEOUT
    assert "phase greeting" in line
    assert "--security" in line


def test_clear_text_where_tls_is_expected(postfix_server: Postfix, message: str) -> None:
    server = f"{HOST}:{postfix_server.smtp_port}"
    code, line = fails(message, "--server", server, "--security", "implicit")
    assert code == Exit.TLS
    assert "speaks clear text" in line
    assert "220 mail.test" in line
    assert "phase tls" in line
    assert "--security" in line


def test_tls_that_is_required_and_not_offered(message: str, tmp_path: Path) -> None:
    with serving("--maildir", str(tmp_path / "mail")) as (_, port):
        code, line = fails(message, "--server", f"{HOST}:{port}")
    assert code == Exit.TLS
    assert "does not offer STARTTLS" in line
    assert "phase ehlo" in line
    assert list((tmp_path / "mail" / "new").iterdir()) == []


PORTS: Mapping[str, Callable[[Postfix], int]] = {
    "implicit": lambda server: server.smtps_port,
    "starttls": lambda server: server.submission_port,
    "opportunistic": lambda server: server.smtp_port,
}


@pytest.mark.parametrize("security", PORTS)
def test_a_certificate_that_nobody_trusts(
    postfix_server: Postfix, message: str, security: str
) -> None:
    server = f"{HOST}:{PORTS[security](postfix_server)}"
    code, line = fails(message, "--server", server, "--security", security)
    assert code == Exit.CERTIFICATE
    assert "certificate is refused" in line
    assert "phase tls" in line
    assert "--ca-file" in line


def test_a_certificate_for_another_name(
    postfix_server: Postfix, server_certificate: ServerCertificate, message: str
) -> None:
    server = f"localhost:{postfix_server.submission_port}"
    code, line = fails(message, "--server", server, "--ca-file", str(server_certificate.ca))
    assert code == Exit.CERTIFICATE
    assert "certificate is refused for localhost: it is for another name" in line
    assert "phase tls" in line


def test_a_certificate_that_has_expired(message: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = authority.issue_cert(
        HOST, not_before=yesterday - timedelta(days=1), not_after=yesterday
    )
    expired.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    given = ["--maildir", str(tmp_path / "mail"), "--tls-cert", str(tmp_path / "server.pem")]
    with serving(*given) as (process, port):
        ca_file = str(tmp_path / "ca.pem")
        code, line = fails(message, "--server", f"{HOST}:{port}", "--ca-file", ca_file)
        process.terminate()
        out, err = process.communicate()
    assert out == "ending\n"
    assert only_the_journal(err)
    assert code == Exit.CERTIFICATE
    assert "it has expired" in line


def test_a_wrong_password(
    postfix_server: Postfix,
    server_certificate: ServerCertificate,
    message: str,
    tmp_path: Path,
) -> None:
    file = tmp_path / "wrong"
    file.write_text("sesame\n")
    login = ["--user", USER, "--password-file", str(file)]
    server = f"{HOST}:{postfix_server.submission_port}"
    ca_file = ["--ca-file", str(server_certificate.ca)]
    code, line = fails(message, "--server", server, *ca_file, *login)
    assert code == Exit.AUTHENTICATION
    assert "535 5.7.8" in line
    assert "phase auth" in line
    assert "sesame" not in line


def test_a_login_in_clear(postfix_server: Postfix, message: str, password: list[str]) -> None:
    server = f"{HOST}:{postfix_server.smtp_port}"
    shown = ["--security", "none", "--mechanisms", "PLAIN,LOGIN", *password]
    code, line = fails(message, "--server", server, *shown)
    assert code == Exit.AUTHENTICATION
    assert "no TLS" in line
    assert "phase auth" in line


CR_LF = "\r\nRCPT TO:<x@mail.test>"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["/no/such.eml"], "/no/such.eml: No such file or directory"),
        (["/"], "/: Is a directory"),
        (
            ["MESSAGE", "--ca-file", "/no/such.pem"],
            "a file that can be read: No such file or directory: /no/such.pem",
        ),
        (["MESSAGE", "--ca-file", "MESSAGE"], "there is no certificate in it"),
        (["MESSAGE", "--user", USER, "--password-file", "/no/such"], "No such file"),
        (["MESSAGE", "--to", f"box@mail.test{CR_LF}"], r"forward-path: "),
        (["MESSAGE", "--to", f"box@mail.test>{CR_LF}"], r"test>\r\n"),
        (["MESSAGE", "--from", f"sender@mail.test{CR_LF}"], r"reverse-path: "),
        (["MESSAGE", "--from", '"\r\n"@mail.test'], r"\r\n"),
        (["MESSAGE", "--local-hostname", f"here.test{CR_LF}"], "expected a domain"),
    ],
)
def test_what_is_given_is_looked_at_before_anybody_is_called(
    message: str, given: list[str], why: str
) -> None:
    arguments = [message if argument == "MESSAGE" else argument for argument in given]
    with socket.create_server((HOST, 0)) as listener:
        server = f"{HOST}:{listener.getsockname()[1]}"
        code, line = fails(*arguments, "--server", server)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert code == Exit.USAGE
    assert why in line


def test_a_host_with_a_line_end(message: str) -> None:
    # In CR_LF there is an address with its @: what stands before one may be a secret.
    for host, why in ((f"{HOST}{CR_LF}", "no part of HOST"), (f"{HOST}\r\n", "expected a host")):
        code, line = fails(message, "--server", host)
        assert code == Exit.USAGE
        assert why in line


# --- serve -------------------------------------------------------------------------------------


@pytest.fixture
def certificate(server_certificate: ServerCertificate) -> list[str]:
    """The arguments for TLS."""
    return ["--tls-cert", str(server_certificate.chain), "--tls-key", str(server_certificate.key)]


@pytest.fixture
def deliver(server_certificate: ServerCertificate) -> Deliver:
    """Have a client deliver to a port; skip where the client is not there."""

    def run(client: Client, port: int, **given: object) -> None:
        errand_of: Callable[..., Errand] = Errand
        defaults = {"sender": SENDER, "recipients": ["box@mail.test"], "content": CONTENT}
        try:
            client(errand_of(port, ca=server_certificate.ca, **{**defaults, **given}))
        except PeerMissing as missing:
            pytest.skip(str(missing))

    return run


def kept(maildir: Path) -> list[bytes]:
    """The messages in a Maildir, with CRLF and without the two trace fields; it is emptied."""
    contents = []
    for file in (maildir / "new").iterdir():
        stored = file.read_bytes()
        file.unlink()
        trace = re.match(rb"Return-Path: <.*>\nReceived: .*\n(?:\t.*\n)+", stored)
        assert trace, stored[:500]
        contents.append(stored[trace.end() :].replace(b"\n", b"\r\n"))
    return contents


@pytest.mark.parametrize("client", [swaks, curl])
@pytest.mark.parametrize("security", ["implicit", "starttls"])
def test_the_messages_of_the_demo_are_kept(
    deliver: Deliver,
    tmp_path: Path,
    password: list[str],
    certificate: list[str],
    client: Client,
    security: str,
) -> None:
    given = ["--maildir", str(tmp_path / "mail"), "--security", security, *password, *certificate]
    messages = demo._messages().values()
    lines = []
    with serving(*given) as (process, port):
        for _, prepared in messages:
            content = prepared.content
            deliver(client, port, security=security, mechanism="PLAIN", content=content)
            (stored,) = kept(tmp_path / "mail")
            assert demo._compared(content, stored) == demo._SAME
            lines.append(
                rf"M\w+: {len(stored)} octets from <{SENDER}> to <box@mail\.test>"
                rf" by 127\.0\.0\.1, TLSv1\.[23], logged in as {USER}\n"
            )
        process.terminate()
        out, err = process.communicate()
    assert re.fullmatch("".join(lines) + "ending\n", out)
    assert process.returncode == Exit.OK
    assert only_the_journal(err)


@pytest.mark.parametrize("client", [swaks, curl])
def test_mail_in_clear_is_kept(deliver: Deliver, tmp_path: Path, client: Client) -> None:
    with serving("--maildir", str(tmp_path / "mail")) as (process, port):
        deliver(client, port)
        process.terminate()
        out, err = process.communicate()
    assert kept(tmp_path / "mail") == [CONTENT]
    assert "no TLS\n" in out
    assert only_the_journal(err)


def test_bad_clients_do_not_trouble_the_server(
    deliver: Deliver, tmp_path: Path, password: list[str], certificate: list[str]
) -> None:
    """TLS where clear text is expected and the reverse, no login, a wrong one, noise, a hangup."""
    for security in ("implicit", "starttls"):
        other = {"implicit": "none", "starttls": "implicit"}[security]
        given = ["--maildir", str(tmp_path / "mail"), "--security", security]
        with serving(*given, *password, *certificate) as (process, port):
            if other == "implicit":
                with pytest.raises(ClientFailed):
                    deliver(curl, port, security=other)
            for login in ({}, {"mechanism": "LOGIN", "password": "sesame"}):
                with pytest.raises(ClientFailed):
                    deliver(swaks, port, security=security, **login)
            for noise in (b"", b"\r\n", b"\x16\x03\x01\x02\x00\x01", os.urandom(4096)):
                with socket.create_connection((HOST, port)) as connection:
                    connection.sendall(noise)
            deliver(swaks, port, security=security, mechanism="CRAM-MD5")
            process.terminate()
            out, err = process.communicate()
        assert process.returncode == Exit.OK
        assert only_the_journal(err)
        assert kept(tmp_path / "mail") == [CONTENT]
        assert out.count("\n") == 2


def test_a_port_that_is_taken(postfix_server: Postfix, tmp_path: Path) -> None:
    listen = f"{HOST}:{postfix_server.smtp_port}"
    code, out, err = run("serve", "--maildir", str(tmp_path), "--listen", listen)
    assert (code, out) == (Exit.CONNECT, "")
    (line,) = err.splitlines()
    assert line.startswith(f"smtp-proto: cannot listen on {listen}: ")


def test_it_sends_to_itself(
    server_certificate: ServerCertificate,
    message: str,
    tmp_path: Path,
    password: list[str],
    certificate: list[str],
) -> None:
    given = ["--maildir", str(tmp_path / "mail"), *certificate, *password]
    with serving(*given) as (_, port):
        options = ["--server", f"{HOST}:{port}", "--ca-file", str(server_certificate.ca)]
        assert run("send", message, "--quiet", *options, *password) == (Exit.OK, "", "")
    assert kept(tmp_path / "mail") == [CONTENT]
