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
_LARGE = 65_536  # octets in a Send before which others get their turn


class Stream:
    """A connection, on a plain socket that does not block: trio's own pause where none is due.

    Others get their turn whenever we wait for octets, and before each large piece that we send.
    """

    __slots__ = ("_socket", "gone")

    def __init__(self, connection: socket.socket | None = None) -> None:
        self._socket = connection
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
