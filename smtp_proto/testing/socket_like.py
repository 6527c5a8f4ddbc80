"""A stream in memory as code that blocks knows streams.

Knows what a socket calls things. Must not know sockets.
"""

from __future__ import annotations

from math import inf

from smtp_proto.testing.clock import Stream, StuckError
from smtp_proto.wire import Octets


class SocketLike:
    """A stream like a socket that blocks. It takes no time: what would, lets the clock go on."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._timeout: float | None = None

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

    def recv(self, maximum: int) -> bytes:
        """Wait for octets; b"": the end. Raises OSError."""
        while (data := self._stream.read(maximum)) is None:
            self._wait(self._stream.arrives)
        return data

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
