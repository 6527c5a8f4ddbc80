"""One stream of octets into several servers, and what each of them makes of it.

Knows how to feed a server of this package and aiosmtpd in memory, and any server over a socket.
Must not know what is fed, nor which answer is right.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from aiosmtpd.smtp import SMTP, Envelope, Session

from smtp_adapters.tls import server_factory
from smtp_proto import flow
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.timeouts import Phase
from tests.flow.serving import Client, settings
from tests.interop.peers import HOST, Delivery, Mode, Server

HOSTNAME = "mx.example.org"
_LINE = re.compile(rb"([2-5][0-9][0-9])([ -]).*\r\n")
_LAST_LINE = re.compile(rb"^[2-5][0-9][0-9] .*\r\n\Z", re.MULTILINE)
_TAKEN = re.compile(rb"^250 .*(?:queued as| id=)", re.MULTILINE)  # as Postfix says it, and Exim
_RECIPIENT = re.compile(r"^(?:X-Original-To|Envelope-To): (.*)$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Message:
    """A message as a server's application gets it."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass(frozen=True)
class Outcome:
    """What a server made of a stream: the codes of its replies, and the messages it took.

    `ended`: whether it closed the connection by itself.
    """

    codes: tuple[int, ...]
    messages: tuple[Message, ...]
    ended: bool

    @property
    def classes(self) -> str:
        """The first digits of the codes, in order."""
        return "".join(str(code)[0] for code in self.codes)


class Keeper(Handler):
    """Takes every message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def on_message(self, session: ServerSession, envelope: flow.Envelope, content: bytes) -> None:
        recipients = tuple(map(str, envelope.forward_paths))
        self.messages.append(Message(str(envelope.reverse_path), recipients, content))


def ours(pieces: Iterable[bytes], tls: ssl.SSLContext | None = None) -> Outcome:
    """Feed a server of this package; with `tls` it offers STARTTLS."""
    keeper = Keeper()
    served = (
        settings()
        if tls is None
        else settings(security=flow.Security.OPPORTUNISTIC, tls=server_factory(tls))
    )
    client = Client(keeper, served)
    said = client.said
    for piece in pieces:
        if client.closed:
            break
        said += client.say(piece)
    # After the last words the stream is still read for a while, and nothing of that heard.
    ended = client.closed or client.phase is Phase.LAST_WORDS
    return Outcome(codes(said), tuple(keeper.messages), ended)


def codes(said: bytes) -> tuple[int, ...]:
    """The codes of replies, each once; all that was said has to be replies."""
    lines = list(_LINE.finditer(said))
    assert b"".join(line[0] for line in lines) == said
    return tuple(int(line[1]) for line in lines if line[2] == b" ")


# --- aiosmtpd ------------------------------------------------------------------------------------


class _Pipe(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 12345) if name == "peername" else default

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """There is nothing to pause."""

    def resume_reading(self) -> None:
        """There is nothing to resume."""


class _Taker:
    """The application: takes every message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def handle_DATA(  # noqa: N802 - aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        content = envelope.original_content or b""
        sender = (envelope.mail_from or "").removeprefix("<>")  # which is nobody
        self.messages.append(Message(sender, tuple(envelope.rcpt_tos), content))
        return "250 2.0.0 OK"


def aiosmtpd(pieces: Iterable[bytes]) -> Outcome:
    """Feed aiosmtpd."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    with asyncio.Runner() as runner:
        return runner.run(_aiosmtpd(pieces))


async def _aiosmtpd(pieces: Iterable[bytes]) -> Outcome:
    taker, pipe = _Taker(), _Pipe()
    loop = asyncio.get_running_loop()
    server = SMTP(taker, enable_SMTPUTF8=True, hostname=HOSTNAME, loop=loop)
    server.connection_made(pipe)
    task = server._handler_coroutine
    assert task is not None
    await _until_it_waits(server, task)
    for piece in pieces:
        if task.done() or pipe.closed:
            break
        server.data_received(piece)
        await _until_it_waits(server, task)
    ended = pipe.closed
    server.connection_lost(None)
    await asyncio.gather(task, return_exceptions=True)
    return Outcome(codes(pipe.written), tuple(taker.messages), ended)


async def _until_it_waits(server: SMTP, task: asyncio.Task[None]) -> None:
    """Let it run until it wants more octets."""

    def waits() -> bool:
        return task.done() or vars(server._reader)["_waiter"] is not None

    for _ in iter(waits, True):
        await asyncio.sleep(0)


# --- Over a socket -------------------------------------------------------------------------------


def over_socket(server: Server, pieces: Sequence[bytes]) -> Outcome:
    """Feed a real server in clear, each piece behind a reply, and wait for what it took."""
    said = b""
    with _connection(server, Mode.CLEAR) as connection:
        try:
            for piece in pieces:
                said += _reply(connection)
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            said += _rest(connection)
        except ConnectionError:
            pass  # it has heard enough
    delivered = map(_message, server.deliveries(len(_TAKEN.findall(said))))
    return Outcome(codes(said), tuple(sorted(delivered, key=repr)), ended=True)


def into_tls(
    server: Server, pieces: Sequence[bytes], *inside: bytes
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Feed a real server up to STARTTLS, and the rest through TLS: the codes in clear, and there.

    What it says in clear is read no further than to where its answer to STARTTLS has come.
    """
    with _connection(server, Mode.STARTTLS) as connection:
        said = b""
        for piece in pieces:
            said += _reply(connection)
            connection.sendall(piece)
        in_clear = codes(said + _reply(connection))
        if in_clear[-1] != 220:
            return in_clear, ()
        trust = ssl.create_default_context(cafile=server.folder / "tls" / "ca.pem")
        with trust.wrap_socket(connection, server_hostname=HOST) as secure:
            said = b""
            for piece in inside:
                secure.sendall(piece)
                said += _reply(secure)
            return in_clear, codes(said + _rest(secure))


def _connection(server: Server, mode: Mode) -> socket.socket:
    return socket.create_connection((HOST, server.ports[mode]), timeout=20)


def _message(delivery: Delivery) -> Message:
    recipients = _RECIPIENT.findall(delivery.trace)
    return Message(delivery.sender, tuple(recipients), delivery.content)


def _rest(connection: socket.socket) -> bytes:
    return b"".join(iter(partial(connection.recv, 65536), b""))


def _reply(connection: socket.socket) -> bytes:
    said = b""
    while not _LAST_LINE.search(said):
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError
        said += data
    return said
