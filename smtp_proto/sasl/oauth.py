"""What XOAUTH2 and OAUTHBEARER have in common: a token in one message, and the way to refuse it.

Knows that exchange, both sides. Must not know what the message looks like, nor where a token comes
from, nor what the server's explanation means.

    client    the message with the token
    server    success; or else an explanation, in JSON
    client    a dummy, so that the server can refuse
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, cast

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
    TokenSource,
    require,
)
from smtp_proto.wire.errors import escaped

_LONGEST_EXPLANATION = 1000  # characters; what is known of are some 200
_UNREADABLE = "not shown: the token may be hidden in it"
_FIELDS = ("status", "scope", "openid-configuration")  # RFC 7628 3.2.2
_NO_FIELDS: Mapping[str, str] = MappingProxyType({})

# The message separates its fields with %x01: a token with control characters could add some.

_TOKEN = re.compile(r"[!-~]+")


def _checked_token(token: str) -> str:
    """Return `token`. Raises SASLError, which does not quote it, if it cannot be one."""
    if _TOKEN.fullmatch(token):
        return token
    raise SASLError("the token is empty, or has blanks or something else than ASCII")


class TokenClient(ABC):
    """Sends the token at once. If the server explains itself, `refusal` has what it says.

    Made of a `TokenSource` it only tells that it could be used, and cannot be started.
    """

    name: ClassVar[str]
    reveals_password: ClassVar[bool] = True
    dummy: ClassVar[bytes]
    """What answers the server's explanation."""
    __slots__ = ("_message", "_token", "refusal", "refusal_fields")

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        if isinstance(credentials, TokenSource):
            identity, self._token = credentials.authentication_identity, ""
        else:
            own = require(TokenCredentials, credentials)
            identity, self._token = own.authentication_identity, _checked_token(own.token)
        self._message = self._encode(identity, self._token, context)
        self.refusal = ""
        self.refusal_fields: Mapping[str, str] = _NO_FIELDS

    @abstractmethod
    def _encode(self, identity: str, token: str, context: ClientContext, /) -> bytes:
        """Return the message."""

    def start(self) -> bytes:
        """Return the message. Raises SASLError if there is no token yet."""
        if not self._token:
            raise SASLError("the token has to be fetched first")
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """Take the explanation, and return the dummy. Raises SASLError for a second one."""
        if self.refusal or not self._token:
            raise SASLError(f"the server asks for more than {self.name} has to say")
        self._take_explanation(challenge)
        return self.dummy

    def finish(self) -> None:
        """Raise SASLError if the server has explained why it refuses."""
        if self.refusal:
            raise SASLError(f"the server reports success after it refused: {self.refusal}")

    def _take_explanation(self, explanation: bytes) -> None:
        # No other way to write its letters may hide the token. So JSON is written anew, and what
        # is none, or of no use, is shown only if all its letters stand for themselves.
        try:
            parsed: object = json.loads(explanation)
            text, escape = json.dumps(parsed, ensure_ascii=False, separators=(",", ":")), r"\\"
        except (ValueError, RecursionError):
            parsed, text, escape = None, explanation.decode(errors="replace").strip(), "\\"
            if not text.isprintable():
                text = _UNREADABLE
        self.refusal = self._readable(text, escape) or "no reason given"
        if isinstance(parsed, dict):
            values = cast("dict[str, object]", parsed)
            self.refusal_fields = {
                name: self._readable(value)
                for name in _FIELDS
                if isinstance(value := values.get(name), str)
            }

    def _readable(self, text: str, escape: str = "\\") -> str:
        """The text without the token; nothing of it if a backslash in it, `escape`, may hide it."""
        for form in (self._token, json.dumps(self._token)[1:-1]):
            text = text.replace(form, "(the token)")
        return escaped(_UNREADABLE if escape in text else text)[:_LONGEST_EXPLANATION]


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
