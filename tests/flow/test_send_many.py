"""SendMany: each message has the outcome that it would have alone, in fewer flights.

Knows messages, outcomes and the server of this package. Must not know the commands in between, but
where a server has to say what no good one says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.engine import LocalProtocolError, Protocol
from smtp_proto.flow.actions import Action, Content, Receive, Send
from smtp_proto.flow.envelope import Envelope, SendResult
from smtp_proto.flow.errors import (
    CapabilityMissing,
    ConnectionLost,
    ContentRefused,
    DeliveryInDoubt,
    MessageTooLarge,
    ProtocolViolation,
    RecipientsRefused,
    SenderRefused,
    SMTPError,
    SMTPTimeout,
)
from smtp_proto.flow.flow import Flow
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.send_many import Outcome, SendMany
from smtp_proto.flow.serve import Serve, ServeSettings
from smtp_proto.flow.session import Session
from smtp_proto.flow.simple import noop
from smtp_proto.flow.timeouts import Phase
from smtp_proto.flow.tls import TLSInfo, TLSLayer
from smtp_proto.testing import ADDRESS, Clock, Fault, FlowPeer, carry_out
from smtp_proto.wire import Limits, Mail, Octets, Rcpt, Reply, WireError
from tests.flow import serving
from tests.flow.scripted import ENDS, Transcript, opened, play, settings

SENDER = "a@example.org"
GENEROUS = serving.settings(limits=Limits(errors=1000, message_size=100_000))


@dataclass(frozen=True)
class Item:
    """One message. `pieces`: whether its content comes piece by piece."""

    envelope: Envelope
    content: bytes
    pieces: bool = False


KINDS: dict[str, tuple[str, list[str], bytes]] = {
    "accepted": (SENDER, ["b@example.net"], b"hello\r\n"),
    "for three": (SENDER, ["b@example.net", "c@example.net", "d@example.net"], b".dot\r\n"),
    "one refused": (SENDER, ["no@example.net", "c@example.net"], b"hello\r\n"),
    "all refused": (SENDER, ["no@example.net", "none@example.net"], b"hello\r\n"),
    "sender refused": ("no@example.org", ["b@example.net"], b"hello\r\n"),
    "content refused": (SENDER, ["b@example.net", "c@example.net"], b"spam\r\n"),
    "long": (SENDER, ["b@example.net"], b"x" * 70_000 + b"\r\n"),
    "too large": (SENDER, ["b@example.net"], b"x" * 100_001),
    "NUL": (SENDER, ["b@example.net"], b"\0"),
}


def item(kind: str, number: int = 0, *, pieces: bool = False) -> Item:
    """A message of a kind, unlike all others."""
    sender, recipients, text = KINDS[kind]
    envelope = Envelope.of(sender, [f"{number}.{recipient}" for recipient in recipients])
    whole = kind == "too large" or not pieces  # in pieces nobody knows its size
    return Item(envelope, b"Subject: %d\r\n\r\n" % number + text, pieces=not whole)


class Recorder(Handler):
    """Refuses by name and by content. `messages`: what it has taken."""

    def __init__(self) -> None:
        self.messages: list[tuple[Envelope, bytes]] = []

    def on_mail(self, session: ServerSession, mail: Mail) -> Reply | None:
        refused = str(mail.reverse_path).startswith("no")
        return Reply.build(550, "No such sender") if refused else None

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        return Reply.build(450, "No") if ".no" in str(rcpt.forward_path) else None

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | None:
        if b"spam" in content:
            return Reply.build(554, "Spam")
        self.messages.append((envelope, content))
        return None


@dataclass
class Way:
    """A session with a server of ours in memory. `flights`: how often we said something new."""

    opening: OpenSettings = field(default_factory=settings)
    served: ServeSettings = GENEROUS
    handler: Recorder = field(default_factory=Recorder)
    flights: int = 0
    said: int = 0  # octets by the server
    wrote: int = 0  # octets by the client

    def __post_init__(self) -> None:
        self.stream = FlowPeer(Serve(self.handler, self.served, ADDRESS), Clock())
        self.clock = self.stream.clock
        self._listening = True
        self.session = carry_out(OpenSession(self.opening), self)
        self.flights = 0

    @property
    def arrives(self) -> float:
        return self.stream.arrives

    def write(self, data: Octets) -> None:
        self.flights += self._listening
        self._listening = False
        self.wrote += len(data)
        self.stream.write(data)

    def read(self, maximum: int = 65_536) -> bytes | None:
        data = self.stream.read(maximum)
        self._listening = True
        self.said += len(data or b"")
        return data

    def close(self) -> None:
        self.stream.close()


def run(
    many: SendMany,
    items: Iterable[Item],
    act: Callable[[Flow[None], Iterator[bytes]], None],
) -> tuple[list[Outcome], SMTPError | None]:
    """The outcomes, and what has ended the session."""
    left = iter(items)
    pieces: Iterator[bytes] = iter(())
    outcomes: list[Outcome] = []
    try:
        while True:
            while (outcome := many.next_outcome()) is None:
                if many.wants_message:
                    message = next(left, None)
                    if message is None:
                        many.end()
                    else:
                        whole = None if message.pieces else message.content
                        pieces = cut_up(message.content)
                        many.add(message.envelope, whole)
                elif not many.under_way:
                    return outcomes, None
                if many.under_way:
                    act(many.go_on(), pieces)
                    assert many.session.in_step or not many.under_way, "the end settles all"
            outcomes.append(outcome)
    except SMTPError as error:
        return outcomes, error


def cut_up(content: bytes) -> Iterator[bytes]:
    return (content[i : i + 1000] for i in range(0, len(content), 1000))


def send_many(way: Way, items: Iterable[Item]) -> tuple[list[Outcome], SMTPError | None]:
    many = SendMany(way.session)
    return run(many, items, lambda flow, pieces: carry_out(flow, way, pieces))


def send_each(way: Way, items: Iterable[Item]) -> list[Outcome]:
    """One after the other."""
    outcomes: list[Outcome] = []
    for message in items:
        content = None if message.pieces else message.content
        try:
            flow = SendMail(way.session, message.envelope, content)
            outcomes.append(carry_out(flow, way, cut_up(message.content)))
        except (SMTPError, WireError) as error:
            outcomes.append(error)
    return outcomes


def shown(outcomes: Sequence[Outcome]) -> list[str]:
    """Errors are not equal to others that say the same."""
    return [f"{type(outcome).__name__}: {outcome}" for outcome in outcomes]


OPENINGS = {
    "all": settings(),
    "DATA": settings(chunking=False),
    "one by one": settings(pipelining=False),
    "few commands": settings(limits=Limits(pipelined_commands=3)),
    "few octets": settings(limits=Limits(pipelined_octets=100)),
}
OVER_LMTP = settings(protocol=Protocol.LMTP)
LMTP_SERVER = serving.settings(protocol=Protocol.LMTP, limits=GENEROUS.limits)
WAYS: dict[str, Callable[[], Way]] = {
    "LMTP": partial(Way, OVER_LMTP, LMTP_SERVER),
    **{name: partial(Way, opening) for name, opening in OPENINGS.items()},
}
each_way = pytest.mark.parametrize("make_way", WAYS.values(), ids=WAYS.keys())
kinds = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.booleans()), max_size=12)


def items_of(chosen: Iterable[tuple[str, bool]]) -> list[Item]:
    return [item(kind, number, pieces=pieces) for number, (kind, pieces) in enumerate(chosen)]


# --- What becomes of each ------------------------------------------------------------------------


@each_way
def test_each_kind_has_its_outcome(make_way: Callable[[], Way]) -> None:
    outcomes, error = send_many(make_way(), [item(kind) for kind in KINDS])
    assert error is None
    over_lmtp = make_way is WAYS["LMTP"]  # there the content is refused for each recipient
    assert [type(outcome).__bases__[0] for outcome in outcomes] == [
        object,
        object,
        object,
        RecipientsRefused,
        SenderRefused,
        RecipientsRefused if over_lmtp else ContentRefused,
        object,
        SMTPError,
        ValueError,
    ]
    assert isinstance(outcomes[7], MessageTooLarge)
    assert isinstance(outcomes[8], WireError)


@given(st.sampled_from(sorted(WAYS)), kinds)
def test_the_outcomes_are_those_of_one_after_the_other(
    name: str, chosen: list[tuple[str, bool]]
) -> None:
    many, each = WAYS[name](), WAYS[name]()
    items = items_of(chosen)
    outcomes, error = send_many(many, items)
    assert error is None
    assert shown(outcomes) == shown(send_each(each, items))
    assert many.handler.messages == each.handler.messages
    # Where RSET, MAIL, RCPT and the content do not go together, RSET may cost one more.
    assert many.flights <= each.flights or name == "few commands"
    assert many.session.usable
    assert carry_out(noop(many.session), many).positive


SILENT = [Fault.DROP, Fault.RESET, Fault.SILENCE]


@given(
    st.sampled_from(sorted(WAYS)),
    kinds,
    st.integers(0, 3000),
    st.sampled_from([*SILENT, Fault.GARBAGE]),
)
def test_the_truth_wherever_the_server_ends_it(
    name: str, chosen: list[tuple[str, bool]], octets: int, fault: Fault
) -> None:
    items = items_of(chosen)
    way, undisturbed = WAYS[name](), WAYS[name]()
    expected, _ = send_many(undisturbed, items)
    octets %= undisturbed.said - way.said + 1
    way.stream.link.to_client.strike_after(way.said + octets, fault)
    outcomes, error = send_many(way, items)
    check_truth(items, outcomes, error, way)
    if fault in SILENT:  # garbage may be taken for the end of the line that it cuts
        both = zip(shown(outcomes), shown(expected), strict=False)
        known = list(takewhile(lambda pair: pair[0] == pair[1], both))
        assert not any(isinstance(outcome, SendResult) for outcome in outcomes[len(known) :])


@given(
    st.sampled_from(sorted(WAYS)),
    kinds,
    st.integers(0, 100_000),
    st.sampled_from([Fault.DROP, Fault.RESET]),
)
def test_the_truth_whichever_write_fails(
    name: str, chosen: list[tuple[str, bool]], octets: int, fault: Fault
) -> None:
    items = items_of(chosen)
    way, undisturbed = WAYS[name](), WAYS[name]()
    send_many(undisturbed, items)
    octets %= undisturbed.wrote - way.wrote + 1
    way.stream.link.to_server.strike_after(way.wrote + octets, fault)
    outcomes, error = send_many(way, items)
    check_truth(items, outcomes, error, way)


def check_truth(
    items: list[Item], outcomes: list[Outcome], error: SMTPError | None, way: Way
) -> None:
    """What was delivered is told so, or in doubt, and nothing else is; each to its recipients."""
    if error is None:
        assert len(outcomes) == len(items)
    else:
        assert not way.session.usable
    taken = way.handler.messages
    contents = [content for _, content in taken]
    assert len(set(contents)) == len(contents), "nothing is sent twice"
    for envelope, content in taken:
        (message,) = (each for each in items if each.content == content)
        assert set(envelope.forward_paths) <= set(message.envelope.forward_paths)
    for message, outcome in zip(items, outcomes, strict=False):
        if isinstance(outcome, SendResult):
            assert message.content in contents
        elif not isinstance(outcome, DeliveryInDoubt):
            assert message.content not in contents
    for message in items[len(outcomes) :]:
        assert message.content not in contents


@each_way
def test_the_truth_at_each_octet(make_way: Callable[[], Way]) -> None:
    items = [item(kind, 0) for kind in ("accepted", "one refused", "sender refused", "accepted")]
    items = [Item(each.envelope, b"%d\r\n" % n + each.content) for n, each in enumerate(items)]
    undisturbed = make_way()
    before = undisturbed.said
    expected, _ = send_many(undisturbed, items)
    known = 0
    for octets in range(undisturbed.said - before + 1):
        way = make_way()
        way.stream.link.to_client.strike_after(before + octets, Fault.DROP)
        outcomes, error = send_many(way, items)
        now = [a for a, b in zip(shown(outcomes), shown(expected), strict=False) if a == b]
        assert now == shown(expected[: len(now)])
        assert len(now) >= known, "what was known is known"
        known = len(now)
        for outcome in outcomes[known:]:
            assert isinstance(outcome, DeliveryInDoubt | ConnectionLost)
        if error is None:
            assert known == len(items)
        else:
            assert isinstance(error, ConnectionLost)
            assert len(outcomes) > known or known < len(items)
    assert known == len(items)


# --- In how many flights -------------------------------------------------------------------------


def flights(opening: OpenSettings, count: int, kind: str = "accepted") -> int:
    way = Way(opening)
    outcomes, error = send_many(way, [item(kind, number) for number in range(count)])
    assert error is None
    assert all(isinstance(outcome, SendResult) for outcome in outcomes)
    return way.flights


def test_small_messages_go_out_many_at_a_time() -> None:
    assert flights(OPENINGS["all"], 10) == 1


def test_the_content_and_the_next_group_are_one_flight() -> None:
    assert flights(OPENINGS["DATA"], 10) == 1 + 10
    assert flights(OPENINGS["all"], 10, "long") == 1 + 10


def test_one_by_one_where_pipelining_is_not_to_be() -> None:
    assert flights(OPENINGS["one by one"], 10) == 10 * 4


def test_no_more_is_under_way_than_the_limits_allow() -> None:
    one = Way()
    many = SendMany(one.session)
    messages = (item("for three", number) for number in range(1000))
    added = 0
    while many.wants_message:
        message = next(messages)
        many.add(message.envelope, message.content)
        added += 1
        flow = many.go_on()
        action = flow.next_action()
        while isinstance(action, Send):  # it is never answered
            action = flow.next_action()
        assert one.session.engine.outstanding <= one.session.limits.pipelined_commands
        if isinstance(action, Receive):
            break
        assert many.under_way
    assert added == 9, "6 commands each, and 5 of the first: the next begins while half is free"


def test_content_under_way_is_bounded() -> None:
    assert flights(settings(limits=Limits(pipelined_octets=1)), 10) == 10
    assert flights(settings(limits=Limits(pipelined_octets=30)), 10) == 9, "two at a time"


# --- How it is asked and told --------------------------------------------------------------------


def test_messages_are_asked_for_one_at_a_time() -> None:
    def state() -> tuple[bool, bool, bool]:
        return many.wants_message, many.under_way, way.session.usable

    way = Way(OPENINGS["DATA"])
    many = SendMany(way.session)
    first, second = item("accepted", 1), item("accepted", 2)
    assert state() == (True, False, True)
    many.add(first.envelope, first.content)
    assert state() == (False, True, True)
    with pytest.raises(LocalProtocolError, match="no message is wanted"):
        many.add(second.envelope, second.content)
    with pytest.raises(LocalProtocolError, match="no message is wanted"):
        many.add_error(ValueError())
    carry_out(many.go_on(), way)
    assert state() == (True, True, False), "the first is out"
    assert many.next_outcome() is None
    many.add(second.envelope, second.content)
    carry_out(many.go_on(), way)
    assert isinstance(many.next_outcome(), SendResult)
    assert many.next_outcome() is None
    assert state() == (False, True, False), "the second waits with its content"
    carry_out(many.go_on(), way)
    many.end()
    assert state() == (False, True, False)
    carry_out(many.go_on(), way)
    assert isinstance(many.next_outcome(), SendResult)
    assert state() == (False, False, True)
    assert many.next_outcome() is None


def test_of_messages_that_cannot_be_sent_none_piles_up() -> None:
    way = Way()
    many = SendMany(way.session)
    good, bad = item("accepted"), item("NUL")
    many.add(good.envelope, good.content)
    carry_out(many.go_on(), way)
    many.add(bad.envelope, bad.content)
    assert not many.wants_message
    carry_out(many.go_on(), way)
    assert isinstance(many.next_outcome(), SendResult)
    assert isinstance(many.next_outcome(), WireError)
    assert many.wants_message


def test_what_cannot_even_be_a_message_has_its_place() -> None:
    way = Way()
    many = SendMany(way.session)
    good, error = item("accepted"), ValueError("whose is it?")
    many.add(good.envelope, good.content)
    carry_out(many.go_on(), way)
    many.add_error(error)
    carry_out(many.go_on(), way)
    assert isinstance(many.next_outcome(), SendResult)
    assert many.next_outcome() is error


def test_a_session_can_be_used_between_messages() -> None:
    way = Way()
    many = SendMany(way.session)
    for number in range(3):
        message = item("all refused" if number == 1 else "accepted", number)
        many.add(message.envelope, message.content)
        carry_out(many.go_on(), way)
        while many.under_way:
            many._no_more = True
            carry_out(many.go_on(), way)
        many._no_more = False
        assert many.next_outcome() is not None
        assert carry_out(noop(way.session), way).positive
    assert len(way.handler.messages) == 2


def test_a_flow_that_was_given_up_ends_the_session() -> None:
    way = Way()
    many = SendMany(way.session)
    message = item("accepted")
    many.add(message.envelope, message.content)
    assert isinstance(many.go_on().next_action(), Send)
    assert not way.session.in_step
    outcomes, error = run(many, [], lambda flow, pieces: carry_out(flow, way, pieces))
    assert [type(outcome) for outcome in outcomes] == [ConnectionLost]
    assert isinstance(error, ConnectionLost)


class Journal:
    wants_events = True
    wants_lines = False

    def __init__(self) -> None:
        self.told: list[str] = []

    def line(self, speaker: object, text: str) -> None:
        raise AssertionError

    def happened(self, what: str) -> None:
        self.told.append(what.partition(" ")[0])

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        raise AssertionError


def test_the_journal_is_told_of_each() -> None:
    way = Way()
    way.session.journal = journal = Journal()
    items = [item("accepted"), item("sender refused"), item("too large"), item("NUL")]
    send_many(way, items)
    told, journal.told = journal.told, []
    assert told == ["accepted", "refused:", "not"]
    send_each(way, items)
    assert journal.told == told


# --- Where the server is strange, or ends it -----------------------------------------------------

HELLO = """
S: 220 mail.test ESMTP
C: EHLO [192.0.2.7]
S: 250-mail.test
"""
PIPELINING = HELLO + "S: 250 PIPELINING\n"
CHUNKING = HELLO + "S: 250-CHUNKING\nS: 250 PIPELINING\n"
GROUP = "C: MAIL FROM:<a@example.org>\nC: RCPT TO:<0.b@example.net>\nC: DATA\n"
CONTENT = "C: Subject: 0\nC:\nC: hello\n"
DATA = CONTENT + "C: .\n"
CHUNK = GROUP.replace("C: DATA", "C: BDAT 21 LAST") + CONTENT
OK = "S: 250 Ok\n"
GO = "S: 354 Go\n"
NEXT = "C: RSET\n"


def converse(
    hello: str, rest: str, count: int = 2, *, opening: OpenSettings | None = None
) -> tuple[list[Outcome], SMTPError | None, Session, Transcript]:
    session, server = opened(hello, rest, opening or settings())
    many = SendMany(session)
    items = [item("accepted")] * count
    outcomes, error = run(many, items, lambda flow, pieces: play(flow, server, pieces))
    server.finish()
    return outcomes, error, session, server


def names(outcomes: Sequence[Outcome]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


def test_what_goes_over_the_wire() -> None:
    outcomes, error, session, server = converse(
        PIPELINING,
        GROUP + OK + OK + GO + DATA + NEXT + GROUP + OK + OK + OK + OK + GO + DATA + OK,
    )
    assert names(outcomes) == ["SendResult", "SendResult"]
    assert error is None
    assert session.usable
    assert not any(timer.seconds is None for timer in server.timers)


def test_what_goes_over_the_wire_in_chunks() -> None:
    outcomes, error, session, _ = converse(
        CHUNKING, CHUNK + NEXT + CHUNK + NEXT + CHUNK + OK * 3 + OK * 4 + OK * 4, count=3
    )
    assert names(outcomes) == ["SendResult"] * 3
    assert error is None
    assert session.usable


@pytest.mark.parametrize("end", ENDS)
def test_in_doubt_is_what_was_sent_whole(end: str) -> None:
    lost = "SMTPTimeout" if end == "TIME" else "ConnectionLost"
    outcomes, error, session, _ = converse(
        PIPELINING, GROUP + OK + OK + GO + DATA + NEXT + GROUP + f"S:{end}\n", count=5
    )
    assert names(outcomes) == ["DeliveryInDoubt", lost]
    assert type(error).__name__ == lost
    assert outcomes[1] is error
    assert isinstance(error, SMTPError)
    assert error.phase is Phase.FINAL
    assert not session.usable
    outcomes, error, _, _ = converse(
        CHUNKING, CHUNK + NEXT + CHUNK + NEXT + CHUNK + OK * 3 + OK + f"S:{end}\n", count=3
    )
    assert names(outcomes) == ["SendResult", "DeliveryInDoubt", "DeliveryInDoubt"]
    assert type(error).__name__ == lost
    assert isinstance(outcomes[2], DeliveryInDoubt)
    assert outcomes[2].__cause__ is error


def test_a_refused_rset_with_a_message_behind_it_ends_the_session() -> None:
    outcomes, error, session, _ = converse(
        CHUNKING, CHUNK + NEXT + CHUNK + OK * 3 + "S: 500 What?\n" + OK * 3
    )
    assert names(outcomes) == ["SendResult", "DeliveryInDoubt"]
    assert isinstance(error, ProtocolViolation)
    assert not session.usable


def test_a_refused_rset_with_nothing_behind_it_yet_ends_the_session() -> None:
    narrow = settings(limits=Limits(pipelined_commands=2))
    addresses, _, chunk = CHUNK.partition("C: BDAT")
    script = addresses + OK * 2 + "C: BDAT" + chunk + NEXT + "S: 554 No\nS: 500 What?\n"
    outcomes, error, session, _ = converse(CHUNKING, script, count=3, opening=narrow)
    assert names(outcomes) == ["PermanentContentRefused", "ConnectionLost"]
    assert str(outcomes[1]) == "the server takes no message: 500 What?"
    assert str(error) == "the server takes no other message: 500 What?"
    assert not session.usable


def test_421_speaks_for_all_that_is_under_way() -> None:
    closing = "S: 421 4.3.2 Closing\n"
    outcomes, error, session, _ = converse(
        CHUNKING, CHUNK + NEXT + CHUNK + NEXT + CHUNK + OK * 3 + closing, count=3
    )
    # It answers RSET, which is the next message's.
    assert names(outcomes) == ["SendResult", "ConnectionLost", "ConnectionLost"]
    assert isinstance(error, ConnectionLost)
    assert error.reply is not None
    assert error.reply.code == 421
    assert not session.usable


def test_behind_a_reset_that_is_refused_no_message_is_taken() -> None:
    outcomes, error, session, _ = converse(
        PIPELINING, GROUP + OK + OK + "S: 554 No\n" + "C: RSET\nS: 500 What?\n", count=3
    )
    assert names(outcomes) == ["PermanentContentRefused"]
    assert isinstance(error, ConnectionLost)
    assert str(error) == "behind a message that was refused the server takes no other"
    assert not session.usable


def test_behind_a_reset_that_is_not_answered_it_is_told_why() -> None:
    outcomes, error, session, _ = converse(
        PIPELINING, GROUP + OK + OK + "S: 554 No\n" + "C: RSET\nS:TIME\n", count=3
    )
    assert names(outcomes) == ["PermanentContentRefused"]
    assert isinstance(error, SMTPTimeout)
    assert (error.phase, error.seconds) == (Phase.COMMAND, 300)
    assert not session.usable


def test_what_was_said_before_a_write_failed_counts_for_each_message() -> None:
    outcomes, error, _, _ = converse(
        PIPELINING,
        GROUP + OK + OK + GO + DATA + NEXT + GROUP + OK + OK + OK + OK + GO + "C:BREAK\n" + OK
        + "S:EOF\n",
        count=3,
    )  # fmt: skip
    assert names(outcomes) == ["SendResult", "SendResult"]
    assert isinstance(error, ConnectionLost)


def test_a_write_that_fails_leaves_those_before_in_doubt() -> None:
    session, server = opened(CHUNKING, CHUNK)
    server.fail_flight(1, BrokenPipeError(32, "Broken pipe"), "EOF")
    many = SendMany(session)
    outcomes, error = run(many, [item("accepted")] * 3, lambda flow, _: play(flow, server))
    assert names(outcomes) == ["DeliveryInDoubt", "ConnectionLost"]
    assert outcomes[1] is error


class Leaving(Transcript):
    """Says its last words where the client's fourth write fails."""

    def write(self, data: bytes) -> None:
        if self.flights == 3:
            self.lines = ["S: 250 Ok"] * 4 + ["S: 421 4.3.2 Closing", "S:EOF"]
            raise BrokenPipeError(32, "Broken pipe")
        super().write(data)


def test_421_before_a_write_failed_speaks_for_all_that_is_under_way() -> None:
    server = Leaving(CHUNKING)
    session = play(OpenSession(settings()), server)
    server.flights = 0
    many = SendMany(session)
    outcomes, error = run(many, [item("accepted")] * 5, lambda flow, _: play(flow, server))
    assert names(outcomes) == ["SendResult", "ConnectionLost", "ConnectionLost", "ConnectionLost"]
    assert isinstance(error, ConnectionLost)


class Clear:
    """TLS without a cipher; a NUL is its end, which may come together with the last words."""

    closed = False
    info = TLSInfo("TLSv1.3", "NULL", None, verified=True, peer_certificate=None)

    def handshake(self) -> bool:
        return True

    def receive_data(self, data: Octets) -> bytes:
        clear, end, _ = bytes(data).partition(b"\0")
        self.closed = self.closed or bool(end)
        return clear

    def receive_eof(self) -> None:
        raise AssertionError

    def encrypt(self, data: Octets) -> bytes:
        return bytes(data)

    def data_to_send(self) -> bytes:
        return b""

    def close(self) -> bytes:
        return b""


@pytest.mark.parametrize("replies", [OK, OK * 2, OK * 4 + GO])
def test_an_end_that_comes_with_the_replies_settles_all(replies: str) -> None:
    rest = GROUP + OK + OK + GO + DATA + NEXT + GROUP + replies + "S: \0\n"
    opening = settings(security=Security.IMPLICIT, tls=lambda _: cast("TLSLayer", Clear()))
    outcomes, error, session, _ = converse(PIPELINING, rest, opening=opening)
    assert names(outcomes) == ["SendResult", "ConnectionLost"]
    assert isinstance(error, ConnectionLost)
    assert not session.in_step


def test_a_server_that_left_meanwhile_is_sent_nothing() -> None:
    session, server = opened(PIPELINING)
    session.hear(b"")
    many = SendMany(session)
    outcomes, error = run(many, [item("accepted")] * 3, lambda flow, _: play(flow, server))
    assert names(outcomes) == ["ConnectionLost"]
    assert outcomes == [error]
    assert server.flights == 0


def test_a_message_that_cannot_be_ended_is_its_own_and_the_last() -> None:
    session, server = opened(PIPELINING, GROUP + OK + OK + GO)
    many = SendMany(session)
    long = item("long").content
    broken = Item(item("accepted").envelope, long + b"\xff", pieces=True)
    outcomes, error = run(many, [broken] * 3, lambda flow, pieces: play(flow, server, pieces))
    assert names(outcomes) == ["CapabilityMissing"]
    assert isinstance(error, CapabilityMissing)
    assert not session.usable
    session, server = opened(PIPELINING, GROUP + OK + OK + GO)
    many = SendMany(session)
    many.add(item("accepted").envelope, None)
    play(many.go_on(), server, [long, b"\0"])
    assert isinstance(many.next_outcome(), WireError)
    with pytest.raises(WireError):
        many.next_outcome()
    assert not session.usable


def test_what_is_wrong_with_first_pieces_concerns_one_message_alone() -> None:
    good = item("accepted")
    wrong = [b"\0", b"a\n\n\xff", "Subject: é\n".encode()]
    items = [good, *(Item(good.envelope, content, pieces=True) for content in wrong), good]
    session, server = opened(PIPELINING, (GROUP + OK + OK + GO + DATA + OK) * 2)
    outcomes, error = run(SendMany(session), items, lambda flow, pieces: play(flow, server, pieces))
    assert names(outcomes) == [
        "SendResult",
        "WireError",
        "CapabilityMissing",
        "CapabilityMissing",
        "SendResult",
    ]
    missing = [each.capability for each in outcomes if isinstance(each, CapabilityMissing)]
    assert missing == ["8BITMIME", "SMTPUTF8"]
    assert error is None
    server.finish()


def test_pieces_are_fetched_when_nothing_is_under_way() -> None:
    way = Way()
    many = SendMany(way.session)

    def act(flow: Flow[None], pieces: Iterator[bytes]) -> None:
        carry_out(flow, way, watched(pieces))

    def watched(pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            assert not way.session.engine.outstanding
            yield piece

    items = [item("accepted", number, pieces=number % 2 > 0) for number in range(6)]
    outcomes, error = run(many, items, act)
    assert names(outcomes) == ["SendResult"] * 6
    assert error is None


@pytest.mark.parametrize("end", ENDS)
def test_a_message_in_pieces_that_was_not_begun_is_not_in_doubt(end: str) -> None:
    session, server = opened(PIPELINING, GROUP + OK + OK + GO + DATA + f"S:{end}\n")
    items = [item("accepted"), item("accepted", pieces=True)]
    outcomes, error = run(SendMany(session), items, lambda flow, _: play(flow, server))
    assert names(outcomes) == ["DeliveryInDoubt", type(error).__name__]
    assert outcomes[1] is error
    server.finish()


def test_a_server_that_leaves_is_no_content_asked_for() -> None:
    session, server = opened(PIPELINING, GROUP + OK + OK + GO + DATA + "S: 421 4.3.2 Closing\n")
    items = [item("accepted"), item("accepted", pieces=True)]
    seen: list[Action] = []
    outcomes, error = run(
        SendMany(session), items, lambda flow, pieces: play(flow, server, pieces, seen)
    )
    assert names(outcomes) == ["TransientContentRefused", "ConnectionLost"]
    assert outcomes[1] is error
    assert str(error) == "the server takes no other message: 421 4.3.2 Closing"
    assert not any(isinstance(action, Content) for action in seen)


class SourceError(Exception):
    """What the caller's own content may raise."""


@pytest.mark.parametrize("begun", [False, True])
def test_what_content_raises_is_raised_and_nothing_is_sent_behind_it(*, begun: bool) -> None:
    session, server = opened(PIPELINING, GROUP + OK + OK + GO + DATA + OK + GROUP + OK + OK + GO)
    many = SendMany(session)

    def pieces() -> Iterator[bytes]:
        yield item("long").content if begun else b"x"
        raise SourceError

    many.add(item("accepted").envelope, item("accepted").content)
    play(many.go_on(), server)
    many.add(item("accepted").envelope, None)
    play(many.go_on(), server)
    assert isinstance(many.next_outcome(), SendResult), "those before it are told first"
    actions: list[Action] = []
    with pytest.raises(SourceError):
        play_with_source(many.go_on(), server, pieces(), actions)
    assert isinstance(actions[-1], Content)
    assert (session.in_step, session.usable) == (not begun, not begun)
    assert not many.wants_message
    assert not many.under_way
    assert many.next_outcome() is None
    assert server.sent.count(b"MAIL") == 1 + begun
    assert server.sent.count(b"\r\n.\r\n") == 1


def play_with_source(
    flow: Flow[None], server: Transcript, pieces: Iterator[bytes], actions: list[Action]
) -> None:
    """As an adapter does it."""
    while True:
        action = flow.next_action()
        assert isinstance(action, Send | Receive | Content)
        actions.append(action)
        match action:
            case Send(data):
                server.write(bytes(data))
            case Receive():
                flow.receive_data(server.read())
            case Content():
                try:
                    flow.content(next(pieces, None))
                except SourceError as error:
                    flow.failed(error)


def test_the_whole_time_is_that_of_each_step() -> None:
    session, server = opened(PIPELINING, GROUP, settings())
    many = SendMany(session)
    many.add(item("accepted").envelope, b"x")
    flow = many.go_on()
    assert flow.total is None
    flow.next_action()
    flow.timed_out(whole=True)
    with pytest.raises(SMTPTimeout):
        flow_error(flow, many)
    del server


def flow_error(flow: Flow[None], many: SendMany) -> None:
    flow.next_action()
    outcome = many.next_outcome()
    assert isinstance(outcome, SMTPTimeout)
    assert outcome.phase is Phase.MAIL
    raise outcome


def test_lazily() -> None:
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        while True:
            taken += 1
            yield item("accepted", taken)

    way = Way(OPENINGS["DATA"])
    many = SendMany(way.session)
    messages = endless()
    for told in range(1, 6):
        run_until_outcome(many, messages, way)
        assert taken <= told + 1
    assert list(islice(messages, 1))


def run_until_outcome(many: SendMany, messages: Iterator[Item], way: Way) -> Outcome:
    while (outcome := many.next_outcome()) is None:
        if many.wants_message:
            message = next(messages)
            many.add(message.envelope, message.content)
        carry_out(many.go_on(), way)
    return outcome
