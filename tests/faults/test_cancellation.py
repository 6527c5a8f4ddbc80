"""A task is cancelled at each of its checkpoints: nothing is left of what it did.

Knows how tasks are cancelled, and when they wait. Must not know what they wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
import trio

from smtp_proto.flow import (
    Envelope,
    Handler,
    Security,
    Serve,
    ServerSession,
    ServeSettings,
    SMTPError,
)
from smtp_proto.testing import ADDRESS, Clock, Link, octet_by_octet
from tests.adapters.worlds import ASYNCIO, Client
from tests.faults.kit import KITS, MOMENT, Kit, Wire
from tests.faults.talks import (
    BODY,
    LONG_LINE,
    MANY_PIECES,
    SERVER_TLS,
    TALKS,
    TWO,
    Talk,
    take_part,
)
from tests.faults.test_serving import SESSION

TURNS = (0, 1, 3)  # of the other tasks, behind the moment at which something arrives
Act = Callable[[], Awaitable[object]]

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


class Slowly:
    """Content that comes in its own time."""

    def __init__(self, kit: Kit, *pieces: bytes) -> None:
        self._kit = kit
        self._rest = list(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        await (asyncio.sleep if self._kit.world is ASYNCIO else trio.sleep)(MOMENT)
        return self._rest.pop(0)


async def open_(client: Client) -> object:
    await client.open()
    return client.greeting


async def send(client: Client) -> object:
    return await client.send(TWO, BODY)


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
        ("open", open_, quit_),
        ("check", None, check),
        ("open", None, with_client),
    ],
    ids=["open", "secure", "pieces", "many pieces", "chunk", "LMTP", "quit", "check", "with"],
)
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
            assert not isinstance(await take_part(talk, client), SMTPError)
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

        async def on_message(
            self, session: ServerSession, envelope: Envelope, content: bytes
        ) -> None:
            await (asyncio.sleep if kit.world is ASYNCIO else trio.sleep)(3 * MOMENT)
            self.contents.append(content)

    async def once(seconds: float, turns: int) -> bool:
        tasks, link, handler = kit.tasks(), Link(Clock()), Slow()
        link.to_server.delay = MOMENT
        link.to_server.cut = octet_by_octet if secure else (lambda octets: [octets[:9], octets[9:]])
        link.client.write(b"\x16\x03\x01\x02\x00" if secure else SESSION)
        wire = Wire(link.server)
        settings = ServeSettings(
            hostname="mx.example.org",
            nonce=lambda: b"sixteen octets..",
            tls=SERVER_TLS if secure else None,
            security=Security.IMPLICIT if secure else Security.NONE,
        )
        flow = Serve(handler, settings, ADDRESS)
        if secure:
            link.client.close_write()
        cancelled = await cancelled_after(kit, lambda: kit.carry_out(flow, wire), seconds, turns)
        assert wire.closed or wire.lost or (cancelled and seconds == turns == 0)
        await kit.settled()
        assert kit.tasks() == tasks
        said = link.client.read() or b""
        assert said.count(b"accepted") <= handler.contents.count(BODY)
        return cancelled

    async def main() -> None:
        step = 0
        while any([await once(step * MOMENT / 2, turns) for turns in TURNS]):
            step += 1
        assert step > 3

    kit.run(main)
