"""From a host name to a greeted, encrypted and authenticated session.

The order of things, top to bottom as in the RFCs. Knows the security modes, and in which order AUTO
tries them. Must not know how a stream is opened, nor any mechanism.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address

from smtp_proto.engine import Protocol
from smtp_proto.flow.actions import Timer
from smtp_proto.flow.errors import (
    Attempt,
    CertificateError,
    ConnectError,
    ConnectionLost,
    ProtocolViolation,
    ProxyError,
    ReplyError,
    SMTPError,
    SMTPTimeout,
    TLSError,
    in_phase,
    reply_error,
)
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.journal import QUIET, Journal
from smtp_proto.flow.link import Link
from smtp_proto.flow.login import log_in
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.reach import reach
from smtp_proto.flow.security import Security, Way, ways
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase, TotalTimeout
from smtp_proto.wire import Ehlo, Helo, Lhlo, Octets, Quit, StartTls


def _ignore(_session: Session) -> None:
    pass


class OpenSession(Flow[Session]):
    """Connects, reads the greeting, says EHLO, starts TLS and logs in, as the settings say.

    When it fails the stream is to be closed: nothing has been sent over it that the settings do not
    allow.
    """

    def __init__(self, settings: OpenSettings, journal: Journal = QUIET) -> None:
        super().__init__(open_session(settings, journal), settings.timeouts.total)


def open_session(
    settings: OpenSettings, journal: Journal, begun: Callable[[Session], None] = _ignore
) -> Steps[Session]:
    """What `OpenSession` does. `begun` gets each session before the server has greeted."""
    if settings.security is Security.AUTO:
        return (yield from _open_in_any_way(settings, journal, begun))
    port = settings.port if settings.port is not None else settings.security.default_port
    way = Way(port or 0, settings.security)
    session = yield from _be_greeted(settings, _Try(way), journal, begun)
    yield from _settle(session, way.security)
    return session


# --- AUTO ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Try:
    """A way, and the stream to the server where that is open already."""

    way: Way
    reached: tuple[Link, str | None] | None = None


class _Silence(Exception):
    """The server says nothing: it may wait for TLS. The stream is open."""

    def __init__(self, error: SMTPTimeout, reached: tuple[Link, str | None]) -> None:
        super().__init__(str(error))
        self.error = error
        self.reached = reached


def _open_in_any_way(
    settings: OpenSettings, journal: Journal, begun: Callable[[Session], None]
) -> Steps[Session]:
    attempts: list[Attempt] = []
    untried = [_Try(way) for way in ways(settings.port)]
    while True:
        this = untried.pop(0)
        way = this.way
        try:
            session = yield from _be_greeted(settings, this, journal, begun)
        except _Silence as silence:
            attempts.append(Attempt(way.port, way.security, silence.error))
            untried = [
                _Try(Way(way.port, Security.IMPLICIT), silence.reached),
                # It was a slow greeting, which TLS has come into: this time it may take its time.
                _Try(Way(way.port, Security.STARTTLS)),
            ]
        except SMTPError as error:
            attempts.append(Attempt(way.port, way.security, error))
            journal.happened(f"left: {attempts[-1]}")
            if not untried or not _leads_on(error, way, untried[0].way):
                error.attempts = tuple(attempts)
                raise
        else:
            break
    attempts.append(Attempt(way.port, way.security, None))
    session.attempts = tuple(attempts)
    try:
        yield from _settle(session, way.security)
    except SMTPError as error:
        error.attempts = session.attempts
        raise
    return session


def _leads_on(error: SMTPError, way: Way, next_way: Way) -> bool:
    """Whether there is any sense in trying the next way after this error."""
    match error:
        case CertificateError():
            return False  # somebody may be in between: no other way is better
        case TLSError() | ConnectionLost() | ProtocolViolation():
            return True  # it speaks otherwise here
        case ConnectError() | ProxyError() | SMTPTimeout(whole=False):
            return way.port != next_way.port
        case _:
            return False


def _await_first_octets(settings: OpenSettings, reached: tuple[Link, str | None]) -> Steps[Octets]:
    """Wait for the server to speak. Raises _Silence if it does not, though it is there."""
    link, _ = reached
    timer = Timer(Phase.GREETING_PROBE, settings.timeouts.greeting_probe)
    try:
        octets = yield from link.receive(timer)
    except TimeoutError as error:
        timed_out = link.timed_out(timer, error)
        if isinstance(error, TotalTimeout) or error.errno is not None:  # the system has given up
            raise timed_out from None
        raise _Silence(timed_out, reached) from None
    except OSError as error:
        lost = ConnectionLost(f"the connection was lost in phase {timer.phase.value}: {error}")
        raise in_phase(timer.phase, lost) from error
    if not octets:
        lost = ConnectionLost("the server closed the connection before it said anything")
        raise in_phase(timer.phase, lost)
    return octets


# --- In one way ----------------------------------------------------------------------------------


def _be_greeted(
    settings: OpenSettings, this: _Try, journal: Journal, begun: Callable[[Session], None]
) -> Steps[Session]:
    """Reach the server, and hear its greeting."""
    way = this.way
    reached = this.reached or (yield from reach(settings, way.port, journal))
    link, local_address = reached
    with _doubting_the_header(settings):
        if way.probe:
            link.push_back((yield from _await_first_octets(settings, reached)))
        layer = None
        if way.security is Security.IMPLICIT:
            layer = settings.tls(settings.server_hostname or settings.host)
            yield from link.start_tls(layer, Timer(Phase.TLS, settings.timeouts.tls))
            journal.happened(f"TLS from the start: {layer.info}")
        # The proxies have done their part, and have passwords.
        settings = replace(settings, port=way.port, proxies=())
        session = Session(settings, link, layer, journal)
        session.name = settings.local_hostname or _address_literal(local_address)
        begun(session)
        session.hear_pending()
        yield from _read_greeting(session)
    return session


@contextmanager
def _doubting_the_header(settings: OpenSettings) -> Generator[None]:
    """Have errors ask about the PROXY header: who expects none takes it for the first command."""
    try:
        yield
    except CertificateError:
        raise  # TLS was understood
    except (TLSError, ReplyError, ProtocolViolation, ConnectionLost) as error:
        if settings.proxy_header:
            error.args = (f"{error}; does the server expect the PROXY header?",)
        raise


def _read_greeting(session: Session) -> Steps[None]:
    event = yield from session.next_reply(session.timer(Phase.GREETING))
    session.greeting = event.reply
    if not event.reply.positive:
        if not session.engine.finished:
            # RFC 5321 3.1: after 554 the client says QUIT; nothing depends on the answer.
            yield from session.send_if_possible(
                session.engine.send(Quit()), session.timer(Phase.QUIT)
            )
        raise reply_error(Phase.GREETING, "the connection", event.reply)


def _settle(session: Session, security: Security) -> Steps[None]:
    """From the greeting to where mail can be sent."""
    settings = session.settings
    with _doubting_the_header(settings):
        yield from say_hello(session)
    if _wants_starttls(session, security):
        yield from upgrade(session)
    if settings.credentials is not None and security is not Security.MANUAL:
        yield from log_in(session, settings.credentials)
    session.opened()


def _wants_starttls(session: Session, security: Security) -> bool:
    settings = session.settings
    offered = session.capabilities.starttls
    if session.tls is not None or security in (Security.NONE, Security.MANUAL):
        return False
    if settings.requires_tls and not offered:
        advice = (
            "is it the right port? (allow_cleartext=True goes on without, for all to read)"
            if settings.security is Security.AUTO
            else "is it the right port (587 as a rule; 465 wants IMPLICIT)?"
        )
        raise TLSError(
            f"{settings.host} port {settings.port} does not offer STARTTLS, "
            f"which is required: {advice}"
        )
    return offered


def say_hello(session: Session) -> Steps[None]:
    """EHLO, or HELO for servers that refuse it, where nothing that EHLO brings is needed."""
    name = session.name
    if session.protocol is Protocol.LMTP:
        reply = yield from session.request(Lhlo(name), Phase.EHLO)
        if not reply.positive:
            raise reply_error(Phase.EHLO, "LHLO", reply)
        return
    reply = yield from session.request(Ehlo(name), Phase.EHLO)
    if reply.positive:
        return
    if not reply.permanent or not _may_do_without_ehlo(session):
        raise reply_error(Phase.EHLO, "EHLO", reply)
    reply = yield from session.request(Helo(name), Phase.EHLO)  # RFC 5321 3.2
    if not reply.positive:
        raise reply_error(Phase.EHLO, "HELO", reply)


def _may_do_without_ehlo(session: Session) -> bool:
    """Whether plain HELO would do: it brings neither STARTTLS nor AUTH.

    Nor behind STARTTLS: the server had EHLO before. Nor behind a PROXY header: it may be that what
    was refused, and EHLO is not answered yet.
    """
    settings = session.settings
    tls_from_the_start = session.tls is not None and session.capabilities_before_tls is None
    needs_starttls = settings.requires_tls and not tls_from_the_start
    return not needs_starttls and settings.credentials is None and not settings.proxy_header


def upgrade(session: Session) -> Steps[None]:
    """STARTTLS, and EHLO again: what the server said in clear text counts no more."""
    settings = session.settings
    layer = settings.tls(settings.server_hostname or settings.host)
    reply = yield from session.request(StartTls(), Phase.STARTTLS)
    if not reply.positive:
        # Also where TLS was optional: an offer that is then withdrawn looks just like an attack.
        raise TLSError(f"the server offers STARTTLS but refuses it: {reply}")
    session.capabilities_before_tls = session.capabilities
    yield from session.start_tls(layer)
    yield from say_hello(session)  # RFC 3207 4.2


def _address_literal(address: str | None) -> str:
    """The name of a client that has none (RFC 5321 4.1.3).

    A stream without an address is on this host.
    """
    parsed = ip_address((address or "127.0.0.1").partition("%")[0])
    return f"[IPv6:{parsed}]" if isinstance(parsed, IPv6Address) else f"[{parsed}]"
