"""EXTERNAL: the server knows already who the client is. RFC 4422 A

Knows the one message, both sides. Must not know how the server came to know it: by the client's
TLS certificate as a rule.
"""

from typing import ClassVar

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Answer,
    AnyCredentials,
    Challenge,
    ClientContext,
    ExternalCredentials,
    FetchIdentity,
    Mechanism,
    Rejected,
    ServerContext,
    Step,
    Strength,
    authorize,
    decode_identity,
    encode_identity,
    require,
)

# external-initial-resp = authz-id-string, which may be empty


def _encode_message(authorization_identity: str) -> bytes:
    return encode_identity(authorization_identity) if authorization_identity else b""


def _decode_message(message: bytes) -> str:
    return decode_identity(message) if message else ""


class ExternalClient:
    """Says as whom it wants to act, if not as itself."""

    name: ClassVar[str] = "EXTERNAL"
    reveals_password: ClassVar[bool] = False
    __slots__ = ("_message",)

    def __init__(
        self, credentials: AnyCredentials, _context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        own = require(ExternalCredentials, credentials)
        self._message = _encode_message(own.authorization_identity)

    def start(self) -> bytes:
        """Return the message, which may be empty."""
        return self._message

    def respond(self, _challenge: bytes) -> bytes:
        """Raise SASLError: the message was all."""
        raise SASLError("the server asks for more than EXTERNAL has to say")

    def finish(self) -> None:
        """Return: the server proves nothing."""


class ExternalServer:
    """Has the application say who the client is."""

    name: ClassVar[str] = "EXTERNAL"
    reveals_password: ClassVar[bool] = False
    __slots__ = ("_asked", "_authorization_identity", "_context")

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._authorization_identity = ""
        self._asked = False

    def start(self, initial_response: bytes | None) -> Step:
        """Take the message, or ask for it with an empty challenge."""
        if initial_response is None:
            return Challenge(b"")  # RFC 4422 5
        return self.respond(initial_response)

    def respond(self, response: bytes) -> Step:
        """Take the message."""
        try:
            self._authorization_identity = _decode_message(response)
        except SASLError as error:
            return Rejected(str(error), malformed=True)
        self._asked = True
        return FetchIdentity(self._authorization_identity)

    def answer(self, value: Answer) -> Step:
        """Take who the client is."""
        if not self._asked:
            return OUT_OF_ORDER
        if isinstance(value, str) and value:
            return authorize(self._context, value, self._authorization_identity)
        return WRONG_CREDENTIALS


EXTERNAL = Mechanism(
    ExternalClient, ExternalServer, Strength.PROOF, by_name_only=True, asks=FetchIdentity
)
