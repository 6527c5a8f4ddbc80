"""A task is cancelled at each of its checkpoints: nothing is left of what it did.

Knows how tasks are cancelled, and when they wait. Must not know what they wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, Self, TypeVar

import pytest
import trio

from smtp_proto.flow import (
    Envelope,
    Handler,
    Serve,
    ServerSession,
    ServeSettings,
)
from smtp_proto.sasl import Credentials
from smtp_proto.testing import ADDRESS, Clock, Link, Stream
from tests.adapters.worlds import ASYNCIO, Client
from tests.faults.kit import KITS, MOMENT, Kit, Wire
from tests.faults.talks import (
    AUTH,
    BODY,
    CHUNKS,
    LONG_LINE,
    MANY,
    MANY_PIECES,
    TALKS,
    TWO,
    Talk,
)
from tests.faults.visits import CONTENTS, SESSION, VISITED, accepted, assert_true, visitor
from tests.faults.whole import assert_goes_well

TURNS = (0, 1, 3)  # of the other tasks, behind the moment at which something arrives
Act = Callable[[], Awaitable[object]]
T = TypeVar("T")

awaiting = pytest.mark.parametrize("kit", KITS[1:], indirect=True, ids=["asyncio", "trio"])


async def cancelled_after(kit: Kit, act: Act, seconds: float, turns: int) -> bool:
    """Do something, and cancel it behind so many seconds and turns; whether that came in time."""
    if kit.world is ASYNCIO:
        task = asyncio.ensure_future(_await(act))
        await asyncio.sleep(seconds)
        for _ in range(turns):
            await asyncio.sleep(0)
        came_in_time = task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return came_in_time and task.cancelled()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel, scope, seconds, turns)
            await act()
            nursery.cancel_scope.cancel()
    return scope.cancelled_caught


async def _await(act: Act) -> object:
    return await act()


async def _cancel(scope: trio.CancelScope, seconds: float, turns: int) -> None:
    await trio.sleep(seconds)
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    scope.cancel()


class Slowly(Generic[T]):
    """Content, or messages, that come in their own time, but for the first."""

    def __init__(self, kit: Kit, *things: T) -> None:
        self._kit = kit
        self._rest = list(things)
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._rest:
            raise StopAsyncIteration
        if self._begun:
            await pause(self._kit, MOMENT)
        self._begun = True
        return self._rest.pop(0)


async def pause(kit: Kit, seconds: float) -> None:
    await (asyncio.sleep if kit.world is ASYNCIO else trio.sleep)(seconds)


async def open_(client: Client) -> object:
    await client.open()
    return client.greeting


async def send(client: Client) -> object:
    return await client.send(TWO, BODY)


async def open_and_send(client: Client) -> object:
    await client.open()
    return await client.send(TWO, BODY)


async def send_many(client: Client) -> object:
    return [outcome async for outcome in client.send_many(MANY)]


async def ask(client: Client) -> object:
    return [
        await client.reset(),
        await client.noop(),
        await client.verify("ann"),
        await client.expand("staff"),
    ]


async def by_hand(client: Client) -> object:
    await client.start_tls()
    await client.authenticate(AUTH)
    return client.login


async def check(client: Client) -> object:
    return await client.check_credentials()


async def quit_(client: Client) -> object:
    await client.quit()
    return client.greeting


async def with_client(client: Client) -> object:
    async with client:
        return client.greeting


def wire_for(talk: Talk) -> Wire:
    """A peer whose words come in small pieces, with a wait before each."""
    peer = talk.peer(clock=Clock())
    peer._course.cut = lambda octets: [octets[:5], octets[5:]]
    return Wire(peer)


@awaiting
@pytest.mark.parametrize(
    ("name", "before", "act"),
    [
        ("open", None, open_),
        ("secure", open_, send),
        ("pieces", open_, send),
        ("many pieces", open_, send),
        ("chunk", open_, send),
        ("LMTP", open_, send),
        ("many", open_, send_many),
        ("many chunks", open_, send_many),
        ("commands", open_, ask),
        ("by hand", open_, by_hand),
        ("proxy", None, open_and_send),
        ("AUTO", None, open_),
        ("open", open_, quit_),
        ("check", None, check),
        ("open", None, with_client),
    ],
    ids=[
        "open", "secure", "pieces", "many pieces", "chunk", "LMTP", "send_many", "chunks",
        "commands", "by hand", "proxy", "AUTO", "quit", "check", "with",
    ],
)  # fmt: skip
def test_a_client_that_is_cancelled_anywhere_is_closed_and_can_begin_anew(
    kit: Kit,
    name: str,
    before: Callable[[Client], Awaitable[object]] | None,
    act: Callable[[Client], Awaitable[object]],
) -> None:
    talk = TALKS.get(name, MANY_PIECES)
    pieces = {"pieces": [BODY[:11], BODY[11:]], "many pieces": [LONG_LINE, BODY]}.get(name)

    async def once(seconds: float, turns: int) -> bool:
        tasks, wire = kit.tasks(), wire_for(talk)
        client = kit.client(wire, **talk.settings)
        if before is not None:
            await before(client)

        async def do() -> object:
            if pieces is not None:
                return await client.send(TWO, Slowly(kit, *pieces))
            if name == "many chunks":
                pairs = Slowly(kit, *CHUNKS)
                return [outcome async for outcome in client.send_many(pairs)]
            return await act(client)

        cancelled = await cancelled_after(kit, do, seconds, turns)
        assert not (cancelled and client.is_open)
        if client.is_open:  # it was too late
            await client.quit()
        assert wire.closed or wire.lost or (cancelled and seconds == turns == 0)
        await kit.settled()
        assert kit.tasks() == tasks
        if turns == 1:
            second = Wire(talk.peer(clock=Clock()))
            kit.prepare(client, second)
            await assert_goes_well(talk, client)
        return cancelled

    async def main() -> None:
        step = 0
        while True:
            if not any([await once(step * MOMENT / 2, turns) for turns in TURNS]):
                break
            step += 1
        assert step > 3

    kit.run(main)


@awaiting
@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_a_connection_that_is_cancelled_anywhere_delivers_what_it_says(
    kit: Kit, secure: bool
) -> None:
    """A server's flow, with a handler that takes its time."""

    class Slow(Handler):
        def __init__(self) -> None:
            self.contents: list[bytes] = []

        async def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
            await pause(kit, 3 * MOMENT)
            return True

        async def on_message(
            self, session: ServerSession, envelope: Envelope, content: bytes
        ) -> None:
            await pause(kit, 3 * MOMENT)
            self.contents.append(content)

    def in_clear() -> tuple[Stream, Callable[[], bytes]]:
        link = Link(Clock())
        link.to_server.delay = MOMENT
        link.to_server.cut = lambda octets: [octets[:9], octets[9:]]
        link.client.write(SESSION)
        return link.server, lambda: link.client.read() or b""

    def within_tls() -> tuple[Stream, Callable[[], bytes]]:
        peer = visitor(Clock())
        peer._course.cut = lambda octets: [octets[:5], octets[5:]]
        return peer, lambda: bytes(peer.heard)

    async def once(seconds: float, turns: int) -> bool:
        tasks, handler = kit.tasks(), Slow()
        stream, said = within_tls() if secure else in_clear()
        wire = Wire(stream)
        make: Callable[..., ServeSettings] = ServeSettings
        settings = make(
            hostname="mx.example.org",
            nonce=lambda: b"sixteen octets..",
            **(VISITED if secure else {}),
        )
        flow = Serve(handler, settings, ADDRESS)
        cancelled = await cancelled_after(kit, lambda: kit.carry_out(flow, wire), seconds, turns)
        assert wire.closed or wire.lost or (cancelled and seconds == turns == 0)
        await kit.settled()
        assert kit.tasks() == tasks
        assert_true(handler.contents, accepted(said()), ahead=1 if secure else 2)
        assert cancelled or handler.contents == CONTENTS
        return cancelled

    async def main() -> None:
        step = 0
        while any([await once(step * MOMENT / 2, turns) for turns in TURNS]):
            step += 1
        assert step > 3

    kit.run(main)
