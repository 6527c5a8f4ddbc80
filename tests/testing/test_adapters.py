"""The loops of the three adapters, tried by the transport check."""

from __future__ import annotations

import asyncio

import pytest
import trio

import smtp_adapters.asyncio.loop
import smtp_adapters.asyncio.stream
import smtp_adapters.socket.loop
import smtp_adapters.socket.stream
import smtp_adapters.trio.loop
import smtp_adapters.trio.stream
from smtp_adapters.testing import check_transport
from smtp_proto.flow import Flow

_BEFORE_CANCELLING = 0.3  # seconds


def by_sockets(flow: Flow[str]) -> str:
    stream = smtp_adapters.socket.stream.Stream()
    try:
        return smtp_adapters.socket.loop.carry_out(flow, stream)
    finally:
        stream.close()


async def by_asyncio(flow: Flow[str]) -> str:
    stream = smtp_adapters.asyncio.stream.Stream()
    try:
        return await smtp_adapters.asyncio.loop.carry_out(flow, stream)
    finally:
        await stream.close()


async def cancelled_by_asyncio(flow: Flow[str]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(by_asyncio(flow), _BEFORE_CANCELLING)


async def by_trio(flow: Flow[str]) -> str:
    stream = smtp_adapters.trio.stream.Stream()
    try:
        return await smtp_adapters.trio.loop.carry_out(flow, stream)
    finally:
        stream.abort()


async def cancelled_by_trio(flow: Flow[str]) -> None:
    with trio.move_on_after(_BEFORE_CANCELLING):
        await by_trio(flow)


def test_sockets_pass() -> None:
    check_transport(by_sockets).raise_for_findings()


def test_asyncio_passes() -> None:
    check_transport(
        lambda flow: asyncio.run(by_asyncio(flow)),
        cancel=lambda flow: asyncio.run(cancelled_by_asyncio(flow)),
    ).raise_for_findings()


def test_trio_passes() -> None:
    check_transport(
        lambda flow: trio.run(by_trio, flow),
        cancel=lambda flow: trio.run(cancelled_by_trio, flow),
    ).raise_for_findings()
