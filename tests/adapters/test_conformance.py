"""One suite for the three worlds: each client against the server of its own world.

Knows what a session looks like to a client and to a handler. Must not know how octets travel.
"""

import io
import itertools
import logging
import os
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from email.message import EmailMessage
from errno import ENOSPC
from pathlib import Path
from typing import cast

import pytest

from smtp_adapters.tls import ClientTLS
from smtp_proto.engine import LocalProtocolError, Protocol
from smtp_proto.flow import (
    AuthenticationError,
    CapabilityMissing,
    ConnectionLost,
    ContentRefused,
    DeliveryInDoubt,
    Envelope,
    Handler,
    MessageTooLarge,
    PermanentError,
    ProxyError,
    RecipientsRefused,
    Security,
    SenderRefused,
    ServerSession,
    SMTPError,
    Timeouts,
    TLSError,
    TransientError,
)
from smtp_proto.sasl import Credentials, Policy
from smtp_proto.wire import (
    NO_RCPT_PARAMETERS,
    Body,
    Mail,
    MailParameters,
    Notify,
    OriginalRecipient,
    Rcpt,
    RcptParameters,
    Reply,
    Ret,
    WireError,
)
from tests.adapters import peers
from tests.adapters.canaries import PASSWORD, WRONG_PASSWORD
from tests.adapters.worlds import ASYNCIO, SOCKET, TRIO, Client, Server, World, in_the_world_of

ENVELOPE = Envelope.of("sender@example.org", ["one@example.org", "two@example.org"])
SMALL = b"Subject: small\r\n\r\nHello\r\n.\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 70_000  # some 5 MB


class Inbox(Handler):
    """Takes mail for anybody but nobody@."""

    def __init__(self) -> None:
        self.messages: list[tuple[Envelope, bytes]] = []
        self.errors: list[Exception] = []
        self.identities: set[str | None] = set()
        self.versions: set[str | None] = set()
        self.peers: set[str] = set()

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return credentials.password == PASSWORD

    def find_password(self, session: ServerSession, authentication_identity: str) -> str:
        return PASSWORD

    def on_mail(self, session: ServerSession, mail: Mail) -> Reply | None:
        return Reply.build(550, "Not you") if "nobody" in str(mail.reverse_path) else None

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        return Reply.build(550, "Nobody") if "nobody" in str(rcpt.forward_path) else None

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | None:
        self.messages.append((envelope, content))
        self.peers.add(session.peer)
        self.identities.add(session.authenticated_as)
        self.versions.add(session.tls.version if session.tls else None)
        return Reply.build(554, "Spam") if b"Subject: spam" in content else None

    def on_error(self, session: ServerSession, error: Exception) -> None:
        self.errors.append(error)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def serve(world: World, inbox: Inbox) -> Callable[..., Server]:
    kind: Callable[..., Server] = world.server

    def make(handler: Handler = inbox, **settings: object) -> Server:
        return kind(handler, **{"timeouts": 20.0, **settings})

    return make


@pytest.fixture
def connect(world: World) -> Callable[..., Client]:
    kind: Callable[..., Client] = world.client

    def make(server: Server, **settings: object) -> Client:
        defaults = {"security": Security.NONE, "timeouts": 20.0}
        return kind("127.0.0.1", server.port, **{**defaults, **settings})

    return make


Serve = Callable[..., Server]
Connect = Callable[..., Client]


# --- security and login ------------------------------------------------------------------------


@pytest.mark.parametrize("security", Security, ids=lambda security: security.value)
@pytest.mark.parametrize("mechanism", [None, "PLAIN", "LOGIN", "CRAM-MD5"])
async def test_every_mode_of_security_with_every_mechanism(
    inbox: Inbox,
    serve: Serve,
    connect: Connect,
    server_tls: ssl.SSLContext,
    client_tls: ClientTLS,
    security: Security,
    mechanism: str | None,
) -> None:
    encrypted = security is not Security.NONE
    login = {} if mechanism is None else {"mechanisms": [mechanism]}
    common = {"allow_cleartext_auth": not encrypted, **login}
    by_client = (Security.AUTO, Security.MANUAL)  # a server does not choose
    async with serve(
        security=Security.STARTTLS if security in by_client else security,
        tls=server_tls if encrypted else None,
        require_auth=mechanism is not None,
        **common,
    ) as server:
        client = connect(
            server,
            security=security,
            tls=client_tls if encrypted else None,
            auth=("user", PASSWORD) if mechanism else None,
            **common,
        )
        await client.open()
        if security is Security.MANUAL:
            assert client.tls is None
            await client.start_tls()
            if mechanism:
                await client.authenticate()
        assert client.is_open
        assert client.greeting.code == 220
        assert (client.tls is not None) is encrypted
        result = await client.send(ENVELOPE, SMALL)
        await client.quit()
    assert set(result.accepted) == {"one@example.org", "two@example.org"}
    assert [content for _, content in inbox.messages] == [SMALL]
    assert inbox.identities == {"user" if mechanism else None}
    assert inbox.versions == {"TLSv1.3" if encrypted else None}
    assert inbox.peers == {"127.0.0.1"}
    assert inbox.errors == []


async def test_a_wrong_password_is_one_clear_error(
    serve: Serve,
    connect: Connect,
    server_tls: ssl.SSLContext,
    client_tls: ClientTLS,
) -> None:
    async with serve(security=Security.STARTTLS, tls=server_tls, mechanisms=["PLAIN"]) as server:
        client = connect(
            server, security=Security.STARTTLS, tls=client_tls, auth=("user", WRONG_PASSWORD)
        )
        with pytest.raises(AuthenticationError, match="logging in with PLAIN failed") as caught:
            await client.open()
        assert "wrong" not in str(caught.value)
        assert not client.is_open


async def test_a_server_that_requires_tls_takes_nothing_without(
    inbox: Inbox, serve: Serve, connect: Connect, server_tls: ssl.SSLContext
) -> None:
    async with serve(security=Security.STARTTLS, tls=server_tls) as server:
        client = connect(server)
        await client.open()
        with pytest.raises(SenderRefused, match="530"):
            await client.send(ENVELOPE, SMALL)
        await client.quit()
    assert inbox.messages == []


async def test_the_ways_that_auto_went_can_be_seen(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ClientTLS
) -> None:
    for security in (Security.STARTTLS, Security.IMPLICIT):
        async with serve(security=security, tls=server_tls) as server:
            timeouts = Timeouts(greeting_probe=0.05 if security is Security.IMPLICIT else 20.0)
            client = connect(server, security=Security.AUTO, tls=client_tls, timeouts=timeouts)
            async with client:
                assert client.attempts[-1].security is security
                assert client.attempts[-1].error is None
                assert client.tls is not None
            with pytest.raises(TLSError) as caught:  # it does not know who that is
                await connect(server, security=Security.AUTO, timeouts=timeouts).open()
            assert caught.value.attempts


async def test_tls_and_login_by_hand_may_be_refused(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ClientTLS
) -> None:
    manual = {"security": Security.MANUAL, "tls": client_tls}
    async with serve() as server, connect(server, **manual) as client:
        with pytest.raises(CapabilityMissing):
            await client.start_tls()
        with pytest.raises(LocalProtocolError, match="no credentials"):
            await client.authenticate()
        with pytest.raises(TypeError, match="a user name and a password"):
            await client.authenticate(cast("tuple[str, str]", "user"))
        assert (await client.noop()).code == 250
    offers = {"security": Security.STARTTLS, "tls": server_tls, "mechanisms": ["PLAIN"]}
    async with serve(**offers) as server, connect(server, **manual) as client:
        await client.start_tls()
        with pytest.raises(LocalProtocolError, match="TLS is on already"):
            await client.start_tls()
        with pytest.raises(AuthenticationError):
            await client.authenticate(("user", "wrong"))
        await client.authenticate(("user", PASSWORD))
        await client.send(ENVELOPE, SMALL)


# --- the way to the server -----------------------------------------------------------------------


async def test_a_chain_of_proxies(
    world: World, server_tls: ssl.SSLContext, client_tls: ClientTLS
) -> None:
    def script(peer: peers.Conversation) -> None:
        peer.start_tls(server_tls)
        peer.hear("CONNECT 127.0.0.2:8080 HTTP/1.1")
        while peer.hear(""):
            pass
        peer.say("HTTP/1.1 200 OK", "")
        peer.hear("CONNECT mx.example.org:25 HTTP/1.1")
        while peer.hear(""):
            pass
        peer.say("HTTP/1.1 200 OK", "", "220 mx.example.org")
        peer.hear("PROXY UNKNOWN", "EHLO")
        peer.say("250 mx.example.org")
        peer.hear("QUIT")
        peer.say("221 bye")

    with peers.server(script) as port:
        async with world.client(
            "mx.example.org",
            security=Security.NONE,
            proxy=[f"https://127.0.0.1:{port}", "http://127.0.0.2:8080"],
            proxy_tls=client_tls,
            proxy_header=b"PROXY UNKNOWN\r\n",
            timeouts=20.0,
        ) as client:
            assert client.tls is None


async def test_a_proxy_that_wants_addresses(world: World) -> None:
    def script(peer: peers.Conversation) -> None:
        assert peer.hear_octets(9) == b"\x04\x01\x00\x19\x7f\x00\x00\x01\x00"
        peer.send(b"\x00\x5a" + bytes(6) + b"220 mx.example.org\r\n")
        peer.hear("EHLO")
        peer.say("250 mx.example.org")
        peer.hear("QUIT")

    with peers.server(script) as port:
        proxy = f"socks4://127.0.0.1:{port}"
        settings = {"security": Security.NONE, "timeouts": 20.0}
        kind: Callable[..., Client] = world.client
        async with kind("localhost", proxy=proxy, **settings):
            pass
    with peers.server(lambda peer: peer.hear_all()) as port:
        proxy = f"socks4://127.0.0.1:{port}"
        with pytest.raises(ProxyError, match=r"host\.invalid"):
            await kind("host.invalid", proxy=proxy, **settings).open()


# --- content -----------------------------------------------------------------------------------


def in_pieces(content: bytes, size: int = 10_000) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


async def awaited_pieces(content: bytes) -> AsyncIterator[bytes]:
    for piece in in_pieces(content):
        yield piece


@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "form",
    [
        bytes,
        bytearray,
        memoryview,
        io.BytesIO,
        in_pieces,
        lambda content: [b"", memoryview(content)],
    ],
    ids=["bytes", "bytearray", "memoryview", "file", "iterator", "list"],
)
async def test_content_arrives_as_it_was_given(
    inbox: Inbox,
    serve: Serve,
    connect: Connect,
    form: Callable[[bytes], bytes],
    content: bytes,
    chunking: bool,
) -> None:
    async with serve() as server, connect(server, chunking=chunking) as client:
        await client.send(ENVELOPE, form(content))
        await client.send(ENVELOPE, SMALL)  # the session is as good as new
    assert [received for _, received in inbox.messages] == [content, SMALL]


async def test_a_view_of_larger_items_is_sent_octet_by_octet(
    inbox: Inbox, serve: Serve, connect: Connect
) -> None:
    even = SMALL + b"\r\n" if len(SMALL) % 2 == 0 else SMALL + b"x\r\n"
    async with serve() as server, connect(server) as client:
        await client.send(ENVELOPE, memoryview(even).cast("H"))
    assert [received for _, received in inbox.messages] == [even]


@in_the_world_of(ASYNCIO, TRIO)
async def test_content_may_be_awaited(inbox: Inbox, serve: Serve, connect: Connect) -> None:
    async with serve() as server, connect(server) as client:
        await client.send(ENVELOPE, awaited_pieces(LARGE))
    assert [received for _, received in inbox.messages] == [LARGE]


async def test_a_large_content_goes_through_tls(
    inbox: Inbox,
    serve: Serve,
    connect: Connect,
    server_tls: ssl.SSLContext,
    client_tls: ClientTLS,
) -> None:
    mode = {"security": Security.IMPLICIT}
    async with (
        serve(tls=server_tls, **mode) as server,
        connect(server, tls=client_tls, **mode) as client,
    ):
        await client.send(ENVELOPE, LARGE)
        await client.send(ENVELOPE, in_pieces(LARGE))
    assert [received == LARGE for _, received in inbox.messages] == [True, True]


async def test_a_file_is_sent_from_where_it_stands_and_its_size_is_said(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    sizes: list[int | None] = []

    class Sizes(Handler):
        def on_mail(self, session: ServerSession, mail: Mail) -> None:
            sizes.append(mail.parameters.size)

    path = tmp_path / "message"
    other_line_ends = LARGE.replace(b"\r\n", b"\n")
    async with serve(Sizes()) as server, connect(server) as client:
        for content in (SMALL, SMALL.replace(b"\r\n", b"\n"), LARGE, other_line_ends):
            path.write_bytes(b"skipped" + content)
            with path.open("rb") as file:
                file.seek(len(b"skipped"))
                await client.send(ENVELOPE, file)
    assert sizes == [len(SMALL), len(SMALL), len(LARGE), None], "the last is not known"


async def test_a_file_that_is_too_large_is_not_sent_and_one_that_fits_is(world: World) -> None:
    heard: list[str] = []
    message = b"x\r\n" * 30_000
    for limit, file, fits in (
        (90_000, message, True),
        (90_000, message.replace(b"\r\n", b"\n"), True),
        (89_999, message, False),
    ):
        with peers.server(bare_server(f"SIZE {limit}", heard=heard)) as port:
            async with world.client(
                "127.0.0.1", port, security=Security.NONE, timeouts=20.0
            ) as client:
                if fits:
                    await client.send(ENVELOPE, io.BytesIO(file))
                    continue
                heard.clear()
                with pytest.raises(MessageTooLarge):
                    await client.send(ENVELOPE, io.BytesIO(file))
                assert (await client.noop()).positive
                assert heard == ["NOOP"]


async def test_a_file_that_cannot_tell_its_size_is_sent_all_the_same(
    inbox: Inbox, serve: Serve, connect: Connect
) -> None:
    reading, writing = os.pipe()
    os.write(writing, SMALL)
    os.close(writing)
    async with serve() as server, connect(server) as client:
        with os.fdopen(reading, "rb") as file:
            await client.send(ENVELOPE, file)
    assert [content for _, content in inbox.messages] == [SMALL]


async def test_what_is_no_content_is_refused_before_anything_is_sent(
    serve: Serve, connect: Connect
) -> None:
    async with serve() as server, connect(server) as client:
        for content in ("text", io.StringIO("text"), 5, None):
            with pytest.raises(TypeError):
                await client.send(ENVELOPE, cast("bytes", content))
        assert (await client.noop()).code == 250


@pytest.mark.parametrize("begun", [SMALL, LARGE], ids=["before MAIL", "in the content"])
async def test_an_iterator_that_fails_is_heard_and_nothing_is_delivered(
    inbox: Inbox, serve: Serve, connect: Connect, begun: bytes
) -> None:
    class Broken(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield begun
        raise Broken

    async with serve() as server:
        for content, error in (
            (broken(), Broken),
            ([begun, "text"], TypeError),
            ([begun, None], TypeError),  # as a file that does not block
            ([begun, b"\0"], WireError),
        ):
            async with connect(server) as client:
                with pytest.raises(error):
                    await client.send(ENVELOPE, cast("Iterator[bytes]", content))
                assert client.is_open is (begun is SMALL), "is it as it was, or closed?"
                if client.is_open:
                    await client.send(ENVELOPE, SMALL)
    assert [received for _, received in inbox.messages] == [SMALL] * 4 * (begun is SMALL)


UTF8 = "Subject: Grüße\n\nHello\n".encode()


def in_many_forms(world: World, content: bytes) -> Iterator[bytes]:
    """The same content, in all but whole octets."""
    yield cast("bytes", io.BytesIO(content))
    yield cast("bytes", in_pieces(content, 100))
    if world.awaits:
        yield cast("bytes", awaited_pieces(content))


@pytest.mark.parametrize("content", [UTF8, UTF8 + SMALL * 3_000], ids=["small", "large"])
async def test_a_header_beyond_ascii_needs_smtputf8_in_whatever_form_it_comes(
    world: World, content: bytes
) -> None:
    heard: list[str] = []
    with peers.server(bare_server("8BITMIME", heard=heard)) as port:
        async with world.client("127.0.0.1", port, security=Security.NONE, timeouts=20.0) as client:
            for form in in_many_forms(world, content):
                with pytest.raises(CapabilityMissing, match="does not offer SMTPUTF8") as caught:
                    await client.send(ENVELOPE, form)
                assert caught.value.capability == "SMTPUTF8"
            assert heard == []
            await client.send(ENVELOPE, b"Hello\n")
    assert heard[0] == "MAIL FROM:<sender@example.org>"


@pytest.mark.parametrize("content", [UTF8, UTF8 + SMALL * 3_000], ids=["small", "large"])
async def test_smtputf8_is_said_for_a_header_beyond_ascii_in_whatever_form_it_comes(
    world: World, inbox: Inbox, serve: Serve, connect: Connect, content: bytes
) -> None:
    count = 0
    async with serve() as server, connect(server) as client:
        for form in in_many_forms(world, content):
            count += 1
            await client.send(ENVELOPE, form)
    sent = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert [received == sent for _, received in inbox.messages] == [True] * count
    for envelope, _ in inbox.messages:
        assert envelope.mail_parameters.smtputf8
        assert envelope.mail_parameters.body is Body.EIGHT_BIT_MIME


class Slow(TimeoutError):
    """What a caller's own source of octets may raise."""


@pytest.mark.parametrize(
    "error",
    [TimeoutError("mine"), TimeoutError(110, "mine"), Slow(), OSError("mine"), SMTPError("mine")],
    ids=repr,
)
async def test_what_an_iterator_raises_comes_out_as_it_is(
    world: World, inbox: Inbox, serve: Serve, connect: Connect, error: Exception
) -> None:
    def pieces(begun: bytes) -> Iterator[bytes]:
        yield begun
        raise error

    async def awaited(begun: bytes) -> AsyncIterator[bytes]:
        yield begun
        raise error

    async with serve() as server:
        for make, begun in itertools.product(
            (pieces, awaited) if world.awaits else (pieces,), (SMALL, LARGE)
        ):
            async with connect(server) as client:
                with pytest.raises(type(error)) as caught:
                    await client.send(ENVELOPE, cast("Iterator[bytes]", make(begun)))
                assert client.is_open is (begun is SMALL)
            assert caught.value is error
            assert (error.__cause__, error.__context__) == (None, None)
            assert getattr(error, "phase", None) is None
    assert inbox.messages == []


async def test_send_message_takes_the_envelope_from_the_header(
    inbox: Inbox, serve: Serve, connect: Connect
) -> None:
    message = EmailMessage()
    message["From"] = "sender@example.org"
    message["To"] = "Someone <one@example.org>"
    message["Bcc"] = "two@example.org"
    message.set_content("Hello")
    async with serve() as server, connect(server) as client:
        result = await client.send_message(message)
        other = await client.send_message(message, sender="", recipients=["three@example.org"])
    assert set(result.accepted) == {"one@example.org", "two@example.org"}
    assert set(other.accepted) == {"three@example.org"}
    assert [str(envelope.reverse_path) for envelope, _ in inbox.messages] == [
        "sender@example.org",
        "",
    ]
    assert all(b"Bcc" not in content for _, content in inbox.messages)


WISHES = MailParameters(ret=Ret.HDRS, envid="a name")
NEVER = RcptParameters(frozenset({Notify.NEVER}))
LATE = RcptParameters(
    frozenset({Notify.FAILURE, Notify.DELAY}), OriginalRecipient("rfc822", "one@example.com")
)


def a_message(to: str = "one@example.org, two@example.org") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "sender@example.org"
    message["To"] = to
    message.set_content("Hello")
    return message


async def test_send_message_says_what_shall_be_reported(
    inbox: Inbox, serve: Serve, connect: Connect
) -> None:
    async with serve() as server, connect(server) as client:
        await client.send_message(a_message(), mail_parameters=WISHES, rcpt_parameters=NEVER)
        await client.send_message(a_message(), rcpt_parameters={"two@example.org": LATE})
    (all_alike, _), (one_alone, _) = inbox.messages
    asked = all_alike.mail_parameters
    assert (asked.ret, asked.envid) == (Ret.HDRS, "a name")
    assert [*all_alike.rcpt_parameters.values()] == [NEVER, NEVER]
    assert one_alone.mail_parameters.envid is None
    first, second = one_alone.forward_paths
    assert not one_alone.rcpt_parameters.get(first, NO_RCPT_PARAMETERS).encode()
    assert one_alone.rcpt_parameters[second] == LATE


def bare_server(*offered: str, heard: list[str], tls: ssl.SSLContext | None = None) -> peers.Script:
    """A server that offers so much and no more, and takes one message if one comes."""

    def script(peer: peers.Conversation) -> None:
        if tls is not None:
            peer.start_tls(tls)
        peer.say("220 mx.example.org")
        peer.hear("EHLO")
        peer.say("250-mx.example.org", *(f"250-{keyword}" for keyword in offered), "250 HELP")
        while (line := peer.hear("")) != "QUIT":
            heard.append(line)
            if line == "DATA":
                peer.say("354 go on")
                while (line := peer.hear("")) != ".":
                    heard.append(line)
            peer.say("250 ok")
        peer.say("221 bye")

    return script


async def test_what_is_asked_for_and_not_offered_is_an_error_and_nothing_is_sent(
    world: World,
) -> None:
    heard: list[str] = []
    wishes: list[tuple[str, dict[str, object]]] = [
        ("DSN", {"mail_parameters": WISHES}),
        ("DSN", {"rcpt_parameters": NEVER}),
        ("DSN", {"rcpt_parameters": {"one@example.org": LATE}}),
        ("REQUIRETLS", {"mail_parameters": MailParameters(require_tls=True)}),
    ]
    with peers.server(bare_server(heard=heard)) as port:
        async with world.client("127.0.0.1", port, security=Security.NONE, timeouts=20.0) as client:
            send_message: Callable[..., Awaitable[object]] = client.send_message
            for capability, wish in wishes:
                words = f"asks for {capability}, which the server does not offer"
                with pytest.raises(CapabilityMissing, match=words) as caught:
                    await send_message(a_message(), **wish)
                assert caught.value.capability == capability
    assert heard == []


async def test_requiretls_is_asked_for_under_tls(
    world: World, server_tls: ssl.SSLContext, client_tls: ClientTLS
) -> None:
    heard: list[str] = []
    with peers.server(bare_server("REQUIRETLS", heard=heard, tls=server_tls)) as port:
        async with world.client(
            "127.0.0.1", port, security=Security.IMPLICIT, tls=client_tls, timeouts=20.0
        ) as client:
            await client.send_message(a_message(), mail_parameters=MailParameters(require_tls=True))
    assert heard[0] == "MAIL FROM:<sender@example.org> REQUIRETLS"


async def test_a_domain_that_has_a_labels_needs_no_smtputf8(world: World) -> None:
    heard: list[str] = []
    with peers.server(bare_server(heard=heard)) as port:
        async with world.client("127.0.0.1", port, security=Security.NONE, timeouts=20.0) as client:
            await client.send_message(a_message("Zoë <zoe@bücher.example>"))
            with pytest.raises(CapabilityMissing, match="SMTPUTF8"):
                await client.send_message(a_message("zoë@bücher.example"))
    assert heard[:2] == [
        "MAIL FROM:<sender@example.org>",
        "RCPT TO:<zoe@xn--bcher-kva.example>",
    ]
    assert "To: =?utf-8?q?Zo=C3=AB?= <zoe@xn--bcher-kva.example>" in heard
    assert all(map(str.isascii, heard))


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pipelining", [True, False])
async def test_refusals_leave_the_connection_as_it_was(
    inbox: Inbox, serve: Serve, connect: Connect, pipelining: bool
) -> None:
    nobody = Envelope.of("sender@example.org", ["nobody@example.org"])
    some = Envelope.of("sender@example.org", ["nobody@example.org", "one@example.org"])
    async with serve() as server, connect(server, pipelining=pipelining) as client:
        with pytest.raises(RecipientsRefused) as recipients:
            await client.send(nobody, SMALL)
        assert recipients.value.refused["nobody@example.org"].code == 550
        result = await client.send(some, SMALL)
        assert set(result.refused) == {"nobody@example.org"}
        with pytest.raises(SenderRefused):
            await client.send(Envelope.of("nobody@example.org", "one@example.org"), SMALL)
        with pytest.raises(ContentRefused, match="Spam"):
            await client.send(ENVELOPE, b"Subject: spam\r\n\r\n")
        with pytest.raises(ContentRefused, match="Spam"):
            await client.send(ENVELOPE, iter([b"Subject: spam\r\n\r\n"]))
        assert client.is_open
        await client.send(ENVELOPE, LARGE)
    assert [content for _, content in inbox.messages if b"spam" not in content] == [SMALL, LARGE]


async def test_the_small_commands(serve: Serve, connect: Connect) -> None:
    async with serve() as server, connect(server) as client:
        assert (await client.noop()).code == 250
        assert (await client.reset()).code == 250
        assert (await client.verify("one@example.org")).code == 252
        assert (await client.help()).code == 214
        assert (await client.help("MAIL")).code == 214
        with pytest.raises(PermanentError, match="EXPN was refused"):
            await client.expand("a-list")
        assert "PIPELINING" in client.capabilities
        assert client.is_open


async def test_lmtp(serve: Serve, connect: Connect) -> None:
    class Local(Handler):
        def on_message(
            self, session: ServerSession, envelope: Envelope, content: bytes
        ) -> list[Reply]:
            return [Reply.build(250, "Ok"), Reply.build(452, "Full")]

    settings = {"protocol": Protocol.LMTP}
    async with serve(Local(), **settings) as server, connect(server, **settings) as client:
        result = await client.send(ENVELOPE, SMALL)
    assert set(result.accepted) == {"one@example.org"}
    assert set(result.refused) == {"two@example.org"}


# --- the life of a client ----------------------------------------------------------------------


def is_open(client: Client) -> bool:
    return client.is_open


async def test_a_client_lives_as_long_as_it_says(serve: Serve, connect: Connect) -> None:
    async with serve() as server:
        client = connect(server)
        assert not is_open(client)
        for look in ("capabilities", "greeting", "tls", "login"):
            with pytest.raises(LocalProtocolError, match="not open"):
                getattr(client, look)
        with pytest.raises(LocalProtocolError, match="not open"):
            await client.noop()
        await client.quit()  # nothing to end
        await client.close()
        for _ in range(2):  # it can be opened again
            await client.open()
            assert is_open(client)
            with pytest.raises(LocalProtocolError, match="open already"):
                await client.open()
            assert (await client.noop()).code == 250
            await client.quit()
            assert not is_open(client)
            await client.quit()
            await client.close()
            with pytest.raises(LocalProtocolError, match="open\\(\\) it again"):
                await client.noop()
        assert client.greeting.code == 220  # can still be looked at
        async with client:
            await client.close()
            await client.close()
            assert not is_open(client)


class Enough(BaseException):
    pass


@pytest.mark.parametrize(("error", "last_words"), [(KeyError, b"QUIT\r\n"), (Enough, b"")])
async def test_how_a_session_ends_behind_an_error_in_the_callers_own_code(
    world: World, error: type[BaseException], last_words: bytes
) -> None:
    def script(peer: peers.Conversation) -> None:
        peer.say("220 mx.example.org")
        peer.hear("EHLO")
        peer.say("250 mx.example.org")
        if error is KeyError:
            heard.append(peer.hear("QUIT").encode() + b"\r\n")
            peer.say("221 bye")
        else:
            heard.append(peer.hear_all())

    async def fail() -> None:
        async with client:
            raise error

    heard: list[bytes] = []
    with peers.server(script) as port:
        client = world.client("127.0.0.1", port, security=Security.NONE, timeouts=20.0)
        with pytest.raises(error):
            await fail()
        assert not client.is_open
    assert heard == [last_words]


async def test_what_is_no_exception_in_the_middle_of_a_call_closes_at_once(
    inbox: Inbox, serve: Serve, connect: Connect
) -> None:
    def content() -> Iterator[bytes]:
        yield SMALL
        raise Enough

    async with serve() as server:
        client = connect(server)
        await client.open()
        with pytest.raises(Enough):
            await client.send(ENVELOPE, content())
        assert not client.is_open
    assert inbox.messages == []


async def test_two_at_once_are_refused(inbox: Inbox, serve: Serve, connect: Connect) -> None:
    refusals: list[LocalProtocolError] = []

    async def meanwhile(client: Client) -> None:
        with pytest.raises(LocalProtocolError, match="another thread or task") as caught:
            await client.noop()
        refusals.append(caught.value)

    async with serve() as server, connect(server) as client:

        def content() -> Iterator[bytes]:
            # Whoever fetches content is in the middle of a call.
            call = meanwhile(client)
            with pytest.raises(StopIteration):
                call.send(None)
            yield SMALL

        await client.send(ENVELOPE, content())
        assert (await client.noop()).code == 250
    assert len(refusals) == 1
    assert [received for _, received in inbox.messages] == [SMALL]


def test_settings_that_make_no_sense_are_refused_at_once(world: World) -> None:
    kind: Callable[..., Client] = world.client
    for settings in (
        {"host": "two words"},
        {"port": 0},
        {"port": 65_536},
        {"timeouts": 0.0},
        {"local_hostname": "a\r\nb"},
        {"mechanisms": ["PLAIN TEXT"]},
        {"mechanisms": Policy(frozenset({"PLANE"}))},
        {"mechanisms": Policy(order=("PLANE",))},
        {"security": Security.NONE, "tls": ssl.create_default_context()},
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            kind(**{"host": "localhost", **settings})
        assert "\n" not in str(caught.value)


def test_a_server_does_not_guess_where_to_listen(world: World) -> None:
    with pytest.raises(ValueError, match="host is empty: give an address"):
        world.server(Handler(), "")


def test_ports_go_with_security(world: World) -> None:
    for security, port in ((Security.IMPLICIT, 465), (Security.STARTTLS, 587), (Security.NONE, 25)):
        client = world.client("localhost", security=security)
        settings = getattr(client, "_blocking", client)._settings
        assert (settings.host, settings.port) == ("localhost", port)


def test_hosts_are_written_as_a_resolver_takes_them(world: World) -> None:
    for host, written in (
        ("[2001:db8::1]", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("mx.example.org.", "mx.example.org."),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ):
        client = world.client(host, security=Security.NONE)
        assert getattr(client, "_blocking", client)._settings.host == written


async def test_a_contexts_own_settings_are_used(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext
) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    mode = {"security": Security.IMPLICIT}
    async with (
        serve(tls=server_tls, **mode) as server,
        connect(server, tls=context, **mode) as client,
    ):
        assert client.tls is not None
        assert not client.tls.verified


# --- the life of a server ----------------------------------------------------------------------


async def test_a_server_lives_as_long_as_it_says(serve: Serve) -> None:
    server = serve()
    with pytest.raises(LocalProtocolError, match="not open"):
        assert server.address
    await server.close()  # nothing to close
    async with server:
        assert server.address == ("127.0.0.1", server.port)
        with pytest.raises(LocalProtocolError, match="open already"):
            await server.__aenter__()
        address = server.address
        await server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        await server.close()
    with pytest.raises(LocalProtocolError):
        assert server.port
    async with server:  # it can be opened again
        assert server.port


async def test_closing_a_server_ends_its_connections_and_waits_for_the_handlers(
    world: World, serve: Serve, connect: Connect
) -> None:
    gone: list[str] = []

    class Watcher(Handler):
        def on_disconnect(self, session: ServerSession) -> Awaitable[None] | None:
            noting = self.note(session.peer)
            if world.awaits:
                return noting
            with pytest.raises(StopIteration):
                noting.send(None)
            return None

        async def note(self, peer: str) -> None:
            for _ in range(20):
                await world.checkpoint()
            gone.append(peer)

    async with serve(Watcher()) as server:
        port = server.port
        clients = [connect(server) for _ in range(3)]
        for client in clients:
            await client.open()
        await server.close()
        assert gone == ["127.0.0.1"] * 3
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        for client in clients:
            with pytest.raises(ConnectionLost):
                await client.noop()
            assert not client.is_open


async def test_an_error_beside_a_server_goes_on_as_it_is(serve: Serve, connect: Connect) -> None:
    clients: list[Client] = []

    async def fail() -> None:
        async with serve() as server:
            clients.append(connect(server))
            await clients[0].open()
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    await clients[0].close()


async def test_a_handler_may_close_its_server(world: World, serve: Serve, connect: Connect) -> None:
    closed = threading.Event()
    threads: list[threading.Thread] = []

    class Last(Handler):
        def on_message(
            self, session: ServerSession, envelope: Envelope, content: bytes
        ) -> Awaitable[None] | None:
            closing = self.close()
            if world.awaits:
                return closing
            threads.append(threading.current_thread())  # for itself it cannot wait
            with pytest.raises(StopIteration):
                closing.send(None)
            return None

        async def close(self) -> None:
            await server.close()
            closed.set()

    async with serve(Last()) as server, connect(server) as client:
        with pytest.raises(DeliveryInDoubt):
            await client.send(ENVELOPE, SMALL)
        assert await world.in_thread(lambda: closed.wait(20))
    for thread in threads:
        thread.join()


async def test_one_connection_too_many_is_told_so(serve: Serve, connect: Connect) -> None:
    async with serve(max_connections=1) as server, connect(server) as first:
        with pytest.raises(TransientError, match=r"421 4\.3\.2"):
            await connect(server).open()
        assert (await first.noop()).code == 250


async def test_who_begins_with_tls_and_is_one_too_many_is_told_nothing(
    world: World, serve: Serve, server_tls: ssl.SSLContext
) -> None:
    def connect() -> None:
        with peers.client(server.port) as first, peers.client(server.port) as second:
            assert second.hear_all() == b""
            first.close()

    async with serve(max_connections=1, security=Security.IMPLICIT, tls=server_tls) as server:
        await world.in_thread(connect)


async def test_what_a_handler_raises_is_told_and_the_connection_lives(
    serve: Serve, connect: Connect
) -> None:
    class Faulty(Inbox):
        def on_message(
            self, session: ServerSession, envelope: Envelope, content: bytes
        ) -> Reply | None:
            if not self.errors:
                raise KeyError("a bug")
            return super().on_message(session, envelope, content)

    faulty = Faulty()
    async with serve(faulty) as server, connect(server) as client:
        with pytest.raises(ContentRefused, match="451") as caught:
            await client.send(ENVELOPE, SMALL)
        assert "bug" not in str(caught.value)
        await client.send(ENVELOPE, SMALL)
    assert [type(error) for error in faulty.errors] == [KeyError]
    assert len(faulty.messages) == 1


class BreaksDown(Handler):
    """It makes the server itself fail, once it is `broken`."""

    broken = False

    def __getattribute__(self, name: str) -> object:
        if name == "on_connect" and self.broken:
            raise LookupError(name)
        return super().__getattribute__(name)


def hear_nothing(port: int) -> None:
    with peers.client(port) as client:
        assert client.hear_all() == b""


async def test_an_error_of_the_server_itself_is_logged_and_ends_one_connection(
    world: World, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    handler = BreaksDown()
    async with serve(handler) as server:
        handler.broken = True
        await world.in_thread(lambda: hear_nothing(server.port))
        await world.in_thread(lambda: hear_nothing(server.port))
    logged = [
        record.getMessage() for record in caplog.records if record.name == "smtp_adapters.server"
    ]
    assert logged == ["a connection was given up"] * 2


async def test_a_log_that_fails_ends_no_server(
    world: World, serve: Serve, connect: Connect
) -> None:
    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    logger, full, handler = logging.getLogger("smtp_adapters.server"), Full(), BreaksDown()
    logger.addHandler(full)
    try:
        async with serve(handler) as server:
            handler.broken = True
            await world.in_thread(lambda: hear_nothing(server.port))
            handler.broken = False
            async with connect(server):
                pass
    finally:
        logger.removeHandler(full)


async def test_handlers_may_be_coroutine_functions_where_the_world_awaits(
    world: World, serve: Serve, connect: Connect
) -> None:
    class Awaiting(Handler):
        def __init__(self) -> None:
            self.contents: list[bytes] = []
            self.errors: list[Exception] = []

        async def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
            return Reply.build(550, "Nobody") if "two" in str(rcpt.forward_path) else None

        async def on_message(
            self, session: ServerSession, envelope: Envelope, content: bytes
        ) -> None:
            self.contents.append(content)

        def on_error(self, session: ServerSession, error: Exception) -> None:
            self.errors.append(error)

    handler = Awaiting()
    if not world.awaits:
        with pytest.raises(TypeError, match="handler: on_message, on_rcpt cannot be coroutine fu"):
            serve(handler)
        return
    async with serve(handler) as server, connect(server) as client:
        result = await client.send(ENVELOPE, SMALL)
        assert set(result.refused) == {"two@example.org"}
        assert handler.contents == [SMALL]
    assert handler.errors == []


@in_the_world_of(SOCKET)
async def test_an_answer_that_has_to_be_awaited_is_none_where_nothing_awaits(
    serve: Serve, connect: Connect
) -> None:
    class Awaiting(Handler):
        def __init__(self) -> None:
            self.errors: list[Exception] = []

        def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Awaitable[Reply | None]:
            return answer()  # which cannot be told beforehand

        def on_error(self, session: ServerSession, error: Exception) -> None:
            self.errors.append(error)

    async def answer() -> None:
        """Would accept it."""

    handler = Awaiting()
    async with serve(handler) as server, connect(server) as client:
        with pytest.raises(RecipientsRefused, match="451"):
            await client.send(ENVELOPE, SMALL)
    assert "on_rcpt is a coroutine function" in str(handler.errors[0])


async def test_many_clients_at_once(inbox: Inbox, serve: Serve, connect: Connect) -> None:
    async with serve() as server:
        clients = [connect(server) for _ in range(20)]
        for client in clients:
            await client.open()
        for client, number in itertools.product(clients, range(5)):
            await client.send(ENVELOPE, b"Subject: %d\r\n\r\n" % number)
        for client in clients:
            await client.quit()
    assert len(inbox.messages) == 100


async def test_a_server_is_tired_of_waiting(world: World, serve: Serve) -> None:
    def say_nothing() -> None:
        with peers.client(server.port) as client:
            assert client.hear_all().splitlines()[-1].startswith(b"421 4.4.2")

    async with serve(timeouts=Timeouts(idle=0.05, last_words=0.05)) as server:
        await world.in_thread(say_nothing)


async def test_a_client_that_goes_away_is_no_error(
    world: World, inbox: Inbox, serve: Serve, connect: Connect
) -> None:
    def go_away_in_the_middle() -> None:
        with peers.client(server.port) as client:
            client.hear("220")
            client.say("EHLO client.example")
            client.hear("250")
            client.say("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA")
            client.send(b"Subject: half a mess")

    async with serve() as server:
        await world.in_thread(go_away_in_the_middle)
        async with connect(server) as client:
            await client.send(ENVELOPE, SMALL)
    assert len(inbox.messages) == 1
    assert inbox.errors == []


async def test_a_peer_that_has_gone_before_it_is_greeted_is_no_error(
    world: World, serve: Serve, connect: Connect
) -> None:
    def reset() -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serve() as server:
        for _ in range(5):
            await world.in_thread(reset)
        async with connect(server) as client:
            await client.noop()
