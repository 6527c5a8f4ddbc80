"""SMTP over blocking sockets: a client for one thread at a time, a server with a thread for each.

Knows sockets, threads and the clock. Must not know SMTP: the flows say what to do next.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from email.message import Message
from math import inf
from selectors import EVENT_READ, DefaultSelector
from threading import Thread, current_thread
from time import monotonic, sleep
from types import TracebackType
from typing import Self, TypeVar

from smtp_adapters import client
from smtp_adapters.client import END, NO_PIECES, Client, End, connect_error
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
_ACCEPT_AGAIN = 0.1  # seconds, where the system has no more sockets for now
_REFUSAL_TAKES = 1.0  # seconds at most: it fits into any socket's buffer


class SMTPClient(Client):
    """One connection to an SMTP server, for one thread at a time.

    Use it in a `with` statement, which opens it and ends it in order. The parameters stand in
    `smtp_adapters.client.Client`, what can go wrong in `smtp_proto.flow.errors`. After a refusal,
    unless by 421, the connection can be used further; after any other error it has been closed.
    """

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None or isinstance(error, Exception):
                self.quit()
        finally:
            self.close()

    def open(self) -> None:
        """Connect, start TLS and log in, as the settings say.

        Raises ConnectError, TLSError, AuthenticationError, ReplyError, or what any call may raise:
        ConnectionLost, SMTPTimeout, ProtocolViolation.
        """
        with self._turn:
            self._require_closed()
            self._stream = stream = _Stream()
            try:
                self._begin(_carry_out(OpenSession(self._settings), stream))
            finally:
                if not self.is_open:
                    stream.close()

    def send_message(
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
        return self.send(prepared.envelope, prepared.content)

    def send(self, envelope: Envelope, content: client.Content) -> SendResult:
        """Send content, header and all, to the recipients of an envelope.

        `content`: octets, a binary file, or an iterable of octets. Line ends are made CRLF.

        Raises SenderRefused, RecipientsRefused or ContentRefused: nothing was delivered;
        CapabilityMissing or MessageTooLarge: nothing was sent; DeliveryInDoubt: nobody knows. One
        refused recipient among others is no error: see the result.
        """
        whole, size, pieces = client.source(content)
        return self._run(lambda session: SendMail(session, envelope, whole, size=size), pieces)

    def noop(self) -> Reply:
        """Ask whether the server is still there. Raises ReplyError if it refuses, as all these."""
        return self._run(simple.noop)

    def reset(self) -> Reply:
        """Have the server forget what it knows of a mail transaction."""
        return self._run(simple.reset)

    def verify(self, string: str) -> Reply:
        """Ask whether a user or mailbox exists. Servers often answer 252: it may be."""
        return self._run(lambda session: simple.verify(session, string))

    def expand(self, string: str) -> Reply:
        """Ask who is on a mailing list."""
        return self._run(lambda session: simple.expand(session, string))

    def help(self, topic: str = "") -> Reply:
        """Ask for help."""
        return self._run(lambda session: simple.help_(session, topic))

    def quit(self) -> None:
        """End the session in order, and close the connection. Does nothing if there is none."""
        if self.is_open:
            self._run(CloseSession)

    def close(self) -> None:
        """Close the connection at once, without a word. Does nothing if there is none."""
        if self._is_open:
            self._is_open = False
            self._stream.close()

    def _run(
        self, flow_for: Callable[[Session], Flow[T]], pieces: Iterator[Octets] = NO_PIECES
    ) -> T:
        with self._turn:
            session = self._session()
            try:
                return _carry_out(flow_for(session), self._stream, pieces)
            finally:
                if not session.usable:
                    self.close()


class SMTPServer(Server):
    """A server with a thread for each connection, and one that accepts them.

    Use it in a `with` statement, which opens and closes it. The parameters stand in
    `smtp_adapters.server.Server`. The handler's methods are plain ones, called in the threads of
    the connections: each connection in one, several at the same time.
    """

    def __enter__(self) -> Self:
        """Listen, and serve whoever connects. Raises OSError where that cannot be.

        Raises RuntimeError where the system has no more threads.
        """
        self._require_closed()
        self._connections: dict[Thread, _Stream] = {}
        listener = _listener(*self._listen_at)
        self._address = listener.getsockname()[:2]
        self._bell, ear = socket.socketpair()
        self._acceptor = Thread(target=self._accept, args=(listener, ear), daemon=True)
        try:
            self._acceptor.start()
        except RuntimeError:
            self._address = None
            for each in (listener, ear, self._bell):
                each.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, end all connections, and wait until their handlers have returned.

        Does nothing if the server is not open.
        """
        if self._address is None:
            return
        self._address = None
        self._bell.close()
        self._acceptor.join()
        for thread, stream in tuple(self._connections.items()):
            stream.close()
            if thread is not current_thread():  # a handler may close its server
                thread.join()

    def _accept(self, listener: socket.socket, ear: socket.socket) -> None:
        with listener, ear, DefaultSelector() as selector:
            selector.register(ear, EVENT_READ)
            selector.register(listener, EVENT_READ)
            while all(key.fileobj is listener for key, _ in selector.select()):
                try:
                    connection, address = listener.accept()
                except BlockingIOError:
                    continue  # the client has gone already
                except OSError as error:
                    logger.warning("cannot accept a connection: %s", error)
                    sleep(_ACCEPT_AGAIN)
                    continue
                self._begin(connection, str(address[0]))

    def _begin(self, connection: socket.socket, peer: str) -> None:
        stream = _Stream(connection)
        if len(self._connections) >= self._max_connections:
            self._refuse(stream)
            return
        _send_at_once(connection)
        thread = Thread(target=self._converse, args=(stream, peer), daemon=True)
        self._connections[thread] = stream  # before it starts, as it takes itself out at its end
        try:
            thread.start()
        except RuntimeError as error:
            del self._connections[thread]
            logger.warning("cannot serve a connection: %s", error)
            self._refuse(stream)

    def _refuse(self, stream: _Stream) -> None:
        with suppress(OSError):
            stream.send(self._refusal, monotonic() + _REFUSAL_TAKES)
        stream.close()

    def _converse(self, stream: _Stream, peer: str) -> None:
        try:
            _carry_out(self._serve(peer), stream)
        except Exception:  # noqa: BLE001 - it is ours, and told to who looks after the server
            logger.exception("a connection was given up")
        finally:
            stream.close()
            self._connections.pop(current_thread(), None)


def _listener(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(address[:2], family=family)
    listener.setblocking(False)  # a client may have gone before it is accepted
    return listener


# --- carrying out a flow -----------------------------------------------------------------------


def _carry_out(flow: Flow[T], stream: _Stream, pieces: Iterator[Octets] = NO_PIECES) -> T:
    """Do what the flow asks for, until it is done. Raises what the flow raises."""
    end = inf if flow.total is None else monotonic() + flow.total
    timer: Timer | None = None
    deadline = end
    while True:
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        if action.timer is not timer:
            timer = action.timer
            deadline = _deadline(timer, end)
        try:
            match action:
                case Send():
                    stream.send(action.data, deadline)
                case Receive():
                    flow.receive_data(stream.receive(deadline))
                case Content():
                    _fetch(flow, pieces)
                case Connect():
                    flow.connected(stream.connect(action.host, action.port, action.timer, end))
                case Ask():
                    _ask(flow, action)
        except OSError as error:
            flow.failed(error)


def _fetch(flow: Flow[T], pieces: Iterator[Octets]) -> None:
    try:
        piece = next(pieces, END)
        client.check(piece)
    except Exception as error:  # noqa: BLE001 - whatever the caller's iterator raises
        flow.failed(error)
    else:
        flow.content(None if isinstance(piece, End) else piece)


def _ask(flow: Flow[T], action: Ask) -> None:
    try:
        answer = action.function(*action.arguments)
        if isinstance(answer, Coroutine):
            answer.close()
            raise TypeError(  # noqa: TRY301 - one way for all that goes wrong with an answer
                f"{action.name} is a coroutine function: a server of threads awaits nothing"
            )
    except Exception as error:  # noqa: BLE001 - whatever the application raises
        flow.failed(error)
    else:
        flow.answer(answer)


def _deadline(timer: Timer, end: float) -> float:
    return end if timer.seconds is None else min(end, monotonic() + timer.seconds)


def _seconds_until(deadline: float) -> float | None:
    """For socket.settimeout(): None without a deadline; never 0, which means something else."""
    if deadline == inf:
        return None
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError("the time is up")
    return seconds


# --- the stream --------------------------------------------------------------------------------


class _Stream:
    """A TCP connection. What takes longer than its deadline raises TimeoutError."""

    __slots__ = ("_socket",)

    def __init__(self, connection: socket.socket | None = None) -> None:
        self._socket = connection

    def connect(self, host: str, port: int, timer: Timer, end: float) -> str:
        """Try the host's addresses one after the other, each with the timer's seconds.

        Returns the address of our end. Raises OSError, which says what became of each.
        """
        failures: list[OSError] = []
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            self.close()
            self._socket = socket.socket(family, kind, protocol)
            try:
                self._socket.settimeout(_seconds_until(_deadline(timer, end)))
                self._socket.connect(address)
                _send_at_once(self._socket)
                return str(self._socket.getsockname()[0])
            except OSError as error:
                failures.append(error)
        raise connect_error(failures)

    def send(self, data: Octets, deadline: float) -> None:
        """Write all of `data`."""
        connection = self._connection()
        connection.settimeout(_seconds_until(deadline))
        connection.sendall(data)

    def receive(self, deadline: float) -> bytes:
        """Wait for octets; b"": the peer has ended the stream."""
        connection = self._connection()
        connection.settimeout(_seconds_until(deadline))
        return connection.recv(_RECEIVE)

    def close(self) -> None:
        """End the connection at once, also under another thread that waits for it."""
        connection, self._socket = self._socket, None
        if connection is not None:
            with suppress(OSError):  # it may have ended by itself
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionAbortedError("the connection has been closed on this side")
        return self._socket


def _send_at_once(connection: socket.socket) -> None:
    """Without it, a small piece may wait until the peer has acknowledged the one before."""
    with suppress(OSError):  # it may have ended already
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
