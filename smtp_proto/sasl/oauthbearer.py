"""OAUTHBEARER: an access token of OAuth 2.0. RFC 7628

Knows the message, both ways. Must not know whether the connection may carry it.
"""

import re
from typing import ClassVar

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.gs2 import GS2Header
from smtp_proto.sasl.mechanism import (
    CheckToken,
    ClientContext,
    Mechanism,
    Strength,
    TokenCredentials,
)
from smtp_proto.sasl.oauth import TokenClient, TokenServer

# client-resp = (gs2-header kvsep *kvpair kvsep) / kvsep
# kvpair = key "=" value kvsep

_SEPARATOR = b"\x01"
_VALUE = re.compile(r"[\t\r\n -~]*")
_PAIRS = re.compile(rb"\x01((?:[A-Za-z]+=[\t\r\n -~]*\x01)*)\x01")  # RFC 7628 3.1
_PAIR = re.compile(rb"([A-Za-z]+)=([^\x01]*)\x01")
_BEARER = re.compile(r"Bearer +([!-~]+) *", re.IGNORECASE)  # RFC 7628 4


def _encode_message(header: GS2Header, pairs: dict[str, str]) -> bytes:
    if not all(map(_VALUE.fullmatch, pairs.values())):
        raise SASLError("the server's name is not ASCII, or has control characters")
    encoded = "".join(f"{key}={value}\x01" for key, value in pairs.items()).encode()
    return b"%s\x01%s\x01" % (header.encode(), encoded)


def _decode_message(message: bytes) -> tuple[GS2Header, dict[str, str]]:
    if message == _SEPARATOR:
        raise SASLError("the client gives up before it has begun")  # RFC 7628 3.1
    header, rest = GS2Header.split(message)
    match = _PAIRS.fullmatch(rest)
    if match is None:
        raise SASLError("the message is not made of keys and values")
    pairs = [(key.decode(), value.decode()) for key, value in _PAIR.findall(match[1])]
    if len(dict(pairs)) < len(pairs):
        raise SASLError("a key is there twice")
    return header, dict(pairs)


class OAuthBearerClient(TokenClient):
    """Sends identity and token at once, and which server they are for, if that is known."""

    name: ClassVar[str] = "OAUTHBEARER"
    dummy: ClassVar[bytes] = _SEPARATOR  # RFC 7628 3.2.3
    __slots__ = ()

    def _encode(self, identity: str, token: str, context: ClientContext, /) -> bytes:
        server = {"host": context.hostname, "port": str(context.port or "")}
        known = {key: value for key, value in server.items() if value}
        return _encode_message(GS2Header("n", identity), known | {"auth": f"Bearer {token}"})


class OAuthBearerServer(TokenServer):
    """Takes identity and token, and has the token checked. The identity has to be there."""

    name: ClassVar[str] = "OAUTHBEARER"
    explanation: ClassVar[bytes] = b'{"status":"invalid_token"}'  # RFC 7628 3.2.2
    __slots__ = ()

    def _decode(self, message: bytes) -> TokenCredentials | None:
        header, pairs = _decode_message(message)
        if header.binding_type:
            raise SASLError("there is no channel binding in OAUTHBEARER")
        if not header.authorization_identity:
            raise SASLError("the message does not say whom the token is for")
        # RFC 7628 3.2
        if "host" in pairs and not self._context.is_reached_as(pairs["host"]):
            raise SASLError("the token is meant for a server of another name")
        bearer = _BEARER.fullmatch(pairs.get("auth", ""))
        if bearer is None:
            return None  # RFC 7628 4.3
        return TokenCredentials(header.authorization_identity, bearer[1])


OAUTHBEARER = Mechanism(OAuthBearerClient, OAuthBearerServer, Strength.PASSWORD, asks=CheckToken)
