"""start_tls() and authenticate(): in each order, twice, refused, and where nothing is offered.

Knows a session that MANUAL has opened. Must not know any mechanism but PLAIN.
"""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest
import trustme

from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow.by_hand import authenticate, start_tls
from smtp_proto.flow.errors import (
    AuthenticationError,
    CapabilityMissing,
    ConnectionLost,
    PermanentError,
    ProtocolViolation,
    SMTPError,
    SMTPTimeout,
    TLSError,
)
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.session import Session
from smtp_proto.flow.simple import noop
from smtp_proto.flow.timeouts import Phase, Timeouts
from smtp_proto.sasl import Credentials, Policy
from tests.flow.scripted import Server, Transcript, play, settings
from tests.flow.stack import serving_as, trusting
from tests.flow.test_tls import ALICE, AUTH, CANARY, EHLO, GREETING, HOST, Encrypted, quoted

NOOP = "C: NOOP\nS: 250 ok\n"
OFFERS = GREETING + EHLO + "S: 250-mail.test\nS: 250-AUTH PLAIN\nS: 250 STARTTLS\n"
NOTHING = GREETING + EHLO + "S: 250 mail.test\n"
GO = "C: STARTTLS\nS: 220 2.0.0 Go ahead\n"
SECURE = EHLO + "S: 250-mail.test\nS: 250 AUTH PLAIN\n"
OK = "S: 235 2.7.0 welcome\n"
WRONG = Credentials("alice", "another")
AUTH_WRONG = f"C: AUTH PLAIN {quoted(WRONG)}\nS: 535 5.7.8 wrong\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def serving(authority: trustme.CA) -> ssl.SSLContext:
    return serving_as(authority, HOST)


@pytest.fixture(scope="module")
def manual(authority: trustme.CA) -> OpenSettings:
    return settings(security=Security.MANUAL, tls=trusting(authority), credentials=ALICE)


def cleartext(opening: OpenSettings) -> OpenSettings:
    return replace(opening, policy=Policy(allow_cleartext=True))


def test_nothing_is_done_unasked(manual: OpenSettings) -> None:
    server = Transcript(OFFERS + NOOP)
    session = play(OpenSession(cleartext(manual)), server)
    play(noop(session), server)
    server.finish()
    assert session.tls is None
    assert not session.authenticated
    assert CANARY not in repr(session.settings)


def test_tls_and_then_the_login(manual: OpenSettings, serving: ssl.SSLContext) -> None:
    server = Encrypted(serving, OFFERS + GO, SECURE + AUTH + OK + NOOP)
    session = play(OpenSession(manual), server)
    play(start_tls(session), server)
    assert session.tls is not None
    assert session.tls.verified
    assert not session.capabilities.starttls, "what was said in clear is forgotten"
    play(authenticate(session), server)
    play(noop(session), server)
    server.finish()
    assert session.authenticated
    assert CANARY.encode() not in server.before.sent
    assert session.settings.credentials is None, "they are not needed any more"


def test_the_login_and_then_tls(manual: OpenSettings) -> None:
    server = Transcript(OFFERS + AUTH + OK + NOOP)
    session = play(OpenSession(cleartext(manual)), server)
    play(authenticate(session), server)
    with pytest.raises(LocalProtocolError, match="authenticated already: start TLS before"):
        start_tls(session)
    play(noop(session), server)
    server.finish()
    assert session.usable


def test_tls_twice(manual: OpenSettings, serving: ssl.SSLContext) -> None:
    server = Encrypted(serving, OFFERS + GO, SECURE + NOOP)
    session = play(OpenSession(manual), server)
    play(start_tls(session), server)
    with pytest.raises(LocalProtocolError, match="TLS is on already"):
        start_tls(session)
    play(noop(session), server)
    server.finish()


def test_tls_twice_at_the_same_time(manual: OpenSettings) -> None:
    session = play(OpenSession(manual), Transcript(OFFERS))
    first, second = start_tls(session), start_tls(session)
    first.next_action()
    with pytest.raises(ConnectionLost, match="in use"):
        second.next_action()


def test_the_login_twice(manual: OpenSettings, serving: ssl.SSLContext) -> None:
    server = Encrypted(serving, OFFERS + GO, SECURE + AUTH + OK + NOOP)
    session = play(OpenSession(manual), server)
    play(start_tls(session), server)
    play(authenticate(session), server)
    with pytest.raises(LocalProtocolError, match="authenticated already"):
        authenticate(session, ALICE)
    play(noop(session), server)
    server.finish()


def test_a_wrong_password_and_then_the_right_one(
    manual: OpenSettings, serving: ssl.SSLContext
) -> None:
    server = Encrypted(serving, OFFERS + GO, SECURE + AUTH_WRONG + AUTH + OK + NOOP)
    session = play(OpenSession(manual), server)
    play(start_tls(session), server)
    with pytest.raises(AuthenticationError) as caught:
        play(authenticate(session, WRONG), server)
    assert caught.value.reply is not None
    assert caught.value.reply.code == 535
    assert session.usable
    assert not session.authenticated
    play(authenticate(session), server)
    play(noop(session), server)
    server.finish()
    assert session.authenticated


@pytest.mark.parametrize("answer", ["S: 421 bye\n", "S:EOF\n", "S:BREAK\n", "S: nonsense\n"])
def test_a_login_that_ends_the_session(manual: OpenSettings, answer: str) -> None:
    server = Transcript(OFFERS + AUTH + answer)
    session = play(OpenSession(cleartext(manual)), server)
    with pytest.raises((AuthenticationError, ProtocolViolation)):
        play(authenticate(session), server)
    assert not session.usable
    with pytest.raises(ConnectionLost):
        play(authenticate(session), server)
    server.finish()


def test_a_login_that_takes_too_long(manual: OpenSettings) -> None:
    server = Transcript(OFFERS + AUTH + "S:TIME\n")
    opening = replace(cleartext(manual), timeouts=Timeouts(auth=3))
    session = play(OpenSession(opening), server)
    with pytest.raises(SMTPTimeout, match="after 3 s in phase auth"):
        play(authenticate(session), server)
    assert not session.usable


def test_there_are_no_credentials(manual: OpenSettings) -> None:
    server = Transcript(OFFERS + NOOP)
    session = play(OpenSession(replace(manual, credentials=None)), server)
    with pytest.raises(LocalProtocolError, match="no credentials"):
        authenticate(session)
    play(noop(session), server)
    server.finish()


# --- A server that offers nothing ----------------------------------------------------------------


def test_no_tls_is_offered(manual: OpenSettings) -> None:
    server = Transcript(NOTHING + NOOP)
    session = play(OpenSession(manual), server)
    with pytest.raises(CapabilityMissing, match="does not offer STARTTLS") as caught:
        play(start_tls(session), server)
    assert caught.value.capability == "STARTTLS"
    play(noop(session), server)
    server.finish()


def test_no_login_is_offered(manual: OpenSettings) -> None:
    server = Transcript(NOTHING + NOOP)
    session = play(OpenSession(cleartext(manual)), server)
    with pytest.raises(AuthenticationError, match="offers no AUTH, at least not before TLS"):
        play(authenticate(session), server)
    play(noop(session), server)
    server.finish()


def test_no_login_that_may_go_in_clear(manual: OpenSettings) -> None:
    server = Transcript(OFFERS + NOOP)
    session = play(OpenSession(manual), server)
    with pytest.raises(AuthenticationError) as caught:
        play(authenticate(session), server)
    assert not caught.value.tried
    play(noop(session), server)
    server.finish()


def test_a_server_that_knows_no_ehlo(manual: OpenSettings) -> None:
    server = Transcript(GREETING + EHLO + "S: 502 what?\nC: HELO [192.0.2.7]\nS: 250 hello\n")
    session = play(OpenSession(replace(manual, credentials=None)), server)
    with pytest.raises(CapabilityMissing):
        play(start_tls(session), server)
    assert session.usable


# --- TLS that fails ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("S: 454 4.7.0 not now\n", TLSError),
        ("S: 502 what?\n", TLSError),
        ("S: 250 ok\n", ProtocolViolation),
        ("S: 220 go\nS: 250 injected\n", ProtocolViolation),
        ("S:EOF\n", ConnectionLost),
        ("S:TIME\n", SMTPTimeout),
    ],
)
def test_starttls_that_fails_ends_the_session(
    manual: OpenSettings, answer: str, error: type[SMTPError]
) -> None:
    server = Transcript(OFFERS + "C: STARTTLS\n" + answer)
    session = play(OpenSession(cleartext(manual)), server)
    with pytest.raises(error):
        play(start_tls(session), server)
    assert not session.usable
    with pytest.raises(ConnectionLost):
        play(authenticate(session), server)
    server.finish()


def test_a_handshake_that_fails_ends_the_session(manual: OpenSettings) -> None:
    server = Encrypted(serving_as(trustme.CA(), HOST), OFFERS + GO, SECURE)
    session = play(OpenSession(cleartext(manual)), server)
    with pytest.raises(TLSError, match="certificate is refused"):
        play(start_tls(session), server)
    assert not session.usable
    assert session.tls is None
    with pytest.raises(ConnectionLost):
        play(authenticate(session), server)
    assert not server.inside.sent


def test_ehlo_refused_behind_tls_ends_the_session(
    manual: OpenSettings, serving: ssl.SSLContext
) -> None:
    server = Encrypted(serving, OFFERS + GO, EHLO + "S: 502 what?\n")
    session = play(OpenSession(manual), server)
    with pytest.raises(PermanentError) as caught:
        play(start_tls(session), server)
    assert caught.value.phase is Phase.EHLO
    assert not session.usable, "the server does not know who is there"


def test_a_handshake_that_is_abandoned_ends_the_session(manual: OpenSettings) -> None:
    session = play(OpenSession(manual), Transcript(OFFERS))
    flow = start_tls(session)
    flow.next_action()
    assert not session.usable
    del flow
    assert not session.usable


# --- In other modes ------------------------------------------------------------------------------


def test_opportunistic_never_logs_in_in_clear(authority: trustme.CA) -> None:
    clear = GREETING + EHLO + "S: 250-mail.test\nS: 250 AUTH PLAIN LOGIN\n"
    server = Transcript(clear + NOOP)
    opening = settings(security=Security.OPPORTUNISTIC, tls=trusting(authority))
    session = play(OpenSession(cleartext(opening)), server)
    with pytest.raises(AuthenticationError) as caught:
        play(authenticate(session, ALICE), server)
    assert not caught.value.tried
    assert CANARY not in str(caught.value)
    play(noop(session), server)
    server.finish()


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.AUTO, Security.OPPORTUNISTIC])
def test_a_login_later_where_tls_was_started_when_the_session_was_opened(
    manual: OpenSettings, serving: ssl.SSLContext, security: Security
) -> None:
    server: Server = Encrypted(serving, OFFERS + GO, SECURE + AUTH + OK)
    session = play(OpenSession(replace(manual, security=security, credentials=None)), server)
    play(authenticate(session, ALICE), server)
    assert session.authenticated
    with pytest.raises(LocalProtocolError):
        start_tls(session)


def test_tls_later_where_the_session_was_opened_in_clear(
    manual: OpenSettings, serving: ssl.SSLContext
) -> None:
    server = Encrypted(serving, OFFERS + GO, SECURE)
    opening = replace(manual, security=Security.NONE, credentials=None)
    session: Session = play(OpenSession(opening), server)
    play(start_tls(session), server)
    assert session.tls is not None
