"""The testing kit in the three worlds, under a clock that nobody waits for.

Knows how each world is run, and what each has for a stream, a task and a clock.
Must not know SMTP.
"""

from __future__ import annotations

import asyncio
import errno
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Protocol, cast

import trio
import trio.testing

import smtp_adapters.asyncio.given
import smtp_adapters.asyncio.loop
import smtp_adapters.socket.given
import smtp_adapters.socket.loop
import smtp_adapters.trio.given
import smtp_adapters.trio.loop
from smtp_adapters.testing import asyncio_streams
from smtp_adapters.testing.trio_stream import TrioStream
from smtp_proto.flow import Connect, Flow, Phase, Timer
from smtp_proto.testing import Clock, Fault, SocketLike, Stream
from smtp_proto.wire import Octets
from tests.adapters.worlds import ASYNCIO, SOCKET, TRIO, Client, World

Main = Callable[[], Coroutine[object, object, None]]

MOMENT = 0.001  # seconds on the way: what comes is never there before a write has returned
CONNECT = Connect("mx.example.org", 25, Timer(Phase.CONNECT, 60.0))

# --- Time ----------------------------------------------------------------------------------------

clock_of_sockets = Clock()
"""What blocking code takes for the time: the streams of a test go by it."""


class _Skipping(selectors.SelectSelector):
    """Waits for nothing: the time passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now += max(timeout, 0.0)
        return ready


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once. `complaints`: what nobody else was told."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)
        self.complaints: list[str] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(str(context)))

    def time(self) -> float:
        return self._skipping.now


def _run_asyncio(main: Main) -> None:
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(main())
        loop = runner.get_loop()
    assert isinstance(loop, SkippingLoop)
    assert loop.complaints == []


def _run_trio(main: Main) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# --- Streams -------------------------------------------------------------------------------------


class Wire:
    """A stream that breaks behind so many octets, either way. It counts what passes.

    `reads`, `writes`: how many may pass, and `fault` what happens then. What is written behind a
    DROP or a SILENCE is lost, but the client is not told: so does a system with room in its buffer.

    `written` and `read_so_far`: octets; `closed`: whether our side has closed it; `lost`: whether
    it was told that there is nothing left to close.
    """

    def __init__(
        self,
        inner: Stream,
        *,
        reads: float = inf,
        writes: float = inf,
        fault: Fault = Fault.DROP,
    ) -> None:
        self._inner = inner
        self._reads = reads
        self._writes = writes
        self._fault = fault
        self._breaks = inf  # when it is noticed
        self.written = 0
        self.read_so_far = 0
        self.closed = False
        self.lost = False
        self._note()

    @property
    def clock(self) -> Clock:
        return self._inner.clock

    @property
    def broken(self) -> bool:
        return self.read_so_far >= self._reads or self.written >= self._writes

    def _note(self) -> None:
        if self.broken and self._fault in (Fault.DROP, Fault.RESET):
            self._breaks = min(self._breaks, self.clock.now + MOMENT)

    @property
    def _has_more(self) -> bool:
        """Whether something comes that was said before the break."""
        return self.read_so_far < self._reads and self._inner.arrives < inf

    @property
    def arrives(self) -> float:
        if not self.broken or self._has_more:
            return self._inner.arrives
        return self._breaks

    def break_off(self) -> None:
        """Break now."""
        self._writes = self.written
        self._note()

    def write(self, data: Octets) -> None:
        if self.closed:
            raise ConnectionAbortedError(errno.ECONNABORTED, "this end has been closed")
        with self._noting_loss():
            self._write(bytes(data))

    def _write(self, octets: bytes) -> None:
        if not self.broken:
            passing = octets[: int(min(self._writes - self.written, len(octets)))]
            self._inner.write(passing)
            self.written += len(passing)
            self._note()
            octets = octets[len(passing) :]
        if not octets:
            return
        if self._fault is Fault.RESET:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        if self._fault is Fault.STALL:
            raise BlockingIOError(errno.EAGAIN, "the other end does not read")
        self.written += len(octets)

    def read(self, maximum: int = 65_536) -> bytes | None:
        if self.closed:
            raise ConnectionAbortedError(errno.ECONNABORTED, "this end has been closed")
        with self._noting_loss():
            return self._read(maximum)

    def _read(self, maximum: int) -> bytes | None:
        if self.broken and not self._has_more:
            if self.clock.now < self._breaks:
                return None
            if self._fault is Fault.RESET:
                raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
            return b""
        octets = self._inner.read(int(min(maximum, self._reads - self.read_so_far)))
        self.read_so_far += len(octets or b"")
        self._note()
        return octets

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        try:
            yield
        except ConnectionError:
            self.lost = True
            raise

    def close(self) -> None:
        self.closed = True
        self._inner.close()


class Verbs(Protocol):
    """What a world's loop wants of a stream; in the blocking world these are no coroutines."""

    def connect(self, action: Connect, *more: float) -> object: ...
    def send(self, data: Octets, *more: float) -> object: ...
    def receive(self, *more: float) -> object: ...
    def overheard(self) -> Octets | None: ...
    def close(self) -> object: ...


# --- Worlds --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kit:
    """One world with streams in memory."""

    world: World
    run: Callable[[Main], None]
    """Run something by the clock that nobody waits for."""
    given: Callable[[Stream], object]
    """A stream in memory, as the world has streams."""
    verbs: Callable[[object], object]
    now: Callable[[], float]
    tasks: Callable[[], int]
    """How many tasks there are."""
    carries_out: Callable[..., object]

    def client(self, wire: Stream, **settings: object) -> Client:
        kind: Callable[..., Client] = self.world.client
        return kind("mx.example.org", stream=self.given(wire), **settings)

    def prepare(self, client: Client, wire: Stream) -> None:
        """Give the client another stream for its next open()."""
        blocking: Client = getattr(client, "_blocking", client)
        blocking._prepare(self.given(wire))

    async def carry_out(
        self, flow: Flow[None], wire: Stream, around: Callable[[object], object] = lambda it: it
    ) -> None:
        """Carry out a server's flow with the loop of the world; the stream is closed behind it.

        `around`: what to put around the verbs of the stream.
        """
        verbs = cast("Verbs", around(self.verbs(self.given(wire))))
        await done(verbs.connect(CONNECT) if self.world.awaits else verbs.connect(CONNECT, inf))
        try:
            await done(self.carries_out(flow, verbs))
        finally:
            await done(verbs.close())

    async def settled(self) -> None:
        """Let whatever is under way come to its end."""
        if self.world.awaits:
            for _ in range(5):
                await self.world.checkpoint()


async def done(outcome: object) -> object:
    """Wait for it where it has to be waited for."""
    return (await outcome) if isinstance(outcome, Awaitable) else outcome


KITS = (
    Kit(
        SOCKET,
        SOCKET.run,
        SocketLike,
        smtp_adapters.socket.given.given_stream,
        lambda: clock_of_sockets.now,
        lambda: 0,
        smtp_adapters.socket.loop.carry_out,
    ),
    Kit(
        ASYNCIO,
        _run_asyncio,
        asyncio_streams,
        smtp_adapters.asyncio.given.given_stream,
        lambda: asyncio.get_running_loop().time(),
        lambda: len(asyncio.all_tasks()),
        smtp_adapters.asyncio.loop.carry_out,
    ),
    Kit(
        TRIO,
        _run_trio,
        TrioStream,
        smtp_adapters.trio.given.given_stream,
        trio.current_time,
        lambda: trio.lowlevel.current_statistics().tasks_living,
        smtp_adapters.trio.loop.carry_out,
    ),
)


def case_clock(kit: Kit) -> Clock:
    """The clock of a new stream: where nothing else tells the time, it is the world's."""
    return Clock() if kit.world.awaits else clock_of_sockets
