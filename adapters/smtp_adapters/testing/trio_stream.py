"""A stream in memory as trio knows streams.

Knows trio, and streams in memory. Must not know what is said over them.
"""

from __future__ import annotations

import trio

from smtp_proto.testing import Stream
from smtp_proto.wire import Octets

_RECEIVE = 65_536  # octets at a time, where nobody says how many


class TrioStream(trio.abc.Stream):
    """A stream in memory, such as a ScriptedPeer, for code that wants one of trio's.

    What comes with a delay comes later by trio's clock, and the stream's clock goes on by as much.
    What goes wrong is a trio.BrokenResourceError, whose cause is the OSError.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def send_all(self, data: Octets) -> None:
        """Write all of `data`."""
        await trio.lowlevel.checkpoint()
        try:
            self._stream.write(data)
        except BlockingIOError:
            await trio.sleep_forever()
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for nothing."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for octets; b"": the end."""
        await trio.lowlevel.checkpoint()
        clock = self._stream.clock
        try:
            while (octets := self._stream.read(max_bytes or _RECEIVE)) is None:
                moment = self._stream.arrives
                await trio.sleep(moment - clock.now)
                clock.reach(moment)
        except OSError as error:
            raise trio.BrokenResourceError from error
        return octets

    async def aclose(self) -> None:
        """End the stream in both directions."""
        self._stream.close()
        await trio.lowlevel.checkpoint()
