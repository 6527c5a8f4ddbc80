"""A stream in memory as asyncio's own reader and writer.

Knows asyncio's transports, and streams in memory. Must not know what is said over them.
"""

from __future__ import annotations

import asyncio
from math import inf

from smtp_proto.testing import Stream
from smtp_proto.wire import Octets


def asyncio_streams(stream: Stream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a reader and a writer for a stream in memory, such as a ScriptedPeer.

    Call it in a running loop. What comes with a delay comes later by the loop's time, and the
    stream's clock goes on by as much.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = _Transport(stream, protocol, loop)
    protocol.connection_made(transport)
    transport.look()
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _Transport(asyncio.Transport):
    """Gives to the protocol what arrives, and to the stream what is written."""

    def __init__(
        self,
        stream: Stream,
        protocol: asyncio.StreamReaderProtocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._loop = loop
        self._closing = False
        self._ended = False
        self._waiting: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Take all that has arrived, and look again when more does."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        clock = self._stream.clock
        while not self._ended and self._stream.arrives <= clock.now:
            self._take()
        moment = inf if self._ended else self._stream.arrives
        if moment < inf:
            self._waiting = self._loop.call_later(moment - clock.now, self._reach, moment)

    def _reach(self, moment: float) -> None:
        self._stream.clock.reach(moment)
        self.look()

    def _take(self) -> None:
        try:
            octets = self._stream.read()
        except OSError as error:
            self._ended = True
            # On a later turn, as a kernel's: a write whose octets were taken has succeeded.
            self._loop.call_soon(self._lose, error)
            return
        if octets:
            self._protocol.data_received(octets)
        elif octets is not None:
            self._ended = True
            self._protocol.eof_received()

    def _lose(self, error: OSError | None) -> None:
        if not self._closing:
            self._ended = self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    def write(self, data: Octets) -> None:
        """Write all of `data`."""
        if self._closing:
            return
        try:
            self._stream.write(data)
        except BlockingIOError:
            self._protocol.pause_writing()
        except OSError as error:
            self._lose(error)
        else:
            self.look()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: what is written has gone, or never goes."""

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing

    def close(self) -> None:
        """End the stream in both directions."""
        if not self._closing:
            self._stream.close()
            self._lose(None)

    def abort(self) -> None:
        """End the stream in both directions."""
        self.close()
