"""Streams that the caller has opened: each serves for one connection.

Knows sockets, and trio's own streams. Must not know where they lead to.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from smtp_adapters.reach import closed_here, own_address, used_up
from smtp_adapters.trio.loop import Verbs
from smtp_adapters.trio.stream import RECEIVE, Stream
from smtp_proto.flow import Connect
from smtp_proto.wire import Octets
from smtp_proto.wire.errors import kind_of


def given_stream(stream: object) -> Verbs:
    """The verbs for a stream that was given. Raises TypeError for what is none."""
    match stream:
        case socket.socket(type=socket.SOCK_STREAM) if type(stream) is socket.socket:
            return GivenSocket(stream)
        case trio.abc.Stream():
            return GivenStream(stream)
        case _:
            raise TypeError(
                f"stream is a plain connected socket, or a trio.abc.Stream, not {kind_of(stream)}"
            )


class GivenSocket(Stream):
    """A plain socket."""

    __slots__ = ("_given",)

    def __init__(self, given: socket.socket) -> None:
        super().__init__()
        self._given: socket.socket | None = given

    async def connect(self, action: Connect) -> str | None:  # noqa: ARG002 - it is there
        """Begin to use it; returns the IP address of our end. Raises OSError the second time."""
        self.abort()
        if self._given is None:
            raise used_up()
        self._socket, self._given = self._given, None
        self._socket.setblocking(False)
        return own_address(self._socket.getsockname())


class GivenStream:
    """A stream of trio's, or one that is like it."""

    def __init__(self, given: trio.abc.Stream) -> None:
        self._given: trio.abc.Stream | None = given
        self._stream: trio.abc.Stream | None = None

    async def connect(self, action: Connect) -> None:  # noqa: ARG002 - it is there
        """Begin to use it. Raises OSError the second time."""
        await self.close()
        if self._given is None:
            raise used_up()
        self._stream, self._given = self._given, None

    async def send(self, data: Octets) -> None:
        """Write all of `data`."""
        try:
            await self._open_stream().send_all(data)
        except trio.BrokenResourceError as error:
            raise _broken(error) from error

    async def receive(self) -> Octets:
        """Wait for octets; b"": the peer has ended the stream."""
        try:
            return await self._open_stream().receive_some(RECEIVE)
        except trio.BrokenResourceError as error:
            raise _broken(error) from error

    def overheard(self) -> None:
        """Nothing: it cannot be asked without waiting."""

    async def close(self) -> None:
        """End the connection at once, also under another task that waits for it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            # A cancellation of the caller's waits until it is closed.
            with trio.CancelScope(shield=True) as forcefully, suppress(Exception):
                forcefully.cancel()
                await stream.aclose()

    def _open_stream(self) -> trio.abc.Stream:
        if self._stream is None:
            raise closed_here()
        return self._stream


def _broken(error: trio.BrokenResourceError) -> OSError:
    return ConnectionError(str(error.__cause__ or error) or "the stream is broken")
