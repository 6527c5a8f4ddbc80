"""What XOAUTH2 and OAUTHBEARER have in common: a token in one message, and the way to refuse it.

Knows that exchange, both sides. Must not know what the message looks like, nor where a token comes
from, nor what the server's explanation means.

    client    the message with the token
    server    success; or else an explanation, in JSON
    client    a dummy, so that the server can refuse
"""

import re
from abc import ABC, abstractmethod
from typing import ClassVar

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    AnyCredentials,
    Challenge,
    CheckToken,
    ClientContext,
    Rejected,
    ServerContext,
    Step,
    TokenCredentials,
    require,
)
from smtp_proto.wire.errors import escaped

_LONGEST_EXPLANATION = 1000  # characters; what is known of are some 200

# The message separates its fields with %x01: a token with control characters could add some.

_TOKEN = re.compile(r"[!-~]+")


def _checked_token(token: str) -> str:
    """Return `token`. Raises SASLError, which does not quote it, if it cannot be one."""
    if _TOKEN.fullmatch(token):
        return token
    raise SASLError("the token is empty, or has blanks or something else than ASCII")


class TokenClient(ABC):
    """Sends the token at once. If the server explains itself, `refusal` has what it says."""

    name: ClassVar[str]
    reveals_password: ClassVar[bool] = True
    dummy: ClassVar[bytes]
    """What answers the server's explanation."""
    __slots__ = ("_message", "_token", "refusal")

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        own = require(TokenCredentials, credentials)
        self._token = _checked_token(own.token)
        self._message = self._encode(own.authentication_identity, self._token, context)
        self.refusal = ""

    @abstractmethod
    def _encode(self, identity: str, token: str, context: ClientContext, /) -> bytes:
        """Return the message."""

    def start(self) -> bytes:
        """Return the message."""
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """Take the explanation, and return the dummy. Raises SASLError for a second one."""
        if self.refusal:
            raise SASLError(f"the server asks for more than {self.name} has to say")
        self.refusal = self._readable(challenge) or "no reason given"
        return self.dummy

    def finish(self) -> None:
        """Raise SASLError if the server has explained why it refuses."""
        if self.refusal:
            raise SASLError(f"the server reports success after it refused: {self.refusal}")

    def _readable(self, explanation: bytes) -> str:
        text = explanation.decode(errors="backslashreplace").replace(self._token, "(the token)")
        return escaped(text)[:_LONGEST_EXPLANATION]


class TokenServer(ABC):
    """Takes the message and has the token checked."""

    name: ClassVar[str]
    reveals_password: ClassVar[bool] = True
    explanation: ClassVar[bytes]
    """What a client is told whose token is refused, in JSON."""
    __slots__ = ("_context", "_identity", "_refused")

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._identity = ""
        self._refused = False

    @abstractmethod
    def _decode(self, message: bytes) -> TokenCredentials | None:
        """Return what the message has; None if it asks what a token should be like."""

    def start(self, initial_response: bytes | None) -> Step:
        """Take the message, or ask for it with an empty challenge."""
        if initial_response is None:
            return Challenge(b"")  # RFC 4422 5
        return self.respond(initial_response)

    def respond(self, response: bytes) -> Step:
        """Take the message, or the dummy, whatever it is."""
        if self._refused:
            return WRONG_CREDENTIALS
        try:
            credentials = self._decode(response)
        except SASLError as error:
            return Rejected(str(error), malformed=True)
        if credentials is None:
            return self._refuse()
        self._identity = credentials.authentication_identity
        return CheckToken(credentials)

    def answer(self, value: Answer) -> Step:
        """Take whether the token is right."""
        if not self._identity:
            return OUT_OF_ORDER
        return Accepted(self._identity, self._identity) if value is True else self._refuse()

    def _refuse(self) -> Step:
        self._refused = True
        return Challenge(self.explanation)
