"""Time under the test's control, and the loop that carries out a flow by it.

Knows actions, deadlines, and what a stream in memory can do. Must not know SMTP.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from math import inf
from typing import Protocol, TypeAlias, TypeVar, assert_never

from smtp_proto.flow.actions import (
    Action,
    Ask,
    Connect,
    Content,
    Done,
    Receive,
    Resolve,
    Send,
    Timer,
)
from smtp_proto.flow.flow import Flow
from smtp_proto.testing.given import check_number
from smtp_proto.wire import Octets

T = TypeVar("T")
Answer = TypeVar("Answer")

ADDRESS = "192.0.2.1"
"""The one IP address that there is in memory: the near end's, and that of every host."""


class Clock:
    """A clock that stands still until it is told to go on. `now`: its time, in seconds."""

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        check_number("now", now)
        self.now = now

    def advance(self, seconds: float) -> None:
        """Let so many seconds go by. Raises ValueError if they are negative, or not finite."""
        check_number("seconds", seconds, lowest=0)  # time does not go back
        self.now += seconds

    def reach(self, moment: float) -> None:
        """Let it be `moment`, if it is not that late already. Raises ValueError if it never is."""
        check_number("moment", moment)
        self.now = max(self.now, moment)


class Stream(Protocol):
    """A byte stream in memory, as who uses it sees it: nothing ever blocks."""

    @property
    def clock(self) -> Clock:
        """The clock that its delays go by."""
        ...

    @property
    def arrives(self) -> float:
        """When to read: a moment of the clock, perhaps a past one; inf: nothing will come."""
        ...

    def write(self, data: Octets) -> None:
        """Write all of `data`.

        Raises BlockingIOError where that would never come to an end, and other OSErrors.
        """
        ...

    def read(self, maximum: int = ...) -> bytes | None:
        """Take what has arrived, b"" at the end; None: nothing yet. Raises OSError."""
        ...

    def close(self) -> None:
        """End the stream in both directions."""
        ...


class StuckError(AssertionError):
    """Somebody waits for what will never come, and no deadline will end that."""


Connector: TypeAlias = Callable[[Connect], Stream]
"""Makes the stream that a Connect asks for. It may raise OSError, and let time go by."""


def carry_out(
    flow: Flow[T],
    stream: Stream,
    pieces: Iterable[Octets] = (),
    *,
    connect: Connector | None = None,
) -> T:
    """Carry out the flow to its end; return its result, or raise what it raises.

    `pieces`: the content, if the flow asks for it. `connect`: makes the stream for each Connect;
    without it `stream` serves for the first, and a second one fails.

    The stream's clock goes on where the flow waits, to what arrives or to the deadline, whichever
    is first. Raises StuckError where there is neither.
    """
    performance = perform(flow, stream, pieces, connect=connect)
    while True:
        try:
            moment = next(performance)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if moment == inf:
            raise StuckError(f"nothing comes and no deadline strikes: {flow.action}")
        stream.clock.reach(moment)


def perform(
    flow: Flow[T],
    stream: Stream,
    pieces: Iterable[Octets] = (),
    *,
    connect: Connector | None = None,
) -> Generator[float, None, T]:
    """Carry out the flow as far as it goes, time and again: each yield is a wait.

    Yields the moment at which to resume at the latest, inf if only another can end the wait. To
    resume it sooner does no harm.
    """
    stage = _Stage(stream, connect, pieces)
    deadline = _Deadline(stream.clock, flow.total)
    while True:
        action = flow.next_action()
        if isinstance(action, Done):
            if action.close:
                stage.stream.close()
            return action.result
        deadline.begin(action.timer)
        try:
            deadline.check()
            yield from stage.act(flow, action, deadline)
        except _TimeIsUp as time_is_up:
            flow.timed_out(whole=time_is_up.whole)
        except OSError as error:
            flow.failed(error)


class _TimeIsUp(Exception):
    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole = whole


class _Deadline:
    """The end of the present wait, or of the whole flow if that is sooner.

    A wait has one timer, and its end does not move, whatever drips in meanwhile.
    """

    def __init__(self, clock: Clock, total: float | None) -> None:
        self._clock = clock
        self._timer: Timer | None = None
        self._end = self._after(total)
        self.moment = self._end

    def begin(self, timer: Timer) -> None:
        """Take note of the action's timer: another one begins another wait."""
        if timer is not self._timer:
            self._timer = timer
            self.moment = min(self._end, self._after(timer.seconds))

    def check(self) -> None:
        """Raise _TimeIsUp if it is."""
        if self._clock.now >= self.moment:
            raise _TimeIsUp(whole=self.moment == self._end)

    def _after(self, seconds: float | None) -> float:
        return inf if seconds is None else self._clock.now + seconds


class _Stage:
    """Where a flow is carried out: its stream, and its content."""

    def __init__(self, stream: Stream, connect: Connector | None, pieces: Iterable[Octets]) -> None:
        self.stream = stream
        self._connect = connect
        self._pieces = iter(pieces)
        self._connected = False

    def act(self, flow: Flow[T], action: Action, deadline: _Deadline) -> Generator[float]:
        """Do what the flow asks for, and tell it what came of that."""
        match action:
            case Send():
                yield from self._write(action.data, deadline)
            case Receive():
                data = yield from self._read(deadline)
                flow.receive_data(data)
            case Connect():
                self._open(action)
                deadline.check()
                flow.connected(ADDRESS)
            case Resolve():
                flow.resolved((ADDRESS,))
            case Content():
                self._answer(lambda: next(self._pieces, None), flow.content, flow, deadline)
            case Ask():
                self._answer(
                    lambda: action.function(*action.arguments), flow.answer, flow, deadline
                )
            case _:
                assert_never(action)

    def _open(self, action: Connect) -> None:
        if self._connected:
            self.stream.close()
        if self._connect is not None:
            self.stream = self._connect(action)
        elif self._connected:
            raise OSError("one stream serves for one Connect")
        self._connected = True

    def _write(self, data: Octets, deadline: _Deadline) -> Generator[float]:
        try:
            self.stream.write(data)
        except BlockingIOError:
            while True:
                yield deadline.moment
                deadline.check()

    def _read(self, deadline: _Deadline) -> Generator[float, None, bytes]:
        while (data := self.stream.read()) is None:
            yield min(deadline.moment, self.stream.arrives)
            deadline.check()
        return data

    @staticmethod
    def _answer(
        call: Callable[[], Answer],
        feed: Callable[[Answer], None],
        flow: Flow[T],
        deadline: _Deadline,
    ) -> None:
        try:
            value = call()
        except Exception as error:  # noqa: BLE001 - whatever the caller's own code raises
            flow.failed(error)
        else:
            deadline.check()
            feed(value)
