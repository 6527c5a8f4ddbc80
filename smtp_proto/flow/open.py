"""From a host name to a greeted, encrypted and authenticated session.

The order of things, top to bottom as in the RFCs.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address

from smtp_proto.engine import Protocol, challenge
from smtp_proto.flow.actions import Connect
from smtp_proto.flow.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    ProtocolViolation,
    SMTPTimeout,
    TLSError,
    reply_error,
)
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.security import Security
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase, Timeouts
from smtp_proto.flow.tls import ClientTLSFactory, no_tls
from smtp_proto.sasl import (
    AnyCredentials,
    ClientContext,
    ClientMechanism,
    Credentials,
    Policy,
    SASLError,
    TokenCredentials,
    choose,
)
from smtp_proto.wire import (
    Auth,
    AuthResponse,
    Ehlo,
    Helo,
    Lhlo,
    Limits,
    Quit,
    Reply,
    StartTls,
    WireError,
    validate_domain,
)

_LONGEST_COMMAND_LINE = 512  # RFC 5321 4.5.3.1.4, in octets with CRLF


@dataclass(frozen=True, slots=True)
class OpenSettings:
    """All that decides how a session is opened."""

    host: str
    port: int
    security: Security = Security.STARTTLS
    tls: ClientTLSFactory = no_tls
    """Makes the TLS layer; needed in each mode but NONE."""
    server_hostname: str | None = None
    """The name to verify in the server's certificate; None: `host`."""
    credentials: AnyCredentials | None = field(default=None, repr=False)
    """None: no AUTH."""
    nonce: Callable[[], bytes] | None = None
    """Fresh random octets for the mechanisms that need them; None: they are passed over."""
    policy: Policy = field(default_factory=Policy)
    """Which mechanisms may be used."""
    local_hostname: str | None = None
    """What EHLO says; None: the literal of the stream's local address (RFC 5321 4.1.3)."""
    protocol: Protocol = Protocol.SMTP
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    pipelining: bool = True
    """False: one command at a time, also where the server offers PIPELINING."""
    chunking: bool = True
    """False: DATA, also where the server offers CHUNKING."""

    def __post_init__(self) -> None:
        if self.local_hostname is not None:
            validate_domain(self.local_hostname)


class OpenSession(Flow[Session]):
    """Connects, reads the greeting, says EHLO, starts TLS and logs in, as the settings say.

    When it fails the stream is to be closed: nothing has been sent over it that the settings do not
    allow.
    """

    def __init__(self, settings: OpenSettings) -> None:
        super().__init__(_open(settings), settings.timeouts.total)


def _open(settings: OpenSettings) -> Steps[Session]:
    session = Session(
        protocol=settings.protocol,
        timeouts=settings.timeouts,
        limits=settings.limits,
        pipelining=settings.pipelining,
        chunking=settings.chunking,
        implicit_tls=settings.security is Security.IMPLICIT,
    )
    local_address = yield from _connect(session, settings)
    name = settings.local_hostname or _address_literal(local_address)
    if settings.security is Security.IMPLICIT:
        yield from _start_tls(session, settings)
    yield from _read_greeting(session)
    yield from _say_hello(session, settings, name)
    if _wants_starttls(session, settings):
        reply = yield from session.request(StartTls(), Phase.STARTTLS)
        if not reply.positive:
            # Also where TLS was optional: an offer that is then withdrawn looks just
            # like an attack.
            raise TLSError(f"the server offers STARTTLS but refuses it: {reply}")
        yield from _start_tls(session, settings)
        yield from _say_hello(session, settings, name)  # RFC 3207 4.2
    if settings.credentials is not None:
        yield from _authenticate(session, settings, settings.credentials)
    session.opened()
    return session


def _connect(session: Session, settings: OpenSettings) -> Steps[str | None]:
    """Open the stream; returns its local IP address, if it has one."""
    timer = session.timer(Phase.CONNECT)
    try:
        local_address: str | None = yield Connect(settings.host, settings.port, timer)
    except TimeoutError:
        raise SMTPTimeout(Phase.CONNECT, timer.seconds) from None
    except OSError as error:
        raise ConnectError(
            f"cannot connect to {settings.host} port {settings.port}: {error.strerror or error}"
        ) from error
    return local_address


def _address_literal(address: str | None) -> str:
    """The name of a client that has none (RFC 5321 4.1.3).

    A stream without an address is on this host.
    """
    parsed = ip_address((address or "127.0.0.1").partition("%")[0])
    return f"[IPv6:{parsed}]" if isinstance(parsed, IPv6Address) else f"[{parsed}]"


def _start_tls(session: Session, settings: OpenSettings) -> Steps[None]:
    yield from session.start_tls(settings.tls(settings.server_hostname or settings.host))


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


def _say_hello(session: Session, settings: OpenSettings, name: str) -> Steps[None]:
    """EHLO, or HELO for servers that refuse it, where nothing that EHLO brings is needed."""
    if settings.protocol is Protocol.LMTP:
        reply = yield from session.request(Lhlo(name), Phase.EHLO)
        if not reply.positive:
            raise reply_error(Phase.EHLO, "LHLO", reply)
        return
    reply = yield from session.request(Ehlo(name), Phase.EHLO)
    if reply.positive:
        return
    if not reply.permanent or not _may_do_without_ehlo(settings):
        raise reply_error(Phase.EHLO, "EHLO", reply)
    reply = yield from session.request(Helo(name), Phase.EHLO)  # RFC 5321 3.2
    if not reply.positive:
        raise reply_error(Phase.EHLO, "HELO", reply)


def _may_do_without_ehlo(settings: OpenSettings) -> bool:
    """Whether plain HELO would do: it brings neither STARTTLS nor AUTH."""
    return settings.security is not Security.STARTTLS and settings.credentials is None


def _wants_starttls(session: Session, settings: OpenSettings) -> bool:
    offered = session.capabilities.starttls
    if settings.security is Security.STARTTLS and not offered:
        raise TLSError(
            f"{settings.host} port {settings.port} does not offer STARTTLS, "
            "which is required: is it the right port (587 as a rule; 465 wants IMPLICIT)?"
        )
    return offered and settings.security in (Security.STARTTLS, Security.OPPORTUNISTIC)


def _authenticate(
    session: Session, settings: OpenSettings, credentials: AnyCredentials
) -> Steps[None]:
    """AUTH (RFC 4954 4) with the mechanism that the policy chooses."""
    offered = session.capabilities.auth
    if not offered:
        raise AuthenticationError(
            f"{settings.host} port {settings.port} offers no AUTH"
            + ("" if session.tls else ", at least not before TLS")
        )
    policy = settings.policy
    if settings.security is Security.OPPORTUNISTIC:
        # Who took STARTTLS off the wire must not be paid with a password.
        policy = replace(policy, allow_cleartext=False)
    context = ClientContext(nonce=settings.nonce, hostname=settings.host, port=settings.port)
    choice = choose(policy, offered, credentials, secure=session.tls is not None, context=context)
    mechanism = choice.mechanism
    if mechanism is None:
        reasons = "; ".join(f"{name}: {why}" for name, why in choice.passed_over)
        raise AuthenticationError(
            f"no mechanism for logging in is left: {reasons}",
            offered=offered,
            passed_over=choice.passed_over,
        )

    def failure(why: str, reply: Reply | None) -> AuthenticationError:
        error = AuthenticationError(
            f"logging in with {mechanism.name} failed: {why}",
            offered=offered,
            tried=(mechanism.name,),
            passed_over=choice.passed_over,
            reply=reply,
        )
        error.phase = Phase.AUTH
        return error

    try:
        reply = yield from _exchange(session, mechanism, _secrets(credentials))
        if reply.code == 235:  # RFC 4954 6
            mechanism.finish()
            return
    except SASLError as error:
        raise failure(str(error), None) from error
    except ConnectionLost as error:
        # Some servers hang up on a wrong password.
        raise failure(str(error), error.reply) from error
    raise failure(str(reply), reply)


def _secrets(credentials: AnyCredentials) -> tuple[str, ...]:
    match credentials:
        case Credentials():
            return (credentials.password,)
        case TokenCredentials():
            return (credentials.token,)
        case _:
            return ()


def _exchange(
    session: Session, mechanism: ClientMechanism, secrets: tuple[str, ...]
) -> Steps[Reply]:
    """Challenges and responses, to the reply that ends them. Raises SASLError, after cancelling."""
    held_back: bytes | None = None
    initial_response = mechanism.start()
    command = Auth(mechanism.name, initial_response)
    if len(command.encode()) > _LONGEST_COMMAND_LINE:
        # RFC 4954 4: a line too long goes in two steps.
        command, held_back = Auth(mechanism.name), initial_response
    reply = yield from _say(session, command, secrets)
    if held_back is not None and reply.positive:
        raise SASLError("the server reported success before it had seen any credentials")
    while reply.intermediate:  # the engine counts the rounds
        try:
            response = _response(mechanism, challenge(reply), held_back)
        except (SASLError, WireError) as error:
            yield from session.request(AuthResponse(None), Phase.AUTH)  # RFC 4954 4: "*" cancels
            raise SASLError(f"the server's challenge makes no sense: {error}") from error
        held_back = None
        reply = yield from _say(session, AuthResponse(response), secrets)
    return reply


def _say(session: Session, line: Auth | AuthResponse, secrets: tuple[str, ...]) -> Steps[Reply]:
    """One line of the exchange; returns the reply, without its text if that quotes a secret."""
    try:
        reply = yield from session.request(line, Phase.AUTH)
    except ProtocolViolation:
        reply = None
    if reply is None:
        # Not what it said: that may quote the secret.
        raise ProtocolViolation("the server broke the protocol in phase auth")
    response = line.initial_response if isinstance(line, Auth) else line.data
    if reply.intermediate:
        return reply
    if response:
        secrets = (*secrets, b64encode(response).decode("ascii").rstrip("="))
    text = reply.text.replace("\n", "")
    if not any(secret in text for secret in secrets if secret):
        return reply
    status = reply.enhanced_status
    return Reply.build(reply.code, "***", status=None if status is None else str(status))


def _response(mechanism: ClientMechanism, data: bytes, held_back: bytes | None) -> bytes:
    """The response to a challenge; to the first one an initial response that was held back."""
    if held_back is None:
        return mechanism.respond(data)
    if data:
        # RFC 4954 4: the server asks for the initial response by an empty challenge.
        raise SASLError("it came before the initial response")
    return held_back
