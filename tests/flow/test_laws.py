"""What holds for each client flow, whatever the server says and wherever the connection ends.

Knows the laws of the design. Must not know how a flow finds its way.
"""

from __future__ import annotations

import re
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.flow.actions import Timer
from smtp_proto.flow.close import CloseSession
from smtp_proto.flow.envelope import SendResult
from smtp_proto.flow.errors import (
    ConnectionLost,
    RecipientsRefused,
    ReplyError,
    SMTPError,
    SMTPTimeout,
)
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.simple import noop
from smtp_proto.sasl import Credentials, Policy
from tests.flow.conversations import CONVERSATIONS, Conversation
from tests.flow.scripted import ENDS, Transcript, play, settings

each_conversation = pytest.mark.parametrize(
    "conversation", CONVERSATIONS.values(), ids=CONVERSATIONS.keys()
)
conversations = st.sampled_from(tuple(CONVERSATIONS))

# --- Truth: accepted, refused, in doubt, or not sent -----------------------------------------


@each_conversation
def test_a_conversation_to_its_end(conversation: Conversation) -> None:
    session, server = conversation.open(Transcript(conversation.text))
    outcome = conversation.outcome_of(session, server)
    server.finish()
    assert isinstance(outcome, conversation.outcome)
    assert session.usable is conversation.usable


@pytest.mark.parametrize("end", ENDS)
@each_conversation
def test_the_truth_wherever_the_connection_ends(conversation: Conversation, end: str) -> None:
    not_sent = SMTPTimeout if end == "TIME" else ConnectionLost
    for octets in range(conversation.octets):
        session, server = conversation.open(Transcript(conversation.text))
        server.end_after(octets, end)
        outcome = conversation.outcome_of(session, server)
        truth = conversation.truth(server.sent, octets) or not_sent
        assert isinstance(outcome, truth), f"after {octets} octets"
        assert not session.usable, f"after {octets} octets"


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), TimeoutError()], ids=repr)
@each_conversation
def test_the_truth_whichever_write_fails(
    conversation: Conversation, error: OSError, end: str
) -> None:
    session, whole = conversation.open(Transcript(conversation.text))
    conversation.outcome_of(session, whole)
    not_sent = SMTPTimeout if isinstance(error, TimeoutError) else ConnectionLost
    for flight in range(whole.flights):
        session, server = conversation.open(Transcript(conversation.text))
        before = server.said
        server.fail_flight(flight, error, end)
        outcome = conversation.outcome_of(session, server)
        truth = conversation.truth(server.sent, server.said - before) or not_sent
        assert isinstance(outcome, truth), f"in flight {flight}"
        assert not session.usable


@each_conversation
def test_all_recipients_are_accepted_or_refused_and_none_is_both(
    conversation: Conversation,
) -> None:
    session, server = conversation.open(Transcript(conversation.text))
    outcome = conversation.outcome_of(session, server)
    if isinstance(outcome, SendResult):
        recipients = sorted([*outcome.accepted, *outcome.refused])
        assert recipients == ["b@example.net", "c@example.net"]
        assert all(reply.positive for reply in outcome.accepted.values())
        assert not any(reply.positive for reply in outcome.refused.values())


# --- Split: how the server's octets are cut changes nothing ----------------------------------

LOGIN = """
S: 220 mail.test
C: EHLO [192.0.2.7]
S: 250-mail.test
S: 250 AUTH LOGIN
C: AUTH LOGIN
S: 334 VXNlcm5hbWU6
C: YWxpY2U=
S: 334 UGFzc3dvcmQ6
C: czNjcmV0
S: 235 2.7.0 Welcome
"""
LOGGING_IN = settings(
    credentials=Credentials("alice", "s3cret"), policy=Policy(allow_cleartext=True)
)


@given(conversations, st.lists(st.integers(1, 40)))
def test_the_cutting_of_what_comes_changes_nothing(name: str, sizes: list[int]) -> None:
    conversation = CONVERSATIONS[name]

    def course(server: Transcript) -> tuple[bytes, int, str]:
        session, _ = conversation.open(server)
        outcome = conversation.outcome_of(session, server)
        return server.sent, server.flights, repr(outcome)

    whole = course(Transcript(conversation.text))
    assert course(Transcript(conversation.text, sizes)) == whole
    assert course(Transcript(conversation.text, repeat(1))) == whole


@given(st.lists(st.integers(1, 20)))
def test_the_cutting_changes_nothing_in_logging_in(sizes: list[int]) -> None:
    server = Transcript(LOGIN, sizes)
    assert play(OpenSession(LOGGING_IN), server).authenticated
    server.finish()


# --- No hang: each wait has a deadline, and drip does not move it ----------------------------

REPLY = re.compile(rb"(?:\d{3}-[^\r]*\r\n)*\d{3} [^\r]*\r\n")


class Dripping(Transcript):
    """Says one octet at a time. `waits`: the timer under which each was waited for."""

    def __init__(self, text: str) -> None:
        super().__init__(text, repeat(1))
        self.heard = b""
        self.waits: list[Timer] = []

    def read(self) -> bytes:
        data = super().read()
        self.heard += data
        self.waits.append(self.timers[-1])
        return data

    def assert_patience(self) -> None:
        """Each reply was waited for under one timer, and no two of them under the same."""
        assert all(timer.seconds is not None for timer in self.timers)
        replies = list(REPLY.finditer(self.heard))
        assert replies[-1].end() == len(self.heard)
        for reply in replies:
            timers = self.waits[reply.start() : reply.end()]
            assert len({id(timer) for timer in timers}) == 1, reply[0]


@each_conversation
def test_drip_moves_no_deadline(conversation: Conversation) -> None:
    session, server = conversation.open(Dripping(conversation.text))
    conversation.outcome_of(session, server)
    server.assert_patience()


def test_drip_moves_no_deadline_in_logging_in_and_out() -> None:
    server = Dripping(LOGIN + "C: NOOP\nS: 250 Ok\nC: QUIT\nS: 221 Bye\n")
    session = play(OpenSession(LOGGING_IN), server)
    play(noop(session), server)
    play(CloseSession(session), server)
    server.finish()
    server.assert_patience()


# --- Atomic, and only documented exceptions: whatever comes ----------------------------------

WORDS = b"250|354|421|550|334|220|-| |Ok|\r|\n|\0|\xff".split(b"|")
LINES = b"250 Ok|354 Go|550 No|421 Bye|334 !|220 Hi".split(b"|")
NOISE = st.binary(max_size=30) | st.lists(
    st.sampled_from(WORDS + [line + b"\r\n" for line in LINES])
).map(b"".join)


class Noisy(Transcript):
    """Plays the transcript up to some octet of it, then says anything at all, then ends."""

    def __init__(self, text: str, octets: int, noise: list[bytes], then: str) -> None:
        super().__init__(text)
        self.noise = iter([piece for piece in noise if piece])
        all_octets = sum(len(line) - 1 for line in self.lines if line.startswith("S: "))
        self.end_after(octets % (all_octets + 1), then)

    def read(self) -> bytes:
        if self.said == self.last:
            return next(self.noise, None) or super().read()
        return super().read()


@given(conversations, st.integers(0, 300), st.lists(NOISE, max_size=12), st.sampled_from(ENDS))
def test_whatever_comes_ends_in_a_documented_error(
    name: str, octets: int, noise: list[bytes], then: str
) -> None:
    conversation = CONVERSATIONS[name]
    server = Noisy(conversation.text, octets, noise, then)
    try:
        session, _ = conversation.open(server)
    except SMTPError:
        return
    assert session.usable
    outcome = conversation.outcome_of(session, server)
    if not isinstance(outcome, SendResult | ReplyError | RecipientsRefused):
        assert not session.usable
    play(CloseSession(session), server)
    assert not session.usable


@given(st.integers(0, 200), st.lists(NOISE, max_size=12), st.sampled_from(ENDS))
def test_whatever_comes_in_logging_in_ends_in_a_documented_error(
    octets: int, noise: list[bytes], then: str
) -> None:
    server = Noisy(LOGIN, octets, noise, then)
    try:
        session = play(OpenSession(LOGGING_IN), server)
    except SMTPError:
        return
    assert session.authenticated
