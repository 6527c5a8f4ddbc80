"""The three worlds as one: so that one suite drives them all.

Knows how each world is run, and how to make a blocking client look like one that is awaited.
Must not know SMTP.
"""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar, cast

import pytest
import trio

import smtp_adapters.asyncio
import smtp_adapters.socket
import smtp_adapters.trio
from smtp_adapters.many import AnyPairs, Outcomes
from smtp_proto import Outcome

T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., object])

# The blocking ones behind a front that awaits, and trio's, have the same methods as these.
Client = smtp_adapters.asyncio.SMTPClient
Server = smtp_adapters.asyncio.SMTPServer


@dataclass(frozen=True)
class World:
    name: str
    client: type[Client]
    server: type[Server]
    run: Callable[[Callable[[], Coroutine[object, object, None]]], None]
    in_thread: Callable[[Callable[[], object]], Awaitable[object]]
    """Call something that blocks; in the blocking world, just call it."""
    checkpoint: Callable[[], Awaitable[object]]
    """Let others have their turn."""
    forever: Callable[[], Awaitable[object]]
    """Wait until somebody cancels it; in the blocking world nobody could."""

    @property
    def awaits(self) -> bool:
        return self.name != "socket"


class _Front:
    """Makes an object of the blocking world look like one that is awaited."""

    kind: type

    def __init__(self, *arguments: object, **settings: object) -> None:
        self._blocking = self.kind(*arguments, **settings)

    async def __aenter__(self) -> Self:
        self._blocking.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._blocking.__exit__(kind, error, traceback)

    def __getattr__(self, name: str) -> object:
        value: object = getattr(self._blocking, name)
        if not inspect.ismethod(value):
            return value

        async def call(*arguments: object, **settings: object) -> object:
            return value(*arguments, **settings)

        return call


class _OutcomesFront:
    """Makes an iterator look like one that is awaited."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        try:
            return next(self._outcomes)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self._outcomes.close()


class _ClientFront(_Front):
    kind = smtp_adapters.socket.SMTPClient

    def send_many(self, pairs: AnyPairs) -> _OutcomesFront:
        client = cast("smtp_adapters.socket.SMTPClient", self._blocking)
        return _OutcomesFront(client.send_many(pairs))


class _ServerFront(_Front):
    kind = smtp_adapters.socket.SMTPServer


def _run_blocking(main: Callable[[], Coroutine[object, object, None]]) -> None:
    coroutine = main()
    try:
        coroutine.send(None)
    except StopIteration:
        return
    finally:
        coroutine.close()
    raise AssertionError("nothing awaits in the blocking world")


async def _call(function: Callable[[], object]) -> object:
    return function()


async def _wait() -> None:
    threading.Event().wait(0.001)


SOCKET = World(
    "socket",
    cast("type[Client]", _ClientFront),
    cast("type[Server]", _ServerFront),
    _run_blocking,
    _call,
    _wait,
    _wait,
)
ASYNCIO = World(
    "asyncio",
    smtp_adapters.asyncio.SMTPClient,
    smtp_adapters.asyncio.SMTPServer,
    lambda main: asyncio.run(main()),
    asyncio.to_thread,
    lambda: asyncio.sleep(0),
    lambda: asyncio.Event().wait(),
)
TRIO = World(
    "trio",
    cast("type[Client]", smtp_adapters.trio.SMTPClient),
    cast("type[Server]", smtp_adapters.trio.SMTPServer),
    trio.run,
    trio.to_thread.run_sync,
    trio.lowlevel.checkpoint,
    trio.sleep_forever,
)
WORLDS: tuple[World, ...] = (SOCKET, ASYNCIO, TRIO)


def in_the_world_of(*worlds: World) -> Callable[[Test], Test]:
    """Mark a test that is for some worlds only."""
    names = [world.name for world in worlds]
    parametrize = pytest.mark.parametrize("world", worlds, indirect=True, ids=names)

    def mark(test: Test) -> Test:
        for decorate in (parametrize, pytest.mark.usefixtures("world")):
            decorate(test)  # it marks the function itself
        return test

    return mark
