"""What a mechanism is, for the client and for the server.

Knows the shape that all mechanisms have, and the identities and secrets that they carry.
Must not know any one mechanism, nor how its messages travel: they are raw octets here, and
base64, "334" and "*" are the business of others.

    client                                     server
    mechanism = factory(credentials)           mechanism = factory(context)
    start()   -> initial response or None      start(initial response or None) -> Step
    respond(challenge) -> response             respond(response) -> Step
    finish()  on the server's success          answer(value) -> Step

A mechanism is one file: a client class, a server class, and the `Mechanism` that registers both.
Then name it in `registry.py`.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.scram_secret import MINIMUM_ITERATIONS, ScramSecret

# sasl-mech = 1*20mech-char
MECHANISM_NAME = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 3.1


# --- What mechanisms are given -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs in, with which password, and as whom.

    The authorization identity is the identity to act as; empty: the one that belongs to the
    authentication identity (RFC 4422 3.4.1). The password is not shown in `repr()`.
    """

    kind: ClassVar[str] = "a password"

    authentication_identity: str
    password: str = field(repr=False)
    authorization_identity: str = ""


@dataclass(frozen=True, slots=True)
class TokenCredentials:
    """Who logs in, with which access token of OAuth 2.0 (RFC 6750).

    The identity is the account, or the mailbox, that the token is to open. It may be empty where
    the server reads it from the token. The token is not shown in `repr()`.
    """

    kind: ClassVar[str] = "a token"

    authentication_identity: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Who logs in, and where to get the access token: tokens do not last.

    Nothing here calls `fetch`: who wants to log in does, and then goes on with `TokenCredentials`.
    With a source alone, `choose()` tells whether a token would be of use before one is fetched.
    """

    kind: ClassVar[str] = "a source of tokens"

    authentication_identity: str
    fetch: Callable[[], str | Awaitable[str]] = field(repr=False)
    """Returns a token, or in a world that awaits, a promise of one. It is asked for each login,
    and once more when the server has refused what it gave: that token must not come again."""


@dataclass(frozen=True, slots=True)
class KerberosCredentials:
    """Whoever the Kerberos tickets of this process are for, as `kinit` gets them.

    The authorization identity is the identity to act as; empty: the one of the tickets.
    """

    kind: ClassVar[str] = "Kerberos tickets"

    authorization_identity: str = ""


@dataclass(frozen=True, slots=True)
class ExternalCredentials:
    """Nothing: the server knows the client by other means, its TLS certificate say.

    The authorization identity is the identity to act as; empty: the one that the server knows.
    """

    kind: ClassVar[str] = "what the server knows by other means"

    authorization_identity: str = ""


@dataclass(frozen=True, slots=True)
class AnonymousCredentials:
    """Nobody. `trace` is for the server's log: empty, a mail address, or any word without "@"."""

    kind: ClassVar[str] = "nobody's name"

    trace: str = ""


AnyCredentials: TypeAlias = (
    Credentials
    | TokenCredentials
    | TokenSource
    | KerberosCredentials
    | ExternalCredentials
    | AnonymousCredentials
)


@dataclass(frozen=True, slots=True)
class ClientContext:
    """What a client mechanism may need besides credentials; each uses what it needs.

    A mechanism refuses to be built (SASLError) without something that it cannot do without.
    """

    nonce: Callable[[], bytes] | None = None
    """Returns fresh random octets, at least 16, that nobody can foresee."""
    channel_bindings: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """The data of this connection's TLS for each binding type ("tls-exporter"). RFC 5929, 9266"""
    offered: frozenset[str] | None = None
    """The names that the server offers, but for those that it then did not keep to; None: it is
    not known. `choose()` fills it in."""
    service: str = "smtp"
    """What kind of server it is, by the name that GSSAPI has for it. RFC 4954 4"""
    hostname: str = ""
    """The server's name as the client knows it."""
    port: int | None = None
    """The port that the client connected to."""
    iterations: range = range(MINIMUM_ITERATIONS, 600_001)
    """How often a server may have the password hashed. Fewer make guessing cheap; more keep the
    client busy, for up to a second at the top of this range. RFC 5802 9, 7677 4"""


NO_CLIENT_CONTEXT = ClientContext()


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What a server mechanism may need."""

    hostname: str
    """The server's own name."""
    nonce: Callable[[], bytes]
    """Returns fresh random octets, at least 16, that nobody can foresee."""
    channel_bindings: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """The data of this connection's TLS for each binding type ("tls-exporter"). RFC 5929, 9266"""
    proxy_authorization: bool = False
    """Whether one identity may ask to act as another. If so, the application must look at the
    authorization identity too, which each question has, before it gives what leads to
    acceptance; if not, such a wish is rejected."""
    offered: frozenset[str] | None = None
    """The names that this client was offered; None: all that could be. It tells whether somebody
    took channel binding off the list on its way."""
    service: str = "smtp"
    """What kind of server it is, by the name that GSSAPI has for it. RFC 4954 4"""
    reached_as: frozenset[str] = frozenset()
    """The names, in lower case, under which clients may have connected; empty: any."""
    salt_key: bytes = field(default=b"", repr=False)
    """A secret that stays the same for as long as possible. The salts of identities that do not
    exist are made from it. Empty: they change each time, and who asks twice can tell."""

    def is_reached_as(self, host: str) -> bool:
        """Whether a client that names `host` may have meant this server."""
        return not self.reached_as or host.lower() in self.reached_as


class _Factory(Protocol):
    """What is known of a mechanism before there is one."""

    @property
    def name(self) -> str:
        """The name under which servers offer it."""
        ...

    @property
    def reveals_password(self) -> bool:
        """Whether the password, or what is as good as it, goes over the wire in clear."""
        ...


# --- The client ----------------------------------------------------------------------------------


class ClientMechanism(Protocol):
    """One exchange, seen from the client. Make a new one for each AUTH."""

    name: ClassVar[str]
    reveals_password: ClassVar[bool]
    """Whether the password, or what is as good as it, goes over the wire in clear."""

    def start(self) -> bytes | None:
        """Return the initial response; None: the mechanism has none, the server begins.

        Empty octets are a response. If it cannot go out with AUTH, it is the answer to the
        server's first challenge, which is empty then (RFC 4954 4).
        """
        ...

    def respond(self, challenge: bytes, /) -> bytes:
        """Return the response to `challenge`. Raises SASLError: cancel the exchange then."""
        ...

    def finish(self) -> None:
        """Call this when the server has reported success, and trust it only when it returns.

        Raises SASLError if the exchange was not over, or the server has not proven itself.
        """
        ...


@runtime_checkable
class ExplainsRefusal(Protocol):
    """A client mechanism in which the server may say why, before it refuses.

    Ask with `isinstance()` when the server has refused.
    """

    @property
    def refusal(self) -> str:
        """What the server said, on one line that any terminal or log can take; "": nothing."""
        ...

    @property
    def refusal_fields(self) -> Mapping[str, str]:
        """What it said of that in a form for programs, by name; it may be empty.

        Of a token: "status", "scope" and "openid-configuration" (RFC 7628 3.2.2), those that came.
        They are the server's claims: escaped, but for the rest whatever it likes.
        """
        ...


class ClientFactory(_Factory, Protocol):
    """Makes client mechanisms; the class of the mechanism is one."""

    def __call__(
        self, credentials: AnyCredentials, context: ClientContext = ..., /
    ) -> ClientMechanism:
        """Raise SASLError if the credentials cannot be expressed in the mechanism."""
        ...


# --- The server ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send `data`, then give what the client answers to `respond()`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CheckPassword:
    """Give `answer()` True if the credentials are right, else False."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class FetchPassword:
    """Give `answer()` the password of the identity; None if there is no such identity."""

    authentication_identity: str
    authorization_identity: str = ""
    """As whom it wants to act, if not as itself."""


@dataclass(frozen=True, slots=True)
class FetchSecret:
    """Give `answer()` the `ScramSecret` of the identity; None if there is no such identity.

    The secret must have been made for `mechanism` ("SCRAM-SHA-256"). The identity has gone through
    SASLprep: look it up among names that have, too.

    After None the exchange goes on to its usual end, with a salt from `ServerContext.salt_key` and
    the iteration count that `ScramSecret.from_password()` uses by itself. If yours is another
    one, answer with a secret of your own that has no password: else it shows who exists.
    """

    authentication_identity: str
    mechanism: str
    authorization_identity: str = ""
    """As whom it wants to act, if not as itself."""


@dataclass(frozen=True, slots=True)
class CheckToken:
    """Give `answer()` True if the token is valid, and opens what the identity names; else False."""

    credentials: TokenCredentials


@dataclass(frozen=True, slots=True)
class FetchIdentity:
    """Give `answer()` who the client is, as its TLS certificate or the like has proven.

    None: nothing has. Never take the answer from the client's own words, which say no more than
    as whom it wants to act.
    """

    authorization_identity: str


@dataclass(frozen=True, slots=True)
class CheckAnonymous:
    """Give `answer()` True if anybody may come in without a name. Anything may be in `trace`."""

    trace: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The exchange is over: the client is `authentication_identity`.

    It acts as `authorization_identity`, which is the same unless the client asked for another.
    """

    authentication_identity: str
    authorization_identity: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The exchange is over and has failed; `why` is for the log, not for the client.

    `malformed`: the client broke the mechanism (501). Else its credentials are not accepted (535).
    """

    why: str
    malformed: bool = False


Question: TypeAlias = (
    CheckPassword | FetchPassword | FetchSecret | CheckToken | FetchIdentity | CheckAnonymous
)
Step: TypeAlias = Challenge | Question | Accepted | Rejected
Answer: TypeAlias = bool | str | ScramSecret | None

# An unknown identity and a wrong password must look the same.
# RFC 4422 3.6
WRONG_CREDENTIALS = Rejected("the credentials are wrong")
OUT_OF_ORDER = Rejected("the answer to a question that was not asked", malformed=True)


def authorize(
    context: ServerContext, authentication_identity: str, authorization_identity: str
) -> Accepted | Rejected:
    """Return what the proof of an identity leads to; the other one is empty, or the one wanted."""
    acts_as = authorization_identity or authentication_identity
    if acts_as != authentication_identity and not context.proxy_authorization:
        return Rejected("acting as another identity is not allowed")
    return Accepted(authentication_identity, acts_as)


class ServerMechanism(Protocol):
    """One exchange, seen from the server. Make a new one for each AUTH.

    Each method returns what is to be done next. Whatever the client sends, nothing is raised:
    what breaks the mechanism is `Rejected`.
    """

    name: ClassVar[str]
    reveals_password: ClassVar[bool]
    """Whether the password, or what is as good as it, goes over the wire in clear."""

    def start(self, initial_response: bytes | None, /) -> Step:
        """Begin; None: AUTH came without an initial response, which differs from an empty one."""
        ...

    def respond(self, response: bytes, /) -> Step:
        """Take the client's response to a `Challenge`."""
        ...

    def answer(self, value: Answer, /) -> Step:
        """Take the application's answer to a `Question`, which says what to answer."""
        ...


class ServerFactory(_Factory, Protocol):
    """Makes server mechanisms; the class of the mechanism is one."""

    def __call__(self, context: ServerContext, /) -> ServerMechanism:
        """Return a mechanism for one exchange."""
        ...


# --- The registration ----------------------------------------------------------------------------


class Strength(IntEnum):
    """How much a mechanism is worth: of those that may be used, the strongest is chosen."""

    NONE = 0  # proves nothing: used only if allowed by name
    WEAK = 1  # lets whoever listens, or poses as the server, guess the password at leisure
    PASSWORD = 2  # hands the password, or what is as good as it, to the server
    PROOF = 3  # gives the server, and who poses as it, nothing to log in with elsewhere
    BOUND = 4  # as PROOF, and only for this one TLS connection


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A mechanism as the registry has it: both sides, and what it is worth.

    A client can use one of your own: `choose()` takes it among its `mechanisms`.
    """

    client: ClientFactory
    server: ServerFactory | None
    """None: it cannot be offered here."""
    strength: Strength
    by_name_only: bool = False
    """Whether a client uses it only if the policy allows it by name."""
    asks: type[Question] | None = None
    """What its server has to know from the application; None: that is not said."""

    @property
    def name(self) -> str:
        """The name under which servers offer it."""
        return self.client.name


# --- Identities and secrets ----------------------------------------------------------------------

# A lone surrogate is what no UTF-8 has: writing and reading check for it in the same way, and no
# codec error is raised, which would carry the secret along.
_IDENTITY = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_PASSWORD = re.compile(r"[^\x00\ud800-\udfff]+")  # RFC 4616 2


def encode_identity(identity: str) -> bytes:
    """Return `identity` as UTF-8.

    Raises SASLError if it is empty, or has control characters or lone surrogates.
    """
    return _checked_identity(identity).encode()


def decode_identity(octets: bytes) -> str:
    """Return the identity that `octets` are. Raises SASLError, as `encode_identity` does."""
    return _checked_identity(octets.decode(errors="surrogateescape"))


def encode_password(password: str) -> bytes:
    """Return `password` as UTF-8. Raises SASLError if it is empty, or has NUL or surrogates."""
    return _checked_password(password).encode()


def decode_password(octets: bytes) -> str:
    """Return the password that `octets` are. Raises SASLError, as `encode_password` does."""
    return _checked_password(octets.decode(errors="surrogateescape"))


_Kind = TypeVar("_Kind", bound=AnyCredentials)


def require(kind: type[_Kind], credentials: AnyCredentials) -> _Kind:
    """Return the credentials that a mechanism takes. Raises SASLError if they are of another kind.

    Of a user who gave a token, only a mechanism that takes tokens will ever send anything.
    """
    if isinstance(credentials, kind):
        return credentials
    raise SASLError(f"it takes {kind.kind}, not {credentials.kind}")


def require_nonce(context: ClientContext) -> bytes:
    """Return fresh random octets. Raises SASLError if the context cannot give any."""
    if context.nonce is None:
        raise SASLError("it needs fresh random octets, and has no source of them")
    return context.nonce()


def require_own_identity(credentials: Credentials) -> None:
    """For mechanisms that cannot say as whom to act. Raises SASLError if it is somebody else."""
    if credentials.authorization_identity not in ("", credentials.authentication_identity):
        raise SASLError("it cannot carry an authorization identity")


def _checked_identity(identity: str) -> str:
    if _IDENTITY.fullmatch(identity):
        return identity
    raise SASLError("an identity is empty, or has control characters or is not UTF-8")


def _checked_password(password: str) -> str:
    if _PASSWORD.fullmatch(password):
        return password
    raise SASLError("the password is empty, or has NUL or is not UTF-8")
