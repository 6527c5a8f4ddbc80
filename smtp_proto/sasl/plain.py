"""PLAIN: identities and password in one message. RFC 4616

Knows that message, both sides. Must not know whether the connection may carry it.
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
    CheckPassword,
    ClientContext,
    Credentials,
    Mechanism,
    Rejected,
    ServerContext,
    Step,
    Strength,
    authorize,
    decode_identity,
    decode_password,
    encode_identity,
    encode_password,
    require,
)

_NUL = b"\0"


# message = [authzid] UTF8NUL authcid UTF8NUL passwd


def _encode_message(credentials: Credentials) -> bytes:
    authzid = credentials.authorization_identity
    return _NUL.join(
        (
            encode_identity(authzid) if authzid else b"",
            encode_identity(credentials.authentication_identity),
            encode_password(credentials.password),
        )
    )


def _decode_message(message: bytes) -> Credentials:
    fields = message.split(_NUL)
    if len(fields) != 3:  # RFC 4616 2
        raise SASLError("the message has not exactly two NUL")
    authzid, authcid, passwd = fields
    return Credentials(
        authentication_identity=decode_identity(authcid),
        password=decode_password(passwd),
        authorization_identity=decode_identity(authzid) if authzid else "",
    )


class PlainClient:
    """Sends the message at once and has nothing more to say."""

    name: ClassVar[str] = "PLAIN"
    reveals_password: ClassVar[bool] = True
    __slots__ = ("_message",)

    def __init__(
        self, credentials: AnyCredentials, _context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        self._message = _encode_message(require(Credentials, credentials))

    def start(self) -> bytes:
        """Return the message."""
        return self._message

    def respond(self, _challenge: bytes) -> bytes:
        """Raise SASLError: the message was all."""
        raise SASLError("the server asks for more than PLAIN has to say")

    def finish(self) -> None:
        """Return: the server proves nothing."""


class PlainServer:
    """Takes the message and has the password checked."""

    name: ClassVar[str] = "PLAIN"
    reveals_password: ClassVar[bool] = True
    __slots__ = ("_accepted", "_context")

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._accepted: Step = OUT_OF_ORDER

    def start(self, initial_response: bytes | None) -> Step:
        """Take the message, or ask for it with an empty challenge."""
        if initial_response is None:
            return Challenge(b"")  # RFC 4422 5
        return self.respond(initial_response)

    def respond(self, response: bytes) -> Step:
        """Take the message."""
        try:
            credentials = _decode_message(response)
        except SASLError as error:
            return Rejected(str(error), malformed=True)
        self._accepted = authorize(
            self._context,
            credentials.authentication_identity,
            credentials.authorization_identity,
        )
        if isinstance(self._accepted, Rejected):
            return self._accepted
        return CheckPassword(credentials)

    def answer(self, value: Answer) -> Step:
        """Take whether the password is right."""
        return self._accepted if value is True else WRONG_CREDENTIALS


PLAIN = Mechanism(PlainClient, PlainServer, Strength.PASSWORD, asks=CheckPassword)
