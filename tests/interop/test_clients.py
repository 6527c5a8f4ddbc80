"""Clients of others deliver to our servers of the three worlds.

Knows what a handler gets to see. Must not know how octets travel, nor how a client is told.
"""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from smtp_adapters.cli import demo
from smtp_adapters.tls import server_context
from smtp_proto.flow import Envelope, Handler, Security, ServerSession
from smtp_proto.sasl import Credentials
from smtp_proto.wire import Limits, Rcpt, Reply
from tests.adapters.worlds import Server, World
from tests.interop.clients import CLIENTS, ClientFailed, Errand
from tests.interop.peers import PASSWORD, USER, PeerMissing, ServerCertificate

pytestmark = pytest.mark.interop

SENDER = "sender@mail.test"
RECIPIENTS = ("one@mail.test", "two@mail.test")
UNKNOWN = "nobody@mail.test"
CONTENT = b"Subject: hello\r\n\r\nGood morning.\r\n.\r\n..\r\n"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")
LOGIN = {"mechanisms": MECHANISMS, "require_auth": True}
WITHOUT_SMTPUTF8 = ("swaks", "msmtp")
ALL_OR_NOBODY = ("msmtp",)


@dataclass(frozen=True)
class Arrival:
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    user: str | None
    encrypted: bool


class Inbox(Handler):
    """Has one user, and takes mail for anybody but nobody@."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.errors: list[tuple[str, Exception]] = []

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        password = self.find_password(session, credentials.authentication_identity)
        return credentials.password == password

    def find_password(self, session: ServerSession, authentication_identity: str) -> str | None:
        assert session.helo is not None
        return PASSWORD if authentication_identity == USER else None

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        assert str(session.reverse_path) == SENDER
        refused = str(rcpt.forward_path) == UNKNOWN
        return Reply.build(550, "No such user", status="5.1.1") if refused else None

    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        self.arrivals.append(
            Arrival(
                str(envelope.reverse_path),
                envelope.recipients,
                content,
                session.authenticated_as,
                session.tls is not None,
            )
        )

    def on_error(self, session: ServerSession, error: Exception) -> None:
        self.errors.append((session.peer, error))


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture(scope="session")
def tls(server_certificate: ServerCertificate) -> ssl.SSLContext:
    return server_context(server_certificate.chain, server_certificate.key)


Serve = Callable[..., Server]
Deliver = Callable[..., Awaitable[object]]


@pytest.fixture
def serve(world: World, inbox: Inbox, tls: ssl.SSLContext) -> Serve:
    kind: Callable[..., Server] = world.server

    def make(security: str, **settings: object) -> Server:
        mode = Security(security)
        context = None if mode is Security.NONE else tls
        return kind(inbox, security=mode, tls=context, timeouts=60.0, **settings)

    return make


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def deliver(world: World, client: str, server_certificate: ServerCertificate) -> Deliver:
    """Have the client deliver to a server; skip where the client is not there."""

    async def run(server: Server, **given: object) -> None:
        errand_of: Callable[..., Errand] = Errand
        defaults = {"sender": SENDER, "recipients": RECIPIENTS, "content": CONTENT}
        errand = errand_of(server.port, ca=server_certificate.ca, **{**defaults, **given})
        try:
            await world.in_thread(lambda: CLIENTS[client](errand))
        except PeerMissing as missing:
            pytest.skip(str(missing))

    return run


@pytest.mark.parametrize("security", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("mechanism", [None, *MECHANISMS])
async def test_every_mode_of_security_with_every_mechanism(
    inbox: Inbox, serve: Serve, deliver: Deliver, security: str, mechanism: str | None
) -> None:
    login = {**LOGIN, "allow_cleartext_auth": True} if mechanism else {}
    async with serve(security, **login) as server:
        await deliver(server, security=security, mechanism=mechanism)
    user = USER if mechanism else None
    assert inbox.arrivals == [Arrival(SENDER, RECIPIENTS, CONTENT, user, security != "none")]
    assert inbox.errors == []


async def test_the_messages_of_the_demo_arrive_as_they_were_sent(
    inbox: Inbox, serve: Serve, deliver: Deliver, client: str
) -> None:
    recipients = RECIPIENTS if client in WITHOUT_SMTPUTF8 else ("用户@mail.test", *RECIPIENTS)
    contents = [prepared.content for _, prepared in demo._messages().values()]
    async with serve("starttls", **LOGIN) as server:
        for content in contents:
            await deliver(
                server,
                security="starttls",
                mechanism="PLAIN",
                recipients=recipients,
                content=content,
            )
    for content, arrival in zip(contents, inbox.arrivals, strict=True):
        assert demo._compared(content, arrival.content) == demo._SAME
        assert arrival.recipients == recipients


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password(
    inbox: Inbox, serve: Serve, deliver: Deliver, mechanism: str
) -> None:
    async with serve("implicit", **LOGIN) as server:
        # curl does not repeat what the server said, but has a code for it.
        with pytest.raises(ClientFailed, match=r"\b535\b|curl ends with 67"):
            await deliver(server, security="implicit", mechanism=mechanism, password="sesame")
        await deliver(server, security="implicit", mechanism=mechanism)
    assert len(inbox.arrivals) == 1
    assert inbox.errors == []


async def test_a_server_that_wants_a_login_takes_nothing_without(
    inbox: Inbox, serve: Serve, deliver: Deliver
) -> None:
    async with serve("starttls", **LOGIN) as server:
        with pytest.raises(ClientFailed, match=r"\b530\b"):
            await deliver(server, security="starttls")
    assert inbox.arrivals == []


async def test_a_server_that_requires_tls_takes_nothing_without(
    inbox: Inbox, serve: Serve, deliver: Deliver
) -> None:
    async with serve("starttls") as server:
        with pytest.raises(ClientFailed, match=r"\b530\b"):
            await deliver(server)
    assert inbox.arrivals == []


async def test_a_refused_recipient_does_not_stop_the_others(
    inbox: Inbox, serve: Serve, deliver: Deliver, client: str
) -> None:
    async with serve("none") as server:
        with suppress(ClientFailed):  # some say so where a single recipient was refused
            await deliver(server, recipients=(RECIPIENTS[0], UNKNOWN, RECIPIENTS[1]))
    expected = [] if client in ALL_OR_NOBODY else [RECIPIENTS]
    assert [arrival.recipients for arrival in inbox.arrivals] == expected


async def test_all_recipients_refused(inbox: Inbox, serve: Serve, deliver: Deliver) -> None:
    async with serve("none") as server:
        with pytest.raises(ClientFailed, match=r"\b550\b"):
            await deliver(server, recipients=(UNKNOWN,))
    assert inbox.arrivals == []


async def test_a_message_that_is_too_large(inbox: Inbox, serve: Serve, deliver: Deliver) -> None:
    async with serve("none", limits=Limits(message_size=100_000)) as server:
        # "Weird server reply": so curl calls each one to content but 250.
        with pytest.raises(ClientFailed, match=r"\b552\b|curl ends with 8\b"):
            await deliver(server, content=(b"x" * 98 + b"\r\n") * 1001)
        await deliver(server)
    assert [arrival.content for arrival in inbox.arrivals] == [CONTENT]
