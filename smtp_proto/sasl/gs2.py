"""The GS2 header, with which a client's first message begins in SCRAM and OAUTHBEARER. RFC 5801 4

Knows the header and the names in it, both ways. Must not know what follows it.
"""

import re
from dataclasses import dataclass

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import decode_identity, encode_identity

# RFC 5802 7: saslname = 1*(value-safe-char / "=2C" / "=3D")

_SASLNAME = re.compile(rb"(?:[^=,]|=2C|=3D)+")


def encode_saslname(name: str) -> bytes:
    """Raise SASLError for what is no identity."""
    return encode_identity(name).replace(b"=", b"=3D").replace(b",", b"=2C")


def decode_saslname(octets: bytes) -> str:
    """Raise SASLError for what is no identity, and for "=" that escapes nothing."""
    if not _SASLNAME.fullmatch(octets):
        raise SASLError("a name is empty, or has '=' or ',' that is not escaped")  # RFC 5802 5.1
    return decode_identity(octets.replace(b"=2C", b",").replace(b"=3D", b"="))


# RFC 5802 7: gs2-header = gs2-cbind-flag "," [ "a=" saslname ] ","
# gs2-cbind-flag = ("p=" cb-name) / "n" / "y"

_HEADER = re.compile(rb"(n|y|p=([A-Za-z0-9.-]+)),(?:a=([^,]*))?,")


@dataclass(frozen=True, slots=True)
class GS2Header:
    """What a client says of channel binding, and as whom it wants to act ("": as itself)."""

    flag: str
    """"n": it cannot bind; "y": it can, and the server seems not to; "p=...": it does so."""
    authorization_identity: str = ""

    @property
    def binding_type(self) -> str:
        """The type of channel binding that is used; "": none is."""
        return self.flag.removeprefix("p=") if self.flag.startswith("p=") else ""

    def encode(self) -> bytes:
        """Return it as the client sends it."""
        authzid = self.authorization_identity
        escaped = b"a=" + encode_saslname(authzid) if authzid else b""
        return b"%s,%s," % (self.flag.encode(), escaped)

    @classmethod
    def split(cls, message: bytes) -> "tuple[GS2Header, bytes]":
        """Return the header of a message, and what follows. Raises SASLError."""
        match = _HEADER.match(message)
        if match is None:
            raise SASLError("the message does not begin with a GS2 header")
        authzid = "" if match[3] is None else decode_saslname(match[3])
        return cls(match[1].decode(), authzid), message[match.end() :]
