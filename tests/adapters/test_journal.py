"""What is told of connections: to a trace and to the log, of both sides, and never a secret.

Knows journals and what they are to have in them. Must not know how a flow comes to tell it.
"""

import ast
import logging
import os
import socket
import ssl
import stat
import threading
from base64 import b64encode
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smtp_adapters import journal
from smtp_adapters.cli import main
from smtp_adapters.cli.text import Exit
from smtp_adapters.journal import ConnectionJournal, FailedLogins, TraceLine, trace_to
from smtp_adapters.tls import ClientTLS
from smtp_proto import AuthenticationError, Handler, Security, ServerSession
from smtp_proto.engine.trace import Speaker
from smtp_proto.flow import (
    DeliveryInDoubt,
    Envelope,
    MessageTooLarge,
    OpenSession,
    ReplyError,
    SendMail,
    SMTPError,
)
from smtp_proto.sasl import Credentials
from tests.adapters import peers
from tests.adapters.canaries import PASSWORD, PROXY_PASSWORD, WRONG_PASSWORD, found_in
from tests.adapters.peers import Conversation
from tests.adapters.test_cli import serving
from tests.adapters.worlds import Client, Server, World
from tests.flow.scripted import Transcript, play
from tests.flow.scripted import settings as in_memory

ENVELOPE = Envelope.of("ann@example.org", "bob@example.net")
CONTENT = b"Subject: x\r\n\r\nA word that nobody else may read.\r\n"


class Door(Handler):
    """Lets ann in, and refuses mail for nobody@."""

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return credentials == Credentials("ann", PASSWORD)


Serve = Callable[..., Server]
Connect = Callable[..., Client]


@pytest.fixture
def serve(world: World, server_tls: ssl.SSLContext) -> Serve:
    """Make a server that wants a login under TLS."""
    kind: Callable[..., Server] = world.server

    def make(**settings: object) -> Server:
        defaults = {
            "security": Security.STARTTLS,
            "tls": server_tls,
            "mechanisms": ["PLAIN"],
            "hostname": "mx.example.org",
            "timeouts": 20.0,
        }
        return kind(Door(), **{**defaults, **settings})

    return make


@pytest.fixture
def connect(world: World, client_tls: ClientTLS) -> Connect:
    kind: Callable[..., Client] = world.client

    def make(port: int, **settings: object) -> Client:
        defaults = {
            "security": Security.STARTTLS,
            "tls": client_tls,
            "auth": ("ann", PASSWORD),
            "local_hostname": "client.example.org",
            "timeouts": 20.0,
        }
        return kind("127.0.0.1", port, **{**defaults, **settings})

    return make


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Callable[..., list[tuple[str, str]]]:
    """The records of a level: each with the role whose connection it is of, and what was said."""
    caplog.set_level(logging.DEBUG, "smtp_proto")

    def read(level: int, name: str = "smtp_proto") -> list[tuple[str, str]]:
        texts = [
            record.getMessage()
            for record in caplog.records
            if (record.levelno, record.name) == (level, name)
        ]
        parts = [text.partition(" ") for text in texts]
        return [(connection.partition("-")[0], text) for connection, _, text in parts]

    return read


def of(role: str, records: list[tuple[str, str]]) -> list[str]:
    return [text for each, text in records if each == role]


# --- A trace ----------------------------------------------------------------------------------


async def test_each_line_is_told_on_both_sides(serve: Serve, connect: Connect) -> None:
    here: list[TraceLine] = []
    there: list[TraceLine] = []
    begin = datetime.now(UTC)
    async with (
        serve(trace=there.append) as server,
        connect(server.port, trace=here.append) as client,
    ):
        result = await client.send(ENVELOPE, CONTENT)
    said = [f"{line.speaker.value}: {line.text}" for line in here]
    assert sorted(said) == sorted(f"{line.speaker.value}: {line.text}" for line in there)
    assert said[:2] == ["S: 220 mx.example.org ESMTP", "C: EHLO client.example.org"]
    login = said.index("C: AUTH PLAIN ***")
    assert said[login + 1 : login + 3] == [
        "S: 235 2.7.0 ***",
        f"C: MAIL FROM:<ann@example.org> SIZE={len(CONTENT)}",
    ]
    assert f"({len(CONTENT)} octets of content)" in "".join(said)
    assert said[-2:] == ["C: QUIT", "S: 221 2.0.0 Goodbye"]
    assert f"S: {result.reply}" in said
    for lines, role in ((here, "client"), (there, "server")):
        assert [line.time for line in lines] == sorted(line.time for line in lines)
        assert begin <= lines[0].time <= lines[-1].time <= datetime.now(UTC)
        assert lines[0].time.utcoffset() == timedelta(0)
        (connection,) = {line.connection for line in lines}
        assert connection.startswith(f"{role}-")
        text = "\n".join(map(str, lines))
        assert "nobody else" not in text
        assert found_in([text, repr(lines)]) == []


async def test_each_connection_has_its_own_name(serve: Serve, connect: Connect) -> None:
    lines: list[TraceLine] = []
    async with serve() as server:
        client = connect(server.port, trace=lines.append)
        for _ in range(2):
            await client.open()
            await client.quit()
        assert await client.check_credentials()
    assert len({line.connection for line in lines}) == 3


async def test_a_file_is_its_owners_alone_and_grows(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "trace.log"
    async with serve(trace=path) as server:
        assert path.read_bytes() == b""
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for _ in range(2):
            async with connect(server.port, trace=str(path)) as client:
                await client.noop()
        first = path.read_text().splitlines()
        path.unlink()
        async with connect(server.port, trace=path):
            pass
    assert len([line for line in first if line.endswith(" C: AUTH PLAIN ***")]) == 4
    assert len({line.split()[1] for line in first}) == 4
    second = path.read_text().splitlines()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for line in first + second:
        datetime.fromisoformat(line.split()[0])
        assert line.isprintable()
    assert found_in(first + second) == []


async def test_a_logger_has_the_lines_on_debug(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mine")
    async with serve() as server, connect(server.port, trace=logging.getLogger("mine")):
        pass
    lines = [record.getMessage() for record in caplog.records if record.name == "mine"]
    assert any(line.endswith(" C: AUTH PLAIN ***") for line in lines)


def test_what_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a callable, a logger or a path, not an int"):
        trace_to(cast("str", 3))
    with pytest.raises(OSError, match="nowhere"):
        trace_to(tmp_path / "nowhere" / "trace.log")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system cannot tell links apart")
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_a_trace_is_not_followed(tmp_path: Path, there: bool) -> None:
    """Who may write to the folder could have the lines written to any file of ours."""
    target, link = tmp_path / "mine", tmp_path / "trace.log"
    if there:
        target.write_text("as it was")
    link.symlink_to(target)
    with pytest.raises(OSError, match="trace: it is a symbolic link, which is not followed: .*log"):
        trace_to(link)
    assert target.exists() == there
    assert not there or target.read_text() == "as it was"


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system cannot tell links apart")
def test_a_link_that_comes_later_is_not_followed(tmp_path: Path) -> None:
    target, path = tmp_path / "mine", tmp_path / "trace.log"
    target.write_text("as it was")
    write = trace_to(path)
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        write(TraceLine(datetime.now(UTC), "client-1", Speaker.CLIENT, "NOOP"))
    assert target.read_text() == "as it was"


@pytest.mark.skipif(not Path("/dev/stderr").exists(), reason="there is no such file")
def test_the_systems_own_links_are_followed(capfd: pytest.CaptureFixture[str]) -> None:
    write = trace_to("/dev/stderr")
    write(TraceLine(datetime.now(UTC), "client-1", Speaker.CLIENT, "NOOP"))
    assert capfd.readouterr().err.endswith(" client-1 C: NOOP\n")


async def test_a_trace_that_fails_is_told_once_and_costs_nothing(
    serve: Serve, connect: Connect, records: Callable[..., list[tuple[str, str]]]
) -> None:
    def full(line: TraceLine) -> None:
        asked.append(line.connection)
        raise OSError(28, "No space left on device")

    asked: list[str] = []
    async with serve(trace=full) as server:
        here = f"127.0.0.1:{server.port}"
        client = connect(server.port, trace=full)
        for _ in range(2):
            async with client:
                assert (await client.send(ENVELOPE, CONTENT)).reply.code == 250
    assert len(asked) == len(set(asked)) == 4
    warnings = records(logging.WARNING)
    why = "no more trace: OSError: [Errno 28] No space left on device"
    assert of("client", warnings) == [f"{here}: {why}"] * 2
    assert of("server", warnings) == [f"127.0.0.1: {why}"] * 2


async def test_the_folder_of_a_trace_goes_away_and_the_outcome_is_told(
    world: World, tmp_path: Path, records: Callable[..., list[tuple[str, str]]]
) -> None:
    class Remover(Handler):
        def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
            folder.rename(tmp_path / "elsewhere")

    folder = tmp_path / "traces"
    folder.mkdir()
    path = folder / "trace.log"
    async with world.server(Remover(), trace=path) as server:
        clear = {"security": Security.NONE, "timeouts": 20.0}
        connect: Callable[..., Client] = world.client
        async with connect("127.0.0.1", server.port, trace=path, **clear) as client:
            assert (await client.send(ENVELOPE, CONTENT)).reply.code == 250
        async with connect("127.0.0.1", server.port, **clear) as client:
            await client.noop()
        with pytest.raises(FileNotFoundError):
            connect("127.0.0.1", server.port, trace=path, **clear)
    warnings = records(logging.WARNING)
    assert len(of("client", warnings)) == 1
    assert len(of("server", warnings)) == 2
    assert all("no more trace: FileNotFoundError: " in text for _, text in warnings)


def test_the_command_line_writes_a_trace(tmp_path: Path) -> None:
    message = tmp_path / "message.eml"
    message.write_bytes(b"From: ann@example.org\nTo: bob@example.net\n\nHello\n")
    trace = tmp_path / "trace.log"
    with serving("--maildir", str(tmp_path / "mail")) as (process, port):
        given = [str(message), "--server", f"127.0.0.1:{port}", "--security", "none", "--quiet"]
        assert main(["send", *given, "--trace", str(trace)]) == Exit.OK
        process.terminate()
        process.communicate()
    assert " C: MAIL FROM:<ann@example.org>" in trace.read_text()
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600


# --- The log ----------------------------------------------------------------------------------


async def test_what_happens_is_logged_on_info(
    serve: Serve, connect: Connect, records: Callable[..., list[tuple[str, str]]]
) -> None:
    async with serve() as server, connect(server.port) as client:
        result = await client.send(ENVELOPE, CONTENT)
        here = f"127.0.0.1:{server.port}"
        assert client.tls is not None
        tls = f"{client.tls.version}, {client.tls.cipher}, certificate"
    assert of("client", records(logging.INFO)) == [
        f"{here}: connected to 127.0.0.1 port {server_port(here)} from 127.0.0.1",
        f"{here}: TLS by STARTTLS: {tls} verified for 127.0.0.1",
        f"{here}: logged in as ann with PLAIN",
        f"{here}: accepted for 1 recipient(s): {result.reply}",
        f"{here}: closing",
    ]
    server_said = of("server", records(logging.INFO))
    assert server_said[0] == "127.0.0.1: connected"
    assert server_said[1].startswith(f"127.0.0.1: TLS: {tls}")
    assert server_said[2:] == [
        "127.0.0.1: logged in as ann with PLAIN",
        f"127.0.0.1: a message of {len(CONTENT)} octets for 1 recipient(s): {result.reply}",
        "127.0.0.1: disconnected",
    ]
    assert of("client", records(logging.DEBUG))
    assert records(logging.WARNING, "smtp_proto.logins") == []


def server_port(here: str) -> str:
    return here.rpartition(":")[2]


async def test_proxies_are_logged_without_their_passwords(
    world: World, records: Callable[..., list[tuple[str, str]]]
) -> None:
    def tunnel(client: Conversation) -> None:
        client.hear("CONNECT mx.example.org:25 ")
        while client.hear(""):
            pass
        client.say("HTTP/1.1 200 Here you are", "", "220 mx.example.org")
        client.hear("EHLO")
        client.say("250 mx.example.org")
        client.hear("QUIT")
        client.say("221 bye")

    with peers.server(tunnel) as port:
        proxy = f"http://ann:{PROXY_PASSWORD}@127.0.0.1:{port}"
        client = world.client("mx.example.org", 25, proxy=proxy, security=Security.NONE)
        await client.open()
        await client.quit()
    said = of("client", records(logging.INFO))
    url = f"http://127.0.0.1:{port}"
    assert said[0].startswith(f"mx.example.org:25: connected to {url} from ")
    assert said[1] == f"mx.example.org:25: through {url} to mx.example.org port 25"


async def test_failed_logins_are_counted_on_both_sides(
    serve: Serve, connect: Connect, records: Callable[..., list[tuple[str, str]]]
) -> None:
    async with serve() as server:
        client = connect(server.port, auth=("ann", WRONG_PASSWORD))
        for _ in range(2):
            with pytest.raises(AuthenticationError):
                await client.open()
        port = server.port
    warnings = records(logging.WARNING, "smtp_proto.logins")
    reply = "535 5.7.8 Authentication credentials invalid"
    assert of("client", warnings) == [
        f'127.0.0.1:{port}: failed login {number} of this peer, as "ann" with PLAIN: {reply}'
        for number in (1, 2)
    ]
    assert of("server", warnings) == [
        f'127.0.0.1: failed login {number} of this peer, as "ann" with PLAIN: '
        "the credentials are wrong"
        for number in (1, 2)
    ]


def test_the_command_line_tells_failed_logins(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    given = ["--maildir", str(tmp_path / "mail"), "--user", "ann", "--allow-cleartext-auth"]
    given += ["--password-file", str(tmp_path / "password")]
    name = "ann\u202e\u2028smtp-proto: forged"
    with (
        serving(*given) as (process, port),
        socket.create_connection(("127.0.0.1", port)) as stream,
        stream.makefile("rwb") as lines,
    ):
        plain = b64encode(f"\0{name}\0{WRONG_PASSWORD}".encode())
        for command, answer in ((b"EHLO x", b"250 "), (b"AUTH PLAIN " + plain, b"535 ")):
            lines.write(command + b"\r\n")
            lines.flush()
            while not (said := lines.readline()).startswith(answer):
                assert said[3:4] == b"-" or said.startswith(b"220 "), said
        process.terminate()
        _, err = process.communicate()
    (warning,) = [line for line in err.splitlines() if "failed login" in line]
    assert r'failed login 1 of this peer, as "ann\u202e\u2028smtp-proto: forged" with' in warning
    for line in err.splitlines():
        assert line.startswith("smtp-proto: server-1 127.0.0.1: ")
        assert line.isprintable()
    assert found_in([err]) == []


@pytest.mark.parametrize("where", ["greeting", "offer", "refusal"])
async def test_a_server_cannot_write_our_log(
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    where: str,
) -> None:
    caplog.set_level(logging.DEBUG, "smtp_proto")
    bad = "x\u0085INFO forged\u2028\u202e\x9b2J\ty"

    def script(client: Conversation) -> None:
        client.say(f"220 {bad}" if where == "greeting" else "220 mx")
        client.hear("EHLO")
        client.say(f"250-mx {bad}" if where == "offer" else "250-mx", "250 AUTH PLAIN")
        client.hear("AUTH PLAIN ")
        client.say(f"535 {bad}")
        client.hear_all()

    path = tmp_path / "trace.log"
    with peers.server(script) as port:
        clear = {"security": Security.NONE, "tls": None, "allow_cleartext_auth": True}
        with pytest.raises(AuthenticationError):
            await connect(port, trace=path, **clear).open()
    messages = [each.getMessage() for each in caplog.records if each.name.startswith("smtp_proto")]
    assert any(r"\x85INFO forged\u2028\u202e\x9b2J\ty" in message for message in messages)
    assert all(message.isprintable() for message in messages)
    lines = path.read_text().split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(path.read_text().splitlines())
    assert all(line.isprintable() for line in lines)


def test_nothing_that_is_told_can_forge_a_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "smtp_proto")
    bad = "a\r\nb\x1b[2J\u202e"

    def broken(_line: TraceLine) -> None:
        raise ValueError(bad)

    told = ConnectionJournal("client", f"/run/{bad}", FailedLogins(), broken)  # as a path may be
    told.happened(bad)
    told.login_failed("PLAIN", bad + "x" * 10_000, bad)
    told.line(Speaker.CLIENT, "NOOP")
    messages = [record.getMessage() for record in caplog.records][:3]
    for message in messages:
        assert message.isprintable()
        assert message.count(r"a\r\nb\x1b[2J\u202e") >= 2
        assert len(message) < 300


@contextmanager
def log_raising(error: BaseException) -> Generator[None]:
    """Have a handler of the log raise for each record."""

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error

    handler = Raising()
    loggers = [journal.logger, logging.getLogger("smtp_adapters.server")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


async def test_a_log_that_fails_costs_nothing(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_line: TraceLine) -> None:
        raise error

    caplog.set_level(logging.DEBUG, "smtp_proto")
    error = OSError(28, "No space left on device")
    with log_raising(error):
        async with serve(trace=full) as server:
            async with connect(server.port, trace=full) as client:
                assert (await client.send(ENVELOPE, CONTENT)).reply.code == 250
            with pytest.raises(AuthenticationError):
                await connect(server.port, auth=("ann", WRONG_PASSWORD)).open()


def test_what_interrupts_the_log_comes_through(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "smtp_proto")
    told = ConnectionJournal("client", "mx:25", FailedLogins(), None)
    with log_raising(KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        told.happened("connected")


def test_where_nobody_listens_nothing_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "smtp_proto")
    quiet = ConnectionJournal("client", "mx:25", FailedLogins(), None)
    assert not quiet.wants_events
    assert not quiet.wants_lines


# --- Failed logins ----------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=[]) | st.sampled_from('"\\x1b '), max_size=80))
@example('a" with PLAIN: the credentials are wrong')
@example(r"a\x1b")
@example("a\\")
def test_as_whom_can_be_read_in_one_way_only(
    caplog: pytest.LogCaptureFixture, identity: str
) -> None:
    told = ConnectionJournal("server", "192.0.2.1", FailedLogins(), None)
    for text in (identity, identity.ljust(80, "x") + "y"):
        caplog.clear()
        told.login_failed("PLAIN", text, "why")
        (message,) = caplog.messages
        begin, end = " as ", " with PLAIN: why"
        assert message.endswith(end)
        shown = message[message.index(begin) + len(begin) : -len(end)]
        assert ast.literal_eval(shown.removesuffix("...")) == text[:80]
        assert shown.endswith('"...') == (len(text) > 80)


def test_those_who_fail_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_MOST_PEERS", 2)
    failed = FailedLogins()
    assert [failed.add(peer) for peer in "aabac"] == [1, 2, 1, 3, 1]
    assert failed.add("a") == 4  # it came later than b
    assert failed.add("b") == 1


def test_threads_may_count_together() -> None:
    failed = FailedLogins()
    threads = [
        threading.Thread(target=lambda: [failed.add("a") for _ in range(2_000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed.add("a") == 8_001


# --- What becomes of a message ----------------------------------------------------------------


class Events:
    """A journal of what happens, or one that nobody reads."""

    wants_lines = False

    def __init__(self, *, wants_events: bool = True) -> None:
        self.wants_events = wants_events
        self.events: list[str] = []

    def line(self, speaker: Speaker, text: str) -> None:
        raise AssertionError("nobody wants lines")

    def happened(self, what: str) -> None:
        self.events.append(what)

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        raise AssertionError("nobody logs in")


HELLO = "S: 220 mail.test\nC: EHLO [192.0.2.7]\nS: 250-mail.test\nS: 250 SIZE 100\n"
MAIL = "C: ...\nS: 250 sender ok\n"
GO_AHEAD = "C: DATA\nS: 354 go on\nC: ...\nC: ...\nC: .\n"


def send(script: str, notes: Events, size: int) -> SMTPError | None:
    server = Transcript(HELLO + script)
    session = play(OpenSession(in_memory(), notes), server)
    notes.events.clear()
    content = b"x: y\r\n\r\n".ljust(size - 2, b"x") + b"\r\n" * (size > 0)
    envelope = Envelope.of("ann@example.org", ["bob@example.net", "carol@example.net"])
    try:
        play(SendMail(session, envelope, content), server)
    except SMTPError as error:
        return error
    return None


OUTCOMES: list[tuple[str, int, type[SMTPError] | None, str]] = [
    (
        f"{MAIL}C: ...\nS: 250 ok\nC: ...\nS: 250 ok\n{GO_AHEAD}S: 250 queued\n",
        0,
        None,
        "accepted for 2 recipient(s): 250 queued",
    ),
    (
        f"{MAIL}C: ...\nS: 250 ok\nC: ...\nS: 550 no\n{GO_AHEAD}S: 250 queued\n",
        0,
        None,
        "accepted for 1 recipient(s), refused for 1: 250 queued",
    ),
    ("C: ...\nS: 550 not you\n", 0, ReplyError, "refused: MAIL was refused"),
    (
        f"{MAIL}C: ...\nS: 550 no\nC: ...\nS: 550 nor that\nC: RSET\nS: 250 ok\n",
        0,
        SMTPError,
        "refused: no recipient was accepted",
    ),
    (
        f"{MAIL}C: ...\nS: 250 ok\nC: ...\nS: 250 ok\n{GO_AHEAD}S:EOF\n",
        0,
        DeliveryInDoubt,
        "in doubt: the content was sent whole",
    ),
    (f"{MAIL}S:EOF\n", 0, SMTPError, "not sent: the connection was lost"),
    ("", 1_000, MessageTooLarge, "not sent: the message has 1000 octets"),
]


@pytest.mark.parametrize(("script", "size", "error", "told"), OUTCOMES, ids=lambda _: "")
def test_what_becomes_of_a_message_is_told(
    script: str, size: int, error: type[SMTPError] | None, told: str
) -> None:
    notes = Events()
    raised = send(script, notes, size)
    assert isinstance(raised, error) if error else raised is None
    (event,) = notes.events
    assert event.startswith(told)
    unread = Events(wants_events=False)
    assert type(send(script, unread, size)) is type(raised)
    assert unread.events == []
