"""The command line: what it sends, what it keeps, what it says, and how it ends."""

import argparse
import getpass
import io
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from errno import EADDRNOTAVAIL, EIO
from logging import WARNING, LogRecord
from pathlib import Path
from threading import Thread
from typing import cast

import pytest
import trustme

from smtp_adapters.cli import arguments, demo, main, send, serve, text
from smtp_adapters.cli.text import Exit, exit_of
from smtp_adapters.settings import KEYS, describe, from_url
from smtp_adapters.socket import SMTPClient, SMTPServer
from smtp_adapters.tls import ClientTLS
from smtp_proto.engine.table import Protocol
from smtp_proto.flow import errors
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.security import Security
from smtp_proto.flow.timeouts import Phase
from smtp_proto.sasl.mechanism import Credentials
from smtp_proto.wire.command import Mail, Rcpt
from smtp_proto.wire.parameters import Notify, Ret
from smtp_proto.wire.reply import Reply
from tests.adapters import peers

MESSAGE = (
    b"From: Ada <ada@example.org>\nTo: bob@example.net\nBcc: carol@example.net\n"
    b"Subject: hello\n\nGood morning.\n.\n"
)
SENT = MESSAGE.replace(b"Bcc: carol@example.net\n", b"").replace(b"\n", b"\r\n")


class Inbox(Handler):
    """Keeps what arrives; refuses the paths whose local part is a code."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, list[str], bytes]] = []
        self.users: list[str | None] = []
        self.on_arrival: Reply | None = None

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return session.helo is not None and credentials.password == "right"

    def on_mail(self, session: ServerSession, mail: Mail) -> Reply | None:
        assert session.helo is not None
        return refusal(str(mail.reverse_path))

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        assert session.reverse_path is not None
        return refusal(str(rcpt.forward_path))

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | None:
        recipients = [str(path) for path in envelope.forward_paths]
        self.messages.append((str(envelope.reverse_path), recipients, content))
        self.users.append(session.authenticated_as)
        return self.on_arrival


def refusal(path: str) -> Reply | None:
    code = path.partition("@")[0]
    return Reply(int(code), ("Not here",)) if code.isdigit() else None


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def server(inbox: Inbox) -> Iterator[str]:
    """A server without TLS; its HOST:PORT."""
    with SMTPServer(inbox) as running:
        yield f"127.0.0.1:{running.port}"


@pytest.fixture
def message(tmp_path: Path) -> str:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    return str(path)


@pytest.fixture(scope="session")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; there must be nothing else."""
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("smtp-proto: ")
    assert line.isprintable()
    return line


@contextmanager
def speaking(*lines: bytes, until: bytes = b"") -> Generator[str]:
    """A server that says these lines, one for each that it hears, and hangs up at the end."""

    def speak(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as heard:
            for line in lines:
                connection.sendall(line)
                heard.readline()
            while until and heard.readline() not in {until, b""}:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=speak, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


# --- send: what goes out ----------------------------------------------------------------------


def test_a_file_is_sent_as_it_is(
    server: str, inbox: Inbox, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", message, "--server", server, "--security", "none"]) == Exit.OK
    assert inbox.messages == [("ada@example.org", ["bob@example.net", "carol@example.net"], SENT)]
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == (
        f"{server} has taken the message for <bob@example.net>, <carol@example.net>: "
        "250 2.0.0 Message accepted\n"
    )


def test_standard_input_and_given_addresses(
    server: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MESSAGE)))
    options = ["--from", "", "--to", "x@example.com", "--to=-y@example.com", "--quiet"]
    assert main(["send", "-", "--server", server, "--security", "none", *options]) == Exit.OK
    assert inbox.messages == [("", ["x@example.com", "-y@example.com"], SENT)]
    assert capsys.readouterr() == ("", "")


def test_wishes_about_reports_go_out(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[Envelope] = []

    class Keeper(Handler):
        def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
            given.append(envelope)

    options = ["--ret", "hdrs", "--envid", "a name", "--notify", "Success,delay"]
    with SMTPServer(Keeper()) as running:
        command = ["send", message, "--server", f"127.0.0.1:{running.port}", "--security", "none"]
        assert main([*command, *options]) == Exit.OK
        assert main([*command, "--notify", "never"]) == Exit.OK
        capsys.readouterr()
        assert main([*command, "--require-tls"]) != Exit.OK
        assert "asks for REQUIRETLS, which the server does not offer" in complaint(capsys)
    first, second = given
    assert (first.mail_parameters.ret, first.mail_parameters.envid) == (Ret.HDRS, "a name")
    assert (second.mail_parameters.ret, second.mail_parameters.envid) == (None, None)
    assert [each.notify for each in first.rcpt_parameters.values()] == [
        {Notify.SUCCESS, Notify.DELAY}
    ] * 2
    assert [each.notify for each in second.rcpt_parameters.values()] == [{Notify.NEVER}] * 2


def test_a_server_without_dsn_is_sent_nothing(
    message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with speaking(b"220 h\r\n", b"250 h\r\n", b"221 bye\r\n") as bare:
        command = ["send", message, "--server", bare, "--security", "none", "--notify", "never"]
        assert main(command) == exit_of(errors.CapabilityMissing("", capability="DSN"))
    assert "asks for DSN, which the server does not offer" in complaint(capsys)


def test_a_large_message_goes_out_whole(server: str, inbox: Inbox, tmp_path: Path) -> None:
    for line in (b"x" * 70 + b"\r\n", b"\xc3\xbc" * 35 + b"\r\n"):
        content = b"From: a@x.org\r\nTo: b@x.org\r\n\r\n" + line * 30_000
        path = tmp_path / "large.eml"
        path.write_bytes(content)
        assert main(["send", str(path), "--server", server, "--security", "none"]) == Exit.OK
        assert inbox.messages[-1][2] == content


def test_login_over_tls(
    inbox: Inbox,
    message: str,
    server_tls: ssl.SSLContext,
    authority_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    password_file = Path(message).with_name("password")
    password_file.write_text("right\nnot this\n")
    monkeypatch.setenv("PASSWORD", "right")
    for security in (Security.IMPLICIT, Security.STARTTLS):
        with SMTPServer(
            inbox, security=security, tls=server_tls, mechanisms=["PLAIN"], require_auth=True
        ) as running:
            for password in (
                ["--password-file", str(password_file)],
                ["--password-env", "PASSWORD"],
            ):
                options = ["--server", f"127.0.0.1:{running.port}", "--security", security.value]
                options += ["--ca-file", str(authority_file), "--user", "ada", *password]
                assert main(["send", message, *options]) == Exit.OK
    assert inbox.users == ["ada"] * 4


def test_a_password_is_asked_for_on_a_terminal_only(
    inbox: Inbox, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "right"

    monkeypatch.setattr(getpass, "getpass", ask)
    with SMTPServer(inbox, mechanisms=["PLAIN"], allow_cleartext_auth=True) as running:
        options = ["--server", f"127.0.0.1:{running.port}", "--security", "none", "--user", "ada"]
        options.append("--allow-cleartext-auth")
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        assert main(["send", message, *options]) == Exit.USAGE
        assert "--user: a user without a password" in complaint(capsys)
        monkeypatch.setattr(sys, "stdin", Terminal())
        assert main(["send", message, *options]) == Exit.OK
    assert asked == ["Password of ada: "]
    assert inbox.users == ["ada"]


# --- send: how it ends ------------------------------------------------------------------------


def test_some_recipients_refused(
    server: str, inbox: Inbox, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--to", "550@example.net", "--to", "b@example.net"]
    code = main(["send", message, "--server", server, "--security", "none", *options])
    assert code == Exit.REFUSED
    said = capsys.readouterr()
    assert said.err == "smtp-proto: <550@example.net> was refused: 550 Not here\n"
    assert "<b@example.net>" in said.out
    assert len(inbox.messages) == 1


def test_all_recipients_refused(
    server: str, inbox: Inbox, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--to", "550@example.net", "--to", "450@example.net"]
    code = main(["send", message, "--server", server, "--security", "none", *options])
    assert code == Exit.REFUSED
    assert capsys.readouterr().err.splitlines() == [
        "smtp-proto: <550@example.net> was refused: 550 Not here",
        "smtp-proto: <450@example.net> was refused: 450 Not here",
        "smtp-proto: no recipient was accepted: nothing was delivered",
    ]
    assert inbox.messages == []


def test_the_sender_or_the_content_refused(
    server: str, inbox: Inbox, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["send", message, "--server", server, "--security", "none"]
    assert main([*options, "--from", "550@example.org"]) == Exit.REFUSED
    assert "phase mail" in complaint(capsys)
    inbox.on_arrival = Reply.build(554, "No", status="5.6.0")
    assert main(options) == Exit.REFUSED
    assert "554 5.6.0 No" in complaint(capsys)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--from", "a@x.org\r\nRCPT TO:<y@z>"], "--from wants an address: reverse-path: "),
        (["--to", "b"], "--to wants one address, and once for each: forward-path: "),
        (["--to", "b@x.net,c@x.net"], "--to wants one address, and once for each: "),
        (["--envid", "ü"], "--envid wants 1 to 100 characters of ASCII: ENVID: "),
        (["--envid", ""], "--envid wants 1 to 100 characters of ASCII: "),
        (["--notify", "never,delay"], "--notify wants never, or any of success,failure,delay, not"),
        (["--notify", "no"], "--notify wants never, or any of success,failure,delay, not 'no'"),
        (["--local-hostname", "a b"], "--local-hostname: expected a domain"),
        (["--password-env", "HOME"], "a password without a user"),
        (["--user", "ada", "--password-env", "NO_SUCH_VARIABLE"], "--password-env: the variable"),
        (["--user", "ada", "--password-file", "/dev/null"], "--password-file: it is empty"),
        (["--ca-file", "/dev/null"], "contradict"),
        (["--tls-ca-file", "/no/such"], "--ca-file: expected a file that can be read: No such"),
        (["--timeout", "0"], "--timeout: expected seconds above 0"),
        (["--timeouts-greeting", "x"], "--timeouts-greeting: expected seconds above 0"),
        (["--host", "h"], "--server and --host: only one of them"),
        (["--password-file", "/dev/null", "--token-file", "/dev/null"], "only one of them"),
        (["--url", "http://h"], "--url: no URL of a server"),
        (["--trace", "-"], "--trace: expected the path of a file, or /dev/stderr"),
        (["--config", ""], "--config: "),
        (["--config", "/no/such.toml"], "/no/such.toml: cannot be read: No such file"),
        (["--config", "/no/such.toml:a.b"], "/no/such.toml: cannot be read: No such file"),
        (["--env", ""], "--env: "),
        (["--url", "smpt://ada:x@h"], "did you mean smtp? the schemes are "),
    ],
)
def test_what_is_given_is_checked_before_anybody_is_called(
    message: str, options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["send", message, "--server", "host.invalid", "--security", "none", *options]
    assert main(given) == Exit.USAGE
    assert why in complaint(capsys)


def test_a_file_of_certificates_has_to_have_some(
    message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["send", message, "--server", "host.invalid", "--security", "implicit"]
    assert main([*given, "--ca-file", "/dev/null"]) == Exit.USAGE
    assert "/dev/null: there is no certificate" in complaint(capsys)


def test_options_go_before_the_url_before_the_file_before_the_environment(
    server: str,
    inbox: Inbox,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host, port = server.split(":")
    monkeypatch.setenv("XMAIL_HOST", host)
    monkeypatch.setenv("XMAIL_SECURITY", "implicit")
    monkeypatch.setenv("XMAIL_PORT", "1")
    monkeypatch.setenv("XMAIL_USER", "carol")
    config = Path(message).with_name("x.toml")
    config.write_text(
        f"[mail.out]\nport = {port}\nlocal_hostname = 'file.example'\nuser = 'bob'\n"
        "pipelining = false\ntimeouts.greeting = 3"
    )
    given = argparse.ArgumentParser()
    arguments.add_settings(given)
    options = ["--env", "XMAIL_", "--config", f"{config}:mail.out", "--timeouts-data", "2"]
    options += ["--url", f"smtp+none://ada@{host}?local_hostname=url.example"]
    options += ["--no-chunking", "--user", "dan", "--password-env", "XMAIL_HOST"]
    settings = arguments.settings_of(given.parse_args(options))
    assert describe(settings).splitlines() == [
        f'host = "{host}"',
        f"port = {port}",
        'security = "none"',
        'protocol = "smtp"',
        'local_hostname = "url.example"',
        "pipelining = false",
        "chunking = false",
        'auth.user = "dan"',
        'auth.password_env = "XMAIL_HOST"',
        "timeouts.greeting = 3.0",
        "timeouts.data = 2.0",
    ]
    monkeypatch.delenv("XMAIL_USER")
    config.write_text(f"[smtp]\nport = {port}\nsecurity = 'none'\n")
    assert main(["send", message, "--env", "XMAIL_", "--config", str(config)]) == Exit.OK
    assert f"{server} has taken" in capsys.readouterr().out
    assert len(inbox.messages) == 1


def test_each_key_but_those_of_secrets_has_an_option() -> None:
    parser = argparse.ArgumentParser()
    arguments.add_settings(parser)
    given = vars(parser.parse_args([])).keys()
    secrets = {key.name for key in KEYS if key.name.endswith(("password", "token"))}
    assert given == {key.name for key in KEYS} - secrets | {"server", "config", "env"}


def test_what_a_server_is_called() -> None:
    for url, name in (
        ("smtp://h", "h"),
        ("smtp://[::1]:25", "[::1]:25"),
        ("lmtp+unix:///run/lmtp.sock", "/run/lmtp.sock"),
    ):
        assert send._server(from_url(url)) == name


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "required: COMMAND"),
        (["send"], "required: FILE; see smtp-proto send --help"),
        (["send", "x", "--server", "h", "--securit", "none"], "; there is --security; see"),
        (["send", "x", "--server", "smpt://h"], "did you mean smtp? the schemes are "),
        (["probe", "smtp://h"], "here give HOST or HOST:PORT; see"),
        (["send", "x", "--ret", "no"], "argument --ret: invalid choice: 'no'"),
        (["serve", "--maildir", "x", "--security", "auto"], "invalid choice: 'auto'"),
        (["serve", "--maildir", "x", "--security", "manual"], "invalid choice: 'manual'"),
        (["send", "x", "--server", "h\x1b[2J::"], "h\\x1b[2J::"),
        (["serve"], "required: --maildir"),
    ],
)
def test_bad_usage(given: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(given)
    assert end.value.code == Exit.USAGE
    assert why in complaint(capsys)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("send x --server h --password {}", "give --password-file or --password-env"),
        ("send x --server h --key-password={}", "give --key-password-file or --key-password-env"),
        ("serve --maildir x --user ada --password {}", "give --password-file or --password-env"),
        ("serve --maildir x --user ada --passwd {}", "there is no option --passwd; there is --pas"),
        ("serve --maildir x --user ada --token {}", "there is no option --token"),
        ("serve --maildir x --user ada --password-file {}", "--password-file: it cannot be read"),
        ("serve --maildir {dir} --user ada --password-env {}", "--password-env: the variable"),
        ("send {message} --server h --user ada --password-file {}", "--password-file: expected"),
        ("send {message} --server h --user ada --password-env {}", "--password-env: the variable"),
        ("send x --server h -p{}", "there is no option -p;"),
        ("send x --server h --user ada {}", "unrecognized arguments behind all that are expected"),
        ("send {message} --url smpt://ada:{}@h", "did you mean smtp?"),
        ("send {message} --url smtp://ada:{}@h:x", "--url (port)"),
        ("send x --server ada:{}@h", "have --user"),
        ("send x --server smpt://ada:{}@h", "did you mean smtp?"),
        ("probe smtps://ada:{}@h", "that is a URL"),
        ("--password {} send x", "the command comes first"),
        ("--proxy=http://ada:{}@h send x", "the command comes first"),
        ("send x --server h --prox http://ada:{}@h", "there is --proxy;"),
        ("send {message} --server h --proxy htp://ada:{}@h", "--proxy: expected URLs"),
    ],
)
def test_what_may_be_a_secret_is_never_shown(
    tmp_path: Path, message: str, given: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = given.format("S3cret", message=message, dir=tmp_path)
    try:
        code = main(text.split())
    except SystemExit as end:
        code = cast("int", end.code)
    assert code == Exit.USAGE
    line = complaint(capsys)
    assert why in line
    assert "S3cret" not in line


def test_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "/no/such.eml", "--server", "h"]) == Exit.USAGE
    assert complaint(capsys) == "smtp-proto: /no/such.eml: No such file or directory"


def test_a_server_has_to_be_named(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", message]) == Exit.USAGE
    assert "name the server with --server" in complaint(capsys)


def test_a_message_without_recipients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").write_bytes(b"From: a@x.org\n\n")
    assert main(["send", str(tmp_path / "m"), "--server", "h"]) == Exit.USAGE
    assert "no recipient in To, Cc, Bcc" in complaint(capsys)


def test_a_closed_port(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert main(["send", message, "--server", f"127.0.0.1:{port}"]) == Exit.CONNECT
    line = complaint(capsys)
    assert f"cannot connect to 127.0.0.1 port {port}" in line
    assert "--server" in line


def test_a_host_that_is_not_there(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", message, "--server", "no-such-host.invalid"]) == Exit.CONNECT
    assert "no-such-host.invalid" in complaint(capsys)


def test_a_server_that_says_nothing(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = f"127.0.0.1:{listener.getsockname()[1]}"
        code = main(["send", message, "--server", server, "--security", "none", "--timeout", "0.2"])
    assert code == Exit.TIMEOUT
    line = complaint(capsys)
    assert "phase greeting" in line
    assert "--timeout" in line


def test_clear_text_where_tls_begins_and_the_reverse(
    server: str,
    inbox: Inbox,
    message: str,
    server_tls: ssl.SSLContext,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["send", message, "--server", server, "--security", "implicit"]) == Exit.TLS
    assert "clear text" in complaint(capsys)
    with SMTPServer(inbox, security=Security.IMPLICIT, tls=server_tls) as running:
        options = ["--server", f"127.0.0.1:{running.port}", "--security", "none"]
        assert main(["send", message, *options, "--timeout", "0.5"]) == Exit.TIMEOUT
    complaint(capsys)
    assert inbox.messages == []


def test_starttls_is_the_default_and_required(
    server: str, inbox: Inbox, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", message, "--server", server]) == Exit.TLS
    assert "STARTTLS" in complaint(capsys)
    assert inbox.messages == []


def test_a_certificate_that_nobody_trusts(
    inbox: Inbox, message: str, server_tls: ssl.SSLContext, capsys: pytest.CaptureFixture[str]
) -> None:
    with SMTPServer(inbox, security=Security.STARTTLS, tls=server_tls) as running:
        server = f"127.0.0.1:{running.port}"
        assert main(["send", message, "--server", server]) == Exit.CERTIFICATE
    assert complaint(capsys).count("--ca-file") == 1
    assert inbox.messages == []


def test_a_certificate_for_another_name(
    inbox: Inbox,
    message: str,
    authority: trustme.CA,
    authority_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example.org").configure_cert(context)
    with SMTPServer(inbox, security=Security.IMPLICIT, tls=context) as running:
        options = ["--server", f"127.0.0.1:{running.port}", "--ca-file", str(authority_file)]
        code = main(["send", message, *options, "--security", "implicit"])
    assert code == Exit.CERTIFICATE
    complained = complaint(capsys)
    assert "certificate" in complained
    assert "--ca-file" not in complained, "it is trusted"
    assert inbox.messages == []


def test_a_wrong_password(
    inbox: Inbox, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PASSWORD", "swordfish")
    options = ["--security", "none", "--user", "ada", "--password-env", "PASSWORD"]
    with SMTPServer(inbox, mechanisms=["PLAIN"], allow_cleartext_auth=True) as running:
        options += ["--server", f"127.0.0.1:{running.port}"]
        assert main(["send", message, *options]) == Exit.AUTHENTICATION
        line = complaint(capsys)
        assert "no TLS" in line
        assert line.endswith("--allow-cleartext-auth say what may be used")
        assert main(["send", message, *options, "--allow-cleartext-auth"]) == Exit.AUTHENTICATION
        line = complaint(capsys)
    assert "535" in line
    assert "phase auth" in line
    assert line.endswith("check --user and the password")
    assert "swordfish" not in line
    assert inbox.messages == []


def test_a_login_that_is_asked_for(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with speaking(b"220 mx\r\n", b"250 mx\r\n", b"530 5.7.0 Authentication required\r\n") as to:
        assert main(["send", message, "--server", to, "--security", "none"]) == Exit.REFUSED
    assert complaint(capsys).endswith("; --user says who logs in, --security when TLS begins")


def test_another_protocol(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with SMTPServer(Handler(), protocol=Protocol.LMTP) as running:
        options = ["--server", f"127.0.0.1:{running.port}", "--security", "none"]
        assert main(["send", message, *options]) == Exit.REFUSED
    assert complaint(capsys).endswith("; --protocol says whether the server speaks SMTP or LMTP")


def test_no_final_reply_leaves_a_doubt(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    replies = (
        b"220 mx\r\n",
        b"250 mx\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"354 go\r\n",
    )
    with speaking(*replies, until=b".\r\n") as server:
        code = main(["send", message, "--server", server, "--security", "none"])
    assert code == Exit.IN_DOUBT
    assert "look whether it has arrived" in complaint(capsys)


def test_what_a_server_says_is_harmless(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with speaking(b"554 \x1b]0;owned\x07 \xe2\x80\xae\x9b2J\r\n") as server:
        code = main(["send", message, "--server", server, "--security", "none"])
    assert code == Exit.REFUSED
    assert "\\x1b]0;owned\\x07 \\u202e" in complaint(capsys)


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))
    assert main(["send", "-", "--server", "h"]) == Exit.INTERRUPTED
    assert complaint(capsys) == "smtp-proto: interrupted"


# --- Arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "host", "port", "shown"),
    [
        ("mx.example.org", "mx.example.org", None, "mx.example.org"),
        ("mx.example.org:25", "mx.example.org", 25, "mx.example.org:25"),
        ("192.0.2.1:0", "192.0.2.1", 0, "192.0.2.1:0"),
        ("[::1]", "::1", None, "[::1]"),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535, "[2001:db8::1]:65535"),
    ],
)
def test_endpoints(given: str, host: str, port: int | None, shown: str) -> None:
    endpoint = arguments.endpoint(given)
    assert endpoint == (host, port)
    assert str(endpoint) == shown


@pytest.mark.parametrize(
    "given",
    ["", ":25", "[]:25", "::1", "::1:25", "[::1", "[::1]25", "h:", "h:x", "h:-1", "h:65536",
     "h:٢٥", "h:25x", "h:" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_endpoint(given: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        arguments.endpoint(given)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("octets", "password"),
    [(b"s p \xc3\xbc ", "s p ü "), (b"right \r\nwrong\r\n", "right "), (b"right\n", "right")],
)
def test_a_password_is_the_first_line_of_its_file(
    tmp_path: Path, octets: bytes, password: str
) -> None:
    (tmp_path / "password").write_bytes(octets)
    parser = argparse.ArgumentParser()
    arguments.add_login(parser, "")
    given = parser.parse_args(["--user", "ada", "--password-file", str(tmp_path / "password")])
    assert arguments.login(given) == ("ada", password)


# --- Texts ------------------------------------------------------------------------------------

REFUSAL = Reply.build(550, "No", status="5.0.0")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConnectError("x"), Exit.CONNECT),
        (errors.ProxyError("x", proxy="http://proxy.test"), Exit.PROXY),
        (errors.TLSError("x"), Exit.TLS),
        (errors.CertificateError("x"), Exit.CERTIFICATE),
        (errors.AuthenticationError("x"), Exit.AUTHENTICATION),
        (errors.CapabilityMissing("x", capability="SMTPUTF8"), Exit.REFUSED),
        (errors.reply_error(Phase.EHLO, "EHLO", REFUSAL), Exit.REFUSED),
        (errors.sender_refused(Phase.MAIL, REFUSAL), Exit.REFUSED),
        (errors.content_refused(Phase.DATA, "DATA", REFUSAL), Exit.REFUSED),
        (errors.RecipientsRefused(Phase.RCPT, {"a@b": REFUSAL}), Exit.REFUSED),
        (errors.ProtocolViolation("x"), Exit.LOST),
        (errors.ConnectionLost("x"), Exit.LOST),
        (errors.SMTPTimeout(Phase.DATA, 1.0), Exit.TIMEOUT),
        (errors.DeliveryInDoubt("x", accepted={}, refused={}), Exit.IN_DOUBT),
        (errors.SMTPError("x"), Exit.REFUSED),
    ],
)
def test_each_error_has_its_exit_code(error: errors.SMTPError, code: Exit) -> None:
    assert text.exit_of(error) is code
    error.phase = Phase.AUTH
    assert "phase " in text.explained(error)


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["send"], ["check-credentials"], ["probe"], ["serve"], ["demo"]):
        with pytest.raises(SystemExit) as end:
            main([*command, "--help"])
        assert end.value.code == Exit.OK
        said = capsys.readouterr().out
        assert all(f"{code:3}  {code.meaning}\n" in said for code in Exit)
        assert max(map(len, said.splitlines())) <= 100


def test_nothing_unprintable_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    text.say("a\x1b[2J\r\nb\u202e\x9b")
    text.complain("c\x07")
    text.show_table(["x"], [["y\x1b"]])
    said = capsys.readouterr()
    assert said.out == "a\\x1b[2J\\r\\nb\\u202e\\x9b\nx\n-----\ny\\x1b\n"
    assert said.err == "smtp-proto: c\\x07\n"


def test_a_terminal_that_knows_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(octets, encoding="ascii"))
    text.say("Grüße")
    assert octets.getvalue() == b"Gr\\xfc\\xdfe\n"


def test_a_table_of_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    text.show_table(["name", "ms"], [["a", "1.5"], ["long name", "10.5"]])
    assert capsys.readouterr().out.splitlines() == [
        "name         ms",
        "---------  ----",
        "a           1.5",
        "long name  10.5",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    text.show_table(["name", "ms"], [["[b]\x1b[2J", "1.5"], ["long name", "10.5"]])
    first, second, third = terminal.getvalue().splitlines()
    assert "name" in first
    assert second.split() == ["[b]\\x1b[2J", "1.5"]
    assert third.split() == ["long", "name", "10.5"]


def test_a_terminal_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rich.console", "rich.progress", "rich.table"):
        monkeypatch.setitem(sys.modules, module, None)
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with text.progress("Sending", 5, "octets") as advance:
        advance(5)
    text.show_table(["name"], [["x"]])
    assert err.getvalue() == "Sending: 5 octets ...\n"
    assert out.getvalue() == "name\n----\nx\n"


# --- Streams that fail ------------------------------------------------------------------------


class Broken(Terminal):
    """A terminal that is gone, or a disk that is full."""

    def write(self, text: str, /) -> int:
        raise OSError(EIO, os.strerror(EIO))


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


UNWRITABLE = pytest.mark.parametrize(
    "stream", [None, closed(), Broken()], ids=["not there", "closed", "broken"]
)


@UNWRITABLE
def test_no_stream_changes_how_a_message_ends(
    stream: io.StringIO | None,
    server: str,
    inbox: Inbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "large.eml"
    path.write_bytes(b"From: a@x.org\r\n\r\n" + b"x\r\n" * 400_000)
    given = ["send", str(path), "--server", server, "--security", "none", "--to", "b@x.org"]
    for out, err in ((stream, Terminal()), (Terminal(), stream), (stream, stream)):
        with monkeypatch.context() as streams:
            streams.setattr(sys, "stdout", out)
            streams.setattr(sys, "stderr", err)
            assert main(given) == Exit.OK
            assert main([*given, "--to", "550@x.org"]) == Exit.REFUSED
            assert (sys.stdout, sys.stderr) == (out, err)
    assert len(inbox.messages) == 6


def test_a_standard_input_that_is_closed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["send", "-", "--server", "h"]) == Exit.USAGE
    assert "-: the standard input, where the message" in capsys.readouterr().err
    assert main(["check-credentials", "--server", "h", "--user", "u"]) == Exit.USAGE
    assert "--user: a user without a password" in capsys.readouterr().err


@UNWRITABLE
def test_no_stream_changes_what_is_found(
    stream: io.StringIO | None, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    assert main(["probe", server]) == Exit.OK


def test_what_comes_later_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Broken()
    monkeypatch.setattr(sys, "stdout", terminal)
    text.say("lost")
    monkeypatch.delattr(Broken, "write")
    text.say("seen")
    assert terminal.getvalue() == "seen\n"


def test_a_terminal_lacks_a_letter_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = io.BytesIO()
    terminal = io.TextIOWrapper(octets, encoding="ascii")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    text.show_table(["name"], [["Grüße"]])
    assert b"Gr\\xfc\\xdfe" in octets.getvalue()


# --- Processes --------------------------------------------------------------------------------


@contextmanager
def started(
    *given: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> Generator[subprocess.Popen[str]]:
    path = os.pathsep.join(sys.path)
    usual = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "smtp_adapters.cli", *given],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env=os.environ | usual,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def a_pipe_that_nobody_reads() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def a_file_that_takes_nothing() -> int:
    return os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize("unwritable", [a_pipe_that_nobody_reads, a_file_that_takes_nothing])
def test_nobody_reads_the_answer(
    server: str, inbox: Inbox, message: str, unwritable: Callable[[], int]
) -> None:
    stream = unwritable()
    given = ("send", message, "--server", server, "--security", "none")
    with started(*given, stdout=stream) as process:
        _, said = process.communicate()
        assert (process.returncode, said) == (Exit.OK, "")
    with started(*given, "--to", "550@x.org", "--to", "b@x.org", stderr=stream) as process:
        out, _ = process.communicate()
        assert "has taken the message for <b@x.org>" in out
        assert process.returncode == Exit.REFUSED
    with started("--help", stdout=stream) as process:
        _, said = process.communicate()
        assert (process.returncode, said) == (Exit.OK, "")
    os.close(stream)
    assert len(inbox.messages) == 2


def test_progress_is_for_terminals(server: str, inbox: Inbox, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    content = b"From: a@x.org\r\nTo: b@x.org\r\n\r\n" + (b"x" * 70 + b"\r\n") * 30_000
    (tmp_path / "large.eml").write_bytes(content)
    given = ("send", str(tmp_path / "large.eml"), "--server", server, "--security", "none")
    with started(*given) as process:
        assert process.communicate()[1] == ""
    terminal, end = pty.openpty()
    with started(*given, stderr=end) as process:
        os.close(end)
        seen = b"".join(iter(lambda: read_terminal(terminal), b""))
        process.communicate()
    os.close(terminal)
    assert b"Sending to 127.0.0.1" in seen
    assert b"%d/%d" % (len(content), len(content)) in seen
    assert [received for _, _, received in inbox.messages] == [content, content]


def read_terminal(terminal: int) -> bytes:
    # Linux says EIO when the other end has been closed.
    with suppress(OSError):
        return os.read(terminal, 65_536)
    return b""


# --- serve ------------------------------------------------------------------------------------


@contextmanager
def serving(*given: str) -> Generator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, and its port."""
    with started("serve", "--listen", "127.0.0.1:0", *given) as process:
        assert process.stdout is not None
        yield process, port_in(process.stdout.readline())


def port_in(ready: str) -> int:
    port = re.match(r"listening on 127\.0\.0\.1:(\d+): ", ready)
    assert port, ready
    return int(port[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_received_is_kept_and_told(tmp_path: Path, number: signal.Signals) -> None:
    with serving("--maildir", str(tmp_path), "--hostname", "mx.example.org") as (process, port):
        with SMTPClient("127.0.0.1", port, security=Security.NONE) as client:
            result = client.send(Envelope.of("a@x.org", ["b@x.org", "c@x.org"]), SENT)
        process.send_signal(number)
        out, err = process.communicate()
    identifier = result.reply.text.split()[-1]
    assert out == (
        f"{identifier}: {len(SENT)} octets from <a@x.org> to <b@x.org>, <c@x.org>"
        " by 127.0.0.1, no TLS\nending\n"
    )
    accepted = f"a message of {len(SENT)} octets for 2 recipient(s): {result.reply}"
    for line, what in zip(err.splitlines(), ("connected", accepted, "disconnected"), strict=True):
        assert line == f"smtp-proto: server-1 127.0.0.1: {what}"
    assert process.returncode == Exit.OK
    (path,) = (tmp_path / "new").iterdir()
    kept = path.read_bytes()
    assert identifier.encode() in kept
    assert b"by mx.example.org" in kept
    assert kept.endswith(SENT.replace(b"\r\n", b"\n"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_who_waits_and_the_second_all(
    tmp_path: Path, number: signal.Signals
) -> None:
    with (
        serving("--maildir", str(tmp_path)) as (process, port),
        peers.client(port) as idle,
        peers.client(port) as busy,
    ):
        idle.hear("220")
        busy.hear("220")
        busy.say("HELO x", "MAIL FROM:<a@x.org>", "RCPT TO:<b@x.org>", "DATA")
        busy.hear("250", "250", "250", "354")
        process.send_signal(number)
        idle.hear("421 4.3.2 ")
        assert process.poll() is None
        process.send_signal(number)
        assert busy.hear_all() == b""
        idle.close()
        assert process.wait() == Exit.OK


@pytest.mark.parametrize("security", [Security.IMPLICIT, Security.STARTTLS])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_mail_comes_over_tls_from_one_user(
    tmp_path: Path,
    certificate_file: Path,
    client_tls: ClientTLS,
    security: Security,
    mechanism: str,
) -> None:
    (tmp_path / "password").write_text("right\n")
    given = ["--maildir", str(tmp_path), "--tls-cert", str(certificate_file), "--user", "ada"]
    given += ["--password-file", str(tmp_path / "password"), "--security", security.value]

    def client(*auth: str) -> SMTPClient:
        return SMTPClient(
            "127.0.0.1",
            port,
            security=security,
            tls=client_tls,
            auth=Credentials(*auth) if auth else None,
            mechanisms=[mechanism],
        )

    with serving(*given) as (process, port):
        for wrong in (("ada", "wrong"), ("bob", "right")):
            with pytest.raises(errors.AuthenticationError), client(*wrong):
                pass
        with client() as nobody, pytest.raises(errors.SenderRefused):
            nobody.send(Envelope.of("a@x.org", "b@x.org"), SENT)
        with client("ada", "right") as ada:
            ada.send(Envelope.of("a@x.org", "b@x.org"), SENT)
        process.terminate()
        out, _ = process.communicate()
    assert re.search(r"by 127\.0\.0\.1, TLSv1\.[23], logged in as ada\n", out)
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_login_in_clear_does_not_show_the_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("right\n")
    given = ["--maildir", str(tmp_path), "--user", "ada"]
    given += ["--password-file", str(tmp_path / "password")]
    with (
        serving(*given) as (_, port),
        SMTPClient(
            "127.0.0.1",
            port,
            security=Security.NONE,
            auth=("ada", "right"),
        ) as client,
    ):
        assert "SCRAM-SHA-256" in client.capabilities.auth
        client.send(Envelope.of("a@x.org", "b@x.org"), SENT)


@pytest.mark.parametrize(
    ("user", "scram"),
    [(None, False), (("ada", "right"), True), (("ada", "r\u0007"), False)],
    ids=["nobody", "anybody", "a password that SCRAM cannot have"],
)
def test_scram_is_for_passwords_that_it_can_have(
    tmp_path: Path, user: tuple[str, str] | None, scram: bool
) -> None:
    inbox = serve._Inbox(tmp_path, "mx.example.org", Protocol.SMTP, user)
    assert ("SCRAM-SHA-256" in inbox.mechanisms) is scram
    assert (inbox.find_secret(ServerSession("x"), "ada", "SCRAM-SHA-256") is not None) is scram
    assert ("PLAIN" in inbox.mechanisms) is (user is not None)


def test_lmtp(tmp_path: Path) -> None:
    with (
        serving("--maildir", str(tmp_path), "--lmtp") as (_, port),
        SMTPClient("127.0.0.1", port, security=Security.NONE, protocol=Protocol.LMTP) as client,
    ):
        result = client.send(Envelope.of("a@x.org", ["b@x.org", "c@x.org"]), SENT)
    assert list(result.accepted) == ["b@x.org", "c@x.org"]
    (path,) = (tmp_path / "new").iterdir()
    assert b"with LMTP" in path.read_bytes()


def test_a_maildir_that_is_gone_is_told(tmp_path: Path) -> None:
    with serving("--maildir", str(tmp_path / "mail")) as (process, port):
        for name in ("cur", "new", "tmp"):
            (tmp_path / "mail" / name).rmdir()
        with (
            SMTPClient("127.0.0.1", port, security=Security.NONE) as client,
            pytest.raises(errors.ContentRefused) as refused,
        ):
            client.send(Envelope.of("a@x.org", "b@x.org"), SENT)
        process.terminate()
        _, err = process.communicate()
    assert refused.value.reply.code == 451
    (line,) = (line for line in err.splitlines() if "server-1" not in line)
    assert line.startswith("smtp-proto: a command of 127.0.0.1 failed: FileNotFoundError: ")


@pytest.mark.parametrize("lost", ["stdout", "stderr"])
def test_a_terminal_that_goes_away_costs_no_message(tmp_path: Path, lost: str) -> None:
    pty = pytest.importorskip("pty")
    terminal, end = pty.openpty()
    given = ("serve", "--listen", "127.0.0.1:0", "--maildir", str(tmp_path))
    with started(*given, **{lost: end}) as process:
        os.close(end)
        with os.fdopen(terminal) as screen:
            port = port_in((process.stdout or screen).readline())
        for _ in range(2):
            with SMTPClient("127.0.0.1", port, security=Security.NONE) as client:
                client.send(Envelope.of("a@x.org", "b@x.org"), SENT)
        process.terminate()
        process.communicate()
    assert process.returncode == Exit.OK
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_what_cannot_be_logged_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    serve._OneLine().emit(LogRecord("smtp_adapters", WARNING, "", 0, "%d", ("x",), None))
    assert capsys.readouterr().err.startswith("--- Logging error ---\n")


def test_what_the_server_logs_is_told_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (None, ValueError("x\ny")):
        info = None if error is None else (ValueError, error, None)
        record = LogRecord("smtp_adapters", WARNING, "", 0, "of %s", ("a\nb",), info)
        serve._OneLine().emit(record)
    assert capsys.readouterr().err.splitlines() == [
        "smtp-proto: of a\\nb",
        "smtp-proto: of a\\nb: ValueError: x\\ny",
    ]


@pytest.mark.parametrize(
    ("given", "code", "why"),
    [
        (["--maildir", "/dev/null/x"], Exit.USAGE, "/dev/null/x"),
        (["--security", "starttls"], Exit.USAGE, "needs --tls-cert"),
        (["--security", "none", "--tls-cert", "/dev/null"], Exit.USAGE, "contradict"),
        (["--tls-cert", "/dev/null"], Exit.USAGE, "/dev/null: there is no certificate"),
        (["--user", "ada"], Exit.USAGE, "--user without a password"),
        (["--hostname", "a b"], Exit.USAGE, "--hostname: not 1 to 63"),
        (
            ["--listen", "192.0.2.1:0"],
            Exit.CONNECT,
            f"cannot listen on 192.0.2.1:0: {os.strerror(EADDRNOTAVAIL)}; change --listen",
        ),
    ],
)
def test_a_server_that_cannot_be(tmp_path: Path, given: list[str], code: Exit, why: str) -> None:
    with started("serve", "--maildir", str(tmp_path), *given) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    (line,) = err.splitlines()
    assert why in line


# --- demo -------------------------------------------------------------------------------------


def test_the_demo_delivers_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == Exit.OK
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert sum(line.endswith(" same") for line in lines) == 36
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "36 of 36 deliveries arrived octet by octet as they were sent"


def test_the_demo_tells_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = demo._Inbox.on_message

    def careless(
        inbox: demo._Inbox, session: ServerSession, envelope: Envelope, content: bytes
    ) -> None:
        honest(inbox, session, envelope, content.replace(b"\r\n..\r\n", b"\r\n.\r\n"))

    monkeypatch.setattr(demo._Inbox, "on_message", careless)
    assert main(["demo"]) == Exit.REFUSED
    lines = capsys.readouterr().out.splitlines()
    assert sum(" lines of dots " in line and " differs at " in line for line in lines) == 6
    assert lines[-1].startswith("30 of 36 ")


def test_the_demo_tells_what_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo._Inbox, "find_password", lambda *_: None)
    assert main(["demo"]) == Exit.REFUSED
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 6
    assert "535" in said.err


def test_the_demo_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "smtp_adapters.cli.demo")
    monkeypatch.delattr("smtp_adapters.cli.demo")
    monkeypatch.setitem(sys.modules, "trustme", None)
    assert main(["demo"]) == Exit.USAGE
    assert "smtp-proto-engine[demo]" in complaint(capsys)
