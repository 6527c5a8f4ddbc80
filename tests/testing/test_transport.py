"""The transport check: what is right passes, and what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smtp_adapters.testing import check_transport
from smtp_proto.flow import Connect, Done, Flow, Receive, Send
from smtp_proto.testing.transport import CANCELLATION, CASES, Finding, Report, TransportError
from tests.testing import transports
from tests.testing.transports import Transport

# --- Right -----------------------------------------------------------------------------------


def test_a_transport_as_the_docs_tell_passes() -> None:
    report = check_transport(Transport())
    report.raise_for_findings()
    assert report.findings == ()


# --- Wrong -----------------------------------------------------------------------------------

WRONG: list[tuple[type[Transport], str, str]] = [
    (transports.LosesWhatIsUnderWay, "close", "of 300000 octets"),
    (transports.KeepsTheLastOctet, "close", "the far end got 299999 of 300000 octets"),
    (transports.LeavesItOpen, "close", "the stream was left open"),
    (transports.IgnoresTheEnd, "end", "Receive came to no end"),
    (transports.WritesOnce, "large write", "the far end did not get all of it"),
    (
        transports.MovesTheDeadline,
        "deadline of a dripping peer",
        "40 octets came, and it had not struck",
    ),
    (transports.SwallowsErrors, "connection refused", "Connect has not been answered yet"),
    (transports.SwallowsErrors, "deadline", "Receive has not been answered yet"),
    (transports.GivesUpItself, "connection refused", "ConnectionRefusedError"),
    (transports.TakesResetForEnd, "reset", "b'' came"),
    (transports.LeavesItOpen, "end", "the stream was left open"),
    (transports.SaysMore, "large write", r"b'QUIT\r\n' came, which no flow had sent"),
    (transports.WaitsForLines, "part of a line", "the far end did not get all of it"),
    (transports.ReadsOctetsOnce, "large read", "Receive came to no end"),
    (transports.StopsAtTheEnd, "half close", "BrokenPipeError"),
    (transports.NoDeadlines, "deadline", "Receive came to no end"),
    (transports.NoDeadlines, "deadline of a peer that does not read", "ConnectionResetError"),
    (transports.NoDeadlineForWrites, "deadline of a peer that does not read", "was told"),
    (transports.ComparesTimers, "deadline of the next wait", "its time was up"),
    (transports.NoneIsNow, "no deadline", "its time was up"),
    (transports.IgnoresTotal, "deadline of the whole flow", "it did not strike"),
    (transports.HidesTotal, "deadline of the whole flow", "timed_out(whole=True) was not called"),
    (transports.KeepsTheFirstStream, "two connections", "Receive came to no end"),
    (transports.TellsThePort, "connected", "connected() was told"),
    (transports.NeverConnects, "connected", "nobody connected"),
    (transports.NeverConnects, "connection refused", "the flow was told of a connection"),
    (transports.WrapsErrors, "error", "it failed came out"),
]


@pytest.mark.parametrize(("kind", "name", "seen"), WRONG)
def test_what_is_wrong_is_named(kind: type[Transport], name: str, seen: str) -> None:
    transport = kind()
    [case] = [case for case in CASES if case.name == name]
    # Its own deadline is due in a second: the check has to wait longer than that.
    patience = 10.0 if kind is transports.ComparesTimers else 1.0
    report = check_transport(transport, patience=patience, cases=[case])
    transport.close()
    [finding] = report.findings
    assert (finding.case, finding.rule) == (name, case.rule)
    assert seen in finding.seen


def test_who_leaves_streams_open_is_told_once() -> None:
    transport = transports.LeavesItOpen()
    report = check_transport(transport, cancel=transport, patience=1.0)
    transport.close()
    assert report.findings == (Finding("close", CASES[0].rule, "the stream was left open"),)


class ForgetsToClose(Transport):
    """Cancelled, it leaves the stream as it is."""

    def cancel(self, flow: Flow[str]) -> None:
        self.begin(flow)
        for _ in range(3):
            match flow.next_action():
                case Connect(host, port, timer):
                    flow.connected(self.connect(host, port, self.seconds(timer)))
                case Send(data, timer):
                    self.send(bytes(data), self.seconds(timer))
                case _:
                    pass


def test_what_is_left_open_by_a_cancellation_is_named() -> None:
    transport = ForgetsToClose()
    report = check_transport(transport, cancel=transport.cancel, patience=1.0, cases=[])
    transport.close()
    assert report.findings == (
        Finding(CANCELLATION.name, CANCELLATION.rule, "the stream was left open"),
    )
    with pytest.raises(TransportError, match=r"^cancellation: a flow that is .*; but the stream"):
        report.raise_for_findings()


async def _coroutine(flow: Flow[str]) -> str:
    raise AssertionError(flow)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"carry_out": None}, "carry_out is a callable, not None"),
        ({"carry_out": _coroutine}, "carry_out is a coroutine function: wrap it, .*"),
        ({"cancel": 5}, "cancel is a callable, or None, not an? int"),
        ({"cancel": _coroutine}, "cancel is a coroutine function: wrap it, .*"),
        ({"patience": "5"}, "patience is seconds as a number, not a str"),
    ],
)
def test_what_is_no_transport_is_told_before_anything_is_tried(
    given: dict[str, object], what: str
) -> None:
    tried: list[Flow[str]] = []
    check: Callable[..., Report] = check_transport
    with pytest.raises(TypeError, match=f"^{what}$"):
        check(**{"carry_out": tried.append, **given})
    assert not tried


def test_a_report_without_findings_raises_nothing() -> None:
    Report(()).raise_for_findings()


# --- What the flows of the cases say ---------------------------------------------------------


def told(name: str, *answers: bytes | Exception) -> str:
    """What the flow of a case says where these are the answers to what it waits for."""
    [case] = [case for case in (*CASES, CANCELLATION) if case.name == name]
    flow = case.flow("127.0.0.1", 25)
    came = iter(answers)
    while not isinstance(action := flow.next_action(), Done):
        answer = next(came) if isinstance(action, Receive) else None
        match action:
            case Connect():
                flow.connected("127.0.0.1")
            case Receive() if isinstance(answer, bytes):
                flow.receive_data(answer)
            case Receive() if isinstance(answer, Exception):
                flow.failed(answer)
            case _:
                assert isinstance(action, Send)
    return action.result


def test_a_deadline_that_strikes_at_a_send_is_said_like_any_other() -> None:
    [case] = [case for case in CASES if case.name == "deadline of the next wait"]
    flow = case.flow("127.0.0.1", 25)
    flow.next_action()
    flow.connected(None)
    flow.next_action()
    flow.receive_data(b".")
    assert isinstance(flow.next_action(), Send)
    flow.timed_out(whole=False)
    assert flow.next_action() == Done("the flow was told that its time was up", close=True)


@pytest.mark.parametrize(
    ("name", "answers", "seen"),
    [
        ("part of a line", [b"2", b""], "b'2' came in place of b'22'"),
        ("part of a line", [b"22", b"0\n", b""], r"b'0\n' came in place of b'0\r\n'"),
        ("part of a line", [TimeoutError()], "the flow was told that its time was up"),
        ("part of a line", [b"22", b"0\r", b"\n"], ""),
        ("large read", [b"x" * 50, b""], "50 octets, b'xxxxxxxxxxxxxxxxxxxx'..., came in place"),
        ("end", [b"by", b""], "b'by' came in place of b'bye'"),
        ("end", [b"bye", TimeoutError()], "the flow was told that its time was up"),
        ("end", [b"bye", b"?"], "b'?' came"),
        ("end", [b"bye", b""], ""),
        ("reset", [TimeoutError()], "the flow was told that its time was up"),
        ("reset", [b""], "b'' came"),
        ("reset", [ConnectionResetError(), b""], ""),
        ("reset", [ConnectionResetError(), ConnectionResetError()], ""),
        ("deadline", [b"?"], "b'?' came"),
        ("deadline", [ConnectionResetError()], "ConnectionResetError() was told"),
        ("deadline of the next wait", [b".", TimeoutError()], "the flow was told that its time"),
        ("deadline of a peer that does not read", [], "the flow was told that all was written"),
        ("deadline of the whole flow", [b"."] * 40, "it did not strike"),
        ("deadline of the next wait", [b"?"], "b'?' came in place of b'.'"),
        ("deadline of a dripping peer", [b"." * 40], "40 octets came, and it had not struck"),
        ("connection refused", [], "the flow was told of a connection"),
        ("deadline of the whole flow", [TimeoutError()], "timed_out(whole=True) was not called"),
        ("cancellation", [b"."], "the wait was not cancelled"),
    ],
)
def test_what_a_flow_says(name: str, answers: list[bytes | Exception], seen: str) -> None:
    said = told(name, *answers)
    assert said.startswith(seen)
    assert bool(said) == bool(seen)
