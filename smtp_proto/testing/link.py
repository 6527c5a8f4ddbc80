"""A byte stream in memory, whose cuts, delays and faults are under the test's control.

Knows octets and moments. Must not know what the octets say.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from math import inf
from typing import Generic, TypeAlias, TypeVar

from smtp_proto.flow.flow import Flow
from smtp_proto.testing.clock import Clock, perform
from smtp_proto.testing.given import A_CALLABLE, check_count, check_number, check_type
from smtp_proto.wire import Octets

T = TypeVar("T")

Cut: TypeAlias = Callable[[bytes], Iterable[bytes]]
"""Cuts octets that were written together into the pieces that are read one by one."""

# --- Cuts ------------------------------------------------------------------------------------


def whole(octets: bytes) -> Iterable[bytes]:
    """Cut nowhere."""
    return (octets,)


def in_pieces(size: int) -> Cut:
    """Return a cut into pieces of `size` octets, and what is left."""
    return lambda octets: (octets[i : i + size] for i in range(0, len(octets), size))


octet_by_octet: Cut = in_pieces(1)
"""Cut everywhere."""


def cut_at(*places: int) -> Cut:
    """Return a cut at these places, for one direction of one stream.

    A place is a number of octets from the beginning of the stream.
    """
    written = 0

    def cut(octets: bytes) -> Iterable[bytes]:
        nonlocal written
        inside = sorted(place - written for place in places if 0 < place - written < len(octets))
        written += len(octets)
        ends = (*inside, len(octets))
        return [octets[start:end] for start, end in zip((0, *inside), ends, strict=True)]

    return cut


# --- One direction ---------------------------------------------------------------------------


class Fault(Enum):
    """What can happen to a stream in the middle."""

    DROP = "drop"
    """It ends, without a word."""
    RESET = "reset"
    """It breaks, in both directions."""
    SILENCE = "silence"
    """It stays open, and nothing comes any more."""
    STALL = "stall"
    """Likewise; and nothing is read any more: a write does not come to its end."""
    SPLIT = "split"
    """From here on the octets come one by one."""
    DRIP = "drip"
    """From here on they come one by one, with a minute before each."""
    CLOSING = "421"
    """The server says 421 in place of the rest, and the stream ends. RFC 5321 3.8"""
    GARBAGE = "garbage"
    """Octets that mean nothing come in place of the rest, and the stream ends."""


def check_fault(fault: object) -> None:
    """Raise TypeError if it is none."""
    check_type("fault", fault, Fault, "a Fault, as Fault.DROP")


DRIP_SECONDS = 60.0
"""How long a dripping peer takes for each octet."""

_LAST_WORDS = {Fault.CLOSING: b"421 4.3.2 Closing\r\n", Fault.GARBAGE: b"\x00\xff\xfe?\r\n"}


class Course:
    """One direction of a stream: octets are put in, and can be taken out when they arrive.

    `cut`: how they are cut. `delay`: seconds before each piece. `seal`: what TLS makes of them.
    `stopped`: the fault behind which nothing comes any more, once it has struck. `abandoned`:
    whether nobody is left to take them.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._cut: Cut = whole
        self._delay = 0.0
        self.seal: Callable[[bytes], bytes] = bytes
        self.stopped: Fault | None = None
        self.abandoned = False
        self._planned: deque[tuple[int, Fault]] = deque()
        self._octets = 0  # that were put in
        self._pieces: deque[tuple[float, bytes, bool]] = deque()  # when, what, whether it is raw
        self._last = clock.now  # when the last piece arrives

    @property
    def cut(self) -> Cut:
        """How octets are cut. Raises TypeError if it is set to what cannot be called."""
        return self._cut

    @cut.setter
    def cut(self, cut: Cut) -> None:
        check_type("cut", cut, A_CALLABLE, "a callable, as in_pieces(3)")
        self._cut = cut

    @property
    def delay(self) -> float:
        """Seconds before each piece. Raises TypeError or ValueError if it is set to no such."""
        return self._delay

    @delay.setter
    def delay(self, delay: float) -> None:
        check_number("delay", delay, lowest=0)
        self._delay = delay

    def strike_after(self, octets: int, fault: Fault) -> None:
        """Plan a fault behind so many octets, counted from the beginning of the stream.

        Raises ValueError if more of them have been written already, or octets is negative.
        """
        check_fault(fault)
        check_count("octets", octets)
        if octets < self._octets:
            raise ValueError(f"{self._octets} octets have been written already, not {octets}")
        self._planned = deque(sorted((*self._planned, (octets, fault)), key=lambda plan: plan[0]))
        self._strike_what_is_due()

    def strike(self, fault: Fault) -> None:
        """Let a fault happen now."""
        check_fault(fault)
        match fault:
            case Fault.SPLIT:
                self.cut = octet_by_octet
            case Fault.DRIP:
                self.cut = octet_by_octet
                self.delay = DRIP_SECONDS
            case Fault.CLOSING | Fault.GARBAGE:
                self._schedule(self.seal(_LAST_WORDS[fault]))
                self.stopped = Fault.DROP
            case _:
                self.stopped = fault

    def put(self, data: Octets) -> None:
        """Put octets on their way; behind a fault that stops the stream they are lost."""
        octets = bytes(data)
        while octets:
            due = self._planned[0][0] - self._octets if self._planned else len(octets)
            first, octets = octets[:due], octets[due:]
            self._octets += len(first)
            self._schedule(self.seal(first))
            self._strike_what_is_due()

    def put_raw(self, octets: bytes) -> None:
        """Put octets on their way that are not sealed and do not count."""
        self._schedule(octets, raw=True)

    def pause(self, seconds: float) -> None:
        """Let the next octets set out so many seconds later."""
        check_number("seconds", seconds, lowest=0)
        self._last = max(self._last, self.clock.now) + seconds

    @property
    def arrives(self) -> float:
        """The moment at which there is something to take; inf: nothing is on its way."""
        if self._pieces:
            return self._pieces[0][0]
        return self._last if self.stopped in (Fault.DROP, Fault.RESET) else inf

    def take(self, maximum: int) -> bytes | None:
        """Take one piece, b"" at the end; None: nothing yet. Raises ConnectionResetError."""
        if self.arrives > self.clock.now:
            return None
        if not self._pieces:
            if self.stopped is Fault.RESET:
                raise _reset_by_peer()
            return b""
        moment, piece, raw = self._pieces.popleft()
        if len(piece) > maximum:
            self._pieces.appendleft((moment, piece[maximum:], raw))
        return piece[:maximum]

    @property
    def all_taken(self) -> bool:
        """Whether all octets that were put in have been taken; raw ones do not count."""
        return all(raw for _, _, raw in self._pieces)

    def has_come_to(self, fault: Fault) -> bool:
        """Whether this fault has stopped the stream, and all before it has arrived."""
        return self.stopped is fault and self.clock.now >= self._last

    def check_writable(self) -> None:
        """Raise the error of a write to a stream that a fault in this direction has broken."""
        if self.has_come_to(Fault.RESET):
            raise _reset_by_peer()
        if self.has_come_to(Fault.STALL):
            raise BlockingIOError(errno.EAGAIN, "the other end does not read")

    def _strike_what_is_due(self) -> None:
        while self._planned and self._planned[0][0] == self._octets:
            self.strike(self._planned.popleft()[1])

    def _schedule(self, octets: bytes, *, raw: bool = False) -> None:
        if self.stopped is not None:
            return
        for piece in filter(None, self.cut(octets)):  # no octets would be the end
            self._last = max(self._last, self.clock.now) + self.delay
            self._pieces.append((self._last, piece, raw))


def _reset_by_peer() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


# --- Both directions -------------------------------------------------------------------------


class End:
    """One end of a link: a `Stream`."""

    def __init__(self, outgoing: Course, incoming: Course) -> None:
        self.clock = outgoing.clock
        self._outgoing = outgoing
        self._incoming = incoming
        self._closed = False
        self._write_closed = False

    @property
    def arrives(self) -> float:
        """The moment at which there is something to read; inf: nothing is on its way."""
        if self._outgoing.has_come_to(Fault.RESET):
            return min(self._incoming.arrives, self.clock.now)
        return self._incoming.arrives

    def write(self, data: Octets) -> None:
        """Write all of `data`. Raises OSError; BlockingIOError where the other end has stalled."""
        self._check_open()
        if self._write_closed or self._outgoing.abandoned:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        self._outgoing.put(data)
        self._outgoing.check_writable()
        self._incoming.check_writable()

    def read(self, maximum: int = 65_536) -> bytes | None:
        """Take what has arrived, b"" at the end; None: nothing yet. Raises OSError."""
        self._check_open()
        octets = self._incoming.take(maximum)
        if octets is None and self._outgoing.has_come_to(Fault.RESET):
            raise _reset_by_peer()
        return octets

    def close_write(self) -> None:
        """End what goes out, and go on reading."""
        self._write_closed = True
        if self._outgoing.stopped is None:
            self._outgoing.strike(Fault.DROP)

    def close(self) -> None:
        """End both directions: the other end may read to the end, and its writes fail."""
        self.close_write()
        self._closed = self._incoming.abandoned = True

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionAbortedError(errno.ECONNABORTED, "this end has been closed")


class Link:
    """A stream in memory, with an end for a client and one for a server.

    `to_client` and `to_server` are its two directions: give them cuts, delays and faults.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.to_client = Course(clock)
        self.to_server = Course(clock)
        self.client = End(outgoing=self.to_server, incoming=self.to_client)
        self.server = End(outgoing=self.to_client, incoming=self.to_server)


class FlowPeer(Generic[T]):
    """The client's end of a link whose other end a server's flow holds: a `Stream`.

    The flow is carried out whenever this end is used, so that a client's flows can be carried out
    against it one after the other, without a thread. `link`: give it cuts, delays and faults.
    `over`: whether the flow has come to its end; `result`: what came of it then.
    """

    result: T

    def __init__(self, flow: Flow[T], clock: Clock) -> None:
        self.clock = clock
        self.link = Link(clock)
        self.over = False
        self._performance = perform(flow, self.link.server)
        self._wakes = clock.now

    @property
    def arrives(self) -> float:
        """When to read: something has come then, or the flow has found the client too slow."""
        self._go_on()
        return min(self._wakes, self.link.client.arrives)

    def write(self, data: Octets) -> None:
        """Write all of `data`. Raises OSError, or what the flow raises."""
        self._go_on()
        self.link.client.write(data)

    def read(self, maximum: int = 65_536) -> bytes | None:
        """Take what has arrived, b"" at the end; None: nothing yet. Raises OSError."""
        self._go_on()
        return self.link.client.read(maximum)

    def close(self) -> None:
        """Hang up, and let the flow come to its end if it can."""
        self.link.client.close()
        self._go_on()

    def _go_on(self) -> None:
        if self.over:
            return
        try:
            self._wakes = next(self._performance)
        except StopIteration as stop:
            self.over = True
            self.result = stop.value
            self._wakes = inf
