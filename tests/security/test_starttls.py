"""Nothing crosses the border of TLS, in either role, whatever the other side says before it.

Knows sessions up to the handshake. Must not know how the border is guarded.
"""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.flow.actions import Timer
from smtp_proto.flow.errors import SMTPError
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.security import Security
from smtp_proto.sasl import Credentials
from smtp_proto.wire import Mail, Rcpt
from tests.flow.scripted import play
from tests.flow.scripted import settings as of_client
from tests.flow.serving import HOSTNAME, Client, settings
from tests.flow.test_serve_tls import CLIENT_TLS, SERVER_TLS, client_layer
from tests.security.differences import HELLO, MAIL, RCPT
from tests.security.servers import codes

# --- The client's side ---------------------------------------------------------------------------

CODES = (220, 221, 235, 250, 334, 354, 421, 454, 500, 501, 502, 503, 504, 530, 550, 554)
EHLO_REPLIES = (
    b"250-mail.test\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n",
    b"250-mail.test\r\n250 AUTH PLAIN LOGIN\r\n",
    b"250-mail.test\r\n250-STARTTLSX\r\n250 AUTH PLAIN\r\n",
    b"250-mail.test\r\n250 starttls\r\n",
)
replies = (
    st.sampled_from(CODES).map(lambda code: b"%d do something else\r\n" % code)
    | st.sampled_from(EHLO_REPLIES)
    | st.binary(min_size=1, max_size=20)
)
sessions = st.one_of(
    st.lists(replies, max_size=6),
    st.tuples(st.sampled_from(EHLO_REPLIES), st.lists(replies, max_size=4)).map(
        lambda said: [b"220 mail.test\r\n", said[0], *said[1]]
    ),
    # All in one breath, as it comes from somebody who does not listen.
    st.lists(replies, min_size=1, max_size=4).map(
        lambda rest: [b"220 mail.test\r\n", EHLO_REPLIES[0], b"".join([b"220 Go\r\n", *rest])]
    ),
)
OPENINGS = {
    "required": of_client(security=Security.STARTTLS, port=587),
    "automatic": of_client(security=Security.AUTO, port=25),
}


class Says:
    """A server that says one thing after the other, and ends. `sent`: what it was told."""

    def __init__(self, things: list[bytes]) -> None:
        self.timers: list[Timer] = []
        self.sent = b""
        self._things = list(things)

    def write(self, data: bytes) -> None:
        self.sent += data

    def read(self) -> bytes:
        return self._things.pop(0) if self._things else b""


def told(mode: str, things: list[bytes], *, logs_in: bool = True) -> bytes:
    """Open a session, which comes to nothing; return what the client has said."""
    opening = OPENINGS[mode]
    opening = of_client(
        security=opening.security,
        port=opening.port,
        tls=CLIENT_TLS,
        credentials=Credentials("ann", "secret") if logs_in else None,
        local_hostname="c.example",
    )
    server = Says(things)
    with pytest.raises(SMTPError):
        play(OpenSession(opening), server)
    return server.sent


@pytest.mark.parametrize("mode", OPENINGS)
@given(sessions, st.booleans())
def test_in_clear_nothing_is_said_that_matters(
    mode: str, things: list[bytes], logs_in: bool
) -> None:
    sent = told(mode, things, logs_in=logs_in)
    clear, _, _ = sent.partition(b"\x16\x03")  # a handshake begins so
    for line in clear.splitlines():
        assert line.split(b" ")[0] in {b"EHLO", b"STARTTLS", b"QUIT"}


@pytest.mark.parametrize("mode", OPENINGS)
@pytest.mark.parametrize("code", [code for code in CODES if code != 220])
def test_nothing_but_220_begins_a_handshake(mode: str, code: int) -> None:
    sent = told(mode, [b"220 x\r\n", EHLO_REPLIES[0], b"%d x\r\n" % code, b"250 x\r\n"])
    assert sent == b"EHLO c.example\r\nSTARTTLS\r\n"


INJECTIONS = (
    b"250-mx.evil\r\n250 AUTH LOGIN\r\n",
    b"250-SMTPUTF8 INJECTED ",
    b"250-x\r\n250 AUTH PLAIN\r\n235 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
    b"\n",
    b"\0",
)


@pytest.mark.parametrize("mode", OPENINGS)
@given(st.sampled_from(INJECTIONS) | st.binary(min_size=1, max_size=50))
def test_one_octet_behind_the_220_and_there_is_no_handshake(mode: str, more: bytes) -> None:
    sent = told(mode, [b"220 x\r\n", EHLO_REPLIES[0], b"220 Go\r\n" + more])
    assert sent == b"EHLO c.example\r\nSTARTTLS\r\n"


# --- The server's side ---------------------------------------------------------------------------

AUTH = b"AUTH PLAIN " + b64encode(b"\0ann\0secret") + b"\r\n"
STARTTLS = b"STARTTLS\r\n"


class Noting(Handler):
    """Lets anybody in, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.session: ServerSession | None = None

    def on_helo(self, session: ServerSession, domain: str) -> None:
        self.session = session
        self.asked.append(domain)

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        self.asked.append(credentials)
        return True

    def on_mail(self, session: ServerSession, mail: Mail) -> None:
        self.asked.append(mail)

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> None:
        self.asked.append(rcpt)


def greeted(noting: Noting) -> Client:
    """A client of a server that takes all in clear, if only somebody asks for it."""
    served = settings(
        security=Security.OPPORTUNISTIC,
        tls=SERVER_TLS,
        mechanisms=("PLAIN",),
        allow_cleartext_auth=True,
    )
    client = Client(noting, served)
    client.say(HELLO)
    return client


@given(
    st.sampled_from([b"EHLO injected\r\n", MAIL, b"NO", b"\0", b"\r\n"])
    | st.binary(min_size=1, max_size=40),
    st.integers(0, 60),
)
def test_what_is_said_behind_starttls_is_never_obeyed(more: bytes, cut: int) -> None:
    noting = Noting()
    client = greeted(noting)
    stream = STARTTLS + more
    said = client.say(stream[:cut]) if cut else b""
    if not client.closed and cut < len(stream) and client.phase is not None:
        said += client.say(stream[cut:])
    assert noting.asked == ["c.example"]
    # Together with STARTTLS it is refused; later it is a handshake that comes to nothing.
    replies_to_it, _, _ = said.partition(b"\x15\x03")
    assert codes(replies_to_it) == ((220,) if cut == len(STARTTLS) else (554,))


def test_an_innocent_line_with_the_word_in_it_is_obeyed() -> None:
    client = greeted(Noting())
    said = client.say(MAIL + b"RCPT TO:<starttls@mail.test>\r\nNOOP STARTTLS\r\nRSET\r\n")
    assert codes(said) == (250, 250, 250, 250)


@pytest.mark.parametrize("before", [AUTH, MAIL, MAIL + RCPT], ids=["AUTH", "MAIL", "RCPT"])
def test_nobody_starts_a_session_for_somebody_else(before: bytes) -> None:
    """What an attacker has begun in clear is not there when the victim's TLS begins."""
    client = greeted(Noting())
    for line in before.splitlines(keepends=True):
        client.say(line)
    assert codes(client.say(STARTTLS)) == (503,)


def test_all_is_forgotten_when_tls_begins() -> None:
    noting = Noting()
    client = greeted(noting)
    client.say(MAIL + RCPT + b"RSET\r\n")
    assert codes(client.say(STARTTLS)) == (220,)
    client.start_tls(client_layer())
    session = noting.session
    assert session is not None
    assert (session.helo, session.authenticated_as, session.reverse_path) == (None, None, None)
    for line in (MAIL, RCPT, b"DATA\r\n", AUTH, STARTTLS):
        assert codes(client.say(line)) == (503,) or codes(client.say(line)) == (502,)
    said = client.say(b"EHLO %s\r\n" % HOSTNAME.encode())
    assert b"STARTTLS" not in said
    assert codes(client.say(AUTH)) == (235,)
