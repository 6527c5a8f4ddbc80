"""LOGIN: the user name, then the password, as they are asked for. draft-murchison-sasl-login

Knows the order of the two prompts, both sides. Must not know whether the connection may carry
the answers.

What the prompts say is not looked at: servers differ in their words, and some end them in NUL.
The first is for the user name, the second for the password, and there is no third.
"""

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
    CheckPassword,
    ClientContext,
    Credentials,
    Mechanism,
    Rejected,
    ServerContext,
    Step,
    Strength,
    decode_identity,
    decode_password,
    encode_identity,
    encode_password,
    require,
    require_own_identity,
)

# Some clients wait for these very words.
_USER_NAME_PROMPT = Challenge(b"Username:")
_PASSWORD_PROMPT = Challenge(b"Password:")


class LoginClient:
    """Answers two prompts, whatever they say."""

    name: ClassVar[str] = "LOGIN"
    reveals_password: ClassVar[bool] = True
    __slots__ = ("_answers",)

    def __init__(
        self, credentials: AnyCredentials, _context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        own = require(Credentials, credentials)
        require_own_identity(own)
        self._answers = [
            encode_identity(own.authentication_identity),
            encode_password(own.password),
        ]

    def start(self) -> None:
        """Return None: not all servers take the user name before they have asked for it."""

    def respond(self, _challenge: bytes) -> bytes:
        """Return the user name, then the password. Raises SASLError at a third prompt."""
        if not self._answers:
            raise SASLError("the server asks for more than LOGIN has to say")
        return self._answers.pop(0)

    def finish(self) -> None:
        """Raise SASLError if the server has not asked for both: it cannot have checked them."""
        if self._answers:
            raise SASLError("the server reports success before it asked for the password")


class LoginServer:
    """Asks for the user name and for the password, and has the password checked.

    The user name may come with AUTH, as some clients send it.
    """

    name: ClassVar[str] = "LOGIN"
    reveals_password: ClassVar[bool] = True
    __slots__ = ("_accepted", "_identity")

    def __init__(self, _context: ServerContext) -> None:
        self._identity = ""
        self._accepted: Step = OUT_OF_ORDER

    def start(self, initial_response: bytes | None) -> Step:
        """Ask for what is missing."""
        return _USER_NAME_PROMPT if initial_response is None else self.respond(initial_response)

    def respond(self, response: bytes) -> Step:
        """Take the user name, then the password."""
        try:
            if not self._identity:
                self._identity = decode_identity(response)
                return _PASSWORD_PROMPT
            credentials = Credentials(self._identity, decode_password(response))
        except SASLError as error:
            return Rejected(str(error), malformed=True)
        self._accepted = Accepted(self._identity, self._identity)
        return CheckPassword(credentials)

    def answer(self, value: Answer) -> Step:
        """Take whether the password is right."""
        return self._accepted if value is True else WRONG_CREDENTIALS


LOGIN = Mechanism(LoginClient, LoginServer, Strength.PASSWORD, asks=CheckPassword)
