"""SMTP over asyncio: a client for one task at a time, a server with a task for each connection.

Knows transports, tasks and the loop's clock. Must not know SMTP: the flows say what to do next.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from email.message import Message
from inspect import isawaitable
from itertools import zip_longest
from math import inf
from types import TracebackType
from typing import Self, TypeAlias, TypeVar, cast

from smtp_adapters import client
from smtp_adapters.client import END, NO_PIECES, Client, End, Pieces, connect_error
from smtp_adapters.message import prepare
from smtp_adapters.server import Server, logger
from smtp_proto.flow import (
    Ask,
    CloseSession,
    Connect,
    Content,
    Done,
    Envelope,
    Flow,
    OpenSession,
    Receive,
    Send,
    SendMail,
    SendResult,
    Session,
    Timer,
    simple,
)
from smtp_proto.wire import Octets, Reply

T = TypeVar("T")

_RECEIVE = 65_536  # octets taken from the socket at a time
_HELD = 262_144  # octets that wait for us before reading pauses
_LARGE = 65_536  # octets in a Send before which others get their turn
_NEXT_ADDRESS = 0.25  # seconds until a slow address gets company. RFC 8305 5


class SMTPClient(Client):
    """One connection to an SMTP server, for one task at a time.

    Use it in an `async with` statement, which opens it and ends it in order. The parameters stand
    in `smtp_adapters.client.Client`, what can go wrong in `smtp_proto.flow.errors`. After a
    refusal, unless by 421, the connection can be used further; after any other error, and after a
    cancellation, it has been closed.
    """

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None or isinstance(error, Exception):
                await self.quit()
        finally:
            await self.close()

    async def open(self) -> None:
        """Connect, start TLS and log in, as the settings say.

        Raises ConnectError, TLSError, AuthenticationError, ReplyError, or what any call may raise:
        ConnectionLost, SMTPTimeout, ProtocolViolation.
        """
        with self._turn:
            self._require_closed()
            self._stream = stream = _Stream()
            try:
                self._begin(await _carry_out(OpenSession(self._settings), stream))
            finally:
                if not self.is_open:
                    stream.close()
                    await stream.wait_closed()

    async def send_message(
        self,
        message: Message,
        *,
        sender: str | None = None,
        recipients: Sequence[str] | None = None,
    ) -> SendResult:
        """Send a message to those whom its header fields name, or to `recipients`.

        Raises what `send()` raises, and ValueError where the fields leave doubt about who is meant.
        """
        prepared = prepare(message, sender, recipients)
        return await self.send(prepared.envelope, prepared.content)

    async def send(self, envelope: Envelope, content: client.AsyncContent) -> SendResult:
        """Send content, header and all, to the recipients of an envelope.

        `content`: octets, a binary file, or an iterable of octets, which may be asynchronous;
        others have to wait while a file is read. Line ends are made CRLF.

        Raises SenderRefused, RecipientsRefused or ContentRefused: nothing was delivered;
        CapabilityMissing or MessageTooLarge: nothing was sent; DeliveryInDoubt: nobody knows. One
        refused recipient among others is no error: see the result.
        """
        whole, size, pieces = client.async_source(content)
        return await self._run(
            lambda session: SendMail(session, envelope, whole, size=size), pieces
        )

    async def noop(self) -> Reply:
        """Ask whether the server is still there. Raises ReplyError if it refuses, as all these."""
        return await self._run(simple.noop)

    async def reset(self) -> Reply:
        """Have the server forget what it knows of a mail transaction."""
        return await self._run(simple.reset)

    async def verify(self, string: str) -> Reply:
        """Ask whether a user or mailbox exists. Servers often answer 252: it may be."""
        return await self._run(lambda session: simple.verify(session, string))

    async def expand(self, string: str) -> Reply:
        """Ask who is on a mailing list."""
        return await self._run(lambda session: simple.expand(session, string))

    async def help(self, topic: str = "") -> Reply:
        """Ask for help."""
        return await self._run(lambda session: simple.help_(session, topic))

    async def quit(self) -> None:
        """End the session in order, and close the connection. Does nothing if there is none."""
        if self.is_open:
            await self._run(CloseSession)

    async def close(self) -> None:
        """Close the connection at once, without a word. Does nothing if there is none."""
        if self._is_open:
            self._is_open = False
            self._stream.close()
            await self._stream.wait_closed()

    async def _run(self, flow_for: Callable[[Session], Flow[T]], pieces: Pieces = NO_PIECES) -> T:
        with self._turn:
            session = self._session()
            try:
                return await _carry_out(flow_for(session), self._stream, pieces)
            finally:
                if not session.usable:
                    await self.close()


class SMTPServer(Server):
    """A server with a task for each connection.

    Use it in an `async with` statement, which opens and closes it. The parameters stand in
    `smtp_adapters.server.Server`. The handler's methods may be plain or coroutine functions.
    """

    async def __aenter__(self) -> Self:
        """Listen, and serve whoever connects. Raises OSError where that cannot be."""
        self._require_closed()
        self._connections: dict[asyncio.Task[None], _Stream] = {}
        host, port = self._listen_at
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: _Stream(self._accept), host, port
        )
        self._address = self._listener.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self._cancel()
        await self.close()

    async def close(self) -> None:
        """Stop listening, end all connections, and wait until their handlers have returned.

        Does nothing if the server is not open. If it is cancelled, the handlers are, too.
        """
        if self._address is None:
            return
        self._address = None
        self._listener.close()
        for stream in self._connections.values():
            stream.close()
        # A handler may close its server: it cannot wait for itself.
        others = self._connections.keys() - {asyncio.current_task()}
        try:
            if others:
                await asyncio.wait(others)
        except asyncio.CancelledError:
            self._cancel()
            raise

    def _cancel(self) -> None:
        for task in self._connections:
            task.cancel()

    def _accept(self, stream: _Stream) -> None:
        if self._address is None:
            stream.close()  # it was accepted just before the end
            return
        if len(self._connections) >= self._max_connections:
            stream.refuse(self._refusal)
            return
        task = asyncio.get_running_loop().create_task(self._converse(stream))
        self._connections[task] = stream
        task.add_done_callback(self._connections.pop)

    async def _converse(self, stream: _Stream) -> None:
        try:
            await _carry_out(self._serve(stream.peer), stream)
        except Exception:  # noqa: BLE001 - it is ours, and told to who looks after the server
            logger.exception("a connection was given up")
        finally:
            stream.close()
            await stream.wait_closed()


# --- carrying out a flow -----------------------------------------------------------------------


async def _carry_out(flow: Flow[T], stream: _Stream, pieces: Pieces = NO_PIECES) -> T:
    """Do what the flow asks for, until it is done. Raises what the flow raises."""
    now = asyncio.get_running_loop().time
    end = inf if flow.total is None else now() + flow.total
    timer: Timer | None = None
    deadline = end
    while True:
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        if action.timer is not timer:
            timer = action.timer
            deadline = end if timer.seconds is None else min(end, now() + timer.seconds)
        try:
            match action:
                case Send():
                    await stream.send(action.data, deadline)
                case Receive():
                    flow.receive_data(await stream.receive(deadline))
                case Content():
                    async with _until(deadline):
                        await _fetch(flow, pieces)
                case Connect():
                    async with _until(deadline):
                        flow.connected(await stream.connect(action.host, action.port))
                case Ask():
                    async with _until(deadline):
                        await _ask(flow, action)
        except OSError as error:
            flow.failed(error)


async def _fetch(flow: Flow[T], pieces: Pieces) -> None:
    try:
        if isinstance(pieces, AsyncIterator):
            piece = await anext(pieces, END)
        else:
            await asyncio.sleep(0)  # others get their turn
            piece = next(pieces, END)
        client.check(piece)
    except Exception as error:  # noqa: BLE001 - whatever the caller's iterator raises
        flow.failed(error)
    else:
        flow.content(None if isinstance(piece, End) else piece)


async def _ask(flow: Flow[T], action: Ask) -> None:
    try:
        answer = action.function(*action.arguments)
        if isawaitable(answer):
            answer = await answer
    except Exception as error:  # noqa: BLE001 - whatever the application raises
        flow.failed(error)
    else:
        flow.answer(answer)


def _until(deadline: float) -> asyncio.Timeout:
    return asyncio.timeout_at(None if deadline == inf else deadline)


# --- the stream --------------------------------------------------------------------------------


class _Stream(asyncio.BufferedProtocol):
    """A TCP connection: what comes is kept until it is asked for, and reading pauses in time.

    One alarm watches over all that is waited for: setting a timer for each wait takes longer than
    the rest of it.
    """

    def __init__(self, accepted: Callable[[_Stream], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepted = accepted
        self._buffer = memoryview(bytearray(_RECEIVE))
        self._alarm: asyncio.TimerHandle | None = None
        self._deadline = inf
        self.peer = ""
        self._forget()

    def _forget(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._ended = False  # nothing more will come
        self._error: OSError | None = None
        self._lost = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False

    async def connect(self, host: str, port: int) -> str:
        """Connect to whichever of the host's addresses answers first; returns that of our end."""
        self.close()
        await self.wait_closed()
        self._forget()
        addresses = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        connection = await _connect_to_any(_interleaved(addresses))
        transport, _ = await self._loop.create_connection(lambda: self, sock=connection)
        return str(transport.get_extra_info("sockname")[0])

    async def send(self, data: Octets, deadline: float) -> None:
        """Write all of `data`."""
        if len(data) >= _LARGE:
            await asyncio.sleep(0)  # others get their turn, and what the peer says is heard
        transport = self._transport
        if transport is None or self._lost.is_set():
            raise self._error or _closed_here()
        transport.write(data)
        while self._writing_paused and not self._lost.is_set():
            await self._wait(deadline)
        if transport.is_closing():
            await self._lost.wait()
            raise self._error or _closed_here()

    async def receive(self, deadline: float) -> Octets:
        """Wait for octets; b"": the peer has ended the stream."""
        while not self._received and not self._ended:
            await self._wait(deadline)
        if self._received:
            data, self._received = self._received, bytearray()
            if self._reading_paused and self._transport is not None:
                self._reading_paused = False
                self._transport.resume_reading()
            return data
        if self._error is not None:
            raise self._error
        return b""

    async def _wait(self, deadline: float) -> None:
        """Wait until something happens. Raises TimeoutError at the deadline, and behind it."""
        if self._loop.time() >= deadline:
            raise TimeoutError("the time is up")
        self._deadline = deadline
        if deadline < (inf if self._alarm is None else self._alarm.when()):
            self._set_alarm()
        self._waiter = self._loop.create_future()
        await self._waiter

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() >= self._deadline:
            self._waiter.set_exception(TimeoutError("the time is up"))
        elif self._deadline < inf:
            self._set_alarm()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def refuse(self, data: bytes) -> None:
        """Say one thing and close."""
        if self._transport is not None:
            self._transport.write(data)
            self._transport.close()

    def close(self) -> None:
        """End the connection at once, also under another task that waits for it."""
        if self._transport is not None and not self._transport.is_closing():
            self._error = _closed_here()
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of the connection."""
        if self._transport is not None:
            await self._lost.wait()

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=0)  # what was sent is out, or there is an error
        if self._accepted is not None:
            self.peer = str((transport.get_extra_info("peername") or ("",))[0])
            self._accepted(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the size is ours
        """Where octets that come are to be put."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Octets have come."""
        self._received += self._buffer[:nbytes]
        if len(self._received) > _HELD and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The peer has ended its side; ours stays open until the flow is done."""
        self._ended = True
        self._wake()
        return True

    def pause_writing(self) -> None:
        """The system takes no more for now."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """All has been written."""
        self._writing_paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if exc is not None and self._error is None:
            self._error = exc if isinstance(exc, OSError) else OSError(str(exc))
        self._ended = True
        self._lost.set()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._wake()


# --- reaching a host ---------------------------------------------------------------------------

# A connection that is made while all is cancelled must not be lost, as it can be in
# loop.create_connection(), which therefore gets one that is made.

_Address: TypeAlias = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]


def _interleaved(addresses: Iterable[_Address]) -> list[_Address]:
    """Let the families take turns: one that leads nowhere delays less. RFC 8305 4"""
    families: dict[int, list[_Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    turns = zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


async def _connect_to_any(addresses: Iterable[_Address]) -> socket.socket:
    """Connect to whichever address answers first; one after the other is tried. RFC 8305 5

    Raises OSError, which says what became of each. Whatever happens, no other socket stays open.
    """
    untried = deque(addresses)
    attempts: list[asyncio.Task[socket.socket]] = []
    failures: list[OSError] = []
    try:
        while untried or attempts:
            if untried:
                attempts.append(asyncio.create_task(_connect(untried.popleft())))
            done, _ = await asyncio.wait(
                attempts,
                timeout=_NEXT_ADDRESS if untried else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                attempts.remove(attempt)
                try:
                    return attempt.result()
                except OSError as error:
                    failures.append(error)
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_discard)
            attempt.cancel()
        if attempts:
            await asyncio.wait(attempts)
    raise connect_error(failures)


async def _connect(address: _Address) -> socket.socket:
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, where)
    except BaseException:
        connection.close()
        raise
    return connection


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _closed_here() -> OSError:
    return ConnectionAbortedError("the connection has been closed on this side")
