"""How a flow is carried out without any I/O: what the peer says, and what was sent.

Knows each action. Must not know in which order a flow wants them.

What happens in front of a turn, at the flow's next wait: t the time is up, b the connection
breaks, x the peer has closed it; w nothing can be written from now on; k what follows is said on
the next connection, which cannot be opened with r, and whose name nobody knows with n.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar, assert_never

from fuzz.script import Cut, Turn
from smtp_proto.flow import (
    Ask,
    Connect,
    Content,
    Done,
    Flow,
    Receive,
    Resolve,
    Send,
    Timer,
)
from smtp_proto.wire import Octets

T = TypeVar("T")

_ADDRESS = "192.0.2.1"


class Stream:
    """What the peer says to a flow, on one connection after the other, and what the flow sends."""

    def __init__(self, turns: Sequence[Turn], cut: Cut) -> None:
        self.sent = b""
        self.heard = b"".join(turn.octets for turn in turns)
        self._cut = cut
        self._connections = _split(turns)
        self._begun = False
        self._writable = True
        self._coming = self._events(self._connections[0])

    def connect(self, flow: Flow[T]) -> None:
        """Open the next connection; nobody is there where the story has none."""
        if self._begun:
            del self._connections[:1]
        self._begun = self._writable = True
        turns = self._connections[0] if self._connections else []
        if not self._connections or any("r" in turn.actions for turn in turns):
            flow.failed(ConnectionRefusedError("refused"))
            return
        self._coming = self._events(turns)
        flow.connected(_ADDRESS)

    def resolve(self, flow: Flow[T]) -> None:
        """Find an address, or none."""
        if any("n" in turn.actions for turns in self._connections[:1] for turn in turns):
            flow.failed(OSError("no such name"))
        else:
            flow.resolved([_ADDRESS])

    def send(self, flow: Flow[T], data: Octets) -> None:
        """Take what a flow sends. What cannot be written may have been all the same."""
        self.sent += data
        if not self._writable:
            flow.failed(BrokenPipeError("broken pipe"))

    def receive(self, flow: Flow[T]) -> int:
        """Give a flow what comes next; return how many lines end in it."""
        match next(self._coming, None):
            case None:
                flow.receive_eof()
            case OSError() as error:
                flow.failed(error)
            case octets:
                flow.receive_data(octets)
                return octets.count(b"\n")
        return 0

    def _events(self, turns: Sequence[Turn]) -> Iterator[bytes | OSError]:
        for turn in turns:
            if "w" in turn.actions:
                self._writable = False
            if "t" in turn.actions:
                yield TimeoutError()
            if "b" in turn.actions:
                yield ConnectionResetError("reset")
            if "x" in turn.actions:
                return
            yield from self._cut(turn.octets)


def _split(turns: Sequence[Turn]) -> list[list[Turn]]:
    connections: list[list[Turn]] = [[]]
    for turn in turns:
        if "k" in turn.actions:
            connections.append([])
        connections[-1].append(turn)
    return connections


def carry_out(flow: Flow[T], stream: Stream, pieces: Sequence[bytes] = ()) -> T:
    """Carry a flow out to its end; raises what it raises.

    It must come to its end in a number of steps that is linear in what it hears, and must not take
    what drips in for a reason to wait on.
    """
    content = iter(pieces)
    timers: list[Timer] = []
    progress = 0  # what may begin another wait: something was sent, a line has come
    for _ in range(200 + 10 * len(stream.heard)):
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        assert action.timer.seconds is not None, "a wait without end"
        if not timers or timers[-1] is not action.timer:
            timers.append(action.timer)
            assert len(timers) <= 10 + 2 * progress, "what drips in moves the deadline"
        match action:
            case Receive():
                progress += stream.receive(flow)
                continue
            case Connect():
                stream.connect(flow)
            case Resolve():
                stream.resolve(flow)
            case Send(data):
                assert data, "nothing to send"
                stream.send(flow, data)
            case Content():
                flow.content(next(content, None))
            case Ask():
                _ask(flow, action)
            case _:
                assert_never(action)
        progress += 1
    raise AssertionError("the flow does not come to its end")


def assert_same_or_none(outcomes: Sequence[bytes | None]) -> None:
    """What was sent whole, if all went well, is sent however the peer is cut.

    What a client sends depends on what it has heard by then: a server that talks out of turn is
    noticed or not, but one that is fine whole has not done so.
    """
    first = outcomes[0]
    assert first is None or all(each == first for each in outcomes), f"sent: {outcomes!r}"


def _ask(flow: Flow[T], question: Ask) -> None:
    try:
        value = question.function(*question.arguments)
    except Exception as error:
        flow.failed(error)
    else:
        flow.answer(value)
