"""CRAM-MD5: the keyed digest of a challenge proves that the password is known. RFC 2195

Knows the challenge, the digest and the response, both sides. Must not know who may use it where:
the server proves nothing, and whoever sees an exchange, or poses as the server, can try any
number of passwords on it.
"""

import hmac
import re
from typing import ClassVar

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.hashes import hmac_md5, is_available, require_hash
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    AnyCredentials,
    Challenge,
    ClientContext,
    Credentials,
    FetchPassword,
    Mechanism,
    Rejected,
    ServerContext,
    Step,
    Strength,
    decode_identity,
    encode_identity,
    encode_password,
    require,
    require_own_identity,
)


def _digest(password: bytes, challenge: bytes) -> bytes:
    return hmac_md5(password, challenge).hex().encode()


# Response: the user name, a space, and a digest of 16 octets in lower-case hexadecimal.
# A user name with spaces can be told from the digest, which has none.

_RESPONSE = re.compile(rb"(.*) ([0-9a-f]{32})")  # RFC 2195 2


def _encode_response(identity: bytes, digest: bytes) -> bytes:
    return identity + b" " + digest


def _decode_response(response: bytes) -> tuple[str, bytes]:
    match = _RESPONSE.fullmatch(response)
    if match is None:
        raise SASLError("the response is not a user name, a space and a digest")
    return decode_identity(match[1]), match[2]


class CramMD5Client:
    """Answers one challenge."""

    name: ClassVar[str] = "CRAM-MD5"
    reveals_password: ClassVar[bool] = False
    __slots__ = ("_identity", "_password")

    def __init__(
        self, credentials: AnyCredentials, _context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        own = require(Credentials, credentials)
        require_hash("md5")
        require_own_identity(own)
        self._identity = encode_identity(own.authentication_identity)
        self._password = encode_password(own.password)  # empty once it was used

    def start(self) -> None:
        """Return None: the server begins."""

    def respond(self, challenge: bytes) -> bytes:
        """Return the response. Raises SASLError for a second challenge, or an empty one."""
        if not self._password:
            raise SASLError("the server sends a second challenge")
        if not challenge:
            raise SASLError("the server sends an empty challenge")
        digest = _digest(self._password, challenge)
        self._password = b""
        return _encode_response(self._identity, digest)

    def finish(self) -> None:
        """Raise SASLError if there was no challenge: the server cannot have checked anything."""
        if self._password:
            raise SASLError("the server reports success before it sent a challenge")


class CramMD5Server:
    """Sends a challenge that is never sent again, and compares the digests."""

    name: ClassVar[str] = "CRAM-MD5"
    reveals_password: ClassVar[bool] = False
    __slots__ = ("_challenge", "_identity", "_received")

    def __init__(self, context: ServerContext) -> None:
        # A msg-id. Fresh random octets make it unlike any other, without a clock.
        # RFC 2195 2
        self._challenge = f"<{context.nonce().hex()}@{context.hostname}>".encode()
        self._identity = ""
        self._received = b""

    def start(self, initial_response: bytes | None) -> Step:
        """Send the challenge; the client must not begin."""
        if initial_response is not None:
            # RFC 4954 4
            return Rejected("an initial response, where the server begins", malformed=True)
        return Challenge(self._challenge)

    def respond(self, response: bytes) -> Step:
        """Take user name and digest."""
        try:
            self._identity, self._received = _decode_response(response)
        except SASLError as error:
            return Rejected(str(error), malformed=True)
        return FetchPassword(self._identity)

    def answer(self, value: Answer) -> Step:
        """Take the password, and compare the digests."""
        password = value if isinstance(value, str) else ""
        # Computed for an unknown identity too: how long it takes must not tell.
        # RFC 4422 3.6
        expected = _digest(password.encode(errors="surrogatepass"), self._challenge)
        right = hmac.compare_digest(expected, self._received)
        return Accepted(self._identity, self._identity) if right and password else WRONG_CREDENTIALS


CRAM_MD5 = Mechanism(
    CramMD5Client, CramMD5Server if is_available("md5") else None, Strength.WEAK, asks=FetchPassword
)
