"""The command line does what its arguments say and no more, and what strangers say changes nothing.

Knows the commands, and what is given to them. Must not know how arguments are read.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from smtp_adapters import cli
from smtp_adapters.cli import main
from smtp_adapters.cli.text import Exit
from smtp_adapters.settings import KEYS
from smtp_adapters.socket import SMTPServer
from tests.security.servers import Keeper

MESSAGE = b"From: a@example.org\nTo: b@example.net\n\nHello.\n"
HARMFUL = "\x1b]0;pwned\x07\x1b[2J\x9b1m\u202egnp.exe\rsmtp-proto: all is well"


@pytest.fixture
def message(tmp_path: Path) -> str:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    return str(path)


def clear(server: str) -> list[str]:
    return ["--server", server, "--security", "none"]


def test_an_address_is_never_an_option(message: str) -> None:
    keeper = Keeper()
    with SMTPServer(keeper) as running:
        given = clear(f"127.0.0.1:{running.port}")
        addresses = ["--from=-oQ@example.org", "--to=--help@example.net", "--to=-b@example.net"]
        assert main(["send", *given, *addresses, "--", message]) == Exit.OK
        # Without "=" it is not taken for the value of the option before it.
        with pytest.raises(SystemExit):
            main(["send", message, *given, "--from", "--quiet"])
    [kept] = keeper.messages
    assert kept.sender == "-oQ@example.org"
    assert kept.recipients == ("--help@example.net", "-b@example.net")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


def test_no_option_takes_a_secret() -> None:
    """Everybody on a machine can read the arguments of a command."""
    # A URL may have one in it; --help says what comes of that.
    secrets = {key.name for key in KEYS if key.kind.secret} - {"url"}
    assert secrets
    options = {
        name
        for parser in parsers(cli._parser())
        for action in parser._actions
        for name in action.option_strings
    }
    assert "--password-file" in options
    assert not options & {f"--{name.replace('_', '-').replace('.', '-')}" for name in secrets}
    assert not options & {"--password", "--token", "--key-password", "--auth", "--pass", "-p"}


def test_no_option_may_be_cut_short() -> None:
    """Else a secret behind "--password" may be told as the name of a file that is not there."""
    seen = list(parsers(cli._parser()))
    assert len(seen) > 4
    assert not [parser.prog for parser in seen if parser.allow_abbrev]


@pytest.mark.parametrize(
    "table",
    [
        'host = "mail.test\\r\\nRCPT TO:<x>"',
        'host = "127.0.0.1"\nlocal_hostname = "a\\r\\nMAIL FROM:<x>"',
        'host = "127.0.0.1"\nproxy = "http://p.test\\r\\nX: y"',
        'host = "127.0.0.1\\u0000"',
    ],
)
def test_a_line_end_in_a_setting_is_refused_before_anybody_is_called(
    table: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f"[smtp]\n{table}\n", encoding="utf-8")
    assert main(["send", message, "--config", str(config)]) == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.isprintable()


def test_the_environment_names_no_proxy_unasked(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever sets a variable, for a browser say, sees where mail goes."""
    keeper = Keeper()
    with (
        SMTPServer(keeper) as running,
        socket.create_server(("127.0.0.1", 0)) as proxy,
    ):
        proxy.setblocking(False)
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("all_proxy", "ALL_PROXY", "http_proxy", "https_proxy", "smtp_proxy"):
            monkeypatch.setenv(name, url)
        given = [*clear(f"127.0.0.1:{running.port}"), "--timeout", "20"]
        assert main(["send", message, *given]) == Exit.OK
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert len(keeper.messages) == 1


@pytest.mark.parametrize("option", ["--from", "--to"])
@pytest.mark.parametrize("address", ["a@b>\r\nDATA", "a@b\nX", "a\0@b", "", "a b", "$(id)"])
def test_what_is_no_address_is_refused_before_anybody_is_called(
    option: str, address: str, message: str
) -> None:
    if option == "--from" and not address:
        return  # the null sender
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        given = [*clear(f"127.0.0.1:{listener.getsockname()[1]}"), "--timeout", "20"]
        assert main(["send", message, *given, f"{option}={address}"]) == Exit.USAGE
        with pytest.raises(BlockingIOError):
            listener.accept()


# --- What a server says --------------------------------------------------------------------------


@contextmanager
def saying(replies: Sequence[str]) -> Iterator[str]:
    """A server that says these replies, one for each line that it hears, and hangs up."""

    def speak(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as heard:
            for reply in replies:
                connection.sendall(f"{reply}\r\n".encode())
                heard.readline()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=speak, args=(listener,))
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join()


REFUSALS = {
    "the greeting": (["554 {}"], Exit.REFUSED),
    "the sender": (["220 x", "250 x", "550 {}", "250 x", "221 x"], Exit.REFUSED),
    "the recipient": (["220 x", "250 x", "250 x", "550 {}", "250 x", "221 x"], Exit.REFUSED),
    "closing": (["220 x", "250 x", "421 {}"], Exit.REFUSED),
    "nonsense": (["220 x", "250 x", "2{}"], Exit.LOST),
}


@pytest.mark.parametrize("text", ["Ok", "250 Ok", HARMFUL.replace("\r", " ")], ids=ascii)
@pytest.mark.parametrize("name", REFUSALS)
def test_the_text_of_a_reply_changes_nothing(
    name: str, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    replies, code = REFUSALS[name]
    with saying([reply.format(text) for reply in replies]) as server:
        assert main(["send", message, *clear(server)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    for line in said.err.splitlines():
        assert line.startswith("smtp-proto: ")
        assert line.isprintable()
