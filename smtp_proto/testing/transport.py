"""All that a flow relies on in what carries it out, as cases that can be tried.

Knows the actions of a flow, and what the far end of the stream does meanwhile. Touches no stream:
who tries the cases brings one. `smtp_adapters.testing.check_transport` does, over loopback TCP.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeAlias

from smtp_proto.flow.actions import Connect, Receive, Send, Timer
from smtp_proto.flow.errors import ProtocolViolation
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.timeouts import Phase, TotalTimeout
from smtp_proto.wire import Octets

# --- The far end -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    """Write these octets, with so many seconds before each if it says so; else all at once."""

    octets: bytes = field(repr=False)
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Hear:
    """Read these octets, and no others."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class HearEnd:
    """Read the end of the stream, and nothing before it."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds: do not read either."""

    seconds: float


@dataclass(frozen=True, slots=True)
class CloseWrite:
    """End what goes out, and go on reading."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection."""


FarStep: TypeAlias = Say | Hear | HearEnd | Pause | CloseWrite | Reset
"""What the far end does next."""

# --- Cases -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that flows rely on.

    `rule`: in words. `flow`: makes the flow to carry out, which connects to this host and port; its
    result is what is wrong, "" if nothing is. `far`: what the far end does on each connection, one
    after the other; none: nobody listens. `raises`: what must come out in place of a result.
    """

    name: str
    rule: str
    flow: Callable[[str, int], Flow[str]]
    far: tuple[tuple[FarStep, ...], ...]
    raises: type[Exception] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a transport breaks, and what was seen of that."""

    case: str
    rule: str
    seen: str

    def __str__(self) -> str:
        return f"{self.case}: {self.rule}; but {self.seen}"


class TransportError(AssertionError):
    """A transport breaks rules: all of them, a line for each."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of trying a transport. `findings`: the rules that it breaks."""

    findings: tuple[Finding, ...]

    def raise_for_findings(self) -> None:
        """Raise TransportError if there are any findings."""
        if self.findings:
            raise TransportError("\n".join(map(str, self.findings)))


# --- What the flows do -----------------------------------------------------------------------

_SHORT = 0.4
"""Seconds of the deadlines that must strike."""
_LONG = 10.0
"""Seconds of those that must not."""
_MANY = bytes(range(251)) * 16_000
"""Octets that no buffer takes at once, and none of which is where another could be."""
_MORE = bytes(24_000_000)
"""Octets that do not fit into all buffers on the way."""
_LAST_WORDS = (_MANY[:300_000], *[b"?"] * 8)
"""What is under way when a stream is closed: more than is read yet, or what was sent just now."""
_SLOWLY = Say(b"." * 40, 0.05)

_TIME_UP = "the flow was told that its time was up"


def _timer(seconds: float | None = _LONG) -> Timer:
    return Timer(Phase.COMMAND, seconds)


def _receive(count: int, timer: Timer) -> Steps[bytes]:
    """Receive so many octets, or as many as there are until the stream ends."""
    octets = bytearray()
    while len(octets) < count:
        data: Octets = yield Receive(timer)
        if not data:
            break
        octets += data
    return bytes(octets)


def _expect(expected: bytes, timer: Timer) -> Steps[str]:
    """Receive just these octets; return what is wrong."""
    try:
        octets = yield from _receive(len(expected), timer)
    except TimeoutError:
        return _TIME_UP
    if octets == expected:
        return ""
    return f"{_shown(octets)} came in place of {_shown(expected)}"


def _shown(octets: bytes) -> str:
    return repr(octets) if len(octets) <= 40 else f"{len(octets)} octets, {octets[:20]!r}...,"


def _local_address(connect: Connect) -> Steps[str]:
    address: object = yield connect
    if address is None:
        return ""
    try:
        ip_address(str(address).partition("%")[0])
    except ValueError:
        return f"connected() was told {address!r}"
    return ""


def _refused(connect: Connect) -> Steps[str]:
    try:
        yield connect
    except OSError:
        return ""
    return "the flow was told of a connection"


def _violation(connect: Connect) -> Steps[str]:
    yield connect
    raise ProtocolViolation("as planned")


def _leaves(connect: Connect) -> Steps[str]:
    with suppress(OSError):  # the far end has heard enough
        for octets in _LAST_WORDS:
            yield connect
            yield Send(octets, _timer())
    return ""


def _at_once(connect: Connect) -> Steps[str]:
    yield connect
    timer = _timer()
    wrong = yield from _expect(b"22", timer)
    if wrong:
        return wrong
    yield Send(b"?", timer)
    return (yield from _expect(b"0\r\n", timer))


def _hears(expected: bytes, *, seconds: float | None = _LONG) -> Callable[[Connect], Steps[str]]:
    def steps(connect: Connect) -> Steps[str]:
        yield connect
        return (yield from _expect(expected, _timer(seconds)))

    return steps


def _sends(connect: Connect) -> Steps[str]:
    yield connect
    timer = _timer()
    # Whatever holds octets may be sent.
    for octets in (bytearray(b"first "), memoryview(_MANY), b" last"):
        yield Send(octets, timer)
    return (yield from _expect(b"!", timer))


def _ends(connect: Connect) -> Steps[str]:
    yield connect
    timer = _timer()
    wrong = yield from _expect(b"bye", timer)
    if wrong:
        return wrong
    try:
        data: Octets = yield Receive(timer)
    except TimeoutError:
        return _TIME_UP
    return f"{bytes(data)!r} came" if data else ""


def _half_closed(connect: Connect) -> Steps[str]:
    yield connect
    timer = _timer()
    try:
        yield Receive(timer)
        yield Send(b"still here", timer)
    except OSError as error:
        return f"{error!r} was told"
    return ""


def _reset(connect: Connect) -> Steps[str]:
    yield connect
    timer = _timer()
    yield Send(b"?", timer)
    try:
        data: Octets = yield Receive(timer)
    except TimeoutError:
        return _TIME_UP
    except OSError:
        pass
    else:
        return f"{bytes(data)!r} came"
    try:
        yield Receive(timer)  # one look at what may be there still
    except OSError:
        return ""
    return ""


def _silence(connect: Connect) -> Steps[str]:
    yield connect
    try:
        data: Octets = yield Receive(_timer(_SHORT))
    except TimeoutError:
        return ""
    except OSError as error:
        return f"{error!r} was told"
    return f"{bytes(data)!r} came"


def _drip(connect: Connect) -> Steps[str]:
    yield connect
    try:
        octets = yield from _receive(len(_SLOWLY.octets), _timer(_SHORT))
    except TimeoutError:
        return ""
    return f"{len(octets)} octets came, and it had not struck"


def _waits(connect: Connect) -> Steps[str]:
    yield connect
    for _ in range(6):
        timer = _timer(1.0)  # equal to the others, and none of them
        wrong = yield from _expect(b".", timer)
        if wrong:
            return wrong
        try:
            yield Send(b"!", timer)
        except TimeoutError:
            return _TIME_UP
    return ""


def _total(connect: Connect) -> Steps[str]:
    yield connect
    try:
        for _ in _SLOWLY.octets:
            yield Receive(_timer())
    except TotalTimeout:
        return ""
    except TimeoutError:
        return "timed_out(whole=True) was not called"
    return "it did not strike"


def _blocked(connect: Connect) -> Steps[str]:
    yield connect
    try:
        yield Send(_MORE, _timer(_SHORT))
    except TimeoutError:
        return ""
    except OSError as error:
        return f"{error!r} was told"
    return "the flow was told that all was written"


def _twice(connect: Connect) -> Steps[str]:
    yield connect
    yield connect
    return (yield from _expect(b"2", _timer()))


def _for_ever(connect: Connect) -> Steps[str]:
    yield connect
    yield Send(b"?", _timer())
    yield Receive(_timer(None))
    return "the wait was not cancelled"


def _flow(
    steps: Callable[[Connect], Steps[str]], total: float | None = None
) -> Callable[[str, int], Flow[str]]:
    return lambda host, port: Flow(steps(Connect(host, port, _timer())), total, closes=True)


_END = HearEnd()

CASES: tuple[Case, ...] = (
    Case(
        "close",
        "the stream is closed when the flow is done, and all that was sent before arrives",
        _flow(_leaves),
        (
            (Pause(0.2), Hear(_LAST_WORDS[0])),
            *[(Hear(b"?"),)] * 7,
            (Hear(b"?"), _END),
        ),
    ),
    Case(
        "connected",
        "connected() is told the address of the near end as text, or nothing",
        _flow(_local_address),
        ((_END,),),
    ),
    Case(
        "connection refused",
        "what goes wrong is told by failed()",
        _flow(_refused),
        (),
    ),
    Case(
        "two connections",
        "a second Connect closes the first stream",
        _flow(_twice),
        ((_END,), (Say(b"2"), _END)),
    ),
    Case(
        "error",
        "what next_action() raises comes out",
        _flow(_violation),
        ((_END,),),
        raises=ProtocolViolation,
    ),
    Case(
        "part of a line",
        "what has come is given to the flow at once",
        _flow(_at_once),
        ((Say(b"22"), Hear(b"?"), Say(b"0\r\n"), _END),),
    ),
    Case(
        "octet by octet",
        "octets are given to the flow however they are cut",
        _flow(_hears(bytes(range(100)))),
        ((Say(bytes(range(100)), 0.0), _END),),
    ),
    Case(
        "large read",
        "all octets come in, in order",
        _flow(_hears(_MANY)),
        ((Say(_MANY), _END),),
    ),
    Case(
        "large write",
        "all octets of a Send go out, in order, and no others",
        _flow(_sends),
        ((Pause(0.2), Hear(b"first " + _MANY + b" last"), Say(b"!"), _END),),
    ),
    Case(
        "end",
        "the end of the stream is told, and the stream is closed when the flow is done",
        _flow(_ends),
        ((Say(b"bye"), CloseWrite(), _END),),
    ),
    Case(
        "half close",
        "behind the end of what comes in, octets can still go out",
        _flow(_half_closed),
        ((CloseWrite(), Hear(b"still here"), _END),),
    ),
    Case(
        "reset",
        "a broken connection is told by failed(), and the flow is asked what to do next",
        _flow(_reset),
        ((Hear(b"?"), Reset()),),
    ),
    Case(
        "deadline",
        "the deadline of a Receive strikes",
        _flow(_silence),
        ((_END,),),
    ),
    Case(
        "deadline of a dripping peer",
        "octets do not move the deadline of a wait",
        _flow(_drip),
        ((_SLOWLY, _END),),
    ),
    Case(
        "deadline of a peer that does not read",
        "the deadline of a Send strikes",
        _flow(_blocked),
        ((Pause(2.0), Reset()),),
    ),
    Case(
        "deadline of the next wait",
        "a timer that is another object begins another wait",
        _flow(_waits),
        ((*(Pause(0.2), Say(b"."), Hear(b"!")) * 6, _END),),
    ),
    Case(
        "no deadline",
        "a timer without seconds never strikes",
        _flow(_hears(b".", seconds=None)),
        ((Pause(_SHORT), Say(b"."), _END),),
    ),
    Case(
        "deadline of the whole flow",
        "`total` strikes, and is told as such",
        _flow(_total, total=_SHORT),
        ((_SLOWLY, _END),),
    ),
)
"""What every transport is tried with."""

CANCELLATION = Case(
    "cancellation",
    "a flow that is cancelled leaves no stream open",
    _flow(_for_ever),
    ((Hear(b"?"), _END),),
)
"""What a transport is tried with that can be cancelled: when the far end has heard the octet, or a
moment later."""
