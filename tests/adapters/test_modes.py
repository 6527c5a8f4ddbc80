"""Each security mode against each kind of server, and what went over the wire in clear.

Knows what must come of it: one word for each pair, in a table. Must not know how it comes about.

The servers listen on loopback and write down every octet that they hear in clear; whatever the
outcome, no password and no message may be among them without leave.
"""

from __future__ import annotations

import functools
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from math import inf
from time import monotonic
from typing import TypeAlias, TypeVar

import pytest
import trustme

from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import (
    AuthenticationError,
    CapabilityMissing,
    CertificateError,
    CloseSession,
    Connect,
    Done,
    Envelope,
    Flow,
    OpenSession,
    OpenSettings,
    PermanentError,
    Phase,
    ProtocolViolation,
    Receive,
    Security,
    Send,
    SendMail,
    Session,
    SMTPError,
    SMTPTimeout,
    Timeouts,
    Timer,
    TLSError,
    authenticate,
    start_tls,
)
from smtp_proto.sasl import Credentials
from tests.adapters.canaries import PASSWORD
from tests.adapters.worlds import WORLDS, World

T = TypeVar("T")

HOST = "mail.test"
PATIENCE = 20.0  # seconds until a test that hangs has failed
PROBE = 0.02  # seconds of silence
SOON = 0.06  # seconds until who was to be slow speaks
SHORT = Timeouts(greeting_probe=PROBE, tls=0.04, greeting=0.04)
LONG = Timeouts(greeting_probe=PATIENCE, tls=PATIENCE, greeting=PATIENCE)

MESSAGE = b"Subject: x\r\n\r\ncanary-of-the-message-94c\r\n"
ENVELOPE = Envelope.of("alice@example.org", ["bob@example.net"])
SECRETS = (
    PASSWORD.encode(),
    b64encode(PASSWORD.encode()),
    b64encode(f"\0alice\0{PASSWORD}".encode()),
    b"AUTH ",
)


# --- The table -----------------------------------------------------------------------------------


class Outcome(Enum):
    """What became of opening a session, and of a message and a login in it."""

    ENCRYPTED = "E"
    """All went under TLS."""
    CLEAR = "C"
    """All went in clear, but no login."""
    TLS = "T"
    """TLSError."""
    CERTIFICATE = "X"
    """CertificateError."""
    AUTHENTICATION = "A"
    """AuthenticationError."""
    MISSING = "M"
    """CapabilityMissing."""
    VIOLATION = "V"
    """ProtocolViolation."""
    REFUSED = "5"
    """PermanentError."""
    TIMEOUT = "0"
    """SMTPTimeout."""


ERRORS: dict[type[SMTPError], Outcome] = {
    TLSError: Outcome.TLS,
    CertificateError: Outcome.CERTIFICATE,
    AuthenticationError: Outcome.AUTHENTICATION,
    CapabilityMissing: Outcome.MISSING,
    ProtocolViolation: Outcome.VIOLATION,
    PermanentError: Outcome.REFUSED,
    SMTPTimeout: Outcome.TIMEOUT,
}


@dataclass(frozen=True)
class Mode:
    """How a session is opened. `by_hand`: TLS and the login are asked for once it is open."""

    security: Security
    allow_cleartext: bool = False
    by_hand: bool = False


MODES = (
    Mode(Security.NONE),
    Mode(Security.IMPLICIT),
    Mode(Security.STARTTLS),
    Mode(Security.OPPORTUNISTIC),
    Mode(Security.AUTO),
    Mode(Security.AUTO, allow_cleartext=True),
    Mode(Security.MANUAL),
    Mode(Security.MANUAL, by_hand=True),
)

# The columns are the modes, in their order. On the left without credentials, on the right with.
TABLE = """
                          N I S O A a M h   N I S O A a M h
clear, or stripped        C T T C T C C M   A T T A T A C M
STARTTLS                  C T E E E E C E   A T E E E E C E
implicit                  0 E 0 0 E E 0 0   0 E 0 0 E E 0 0
STARTTLS: 454             C T T T T T C T   A T T T T T C T
STARTTLS: 502             C T T T T T C T   A T T T T T C T
STARTTLS: injected        C T V V V V C V   A T V V V V C V
STARTTLS: unknown CA      C T X X X X C X   A T X X X X C X
STARTTLS: another name    C T X X X X C X   A T X X X X C X
STARTTLS: expired         C T X X X X C X   A T X X X X C X
implicit: unknown CA      0 X 0 0 X X 0 0   0 X 0 0 X X 0 0
implicit: another name    0 X 0 0 X X 0 0   0 X 0 0 X X 0 0
implicit: expired         0 X 0 0 X X 0 0   0 X 0 0 X X 0 0
silent                    0 0 0 0 0 0 0 0   0 0 0 0 0 0 0 0
slow, STARTTLS            C T E E E E C E   A T E E E E C E
slow, clear               C T T C T C C M   A T T A T A C M
HTTP                      V T V V T T V V   V T V V T T V V
554                       5 T 5 5 5 5 5 5   5 T 5 5 5 5 5 5
"""

WITH_LEAVE = {
    Mode(Security.NONE),
    Mode(Security.OPPORTUNISTIC),
    Mode(Security.AUTO, allow_cleartext=True),
    Mode(Security.MANUAL),
}
"""Those in which a message may go in clear, where that is all there is."""


@dataclass(frozen=True)
class Cell:
    kind: str
    mode: Mode
    login: bool
    outcome: Outcome

    def __str__(self) -> str:
        words = [self.kind, self.mode.security.value]
        words += ["allow_cleartext"] * self.mode.allow_cleartext + ["by hand"] * self.mode.by_hand
        return ", ".join(words + ["login"] * self.login)


def read_table() -> Iterator[Cell]:
    for line in TABLE.strip("\n").splitlines()[1:]:
        kind, letters = line[:25].strip(), line[25:].split()
        for number, letter in enumerate(letters):
            login, mode = divmod(number, len(MODES))
            yield Cell(kind, MODES[mode], bool(login), Outcome(letter))


CELLS = tuple(read_table())


# --- The servers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manner:
    """How a server behaves."""

    implicit: bool = False
    offers_starttls: bool = False
    go_ahead: bytes = b"220 2.0.0 Go ahead\r\n"
    certificate: str = "good"
    first: bytes = b"220 mail.test ESMTP\r\n"
    slow: bool = False
    silent: bool = False


OFFERS = Manner(offers_starttls=True)
KINDS = {
    "clear, or stripped": Manner(),
    "STARTTLS": OFFERS,
    "implicit": Manner(implicit=True),
    "STARTTLS: 454": replace(OFFERS, go_ahead=b"454 4.7.0 not now\r\n"),
    "STARTTLS: 502": replace(OFFERS, go_ahead=b"502 5.5.1 what?\r\n"),
    "STARTTLS: injected": replace(
        OFFERS, go_ahead=b"220 2.0.0 Go ahead\r\n250-mail.test\r\n250 AUTH PLAIN\r\n"
    ),
    "silent": Manner(silent=True),
    "slow, STARTTLS": replace(OFFERS, slow=True),
    "slow, clear": Manner(slow=True),
    "HTTP": Manner(first=b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"),
    "554": Manner(first=b"554 5.3.2 no mail here\r\n"),
    **{
        f"{way}: {bad}": replace(manner, certificate=bad)
        for way, manner in (("STARTTLS", OFFERS), ("implicit", Manner(implicit=True)))
        for bad in ("unknown CA", "another name", "expired")
    },
}

Contexts: TypeAlias = dict[str, ssl.SSLContext]


class Peer:
    """One connection, on the server's side.

    `clear`: every octet that came before TLS; `secret`: what came under it.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.connection = connection
        self.clear = b""
        self.secret = b""
        self.encrypted = False
        self._received = b""

    def say(self, octets: bytes) -> None:
        self.connection.sendall(octets)

    def hear(self) -> bytes:
        """Some octets; b"" at the end."""
        octets = self.connection.recv(65_536)
        if self.encrypted:
            self.secret += octets
        else:
            self.clear += octets
        self._received += octets
        return octets

    def hear_line(self) -> bytes:
        """One line without its end; b"" at the end."""
        while b"\r\n" not in self._received:
            if not self.hear():
                return b""
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def hear_soon(self) -> bool:
        """Wait for the client to speak first, but not for long. Returns whether it did."""
        self.connection.settimeout(SOON)
        try:
            return bool(self.hear())
        except TimeoutError:
            return False
        finally:
            self.connection.settimeout(PATIENCE)

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._received = b""
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.encrypted = True


class Loopback:
    """A server for as many connections as come, one after the other.

    A connection is served once the one before it has come to its end.
    """

    def __init__(self, serve: Callable[[Peer], None]) -> None:
        self.peers: list[Peer] = []
        self.failures: list[Exception] = []
        self._serve = serve
        self._threads: list[threading.Thread] = []

    @contextmanager
    def listening(self) -> Generator[int, None, None]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            accepting = threading.Thread(target=self._accept, args=(listener,))
            accepting.start()
            try:
                yield listener.getsockname()[1]
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                accepting.join()
                for thread in self._threads:
                    thread.join()
        assert not self.failures

    def _accept(self, listener: socket.socket) -> None:
        before: threading.Thread | None = None
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            peer = Peer(connection)
            self.peers.append(peer)
            before = threading.Thread(target=self._converse, args=(peer, before))
            self._threads.append(before)
            before.start()

    def _converse(self, peer: Peer, before: threading.Thread | None) -> None:
        try:
            if before is not None:
                before.join(PATIENCE)
                assert not before.is_alive(), "the stream before has not been closed"
            self._serve(peer)
        except OSError:
            pass  # the client has had enough
        except Exception as error:  # noqa: BLE001 - the test has to hear of it
            self.failures.append(error)
        finally:
            peer.connection.close()


def serve(peer: Peer, manner: Manner, contexts: Contexts) -> None:
    if manner.silent:
        while peer.hear():
            pass
        return
    if manner.implicit:
        peer.start_tls(contexts[manner.certificate])
    if manner.slow and peer.hear_soon():
        peer.say(manner.first)  # TLS has come into it
        return
    peer.say(manner.first)
    if manner.first[0] != ord("2"):
        peer.hear_line()
        return
    while line := peer.hear_line():
        match line.split()[0].upper():
            case b"EHLO":
                offer = b"250-STARTTLS\r\n" * (manner.offers_starttls and not peer.encrypted)
                peer.say(b"250-mail.test\r\n" + offer + b"250 AUTH PLAIN LOGIN\r\n")
            case b"STARTTLS":
                peer.say(manner.go_ahead)
                if manner.go_ahead.startswith(b"220"):
                    peer.start_tls(contexts[manner.certificate])
            case b"AUTH":
                peer.say(b"235 2.7.0 welcome\r\n")
            case b"DATA":
                peer.say(b"354 go on\r\n")
                while peer.hear_line() != b".":
                    pass
                peer.say(b"250 2.0.0 Ok\r\n")
            case b"QUIT":
                peer.say(b"221 2.0.0 bye\r\n")
                return
            case _:
                peer.say(b"250 2.0.0 Ok\r\n")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def contexts(authority: trustme.CA) -> Contexts:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificates = {
        "good": authority.issue_cert(HOST),
        "unknown CA": trustme.CA().issue_cert(HOST),
        "another name": authority.issue_cert("other.test"),
        "expired": authority.issue_cert(
            HOST, not_before=yesterday - timedelta(days=1), not_after=yesterday
        ),
    }
    contexts: Contexts = {}
    for name, certificate in certificates.items():
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(contexts[name])
    return contexts


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ClientTLS:
    return ClientTLS(ca_data=authority.cert_pem.bytes().decode(), server_hostname=HOST)


# --- The clients ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a client has seen: under TLS or not, logged in or not, and the ways that it went."""

    encrypted: bool
    ways: int


Client: TypeAlias = Callable[[int, Mode, bool, Timeouts, ClientTLS], Seen]
"""Opens a session with the port, sends the message, ends the session. Raises SMTPError."""


def by_world(
    world: World, port: int, mode: Mode, login: bool, timeouts: Timeouts, tls: ClientTLS
) -> Seen:
    """One of the three adapters."""
    seen: list[Seen] = []

    async def main() -> None:
        async with world.client(
            "127.0.0.1",
            port,
            security=mode.security,
            tls=None if mode.security is Security.NONE else tls,
            auth=("alice", PASSWORD) if login else None,
            timeouts=timeouts,
            allow_cleartext=mode.allow_cleartext,
        ) as client:
            if mode.by_hand:
                await client.start_tls()
                if login:
                    await client.authenticate()
            await client.send(ENVELOPE, MESSAGE)
            seen.append(Seen(client.tls is not None, len(client.attempts)))

    world.run(main)
    return seen[0]


class Transport:
    """One's own: a blocking socket, and the loop over a flow's actions."""

    def __init__(self) -> None:
        self.socket = socket.socket()

    def carry_out(self, flow: Flow[T]) -> T:
        end = inf if flow.total is None else monotonic() + flow.total
        timer: Timer | None = None
        deadline = end
        while True:
            action = flow.next_action()
            if isinstance(action, Done):
                return action.result
            if action.timer is not timer:
                timer = action.timer
                deadline = min(end, inf if timer.seconds is None else monotonic() + timer.seconds)
            try:
                seconds = seconds_until(deadline)
                match action:
                    case Connect(host, port):
                        self.socket.close()
                        self.socket = socket.create_connection((host, port), seconds)
                        flow.connected(self.socket.getsockname()[0])
                    case Send(data):
                        self.socket.settimeout(seconds)
                        self.socket.sendall(data)
                    case Receive():
                        self.socket.settimeout(seconds)
                        flow.receive_data(self.socket.recv(65_536))
                    case _:
                        raise AssertionError(action)
            except TimeoutError:
                flow.timed_out(whole=deadline == end)
            except OSError as error:
                flow.failed(error)


def seconds_until(deadline: float) -> float | None:
    if deadline == inf:
        return None
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def by_transport(port: int, mode: Mode, login: bool, timeouts: Timeouts, tls: ClientTLS) -> Seen:
    """Nothing of the adapters but TLS."""
    settings = OpenSettings(
        "127.0.0.1",
        port,
        mode.security,
        tls.factory(),
        server_hostname=HOST,
        allow_cleartext=mode.allow_cleartext,
        credentials=Credentials("alice", PASSWORD) if login else None,
        timeouts=timeouts,
    )
    transport = Transport()
    try:
        session: Session = transport.carry_out(OpenSession(settings))
        if mode.by_hand:
            transport.carry_out(start_tls(session))
            if login:
                transport.carry_out(authenticate(session))
        transport.carry_out(SendMail(session, ENVELOPE, MESSAGE))
        transport.carry_out(CloseSession(session))
        return Seen(session.tls is not None, len(session.attempts))
    finally:
        transport.socket.close()


CLIENTS: dict[str, Client] = {
    **{world.name: functools.partial(by_world, world) for world in WORLDS},
    "one's own": by_transport,
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]


# --- Each cell -----------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    pairs = [(cell.kind, cell.mode, cell.login) for cell in CELLS]
    assert len(pairs) == len(set(pairs)) == len(KINDS) * len(MODES) * 2
    assert {kind for kind, _, _ in pairs} == set(KINDS)


def timeouts_for(cell: Cell) -> Timeouts:
    """Short where nobody will speak; else nothing but the silence of a server may take its time."""
    if cell.outcome is Outcome.TIMEOUT:
        return SHORT
    manner = KINDS[cell.kind]
    return replace(LONG, greeting_probe=PROBE) if manner.implicit or manner.slow else LONG


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_what_happens_and_what_goes_in_clear(
    cell: Cell, client: Client, contexts: Contexts, tls: ClientTLS
) -> None:
    server = Loopback(functools.partial(serve, manner=KINDS[cell.kind], contexts=contexts))
    with server.listening() as port:
        try:
            seen = client(port, cell.mode, cell.login, timeouts_for(cell), tls)
            outcome = Outcome.ENCRYPTED if seen.encrypted else Outcome.CLEAR
            assert bool(seen.ways) is (cell.mode.security is Security.AUTO)
        except SMTPError as error:
            outcome = ERRORS[type(error)]
    assert outcome is cell.outcome
    *others, last = [peer.clear for peer in server.peers]
    if outcome is Outcome.CLEAR:
        assert cell.mode in WITH_LEAVE
        assert MESSAGE in last
    else:
        others.append(last)
    if outcome is Outcome.ENCRYPTED:
        assert MESSAGE in server.peers[-1].secret
        assert (b"AUTH " in server.peers[-1].secret) is cell.login
    assert not any(secret in last for secret in SECRETS)
    for clear in others:
        assert verbs(spoken(clear)) <= {b"EHLO", b"STARTTLS", b"QUIT"}
        assert b"canary" not in clear


def spoken(clear: bytes) -> bytes:
    """What came before the first record of TLS."""
    return clear.partition(b"\x16\x03")[0].partition(b"\x15\x03")[0]


def verbs(said: bytes) -> set[bytes]:
    return {line.split()[0] for line in said.splitlines()}


# --- Time, for once by the real clock ------------------------------------------------------------


def drip(peer: Peer) -> None:
    """Say a greeting that never ends, octet by octet."""
    while True:
        peer.say(b"2")
        peer.connection.settimeout(0.02)
        with suppress(TimeoutError):
            if not peer.connection.recv(1):
                return


def say_nothing(peer: Peer) -> None:
    while peer.hear():
        pass


@pytest.mark.parametrize("peer", [drip, say_nothing])
@pytest.mark.parametrize("security", [Security.STARTTLS, Security.AUTO])
def test_a_greeting_that_does_not_come_to_its_end(
    client: Client, tls: ClientTLS, peer: Callable[[Peer], None], security: Security
) -> None:
    timeouts = Timeouts(greeting_probe=0.2, greeting=0.2, tls=0.2)
    with Loopback(peer).listening() as port, pytest.raises(SMTPTimeout) as caught:
        client(port, Mode(security), False, timeouts, tls)
    error = caught.value
    silent_tls = security is Security.AUTO and peer is say_nothing
    assert error.phase is (Phase.TLS if silent_tls else Phase.GREETING)
    assert error.seconds == 0.2
    assert not error.whole
    assert bool(error.received) is (peer is drip)
