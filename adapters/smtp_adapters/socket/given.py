"""Streams that the caller has opened: each serves for one connection.

Knows sockets, and what is like one. Must not know where they lead to.
"""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Protocol, runtime_checkable

from smtp_adapters.reach import TimeIsUp, closed_here, own_address, used_up
from smtp_adapters.socket.stream import LONGEST_WAIT, RECEIVE, Stream, seconds_until
from smtp_proto.flow import Connect
from smtp_proto.wire import Octets
from smtp_proto.wire.errors import kind_of


@runtime_checkable
class SocketLike(Protocol):
    """What can be used like a connected socket."""

    def send(self, data: Octets, /) -> int:
        """Write some octets of `data`; returns how many."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Wait for octets, `size` at most; b"" at the end."""
        ...

    def settimeout(self, value: float | None, /) -> None:
        """Have `send` and `recv` raise TimeoutError after so many seconds; None: never.

        They are seconds of `time.monotonic()`, by which the client counts what is left of a wait.
        """
        ...

    def close(self) -> object:
        """End the connection."""
        ...


def given_stream(stream: object) -> Stream:
    """The verbs for a stream that was given. Raises TypeError for what is none."""
    if type(stream) is socket.socket:
        return GivenSocket(stream)
    if isinstance(stream, SocketLike):
        return GivenObject(stream)  # an SSLSocket, too: it waits for more than its file does
    raise TypeError(
        "stream is a connected socket, or has its send, recv, settimeout and close, "
        f"not {kind_of(stream)}"
    )


class GivenSocket(Stream):
    """A plain socket."""

    __slots__ = ("_given",)

    def __init__(self, given: socket.socket) -> None:
        super().__init__()
        self._given: socket.socket | None = given

    def connect(self, action: Connect, end: float) -> str | None:  # noqa: ARG002 - it is there
        """Begin to use it; returns the IP address of our end. Raises OSError the second time."""
        self.close()
        if self._given is None:
            raise used_up()
        self._socket, self._given = self._given, None
        self._begin(self._socket)
        return own_address(self._socket.getsockname())


class GivenObject(Stream):
    """Something like a socket."""

    __slots__ = ("_given", "_object")

    def __init__(self, given: SocketLike) -> None:
        super().__init__()
        self._given: SocketLike | None = given
        self._object: SocketLike | None = None

    def connect(self, action: Connect, end: float) -> None:  # noqa: ARG002 - it is there
        """Begin to use it. Raises OSError the second time."""
        self.close()
        if self._given is None:
            raise used_up()
        self._object, self._given = self._given, None

    def send(self, data: Octets, deadline: float) -> None:
        """Write all of `data`."""
        rest = memoryview(data)
        while rest:
            with self._until(deadline) as stream:
                rest = rest[stream.send(rest) :]

    def receive(self, deadline: float) -> bytes:
        """Wait for octets; b"": the peer has ended the stream."""
        while True:
            with self._until(deadline) as stream:
                return stream.recv(RECEIVE)

    def overheard(self) -> bytes | None:
        """Nothing: it cannot be asked without waiting."""
        return None

    def close(self) -> None:
        """End the connection."""
        stream, self._object = self._object, None
        if stream is not None:
            with suppress(Exception):  # whatever it raises, nothing depends on it any more
                stream.close()

    @contextmanager
    def _until(self, deadline: float) -> Generator[SocketLike]:
        """Lend the object for one wait. If that was the longest there is, begin another one."""
        if self._object is None:
            raise closed_here()
        seconds = seconds_until(deadline)
        self._object.settimeout(seconds)
        try:
            yield self._object
        except TimeoutError as error:
            if error.errno is not None:  # it is the system's, not ours
                raise
            if seconds != LONGEST_WAIT:
                raise TimeIsUp("timed out") from None
