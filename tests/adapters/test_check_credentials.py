"""Can we log in there? The report in each outcome, and that nothing is left of the question.

Knows what a report has in it. Must not know how a login goes.
"""

import asyncio
import dataclasses
import inspect
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import pytest
import trio
import trustme

import smtp_adapters.asyncio
import smtp_adapters.socket
import smtp_adapters.trio
from smtp_adapters.journal import TraceLine
from smtp_adapters.tls import ClientTLS
from smtp_proto import Handler, Security, ServerSession, Timeouts
from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow import (
    AuthenticationError,
    CertificateError,
    ConnectError,
    CredentialReport,
    Envelope,
    Phase,
    ReplyError,
    SMTPTimeout,
    TLSError,
)
from smtp_proto.sasl import Credentials, TokenCredentials
from smtp_proto.wire import Mail, Reply
from tests.adapters import peers
from tests.adapters.canaries import (
    PASSWORD,
    TOKEN,
    WRONG_PASSWORD,
    found_in,
    told_by,
)
from tests.adapters.peers import Conversation
from tests.adapters.worlds import ASYNCIO, SOCKET, TRIO, Client, Server, World, in_the_world_of

FUNCTIONS: dict[str, Callable[..., object]] = {
    SOCKET.name: smtp_adapters.socket.check_credentials,
    ASYNCIO.name: smtp_adapters.asyncio.check_credentials,
    TRIO.name: smtp_adapters.trio.check_credentials,
}


class Door(Handler):
    """Lets ann in, and keeps a list of who came and what was asked for."""

    def __init__(self) -> None:
        self.ended: list[str | None] = []
        self.mail = 0

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return credentials == Credentials("ann", PASSWORD)

    def on_mail(self, session: ServerSession, mail: Mail) -> Reply | None:
        self.mail += 1
        return None

    def on_disconnect(self, session: ServerSession) -> None:
        self.ended.append(session.authenticated_as)


Serve = Callable[..., Server]
Check = Callable[..., Awaitable[CredentialReport]]


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def serve(world: World, door: Door, server_tls: ssl.SSLContext) -> Serve:
    kind: Callable[..., Server] = world.server

    def make(**settings: object) -> Server:
        defaults = {
            "security": Security.STARTTLS,
            "tls": server_tls,
            "mechanisms": ["PLAIN", "LOGIN"],
            "timeouts": 20.0,
        }
        return kind(door, **{**defaults, **settings})

    return make


@pytest.fixture(params=["method", "function"])
def check(request: pytest.FixtureRequest, world: World, client_tls: ClientTLS) -> Check:
    """Ask by the client's method, and by the function that makes a client itself."""
    kind: Callable[..., Client] = world.client

    async def ask(port: int | None, **settings: object) -> CredentialReport:
        defaults = {
            "security": Security.STARTTLS,
            "tls": client_tls,
            "auth": ("ann", PASSWORD),
            "timeouts": 20.0,
        }
        given = {**defaults, **settings}
        if request.param == "method":
            client = kind("127.0.0.1", port, **given)
            report = await client.check_credentials()
            assert not client.is_open
            return report
        answer = FUNCTIONS[world.name]("127.0.0.1", port, **given)
        return cast("CredentialReport", await answer if inspect.isawaitable(answer) else answer)

    return ask


def harmless(report: CredentialReport) -> bool:
    """Whether no secret is in a report, nor in what it is made of, nor on a screen."""
    parts = [getattr(report, field.name) for field in dataclasses.fields(report)]
    errors = [attempt.error for attempt in report.attempts] + [report.error]
    told = [text for error in errors if error is not None for text in told_by(error)]
    return not found_in([repr(report), str(report), *map(repr, parts), *map(str, parts), *told])


# --- The outcomes -----------------------------------------------------------------------------


async def test_a_login_that_succeeds(serve: Serve, check: Check, door: Door) -> None:
    said: list[TraceLine] = []
    async with serve() as server:
        report = await check(server.port, trace=said.append)
        assert report.port == server.port
    assert [line.text for line in said[-2:]] == ["QUIT", "221 2.0.0 Goodbye"]
    assert report
    assert report.authenticated is True
    assert report.host == "127.0.0.1"
    assert report.attempts == ()
    assert str(report.greeting) == "220 localhost ESMTP"
    assert report.tls is not None
    assert report.tls.verified
    assert report.capabilities_before_tls is not None
    assert report.capabilities_before_tls.auth == ()
    assert report.offered == ("PLAIN", "LOGIN")
    assert report.allowed is None
    assert report.tried == ("PLAIN",)
    assert report.passed_over == (("LOGIN", "PLAIN comes first"),)
    assert report.reply is not None
    assert report.reply.code == 235
    assert (report.error, report.phase) == (None, None)
    assert (door.ended, door.mail) == (["ann"], 0)
    assert harmless(report)


async def test_a_login_that_is_refused(serve: Serve, check: Check, door: Door) -> None:
    async with serve() as server:
        report = await check(server.port, auth=("ann", WRONG_PASSWORD), mechanisms=["LOGIN"])
    assert not report
    assert isinstance(report.error, AuthenticationError)
    assert report.phase is Phase.AUTH
    assert report.tls is not None
    assert report.tried == ("LOGIN",)
    assert report.allowed == frozenset({"LOGIN"})
    assert dict(report.passed_over) == {"PLAIN": "the policy does not allow it"}
    assert report.reply is not None
    assert report.reply.code == 535
    assert (door.ended, door.mail) == ([None], 0)
    assert harmless(report)


async def test_no_mechanism_for_what_there_is(serve: Serve, check: Check) -> None:
    async with serve() as server:
        report = await check(server.port, auth=TokenCredentials("ann", TOKEN))
    assert not report
    assert isinstance(report.error, AuthenticationError)
    assert report.tried == ()
    assert report.reply is None
    assert [name for name, _ in report.passed_over] == ["PLAIN", "LOGIN"]
    assert harmless(report)


async def test_no_tls(serve: Serve, check: Check, door: Door) -> None:
    async with serve(security=Security.NONE, tls=None, allow_cleartext_auth=True) as server:
        report = await check(server.port)
    assert not report
    assert type(report.error) is TLSError
    assert report.phase is Phase.EHLO
    assert report.tls is None
    assert report.offered == ("PLAIN", "LOGIN")
    assert report.tried == ()
    assert door.ended == [None]
    assert harmless(report)


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT, Security.AUTO])
async def test_a_certificate_that_nobody_trusts(
    serve: Serve, check: Check, security: Security
) -> None:
    stranger = ClientTLS(ca_data=trustme.CA().cert_pem.bytes().decode())
    served = Security.IMPLICIT if security is Security.IMPLICIT else Security.STARTTLS
    async with serve(security=served) as server:
        report = await check(server.port, tls=stranger, security=security)
    assert not report
    assert isinstance(report.error, CertificateError)
    assert report.phase is Phase.TLS
    assert report.tls is None
    assert report.tried == ()
    assert (report.greeting is None) is (security is Security.IMPLICIT)
    assert [attempt.error for attempt in report.attempts] == (
        [None] if security is Security.AUTO else []
    )
    assert harmless(report)


async def test_nobody_there(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for security in (Security.STARTTLS, Security.AUTO):
        report = await check(port, security=security)
        assert not report
        assert isinstance(report.error, ConnectError)
        assert report.phase is Phase.CONNECT
        assert report.port == port
        assert report.greeting is None
        assert report.capabilities is None
        assert report.offered == ()
        assert len(report.attempts) == (security is Security.AUTO)
        assert harmless(report)


async def test_a_proxy_that_does_not_lead_there(check: Check) -> None:
    def refuse(client: Conversation) -> None:
        while client.hear(""):
            pass
        client.say("HTTP/1.1 403 Forbidden", "")

    with peers.server(refuse) as port:
        report = await check(25, proxy=f"http://ann:{PASSWORD}@127.0.0.1:{port}")
    assert not report
    assert type(report.error).__name__ == "ProxyError"
    assert report.phase is Phase.PROXY
    assert harmless(report)


async def test_a_server_that_does_not_want_us(check: Check) -> None:
    def refuse(client: Conversation) -> None:
        client.say("554 go away")
        client.hear_all()

    with peers.server(refuse) as port:
        report = await check(port)
    assert not report
    assert isinstance(report.error, ReplyError)
    assert report.phase is Phase.GREETING
    assert str(report.greeting) == "554 go away"


async def test_a_server_that_says_nothing(check: Check) -> None:
    with peers.server(Conversation.hear_all) as port:
        report = await check(port, timeouts=Timeouts(greeting=0.05))
    assert isinstance(report.error, SMTPTimeout)
    assert report.phase is Phase.GREETING
    assert harmless(report)


async def test_the_ways_of_auto(serve: Serve, check: Check, door: Door) -> None:
    async with serve(security=Security.IMPLICIT) as server:
        timeouts = Timeouts(greeting_probe=0.05)
        report = await check(server.port, security=Security.AUTO, timeouts=timeouts)
    assert report
    first, last = report.attempts
    assert (first.security, last.security) == (Security.STARTTLS, Security.IMPLICIT)
    assert isinstance(first.error, SMTPTimeout)
    assert last.error is None
    assert door.ended == ["ann"]
    assert harmless(report)


async def test_each_way_of_auto_says_where_it_failed(check: Check) -> None:
    def garble(client: Conversation) -> None:
        client.hear_octets(1)
        client.send(b"this is no TLS")

    with peers.server(garble) as port:
        timeouts = Timeouts(greeting_probe=0.05, greeting=0.05)
        report = await check(port, security=Security.AUTO, timeouts=timeouts)
    assert not report
    phases = [attempt.error.phase for attempt in report.attempts if attempt.error]
    assert phases == [Phase.GREETING_PROBE, Phase.TLS, Phase.GREETING]
    assert report.error is report.attempts[-1].error


async def test_without_credentials_it_tells_what_there_is(
    serve: Serve, check: Check, door: Door
) -> None:
    async with serve() as server:
        report = await check(server.port, auth=None)
    assert not report
    assert report.error is None
    assert report.offered == ("PLAIN", "LOGIN")
    assert door.ended == [None]


# --- What it leaves ---------------------------------------------------------------------------


async def test_it_can_be_asked_again_and_mail_sent_after_it(
    world: World, serve: Serve, client_tls: ClientTLS, door: Door
) -> None:
    kind: Callable[..., Client] = world.client
    async with serve() as server:
        client = kind("127.0.0.1", server.port, tls=client_tls, auth=("ann", PASSWORD))
        for _ in range(2):
            assert await client.check_credentials()
        await client.open()
        with pytest.raises(LocalProtocolError, match="open already"):
            await client.check_credentials()
        await client.send(Envelope.of("ann@example.org", "bob@example.org"), b"x: y\r\n\r\n")
        await client.quit()
    assert (door.ended, door.mail) == (["ann"] * 3, 1)


async def test_where_nothing_happens_by_itself(world: World) -> None:
    client = world.client("127.0.0.1", 25, security=Security.MANUAL)
    with pytest.raises(ValueError, match="manual"):
        await client.check_credentials()


def stall(client: Conversation) -> None:
    """Come as far as the login, and no further."""
    client.say("220 mx")
    client.hear("EHLO")
    client.say("250-mx", "250 AUTH PLAIN")
    client.hear("AUTH PLAIN ")
    assert client.hear_all() == b""  # not even "*" or QUIT


CLEAR = {"security": Security.NONE, "tls": None, "allow_cleartext_auth": True}


@in_the_world_of(ASYNCIO)
async def test_a_cancelled_question_leaves_nothing_in_asyncio(check: Check) -> None:

    with peers.server(stall) as port, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await check(port, **CLEAR)


@in_the_world_of(TRIO)
async def test_a_cancelled_question_leaves_nothing_in_trio(check: Check) -> None:
    with peers.server(stall) as port:
        with trio.move_on_after(0.2) as scope:
            await check(port, **CLEAR)
        assert scope.cancelled_caught


@in_the_world_of(SOCKET)
async def test_an_interrupted_question_leaves_nothing(check: Check) -> None:
    """What a trace raises stands for what Ctrl-C does: it comes from anywhere."""

    def interrupt(line: object) -> None:
        if str(line).endswith("C: AUTH PLAIN ***"):
            raise KeyboardInterrupt

    def script(client: Conversation) -> None:
        with suppress(AssertionError):
            stall(client)

    with peers.server(script) as port, pytest.raises(KeyboardInterrupt):
        await check(port, trace=interrupt, **CLEAR)
