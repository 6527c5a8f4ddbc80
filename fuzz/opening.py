"""Harnesses for the flows that open a session: each security, proxies, every login.

Knows what may be sent in clear, and what must be true of a session that was opened. Must not know
in which order a flow does things.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from fuzz.engine import protocol_of
from fuzz.fake_tls import FakeTLS
from fuzz.leaks import (
    PASSWORD,
    PROXY_PASSWORD,
    TOKEN,
    assert_hidden,
    said,
    with_causes,
)
from fuzz.notes import Notes
from fuzz.script import Script, cuts, whole
from fuzz.stream import Stream, assert_same_or_none, carry_out
from fuzz.wire import LIMITS, assert_says_why
from smtp_proto.engine import State
from smtp_proto.flow import (
    AuthenticationError,
    CheckCredentials,
    CloseSession,
    Flow,
    OpenSession,
    OpenSettings,
    Security,
    Session,
    SMTPError,
)
from smtp_proto.flow.by_hand import authenticate, start_tls
from smtp_proto.flow.journal import Journal
from smtp_proto.proxy import HttpConnect, Proxy, Socks4, Socks4a, Socks5
from smtp_proto.sasl import (
    CLIENT_MECHANISMS,
    AnyCredentials,
    Credentials,
    Policy,
    TokenCredentials,
    TokenSource,
)

_SECURITIES = {
    "s": Security.STARTTLS,
    "o": Security.OPPORTUNISTIC,
    "i": Security.IMPLICIT,
    "u": Security.AUTO,
    "m": Security.MANUAL,
}
_PORTS = {"2": 25, "6": 465, "7": 587}
_CREDENTIALS: Mapping[str, AnyCredentials] = {
    "a": Credentials("user", PASSWORD),
    "j": TokenCredentials("user", TOKEN),
    "J": TokenSource("user", lambda: TOKEN),
}
_PROXIES: Mapping[str, Proxy] = {
    "4": Socks4("p4.example", 1080, "id"),
    "f": Socks4a("p4a.example", 1080, "id"),
    "5": Socks5("p5.example", 1080, "id", PROXY_PASSWORD),
    "5r": Socks5("p5.example", 1080, "id", PROXY_PASSWORD, resolve_here=True),
    "h": HttpConnect("http.example", 80, "id", PROXY_PASSWORD),
    "H": HttpConnect("https.example", 443, "id", PROXY_PASSWORD, tls=True),
}
_IN_CLEAR = Policy(frozenset(CLIENT_MECHANISMS), allow_cleartext=True)
_MOST_PROXIES = 2

OpenLike: TypeAlias = Callable[[OpenSettings, Journal], Flow[Session]]


def open_session(data: bytes, flow: OpenLike = OpenSession) -> None:
    """Open a session with whatever the server says, and the proxies before it.

    Options: L for LMTP, 1 for no pipelining; s to require STARTTLS, o to take it where offered, i
    for TLS from the start, u for AUTO, with c also in clear, m to do it by hand; 2, 6, 7 for port
    25, 465, 587; a to log in, j with a token, J with one that is fetched, A to do so in clear text,
    too; 4, f, 5, h, H to go through SOCKS4, SOCKS4a, SOCKS5 (with r it resolves nothing), HTTP and
    HTTPS; q to check the login only.
    """
    script = Script.read(data)
    settings = _settings(script)
    outcomes: list[bytes | None] = []
    for cut in (whole, *cuts(data)):
        stream = Stream(script.turns, cut)
        notes = Notes()
        sent: bytes | None = None
        try:
            if "q" in script.options and settings.security is not Security.MANUAL:
                _check(settings, stream, notes)
            else:
                sent = _open(partial(flow, settings, notes), settings, stream)
        except SMTPError as error:
            _look_at_error(error, stream)
        outcomes.append(sent)
        notes.assert_fit_for_a_log(stream.heard)
        if not _may_say_it_in_clear(settings):
            assert not said(stream.sent, (PASSWORD, TOKEN)), "a secret in clear"
        assert settings.proxies or not said(stream.sent, (PROXY_PASSWORD,))
    assert_same_or_none(outcomes)


def _settings(script: Script) -> OpenSettings:
    options = script.options
    security = next((_SECURITIES[each] for each in options if each in _SECURITIES), Security.NONE)
    return OpenSettings(
        "s.example",
        next((_PORTS[each] for each in options if each in _PORTS), None),
        security=security,
        tls=FakeTLS,
        proxies=_proxies(options),
        proxy_tls=FakeTLS,
        allow_cleartext=security is Security.AUTO and "c" in options,
        credentials=next((_CREDENTIALS[each] for each in options if each in _CREDENTIALS), None),
        policy=_IN_CLEAR if "A" in options else Policy(),
        nonce=lambda: b"0123456789abcdef",
        protocol=protocol_of(script),
        limits=LIMITS,
        pipelining="1" not in options,
    )


def _proxies(options: str) -> tuple[Proxy, ...]:
    resolve = "r" if "r" in options else ""
    names = [each + resolve if each == "5" else each for each in options]
    return tuple(_PROXIES[name] for name in names if name in _PROXIES)[:_MOST_PROXIES]


def _may_say_it_in_clear(settings: OpenSettings) -> bool:
    return settings.policy is _IN_CLEAR and (
        settings.allow_cleartext or settings.security in (Security.NONE, Security.MANUAL)
    )


def _open(flow: Callable[[], Flow[Session]], settings: OpenSettings, stream: Stream) -> bytes:
    """Return what was sent for an open session."""
    session = carry_out(flow(), stream)
    assert session.tls is not None or not settings.requires_tls
    if settings.security is Security.MANUAL:
        if session.tls is None:
            carry_out(start_tls(session), stream)
        if settings.credentials is not None:
            carry_out(authenticate(session), stream)
    assert session.authenticated == (settings.credentials is not None)
    sent = stream.sent
    close(session, stream)
    return sent


def close(session: Session, stream: Stream) -> None:
    """End a session that can be used, and see that it cannot any more."""
    if session.over:  # the server has ended it behind its last reply
        assert not session.usable
        return
    assert session.usable
    assert session.engine.state is State.READY
    carry_out(CloseSession(session), stream)
    assert not session.usable


def _check(settings: OpenSettings, stream: Stream, notes: Notes) -> None:
    report = carry_out(CheckCredentials(settings, notes), stream)
    assert bool(report) == report.authenticated
    assert report.error is not None or report.authenticated == (settings.credentials is not None)
    assert_hidden([report], stream.heard)
    if report.error is not None:
        _look_at_error(report.error, stream)


def _look_at_error(error: SMTPError, stream: Stream) -> None:
    assert_says_why(error)
    told: list[object] = [*with_causes(error), *error.attempts]
    if isinstance(error, AuthenticationError):
        told += [error.passed_over, error.reply, error.explanation, error.explanation_fields]
    assert_hidden(told, stream.heard)
