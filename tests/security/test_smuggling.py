"""One message stays one message, and content never becomes commands, whoever reads it.

Knows what has been taken for an end, and whole sessions of both sides. Must not know how an end is
looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.engine import Protocol
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.errors import DeliveryInDoubt, ProtocolViolation, RecipientsRefused
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.serve_settings import ServeSettings
from smtp_proto.wire import BareLineEndings, Limits, Mail, Rcpt, Reply
from tests.flow.scripted import CLEAR, play
from tests.flow.scripted import settings as of_client
from tests.flow.serving import Client, settings
from tests.flow.test_injection import Willing
from tests.security.differences import DATA, DOTS, HELLO, MAIL, RCPT, SMUGGLED, TRUE_END, is_bare
from tests.security.servers import Keeper, codes

BODY = b"body"
FALSE_ENDS = (*DOTS, b".\n", b".\r", b".\0\r\n")


def cut(octets: bytes) -> Iterator[list[bytes]]:
    """Some cuttings of the same octets."""
    for size in (1, 2, 3, 7, len(octets)):
        yield [octets[start : start + size] for start in range(0, len(octets), size)]


def in_data(served: ServeSettings, keeper: Handler) -> Client:
    client = Client(keeper, served)
    client.say(HELLO + MAIL + RCPT)
    assert codes(client.say(DATA)) == (354,)
    return client


# --- Inbound -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", BareLineEndings)
@pytest.mark.parametrize("dot", [each for each in FALSE_ENDS if TRUE_END not in each], ids=repr)
@pytest.mark.parametrize("begun", [BODY, b""], ids=["inside", "first"])
def test_there_is_one_end(begun: bytes, dot: bytes, policy: BareLineEndings) -> None:
    if not begun and dot.startswith(b"\r\n.\r\n"):
        return
    content = begun + dot + SMUGGLED.removesuffix(b".\r\n")
    for pieces in cut(content + b".\r\n" + b"QUIT\r\n"):
        keeper = Keeper()
        client = in_data(settings(bare_line_endings=policy), keeper)
        said = b"".join(client.say(piece) for piece in pieces)
        refused = policy is BareLineEndings.REFUSE and is_bare(dot)
        assert codes(said) == (550 if refused else 250, 221)
        plain = re.sub(rb"(\A|\r\n)\.", rb"\1", content)
        assert [each.content for each in keeper.messages] == ([] if refused else [plain])


class Troubled(Handler):
    """Answers the content with what it is given, or raises that."""

    def __init__(self, answer: Reply | Exception | None) -> None:
        self.answer = answer

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


CONTENTS = {
    "DATA": b"DATA\r\nx\r\n.\r\n",
    "a bare LF": b"DATA\r\nx\n\r\n.\r\n",
    "BDAT": b"BDAT 3 LAST\r\nx\r\n",
    "two chunks": b"BDAT 1\r\nxBDAT 2 LAST\r\n\r\n",
    "too large": b"DATA\r\n" + b"x" * 200 + b"\r\n.\r\n",
    "a chunk too large": b"BDAT 200 LAST\r\n" + b"x" * 200,
    "a chunk too large, and the last": b"BDAT 200\r\n" + b"x" * 200 + b"BDAT 0 LAST\r\n",
}
ANSWERS = (
    None,
    Reply.build(250, "Ok"),
    Reply.build(451, "Later"),
    Reply.build(554, "No"),
    RuntimeError("the disk is full"),
)


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
@pytest.mark.parametrize("name", CONTENTS)
def test_behind_any_final_reply_there_is_no_transaction(
    name: str, answer: Reply | Exception | None
) -> None:
    client = Client(Troubled(answer), settings(limits=Limits(message_size=100)))
    client.say(HELLO + MAIL + RCPT)
    for line in CONTENTS[name].splitlines(keepends=True):
        client.say(line)
    # Nothing but a MAIL of its own makes a second message.
    assert codes(client.say(RCPT)) == (503,)
    assert codes(client.say(DATA)) == (503,)
    assert codes(client.say(MAIL)) == (250,)


BEFORE_A_CHUNK = {
    "no EHLO": b"NOOP\r\n",
    "no sender": HELLO,
    "no recipient": HELLO + MAIL,
    "a recipient": HELLO + MAIL + RCPT,
    "a chunk that was refused": HELLO + MAIL + RCPT + b"BDAT 201\r\n" + b"x" * 201,
    "a greeting that refuses": b"HELO c.example\r\n",
}


@pytest.mark.parametrize("before", BEFORE_A_CHUNK)
@given(st.binary(max_size=60) | st.sampled_from([b"QUIT\r\n", SMUGGLED, TRUE_END]), st.booleans())
def test_the_octets_of_a_chunk_are_never_commands(before: str, chunk: bytes, last: bool) -> None:
    keeper = Keeper()
    client = Client(keeper, settings(limits=Limits(message_size=200, errors=99)))
    client.say(BEFORE_A_CHUNK[before])
    line = b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if last else b"")
    assert len(codes(client.say(line + chunk))) == 1
    assert codes(client.say(b"NOOP\r\n")) == (250,)
    assert keeper.messages == keeper.messages[:1]
    assert [each.content for each in keeper.messages] in ([], [chunk])


SIZES = ("-1", "+5", "5 LAST x", "5LAST", "٥", "1e3", "0x5", "5,", "", "9" * 21, "1_0")


@pytest.mark.parametrize("size", SIZES)
def test_a_chunk_whose_size_is_not_clear_is_the_end(size: str) -> None:
    client = Client(Keeper(), settings())
    client.say(HELLO + MAIL + RCPT)
    said = client.say(f"BDAT {size}\r\n".encode() + b"QUIT\r\n")
    assert codes(said) == (501,)
    assert not client.say(b"NOOP\r\n")  # nothing is heard any more


# --- Outbound ------------------------------------------------------------------------------------

# What receivers have taken for the end of the content.
ENDS = {
    "the RFC's": re.compile(rb"\r\n\.\r\n"),
    "LF": re.compile(rb"\n\.\n"),
    "LF and CRLF": re.compile(rb"\n\.\r?\n"),
    "CR": re.compile(rb"\r\.\r"),
    "CRs before LF": re.compile(rb"\n\.\r*\n"),
    "any of CR and LF": re.compile(rb"[\r\n]\.[\r\n]"),
    "Unicode's line ends": re.compile(rb"[\r\n]\.(\r|\n|\x0b|\x0c|\x85|\xe2\x80\xa8)"),
}
pieces_of_content = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"a", *DOTS]).filter(
        lambda piece: b"\0" not in piece
    ),
    max_size=8,
)


class Listener(Willing):
    """Keeps what comes behind DATA up to QUIT, however it would read that."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = b""

    def write(self, data: bytes) -> None:
        if self._in_content:
            self.heard += data
        super().write(data)


@given(pieces_of_content, st.booleans())
def test_every_receiver_sees_the_end_where_it_is(content: list[bytes], whole: bool) -> None:
    listener = Listener()
    session = play(OpenSession(CLEAR), listener)
    envelope = Envelope.of("a@example.org", "b@example.net")
    if whole:
        play(SendMail(session, envelope, b"".join(content), eight_bit=True), listener)
    else:
        play(SendMail(session, envelope, None, eight_bit=True), listener, content)
    heard = b"\r\n" + listener.heard  # RFC 5321 4.1.1.4
    for name, end in ENDS.items():
        found = end.search(heard)
        # Who knows only ends of his own finds none. Some see it a LF sooner; nothing is behind it.
        assert found is not None or "RFC" not in name
        assert found is None or heard[found.end() :] in (b"", b"\n"), name


def test_nothing_but_the_dot_goes_to_nobody() -> None:
    class Unwilling(Willing):
        def _answer(self, line: bytes) -> bytes:
            return b"550 No\r\n" if line.startswith(b"RCPT") else super()._answer(line)

    server = Unwilling()
    session = play(OpenSession(CLEAR), server)
    with pytest.raises(RecipientsRefused):
        play(SendMail(session, Envelope.of("a@example.org", "b@example.net"), SMUGGLED), server)
    assert server.contents == [b""]
    assert session.usable


@pytest.mark.parametrize("protocol", Protocol)
def test_what_a_client_was_told_early_is_no_delivery(protocol: Protocol) -> None:
    """354 and 250 in one breath: nobody can have a message that was not sent."""
    hello = "LHLO" if protocol is Protocol.LMTP else "EHLO"

    class Hasty(Willing):
        def _answer(self, line: bytes) -> bytes:
            if line.startswith(hello.encode()):
                return b"250 mail.test\r\n"
            return b"354 Go\r\n250 Delivered\r\n" if line == b"DATA" else b"250 Ok\r\n"

    server = Hasty()
    session = play(OpenSession(of_client(protocol=protocol)), server)
    with pytest.raises((ProtocolViolation, DeliveryInDoubt)):
        play(SendMail(session, Envelope.of("a@example.org", "b@example.net"), BODY), server)
    assert not session.usable


# --- What a handler is told ----------------------------------------------------------------------


class Listing(Handler):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Mail | Rcpt] = []

    def on_mail(self, session: ServerSession, mail: Mail) -> None:
        self.asked.append(mail)

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> None:
        self.asked.append(rcpt)


@given(st.binary(min_size=1, max_size=40))
def test_the_tail_of_a_line_that_is_too_long_is_no_command(tail: bytes) -> None:
    listing = Listing()
    client = Client(listing, settings(limits=Limits(command_line=64)))
    client.say(HELLO)
    client.say(b"NOOP " + b"x" * 80 + tail.replace(b"\n", b""))
    client.say(MAIL.rstrip())
    said = client.say(b"\r\n") + client.say(b"NOOP\r\n")
    assert codes(said)[-1] == 250
    assert not listing.asked
