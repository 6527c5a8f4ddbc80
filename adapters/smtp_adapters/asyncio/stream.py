"""A connection on a socket, as the loop wants it: connect, send, receive, close.

Knows transports and the event loop. Must not know what goes to and fro.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from math import inf
from typing import cast

from smtp_adapters.asyncio.reach import connect
from smtp_adapters.reach import TimeIsUp, closed_here, own_address
from smtp_proto.flow import Connect
from smtp_proto.wire import Octets

RECEIVE = 65_536  # octets taken from the socket at a time
_HELD = 262_144  # octets that wait for us before reading pauses
_TURN = 4_096  # octets that may be sent before others get their turn


class Stream(asyncio.BufferedProtocol):
    """A connection on a socket: what comes is kept until it is asked for, and reading pauses then.

    One alarm watches over all that is waited for: setting a timer for each wait takes longer than
    the rest of it.
    """

    def __init__(self, accepted: Callable[[Stream], None] | None = None) -> None:
        self._accepted = accepted
        self._buffer = memoryview(bytearray(RECEIVE))
        self._alarm: asyncio.TimerHandle | None = None
        self._deadline = inf
        self.peer = ""
        self._forget()

    def _forget(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._ended = False  # nothing more will come
        self._error: OSError | None = None
        self._gone = asyncio.Event()  # nothing is left of the connection, or there was none yet
        self._gone.set()
        self._waiter: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._sent = 0  # octets since others had their turn

    async def connect(self, action: Connect) -> str | None:
        """Open a connection to where the action says; returns the IP address of our end."""
        await self.close()
        return await self._take_over(await connect(action))

    async def _take_over(self, connection: socket.socket) -> str | None:
        """Make a socket that is connected ready for the other verbs."""
        self._forget()
        self._gone.clear()
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self, sock=connection)
        return own_address(transport.get_extra_info("sockname"))

    async def send(self, data: Octets, deadline: float) -> None:
        """Write all of `data`."""
        if self._sent >= _TURN:
            self._sent = 0
            await asyncio.sleep(0)  # others get their turn, and what the peer says is heard
        transport = self._transport
        if transport is None or self._gone.is_set():
            raise self._error or closed_here()
        self._sent += len(data)
        transport.write(data)
        while self._writing_paused and not self._gone.is_set():
            await self._wait(deadline)
        if transport.is_closing():
            await self._gone.wait()
            raise self._error or closed_here()

    async def receive(self, deadline: float) -> Octets:
        """Wait for octets; b"": the peer has ended the stream."""
        while True:
            data = self._take()
            if data is not None:
                return data
            await self._wait(deadline)

    def overheard(self) -> Octets | None:
        """What has come though nobody waited for it; b"": the stream has ended; None: nothing."""
        try:
            return self._take()
        except OSError:
            return b""  # it has been cut

    def _take(self) -> Octets | None:
        """What has come; b"": the stream has ended; None: nothing. Raises OSError if it is cut."""
        if self._received:
            data, self._received = self._received, bytearray()
            if self._reading_paused and self._transport is not None:
                self._reading_paused = False
                self._transport.resume_reading()
            return data
        if not self._ended:
            return None
        if self._error is not None:
            raise self._error
        return b""

    async def _wait(self, deadline: float) -> None:
        """Wait until something happens. Raises TimeIsUp at the deadline, and behind it."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            raise TimeIsUp
        self._sent = 0
        self._deadline = deadline
        if deadline < (inf if self._alarm is None else self._alarm.when()):
            self._set_alarm(loop)
        self._waiter = loop.create_future()
        await self._waiter

    def _set_alarm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_at(self._deadline, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        if self._waiter is None or self._waiter.done():
            return
        if loop.time() >= self._deadline:
            self._waiter.set_exception(TimeIsUp())
        elif self._deadline < inf:
            self._set_alarm(loop)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def interrupt(self) -> None:
        """End a wait for octets by InterruptedError; the connection lives on."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(InterruptedError())

    def refuse(self, data: bytes) -> None:
        """Say one thing and close."""
        if self._transport is not None:
            self._transport.write(data)
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once, also under another task that waits for it."""
        if self._transport is not None and not self._transport.is_closing():
            self._error = closed_here()
            self._transport.abort()

    async def close(self) -> None:
        """End the connection at once, and wait until nothing is left of it."""
        self.abort()
        await self._gone.wait()  # also where it was not made yet, and asyncio ends it

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = transport = cast("asyncio.Transport", transport)
        self._gone.clear()
        transport.set_write_buffer_limits(high=0)  # what was sent is out, or there is an error
        if self._accepted is not None:
            self.peer = str((transport.get_extra_info("peername") or ("",))[0])
            self._accepted(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the size is ours
        """Where octets that come are to be put."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Octets have come."""
        self._received += self._buffer[:nbytes]
        if len(self._received) > _HELD and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The peer has ended its side; ours stays open until the flow is done."""
        self._ended = True
        self._wake()
        return True

    def pause_writing(self) -> None:
        """The system takes no more for now."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """All has been written."""
        self._writing_paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if exc is not None and self._error is None:
            self._error = exc if isinstance(exc, OSError) else OSError(str(exc))
        self._ended = True
        self._gone.set()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._wake()
