"""SCRAM: both sides prove that they know the password, and neither shows it. RFC 5802, 7677

Knows the four messages, the proofs in them and the channel binding, both sides. Must not know how
a password becomes keys, nor where a server keeps them.

    client-first    n,,n=user,r=C           C, S: fresh random text of each side
    server-first    r=CS,s=salt,i=4096
    client-final    c=biws,r=CS,p=proof     c: the header of client-first and the channel binding
    server-final    v=signature             to which the client answers with nothing

SCRAM-SHA-512 is made like the two of the RFCs. The -PLUS forms bind the proof to the TLS
connection: a man in the middle, who has two of them, is found out.
"""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.gs2 import GS2Header, decode_saslname, encode_saslname
from smtp_proto.sasl.hashes import is_available, require_hash
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Answer,
    AnyCredentials,
    Challenge,
    ClientContext,
    Credentials,
    FetchSecret,
    Mechanism,
    Rejected,
    ServerContext,
    Step,
    Strength,
    authorize,
    require,
    require_nonce,
)
from smtp_proto.sasl.saslprep import prepare_identity, prepare_password
from smtp_proto.sasl.scram_secret import HASHES, ITERATIONS, ScramSecret, derive_keys
from smtp_proto.wire.errors import shown

_PLUS = "-PLUS"

# The first that this connection has is used. There is no way to ask which ones the server knows.
# tls-exporter is what TLS 1.3 has (RFC 9266 3). tls-unique ends with TLS 1.2, and is the weakest:
# it is only unique where the handshake was of a kind that cannot be told from here (RFC 7677 4).
_BINDING_TYPES = ("tls-exporter", "tls-server-end-point", "tls-unique")


# --- The messages --------------------------------------------------------------------------------

# RFC 5802 7: attr-val = ALPHA "=" value

_ATTRIBUTE = re.compile(rb"([A-Za-z])=([^,\0]+)")
_DEFINED = set("amnrcsipve")


def _values(message: bytes, names: str) -> list[bytes]:
    """Return the values of the attributes `names`, which `message` must begin with, in this order.

    Extensions may follow. Raises SASLError.
    """
    attributes: list[tuple[str, bytes]] = []
    for part in message.split(b","):
        match = _ATTRIBUTE.fullmatch(part)
        if match is None:
            raise SASLError(f"this is no attribute of SCRAM: {shown(part)}")
        attributes.append((match[1].decode(), match[2]))
    found = "".join(name for name, _ in attributes)
    if "m" in found:
        raise SASLError("an extension (m=) that must be known is not known here")  # RFC 5802 5.1
    if not found.startswith(names) or _DEFINED & set(found[len(names) :]):
        expected = ",".join(f"{name}=" for name in names)
        raise SASLError(f"the attributes {expected} are due, in this order, and no others")
    return [value for _, value in attributes[: len(names)]]


# RFC 5802 7: base64 = *base64-4 [base64-3 / base64-2]


def _decode_base64(value: bytes, what: str) -> bytes:
    try:
        octets = b64decode(value, validate=True)
    except ValueError:
        octets = b""
    # RFC 5802 2.1: in canonical form only
    if b64encode(octets) != value:
        raise SASLError(f"{what} is not base64")
    return octets


# RFC 5802 7: nonce = "r=" c-nonce [s-nonce]

_NONCE = re.compile(rb"[!-+\--~]+")


def _decode_nonce(value: bytes) -> bytes:
    if not _NONCE.fullmatch(value):
        raise SASLError("the nonce is not printable ASCII")
    return value


# RFC 5802 7: iteration-count = "i=" posit-number

_POSITIVE_NUMBER = re.compile(rb"[1-9][0-9]{0,18}")


def _decode_iterations(value: bytes, allowed: range) -> int:
    if not _POSITIVE_NUMBER.fullmatch(value):
        raise SASLError(f"the iteration count is not a positive number: {shown(value)}")
    iterations = int(value)
    if iterations not in allowed:
        raise SASLError(
            f"the server wants {iterations} iterations; "
            f"from {allowed.start} to {allowed.stop - 1} are allowed"
        )
    return iterations


def _exclusive_or(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


# --- The client ----------------------------------------------------------------------------------


class ScramClient:
    """Proves that it knows the password, and has the server prove it too.

    There is a class of it for each name.
    """

    name: ClassVar[str]
    reveals_password: ClassVar[bool] = False
    __slots__ = (
        "_allowed_iterations",
        "_binding_data",
        "_first_bare",
        "_header",
        "_mechanism",
        "_nonce",
        "_password",
        "_signature",
        "_verified",
    )

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        own = require(Credentials, credentials)
        identity = prepare_identity(own.authentication_identity)
        prepare_password(own.password)  # better refused now than in the middle of the exchange
        self._mechanism = self.name.removesuffix(_PLUS)
        require_hash(HASHES[self._mechanism])
        flag, self._binding_data = _choose_binding(self.name, context)
        self._allowed_iterations = context.iterations
        authzid = own.authorization_identity
        # RFC 4954 4
        self._header = GS2Header(flag, prepare_identity(authzid) if authzid else "").encode()
        self._nonce = b64encode(require_nonce(context))
        self._first_bare = b"n=%s,r=%s" % (encode_saslname(identity), self._nonce)
        self._password = own.password  # empty once it was used
        self._signature = b""  # of the server, as it has to be; empty until the server's first
        self._verified = False

    def start(self) -> bytes:
        """Return client-first."""
        return self._header + self._first_bare

    def respond(self, challenge: bytes) -> bytes:
        """Return client-final, then nothing in return for a signature that is right.

        Raises SASLError for anything that a server which knows the password would not say.
        """
        if challenge.startswith(b"e="):
            raise SASLError(f"the server gives up: {shown(challenge[2:])}")
        if self._verified:
            raise SASLError("the server asks for more than SCRAM has to say")
        if not self._signature:
            return self._prove(challenge)
        self._verify(challenge)
        return b""

    def finish(self) -> None:
        """Raise SASLError if the server has not proven that it knows the password."""
        if not self._verified:
            raise SASLError("the server reports success before it has proven itself")

    def _prove(self, server_first: bytes) -> bytes:
        nonce, salt, iterations = _values(server_first, "rsi")
        if not _decode_nonce(nonce).startswith(self._nonce):
            raise SASLError("the server answers to somebody else's nonce")  # RFC 5802 5.1
        if nonce == self._nonce:
            raise SASLError("the server adds nothing to the client's nonce")
        client_key, server_key = derive_keys(
            self._mechanism,
            self._password,
            _decode_base64(salt, "the salt"),
            _decode_iterations(iterations, self._allowed_iterations),
        )
        self._password = ""
        hash_ = HASHES[self._mechanism]
        binding = b64encode(self._header + self._binding_data)
        without_proof = b"c=%s,r=%s" % (binding, nonce)
        auth_message = b",".join((self._first_bare, server_first, without_proof))
        self._signature = hmac.digest(server_key, auth_message, hash_)
        stored_key = hashlib.new(hash_, client_key).digest()
        proof = _exclusive_or(client_key, hmac.digest(stored_key, auth_message, hash_))
        return b"%s,p=%s" % (without_proof, b64encode(proof))

    def _verify(self, server_final: bytes) -> None:
        (verifier,) = _values(server_final, "v")
        signature = _decode_base64(verifier, "the server's signature")
        if not hmac.compare_digest(signature, self._signature):
            raise SASLError("the server's signature is wrong: it does not know the password")
        self._verified = True


def _choose_binding(name: str, context: ClientContext) -> tuple[str, bytes]:
    """Return gs2-cbind-flag and cbind-data. Raises SASLError if a -PLUS form cannot be bound."""
    bindings = context.channel_bindings
    type_ = next((each for each in _BINDING_TYPES if bindings.get(each)), None)
    if name.endswith(_PLUS):
        if type_ is None:
            raise SASLError("it needs channel binding, which this connection does not have")
        return f"p={type_}", bindings[type_]
    # RFC 5802 6. Without negotiation, or by choice, the client is one that does not bind.
    not_offered = context.offered is not None and name + _PLUS not in context.offered
    return "y" if type_ is not None and not_offered else "n", b""


# --- The server ----------------------------------------------------------------------------------


class ScramServer:
    """Has the client prove that it knows the password, and proves it too, from a stored secret.

    There is a class of it for each name.
    """

    name: ClassVar[str]
    reveals_password: ClassVar[bool] = False
    __slots__ = (
        "_accepted",
        "_context",
        "_expected",
        "_failure",
        "_first_bare",
        "_header",
        "_identity",
        "_known",
        "_mechanism",
        "_nonce",
        "_server_first",
    )

    def __init__(self, context: ServerContext) -> None:
        self._mechanism = self.name.removesuffix(_PLUS)
        self._context = context
        self._nonce = b64encode(context.nonce())  # with the client's in front, once it is known
        self._expected: Callable[[bytes], Step] = self._take_client_first
        self._header = GS2Header("n")
        self._first_bare = b""
        self._server_first = b""
        self._identity = ""  # empty while nobody's secret is asked for
        self._accepted: Step = OUT_OF_ORDER
        self._known = False  # whether somebody has the password of the secret
        self._failure = WRONG_CREDENTIALS

    def start(self, initial_response: bytes | None) -> Step:
        """Take client-first, or ask for it with an empty challenge."""
        if initial_response is None:
            return Challenge(b"")  # RFC 4422 5
        return self.respond(initial_response)

    def respond(self, response: bytes) -> Step:
        """Take client-first, client-final, and nothing after server-final."""
        take, self._expected = self._expected, _take_nothing_more
        try:
            return take(response)
        except SASLError as error:
            return Rejected(str(error), malformed=True)

    def answer(self, value: Answer) -> Step:
        """Take the secret."""
        if not self._identity:
            return OUT_OF_ORDER
        secret = self._decoy()
        if isinstance(value, ScramSecret):
            self._known = value.mechanism == self._mechanism
            if self._known:
                secret = value
            else:
                self._failure = Rejected(f"the stored secret is for {value.mechanism}")
        self._identity = ""
        salt, iterations = b64encode(secret.salt), secret.iterations
        self._server_first = b"r=%s,s=%s,i=%d" % (self._nonce, salt, iterations)
        self._expected = partial(self._take_client_final, secret)
        return Challenge(self._server_first)

    def _take_client_first(self, message: bytes) -> Step:
        self._header, self._first_bare = GS2Header.split(message)
        objection = self._objection_to_binding()
        if objection:
            return Rejected(objection)
        name, nonce = _values(self._first_bare, "nr")
        self._nonce = _decode_nonce(nonce) + self._nonce
        identity = prepare_identity(decode_saslname(name))
        authzid = self._header.authorization_identity
        # RFC 4954 4
        authzid = prepare_identity(authzid) if authzid else ""
        self._accepted = authorize(self._context, identity, authzid)
        if isinstance(self._accepted, Rejected):
            return self._accepted
        self._identity = identity
        return FetchSecret(identity, self._mechanism, authzid)

    def _objection_to_binding(self) -> str:
        """Return why the client's wish about channel binding cannot be met; "": it can."""
        type_ = self._header.binding_type
        plus = self.name.endswith(_PLUS)
        bindings = self._context.channel_bindings
        if bool(type_) is not plus:
            return f"the client asks for {self.name}, and its message is not of it"
        if plus:
            return "" if bindings.get(type_) else f"there is no channel binding {shown(type_)}"
        if self._header.flag == "y" and self._offers_binding():
            # RFC 5802 6
            return "somebody hid from the client that channel binding is offered"
        return ""

    def _offers_binding(self) -> bool:
        """Whether it is, with any hash: who hides one -PLUS form can also choose the hash."""
        offered = self._context.offered
        if offered is None:
            return any(self._context.channel_bindings.values())
        return any(name.startswith("SCRAM-") and name.endswith(_PLUS) for name in offered)

    def _take_client_final(self, secret: ScramSecret, message: bytes) -> Step:
        without_proof, _, proof = message.rpartition(b",p=")
        binding, nonce = _values(without_proof, "cr")
        if nonce != self._nonce:
            raise SASLError("the client answers to another nonce")  # RFC 5802 5.1
        data = self._context.channel_bindings.get(self._header.binding_type, b"")
        # RFC 5802 6
        if not hmac.compare_digest(binding, b64encode(self._header.encode() + data)):
            return Rejected("the client is not at the other end of this TLS connection")
        return self._check(secret, _decode_base64(proof, "the proof"), without_proof)

    def _check(self, secret: ScramSecret, proof: bytes, without_proof: bytes) -> Step:
        hash_ = HASHES[self._mechanism]
        if len(proof) != len(secret.stored_key):
            raise SASLError("the proof is not as long as the hash")
        auth_message = b",".join((self._first_bare, self._server_first, without_proof))
        # RFC 5802 3
        client_key = _exclusive_or(proof, hmac.digest(secret.stored_key, auth_message, hash_))
        stored_key = hashlib.new(hash_, client_key).digest()
        if not (hmac.compare_digest(stored_key, secret.stored_key) and self._known):
            return self._failure
        self._expected = self._take_acknowledgement
        signature = hmac.digest(secret.server_key, auth_message, hash_)
        return Challenge(b"v=" + b64encode(signature))

    def _take_acknowledgement(self, message: bytes) -> Step:
        if message:
            raise SASLError("the client has more to say than SCRAM knows")
        return self._accepted

    def _decoy(self) -> ScramSecret:
        """Return what looks like the secret of an identity that there is not. RFC 4422 3.6"""
        size = hashlib.new(HASHES[self._mechanism]).digest_size
        named = f"{self._mechanism} {self._identity}".encode()
        salt = hmac.digest(self._context.salt_key or self._context.nonce(), named, "sha256")[:16]
        return ScramSecret(salt, ITERATIONS, bytes(size), bytes(size))


def _take_nothing_more(_message: bytes) -> Step:
    return OUT_OF_ORDER


# --- The names -----------------------------------------------------------------------------------


def _named(full_name: str, strength: Strength) -> Mechanism:
    class Client(ScramClient):
        name: ClassVar[str] = full_name
        __slots__ = ()

    class Server(ScramServer):
        name: ClassVar[str] = full_name
        __slots__ = ()

    hash_ = HASHES[full_name.removesuffix(_PLUS)]
    return Mechanism(Client, Server if is_available(hash_) else None, strength, asks=FetchSecret)


SCRAM_PLUS = tuple(_named(name + _PLUS, Strength.BOUND) for name in HASHES)
SCRAM = tuple(_named(name, Strength.PROOF) for name in HASHES)
