"""What a server keeps of a password for SCRAM, so that it need not keep the password. RFC 5802 3

Knows how the keys are made from a password, and how they are kept in a file. Must not know the
exchange in which they prove something.

Who steals such a secret cannot log in with it, and has to guess the password, at the price of the
iterations for each guess. Who steals it and listens to one login can pose as either side.
"""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.saslprep import prepare_password

HASHES: Mapping[str, str] = MappingProxyType(
    {"SCRAM-SHA-512": "sha512", "SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}
)
"""The hash of each mechanism by its name in `hashlib`; the strongest first."""

_MECHANISM_OF_SIZE = {64: "SCRAM-SHA-512", 32: "SCRAM-SHA-256", 20: "SCRAM-SHA-1"}

MINIMUM_ITERATIONS = 4096  # RFC 5802 5.1, 7677 4
ITERATIONS = 100_000  # up to a tenth of a second. RFC 7677 4


def derive_keys(mechanism: str, password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """Return ClientKey and ServerKey.

    Raises SASLError for a password that SASLprep refuses, and where this Python does not hash:
    some builds have rules of their own for the hash or the salt.
    """
    hash_ = HASHES[mechanism]
    prepared = prepare_password(password)
    try:
        salted = hashlib.pbkdf2_hmac(hash_, prepared, salt, iterations)
    except ValueError:
        raise SASLError(f"this Python refuses to hash a password for {mechanism}") from None
    # RFC 5802 3
    return hmac.digest(salted, b"Client Key", hash_), hmac.digest(salted, b"Server Key", hash_)


# authInfo "$" authValue of RFC 5803, behind the mechanism's name:
# mechanism "$" iterations ":" salt "$" stored-key ":" server-key

_TEXT = re.compile(
    r"(?P<mechanism>[A-Z0-9-]+)\$(?P<iterations>[1-9][0-9]{0,9}):(?P<salt>[A-Za-z0-9+/=]+)"
    r"\$(?P<stored_key>[A-Za-z0-9+/=]+):(?P<server_key>[A-Za-z0-9+/=]+)"
)


@dataclass(frozen=True, slots=True)
class ScramSecret:
    """What a server keeps of one password, for one hash. Raises ValueError for what is none.

    Which hash it is for shows in the size of the keys. Keep it as safe as a password file; the
    keys are not shown in `repr()`.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.salt:
            raise ValueError("a SCRAM secret has a salt")
        if self.iterations < 1:
            raise ValueError("a SCRAM secret has a positive iteration count")
        sizes = {len(self.stored_key), len(self.server_key)}
        if len(sizes) > 1 or not sizes <= _MECHANISM_OF_SIZE.keys():
            raise ValueError(f"a SCRAM secret has keys for one of {', '.join(HASHES)}")

    @property
    def mechanism(self) -> str:
        """The mechanism that it is for, "SCRAM-SHA-256" say; for its -PLUS form as well."""
        return _MECHANISM_OF_SIZE[len(self.stored_key)]

    @classmethod
    def from_password(
        cls,
        password: str,
        salt: bytes,
        *,
        mechanism: str = "SCRAM-SHA-256",
        iterations: int = ITERATIONS,
    ) -> "ScramSecret":
        """Make the secret of a password. `salt`: fresh random octets, 16 of them.

        It takes as long as a login of the client. Raises SASLError for a password that cannot be
        used with SCRAM, ValueError for another mechanism's name or fewer than 4096 iterations.
        """
        if mechanism not in HASHES:
            raise ValueError(f"mechanism: {mechanism!r} is none of {', '.join(HASHES)}")
        if iterations < MINIMUM_ITERATIONS:
            raise ValueError(f"iterations: fewer than {MINIMUM_ITERATIONS} protect nobody")
        client_key, server_key = derive_keys(mechanism, password, salt, iterations)
        stored_key = hashlib.new(HASHES[mechanism], client_key).digest()
        return cls(salt, iterations, stored_key, server_key)

    def encode(self) -> str:
        """Return the text to keep in a file, without blanks or line ends."""
        salt, stored_key, server_key = (
            b64encode(octets).decode() for octets in (self.salt, self.stored_key, self.server_key)
        )
        return f"{self.mechanism}${self.iterations}:{salt}${stored_key}:{server_key}"

    @classmethod
    def parse(cls, text: str) -> "ScramSecret":
        """Read such a text. Raises ValueError, which does not quote it."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError("this is no SCRAM secret: mechanism$iterations:salt$key:key")
        salt, stored_key, server_key = (
            b64decode(match[name], validate=True) for name in ("salt", "stored_key", "server_key")
        )
        secret = cls(salt, int(match["iterations"]), stored_key, server_key)
        if secret.mechanism != match["mechanism"]:
            raise ValueError("a SCRAM secret whose keys do not fit its mechanism")
        return secret
