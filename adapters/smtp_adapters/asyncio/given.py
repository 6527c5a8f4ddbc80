"""Streams that the caller has opened: each serves for one connection.

Knows sockets, and asyncio's own streams. Must not know where they lead to.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from smtp_adapters.asyncio.loop import Verbs, until
from smtp_adapters.asyncio.stream import RECEIVE, Stream
from smtp_adapters.reach import closed_here, own_address, used_up
from smtp_proto.flow import Connect
from smtp_proto.wire import Octets
from smtp_proto.wire.errors import kind_of


def given_stream(stream: object) -> Verbs:
    """The verbs for a stream that was given. Raises TypeError for what is none."""
    match stream:
        case socket.socket(type=socket.SOCK_STREAM) if type(stream) is socket.socket:
            return GivenSocket(stream)
        case (asyncio.StreamReader() as reader, asyncio.StreamWriter() as writer):
            return GivenPair(reader, writer)
        case _:
            raise TypeError(
                "stream is a plain connected socket, or a StreamReader with its StreamWriter, "
                f"not {kind_of(stream)}"
            )


class GivenSocket(Stream):
    """A plain socket."""

    def __init__(self, given: socket.socket) -> None:
        super().__init__()
        self._given: socket.socket | None = given

    async def connect(self, action: Connect) -> str | None:  # noqa: ARG002 - it is there
        """Begin to use it; returns the IP address of our end. Raises OSError the second time."""
        await self.close()
        if self._given is None:
            raise used_up()
        connection, self._given = self._given, None
        return await self._take_over(connection)


class GivenPair:
    """A reader and a writer, as asyncio.open_connection() returns them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_used = False
        self._is_closed = False

    async def connect(self, action: Connect) -> str | None:  # noqa: ARG002 - it is there
        """Begin to use it; returns the IP address of our end. Raises OSError the second time."""
        if self._is_used:
            await self.close()
            raise used_up()
        self._is_used = True
        self._writer.transport.set_write_buffer_limits(high=0)  # drain() waits until all is out
        return own_address(self._writer.get_extra_info("sockname"))

    async def send(self, data: Octets, deadline: float) -> None:
        """Write all of `data`."""
        self._require_open()
        self._writer.write(data)
        await until(deadline, self._writer.drain())

    async def receive(self, deadline: float) -> Octets:
        """Wait for octets; b"": the peer has ended the stream."""
        data = await until(deadline, self._reader.read(RECEIVE))
        if not data:
            self._require_open()
        return data

    def overheard(self) -> Octets | None:
        """b"": the stream has ended. What else has come cannot be told without waiting."""
        return b"" if self._reader.at_eof() else None

    async def close(self) -> None:
        """End the connection at once, also under another task that waits for it."""
        if self._is_used:
            self._is_closed = True
            self._writer.transport.abort()
            with suppress(Exception):  # what has ended it before
                await self._writer.wait_closed()

    def _require_open(self) -> None:
        if self._is_closed:
            raise closed_here()
