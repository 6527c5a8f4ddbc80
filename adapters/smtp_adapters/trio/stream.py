"""A connection on a socket, as the loop wants it: connect, send, receive, close.

Knows plain sockets, and when others get their turn. Must not know what goes to and fro.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from smtp_adapters.reach import closed_here, own_address
from smtp_adapters.trio.reach import connect
from smtp_proto.flow import Connect
from smtp_proto.wire import Octets

RECEIVE = 65_536  # octets taken from the socket at a time
_TURN = 4_096  # octets that may be sent before others get their turn


class Stream:
    """A connection, on a plain socket that does not block: trio's own pause where none is due.

    Others get their turn whenever we wait for octets, and whenever we have sent many.
    """

    __slots__ = ("_sent", "_socket", "gone")

    def __init__(self, connection: socket.socket | None = None) -> None:
        self._socket = connection
        self._sent = 0  # octets since others had their turn
        self.gone = trio.Event()

    @property
    def peer(self) -> str:
        """The IP address at the other end; "" if nobody is there any more."""
        with suppress(OSError):
            return own_address(self._connection().getpeername()) or ""
        return ""

    async def connect(self, action: Connect) -> str | None:
        """Open a connection to where the action says; returns the IP address of our end."""
        self.abort()
        self._socket = connection = await connect(action)
        return own_address(connection.getsockname())

    async def send(self, data: Octets) -> None:
        """Write all of `data`."""
        if self._sent >= _TURN:
            self._sent = 0
            await trio.lowlevel.checkpoint()
        connection = self._connection()
        self._sent += len(data)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[connection.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(connection)

    async def receive(self) -> bytes:
        """Wait for octets; b"": the peer has ended the stream."""
        connection = self._connection()
        self._sent = 0
        while True:
            try:
                await trio.lowlevel.wait_readable(connection)
            except trio.ClosedResourceError:
                if self._socket is connection:
                    raise InterruptedError from None
                raise
            try:
                return connection.recv(RECEIVE)
            except BlockingIOError:
                pass  # it was a false alarm

    def overheard(self) -> bytes | None:
        """What has come though nobody waited for it; b"": the stream has ended; None: nothing."""
        if self._socket is None:
            return None
        try:
            return self._socket.recv(RECEIVE)
        except BlockingIOError:
            return None
        except OSError:
            return b""  # it has been cut

    def interrupt(self) -> None:
        """End a wait for octets by InterruptedError; the connection lives on."""
        if self._socket is not None:
            trio.lowlevel.notify_closing(self._socket)

    def abort(self) -> None:
        """End the connection at once, also under another task that waits for it."""
        connection, self._socket = self._socket, None
        if connection is not None:
            trio.lowlevel.notify_closing(connection)
            with suppress(OSError):
                connection.close()

    async def close(self) -> None:
        """End the connection at once; nobody else gets a turn meanwhile."""
        self.abort()

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise closed_here()
        return self._socket
