"""The server's side of AUTH. RFC 4954

Knows which mechanism may be used when, and which reply a step of an exchange wants.
Must not know any one mechanism, nor who may log in.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never, cast

from smtp_proto.flow.flow import Steps
from smtp_proto.flow.handler import ServerSession
from smtp_proto.flow.journal import Journal
from smtp_proto.flow.serve_questions import Questions
from smtp_proto.sasl.mechanism import (
    WRONG_CREDENTIALS,
    Accepted,
    Challenge,
    CheckAnonymous,
    CheckPassword,
    CheckToken,
    FetchIdentity,
    FetchPassword,
    FetchSecret,
    Question,
    Rejected,
    ServerContext,
    ServerFactory,
    ServerMechanism,
    Step,
)
from smtp_proto.wire.command import Auth
from smtp_proto.wire.errors import shown
from smtp_proto.wire.reply import Reply

# The codes are those of RFC 4954 6.
_SUCCEEDED = Reply.build(235, "Authentication succeeded", status="2.7.0")
_INVALID = Reply.build(535, "Authentication credentials invalid", status="5.7.8")
_MALFORMED = Reply.build(501, "That is no response of this mechanism", status="5.7.0")
_CANCELLED = Reply.build(501, "Authentication cancelled", status="5.7.0")
_UNKNOWN = Reply.build(504, "Authentication mechanism not supported", status="5.5.4")
_NEEDS_TLS = Reply.build(538, "Encryption required for this mechanism", status="5.7.11")
_TOO_MANY = Reply.build(421, "Too many failed logins", status="4.7.0")

_PLUS = "-PLUS"  # the end of the names of mechanisms with channel binding.  RFC 5802 4

_MOST_FAILURES = 3  # after that guessing goes on over new connections, which can be counted


class Login:
    """The AUTH exchanges of one client, one after the other."""

    __slots__ = (
        "_allow_cleartext",
        "_context",
        "_failures",
        "_has_failed",
        "_identity",
        "_journal",
        "_mechanism",
        "_mechanisms",
        "_questions",
        "_session",
    )

    def __init__(
        self,
        mechanisms: Mapping[str, ServerFactory],
        context: ServerContext,
        session: ServerSession,
        questions: Questions,
        journal: Journal,
        *,
        allow_cleartext: bool,
    ) -> None:
        self._mechanisms = mechanisms
        self._context = context
        self._session = session
        self._questions = questions
        self._journal = journal
        self._allow_cleartext = allow_cleartext
        self._failures = 0
        self._has_failed = False  # this exchange, though it may go on
        self._mechanism: ServerMechanism | None = None
        self._identity = ""  # as whom the client wants to log in, as far as it is known

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of the mechanisms that may be used now."""
        return tuple(name for name, factory in self._mechanisms.items() if self._allows(factory))

    def begin(self, command: Auth) -> Steps[Reply]:
        """Return the reply to AUTH; after 334 the client's response is due."""
        if self._failures == _MOST_FAILURES:
            return _TOO_MANY
        factory = self._mechanisms.get(command.mechanism)
        if factory is None:
            return _UNKNOWN
        if not self._allows(factory):
            # Without having asked for the secret.  RFC 4954 4
            return _NEEDS_TLS
        self._identity = ""
        self._has_failed = False
        self._mechanism = factory(self._context_now())
        step = self._mechanism.start(command.initial_response)
        return (yield from self._follow(self._mechanism, step))

    def respond(self, response: bytes | None) -> Steps[Reply]:
        """Return the reply to the client's response; None is its wish to cancel."""
        # There is a response only behind a challenge.
        mechanism = cast("ServerMechanism", self._mechanism)
        if response is None:
            if not self._has_failed:
                # Who only wants to see a challenge does so, too.
                self._tell(mechanism, "the client has cancelled it")
            return _CANCELLED
        return (yield from self._follow(mechanism, mechanism.respond(response)))

    def _allows(self, factory: ServerFactory) -> bool:
        if factory.name.endswith(_PLUS):
            return bool(self._channel_bindings)
        return (
            not factory.reveals_password or self._allow_cleartext or self._session.tls is not None
        )

    @property
    def _channel_bindings(self) -> Mapping[str, bytes]:
        return {} if self._session.tls is None else self._session.tls.channel_bindings

    def _context_now(self) -> ServerContext:
        return replace(
            self._context,
            channel_bindings=self._channel_bindings,
            offered=frozenset(self.offered),
        )

    def _follow(self, mechanism: ServerMechanism, step: Step) -> Steps[Reply]:
        """Take steps until one of them wants a reply."""
        while True:
            match step:
                case Challenge(data):
                    return Reply(334, (b64encode(data).decode("ascii"),))
                case Accepted():
                    self._session.authenticated_as = step.authorization_identity
                    self._journal.happened(
                        f"logged in as {shown(step.authorization_identity)} with {mechanism.name}"
                    )
                    return _SUCCEEDED
                case Rejected():
                    reply = _MALFORMED if step.malformed else _INVALID
                    return self._failed(mechanism, reply, step.why)
                case _:
                    self._identity = _identity_in(step)
                    answer = yield from self._questions.about_login(step)
                    if isinstance(answer, Reply):
                        # Not its text, which the application may have made of the password.
                        return self._failed(mechanism, answer, f"the answer was {answer.code}")
                    step = mechanism.answer(answer)
                    if answer is False and isinstance(step, Challenge):
                        # An explanation: whatever the client says to it, that was a guess.
                        self._failed(mechanism, _INVALID, WRONG_CREDENTIALS.why)

    def _failed(self, mechanism: ServerMechanism, reply: Reply, why: str) -> Reply:
        """Count and tell it, once for each exchange; return the reply."""
        if not self._has_failed:
            self._has_failed = True
            self._failures += reply.permanent
            self._tell(mechanism, why)
        return reply

    def _tell(self, mechanism: ServerMechanism, why: str) -> None:
        self._journal.login_failed(mechanism.name, self._identity, why)


def _identity_in(question: Question) -> str:
    match question:
        case CheckPassword(credentials) | CheckToken(credentials):
            return credentials.authentication_identity
        case FetchPassword(identity) | FetchSecret(identity) | FetchIdentity(identity):
            return identity
        case CheckAnonymous(trace):
            return trace
        case _:
            assert_never(question)
