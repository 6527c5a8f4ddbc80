"""The client's side of AUTH. RFC 4954

Knows how an exchange goes, and what follows from a refusal: another mechanism, another token, or
the end. Must not know any one mechanism, nor which of them are good: that is the policy's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from smtp_proto.engine import challenge
from smtp_proto.flow.actions import Ask
from smtp_proto.flow.errors import (
    AuthenticationError,
    ConnectionLost,
    ProtocolViolation,
)
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.secrets import LoginSecrets
from smtp_proto.flow.security import Security
from smtp_proto.flow.session import Login, Session
from smtp_proto.flow.timeouts import Expired, Phase
from smtp_proto.sasl import (
    AnonymousCredentials,
    AnyCredentials,
    ClientContext,
    ClientMechanism,
    Credentials,
    ExplainsRefusal,
    ExternalCredentials,
    KerberosCredentials,
    SASLError,
    TokenCredentials,
    TokenSource,
    choose,
    may_try_another,
)
from smtp_proto.wire import Auth, AuthResponse, Reply, WireError, shown
from smtp_proto.wire.errors import kind_of

_LONGEST_COMMAND_LINE = 512  # RFC 5321 4.5.3.1.4, in octets with CRLF


def log_in(session: Session, credentials: AnyCredentials) -> Steps[None]:
    """AUTH with the mechanism that the policy chooses. Raises AuthenticationError.

    A mechanism that the server offers and then cannot do is passed over for the next one; after a
    word against the credentials themselves no other is tried. A token that was refused is fetched
    anew once, where there is a source of them.
    """
    settings = session.settings
    if not session.capabilities.auth:
        raise AuthenticationError(
            f"{settings.host} port {settings.port} offers no AUTH"
            + ("" if session.tls else ", at least not before TLS")
        )
    if settings.security is Security.OPPORTUNISTIC and session.tls is None:
        # Who took STARTTLS off the wire must not be paid with a login, not even with one that hides
        # the password: it can be relayed, and guessed at.
        raise AuthenticationError(
            "security 'opportunistic' never logs in over clear text, and the server offers no "
            "STARTTLS: choose 'starttls', or give no credentials",
            offered=session.capabilities.auth,
        )
    login = _Login(session)
    source = credentials if isinstance(credentials, TokenSource) else None
    tokens: list[TokenCredentials] = []
    while True:
        login.choose(credentials)
        if isinstance(credentials, TokenSource):
            credentials = yield from _fetch(session, credentials)
            if credentials in tokens:
                raise login.failure("the token was refused, and its source gives no other")
            tokens.append(credentials)
            continue
        reply = yield from login.attempt(credentials)
        if reply.code == 235:  # RFC 4954 6
            session.login = login.succeeded(reply)
            session.settings = replace(settings, credentials=None)  # not needed any more
            session.journal.happened(
                f"logged in as {shown(identity_of(credentials))} with {session.login.mechanism}"
            )
            return
        error = login.refused(reply, credentials)
        if may_try_another(reply.code, responded=login.responded):
            login.excluded[login.mechanism.name] = f"the server answered {reply}"
        elif source is not None and reply.permanent and len(tokens) == 1:
            credentials = source
        else:
            raise error


class _Login:
    """What has been tried so far."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._offered = session.capabilities.auth
        self._tried: list[str] = []
        self._passed_over: tuple[tuple[str, str], ...] = ()
        self._reply: Reply | None = None
        self._secrets = LoginSecrets(None)
        self.excluded: dict[str, str] = {}
        """The mechanisms that the server did not keep to, and what it said."""
        self.responded = False
        """Whether a challenge was answered in the last exchange."""
        self.mechanism: ClientMechanism
        """The one that was chosen."""

    def choose(self, credentials: AnyCredentials) -> None:
        """Choose a mechanism, ready to start. Raises AuthenticationError if there is none left."""
        session, settings = self._session, self._session.settings
        tls = session.tls
        context = ClientContext(
            nonce=settings.nonce,
            channel_bindings={} if tls is None else tls.channel_bindings,
            hostname=settings.host,
            port=settings.port,
        )
        choice = choose(
            settings.policy,
            self._offered,
            credentials,
            secure=tls is not None,
            context=context,
            mechanisms=settings.mechanisms,
            excluded=self.excluded,
        )
        self._passed_over = choice.passed_over
        if choice.mechanism is None:
            reasons = "; ".join(f"{name}: {why}" for name, why in choice.passed_over)
            raise self.failure(f"no mechanism for logging in is left: {reasons}", self._reply)
        self.mechanism = choice.mechanism

    def attempt(self, credentials: AnyCredentials) -> Steps[Reply]:
        """One exchange; returns the reply that ended it. Raises AuthenticationError."""
        mechanism = self.mechanism
        self._tried.append(mechanism.name)
        self._secrets = self._session.secrets = secrets = LoginSecrets(credentials)
        try:
            reply, self.responded = yield from _exchange(self._session, mechanism, secrets)
            if reply.code == 235:
                mechanism.finish()
        except SASLError as error:
            why, answer, cause = secrets.hidden_in(str(error)), None, None
        except ConnectionLost as error:
            # Some servers hang up on a wrong password.
            why, answer = str(error), error.reply
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else None
        else:
            return reply
        # What the server said is not to be found in the cause, either; what the system said is.
        raise self._failed(why, answer, credentials) from cause

    def succeeded(self, reply: Reply) -> Login:
        """What there is to say of a login that succeeded."""
        return Login(self.mechanism.name, tuple(self._tried), self._passed_over, reply)

    def refused(self, reply: Reply, credentials: AnyCredentials) -> AuthenticationError:
        """The error for a negative reply, with what the mechanism has heard of the reasons."""
        self._reply = reply
        mechanism = self.mechanism
        explanation = ""
        fields: dict[str, str] = {}
        if isinstance(mechanism, ExplainsRefusal):
            explanation = self._secrets.hidden_in(mechanism.refusal)
            fields = {
                name: self._secrets.hidden_in(value)
                for name, value in mechanism.refusal_fields.items()
            }
        why = f"{reply} ({explanation})" if explanation else str(reply)
        error = self._failed(why, reply, credentials)
        error.explanation = explanation
        error.explanation_fields = fields
        return error

    def failure(self, why: str, reply: Reply | None = None) -> AuthenticationError:
        """The error for a login that is over."""
        error = AuthenticationError(
            why,
            offered=self._offered,
            allowed=self._session.settings.policy.allowed,
            tried=tuple(self._tried),
            passed_over=self._passed_over,
            reply=reply,
        )
        error.phase = Phase.AUTH
        return error

    def _failed(
        self, why: str, reply: Reply | None, credentials: AnyCredentials
    ) -> AuthenticationError:
        name = self.mechanism.name
        self._session.journal.login_failed(name, identity_of(credentials), why)
        return self.failure(f"logging in with {name} failed: {why}", reply)


def _fetch(session: Session, source: TokenSource) -> Steps[TokenCredentials]:
    """Ask for a token. Raises AuthenticationError where there is none to be had."""
    timer = session.timer(Phase.AUTH)
    try:
        token: object = yield Ask("token", source.fetch, (), timer)
    except Expired as error:
        raise session.timed_out(timer, error) from error
    except Exception as error:
        raise AuthenticationError(
            f"there is no token to log in with: its source raised {_without_words(error)}"
        ) from error
    if not isinstance(token, str):
        raise AuthenticationError(f"the source of tokens gave {kind_of(token)}: a token is a str")
    return TokenCredentials(source.authentication_identity, token)


_FACTS = {"errno": "errno", "returncode": "exit code", "code": "code"}


def _without_words(error: Exception) -> str:
    """What can be told of an error of the caller's: not its words, which may have the token."""
    numbers: dict[str, object] = {name: getattr(error, fact, None) for fact, name in _FACTS.items()}
    facts = [f"{name} {number}" for name, number in numbers.items() if isinstance(number, int)]
    # What is no error of the system's may have a URL there, with a key in it.
    if isinstance(error, OSError) and error.errno is not None and isinstance(error.filename, str):
        facts.append(f"file {shown(error.filename)}")
    return type(error).__name__ + (f" ({', '.join(facts)})" if facts else "")


def identity_of(credentials: AnyCredentials) -> str:
    """As whom somebody logs in; "" where that is not said."""
    match credentials:
        case Credentials() | TokenCredentials() | TokenSource():
            return credentials.authentication_identity
        case AnonymousCredentials():
            return "anonymous"
        case ExternalCredentials() | KerberosCredentials():
            return credentials.authorization_identity
        case _:
            assert_never(credentials)


def _exchange(
    session: Session, mechanism: ClientMechanism, secrets: LoginSecrets
) -> Steps[tuple[Reply, bool]]:
    """Challenges and responses, to the reply that ends them; and whether there were any.

    Raises SASLError, after cancelling.
    """
    responded = False
    held_back: bytes | None = None
    initial_response = mechanism.start()
    secrets.add_octets(initial_response or b"")
    command = Auth(mechanism.name, initial_response)
    if len(command.encode()) > _LONGEST_COMMAND_LINE:
        # RFC 4954 4: a line too long goes in two steps.
        command, held_back = Auth(mechanism.name), initial_response
    reply = yield from _say(session, command)
    if held_back is not None and reply.positive:
        raise SASLError("the server reported success before it had seen any credentials")
    while reply.intermediate:  # the engine counts the rounds
        try:
            response = _response(mechanism, challenge(reply), held_back)
        except (SASLError, WireError) as error:
            why = f"the server's challenge makes no sense: {error}"
            yield from _say(session, AuthResponse(None))  # RFC 4954 4: "*" cancels
            raise SASLError(why) from None
        secrets.add_octets(response)
        responded = held_back is None
        held_back = None
        reply = yield from _say(session, AuthResponse(response))
    return reply, responded


def _say(session: Session, line: Auth | AuthResponse) -> Steps[Reply]:
    """One line of the exchange; returns the reply."""
    try:
        reply = yield from session.request(line, Phase.AUTH)
    except ProtocolViolation:
        reply = None
    if reply is None:
        # Not what it said: that may quote the secret.
        raise ProtocolViolation("the server broke the protocol in phase auth")
    return reply


def _response(mechanism: ClientMechanism, data: bytes, held_back: bytes | None) -> bytes:
    """The response to a challenge; to the first one an initial response that was held back."""
    if held_back is None:
        return mechanism.respond(data)
    if data:
        # RFC 4954 4: the server asks for the initial response by an empty challenge.
        raise SASLError("it came before the initial response")
    return held_back
