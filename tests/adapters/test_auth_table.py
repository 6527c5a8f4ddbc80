"""The whole table of logins: what is offered, allowed, secured, and where it fails; in memory.

Each cell is a session of our client with a server that is made of the real mechanisms, and lies or
fails in its first exchange as the cell says. What must come of it is worked out here from a table
of what each mechanism is, apart from the code that chooses one. Knows mechanisms by name. Must not
know how any of them works, but for SCRAM's messages, in the last part.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from itertools import product
from typing import ClassVar

import pytest

from smtp_proto.flow import AuthenticationError, OpenSession, Security, TLSInfo
from smtp_proto.flow.actions import Action, Ask, Connect, Done, Receive, Send
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.session import Session
from smtp_proto.sasl import (
    AnonymousCredentials,
    AnyCredentials,
    Credentials,
    ExternalCredentials,
    KerberosCredentials,
    Policy,
    ScramSecret,
    TokenCredentials,
    TokenSource,
)
from smtp_proto.sasl.mechanism import (
    Accepted,
    Answer,
    Challenge,
    CheckAnonymous,
    CheckPassword,
    CheckToken,
    FetchIdentity,
    FetchPassword,
    FetchSecret,
    Question,
    Rejected,
    ServerContext,
    ServerMechanism,
    Step,
    Strength,
)
from smtp_proto.sasl.registry import SERVER_MECHANISMS
from smtp_proto.wire import Octets
from tests.adapters.canaries import PASSWORD, TOKEN, forms, found_in, texts_of, told_by

HOST = "mail.test"
BINDINGS = {"tls-server-end-point": b"e" * 32}


# --- What each mechanism is -------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """`takes`: the kind of credentials; `shows`: whether it hands over the secret itself."""

    takes: str
    strength: Strength
    shows: bool = False
    by_name: bool = False


# The best first.
KINDS: dict[str, Kind] = {
    "SCRAM-SHA-256-PLUS": Kind("password", Strength.BOUND),
    "EXTERNAL": Kind("external", Strength.PROOF),
    "SCRAM-SHA-256": Kind("password", Strength.PROOF),
    "OAUTHBEARER": Kind("token", Strength.PASSWORD, shows=True),
    "XOAUTH2": Kind("token", Strength.PASSWORD, shows=True),
    "PLAIN": Kind("password", Strength.PASSWORD, shows=True),
    "LOGIN": Kind("password", Strength.PASSWORD, shows=True),
    "CRAM-MD5": Kind("password", Strength.WEAK),
    "DIGEST-MD5": Kind("password", Strength.WEAK, by_name=True),
    "ANONYMOUS": Kind("anonymous", Strength.NONE),
}

CREDENTIALS: dict[str, Callable[[], AnyCredentials]] = {
    "password": lambda: Credentials("ann", PASSWORD),
    "token": lambda: TokenCredentials("ann", TOKEN),
    "source": lambda: TokenSource("ann", lambda: TOKEN),
    "external": lambda: ExternalCredentials("ann"),
    "anonymous": lambda: AnonymousCredentials("ann"),
    "kerberos": lambda: KerberosCredentials("ann"),
}

OFFERS = (
    "",
    "PLAIN",
    "LOGIN PLAIN",
    "CRAM-MD5 PLAIN",
    "DIGEST-MD5 CRAM-MD5",
    "XOAUTH2 OAUTHBEARER",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256 SCRAM-SHA-256-PLUS PLAIN",
    "X-UNKNOWN ANONYMOUS EXTERNAL",
    " ".join(KINDS),
)

POLICIES = {
    "default": Policy(),
    "in clear": Policy(allow_cleartext=True),
    "PLAIN": Policy(frozenset({"PLAIN"})),
    "MD5": Policy(frozenset({"CRAM-MD5", "DIGEST-MD5"})),
    "SCRAM": Policy(frozenset({"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"})),
    "proof": Policy(minimum=Strength.PROOF, allow_cleartext=True),
    "bound": Policy(minimum=Strength.BOUND),
    "all": Policy(frozenset(KINDS), allow_cleartext=True),
    "no clear": Policy(frozenset(KINDS)),
}


class Failure(Enum):
    """What becomes of the first exchange."""

    NONE = "none"
    REPLY_504 = "504"
    REPLY_534 = "534"
    REPLY_535 = "535"
    REPLY_454 = "454"
    HANG_UP = "hang up"
    BAD_CHALLENGE = "bad challenge"
    WRONG_SIGNATURE = "wrong signature"


def usable(
    credentials: str, offered: str, policy: Policy, security: Security
) -> Iterator[tuple[str, Kind]]:
    """The mechanisms that may be used, the best first: the oracle."""
    if security is Security.OPPORTUNISTIC:
        return  # in clear text, who took STARTTLS off the wire would get the login
    secure = security is Security.IMPLICIT
    leave = policy.allow_cleartext
    for name, kind in KINDS.items():
        named = policy.allowed is not None and name in policy.allowed
        if (
            name in offered.split()
            and kind.takes == ("token" if credentials == "source" else credentials)
            and (policy.allowed is None or named)
            and (named or not kind.by_name)
            and (secure or leave or not kind.shows)
            and (secure or named or kind.strength is not Strength.WEAK)
            and (secure or not name.endswith("-PLUS"))
            and kind.strength >= policy.minimum
        ):
            yield name, kind


@dataclass(frozen=True)
class Outcome:
    tried: tuple[str, ...]
    logged_in: bool


def expected(
    credentials: str, offered: str, policy: Policy, security: Security, failure: Failure
) -> Outcome:
    names = [name for name, _ in usable(credentials, offered, policy, security)]
    if not names:
        return Outcome((), logged_in=False)
    first = names[0]
    scram = first.startswith("SCRAM")
    match failure:
        case Failure.NONE:
            return Outcome((first,), logged_in=True)
        case Failure.WRONG_SIGNATURE:
            return Outcome((first,), logged_in=not scram)  # the others prove nothing
        case Failure.REPLY_504 | Failure.REPLY_534:
            # It was about the mechanism. But who loses -PLUS on the way is found out.
            hidden = first.endswith("-PLUS") and "SCRAM-SHA-256" in names[1:]
            return Outcome(tuple(names[:2]), logged_in=len(names) > 1 and not hidden)
        case Failure.REPLY_535 if credentials == "source":
            return Outcome((first,), logged_in=False)  # it has no other token
        case _:
            return Outcome((first,), logged_in=False)


# --- A server in memory -----------------------------------------------------------------------


class Untouched:
    """TLS as far as a flow can see, and yet nothing is hidden from the test."""

    info = TLSInfo("TLSv1.3", "X", HOST, True, None, channel_bindings=BINDINGS)
    closed = False

    def handshake(self) -> bool:
        return True

    def receive_data(self, data: Octets) -> bytes:
        return bytes(data)

    def receive_eof(self) -> None:
        pass

    def encrypt(self, data: Octets) -> bytes:
        return bytes(data)

    def data_to_send(self) -> bytes:
        return b""

    def close(self) -> bytes:
        return b""


@cache
def secret(mechanism: str) -> ScramSecret:
    return ScramSecret.from_password(PASSWORD, b"sixteen octets..", mechanism=mechanism)


def known(question: Question) -> Answer:
    """What the application says."""
    match question:
        case CheckPassword(credentials):
            return credentials == Credentials("ann", PASSWORD)
        case CheckToken(credentials):
            return credentials == TokenCredentials("ann", TOKEN)
        case FetchPassword():
            return PASSWORD
        case FetchSecret():
            return secret(question.mechanism)
        case FetchIdentity():
            return "ann"
        case CheckAnonymous():
            return True


Lie = Callable[[bytes], bytes | None]
"""What the server says in place of a challenge; None: 235 at once."""


@dataclass
class Server:
    """`sent`: all that it was sent; `logins`: the mechanisms of the AUTH commands, in order."""

    offered: str
    failure: Failure = Failure.NONE
    lie: Lie | None = None
    bindings: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    sent: bytes = b""
    logins: list[str] = field(default_factory=list[str])
    _unread: bytes = b""
    _said: bytes = b"220 mail.test\r\n"
    _mechanism: ServerMechanism | None = None

    def write(self, data: bytes) -> None:
        self.sent += data
        self._unread += data
        while b"\r\n" in self._unread:
            line, _, self._unread = self._unread.partition(b"\r\n")
            self._said += self._answer(line)

    def read(self) -> bytes:
        said, self._said = self._said, b""
        return said

    def _answer(self, line: bytes) -> bytes:
        verb, _, rest = line.partition(b" ")
        if self._mechanism is not None:
            return self._go_on(line)
        if verb == b"EHLO":
            auth = f"250 AUTH {self.offered}".strip() if self.offered else "250 HELP"
            return f"250-mail.test\r\n{auth}\r\n".encode()
        if verb == b"AUTH":
            name, _, initial = rest.partition(b" ")
            return self._begin(name.decode(), initial or None)
        assert verb == b"QUIT", line
        return b"221 bye\r\n"

    def _begin(self, name: str, initial: bytes | None) -> bytes:
        self.logins.append(name)
        if len(self.logins) == 1 and self.failure is not Failure.NONE:
            match self.failure:
                case Failure.HANG_UP:
                    return b""
                case Failure.BAD_CHALLENGE:
                    self._mechanism = Cancelled()
                    return b"334 *** this is no base64 ***\r\n"
                case Failure.WRONG_SIGNATURE:
                    self.lie = forged
                case code:
                    return f"{code.value} 5.7.0 no\r\n".encode()
        context = ServerContext(
            HOST,
            lambda: b"sixteen octets..",
            channel_bindings=self.bindings,
            offered=frozenset(self.offered.split()),
        )
        self._mechanism = SERVER_MECHANISMS[name](context)
        decoded = None if initial is None else b64decode(b"" if initial == b"=" else initial)
        return self._follow(self._mechanism.start(decoded))

    def _go_on(self, line: bytes) -> bytes:
        assert self._mechanism is not None
        if line == b"*":
            self._mechanism = None
            return b"501 5.7.0 cancelled\r\n"
        return self._follow(self._mechanism.respond(b64decode(line)))

    def _follow(self, step: Step) -> bytes:
        assert self._mechanism is not None
        while True:
            match step:
                case Challenge(data):
                    said = data if self.lie is None else self.lie(data)
                    if said is not None:
                        return b"334 " + b64encode(said) + b"\r\n"
                    step = Accepted("ann", "ann")
                case Accepted():
                    self._mechanism = None
                    return b"235 2.7.0 welcome\r\n"
                case Rejected(malformed=malformed):
                    self._mechanism = None
                    return b"501 5.7.0 what?\r\n" if malformed else b"535 5.7.8 no\r\n"
                case question:
                    step = self._mechanism.answer(known(question))


class Cancelled:
    """Takes the place of a mechanism after nonsense: all that may come is "*"."""

    name: ClassVar[str] = "CANCELLED"
    reveals_password: ClassVar[bool] = False

    def start(self, initial_response: bytes | None) -> Step:
        raise AssertionError

    def respond(self, response: bytes) -> Step:
        raise AssertionError(f"the client goes on after nonsense: {response!r}")

    def answer(self, value: Answer) -> Step:
        raise AssertionError


def forged(challenge: bytes) -> bytes:
    """The server's signature, wrong in one bit."""
    if not challenge.startswith(b"v="):
        return challenge
    signature = bytearray(b64decode(challenge[2:]))
    signature[0] ^= 1
    return b"v=" + b64encode(signature)


def open_session(
    server: Server, security: Security, credentials: AnyCredentials, policy: Policy
) -> Session:
    """Open a session in memory. Raises what comes of it."""
    settings = OpenSettings(
        host=HOST,
        port=587,
        security=security,
        tls=lambda _: Untouched(),
        credentials=credentials,
        policy=policy,
        nonce=lambda: b"another sixteen.",
        local_hostname="client.test",
    )
    if security is Security.IMPLICIT:
        server.bindings = BINDINGS
    flow = OpenSession(settings)
    while True:
        action: Action | Done[Session] = flow.next_action()
        match action:
            case Done(session):
                return session
            case Connect():
                flow.connected("192.0.2.7")
            case Send(data):
                server.write(bytes(data))
            case Receive():
                flow.receive_data(server.read())
            case Ask(_, function, arguments):
                flow.answer(function(*arguments))
            case _:
                raise AssertionError(action)


# --- The table --------------------------------------------------------------------------------

SECURITIES = (Security.NONE, Security.OPPORTUNISTIC, Security.IMPLICIT)
SECRET_OCTETS = [form.encode() for each in (PASSWORD, TOKEN) for form in forms(each)]


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize("failure", Failure, ids=lambda failure: failure.name)
@pytest.mark.parametrize("security", SECURITIES, ids=lambda security: security.value)
def test_every_cell(security: Security, failure: Failure, credentials: str) -> None:
    for offered, (name, policy) in product(OFFERS, POLICIES.items()):
        cell = f"{offered!r}, policy {name}"
        server = Server(offered, failure)
        outcome = expected(credentials, offered, policy, security, failure)
        leave = policy.allow_cleartext and security is Security.NONE
        result = attempt(server, security, CREDENTIALS[credentials](), policy)
        if isinstance(result, AuthenticationError):
            assert not outcome.logged_in, f"{cell}: {result}"
            assert result.tried == outcome.tried, cell
            if security is not Security.OPPORTUNISTIC:
                explain(result, offered, outcome, cell)
            assert not found_in(texts_of(result)), cell
        else:
            assert outcome.logged_in, cell
            assert result.login is not None
            assert result.login.tried == outcome.tried, cell
            assert result.authenticated
            assert not found_in([repr(result), repr(result.login), repr(result.settings)])
        assert server.logins == list(outcome.tried), cell
        if security is not Security.IMPLICIT and not leave:
            assert not [form for form in SECRET_OCTETS if form in server.sent], cell


def attempt(
    server: Server, security: Security, credentials: AnyCredentials, policy: Policy
) -> Session | AuthenticationError:
    try:
        return open_session(server, security, credentials, policy)
    except AuthenticationError as error:
        return error


def explain(error: AuthenticationError, offered: str, outcome: Outcome, cell: str) -> None:
    """The error says what there was, and why each mechanism that was not used was not."""
    if not offered:
        assert "offers no AUTH" in str(error)
        return
    assert error.offered == tuple(offered.split())
    reasons = dict(error.passed_over)
    for name in offered.split():
        assert reasons.get(name) or name in outcome.tried, cell


def test_the_table_has_each_mechanism_that_a_server_has() -> None:
    names = {name for name in SERVER_MECHANISMS if not re.match("SCRAM-SHA-(1|384|512)", name)}
    assert names - {"SCRAM-SHA-224", "SCRAM-SHA-224-PLUS"} == set(KINDS)
    assert set(OFFERS[-1].split()) == set(KINDS)


def test_a_source_with_another_token_is_asked_once_more() -> None:
    """After 535, and only then, and with the same mechanism."""
    tokens = iter([TOKEN, TOKEN + "2"])
    source = TokenSource("ann", lambda: next(tokens))
    server = Server("XOAUTH2 OAUTHBEARER", Failure.REPLY_535)
    with pytest.raises(AuthenticationError) as caught:
        open_session(server, Security.IMPLICIT, source, Policy())
    assert caught.value.tried == ("OAUTHBEARER", "OAUTHBEARER")


# --- A server that lies in SCRAM --------------------------------------------------------------


def replaced(pattern: bytes, by: bytes) -> Lie:
    return lambda challenge: re.sub(pattern, by, challenge)


def only_final(by: bytes) -> Lie:
    return lambda challenge: by if challenge.startswith(b"v=") else challenge


LIES: dict[str, tuple[Lie, str]] = {
    "another nonce": (replaced(rb"^r=.", b"r=!"), "somebody else's nonce"),
    "no nonce of its own": (
        lambda challenge: re.sub(
            rb"^r=([^,]+),", b"r=" + b64encode(b"another sixteen.") + b",", challenge
        ),
        "adds nothing to the client's nonce",
    ),
    "few iterations": (replaced(rb"i=\d+", b"i=4095"), "wants 4095 iterations"),
    "one iteration": (replaced(rb"i=\d+", b"i=1"), "wants 1 iterations"),
    "absurd iterations": (replaced(rb"i=\d+", b"i=2000000000"), "wants 2000000000 iterations"),
    "iterations that are no number": (replaced(rb"i=\d+", b"i=-1"), "not a positive number"),
    "a salt that is none": (replaced(rb"s=[^,]+", b"s=***"), "the salt is not base64"),
    "an extension": (replaced(rb"^r=", b"m=x,r="), "an extension"),
    "nothing": (lambda _: b"", "this is no attribute of SCRAM"),
    "an error": (lambda _: b"e=other-error\x1b[2J", r"the server gives up: other-error\x1b[2J"),
    "a wrong signature": (forged, "the server's signature is wrong"),
    "an empty signature": (only_final(b"v="), "no attribute of SCRAM"),
    "a short signature": (only_final(b"v=AAAA"), "the server's signature is wrong"),
    "no signature": (only_final(b""), "no attribute of SCRAM"),
    "success at once": (lambda _: None, "before it has proven itself"),
    "success without a signature": (
        lambda challenge: None if challenge.startswith(b"v=") else challenge,
        "before it has proven itself",
    ),
}


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_found_out(lie: str, mechanism: str) -> None:
    told, why = LIES[lie]
    server = Server(f"{mechanism} PLAIN", lie=told)
    with pytest.raises(AuthenticationError) as caught:
        open_session(server, Security.IMPLICIT, Credentials("ann", PASSWORD), Policy())
    assert why in str(caught.value)
    assert mechanism in str(caught.value)
    assert str(caught.value).isprintable()
    # Nothing weaker gets the password now.
    assert server.logins == [mechanism]
    assert not [form for form in SECRET_OCTETS if form in server.sent]
    assert not found_in(told_by(caught.value))


@pytest.mark.parametrize("plain_too", [False, True])
def test_who_hides_plus_from_the_client_is_found_out(plain_too: bool) -> None:
    """The client says that it could bind, and the server that it had offered to."""
    offered = "SCRAM-SHA-256" + " PLAIN" * plain_too

    class Hidden(Server):
        def _answer(self, line: bytes) -> bytes:
            if line.startswith(b"EHLO"):
                return f"250-mail.test\r\n250 AUTH {offered}\r\n".encode()
            return super()._answer(line)

    server = Hidden("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN")
    with pytest.raises(AuthenticationError, match="535"):
        open_session(server, Security.IMPLICIT, Credentials("ann", PASSWORD), Policy())
    assert server.logins == ["SCRAM-SHA-256"]
