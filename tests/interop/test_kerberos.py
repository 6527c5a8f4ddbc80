"""GSSAPI and GSS-SPNEGO with real tickets, in a realm of their own: both sides of a login.

Knows what a ticket is good for, and how a server without GSSAPI is given one. Must not know how a
realm is set up, nor what is in a token.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar, TypeVar

import pytest
import spnego
from hypothesis import given
from hypothesis import strategies as st

import smtp_adapters.spnego
from smtp_adapters.spnego import GSS_SPNEGO, GSSAPI
from smtp_adapters.tls import ClientTLS, server_context
from smtp_proto.flow import (
    AuthenticationError,
    CredentialReport,
    Envelope,
    Handler,
    Security,
    ServerSession,
    serve,
    serve_settings,
)
from smtp_proto.sasl import (
    SERVER_MECHANISMS,
    AnyCredentials,
    Challenge,
    ClientContext,
    Credentials,
    KerberosCredentials,
    Mechanism,
    Policy,
    Rejected,
    SASLError,
    ServerContext,
    choose,
)
from smtp_proto.sasl.mechanism import OUT_OF_ORDER, Answer, Step, authorize
from tests.adapters import worlds
from tests.adapters.spnego_server import SpnegoServer
from tests.adapters.worlds import Client, World
from tests.interop.clients import CLIENTS, ClientFailed, Errand
from tests.interop.gsasl import gsasl
from tests.interop.peers import (
    HOST,
    HOSTNAME,
    OTHER_HOST,
    PASSWORD,
    REALM,
    USER,
    Mode,
    PeerMissing,
    Realm,
    Server,
    ServerCertificate,
    address,
    dovecot_submission,
    kerberos,
    need,
)

pytestmark = pytest.mark.interop

PRINCIPAL = f"{USER}@{REALM}"
CONTEXT = ClientContext(hostname=HOSTNAME)
ALICE = Credentials(USER, PASSWORD)
LOGINS: Mapping[str, AnyCredentials] = {"tickets": KerberosCredentials(), "password": ALICE}
TICKETS = {"tickets": "good", "password": "no"}
NO_LAYER = b"\x01\0\0\0"
CONTENT = b"From: alice@mail.test\r\nSubject: hello\r\n\r\nGood morning.\r\n"
PATIENCE = 60.0

T = TypeVar("T")


def start(peer: AbstractContextManager[T], stack: ExitStack) -> T:
    """Start a peer. Skips the test if it is not installed."""
    try:
        return stack.enter_context(peer)
    except PeerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    """The realm that this process is in: at first without tickets."""
    with ExitStack() as stack:
        realm = start(kerberos(), stack)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in realm.environment.items():
            patch.setenv(name, value)
        yield realm


@pytest.fixture(scope="module")
def places(realm: Realm) -> Mapping[str, str]:
    """Where there are tickets of which kind."""
    return {
        "good": realm.tickets(),
        "expired": realm.expired_tickets(),
        "no": realm.no_tickets,
    }


@pytest.fixture
def use_tickets(
    places: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Have this process, and those that it starts, use the tickets of one kind."""
    return lambda kind: monkeypatch.setenv("KRB5CCNAME", places[kind])


# --- Both sides of the mechanisms, without a connection ------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "protocol", "offer"),
    [
        (GSSAPI, "kerberos", NO_LAYER),
        (GSS_SPNEGO, "negotiate", NO_LAYER),
        (GSS_SPNEGO, "negotiate", None),
    ],
)
@pytest.mark.parametrize(
    "credentials", [KerberosCredentials(), ALICE, Credentials(PRINCIPAL, PASSWORD)]
)
def test_both_sides(
    use_tickets: Callable[[str], None],
    mechanism: Mechanism,
    protocol: str,
    offer: bytes | None,
    credentials: AnyCredentials,
) -> None:
    """What the tokens could be bound to makes no difference to a server that has nothing."""
    use_tickets("good" if isinstance(credentials, KerberosCredentials) else "no")
    context = replace(CONTEXT, channel_bindings={"tls-server-end-point": b"\x02" * 32})
    server = SpnegoServer(protocol, offer, hostname=HOSTNAME)
    assert server.run(mechanism.client(credentials, context)) == PRINCIPAL
    assert spnego.ContextReq.mutual_auth in server.granted
    assert (spnego.ContextReq.integrity in server.granted) is (mechanism is GSSAPI)


def test_for_somebody_else(use_tickets: Callable[[str], None]) -> None:
    use_tickets("good")
    server = SpnegoServer("kerberos", NO_LAYER, hostname=HOSTNAME)
    server.run(GSSAPI.client(KerberosCredentials("ursel"), CONTEXT))
    assert server.acts_as == "ursel"


@pytest.mark.parametrize(
    ("tickets", "credentials", "hostname", "why"),
    [
        ("good", KerberosCredentials(), "other.mail.test", "not found in Kerberos database"),
        ("expired", KerberosCredentials(), HOSTNAME, "Ticket expired"),
        ("no", KerberosCredentials(), HOSTNAME, "No Kerberos credentials available"),
        ("no", Credentials(USER, "canary-7c1"), HOSTNAME, "Decrypt integrity check failed"),
        ("no", Credentials("nobody", "canary-7c1"), HOSTNAME, "not found in Kerberos database"),
    ],
)
def test_what_kerberos_refuses(
    use_tickets: Callable[[str], None],
    tickets: str,
    credentials: AnyCredentials,
    hostname: str,
    why: str,
) -> None:
    use_tickets(tickets)
    choice = choose(
        Policy(frozenset({"GSSAPI"})),
        ("GSSAPI",),
        credentials,
        True,
        context=ClientContext(hostname=hostname),
        mechanisms=smtp_adapters.spnego.MECHANISMS,
    )
    assert choice.mechanism is None
    ((_, told),) = choice.passed_over
    assert why in told
    assert told.isprintable()
    assert "canary" not in told


def test_whatever_a_server_says(use_tickets: Callable[[str], None]) -> None:
    use_tickets("good")

    @given(challenges=st.lists(st.binary(max_size=200), max_size=4))
    def whatever(challenges: list[bytes]) -> None:
        client = GSSAPI.client(KerberosCredentials(), CONTEXT)
        with suppress(SASLError):
            for challenge in challenges:
                client.respond(challenge)
        with pytest.raises(SASLError, match="before it has proven itself"):
            client.finish()

    whatever()


# --- Our clients, and a server of others ---------------------------------------------------------


@pytest.fixture(scope="module")
def dovecot(realm: Realm, server_certificate: ServerCertificate) -> Iterator[Server]:
    with ExitStack() as stack:
        yield start(dovecot_submission(server_certificate, realm), stack)


@pytest.fixture
def log(dovecot: Server) -> Iterator[Callable[[], str]]:
    """What the server has to say of this test; if it fails, that is shown."""
    before = len(dovecot.log())
    yield lambda: dovecot.log()[before:]
    print(dovecot.log()[before:])  # noqa: T201


def client_for(
    world: World,
    port: int,
    certificate: ServerCertificate,
    mechanism: str,
    credentials: AnyCredentials,
    host: str = HOST,
) -> Client:
    make: Callable[..., Client] = world.client
    return make(
        host,
        port,
        security=Security.STARTTLS,
        tls=ClientTLS(ca_file=certificate.ca, server_hostname=HOSTNAME),
        auth=credentials,
        mechanisms=[mechanism],
        own_mechanisms=smtp_adapters.spnego.MECHANISMS,
        timeouts=PATIENCE,
    )


def refusal(report: CredentialReport) -> AuthenticationError:
    """The error of a login that has failed, and that kept its secrets."""
    assert not report
    assert isinstance(report.error, AuthenticationError)
    assert "canary" not in str(report.error)
    return report.error


BOTH = pytest.mark.parametrize("mechanism", ["GSSAPI", "GSS-SPNEGO"])


@BOTH
@pytest.mark.parametrize("login", LOGINS)
async def test_a_message_to_dovecot(
    world: World,
    dovecot: Server,
    log: Callable[[], str],
    server_certificate: ServerCertificate,
    use_tickets: Callable[[str], None],
    mechanism: str,
    login: str,
) -> None:
    use_tickets(TICKETS[login])
    recipient = address("kerberos")
    client = client_for(
        world, dovecot.ports[Mode.STARTTLS], server_certificate, mechanism, LOGINS[login]
    )
    async with client:
        result = await client.send(Envelope.of(f"{USER}@mail.test", [recipient]), CONTENT)
    assert list(result.accepted) == [recipient]
    assert dovecot.delivery(recipient).content.endswith(CONTENT)
    assert f"user=<{USER}>, method={mechanism}" in log()


@BOTH
@pytest.mark.parametrize(
    ("tickets", "credentials", "host", "why"),
    [
        ("no", KerberosCredentials(), HOST, "credential"),
        ("expired", KerberosCredentials(), HOST, "Ticket expired"),
        ("good", KerberosCredentials(), OTHER_HOST, "535 5.7.8"),
    ],
    ids=["no ticket", "an expired ticket", "a ticket for a key that the server does not have"],
)
@pytest.mark.usefixtures("log")
async def test_tickets_that_are_not_good_enough_for_dovecot(
    world: World,
    dovecot: Server,
    server_certificate: ServerCertificate,
    use_tickets: Callable[[str], None],
    mechanism: str,
    tickets: str,
    credentials: AnyCredentials,
    host: str,
    why: str,
) -> None:
    use_tickets(tickets)
    port = dovecot.ports[Mode.STARTTLS]
    client = client_for(world, port, server_certificate, mechanism, credentials, host)
    report = await client.check_credentials()
    error = refusal(report)
    assert why in str(error)
    # Without a ticket nothing is tried.
    assert error.tried == ((mechanism,) if tickets == "good" else ())


@pytest.mark.parametrize(
    ("tickets", "credentials", "why"),
    [
        ("no", Credentials(USER, "canary-7c1"), "Decrypt integrity check failed"),
        ("no", Credentials("nobody", "canary-7c1"), "not found in Kerberos database"),
        ("good", KerberosCredentials("bob"), "535 5.7.8"),
    ],
    ids=["a wrong password", "nobody", "for somebody else"],
)
@pytest.mark.usefixtures("log")
async def test_others_are_not_let_in_by_dovecot(
    world: World,
    dovecot: Server,
    server_certificate: ServerCertificate,
    use_tickets: Callable[[str], None],
    tickets: str,
    credentials: AnyCredentials,
    why: str,
) -> None:
    use_tickets(tickets)
    port = dovecot.ports[Mode.STARTTLS]
    client = client_for(world, port, server_certificate, "GSSAPI", credentials)
    assert why in str(refusal(await client.check_credentials()))


# --- Our servers ---------------------------------------------------------------------------------


class GSSAPIServer:
    """The server's side, which is not part of the project. Asks nothing: tickets say it all."""

    name: ClassVar[str] = "GSSAPI"
    reveals_password: ClassVar[bool] = False

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._security = spnego.server(service=context.service, protocol="kerberos")
        self._offered = False

    def start(self, initial_response: bytes | None) -> Step:
        return Challenge(b"") if initial_response is None else self.respond(initial_response)

    def respond(self, response: bytes) -> Step:
        try:
            return self._follow(response)
        except Exception as error:  # noqa: BLE001 - pyspnego raises anything for a token of others
            return Rejected(str(error))

    def _follow(self, response: bytes) -> Step:
        # RFC 4752 3.2
        if self._offered:
            choice = self._security.unwrap(response).data
            assert choice[:1] == NO_LAYER[:1]
            assert self._security.client_principal is not None
            return authorize(
                self._context,
                self._security.client_principal.removesuffix(f"@{REALM}"),
                choice[4:].decode(),
            )
        if not self._security.complete:
            token = self._security.step(response)
            if token:
                return Challenge(token)
        self._offered = True
        return Challenge(self._security.wrap(NO_LAYER, encrypt=False).data)

    def answer(self, value: Answer) -> Step:
        return OUT_OF_ORDER


class Inbox(Handler):
    """Takes mail, and remembers from whom."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[str | None, bytes]] = []
        self.identities: list[str | None] = []

    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        self.arrivals.append((session.authenticated_as, content))

    def on_disconnect(self, session: ServerSession) -> None:
        self.identities.append(session.authenticated_as)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def our_server(
    world: World,
    inbox: Inbox,
    server_certificate: ServerCertificate,
    monkeypatch: pytest.MonkeyPatch,
) -> worlds.Server:
    """A server that has nothing but GSSAPI for who wants to log in."""
    known = {**SERVER_MECHANISMS, GSSAPIServer.name: GSSAPIServer}
    for module in (serve, serve_settings):
        monkeypatch.setattr(module, "SERVER_MECHANISMS", known)
    make: Callable[..., worlds.Server] = world.server
    return make(
        inbox,
        security=Security.STARTTLS,
        tls=server_context(server_certificate.chain, server_certificate.key),
        hostname=HOSTNAME,
        mechanisms=[GSSAPIServer.name],
        require_auth=True,
        timeouts=PATIENCE,
    )


@pytest.mark.parametrize("login", LOGINS)
async def test_our_client_and_our_server(
    world: World,
    our_server: worlds.Server,
    inbox: Inbox,
    server_certificate: ServerCertificate,
    use_tickets: Callable[[str], None],
    login: str,
) -> None:
    use_tickets(TICKETS[login])
    async with our_server as server:
        client = client_for(world, server.port, server_certificate, "GSSAPI", LOGINS[login])
        async with client:
            await client.send(Envelope.of(f"{USER}@mail.test", ["one@mail.test"]), CONTENT)
    assert inbox.arrivals == [(USER, CONTENT)]


@pytest.mark.parametrize(
    ("tickets", "credentials", "host", "why"),
    [
        ("no", KerberosCredentials(), HOST, "No Kerberos credentials available"),
        ("expired", KerberosCredentials(), HOST, "Ticket expired"),
        ("good", KerberosCredentials(), OTHER_HOST, "535 5.7.8"),
        ("good", KerberosCredentials("bob"), HOST, "535 5.7.8"),
    ],
    ids=["no ticket", "an expired ticket", "a ticket for another key", "for somebody else"],
)
async def test_our_server_does_not_let_everybody_in(
    world: World,
    our_server: worlds.Server,
    inbox: Inbox,
    server_certificate: ServerCertificate,
    use_tickets: Callable[[str], None],
    tickets: str,
    credentials: AnyCredentials,
    host: str,
    why: str,
) -> None:
    use_tickets(tickets)
    async with our_server as server:
        client = client_for(world, server.port, server_certificate, "GSSAPI", credentials, host)
        assert why in str(refusal(await client.check_credentials()))
    assert inbox.identities == [None]


def skip_without(program: str) -> None:
    try:
        need(program)
    except PeerMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("client", ["curl", "msmtp"])
async def test_clients_of_others_deliver(
    world: World,
    our_server: worlds.Server,
    inbox: Inbox,
    server_certificate: ServerCertificate,
    use_tickets: Callable[[str], None],
    client: str,
) -> None:
    skip_without(client)
    async with our_server as server:
        deliver = partial(
            CLIENTS[client],
            Errand(
                server.port,
                f"{USER}@mail.test",
                ["one@mail.test"],
                CONTENT,
                security="starttls",
                ca=server_certificate.ca,
                mechanism="GSSAPI",
            ),
        )
        use_tickets("no")
        with pytest.raises(ClientFailed):
            await world.in_thread(deliver)
        assert inbox.arrivals == []
        use_tickets("good")
        await world.in_thread(deliver)
    assert inbox.arrivals == [(USER, CONTENT)]


async def test_gsasl_logs_in(
    world: World,
    our_server: worlds.Server,
    inbox: Inbox,
    server_certificate: ServerCertificate,
    use_tickets: Callable[[str], None],
) -> None:
    skip_without("gsasl")
    async with our_server as server:
        log_in = partial(gsasl, server.port, server_certificate, "GSSAPI", PASSWORD)
        for tickets in ("no", "good"):
            use_tickets(tickets)
            said = await world.in_thread(log_in)
            assert ("\n235 " in str(said)) is (tickets == "good"), said
    assert inbox.identities == [None, USER]
