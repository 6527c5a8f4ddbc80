"""Serve: transactions, their content, and what the handler gets of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import cast

import pytest

from smtp_proto.engine import Protocol
from smtp_proto.engine.trace import Speaker
from smtp_proto.flow.actions import Ask, Receive, Send
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.serve import ServeSettings
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire.address import NULL_REVERSE_PATH, POSTMASTER, Mailbox
from smtp_proto.wire.command import Mail, Rcpt
from smtp_proto.wire.content import BareLineEndings
from smtp_proto.wire.limits import Limits
from smtp_proto.wire.parameters import (
    NO_MAIL_PARAMETERS,
    Body,
    MailParameters,
    Notify,
    RcptParameters,
)
from smtp_proto.wire.reply import Reply
from tests.flow.serving import Client, settings

MAIL = b"MAIL FROM:<ann@example.com>\r\n"
RCPT = b"RCPT TO:<bob@example.org>\r\n"
CAT = b"RCPT TO:<cat@example.org>\r\n"
TRANSACTION = MAIL + RCPT
ENVELOPE = Envelope.of("ann@example.com", "bob@example.org")
LOCAL_ERROR = b"451 4.3.0 Local error in processing\r\n"


class Recorder(Handler):
    """Notes messages and resets; answers messages with `answer`."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.messages: list[tuple[Envelope, bytes]] = []
        self.resets = 0
        self.errors: list[Exception] = []

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | Sequence[Reply] | None:
        self.messages.append((envelope, content))
        return cast("Reply | None", self.answer)  # or not: that is for the server to find out

    def on_reset(self, session: ServerSession) -> None:
        assert session.reverse_path is None
        assert session.recipients == []
        self.resets += 1

    def on_error(self, session: ServerSession, error: Exception) -> None:
        self.errors.append(error)


class Streaming(Recorder):
    """Takes the content in pieces; raises `failure` at each piece, if there is one."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.failure = failure

    def on_content(self, session: ServerSession, data: bytes) -> None:
        self.pieces.append(data)
        if self.failure is not None:
            raise self.failure


def ready(handler: Handler | None = None, served: ServeSettings | None = None) -> Client:
    """A client that has said EHLO, or LHLO."""
    client = Client(handler, served)
    verb = b"LHLO" if client.said.endswith(b" LMTP\r\n") else b"EHLO"
    assert b"250 HELP" in client.say(verb + b" client.example\r\n")
    return client


# --- Envelopes -----------------------------------------------------------------------------------


def test_the_envelope_has_what_was_accepted_and_nothing_else() -> None:
    class Choosy(Recorder):
        def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
            if str(rcpt.forward_path).startswith("no"):
                return Reply(550, ("no such user",))
            return Reply(251, ("will forward",)) if rcpt.forward_path is POSTMASTER else None

    handler = Choosy()
    client = ready(handler)
    said = client.say(
        b"MAIL FROM:<> BODY=8BITMIME RET=HDRS\r\n"
        b"RCPT TO:<bob@example.org> NOTIFY=NEVER\r\n"
        b"RCPT TO:<nobody@example.org>\r\n"
        b"RCPT TO:<Postmaster>\r\n"
        b"BDAT 2 LAST\r\nhi"
    )
    assert [line[:3] for line in said.splitlines()] == [b"250", b"250", b"550", b"251", b"250"]
    ((envelope, content),) = handler.messages
    bob = Mailbox("bob", "example.org")
    assert content == b"hi"
    assert envelope.reverse_path is NULL_REVERSE_PATH
    assert envelope.forward_paths == (bob, POSTMASTER)
    assert envelope.mail_parameters.body is Body.EIGHT_BIT_MIME
    assert envelope.rcpt_parameters == {bob: RcptParameters(notify=frozenset({Notify.NEVER}))}


def test_the_session_shows_the_transaction_so_far() -> None:
    seen: list[tuple[object, ...]] = []

    class Looking(Handler):
        def on_mail(self, session: ServerSession, mail: Mail) -> None:
            seen.append((session.reverse_path, session.mail_parameters, list(session.recipients)))

        def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> None:
            seen.append((session.reverse_path, session.mail_parameters, list(session.recipients)))

    client = ready(Looking())
    client.say(b"MAIL FROM:<ann@example.com> SIZE=7\r\n" + RCPT + RCPT + b"RSET\r\n" + MAIL)
    ann, bob = Mailbox("ann", "example.com"), Rcpt(Mailbox("bob", "example.org"))
    sized = MailParameters(size=7)
    assert seen == [
        (None, NO_MAIL_PARAMETERS, []),
        (ann, sized, []),
        (ann, sized, [bob]),
        (None, NO_MAIL_PARAMETERS, []),
    ]


def test_a_sender_that_is_refused_begins_nothing() -> None:
    class Refusing(Recorder):
        def on_mail(self, session: ServerSession, mail: Mail) -> Reply:
            return Reply(550, ("not you",))

    handler = Refusing()
    said = ready(handler).say(TRANSACTION + b"DATA\r\n")
    assert [line[:3] for line in said.splitlines()] == [b"550", b"503", b"503"]
    assert handler.resets == 0


def test_one_transaction_after_the_other() -> None:
    handler = Recorder()
    client = ready(handler)
    client.say(TRANSACTION + b"DATA\r\n")
    client.say(b"one\r\n.\r\n" + b"MAIL FROM:<>\r\n" + RCPT + b"BDAT 3 LAST\r\ntwo")
    assert [content for _, content in handler.messages] == [b"one\r\n", b"two"]
    assert [envelope.reverse_path for envelope, _ in handler.messages] == [
        Mailbox("ann", "example.com"),
        NULL_REVERSE_PATH,
    ]
    assert handler.resets == 0


# --- Content -------------------------------------------------------------------------------------


def test_chunks_are_put_together() -> None:
    handler = Recorder()
    client = ready(handler)
    client.say(TRANSACTION)
    assert client.say(b"BDAT 4\r\n.\r\n.") == b"250 2.0.0 Chunk received\r\n"
    assert client.say(b"BDAT 0\r\n") == b"250 2.0.0 Chunk received\r\n"
    assert client.say(b"BDAT 3 LAST\r\n\n\0\r") == b"250 2.0.0 Message accepted\r\n"
    assert handler.messages == [(ENVELOPE, b".\r\n.\n\0\r")]


def test_tiny_chunks_cost_no_more_than_their_octets() -> None:
    handler = Recorder()
    client = ready(handler)
    client.say(TRANSACTION)
    count, at_once = 50_000, 500
    client.say(at_once * b"BDAT 1\r\nx")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count // at_once):
            client.say(at_once * b"BDAT 1\r\nx")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 3 * count + 50_000
    client.say(b"BDAT 0 LAST\r\n")
    assert handler.messages == [(ENVELOPE, b"x" * (count + at_once))]


def test_replies_do_not_wait_for_the_handler_to_have_dealt_with_the_message() -> None:
    said: list[bytes] = []

    class Looking(Recorder):
        def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
            said.append(client.said)

    client = ready(Looking())
    last = client.say(TRANSACTION + b"BDAT 2 LAST\r\nhi")
    assert [line[:9] for line in said[0].splitlines()] == [b"250 2.1.0", b"250 2.1.5"]
    assert last == b"250 2.0.0 Message accepted\r\n"
    assert client.phase is Phase.IDLE


@pytest.mark.parametrize(
    ("end", "sizes"),
    [(b"DATA\r\n", [52]), (b"BDAT 2 LAST\r\nhi", [51, 1]), (b"BDAT 2\r\nhi", [52])],
)
def test_the_replies_to_a_group_are_sent_at_once(end: bytes, sizes: list[int]) -> None:
    """RFC 2920 3.2"""
    flow = ready(Recorder()).flow
    flow.receive_data(MAIL + 50 * RCPT + end)
    sends: list[bytes] = []
    while not isinstance(action := flow.next_action(), Receive):
        if isinstance(action, Send):
            sends.append(bytes(action.data))
        elif isinstance(action, Ask):
            flow.answer(None)
    assert [said.count(b"\r\n") for said in sends] == sizes


@pytest.mark.parametrize("command", [b"DATA\r\n", b"BDAT 10\r\n"])
def test_content_in_pieces(command: bytes) -> None:
    handler = Streaming()
    client = ready(handler)
    client.say(TRANSACTION)
    client.say(command)
    for piece in (b"one\r\n", b"two\r\n"):
        client.say(piece)
    client.say(b".\r\n" if command == b"DATA\r\n" else b"BDAT 0 LAST\r\n")
    assert len(handler.pieces) > 1
    assert b"".join(handler.pieces).startswith(b"one\r\ntwo\r\n")
    assert handler.messages == [(ENVELOPE, b"")]


def test_a_failure_at_a_piece_is_told_at_the_end() -> None:
    handler = Streaming(OSError("disk full"))
    client = ready(handler)
    client.say(TRANSACTION + b"DATA\r\n")
    client.say(b"one\r\n")
    client.say(b"two\r\n")
    assert client.say(b".\r\n") == LOCAL_ERROR
    assert len(handler.pieces) == 1
    assert (handler.messages, handler.resets) == ([], 1)
    assert handler.errors == [handler.failure]
    handler.failure = None
    client.say(TRANSACTION + b"DATA\r\n")
    assert client.say(b"again\r\n.\r\n").startswith(b"250 ")


def test_a_failure_at_a_chunk_is_told_at_its_end() -> None:
    handler = Streaming(OSError("disk full"))
    client = ready(handler)
    assert client.say(TRANSACTION + b"BDAT 3\r\none").endswith(b"\r\n" + LOCAL_ERROR)
    assert client.say(b"BDAT 3 LAST\r\ntwo").startswith(b"503 ")
    assert (handler.messages, handler.resets) == ([], 1)


def test_content_that_is_too_large() -> None:
    handler = Recorder()
    client = ready(handler, settings(limits=Limits(message_size=5)))
    client.say(TRANSACTION + b"DATA\r\n")
    assert client.say(b"123456\r\n.\r\n").startswith(b"552 5.3.4 ")
    assert client.say(TRANSACTION + b"BDAT 6 LAST\r\n123456").endswith(
        b"552 5.3.4 Message too large\r\n"
    )
    assert (handler.messages, handler.resets) == ([], 2)


def test_a_bare_line_ending_is_refused_or_taken_as_it_is() -> None:
    refused, taken = Recorder(), Recorder()
    for handler, policy in ((refused, BareLineEndings.REFUSE), (taken, BareLineEndings.ACCEPT)):
        client = ready(handler, settings(bare_line_endings=policy))
        client.say(TRANSACTION + b"DATA\r\n")
        client.say(b"x\n.\r\nMAIL FROM:<eve@example.com>\r\n.\r\n")
    assert refused.messages == []
    assert [content for _, content in taken.messages] == [
        b"x\n.\r\nMAIL FROM:<eve@example.com>\r\n"
    ]


# --- Transactions that end without a message -----------------------------------------------------


@pytest.mark.parametrize("command", [b"RSET\r\n", b"EHLO again.example\r\n", b"HELO a.example\r\n"])
@pytest.mark.parametrize("before", [MAIL, TRANSACTION, TRANSACTION + b"BDAT 1\r\nx"])
def test_a_transaction_that_is_given_up(before: bytes, command: bytes) -> None:
    handler = Recorder()
    client = ready(handler)
    client.say(before)
    client.say(command)
    assert handler.resets == 1
    client.say(TRANSACTION + b"BDAT 1 LAST\r\ny" if b"HELO" not in command else b"")
    assert [content for _, content in handler.messages] in ([b"y"], [])


def test_there_is_nothing_to_forget_without_a_transaction() -> None:
    handler = Recorder()
    client = ready(handler)
    client.say(b"RSET\r\n")
    client.say(b"EHLO again.example\r\n")
    client.say(b"QUIT\r\n")
    assert handler.resets == 0


def test_a_chunk_that_is_refused_ends_the_transaction() -> None:
    """After HELO there is no CHUNKING, and a refused BDAT takes the transaction with it."""
    handler = Recorder()
    client = Client(handler)
    client.say(b"HELO client.example\r\n")
    assert client.say(TRANSACTION + b"BDAT 4\r\nQUIT").endswith(
        b"\r\n502 5.5.1 Command not implemented\r\n"
    )
    assert handler.resets == 1
    assert client.say(RCPT).startswith(b"503 ")


# --- What the handler says to a message ----------------------------------------------------------


def message_reply(answer: object, protocol: Protocol = Protocol.SMTP) -> tuple[bytes, Recorder]:
    """What a client hears that sends a message for two recipients."""
    handler = Recorder(answer)
    client = ready(handler, settings(protocol=protocol))
    client.say(TRANSACTION + CAT + b"DATA\r\n")
    return client.say(b"x\r\n.\r\n"), handler


NO = Reply(554, ("no",))
LATER = Reply(451, ("later",))
OK = Reply(250, ("queued as 1",))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, b"250 2.0.0 Message accepted\r\n"),
        (OK, b"250 queued as 1\r\n"),
        (NO, b"554 no\r\n"),
        ([LATER], b"451 later\r\n"),
        ((), LOCAL_ERROR),
        ([OK, NO], LOCAL_ERROR),
        (Reply(354, ("more",)), LOCAL_ERROR),
        ("250 ok", LOCAL_ERROR),
        ([None], LOCAL_ERROR),
    ],
)
def test_the_answer_to_a_message(answer: object, said: bytes) -> None:
    heard, handler = message_reply(answer)
    assert heard == said
    assert len(handler.errors) == (said == LOCAL_ERROR)
    assert handler.resets == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, 2 * b"250 2.0.0 Message accepted\r\n"),
        (NO, 2 * b"554 no\r\n"),
        ([OK, NO], b"250 queued as 1\r\n554 no\r\n"),
        ([OK], 2 * LOCAL_ERROR),
        ([OK, 5], 2 * LOCAL_ERROR),
        ([OK, Reply(421, ("bye",))], b"250 queued as 1\r\n421 bye\r\n"),
    ],
)
def test_the_answer_for_each_recipient(answer: object, said: bytes) -> None:
    heard, _ = message_reply(answer, Protocol.LMTP)
    assert heard == said


def test_who_is_given_twice_is_in_the_envelope_once_and_has_two_replies() -> None:
    """RFC 2033 4.2"""
    handler = Recorder([OK, NO])
    client = ready(handler, settings(protocol=Protocol.LMTP))
    client.say(TRANSACTION + CAT + RCPT + b"DATA\r\n")
    ok, no = b"250 queued as 1\r\n", b"554 no\r\n"
    assert client.say(b"x\r\n.\r\n") == ok + no + ok
    ((envelope, _),) = handler.messages
    assert [str(path) for path in envelope.forward_paths] == ["bob@example.org", "cat@example.org"]


def test_lmtp_refusals_and_chunks() -> None:
    handler = Recorder()
    client = ready(handler, settings(protocol=Protocol.LMTP, limits=Limits(message_size=5)))
    client.say(TRANSACTION + RCPT)
    assert client.say(b"BDAT 3\r\nabc") == b"250 2.0.0 Chunk received\r\n"
    assert client.say(b"BDAT 3 LAST\r\nabc") == 2 * b"552 5.3.4 Message too large\r\n"
    client.say(TRANSACTION + RCPT)
    assert client.say(b"BDAT 3 LAST\r\nabc") == 2 * b"250 2.0.0 Message accepted\r\n"
    assert (len(handler.messages), handler.resets) == (1, 1)


def test_lmtp_last_chunk_without_recipients() -> None:
    """RFC 2033 4.3: there is no reply to it."""
    handler = Recorder()
    client = ready(handler, settings(protocol=Protocol.LMTP))
    client.say(MAIL)
    assert client.say(b"BDAT 3 LAST\r\nabc") == b""
    assert client.say(b"NOOP\r\n").startswith(b"250 ")
    assert (handler.messages, handler.resets) == ([], 1)


# --- What is told --------------------------------------------------------------------------------


class Told:
    """A journal that is kept in memory."""

    wants_lines = False

    def __init__(self, *, wants_events: bool = True) -> None:
        self.wants_events = wants_events
        self.told: list[str] = []

    def line(self, speaker: Speaker, text: str) -> None:
        raise AssertionError(text)

    def happened(self, what: str) -> None:
        self.told.append(what)

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        raise AssertionError(why)


class Choosy(Handler):
    """Takes mail for bob alone, and says at length why not for others."""

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        is_bob = str(rcpt.forward_path).startswith("bob@")
        return None if is_bob else Reply.build(450, "Later" + "." * 200, status="4.2.1")


class Known(Choosy):
    """Somebody might log in."""

    def find_password(self, session: ServerSession, authentication_identity: str) -> None:
        return None


SMALL = settings(limits=Limits(message_size=10))
FOR_MEMBERS = settings(require_auth=True, mechanisms=("CRAM-MD5",))
LARGE = b"x" * 11


@pytest.mark.parametrize(
    ("served", "said", "told"),
    [
        (SMALL, TRANSACTION + b"VRFY ann\r\nEXPN all\r\n", []),
        (SMALL, TRANSACTION + CAT, ["refused RCPT TO:<cat@example.org>: 450 4.2.1 Later..."]),
        (SMALL, MAIL[:-2] + b" SIZE=11\r\n", ["refused a command: 552 5.3.4 Message too large"]),
        (SMALL, TRANSACTION + b"DATA\r\n" + LARGE + b"\r\n.\r\n", ["refused content: 552 5.3.4 M"]),
        (SMALL, TRANSACTION + b"BDAT 11\r\n" + LARGE, ["refused content: 552 5.3.4 Message too"]),
        (FOR_MEMBERS, MAIL, ["refused MAIL FROM:<ann@example.com>: 530 5.7.0 Authentication req"]),
        (FOR_MEMBERS, b"AUTH X\r\n", []),
    ],
)
def test_what_is_refused_of_a_transaction_is_told(
    served: ServeSettings, said: bytes, told: list[str]
) -> None:
    journal = Told()
    client = Client(Known(), served, journal=journal)
    client.say(b"EHLO client.example.org\r\n" + said)
    connected, *refused = journal.told
    assert connected == "connected"
    assert [line[: len(start)] for line, start in zip(refused, told, strict=True)] == told
    assert all(len(line) < 200 for line in refused)


def test_where_nobody_reads_it_no_refusal_is_put_into_words() -> None:
    journal = Told(wants_events=False)
    client = Client(Choosy(), journal=journal)
    client.say(b"EHLO client.example.org\r\nNONSENSE\r\n" + TRANSACTION + CAT)
    assert journal.told == ["connected"]
