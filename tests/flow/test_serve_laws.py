"""Serve: what holds for every session, however it is cut, and whatever comes in."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from itertools import pairwise
from typing import TypeVar

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from smtp_adapters.tls import ClientTLS, server_factory
from smtp_proto.engine import Protocol
from smtp_proto.flow.actions import Connect, Done, Receive, Send
from smtp_proto.flow.close import CloseSession
from smtp_proto.flow.envelope import Envelope, SendResult
from smtp_proto.flow.errors import ContentRefused, RecipientsRefused, SenderRefused
from smtp_proto.flow.flow import Flow
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.serve import ServeSettings
from smtp_proto.flow.simple import noop, reset, verify
from smtp_proto.sasl.mechanism import Credentials
from smtp_proto.sasl.policy import Policy
from smtp_proto.wire.buffer import ReceiveBuffer
from smtp_proto.wire.command import Mail, Rcpt
from smtp_proto.wire.limits import Limits
from smtp_proto.wire.reply import Reply, ReplyReader
from tests.flow.serving import HOSTNAME, Client, settings

T = TypeVar("T")

HELLO = b"EHLO client.example\r\n"
TRANSACTION = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.org>\r\n"

# Whole sessions: what a client sends that does not wait. The content of the messages in them.
SESSIONS: dict[str, tuple[bytes, list[bytes]]] = {
    "data": (
        HELLO + TRANSACTION + b"DATA\r\nA: b\r\n\r\n..c\r\n.\r\nQUIT\r\n",
        [b"A: b\r\n\r\n.c\r\n"],
    ),
    "two": (
        HELLO + TRANSACTION + b"DATA\r\none\r\n.\r\n" + TRANSACTION + b"DATA\r\n.\r\nQUIT\r\n",
        [b"one\r\n", b""],
    ),
    "chunks": (
        HELLO + TRANSACTION + b"BDAT 5\r\none\r\nBDAT 0\r\nBDAT 4 LAST\r\n\r\n.\rNOOP\r\nQUIT\r\n",
        [b"one\r\n\r\n.\r"],
    ),
    "refusals": (
        b"MAIL FROM:<x@y>\r\nGARB\0AGE\r\n"
        + HELLO
        + b"RCPT TO:<x@y>\r\nMAIL FROM:<a@b> SIZE=99999999999\r\nBDAT 6 LAST\r\nQUIT\r\n"
        + b"TURN\r\nVRFY x\r\nEXPN x\r\nHELP\r\n"
        + TRANSACTION
        + b"RSET\r\nQUIT\r\n",
        [],
    ),
    "smuggling": (
        HELLO + TRANSACTION + b"DATA\r\nx\n.\r\nMAIL FROM:<eve@example.com>\r\n.\r\nQUIT\r\n",
        [],
    ),
    "login": (
        HELLO
        + b"AUTH LOGIN\r\nYW5u\r\nd3Jvbmc=\r\nAUTH PLAIN AGFubgBzZWNyZXQ=\r\n"
        + TRANSACTION
        + b"BDAT 1 LAST\r\nxQUIT\r\n",
        [b"x"],
    ),
}
WHOLE = pytest.mark.parametrize(("session", "contents"), SESSIONS.values(), ids=SESSIONS)


class Keeping(Handler):
    """Keeps what it gets, the content in pieces; ann may log in."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.calls: list[str] = []
        self._pieces: list[bytes] = []

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        self.calls.append("auth")
        return credentials == Credentials("ann", "secret")

    def on_content(self, session: ServerSession, data: bytes) -> None:
        self._pieces.append(data)

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | None:
        self.calls.append("message")
        self.contents.append(b"".join(self._pieces))
        self._pieces.clear()
        return Reply(554, ("spam",)) if b"spam" in self.contents[-1] else None

    def on_reset(self, session: ServerSession) -> None:
        self.calls.append("reset")
        self._pieces.clear()

    def on_disconnect(self, session: ServerSession) -> None:
        self.calls.append("disconnect")


def cut(session: bytes, *places: int) -> list[bytes]:
    """Cut a session at these places, and behind each AUTH: a client waits there. RFC 4954 4"""
    waits = (match.end() for match in re.finditer(rb"AUTH [^\n]*\n", session))
    edges = sorted({0, *places, *waits, len(session)})
    return [session[start:end] for start, end in pairwise(edges)]


def play(pieces: Iterable[bytes]) -> tuple[bytes, Keeping]:
    """Send the pieces, then close; return all that the server said."""
    handler = Keeping()
    client = Client(handler, settings(mechanisms=("PLAIN", "LOGIN"), allow_cleartext_auth=True))
    said = client.said
    for piece in pieces:
        if piece and not client.closed:
            said += client.say(piece)
    if not client.closed:
        said += client.end()
    assert client.closed
    assert handler.calls.count("disconnect") == 1
    assert handler.calls[-1] == "disconnect"
    return said, handler


def replies(said: bytes) -> list[Reply]:
    """The replies in what a server said; it says nothing else."""
    buffer, reader = ReceiveBuffer(), ReplyReader(Limits())
    buffer.feed(said)
    found: list[Reply] = []
    while (reply := reader.read(buffer)) is not None:
        found.append(reply)
    assert not buffer
    assert not reader.partial
    return found


# --- Cuts ----------------------------------------------------------------------------------------


@WHOLE
def test_however_the_input_is_cut_the_session_is_the_same(
    session: bytes, contents: list[bytes]
) -> None:
    said, handler = play(cut(session))
    assert handler.contents == contents
    for at in range(1, len(session)):
        cut_said, cut_handler = play(cut(session, at))
        assert cut_said == said
        assert (cut_handler.contents, cut_handler.calls) == (contents, handler.calls)
    drip_said, drip_handler = play(bytes([octet]) for octet in session)
    assert drip_said == said
    assert (drip_handler.contents, drip_handler.calls) == (contents, handler.calls)


@WHOLE
def test_a_session_that_is_cut_off_delivers_only_what_had_come_whole(
    session: bytes, contents: list[bytes]
) -> None:
    whole, _ = play(cut(session))
    for at in range(len(session)):
        said, handler = play(cut(session[:at]))
        assert whole.startswith(said)
        assert handler.contents == contents[: len(handler.contents)]
        # Who was given a message has said so, and nobody else has.
        accepted = sum("accepted" in str(reply) for reply in replies(said))
        assert accepted == len(handler.contents)


def test_octets_of_a_message_are_never_given_twice_or_out_of_order() -> None:
    content = bytes(range(256)) * 600
    session = HELLO + TRANSACTION + b"BDAT %d LAST\r\n" % len(content) + content + b"QUIT\r\n"
    for size in (100, 1000, 65_536, len(session)):
        _, handler = play(session[at : at + size] for at in range(0, len(session), size))
        assert handler.contents == [content]


# --- Anything ------------------------------------------------------------------------------------

WORDS = [
    *(line for session, _ in SESSIONS.values() for line in session.splitlines(keepends=True)),
    b"LHLO client.example\r\n",
    b"HELO client.example\r\n",
    b"RSET\r\n",
    b"STARTTLS\r\n",
    b"AUTH CRAM-MD5\r\n",
    b"*\r\n",
    b"=\r\n",
    b".\r\n",
    b"\r\n",
    b"BDAT 99999999999999999999 LAST\r\n",
    b"GET / HTTP/1.1\r\n",
    b"x" * 5000,
]
PIECES = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40)), max_size=40)
ANSWERS = [
    None,
    Reply(250, ("yes",)),
    Reply(450, ("later",)),
    Reply(550, ("no",)),
    Reply(354, ("nonsense",)),
    Reply(421, ("enough",)),
    [Reply(250, ("one",)), Reply(550, ("two",))],
    True,
    RuntimeError("a bug"),
]


class Whimsical(Handler):
    """Answers whatever comes next in its list to whatever it is asked."""

    def __init__(self, whims: list[object]) -> None:
        self.whims = whims


def _whim(self: Whimsical, *_: object) -> object:
    answer = self.whims.pop() if self.whims else None
    if isinstance(answer, Exception):
        raise answer
    return answer


for _name in vars(Handler):
    if not _name.startswith("_"):
        setattr(Whimsical, _name, _whim)


@given(
    PIECES,
    st.lists(st.sampled_from(ANSWERS), max_size=60),
    st.sampled_from(Protocol),
    st.booleans(),
)
def test_any_octets_and_any_answers_come_to_a_documented_end(
    pieces: list[bytes], whims: list[object], protocol: Protocol, require_auth: bool
) -> None:
    handler = Whimsical(whims)
    client = Client(
        handler,
        settings(
            protocol=protocol,
            mechanisms=("PLAIN", "LOGIN", "CRAM-MD5"),
            allow_cleartext_auth=True,
            require_auth=require_auth,
            limits=Limits(message_size=1000, recipients=3),
        ),
    )
    said = client.said
    for piece in pieces:
        if piece and not client.closed:
            said += client.say(piece)
    if not client.closed:
        said += client.end()
    assert client.closed
    assert len(replies(said)) >= 1


@given(st.binary(max_size=300), st.integers(1, 20))
def test_any_octets_are_the_same_however_they_are_cut(data: bytes, size: int) -> None:
    said, handler = play([HELLO + data])
    cut = [data[at : at + size] for at in range(0, len(data), size)]
    cut_said, cut_handler = play([HELLO, *cut])
    assert cut_said == said
    assert cut_handler.calls == handler.calls


# --- With the client of this package ------------------------------------------------------------


class Wire:
    """Carries the octets of the client flows of one session to a server, and back."""

    def __init__(self, handler: Handler, served: ServeSettings) -> None:
        self.server = Client(handler, served)
        self.heard = self.server.said

    def run(self, flow: Flow[T]) -> T:
        """Carry out one flow of the client."""
        while True:
            action = flow.next_action()
            match action:
                case Done(result):
                    return result
                case Connect():
                    flow.connected("192.0.2.1")
                case Send() if self.server.closed:
                    flow.failed(BrokenPipeError())  # the end of TLS: the server has gone
                case Send(data):
                    self.heard += self.server.send(bytes(data))
                case Receive():
                    heard, self.heard = self.heard, b""
                    flow.receive_data(heard)
                case _:
                    raise AssertionError(action)


class Choosy(Keeping):
    """Takes mail from nobody called eve, and for nobody called nobody."""

    def on_mail(self, session: ServerSession, mail: Mail) -> Reply | None:
        return Reply(550, ("not you",)) if str(mail.reverse_path).startswith("eve") else None

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        return Reply(550, ("who?",)) if str(rcpt.forward_path).startswith("nobody") else None


AUTHORITY = trustme.CA()


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("chunking", [False, True])
@pytest.mark.parametrize("pipelining", [False, True])
@pytest.mark.parametrize(
    "security", [Security.NONE, Security.OPPORTUNISTIC, Security.STARTTLS, Security.IMPLICIT]
)
def test_the_client_of_this_package_understands_the_server(
    security: Security, pipelining: bool, chunking: bool, protocol: Protocol
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(HOSTNAME).configure_cert(context)
    handler = Choosy()
    wire = Wire(
        handler,
        settings(
            security=security,
            tls=server_factory(context),
            mechanisms=("PLAIN",),
            require_auth=True,
            allow_cleartext_auth=True,
            protocol=protocol,
        ),
    )
    session = wire.run(
        OpenSession(
            OpenSettings(
                HOSTNAME,
                25,
                security=security,
                tls=ClientTLS(ca_data=AUTHORITY.cert_pem.bytes().decode()).factory(),
                credentials=Credentials("ann", "secret"),
                policy=Policy(allow_cleartext=True),
                protocol=protocol,
                pipelining=pipelining,
                chunking=chunking,
            )
        )
    )
    assert session.authenticated
    assert (session.tls is not None) == (security is not Security.NONE)

    def send(sender: str, recipients: list[str], content: bytes) -> SendResult:
        return wire.run(SendMail(session, Envelope.of(sender, recipients), content))

    good, bad = [f"user{number}@example.org" for number in range(50)], "nobody@example.org"
    result = send("ann@example.com", [*good, bad], b".\r\n\xff")
    assert list(result.accepted) == good
    assert list(result.refused) == [bad]
    with pytest.raises(SenderRefused):
        send("eve@example.com", good, b"x")
    with pytest.raises(RecipientsRefused):
        send("ann@example.com", [bad], b"x")
    assert wire.run(verify(session, "ann")).code == 252
    wire.run(noop(session))
    wire.run(reset(session))
    if protocol is Protocol.SMTP:
        with pytest.raises(ContentRefused):
            send("ann@example.com", good, b"spam")
    send("", good[:1], b"")
    wire.run(CloseSession(session))
    assert wire.server.closed
    assert handler.contents[0] == b".\r\n\xff\r\n"
    assert handler.contents[-1] == b""
    assert handler.calls[-1] == "disconnect"
