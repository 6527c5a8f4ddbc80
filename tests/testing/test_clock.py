"""The test clock, and the deadlines that strike by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf, nan

import pytest

from smtp_proto.flow import (
    Action,
    Ask,
    CapabilityMissing,
    Connect,
    Content,
    Flow,
    Phase,
    Receive,
    Send,
    SMTPError,
    SMTPTimeout,
    Steps,
    Timeouts,
    Timer,
)
from smtp_proto.flow.actions import Resolve
from smtp_proto.flow.timeouts import TotalTimeout
from smtp_proto.testing import (
    ADDRESS,
    Clock,
    Connector,
    Fault,
    Link,
    ScriptedPeer,
    Stream,
    StuckError,
    TranscriptError,
    carry_out,
)
from tests.testing.transcripts import DELIVERY, Inbox, deliver, open_settings, serving


def test_it_stands_still_until_it_is_told_to_go_on() -> None:
    clock = Clock(5.0)
    clock.advance(2.5)
    assert clock.now == 7.5
    clock.reach(7.0)
    assert clock.now == 7.5
    clock.reach(9.0)
    assert clock.now == 9.0


@pytest.mark.parametrize("wrong", [-1, nan, inf, -inf])
def test_it_does_not_go_back_nor_to_no_moment(wrong: float) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match=f"^seconds is a number from 0 up, not {wrong}$"):
        clock.advance(wrong)
    if wrong != -1:
        with pytest.raises(ValueError, match=f"^moment is a number, not {wrong}$"):
            clock.reach(wrong)
        with pytest.raises(ValueError, match=f"^now is a number, not {wrong}$"):
            Clock(wrong)
    assert clock.now == 0


# --- Deadlines of the real flows -------------------------------------------------------------

SILENT_IN = {
    "": Phase.GREETING,
    "S: 220 x\nC: EHLO *\n": Phase.EHLO,
    "S: 220 x\nC: EHLO *\nS: 250 x\nC: MAIL *\n": Phase.MAIL,
    "S: 220 x\nC: EHLO *\nS: 250 x\nC: MAIL *\nS: 250 Ok\nC: RCPT *\n": Phase.RCPT,
    "S: 220 x\nC: EHLO *\nS: 250 x\nC: MAIL *\nS: 250 Ok\nC: RCPT *\nS: 250 Ok\nC: DATA\n": (
        Phase.DATA
    ),
    DELIVERY.partition("S: 250 Delivered")[0]: Phase.FINAL,
}


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.DRIP, Fault.STALL])
@pytest.mark.parametrize("played", SILENT_IN)
def test_who_is_silent_or_drips_is_given_up_in_each_phase(played: str, fault: Fault) -> None:
    """Each wait has its own seconds, and no octet that drips in moves its end."""
    phase = SILENT_IN[played]
    peer = ScriptedPeer(f"{played}\n<{fault.value}>\nS: 250-This takes an octet a minute\n")
    with pytest.raises(SMTPError) as caught:
        deliver(peer)
    # Behind the content the delivery is in doubt; the cause says why.
    timeout = caught.value.__cause__ if phase is Phase.FINAL else caught.value
    assert isinstance(timeout, SMTPTimeout)
    assert (timeout.phase, timeout.whole) == (phase, False)
    assert peer.clock.now == Timeouts().seconds(phase)


def test_the_whole_operation_has_a_limit_of_its_own() -> None:
    peer = ScriptedPeer("<wait 50>\nS: 220 x\nC: EHLO *\n<silence>")
    with pytest.raises(SMTPTimeout) as caught:
        deliver(peer, open_settings(timeouts=Timeouts(total=100.0)))
    assert caught.value.whole
    assert peer.clock.now == 100.0


def test_a_server_gives_up_a_silent_client() -> None:
    clock = Clock()
    peer = serving(Inbox(), clock, Timeouts(idle=30.0))
    assert peer.read() == b"220 mail.example.org ESMTP\r\n"
    assert peer.read() is None
    assert peer.arrives == 30.0
    clock.reach(29.0)
    peer.write(b"NO")  # moves nothing
    assert peer.read() is None
    clock.reach(30.0)
    octets = peer.read()
    assert octets is not None
    assert octets.startswith(b"421 ")
    peer.close()
    assert peer.over
    assert peer.result is None


# --- Each action -----------------------------------------------------------------------------


def timer(seconds: float | None = None) -> Timer:
    return Timer(Phase.COMMAND, seconds)


CONNECT = Connect("mail.example.org", 25, timer(60.0))


def trying(*actions: Action) -> Steps[list[str]]:
    """What comes of each action, in words."""
    came: list[str] = []
    for action in actions:
        try:
            came.append(repr((yield action)))
        except TotalTimeout:
            came.append("whole")
        except Exception as error:  # noqa: BLE001 - each kind is looked at
            came.append(type(error).__name__)
    return came


def try_out(
    *actions: Action,
    stream: Stream | None = None,
    total: float | None = None,
    pieces: Iterable[bytes] = (),
    connect: Connector | None = None,
) -> list[str]:
    flow = Flow(trying(*actions), total)
    return carry_out(flow, stream or Link(Clock()).client, pieces, connect=connect)


def test_connect_and_resolve_know_one_address() -> None:
    resolve = Resolve("mail.example.org", True, timer())
    assert try_out(CONNECT, resolve) == [repr(ADDRESS), repr((ADDRESS,))]


def test_one_stream_serves_for_one_connect() -> None:
    link = Link(Clock())
    assert try_out(CONNECT, CONNECT, stream=link.client) == [repr(ADDRESS), "OSError"]
    assert link.server.read() == b""  # a second Connect closes the first stream


def test_each_connect_gets_a_stream() -> None:
    clock = Clock()
    links = [Link(clock), Link(clock)]
    streams = iter([link.client for link in links])
    links[1].server.write(b"second")

    def connect(action: Connect) -> Stream:
        assert action is CONNECT
        return next(streams)

    came = try_out(CONNECT, CONNECT, Receive(timer()), stream=Link(clock).client, connect=connect)
    assert came == [repr(ADDRESS), repr(ADDRESS), "b'second'"]
    assert links[0].server.read() == b""
    assert links[1].server.read() is None


def test_what_a_connector_raises_and_the_time_it_takes_are_told() -> None:
    stream = Link(Clock()).client

    def refuse(_: Connect) -> Stream:
        raise ConnectionRefusedError

    def dawdle(_: Connect) -> Stream:
        stream.clock.advance(60.0)
        return stream

    assert try_out(CONNECT, stream=stream, connect=refuse) == ["ConnectionRefusedError"]
    assert try_out(CONNECT, stream=stream, connect=dawdle) == ["Expired"]


def test_send_and_receive() -> None:
    link = Link(Clock())
    link.server.write(b"hello")
    came = try_out(Send(bytearray(b"hi"), timer()), Receive(timer()), stream=link.client)
    assert came == ["None", "b'hello'"]
    assert link.server.read() == b"hi"


def test_nothing_is_done_once_the_time_is_up() -> None:
    link = Link(Clock())
    wait = timer(5.0)
    came = try_out(Receive(wait), Send(b"late", wait), stream=link.client)
    assert came == ["Expired", "Expired"]
    assert link.clock.now == 5.0
    assert link.server.read() is None


def test_a_write_that_never_ends_has_a_deadline() -> None:
    link = Link(Clock())
    link.to_server.strike_after(3, Fault.STALL)
    came = try_out(Send(b"12345", timer(5.0)), stream=link.client)
    assert came == ["Expired"]
    assert link.clock.now == 5.0
    assert link.server.read() == b"123"


def test_timers_that_are_equal_are_two_waits() -> None:
    link = Link(Clock())
    link.to_client.delay = 4.0
    link.server.write(b"1")
    link.server.write(b"2")
    apart = [Receive(timer(5.0)), Receive(timer(5.0))]
    assert try_out(*apart, stream=link.client) == ["b'1'", "b'2'"]
    wait = timer(5.0)
    link.server.write(b"1")
    link.server.write(b"2")
    assert try_out(Receive(wait), Receive(wait), stream=link.client) == ["b'1'", "Expired"]


def test_total_is_told_as_such() -> None:
    came = try_out(Receive(timer(2.0)), Receive(timer(2.0)), total=3.0)
    assert came == ["Expired", "whole"]


def test_content_comes_in_pieces() -> None:
    content = Content(timer())
    assert try_out(content, content, pieces=[b"a"]) == ["b'a'", "None"]


def test_what_the_content_raises_and_the_time_it_takes_are_told() -> None:
    link = Link(Clock())

    def pieces() -> Iterator[bytes]:
        link.clock.advance(5.0)
        yield b"late"
        raise LookupError

    late_and_broken = pieces()
    came = try_out(Content(timer(5.0)), stream=link.client, pieces=late_and_broken)
    assert came == ["Expired"]
    with pytest.raises(LookupError):  # it is the caller's own: no flow takes it for its own affair
        try_out(Content(timer(5.0)), stream=link.client, pieces=late_and_broken)


def test_ask_is_answered() -> None:
    right = Ask("right", divmod, (7, 2), timer())
    wrong = Ask("wrong", divmod, (7, 0), timer())
    assert try_out(right, wrong) == ["(3, 1)", "ZeroDivisionError"]


def test_what_is_wrong_with_the_test_itself_comes_out() -> None:
    peer = ScriptedPeer("C: NOOP")
    with pytest.raises(TranscriptError):
        try_out(Send(b"QUIT\r\n", timer()), stream=peer)


def test_a_wait_that_nothing_ends_is_told() -> None:
    with pytest.raises(StuckError, match="Receive"):
        try_out(Receive(timer()))


def test_done_closes_the_stream_or_leaves_it() -> None:
    link = Link(Clock())
    carry_out(Flow(trying()), link.client)
    assert link.server.read() is None
    carry_out(Flow(trying(), closes=True), link.client)
    assert link.server.read() == b""


def test_what_a_flow_raises_comes_out() -> None:
    def steps() -> Steps[None]:
        yield Resolve("mail.example.org", False, timer())
        raise CapabilityMissing("no", capability="X")

    with pytest.raises(CapabilityMissing):
        carry_out(Flow(steps()), Link(Clock()).client)
