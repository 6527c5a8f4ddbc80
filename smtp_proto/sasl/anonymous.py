"""ANONYMOUS: the client comes in without a name. RFC 4505

Knows the one message, which is for the server's log, both sides. Must not know who is let in so.
"""

from typing import ClassVar

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Accepted,
    AnonymousCredentials,
    Answer,
    AnyCredentials,
    Challenge,
    CheckAnonymous,
    ClientContext,
    Mechanism,
    Rejected,
    ServerContext,
    Step,
    Strength,
    require,
)
from smtp_proto.sasl.saslprep import prepare_trace

_ACCEPTED = Accepted("anonymous", "anonymous")


# RFC 4505 2: message = [ email / token ], where a token has no "@", lest it looks like an email

_LONGEST_MESSAGE = 255  # characters; RFC 4505 2 sets no limit to an email, this one is enough


def _encode_message(trace: str) -> bytes:
    return _checked_trace(trace).encode()


def _decode_message(message: bytes) -> str:
    return _checked_trace(message.decode(errors="surrogateescape"))


def _checked_trace(trace: str) -> str:
    if len(trace) > _LONGEST_MESSAGE:
        raise SASLError(f"the trace has more than {_LONGEST_MESSAGE} characters")
    return prepare_trace(trace)


class AnonymousClient:
    """Says what the server may keep in its log, and nothing more."""

    name: ClassVar[str] = "ANONYMOUS"
    reveals_password: ClassVar[bool] = False
    __slots__ = ("_message",)

    def __init__(
        self, credentials: AnyCredentials, _context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        self._message = _encode_message(require(AnonymousCredentials, credentials).trace)

    def start(self) -> bytes:
        """Return the message, which may be empty."""
        return self._message

    def respond(self, _challenge: bytes) -> bytes:
        """Raise SASLError: the message was all."""
        raise SASLError("the server asks for more than ANONYMOUS has to say")

    def finish(self) -> None:
        """Return: the server proves nothing."""


class AnonymousServer:
    """Asks the application whether anybody may come in. Who does is called "anonymous"."""

    name: ClassVar[str] = "ANONYMOUS"
    reveals_password: ClassVar[bool] = False
    __slots__ = ("_asked",)

    def __init__(self, _context: ServerContext) -> None:
        self._asked = False

    def start(self, initial_response: bytes | None) -> Step:
        """Take the message, or ask for it with an empty challenge."""
        if initial_response is None:
            return Challenge(b"")  # RFC 4422 5
        return self.respond(initial_response)

    def respond(self, response: bytes) -> Step:
        """Take the message."""
        try:
            trace = _decode_message(response)
        except SASLError as error:
            return Rejected(str(error), malformed=True)
        self._asked = True
        return CheckAnonymous(trace)

    def answer(self, value: Answer) -> Step:
        """Take whether anybody may come in."""
        if not self._asked:
            return OUT_OF_ORDER
        return _ACCEPTED if value is True else WRONG_CREDENTIALS


ANONYMOUS = Mechanism(AnonymousClient, AnonymousServer, Strength.NONE, asks=CheckAnonymous)
