"""Carrying out a flow on trio: the loop over its actions.

Knows scopes and trio's clock, and how the caller and the system are asked. Must not know SMTP, nor
sockets: the flow says what to do next, and the stream does it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from inspect import isawaitable
from math import inf
from typing import Protocol, TypeVar

import trio

from smtp_adapters.content import END, NO_PIECES, AsyncPieces, End, check
from smtp_adapters.reach import closed_here
from smtp_adapters.trio.reach import resolve
from smtp_proto.flow import Ask, Connect, Content, Done, Flow, Receive, Resolve, Send, Timer
from smtp_proto.wire import Octets

T = TypeVar("T")


class Verbs(Protocol):
    """What the loop wants of a stream."""

    async def connect(self, action: Connect) -> str | None:
        """Open a connection; returns the IP address of our end, None if it has none."""
        ...

    async def send(self, data: Octets) -> None:
        """Write all of `data`."""
        ...

    async def receive(self) -> Octets:
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
    end = inf if flow.total is None else trio.current_time() + flow.total
    while True:
        with trio.CancelScope(deadline=end) as limit:
            return await _carry_out_until(limit, end, flow, stream, pieces)
        flow.timed_out(whole=trio.current_time() >= end)


async def _carry_out_until(
    limit: trio.CancelScope, end: float, flow: Flow[T], stream: Verbs, pieces: AsyncPieces
) -> T:
    """Do what the flow asks for, until it is done or `limit`, which is moved by timers, strikes."""
    timer: Timer | None = None
    while True:
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        if action.timer is not timer:
            timer = action.timer
            limit.deadline = _deadline(timer, end)
        try:
            if isinstance(action, Receive):
                flow.receive_data(await stream.receive())
            elif isinstance(action, Send):
                await stream.send(action.data)
            else:
                await _do(action, flow, stream, pieces)
        except (OSError, trio.ClosedResourceError) as error:
            flow.failed(error if isinstance(error, OSError) else closed_here())


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
            await trio.lowlevel.checkpoint()  # others get their turn
            piece = next(pieces, END)
        check(piece)
    except Exception as error:  # noqa: BLE001 - whatever the caller's iterator raises
        flow.failed(error)
    else:
        flow.content(None if isinstance(piece, End) else piece)


async def _ask(flow: Flow[T], action: Ask) -> None:
    try:
        answer = action.function(*action.arguments)
        if isawaitable(answer):
            answer = await answer
    except Exception as error:  # noqa: BLE001 - whatever the application raises
        flow.failed(error)
    except BaseExceptionGroup as group:
        # A nursery of the application's: what else went wrong while it was being cancelled.
        errors = group.subgroup(Exception)
        if errors is None or group.split((Exception, trio.Cancelled))[1] is not None:
            raise
        flow.failed(errors)
    else:
        flow.answer(answer)


def _deadline(timer: Timer, end: float) -> float:
    return end if timer.seconds is None else min(end, trio.current_time() + timer.seconds)
