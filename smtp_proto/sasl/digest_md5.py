"""DIGEST-MD5: keyed digests prove on both sides that the password is known. RFC 2831

Knows challenge, response and digests for the quality of protection "auth", both sides. Must not
know who may use it: RFC 6331 has made it historic, because whoever sees an exchange can try any
number of passwords on it.

    digest-challenge    realm="...",nonce="...",qop="auth",algorithm=md5-sess,charset=utf-8
    digest-response     username="...",nonce="...",cnonce="...",response=...
    response-auth       rspauth=...         to which the client answers with nothing
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.hashes import is_available, md5, require_hash
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
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
    authorize,
    decode_identity,
    encode_identity,
    encode_password,
    require,
    require_nonce,
)

_LONGEST_CHALLENGE = 2047  # RFC 2831 2.1.1, in octets
_LONGEST_RESPONSE = 4095  # RFC 2831 2.1.2, in octets
_FIRST = b"00000001"  # nonce-count of an initial authentication, which is the only one here


# --- The directives ------------------------------------------------------------------------------

# RFC 2831 7.1: 1#( token "=" ( token | quoted-string ) ), with white space and surplus commas

_TOKEN = rb'[^\x00-\x20\x7f-\xff()<>@,;:\\"/\[\]?={}]+'  # RFC 2831 7.2
_DIRECTIVE = re.compile(
    rb'[\s,]*(?P<name>%s)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>%s))\s*(?:,[\s,]*|\Z)'
    % (_TOKEN, _TOKEN),
    re.DOTALL,
)
_SPECIAL = re.compile(rb'(["\\])')
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def _quoted(value: bytes) -> bytes:
    return b'"%s"' % _SPECIAL.sub(rb"\\\1", value)


def _encode_directives(directives: dict[str, bytes]) -> bytes:
    """Each value is a token, or went through `_quoted()`; those that are empty are left out."""
    given = ((name.encode(), value) for name, value in directives.items() if value)
    return b",".join(b"%s=%s" % each for each in given)


class _Directives:
    """What a message has. Raises SASLError for what is no list of directives."""

    __slots__ = ("_values",)

    def __init__(self, message: bytes, longest: int) -> None:
        if len(message) > longest:
            raise SASLError(f"a message of more than {longest} octets")
        self._values: dict[str, list[bytes]] = {}
        position = 0
        while position < len(message) or not self._values:
            match = _DIRECTIVE.match(message, position)
            if match is None:
                raise SASLError("the message is no list of directives")
            value = match["token"] or _ESCAPED.sub(rb"\1", match["quoted"])
            self._values.setdefault(match["name"].decode().lower(), []).append(value)
            position = match.end()

    def all(self, name: str) -> list[bytes]:
        """Return the values of a directive that may be there any number of times."""
        return self._values.get(name, [])

    def one(self, name: str, default: bytes | None = None) -> bytes:
        """Return the value of a directive that may be there once, and has to without a default."""
        values = self.all(name)
        if not values and default is not None:
            return default
        if len(values) != 1:
            raise SASLError(f"the directive {name} is not there, or more than once")
        return values[0]

    def require(self, name: str, expected: bytes, default: bytes | None = None) -> None:
        """Raise SASLError if the directive has another value; the case of letters is the same."""
        if self.one(name, default).lower() != expected:
            raise SASLError(f"the directive {name} is not {expected.decode()}")


# --- The digests ---------------------------------------------------------------------------------


def _octets(text: str) -> bytes:
    """Return a name or a password as it is hashed. RFC 2831 2.1.2.1"""
    if max(text, default="") <= "\xff":
        return text.encode("latin-1")
    return text.encode(errors="surrogatepass")


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What both sides know of an exchange, but for the password."""

    username: str
    realm: bytes
    nonce: bytes
    cnonce: bytes
    digest_uri: bytes
    authzid: bytes

    def digests(self, password: str) -> tuple[bytes, bytes]:
        """Return the `response` of the client and the `rspauth` of the server."""
        # RFC 2831 2.1.2.1
        secret = md5(b":".join((_octets(self.username), self.realm, _octets(password))))
        a1 = [secret, self.nonce, self.cnonce, *([self.authzid] if self.authzid else [])]
        key = md5(b":".join(a1)).hex().encode()
        return (
            self._digest(key, b"AUTHENTICATE:" + self.digest_uri),
            self._digest(key, b":" + self.digest_uri),  # RFC 2831 2.1.3
        )

    def _digest(self, key: bytes, a2: bytes) -> bytes:
        hashed = md5(a2).hex().encode()
        parts = (key, self.nonce, _FIRST, self.cnonce, b"auth", hashed)
        return md5(b":".join(parts)).hex().encode()


# --- The client ----------------------------------------------------------------------------------


class DigestMD5Client:
    """Answers one challenge, and has the server prove itself.

    Of several realms it takes the first.
    """

    name: ClassVar[str] = "DIGEST-MD5"
    reveals_password: ClassVar[bool] = False
    __slots__ = (
        "_authzid",
        "_cnonce",
        "_digest_uri",
        "_expected",
        "_identity",
        "_password",
        "_verified",
    )

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        own = require(Credentials, credentials)
        require_hash("md5")
        encode_identity(own.authentication_identity)
        encode_password(own.password)
        if not context.hostname:
            raise SASLError("it needs the server's name, and has none")
        self._identity = own.authentication_identity
        self._password = own.password  # empty once it was used
        authzid = own.authorization_identity
        self._authzid = encode_identity(authzid) if authzid else b""
        self._digest_uri = f"{context.service}/{context.hostname}".encode()
        self._cnonce = b64encode(require_nonce(context))
        self._expected = b""  # the server's digest, once there was a challenge
        self._verified = False

    def start(self) -> None:
        """Return None: the server begins."""

    def respond(self, challenge: bytes) -> bytes:
        """Return the response, then nothing in return for a digest that is right.

        Raises SASLError for anything else.
        """
        if self._verified:
            raise SASLError("the server asks for more than DIGEST-MD5 has to say")
        if not self._expected:
            return self._prove(_Directives(challenge, _LONGEST_CHALLENGE))
        received = _Directives(challenge, _LONGEST_CHALLENGE).one("rspauth")
        if not hmac.compare_digest(received, self._expected):
            raise SASLError("the server's digest is wrong: it does not know the password")
        self._verified = True
        return b""

    def finish(self) -> None:
        """Raise SASLError if the server has not proven that it knows the password."""
        if not self._verified:
            raise SASLError("the server reports success before it has proven itself")

    def _prove(self, challenge: _Directives) -> bytes:
        challenge.require("algorithm", b"md5-sess")
        challenge.require("charset", b"utf-8", default=b"utf-8")
        if b"auth" not in re.split(rb"[\s,]+", challenge.one("qop", b"auth").lower()):
            raise SASLError("the server wants a security layer of SASL's own, not just TLS")
        utf_8 = bool(challenge.all("charset"))
        if not utf_8 and max(self._identity + self._password) > "\xff":
            raise SASLError("the server takes no characters but those of ISO 8859-1")
        realms = challenge.all("realm")[:1]
        exchange = _Exchange(
            username=self._identity,
            realm=b"".join(realms),
            nonce=challenge.one("nonce"),
            cnonce=self._cnonce,
            digest_uri=self._digest_uri,
            authzid=self._authzid,
        )
        response, self._expected = exchange.digests(self._password)
        self._password = ""
        return _encode_directives(
            {
                "charset": b"utf-8" if utf_8 else b"",
                "username": _quoted(self._identity.encode("utf-8" if utf_8 else "latin-1")),
                "realm": b"".join(map(_quoted, realms)),
                "nonce": _quoted(exchange.nonce),
                "nc": _FIRST,
                "cnonce": _quoted(exchange.cnonce),
                "digest-uri": _quoted(exchange.digest_uri),
                "response": response,
                "qop": b"auth",
                "authzid": _quoted(exchange.authzid) if exchange.authzid else b"",
            }
        )


# --- The server ----------------------------------------------------------------------------------

# digest-uri-value = serv-type "/" host [ "/" serv-name ]

_DIGEST_URI = re.compile(rb"([A-Za-z]+)/([^/]+)(?:/[^/]+)?")


class DigestMD5Server:
    """Sends a challenge that is never sent again, compares the digests, and proves itself."""

    name: ClassVar[str] = "DIGEST-MD5"
    reveals_password: ClassVar[bool] = False
    __slots__ = ("_accepted", "_context", "_exchange", "_expected", "_nonce", "_realm", "_received")

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._realm = context.hostname.encode()
        self._nonce = b64encode(context.nonce())
        self._expected: Callable[[bytes], Step] = self._take_response
        self._exchange: _Exchange | None = None
        self._received = b""
        self._accepted: Step = OUT_OF_ORDER

    def start(self, _initial_response: bytes | None) -> Step:
        """Send the challenge, also to a client that tries to go on with an earlier one."""
        # RFC 2831 2.2.2
        directives = {
            "realm": _quoted(self._realm),
            "nonce": _quoted(self._nonce),
            "qop": _quoted(b"auth"),
            "algorithm": b"md5-sess",
            "charset": b"utf-8",
        }
        return Challenge(_encode_directives(directives))

    def respond(self, response: bytes) -> Step:
        """Take the response, and nothing after the server's digest."""
        take, self._expected = self._expected, _take_nothing_more
        try:
            return take(response)
        except SASLError as error:
            return Rejected(str(error), malformed=True)

    def answer(self, value: Answer) -> Step:
        """Take the password, and compare the digests."""
        if self._exchange is None:
            return OUT_OF_ORDER
        password = value if isinstance(value, str) else ""
        # Computed for an unknown identity too: how long it takes must not tell.
        # RFC 4422 3.6
        expected, proof = self._exchange.digests(password)
        if not (hmac.compare_digest(expected, self._received) and password):
            return WRONG_CREDENTIALS
        self._expected = self._take_acknowledgement
        return Challenge(b"rspauth=" + proof)

    def _take_response(self, message: bytes) -> Step:
        response = _Directives(message, _LONGEST_RESPONSE)
        response.require("charset", b"utf-8", default=b"utf-8")
        response.require("qop", b"auth", default=b"auth")
        response.require("nc", _FIRST)
        if (response.one("nonce"), response.one("realm")) != (self._nonce, self._realm):
            raise SASLError("the client answers to another challenge")
        username = response.one("username")
        if not response.all("charset"):
            username = username.decode("latin-1").encode()
        identity = decode_identity(username)
        authzid = decode_identity(response.one("authzid")) if response.all("authzid") else ""
        exchange = _Exchange(
            username=identity,
            realm=self._realm,
            nonce=self._nonce,
            cnonce=response.one("cnonce"),
            digest_uri=self._checked_uri(response.one("digest-uri")),
            authzid=authzid.encode(),
        )
        self._received = response.one("response")
        self._accepted = authorize(self._context, identity, authzid)
        if isinstance(self._accepted, Rejected):
            return self._accepted
        self._exchange = exchange
        return FetchPassword(identity, authzid)

    def _checked_uri(self, digest_uri: bytes) -> bytes:
        match = _DIGEST_URI.fullmatch(digest_uri)
        if (
            match is None
            or match[1].lower() != self._context.service.encode()
            or not self._context.is_reached_as(match[2].decode(errors="backslashreplace"))
        ):
            raise SASLError("the response is meant for another server")  # RFC 2831 2.1.2
        return digest_uri

    def _take_acknowledgement(self, message: bytes) -> Step:
        if message:
            raise SASLError("the client has more to say than DIGEST-MD5 knows")
        return self._accepted


def _take_nothing_more(_message: bytes) -> Step:
    return OUT_OF_ORDER


DIGEST_MD5 = Mechanism(
    DigestMD5Client,
    DigestMD5Server if is_available("md5") else None,
    Strength.WEAK,
    by_name_only=True,
    asks=FetchPassword,
)
