"""The client's side of AUTH. RFC 4954

Knows how an exchange goes, and when another mechanism may be tried. Must not know any one
mechanism, nor which of them are good: that is the policy's.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

from smtp_proto.engine import challenge
from smtp_proto.flow.errors import AuthenticationError, ConnectionLost, ProtocolViolation
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.security import Security
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase
from smtp_proto.sasl import (
    AnyCredentials,
    ClientContext,
    ClientMechanism,
    Credentials,
    SASLError,
    TokenCredentials,
    choose,
)
from smtp_proto.wire import Auth, AuthResponse, Reply, WireError

_LONGEST_COMMAND_LINE = 512  # RFC 5321 4.5.3.1.4, in octets with CRLF


def log_in(session: Session, credentials: AnyCredentials) -> Steps[None]:
    """AUTH (RFC 4954 4) with the mechanism that the policy chooses. Raises AuthenticationError."""
    settings = session.settings
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
    tls = session.tls
    context = ClientContext(
        nonce=settings.nonce,
        channel_bindings={} if tls is None else tls.channel_bindings,
        hostname=settings.host,
        port=settings.port,
    )
    choice = choose(
        policy,
        offered,
        credentials,
        secure=tls is not None,
        context=context,
        mechanisms=settings.mechanisms,
    )
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
