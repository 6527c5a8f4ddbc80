"""XOAUTH2: an access token of OAuth 2.0, in the form that came before OAUTHBEARER.

Knows the message, both ways; it has no RFC, only the documentation of the first who used it.
Must not know whether the connection may carry it.
"""

import re
from typing import ClassVar

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    CheckToken,
    ClientContext,
    Mechanism,
    Strength,
    TokenCredentials,
    decode_identity,
    encode_identity,
)
from smtp_proto.sasl.oauth import TokenClient, TokenServer

# "user=" name %x01 "auth=Bearer " token %x01 %x01

_MESSAGE = re.compile(
    rb"user=(?P<user>[^\x01]*)\x01auth=Bearer (?P<token>[!-~]+)\x01\x01", re.IGNORECASE
)


def _encode_message(identity: str, token: str) -> bytes:
    return b"user=%s\x01auth=Bearer %s\x01\x01" % (encode_identity(identity), token.encode())


def _decode_message(message: bytes) -> TokenCredentials:
    match = _MESSAGE.fullmatch(message)
    if match is None:
        raise SASLError("the message is not a user and a bearer token")
    return TokenCredentials(decode_identity(match["user"]), match["token"].decode())


class XOAuth2Client(TokenClient):
    """Sends user and token at once."""

    name: ClassVar[str] = "XOAUTH2"
    dummy: ClassVar[bytes] = b""
    __slots__ = ()

    def _encode(self, identity: str, token: str, _context: ClientContext, /) -> bytes:
        return _encode_message(identity, token)


class XOAuth2Server(TokenServer):
    """Takes user and token, and has the token checked."""

    name: ClassVar[str] = "XOAUTH2"
    explanation: ClassVar[bytes] = b'{"status":"401","schemes":"bearer"}'
    __slots__ = ()

    def _decode(self, message: bytes) -> TokenCredentials:
        return _decode_message(message)


XOAUTH2 = Mechanism(XOAuth2Client, XOAuth2Server, Strength.PASSWORD, asks=CheckToken)
