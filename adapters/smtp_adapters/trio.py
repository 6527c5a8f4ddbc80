"""SMTP over trio: a client for one task at a time, a server with a task for each connection.

Knows trio's sockets, scopes and clock. Must not know SMTP: the flows say what to do next.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from email.message import Message
from inspect import isawaitable
from math import inf
from types import TracebackType
from typing import Self, TypeVar, cast

import trio

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
_LARGE = 65_536  # octets in a Send before which others get their turn
_REFUSAL_TAKES = 1.0  # seconds at most: it fits into any socket's buffer


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
        self._close()
        await trio.lowlevel.checkpoint()

    async def _run(self, flow_for: Callable[[Session], Flow[T]], pieces: Pieces = NO_PIECES) -> T:
        with self._turn:
            session = self._session()
            try:
                return await _carry_out(flow_for(session), self._stream, pieces)
            finally:
                if not session.usable:
                    self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._stream.close()


class SMTPServer(Server):
    """A server with a task for each connection.

    Use it in an `async with` statement, which opens and closes it. The parameters stand in
    `smtp_adapters.server.Server`. The handler's methods may be plain or coroutine functions.
    """

    async def __aenter__(self) -> Self:
        """Listen, and serve whoever connects. Raises OSError where that cannot be."""
        self._require_closed()
        host, port = self._listen_at
        listeners = await trio.open_tcp_listeners(port, host=host)
        self._address = listeners[0].socket.getsockname()[:2]
        self._connections: dict[trio.lowlevel.Task, _Stream] = {}
        self._accepting = trio.CancelScope()
        self._deaf = trio.Event()
        self._tasks = trio.open_nursery()
        self._nursery = await self._tasks.__aenter__()
        self._nursery.start_soon(self._listen, listeners)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        if error is not None and not isinstance(error, Exception):
            self._nursery.cancel_scope.cancel()
        # The nursery waits for the handlers. It is not told of the error, which goes on as it is.
        await self._tasks.__aexit__(None, None, None)

    async def close(self) -> None:
        """Stop listening, end all connections, and wait until their handlers have returned.

        Does nothing if the server is not open.
        """
        if self._address is None:
            return
        self._stop()
        await self._deaf.wait()
        for task, stream in tuple(self._connections.items()):
            if task is not trio.lowlevel.current_task():  # a handler may close its server
                await stream.gone.wait()

    def _stop(self) -> None:
        self._address = None
        self._accepting.cancel()
        for stream in self._connections.values():
            stream.close()

    async def _listen(self, listeners: list[trio.SocketListener]) -> None:
        with self._accepting:
            await trio.serve_listeners(self._converse, listeners, handler_nursery=self._nursery)
        self._deaf.set()

    async def _converse(self, accepted: trio.SocketStream) -> None:
        stream = _Stream(accepted)
        task = trio.lowlevel.current_task()
        try:
            if len(self._connections) >= self._max_connections:
                with trio.move_on_after(_REFUSAL_TAKES), suppress(OSError):
                    await stream.send(self._refusal)
            elif self._address is not None:  # else it was accepted just before the end
                self._connections[task] = stream
                await _carry_out(self._serve(stream.peer), stream)
        except Exception:  # noqa: BLE001 - it is ours, and told to who looks after the server
            logger.exception("a connection was given up")
        finally:
            stream.close()
            stream.gone.set()
            self._connections.pop(task, None)


# --- carrying out a flow -----------------------------------------------------------------------


async def _carry_out(flow: Flow[T], stream: _Stream, pieces: Pieces = NO_PIECES) -> T:
    """Do what the flow asks for, until it is done. Raises what the flow raises."""
    end = inf if flow.total is None else trio.current_time() + flow.total
    while True:
        with trio.CancelScope(deadline=end) as limit:
            return await _carry_out_until(limit, end, flow, stream, pieces)
        flow.failed(TimeoutError("the time is up"))


async def _carry_out_until(
    limit: trio.CancelScope, end: float, flow: Flow[T], stream: _Stream, pieces: Pieces
) -> T:
    """Do what the flow asks for, until it is done or `limit`, which is moved by timers, strikes."""
    timer: Timer | None = None
    while True:
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        if action.timer is not timer:
            timer = action.timer
            limit.deadline = _deadline(timer, end)
        try:
            match action:
                case Send():
                    await stream.send(action.data)
                case Receive():
                    flow.receive_data(await stream.receive())
                case Content():
                    await _fetch(flow, pieces)
                case Connect():
                    flow.connected(await stream.connect(action.host, action.port))
                case Ask():
                    await _ask(flow, action)
        except (OSError, trio.ClosedResourceError) as error:
            flow.failed(error if isinstance(error, OSError) else _closed_here())


async def _fetch(flow: Flow[T], pieces: Pieces) -> None:
    try:
        if isinstance(pieces, AsyncIterator):
            piece = await anext(pieces, END)
        else:
            await trio.lowlevel.checkpoint()  # others get their turn
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


def _deadline(timer: Timer, end: float) -> float:
    return end if timer.seconds is None else min(end, trio.current_time() + timer.seconds)


# --- the stream --------------------------------------------------------------------------------


class _Stream:
    """A TCP connection, on a plain socket that does not block: trio's own pause where none is due.

    Others get their turn whenever we wait for octets, and before each large piece that we send.
    """

    __slots__ = ("_socket", "gone")

    def __init__(self, stream: trio.SocketStream | None = None) -> None:
        self._socket = None if stream is None else _plain(stream)
        self.gone = trio.Event()

    @property
    def peer(self) -> str:
        """The IP address at the other end; "" if nobody is there any more."""
        with suppress(OSError):
            return str(self._connection().getpeername()[0])
        return ""

    async def connect(self, host: str, port: int) -> str:
        """Connect to whichever of the host's addresses answers first; returns that of our end."""
        self.close()
        try:
            self._socket = _plain(await trio.open_tcp_stream(host, port))
        except OSError as error:
            raise connect_error(_attempts(error)) from error
        return str(self._socket.getsockname()[0])

    async def send(self, data: Octets) -> None:
        """Write all of `data`."""
        if len(data) >= _LARGE:
            await trio.lowlevel.checkpoint()
        connection = self._connection()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[connection.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(connection)

    async def receive(self) -> bytes:
        """Wait for octets; b"": the peer has ended the stream."""
        connection = self._connection()
        while True:
            await trio.lowlevel.wait_readable(connection)
            try:
                return connection.recv(_RECEIVE)
            except BlockingIOError:
                pass  # it was a false alarm

    def close(self) -> None:
        """End the connection at once, also under another task that waits for it."""
        connection, self._socket = self._socket, None
        if connection is not None:
            trio.lowlevel.notify_closing(connection)
            connection.close()

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise _closed_here()
        return self._socket


def _plain(stream: trio.SocketStream) -> socket.socket:
    connection = socket.socket(fileno=stream.socket.detach())
    connection.setblocking(False)
    return connection


def _attempts(error: OSError) -> list[OSError]:
    """What became of each address, where trio says so."""
    attempts = cast("tuple[Exception, ...]", getattr(error.__cause__, "exceptions", (error,)))
    return [attempt for attempt in attempts if isinstance(attempt, OSError)]


def _closed_here() -> OSError:
    return ConnectionAbortedError("the connection has been closed on this side")
