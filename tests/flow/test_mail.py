"""SendMail: what goes over the wire, in how many flights, and what is made of each answer.

Knows the order of a mail transaction. Must not know what a message needs of the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import TypeVar

import pytest

from smtp_proto.engine import Protocol
from smtp_proto.flow.actions import Content, Send
from smtp_proto.flow.close import CloseSession
from smtp_proto.flow.envelope import Envelope, SendResult
from smtp_proto.flow.errors import (
    CapabilityMissing,
    ConnectionLost,
    ContentRefused,
    DeliveryInDoubt,
    MessageTooLarge,
    PermanentError,
    ProtocolViolation,
    RecipientsRefused,
    SenderRefused,
    SMTPError,
    SMTPTimeout,
    TransientError,
)
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire import Limits
from tests.flow.scripted import CLEAR, Transcript, opened, play, settings

E = TypeVar("E", bound=SMTPError)

OPEN = """
S: 220 mail.test ESMTP
C: EHLO [192.0.2.7]
S: 250-mail.test
"""
PIPELINING = OPEN + "S: 250-SIZE 1000000\nS: 250-8BITMIME\nS: 250-DSN\nS: 250 PIPELINING\n"
PLAIN = OPEN + "S: 250 HELP\n"
UTF8 = OPEN + "S: 250-8BITMIME\nS: 250-SMTPUTF8\nS: 250 PIPELINING\n"
CHUNKING = OPEN + "S: 250-SIZE\nS: 250-CHUNKING\nS: 250 PIPELINING\n"

BODY = b"Subject: x\r\n\r\nhello\r\n"
LONG = b"Subject: x\r\n\r\n" + b"hello\r\n" * 10_000  # more than is looked at before it is sent
TWO = Envelope.of("a@example.org", ["b@example.net", "c@example.net"])


def send(
    hello: str,
    rest: str,
    envelope: Envelope = TWO,
    content: bytes = BODY,
    *,
    opening: OpenSettings = CLEAR,
) -> tuple[SendResult, Session, Transcript]:
    session, server = opened(hello, rest, opening)
    result = play(SendMail(session, envelope, content), server)
    server.finish()
    return result, session, server


def fail(
    error: type[E],
    hello: str,
    rest: str,
    envelope: Envelope = TWO,
    content: bytes = BODY,
    *,
    opening: OpenSettings = CLEAR,
) -> tuple[E, Session, Transcript]:
    session, server = opened(hello, rest, opening)
    with pytest.raises(error) as caught:
        play(SendMail(session, envelope, content), server)
    server.finish()
    return caught.value, session, server


GROUP = """
C: MAIL FROM:<a@example.org> SIZE=21
C: RCPT TO:<b@example.net>
C: RCPT TO:<c@example.net>
C: DATA
"""
CONTENT = """
C: Subject: x
C:
C: hello
C: .
"""


def test_one_flight_for_the_commands_and_one_for_the_content() -> None:
    result, session, server = send(
        PIPELINING,
        GROUP
        + "S: 250 2.1.0 Ok\nS: 250 2.1.5 Ok\nS: 251 2.1.5 Forwarded\nS: 354 Go\n"
        + CONTENT
        + "S: 250 2.0.0 Queued as 42\n",
    )
    assert server.flights == 2
    assert set(result.accepted) == {"b@example.net", "c@example.net"}
    assert result.accepted["c@example.net"].code == 251
    assert not result.refused
    assert result.reply.text == "Queued as 42"
    assert session.usable


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_the_cutting_of_replies_changes_nothing(cut: int) -> None:
    session, server = opened(
        PIPELINING,
        GROUP
        + "S: 250-2.1.0 Ok\nS: 250 2.1.0 Ok\nS: 250 2.1.5 Ok\nS: 550 no\nS: 354 Go\n"
        + CONTENT
        + "S: 250 Ok\n",
    )
    server.sizes = repeat(cut)
    result = play(SendMail(session, TWO, BODY), server)
    server.finish()
    assert list(result.accepted) == ["b@example.net"]
    assert result.refused["c@example.net"].code == 550


def test_one_by_one_without_pipelining() -> None:
    _, _, server = send(
        PLAIN,
        """
        C: MAIL FROM:<a@example.org>
        S: 250 Ok
        C: RCPT TO:<b@example.net>
        S: 250 Ok
        C: RCPT TO:<c@example.net>
        S: 250 Ok
        C: DATA
        S: 354 Go
        """
        + CONTENT
        + "S: 250 Ok",
    )
    assert server.flights == 5


def test_pipelining_can_be_switched_off() -> None:
    _, _, server = send(
        PIPELINING,
        """
        C: MAIL FROM:<a@example.org> SIZE=21
        S: 250 Ok
        C: RCPT TO:<b@example.net>
        S: 250 Ok
        C: RCPT TO:<c@example.net>
        S: 250 Ok
        C: DATA
        S: 354 Go
        """
        + CONTENT
        + "S: 250 Ok",
        opening=settings(pipelining=False),
    )
    assert server.flights == 5


def test_a_small_message_goes_out_whole_where_chunking_is_offered() -> None:
    result, _, server = send(
        CHUNKING,
        """
        C: MAIL FROM:<a@example.org> SIZE=21
        C: RCPT TO:<b@example.net>
        C: RCPT TO:<c@example.net>
        C: BDAT 21 LAST
        C: Subject: x
        C:
        C: hello
        S: 250 Ok
        S: 250 Ok
        S: 250 Ok
        S: 250 Done
        """,
    )
    assert server.flights == 1
    assert result.reply.text == "Done"


def test_chunking_can_be_switched_off() -> None:
    send(
        CHUNKING,
        GROUP + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n",
        opening=settings(chunking=False),
    )


@pytest.mark.parametrize(
    ("last", "reply"),
    [
        ("C: BDAT 21 LAST\nC: Subject: x\nC:\nC: hello\n", "554 no valid recipients"),
        ("C: DATA\n", "554 no valid recipients"),
    ],
)
def test_all_recipients_refused(last: str, reply: str) -> None:
    hello = CHUNKING if "BDAT" in last else PIPELINING
    error, session, _ = fail(
        RecipientsRefused,
        hello,
        GROUP.replace("C: DATA\n", last)
        + f"S: 250 Ok\nS: 550 no b\nS: 450 no c\nS: {reply}\nC: RSET\nS: 250 Ok\n",
    )
    assert {name: reply.code for name, reply in error.refused.items()} == {
        "b@example.net": 550,
        "c@example.net": 450,
    }
    assert session.usable


@pytest.mark.parametrize(
    ("codes", "kind", "code"),
    [
        ((550, 553), PermanentError, 550),
        ((450, 452), TransientError, 450),
        ((550, 452), TransientError, 452),
    ],
)
def test_one_recipient_who_may_be_accepted_later_is_enough(
    codes: tuple[int, int], kind: type[SMTPError], code: int
) -> None:
    replies = "".join(f"S: {each} no\n" for each in codes)
    error, session, _ = fail(
        RecipientsRefused,
        PIPELINING,
        GROUP + f"S: 250 Ok\n{replies}S: 554 nobody\nC: RSET\nS: 250 Ok\n",
    )
    assert isinstance(error, kind)
    assert (error.phase, error.command, error.reply.code) == (Phase.RCPT, "RCPT", code)
    assert str(error).startswith("no recipient was accepted: <b@example.net>: ")
    assert session.usable


def test_354_with_no_recipient_is_answered_by_the_lone_dot() -> None:
    _, session, _ = fail(
        RecipientsRefused,
        PIPELINING,
        GROUP + "S: 250 Ok\nS: 550 no\nS: 550 no\nS: 354 Go\nC: .\nS: 554 nobody\n",
    )
    assert session.usable


def test_the_lone_dot_is_enough_even_if_the_server_says_250() -> None:
    fail(
        RecipientsRefused,
        PIPELINING,
        GROUP + "S: 250 Ok\nS: 550 no\nS: 550 no\nS: 354 Go\nC: .\nS: 250 Ok\n",
    )


@pytest.mark.parametrize(("code", "kind"), [(451, TransientError), (550, PermanentError)])
def test_sender_refused(code: int, kind: type[SMTPError]) -> None:
    error, session, _ = fail(
        SenderRefused, PIPELINING, GROUP + f"S: {code} no\nS: 503 no\nS: 503 no\nS: 503 no\n"
    )
    assert isinstance(error, kind)
    assert session.usable


def test_after_a_failed_chunk_rset_makes_room_for_the_next_message() -> None:
    chunk = (GROUP + CONTENT).replace("C: DATA", "C: BDAT 21 LAST").replace("C: .\n", "")
    session, server = opened(
        CHUNKING,
        chunk
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 554 no\nC: RSET\nS: 250 Ok\n"
        + chunk
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 554 no\nC: RSET\nS: 500 no\n",
    )
    with pytest.raises(ContentRefused):
        play(SendMail(session, TWO, BODY), server)
    assert session.usable
    with pytest.raises(ContentRefused):
        play(SendMail(session, TWO, BODY), server)
    assert not session.usable, "RFC 3030 2: without RSET nobody knows where the server stands"


def test_sender_refused_one_by_one_stops_at_once() -> None:
    fail(SenderRefused, PLAIN, "C: MAIL FROM:<a@example.org>\nS: 550 no\n")


def test_recipients_refused_one_by_one_never_sends_data() -> None:
    fail(
        RecipientsRefused,
        PLAIN,
        """
        C: MAIL FROM:<a@example.org>
        S: 250 Ok
        C: RCPT TO:<b@example.net>
        S: 550 no
        C: RCPT TO:<c@example.net>
        S: 550 no
        C: RSET
        S: 250 Ok
        """,
    )


@pytest.mark.parametrize(("code", "kind"), [(452, TransientError), (554, PermanentError)])
def test_data_refused(code: int, kind: type[SMTPError]) -> None:
    error, session, _ = fail(
        ContentRefused,
        PIPELINING,
        GROUP + f"S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: {code} no\nC: RSET\nS: 250 Ok\n",
    )
    assert isinstance(error, kind)
    assert session.usable


@pytest.mark.parametrize(("code", "kind"), [(452, TransientError), (554, PermanentError)])
def test_content_refused(code: int, kind: type[SMTPError]) -> None:
    error, session, _ = fail(
        ContentRefused,
        PIPELINING,
        GROUP + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + f"S: {code} no\n",
    )
    assert isinstance(error, kind)
    assert session.usable


def test_a_session_goes_on_after_a_refusal() -> None:
    session, server = opened(
        PIPELINING,
        GROUP
        + "S: 550 no\nS: 503 no\nS: 503 no\nS: 503 no\n"
        + GROUP
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
        + CONTENT
        + "S: 250 Ok\nC: QUIT\nS: 221 Bye\n",
    )
    with pytest.raises(SenderRefused):
        play(SendMail(session, TWO, BODY), server)
    play(SendMail(session, TWO, BODY), server)
    play(CloseSession(session), server)
    server.finish()
    assert not session.usable


@pytest.mark.parametrize("end", ["EOF", "TIME", "BREAK"])
def test_in_doubt_after_the_content(end: str) -> None:
    error, session, _ = fail(
        DeliveryInDoubt,
        PIPELINING,
        GROUP + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + f"S:{end}\n",
    )
    assert not session.usable
    assert isinstance(error.__cause__, SMTPTimeout if end == "TIME" else ConnectionLost)


@pytest.mark.parametrize("end", ["EOF", "TIME", "BREAK"])
@pytest.mark.parametrize("replies", range(4))
def test_not_sent_before_the_content(end: str, replies: int) -> None:
    said = ["S: 250 Ok\n", "S: 250 Ok\n", "S: 250 Ok\n"][:replies]
    _, session, _ = fail(
        SMTPTimeout if end == "TIME" else ConnectionLost,
        PIPELINING,
        GROUP + "".join(said) + f"S:{end}\n",
    )
    assert not session.usable


def test_nonsense_instead_of_the_final_reply_leaves_it_in_doubt() -> None:
    error, _, _ = fail(
        DeliveryInDoubt,
        PIPELINING,
        GROUP + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: hello\n",
    )
    assert isinstance(error.__cause__, ProtocolViolation)
    assert error.phase is Phase.FINAL


def test_a_refusal_read_after_a_failed_write_is_told() -> None:
    session, server = opened(
        PIPELINING,
        GROUP.replace("=21", "=300002")
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\nC:BREAK\nS: 552 too much\nS:EOF\n",
    )
    with pytest.raises(ContentRefused) as caught:
        play(SendMail(session, TWO, b"x" * 300_000), server)
    assert caught.value.reply.code == 552
    assert not session.usable


@pytest.mark.parametrize("end", ["EOF", "TIME"])
@pytest.mark.parametrize(
    ("last_words", "kind"),
    [("552 too much", ContentRefused), ("421 closing", ContentRefused), ("250 Ok", SendResult)],
)
def test_what_was_said_before_the_last_write_failed_counts(
    last_words: str, kind: type[object], end: str
) -> None:
    script = GROUP + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\nC:BREAK\n"
    session, server = opened(PIPELINING, script + f"S: {last_words}\nS:{end}\n")
    outcome: object
    try:
        outcome = play(SendMail(session, TWO, BODY), server)
    except SMTPError as error:
        outcome = error
    assert isinstance(outcome, kind)
    assert not session.usable
    assert server.timers[-1].phase is Phase.LAST_WORDS


def test_421_before_a_write_in_the_middle_failed() -> None:
    session, server = opened(
        PIPELINING,
        GROUP.replace("=21", "=300002")
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\nC:BREAK\nS: 421 closing\nS:EOF\n",
    )
    with pytest.raises(ConnectionLost, match="last words: 421 closing") as caught:
        play(SendMail(session, TWO, b"x" * 300_000), server)
    assert caught.value.reply is not None
    assert caught.value.reply.code == 421


def test_a_whole_flight_that_was_answered_though_its_write_failed() -> None:
    replies = "S: 250 Ok\nS: 550 no\nS: 250 Ok\nS: 250 Done\nS:EOF\n"
    session, server = opened(CHUNKING, "C:BREAK\n" + replies)
    result = play(SendMail(session, TWO, BODY), server)
    assert list(result.accepted) == ["c@example.net"]
    assert not session.usable


def test_a_flight_that_was_refused_before_its_write_failed() -> None:
    replies = "S: 250 Ok\nS: 450 later\nS: 554 no\nS: 250 Ok\nS:EOF\n"
    three = Envelope.of("a@example.org", [f"{name}@example.net" for name in "bcd"])
    session, server = opened(CHUNKING, "C:BREAK\n" + replies)
    with pytest.raises(ConnectionLost, match="last words: 554 no"):
        play(SendMail(session, three, BODY), server)


def test_a_failed_write_with_no_last_words() -> None:
    session, server = opened(
        PIPELINING, GROUP + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\nC:BREAK\nS:TIME\n"
    )
    with pytest.raises(ConnectionLost) as caught:
        play(SendMail(session, TWO, BODY), server)
    assert caught.value.phase is Phase.BLOCK
    assert not session.usable


@pytest.mark.parametrize(
    ("at", "kind"),
    [
        (0, SenderRefused),
        (1, ConnectionLost),
        (2, ConnectionLost),
        (3, ContentRefused),
        (4, ContentRefused),
    ],
)
def test_421_anywhere_ends_the_session(at: int, kind: type[SMTPError]) -> None:
    normal = ["250 Ok", "250 Ok", "250 Ok", "354 Go"]
    replies = (
        "".join(f"S: {line}\n" for line in normal[:at])
        + (CONTENT if at == 4 else "")
        + "S: 421 closing\n"
    )
    error, session, _ = fail(kind, PIPELINING, GROUP + replies)
    assert not session.usable
    assert "421" in str(error)


def test_many_recipients_go_in_several_flights() -> None:
    many = Envelope.of("a@example.org", [f"r{i}@example.net" for i in range(250)])
    group = ["MAIL FROM:<a@example.org> SIZE=21"]
    group += [f"RCPT TO:<r{i}@example.net>" for i in range(250)]
    flights = [group[:100], group[100:200], [*group[200:], "DATA"]]
    script = ""
    for flight in flights:
        script += "".join(f"C: {line}\n" for line in flight)
        script += "S: 250 Ok\n" * (len(flight) - 1)
        script += "S: 354 Go\n" if "DATA" in flight else "S: 250 Ok\n"
    result, _, server = send(PIPELINING, script + CONTENT + "S: 250 Ok\n", many)
    assert len(result.accepted) == 250
    assert server.flights == 4


def test_no_more_commands_are_in_flight_than_the_limit_allows() -> None:
    many = [f"r{i}@example.net" for i in range(9)]
    commands = ["MAIL FROM:<a@example.org> SIZE=21", *(f"RCPT TO:<{name}>" for name in many)]
    script = "".join(f"C: {line}\n" for line in commands[:3])
    for line in [*commands[3:], "DATA"]:
        script += f"S: 250 Ok\nC: {line}\n"
    _, _, server = send(
        PIPELINING,
        script + "S: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n",
        Envelope.of("a@example.org", many),
        opening=settings(limits=Limits(pipelined_commands=3)),
    )
    assert server.flights == 1 + 8 + 1, "three, then one for each reply, then the content"


def test_no_chunk_without_pipelining() -> None:
    offers = PLAIN.replace("HELP", "CHUNKING")
    commands = GROUP.replace(" SIZE=21", "").split("\n")[1:4]
    script = "".join(f"{command}\nS: 250 Ok\n" for command in commands)
    send(offers, script + "C: DATA\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n")


def test_no_chunk_that_is_large() -> None:
    session, server = opened(CHUNKING, "C: ...\nS: 550 no\n" + "S: 503 no\n" * 3)
    with pytest.raises(SenderRefused):
        play(SendMail(session, TWO, b"x" * 65_535), server)
    assert server.sent.endswith(b"\r\nDATA\r\n"), "with its line end it has 65537 octets"


def test_8bitmime_only_when_needed() -> None:
    _, _, server = send(
        PIPELINING,
        GROUP.replace("SIZE=21", "SIZE=19 BODY=8BITMIME")
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
        + CONTENT.replace("hello", "hé")
        + "S: 250 Ok\n",
        content="Subject: x\r\n\r\nhé\r\n".encode(),
    )
    assert b"SMTPUTF8" not in server.sent


def test_8bitmime_missing() -> None:
    error, session, _ = fail(CapabilityMissing, PLAIN, "", content="Subject: x\n\nhé".encode())
    assert error.capability == "8BITMIME"
    assert session.usable


def test_smtputf8_for_addresses_and_for_headers() -> None:
    for envelope, content in (
        (Envelope.of("é@example.org", "b@example.net"), BODY),
        (Envelope.of("a@example.org", "b@example.net"), "Subject: é\r\n\r\nx\r\n".encode()),
        (Envelope.of("a@exämple.org", "b@example.net"), BODY),
    ):
        session, server = opened(UTF8, "C: ...\nC: ...\nC: ...\nS: 550 no\nS: 503 no\nS: 503 no\n")
        with pytest.raises(SenderRefused):
            play(SendMail(session, envelope, content), server)
        assert b" SMTPUTF8" in server.sent


def test_a_domain_becomes_a_labels_where_smtputf8_is_missing() -> None:
    session, server = opened(
        PIPELINING, "C: ...\nC: ...\nC: ...\nS: 550 no\nS: 503 no\nS: 503 no\n"
    )
    with pytest.raises(SenderRefused):
        play(SendMail(session, Envelope.of("a@exämple.org", "b@example.net"), BODY), server)
    assert b"FROM:<a@xn--exmple-cua.org>" in server.sent


def test_outcomes_have_a_recipient_as_it_was_given_first() -> None:
    twice = Envelope.of("a@example.org", ["b@exämple.net", "b@xn--exmple-cua.net"])
    result, _, _ = send(
        PIPELINING,
        "C: MAIL FROM:<a@example.org> SIZE=21\nC: RCPT TO:<b@xn--exmple-cua.net>\nC: DATA\n"
        "S: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n",
        twice,
    )
    assert list(result.accepted) == ["b@exämple.net"]


@pytest.mark.parametrize(
    ("envelope", "content"),
    [
        (Envelope.of("é@example.org", "b@example.net"), BODY),
        (Envelope.of("a@example.org", "b@example.net"), "Subject: é\r\n\r\nx".encode()),
    ],
)
def test_smtputf8_missing(envelope: Envelope, content: bytes) -> None:
    error, session, _ = fail(CapabilityMissing, PIPELINING, "", envelope, content)
    assert error.capability == "SMTPUTF8"
    assert session.usable


def test_size_is_checked_before_sending() -> None:
    error, session, _ = fail(MessageTooLarge, PIPELINING, "", content=b"x" * 1_000_001)
    assert (error.size, error.maximum) == (1_000_003, 1_000_000)
    assert session.usable


@pytest.mark.parametrize("size", [131_072, 131_073, 300_000])
def test_long_content_goes_in_blocks(size: int) -> None:
    content = b"." * (size - 2) + b"\r\n"
    session, server = opened(
        PIPELINING,
        GROUP.replace("=21", f"={size}")
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\nC: ...\nC: .\nS: 250 Ok\n",
    )
    play(SendMail(session, TWO, content), server)
    server.finish()
    assert server.sent.endswith(b"DATA\r\n." + content + b".\r\n")
    blocks = -(-size // 131_072)
    assert 1 + blocks <= server.flights <= 1 + blocks + 1, "the end may go out by itself"


def test_content_in_many_pieces_is_gathered() -> None:
    session, server = opened(
        PIPELINING,
        GROUP.replace(" SIZE=21", "")
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
        + "C: ...\n" * 10_000
        + "C: .\nS: 250 Ok\n",
    )
    flow = SendMail(session, TWO, None, eight_bit=False)
    play(flow, server, [b"0123456789\r\n"] * 10_000)
    server.finish()
    assert server.flights == 3, "the commands, 65536 octets or so, and what is left"


class BrokenSourceError(OSError):
    """What the caller's own file may raise."""


def test_a_source_that_breaks_is_no_fault_of_the_connection() -> None:
    session, server = opened(
        PIPELINING,
        GROUP.replace("SIZE=21", "BODY=8BITMIME") + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n",
    )

    with pytest.raises(BrokenSourceError):
        play(SendMail(session, TWO, None), server, breaking(LONG))
    assert not session.usable
    assert b"\r\n.\r\n" not in server.sent


def test_a_source_that_breaks_before_anything_is_sent_leaves_the_session_as_it_was() -> None:
    session, server = opened(
        PIPELINING,
        GROUP + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n",
    )
    for begun in (b"", b"x"):
        with pytest.raises(BrokenSourceError):
            play(SendMail(session, TWO, None), server, breaking(begun))
        assert server.flights == 0
        assert session.usable
    play(SendMail(session, TWO, BODY), server)
    server.finish()


def breaking(begun: bytes) -> Iterator[bytes]:
    yield begun
    raise BrokenSourceError


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), OSError(), ConnectionLost("another"), CapabilityMissing("x", capability="X")],
)
def test_what_a_source_raises_is_raised_as_it_is(error: Exception) -> None:
    for begun in (False, True):
        session, server = opened(PIPELINING, "C: ...\n" * 4 + "S: 250 Ok\n" * 3 + "S: 354 Go\n")
        flow = SendMail(session, TWO, None)
        fetch(flow, server)
        if begun:
            flow.content(LONG)
            fetch(flow, server)
        flow.failed(error)
        with pytest.raises(type(error)) as caught:
            flow.next_action()
        assert caught.value is error
        assert caught.value.__context__ is None
        assert session.usable is not begun
        assert bool(server.flights) is begun


def fetch(flow: SendMail, server: Transcript) -> None:
    """Go on until the flow wants content."""
    while not isinstance(action := flow.next_action(), Content):
        if isinstance(action, Send):
            server.write(bytes(action.data))
        else:
            flow.receive_data(server.read())


def test_content_in_pieces() -> None:
    session, server = opened(
        PIPELINING,
        GROUP.replace("SIZE=21", "BODY=8BITMIME")
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
        + f"C: {'x' * 65_535}\nC: ..hello\nC: .\nS: 250 Ok\n",
    )
    pieces = [b"x" * 60_000, b"x" * 5_535, b"", b"\r", b"", b"\n.he", b"llo"]
    play(SendMail(session, TWO, None), server, pieces)
    server.finish()


def test_a_few_pieces_go_out_like_whole_content() -> None:
    pieces = [b"Subject: x\r", b"\n\r", b"", b"\nhe", b"llo"]
    session, server = opened(
        PIPELINING,
        GROUP + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n" + CONTENT + "S: 250 Ok\n",
    )
    play(SendMail(session, TWO, None), server, pieces)
    server.finish()
    session, server = opened(CHUNKING, "C: ...\n" * 7 + "S: 250 Ok\n" * 4)
    play(SendMail(session, TWO, None), server, pieces)
    server.finish()
    assert server.sent.endswith(b"BDAT 21 LAST\r\n" + BODY)


def test_a_piece_may_be_overwritten_once_the_next_is_asked_for() -> None:
    buffer = bytearray()

    def pieces() -> Iterator[bytearray]:
        for octet in BODY:
            buffer[:] = bytes([octet])
            yield buffer

    session, server = opened(CHUNKING, "C: ...\n" * 7 + "S: 250 Ok\n" * 4)
    play(SendMail(session, TWO, None), server, pieces())
    assert server.sent.endswith(BODY)


def test_a_piece_with_8_bits_where_none_may_be_ends_the_session() -> None:
    session, server = opened(
        PLAIN,
        """
        C: MAIL FROM:<a@example.org>
        S: 250 Ok
        C: RCPT TO:<b@example.net>
        S: 250 Ok
        C: RCPT TO:<c@example.net>
        S: 250 Ok
        C: DATA
        S: 354 Go
        """,
    )
    with pytest.raises(CapabilityMissing, match="was not told"):
        play(SendMail(session, TWO, None), server, [LONG, b"\xff"])
    assert not session.usable
    assert server.sent.endswith(b"DATA\r\n" + LONG)


def test_first_pieces_with_8_bits_where_none_may_be_are_not_sent() -> None:
    for pieces in ([b"\xff"], [b"Subject: x\n\n", b"\xff", LONG]):
        session, server = opened(PLAIN)
        with pytest.raises(CapabilityMissing):
            play(SendMail(session, TWO, None), server, pieces)
        assert server.flights == 0
        assert session.usable


OVER_LMTP = settings(protocol=Protocol.LMTP)
LMTP = """
S: 220 mail.test LMTP
C: LHLO [192.0.2.7]
S: 250-mail.test
S: 250-SIZE
S: 250 PIPELINING
"""


def test_lmtp_content_that_is_refused_before_it_is_there() -> None:
    replies = "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\nS: 552 Too large\n"
    _, session, _ = fail(ContentRefused, LMTP, GROUP + replies + CONTENT, opening=OVER_LMTP)
    assert not session.usable


@pytest.mark.parametrize("line", ["nonsense", "334 What?"])
def test_replies_do_not_hide_what_breaks_the_protocol_behind_them(line: str) -> None:
    script = GROUP + f"S: 250 Ok\nS: {line}\n"
    _, session, _ = fail(ProtocolViolation, LMTP, script, opening=OVER_LMTP)
    assert not session.usable


def test_lmtp_has_a_reply_for_each_recipient() -> None:
    result, session, _ = send(
        LMTP,
        GROUP
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
        + CONTENT
        + "S: 250 b has it\nS: 452 c is full\n",
        opening=OVER_LMTP,
    )
    assert result.accepted["b@example.net"].text == "b has it"
    assert result.refused["c@example.net"].code == 452
    assert session.usable


@pytest.mark.parametrize(
    ("at_once", "in_the_end", "expected"),
    [
        (550, 452, (Phase.FINAL, "the content", 452)),
        (450, 452, (Phase.RCPT, "RCPT", 450)),
        (550, 552, (Phase.RCPT, "RCPT", 550)),
        (450, 552, (Phase.RCPT, "RCPT", 450)),
    ],
)
def test_lmtp_all_refused_in_the_end(
    at_once: int, in_the_end: int, expected: tuple[Phase, str, int]
) -> None:
    replies = f"S: 250 Ok\nS: 250 Ok\nS: {at_once} no\nS: 354 Go\n{CONTENT}S: {in_the_end} full\n"
    error, session, _ = fail(RecipientsRefused, LMTP, GROUP + replies, opening=OVER_LMTP)
    assert {name: reply.code for name, reply in error.refused.items()} == {
        "b@example.net": in_the_end,
        "c@example.net": at_once,
    }
    assert (error.phase, error.command, error.reply.code) == expected
    assert session.usable


@pytest.mark.parametrize("replies", ["S: 552 full\nS: 553 no\n", "S: 421 closing\n"])
def test_lmtp_content_that_is_refused_for_each_recipient(replies: str) -> None:
    accepted = "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
    script = GROUP + accepted + CONTENT + replies
    error, _, _ = fail(RecipientsRefused, LMTP, script, opening=OVER_LMTP)
    assert (error.phase, error.command) == (Phase.FINAL, "the content")


THREE = Envelope.of("a@example.org", ["b@example.net", "c@example.net", "d@example.net"])
GROUP_OF_THREE = GROUP.replace("C: DATA", "C: RCPT TO:<d@example.net>\nC: DATA")
ALL_OF_THREE = "S: 250 Ok\n" * 4 + "S: 354 Go\n" + CONTENT


def test_lmtp_421_speaks_for_all_that_have_no_reply_yet() -> None:
    result, session, _ = send(
        LMTP,
        GROUP_OF_THREE + ALL_OF_THREE + "S: 250 b has it\nS: 421 closing\n",
        THREE,
        opening=OVER_LMTP,
    )
    assert list(result.accepted) == ["b@example.net"]
    assert {name: reply.code for name, reply in result.refused.items()} == {
        "c@example.net": 421,
        "d@example.net": 421,
    }
    assert not session.usable


def test_lmtp_in_doubt_though_the_last_write_failed() -> None:
    script = GROUP_OF_THREE + ALL_OF_THREE.replace(CONTENT, "C:BREAK\n")
    error, _, _ = fail(
        DeliveryInDoubt,
        LMTP,
        script + "S: 250 b has it\nS: 550 c has not\nS:EOF\n",
        THREE,
        opening=OVER_LMTP,
    )
    assert list(error.accepted) == ["b@example.net"]
    assert list(error.refused) == ["c@example.net"]


def test_lmtp_421_though_the_last_write_failed() -> None:
    script = GROUP_OF_THREE + ALL_OF_THREE.replace(CONTENT, "C:BREAK\n")
    result, session, _ = send(
        LMTP, script + "S: 250 b has it\nS: 421 closing\nS:EOF\n", THREE, opening=OVER_LMTP
    )
    assert list(result.accepted) == ["b@example.net"]
    assert list(result.refused) == ["c@example.net", "d@example.net"]
    assert not session.usable


def test_lmtp_takes_no_chunk_with_the_recipients() -> None:
    send(
        LMTP.replace("SIZE", "CHUNKING"),
        GROUP.replace(" SIZE=21", "")
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
        + CONTENT
        + "S: 250 Ok\nS: 250 Ok\n",
        opening=OVER_LMTP,
    )


def test_lmtp_in_doubt_keeps_what_is_known() -> None:
    error, _, _ = fail(
        DeliveryInDoubt,
        LMTP,
        GROUP
        + "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
        + CONTENT
        + "S: 250 b has it\nS:EOF\n",
        opening=OVER_LMTP,
    )
    assert list(error.accepted) == ["b@example.net"]


@pytest.mark.parametrize("begun", [False, True])
def test_a_source_that_is_too_slow_is_a_timeout_like_any_other(*, begun: bool) -> None:
    session, server = opened(
        PIPELINING, "C: ...\nC: ...\nC: ...\nC: ...\nS: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 Go\n"
    )
    flow = SendMail(session, TWO, None)
    fetch(flow, server)
    if begun:
        flow.content(LONG)
        fetch(flow, server)
    flow.timed_out(whole=False)
    with pytest.raises(SMTPTimeout) as caught:
        flow.next_action()
    assert caught.value.phase is Phase.BLOCK
    assert not session.usable


def test_the_wait_behind_a_whole_message_is_the_final_one() -> None:
    session, _ = opened(CHUNKING)
    flow = SendMail(session, TWO, BODY)
    flow.next_action()
    assert flow.phase is Phase.FINAL
