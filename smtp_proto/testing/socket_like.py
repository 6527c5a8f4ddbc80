"""A stream in memory as code that blocks knows streams.

Knows what a socket calls things. Must not know sockets.
"""

from __future__ import annotations

from io import BufferedReader, RawIOBase
from math import inf
from typing import Self, cast

from smtp_proto.testing.clock import Stream, StuckError
from smtp_proto.wire import Octets

_SHUT_RDWR = 2  # as in every socket's API


class SocketLike:
    """A stream like a socket that blocks. It takes no time: what would, lets the clock go on.

    It closes the stream at the end of a `with`.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._timeout: float | None = None
        self._shut_down = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def settimeout(self, seconds: float | None) -> None:
        """Let each call from now on take so many seconds at most; None: as long as it likes."""
        self._timeout = seconds

    def send(self, data: Octets) -> int:
        """Write all of `data`; return how many octets that are. Raises OSError."""
        try:
            self._stream.write(data)
        except BlockingIOError:
            self._wait(inf)
        return memoryview(data).nbytes

    def sendall(self, data: Octets) -> None:
        """Write all of `data`. Raises OSError."""
        self.send(data)

    def recv(self, maximum: int) -> bytes:
        """Wait for octets; b"": the end. Raises OSError."""
        if self._shut_down:
            return b""
        while (data := self._stream.read(maximum)) is None:
            self._wait(self._stream.arrives)
        return data

    def makefile(self, mode: str) -> BufferedReader:
        """Return a file to read from; to close it does not close the stream.

        Raises ValueError for another mode than "rb".
        """
        if mode != "rb":
            raise ValueError(f'mode is "rb", not {mode!r}')
        return BufferedReader(_Incoming(self))

    def shutdown(self, how: int) -> None:
        """End both directions: nothing can be sent any more, and nothing comes.

        Raises ValueError for other than SHUT_RDWR: no stream in memory has to have a half close.
        """
        if how != _SHUT_RDWR:
            raise ValueError(f"how is SHUT_RDWR, which is {_SHUT_RDWR}, not {how!r}")
        self._shut_down = True
        self.close()

    def close(self) -> None:
        """End the stream in both directions."""
        self._stream.close()

    def _wait(self, moment: float) -> None:
        clock = self._stream.clock
        limit = inf if self._timeout is None else clock.now + self._timeout
        if min(moment, limit) == inf:
            raise StuckError("nothing comes, and no timeout was set")
        clock.reach(min(moment, limit))
        if moment > limit:
            raise TimeoutError("timed out")


class _Incoming(RawIOBase):
    """What comes in, as a file."""

    def __init__(self, stream: SocketLike) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = cast("memoryview", buffer)  # BufferedReader gives no other
        octets = self._stream.recv(len(view))
        view[: len(octets)] = octets
        return len(octets)
