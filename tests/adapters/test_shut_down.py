"""A server that is shut down: nobody is cut off who can be told, nor whose message is under way.

Knows what clients hear. Must not know how a world ends a wait.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from smtp_adapters.socket import stream as in_stream
from smtp_adapters.tls import ClientTLS
from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow import (
    ConnectionLost,
    Envelope,
    Handler,
    Security,
    ServerSession,
    Timeouts,
)
from tests.adapters import peers
from tests.adapters.peers import Conversation
from tests.adapters.worlds import ASYNCIO, SOCKET, TRIO, Client, Server, World, in_the_world_of

# For a client that does not go when it has been told.
IN_A_HURRY = Timeouts(last_words=0.05, idle=20.0)
BRIEFLY = 0.05  # seconds


def make(world: World, handler: Handler, **settings: object) -> Server:
    kind: Callable[..., Server] = world.server
    return kind(handler, **{"timeouts": 20.0, **settings})


def greet(client: Conversation) -> None:
    client.hear("220")
    client.say("EHLO client.example")
    while client.hear("250").startswith("250-"):
        pass


def begin_content(client: Conversation) -> None:
    greet(client)
    client.say("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA")
    client.hear("250", "250", "354")
    client.say("Subject: x", "")


class Busy(Handler):
    """Is not done with a message before somebody else has been told that the server shuts down."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.asked = threading.Event()
        self.told = threading.Event()
        self.contents: list[bytes] = []

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Awaitable[None] | None:
        self.contents.append(content)
        self.asked.set()
        if self._world.awaits:
            return self._wait()
        assert self.told.wait(20)
        return None

    async def _wait(self) -> None:
        while not self.told.is_set():
            await self._world.checkpoint()


async def test_who_waits_is_told_and_who_is_served_is_answered_before(world: World) -> None:
    ready = threading.Barrier(4)

    def idle() -> None:
        with peers.client(port) as client:
            greet(client)
            ready.wait(20)
            client.hear("421 4.3.2 ")
        handler.told.set()

    def waits_for_its_reply() -> None:
        with peers.client(port) as client:
            begin_content(client)
            client.say(".")
            assert handler.asked.wait(20)
            ready.wait(20)
            client.hear("250 2.0.0 ", "421 4.3.2 ")

    def writes_content() -> None:
        with peers.client(port) as client:
            begin_content(client)
            ready.wait(20)
            assert handler.told.wait(20)
            client.say("the rest", ".", "NOOP")
            client.hear("250 2.0.0 ")
            while client.hear("").startswith("250"):
                pass

    handler = Busy(world)
    with ThreadPoolExecutor() as pool:
        async with make(world, handler) as server:
            address, port = server.address, server.port
            scripts = (idle, waits_for_its_reply, writes_content)
            clients = [pool.submit(script) for script in scripts]
            await world.in_thread(lambda: ready.wait(20))
            await server.shut_down(None)
            with pytest.raises(LocalProtocolError, match="not open"):
                assert server.port
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            if world is ASYNCIO:
                assert len(asyncio.all_tasks()) == 1
        for client in clients:
            client.result()
    assert sorted(handler.contents) == [b"Subject: x\r\n\r\n", b"Subject: x\r\n\r\nthe rest\r\n"]


async def test_it_is_told_by_tls(
    world: World, server_tls: ssl.SSLContext, client_tls: ClientTLS
) -> None:
    kind: Callable[..., Client] = world.client
    settings = {"security": Security.IMPLICIT, "tls": server_tls, "timeouts": IN_A_HURRY}
    async with make(world, Handler(), **settings) as server:
        client = kind("127.0.0.1", server.port, security=Security.IMPLICIT, tls=client_tls)
        await client.open()
        await server.shut_down()
        with pytest.raises(ConnectionLost) as caught:
            await client.noop()
        assert caught.value.reply is not None
        assert caught.value.reply.code == 421


async def test_after_the_grace_all_is_cut(world: World) -> None:
    def begin() -> Conversation:
        client = Conversation(socket.create_connection(("127.0.0.1", server.port)))
        begin_content(client)
        return client

    async with make(world, Handler()) as server:
        client = await world.in_thread(begin)
        assert isinstance(client, Conversation)
        await server.shut_down(BRIEFLY)
        assert client.hear_all() == b""
        client.close()


async def test_the_grace_may_be_of_any_length(world: World) -> None:
    async with make(world, Handler(), timeouts=IN_A_HURRY) as server:
        with peers.client(server.port) as client:
            await world.in_thread(lambda: client.hear("220"))
            await server.shut_down(1e10)
            await world.in_thread(lambda: client.hear("421"))


@in_the_world_of(SOCKET)
async def test_the_longest_wait_is_not_the_end_of_the_grace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> float:
        """Tell the time; the third time the handler has done its work."""
        looks.append(time.monotonic())
        if len(looks) > 3:
            handler.told.set()
        return looks[-1]

    looks: list[float] = []
    handler = Busy(world)
    async with make(world, handler, timeouts=IN_A_HURRY) as server:
        with peers.client(server.port) as client:
            begin_content(client)
            client.say(".")
            assert handler.asked.wait(20)
            monkeypatch.setattr(in_stream, "LONGEST_WAIT", 0.001)
            monkeypatch.setattr(in_stream, "monotonic", look)
            await server.shut_down(20)
            client.hear("250 2.0.0 ", "421 4.3.2 ")


@in_the_world_of(ASYNCIO, TRIO)
async def test_who_does_not_wait_for_the_end_leaves_what_is_open_to_the_block(world: World) -> None:
    def begin() -> Conversation:
        client = Conversation(socket.create_connection(("127.0.0.1", server.port)))
        begin_content(client)
        return client

    async with make(world, Handler()) as server:
        client = await world.in_thread(begin)
        assert isinstance(client, Conversation)
        if world is TRIO:
            with trio.move_on_after(BRIEFLY) as scope:
                await server.shut_down(None)
            assert scope.cancelled_caught
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.shut_down(None), BRIEFLY)
    assert client.hear_all() == b""
    client.close()


async def test_a_server_that_was_shut_down_can_be_opened_again(world: World) -> None:
    kind: Callable[..., Client] = world.client
    server = make(world, Handler())
    await server.shut_down()  # nothing to end
    for _ in range(2):
        async with server:
            async with kind("127.0.0.1", server.port, security=Security.NONE) as client:
                assert (await client.noop()).code == 250
            await server.shut_down()
            await server.shut_down()


@in_the_world_of(ASYNCIO, TRIO)
async def test_who_comes_just_before_is_not_left_behind(world: World) -> None:
    for turns in range(8):
        async with make(world, Handler(), timeouts=IN_A_HURRY) as server:
            with socket.create_connection(("127.0.0.1", server.port), 20.0) as connection:
                for _ in range(turns):
                    await world.checkpoint()
                await server.shut_down(None)
                heard = await world.in_thread(Conversation(connection).hear_all)
        assert isinstance(heard, bytes)
        assert not heard or heard.splitlines()[-1].startswith(b"421 4.3.2 "), turns


@pytest.mark.parametrize(
    ("grace", "error", "why"),
    [
        ("5", TypeError, "grace is seconds as a number, or None, not a str"),
        (True, TypeError, "grace is seconds as a number, or None, not a bool"),
        (-1, ValueError, "grace: seconds, 0 or more, or None, not -1"),
        (float("nan"), ValueError, "grace: seconds, 0 or more, or None, not nan"),
        (float("inf"), ValueError, "grace: seconds, 0 or more, or None, not inf"),
    ],
)
async def test_a_grace_that_makes_no_sense_changes_nothing(
    world: World, grace: float, error: type[Exception], why: str
) -> None:
    async with make(world, Handler()) as server:
        with pytest.raises(error) as refused:
            await server.shut_down(grace)
        assert str(refused.value) == why
        assert server.port
