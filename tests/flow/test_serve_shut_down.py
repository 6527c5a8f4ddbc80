"""Serve, when the server is shut down: who waits hears 421, and no message is taken without a word.

Knows when it may be said. Must not know how a wait is ended.
"""

from __future__ import annotations

import pytest

from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.security import Security
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire.reply import Reply
from tests.flow.serving import Client, settings
from tests.flow.test_serve import EHLO, GREETED, TRANSACTION, Recorder, Refusing, greeted
from tests.flow.test_serve_laws import WHOLE, Keeping, cut, replies
from tests.flow.test_serve_tls import READY, STARTTLS, client_layer, served

LAST = b"421 4.3.2 Shutting down, closing the connection\r\n"
TAKEN = b"250 2.0.0 Message accepted\r\n"
CHUNK = b"250 2.0.0 Chunk received\r\n"
AUTH = settings(mechanisms=("PLAIN", "LOGIN"), allow_cleartext_auth=True)


def shut_down(client: Client) -> bytes:
    """Shut the server down, and return what the client hears at once."""
    client.flow.shut_down()
    return client.fail(InterruptedError()) if client.flow.awaits_command else client.said


def leave(client: Client) -> None:
    """The client has heard the last reply, and goes."""
    assert client.phase is Phase.LAST_WORDS
    assert not client.flow.awaits_command
    assert client.end() == b""
    assert client.closed
    assert not client.flow.awaits_command


# --- Who waits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"",
        EHLO,
        EHLO + b"NO",
        EHLO + b"MAIL FROM:<ann@example.com>\r\n",
        EHLO + TRANSACTION,
        EHLO + TRANSACTION + b"DATA\r\nx\r\n.\r\n",
        EHLO + b"AUTH LOGIN\r\n",
    ],
    ids=lambda said: said[-10:],
)
def test_who_is_waited_for_hears_it_at_once(said: bytes) -> None:
    handler = Recorder()
    client = greeted(handler, AUTH)
    if said:
        client.say(said)
    assert shut_down(client) == LAST
    leave(client)
    assert handler.disconnects == 1
    assert handler.errors == []


def test_who_may_only_say_quit_hears_it() -> None:
    client = greeted(Refusing(connect=Reply(554, ("no",))))
    assert shut_down(client) == LAST
    leave(client)


def test_who_has_gone_hears_nothing() -> None:
    client = greeted()
    client.reset = True
    assert shut_down(client) == b""
    assert client.closed


def test_an_interruption_is_enough() -> None:
    client = greeted()
    assert client.flow.awaits_command
    assert client.fail(InterruptedError()) == LAST
    leave(client)


# --- Who is being served -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "rest", "said"),
    [
        (b"DATA\r\n", b"x\r\n.\r\n", TAKEN),
        (b"DATA\r\nx", b"\r\n.\r\n", TAKEN),
        (b"BDAT 3 LAST\r\nx", b"\r\n", TAKEN),
        (b"BDAT 1\r\nx", b"BDAT 2 LAST\r\n\r\n", CHUNK + TAKEN),
        (b"BDAT 2\r\nx", b"\rBDAT 1 LAST\r\n\n", CHUNK + TAKEN),
    ],
)
def test_a_message_that_is_coming_is_taken_and_answered(
    begun: bytes, rest: bytes, said: bytes
) -> None:
    handler = Recorder()
    client = greeted(handler)
    client.say(EHLO + TRANSACTION)
    heard = client.say(begun).removeprefix(b"354 End the content with <CRLF>.<CRLF>\r\n")
    heard += shut_down(client)
    assert not client.flow.awaits_command
    for octet in rest:
        heard += client.say(bytes([octet]))
    assert heard == said + LAST
    leave(client)
    assert [content for _, content in handler.messages] == [b"x\r\n"]


def test_content_that_ends_in_a_refusal() -> None:
    client = greeted()
    client.say(EHLO + TRANSACTION + b"DATA\r\n")
    assert shut_down(client) == b""
    said = client.say(b"a bare\rCR\r\n.\r\n")
    assert [reply.code for reply in replies(said)] == [550, 421]
    leave(client)


class Ending(Handler):
    """Shuts its own server down when it is asked so."""

    client: Client | None = None

    def _end(self) -> None:
        if self.client is not None:
            self.client.flow.shut_down()

    def on_verify(self, session: ServerSession, string: str) -> None:
        self._end()

    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        self._end()


@pytest.mark.parametrize(
    ("said", "codes"),
    [
        (b"VRFY x\r\n", [252, 421]),
        (b"VRFY x\r\nNOOP\r\nNOOP\r\n", [252, 250, 250, 421]),
        (b"VRFY x\r\nQUIT\r\n", [252, 221]),
        (TRANSACTION + b"BDAT 1 LAST\r\nx", [250, 250, 250, 421]),
        (TRANSACTION + b"BDAT 1 LAST\r\nxNOOP\r\nNO", [250, 250, 250, 250, 421]),
    ],
)
def test_what_has_come_is_answered_before(said: bytes, codes: list[int]) -> None:
    handler = Ending()
    handler.client = client = greeted(handler)
    client.say(EHLO)
    assert [reply.code for reply in replies(client.say(said))] == codes
    if not client.closed:
        leave(client)


# --- TLS -----------------------------------------------------------------------------------------


def test_inside_tls_it_comes_by_tls_and_with_its_end() -> None:
    client = Client(None, served(Security.IMPLICIT))
    assert client.start_tls(client_layer()) == GREETED
    client.say(EHLO)
    assert shut_down(client) == LAST
    assert client.layer is not None
    assert client.layer.closed
    leave(client)


@pytest.mark.parametrize("security", [Security.IMPLICIT, Security.STARTTLS])
def test_a_handshake_is_finished_before(security: Security) -> None:
    client = Client(None, served(security))
    greeting = GREETED
    if security is Security.STARTTLS:
        client.say(EHLO)
        assert client.say(STARTTLS) == READY
        greeting = b""
    assert shut_down(client) == b""
    assert client.start_tls(client_layer()) == greeting + LAST
    leave(client)


# --- Laws ----------------------------------------------------------------------------------------


def play(session: bytes, at: int) -> tuple[bytes, Keeping]:
    """Play a session, and shut the server down when so many octets have come."""
    handler = Keeping()
    client = Client(handler, AUTH)
    said = client.said
    for piece in cut(session[:at]):
        said += client.say(piece)
    if not client.closed:
        said += shut_down(client)
    for piece in cut(session[at:]):
        if not client.closed:
            said += client.say(piece)
    if not client.closed:
        said += client.end()
    assert client.closed
    assert handler.calls.count("disconnect") == 1
    return said, handler


@WHOLE
def test_whenever_it_is_shut_down_each_message_is_answered(
    session: bytes, contents: list[bytes]
) -> None:
    whole, _ = play(session, len(session))
    for at in range(len(session)):
        said, handler = play(session, at)
        assert whole.startswith(said.removesuffix(LAST))
        assert said.count(LAST) == (not said.endswith(b"221 2.0.0 Goodbye\r\n"))
        assert handler.contents == contents[: len(handler.contents)]
        assert said.count(b"Message accepted") == len(handler.contents)
