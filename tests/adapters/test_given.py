"""Streams that the caller has opened: used once, in the same way through proxy and TLS, and closed.

Knows what each world has for a stream. Must not know how a flow is carried out.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf

import pytest
import trio

from smtp_adapters.reach import TimeIsUp
from smtp_adapters.socket import given as in_given
from smtp_adapters.socket import stream as in_stream
from smtp_adapters.socket.given import given_stream
from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import (
    Connect,
    ConnectError,
    ConnectionLost,
    Envelope,
    Phase,
    ProxyError,
    Security,
    SMTPTimeout,
    Timeouts,
    Timer,
)
from smtp_proto.wire.errors import kind_of
from tests.adapters import peers
from tests.adapters.peers import Conversation
from tests.adapters.worlds import SOCKET, TRIO, Client, World, in_the_world_of

ENVELOPE = Envelope.of("sender@example.org", ["one@example.org"])
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 70_000
FLOOD = 4_000_000
PATIENT = 20.0
SHORT = 0.05

Give = Callable[[int], Awaitable[object]]


class NearlyASocket:
    """Has what the blocking world wants of a stream, and no more."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.send, self.recv = connection.send, connection.recv
        self.settimeout = connection.settimeout

    def close(self) -> None:
        self._connection.close()
        raise RuntimeError("nobody wants to hear of this")


class Stubborn(trio.abc.Stream):
    """Fails to close in order."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self._stream.socket.close()
        raise RuntimeError("nobody wants to hear of this")


@pytest.fixture(params=["a socket", "its own"])
def give(request: pytest.FixtureRequest, world: World) -> Give:
    """Connect to a port of this machine, in one of the ways of the world."""

    async def a_socket(port: int) -> object:
        return socket.create_connection(("127.0.0.1", port), PATIENT)

    async def its_own(port: int) -> object:
        if world is SOCKET:
            return NearlyASocket(socket.create_connection(("127.0.0.1", port), PATIENT))
        if world is TRIO:
            return Stubborn(await trio.open_tcp_stream("127.0.0.1", port))
        return await asyncio.open_connection("127.0.0.1", port)

    return a_socket if request.param == "a socket" else its_own


@pytest.fixture
def connect(world: World) -> Callable[..., Client]:
    kind: Callable[..., Client] = world.client

    def make(stream: object, **settings: object) -> Client:
        defaults = {"security": Security.NONE, "timeouts": PATIENT}
        return kind("mx.example.org", **{**defaults, "stream": stream, **settings})

    return make


Connected = Callable[..., Client]


def greet(peer: Conversation) -> None:
    peer.say("220 mx.example.org")
    peer.hear("EHLO [127.0.0.1]")
    peer.say("250 mx.example.org")


def take_message(peer: Conversation) -> None:
    greet(peer)
    for beginning, answer in (("MAIL", "250 ok"), ("RCPT", "250 ok"), ("DATA", "354 go on")):
        peer.hear(beginning)
        peer.say(answer)
    while peer.hear("") != ".":
        pass
    peer.say("250 taken")
    peer.hear("QUIT")
    peer.say("221 bye")
    assert peer.hear_all() == b""


async def test_it_carries_a_session_and_is_closed_behind_it(give: Give, connect: Connected) -> None:
    with peers.server(take_message) as port:
        async with connect(await give(port)) as client:
            result = await client.send(ENVELOPE, LARGE)
        assert result.accepted
        await client.close()


async def test_it_serves_for_one_connection(give: Give, connect: Connected) -> None:
    def script(peer: Conversation) -> None:
        greet(peer)
        peer.hear_all()

    with peers.server(script) as port:
        client = connect(await give(port))
        await client.open()
        await client.close()
        with pytest.raises(ConnectError, match="has been used"):
            await client.open()


async def test_it_goes_through_a_proxy_and_tls(
    give: Give, connect: Connected, server_tls: ssl.SSLContext, client_tls: ClientTLS
) -> None:
    def script(peer: Conversation) -> None:
        peer.hear("CONNECT mx.example.org:465 HTTP/1.1")
        while peer.hear(""):
            pass
        peer.say("HTTP/1.1 200 OK", "")
        peer.start_tls(server_tls)
        take_message(peer)

    with peers.server(script) as port:
        secure = {"security": Security.IMPLICIT, "tls": client_tls}
        async with connect(
            await give(port), port=465, proxy="http://proxy.example", **secure
        ) as client:
            await client.send(ENVELOPE, LARGE)
            assert client.tls is not None


async def test_a_proxy_that_hangs_up(give: Give, connect: Connected) -> None:
    with peers.server(lambda peer: peer.hear("CONNECT")) as port:
        client = connect(await give(port), port=465, proxy="http://proxy.example")
        with pytest.raises(ProxyError, match=r"proxy\.example"):
            await client.open()


@pytest.mark.parametrize("whole", [False, True], ids=["greeting", "total"])
async def test_a_peer_that_falls_silent(give: Give, connect: Connected, whole: bool) -> None:
    timeouts = Timeouts(total=SHORT) if whole else Timeouts(greeting=SHORT)
    with peers.server(Conversation.hear_all) as port:
        client = connect(await give(port), timeouts=timeouts)
        with pytest.raises(SMTPTimeout) as caught:
            await client.open()
    assert (caught.value.phase, caught.value.whole) == (Phase.GREETING, whole)


async def test_a_peer_that_reads_nothing(give: Give, connect: Connected) -> None:
    def script(peer: Conversation) -> None:
        greet(peer)
        for beginning, answer in (("MAIL", "250 ok"), ("RCPT", "250 ok"), ("DATA", "354 go on")):
            peer.hear(beginning)
            peer.say(answer)
        gone.wait(PATIENT)

    gone = threading.Event()
    with peers.server(script) as port:
        client = connect(await give(port), timeouts=Timeouts(block=SHORT))
        await client.open()
        with pytest.raises(SMTPTimeout) as caught:
            await client.send(ENVELOPE, LARGE * 4)
        gone.set()
    assert caught.value.phase is Phase.BLOCK


async def test_a_peer_that_hangs_up(give: Give, connect: Connected) -> None:
    def hang_up(peer: Conversation) -> None:
        greet(peer)
        peer.hear("NOOP")

    def break_off(peer: Conversation) -> None:
        greet(peer)
        peer.hear("NOOP")
        peer.reset()

    for script in (hang_up, break_off):
        with peers.server(script) as port:
            client = connect(await give(port))
            await client.open()
            with pytest.raises(ConnectionLost):
                await client.noop()
            assert not client.is_open


async def test_a_peer_that_breaks_off_in_the_content(give: Give, connect: Connected) -> None:
    def script(peer: Conversation) -> None:
        greet(peer)
        for beginning, answer in (("MAIL", "250 ok"), ("RCPT", "250 ok"), ("DATA", "354 go on")):
            peer.hear(beginning)
            peer.say(answer)
        peer.hear("Subject")
        peer.reset()

    with peers.server(script) as port:
        client = connect(await give(port))
        await client.open()
        with pytest.raises(ConnectionLost):
            await client.send(ENVELOPE, LARGE * 4)
        assert not client.is_open


async def test_what_is_no_stream_is_refused_at_once(connect: Connected) -> None:
    with socket.socket() as connection, pytest.raises(ValueError, match="local_address"):
        connect(connection, local_address="127.0.0.1")
    for wrong in (5, "127.0.0.1", object(), (1, 2)):
        with pytest.raises(TypeError, match=f"stream is .* not {kind_of(wrong)}"):
            connect(wrong)


async def test_without_a_port_somebody_has_to_say_how_tls_begins(connect: Connected) -> None:
    with socket.socket() as connection:
        with pytest.raises(ValueError, match="say which security"):
            connect(connection, security=Security.AUTO)
        connect(connection, security=Security.AUTO, port=2525)


async def test_a_wait_may_be_of_any_length(give: Give, connect: Connected) -> None:
    with peers.server(take_message) as port:
        async with connect(await give(port), timeouts=1e10) as client:
            await client.send(ENVELOPE, LARGE)


@in_the_world_of(SOCKET)
@pytest.mark.parametrize("as_given", [socket.socket, NearlyASocket])
async def test_the_longest_wait_is_followed_by_another(
    as_given: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = (socket.socket(fileno=each.detach()) for each in socket.socketpair())
    far.setblocking(False)
    stream = given_stream(near if as_given is socket.socket else NearlyASocket(near))
    looks = 0

    def look() -> float:
        """Tell the time; from the fourth time on the peer answers."""
        nonlocal looks
        looks += 1
        if looks > 3:
            with suppress(BlockingIOError):
                while far.recv(FLOOD):
                    pass
            far.send(b"here")
        return time.monotonic()

    with far:
        stream.connect(Connect("mx.example.org", 25, Timer(Phase.CONNECT, None)), inf)
        for module in (in_given, in_stream):
            monkeypatch.setattr(module, "LONGEST_WAIT", 0.001)
        with pytest.raises(TimeIsUp):
            stream.receive(time.monotonic() + SHORT)
        monkeypatch.setattr(in_stream, "monotonic", look)
        deadline = time.monotonic() + PATIENT
        assert stream.receive(deadline) == b"here"
        looks = 0
        stream.send(b"x" * FLOOD, deadline)
        assert looks > 3
        stream.close()


@in_the_world_of(SOCKET)
async def test_a_socket_with_tls_of_its_own(connect: Connected, server_tls: ssl.SSLContext) -> None:
    def script(peer: Conversation) -> None:
        peer.start_tls(server_tls)
        take_message(peer)

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with peers.server(script) as port:
        plain = socket.create_connection(("127.0.0.1", port), PATIENT)
        async with connect(context.wrap_socket(plain), local_hostname="[127.0.0.1]") as client:
            await client.send(ENVELOPE, LARGE)
