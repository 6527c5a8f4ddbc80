"""Carrying out a flow on asyncio: the loop over its actions.

Knows the event loop's clock, and how the caller and the system are asked. Must not know SMTP, nor
transports: the flow says what to do next, and the stream does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from inspect import isawaitable
from math import inf
from typing import Protocol, TypeVar

from smtp_adapters.asyncio.reach import resolve
from smtp_adapters.content import END, NO_PIECES, AsyncPieces, End, check
from smtp_adapters.reach import TimeIsUp
from smtp_proto.flow import Ask, Connect, Content, Done, Flow, Receive, Resolve, Send, Timer
from smtp_proto.wire import Octets

T = TypeVar("T")


class Verbs(Protocol):
    """What the loop wants of a stream. `deadline`: by the event loop's clock; inf: none."""

    async def connect(self, action: Connect) -> str | None:
        """Open a connection; returns the IP address of our end, None if it has none."""
        ...

    async def send(self, data: Octets, deadline: float) -> None:
        """Write all of `data`."""
        ...

    async def receive(self, deadline: float) -> Octets:
        """Wait for octets; b"": the peer has ended the stream."""
        ...

    def overheard(self) -> Octets | None:
        """What has come though nobody waited for it; b"": the stream has ended; None: nothing."""
        ...

    async def close(self) -> None:
        """End the connection at once, also under another task that waits for it."""
        ...


async def carry_out(flow: Flow[T], stream: Verbs, pieces: AsyncPieces = NO_PIECES) -> T:
    """Do what the flow asks for, until it is done. Raises what the flow raises."""
    now = asyncio.get_running_loop().time
    end = inf if flow.total is None else now() + flow.total
    timer: Timer | None = None
    deadline = end
    while True:
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        if action.timer is not timer:
            timer = action.timer
            deadline = end if timer.seconds is None else min(end, now() + timer.seconds)
        try:
            if isinstance(action, Receive):
                flow.receive_data(await stream.receive(deadline))
            elif isinstance(action, Send):
                await stream.send(action.data, deadline)
            else:
                await until(deadline, _do(action, flow, stream, pieces))
        except TimeIsUp:
            flow.timed_out(whole=now() >= end)
        except OSError as error:
            flow.failed(error)


async def _do(
    action: Connect | Resolve | Content | Ask, flow: Flow[T], stream: Verbs, pieces: AsyncPieces
) -> None:
    """Do what comes once in a while."""
    match action:
        case Content():
            await _fetch(flow, pieces)
        case Connect():
            flow.connected(await stream.connect(action))
        case Resolve():
            flow.resolved(await resolve(action))
        case Ask():
            await _ask(flow, action)


async def _fetch(flow: Flow[T], pieces: AsyncPieces) -> None:
    try:
        if isinstance(pieces, AsyncIterator):
            piece = await anext(pieces, END)
        else:
            await asyncio.sleep(0)  # others get their turn
            piece = next(pieces, END)
        check(piece)
    except Exception as error:  # noqa: BLE001 - whatever the caller's iterator raises
        flow.failed(error)
    else:
        flow.content(None if isinstance(piece, End) else piece)


async def _ask(flow: Flow[T], action: Ask) -> None:
    try:
        answer = await _answer(action)
    except Exception as error:  # noqa: BLE001 - whatever the application raises
        flow.failed(error)
    else:
        flow.answer(answer)


async def _answer(action: Ask) -> object:
    """What the application says. Raises CancelledError only where our own task is cancelled."""
    try:
        answer = action.function(*action.arguments)
        return await answer if isawaitable(answer) else answer
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError(f"{action.name}: what it waits for was cancelled") from error


async def until(deadline: float, awaitable: Awaitable[T]) -> T:
    """Wait for something. Raises TimeIsUp where the deadline strikes first."""
    limit = asyncio.timeout_at(None if deadline == inf else deadline)
    try:
        async with limit:
            return await awaitable
    except TimeoutError as error:
        if limit.expired():
            raise TimeIsUp from error
        raise
