"""Reaching a host on trio: its addresses race for the connection.

Knows nurseries and plain sockets. Must not know what the connection is for.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import trio

from smtp_adapters.reach import (
    NEXT_ADDRESS,
    Address,
    bind,
    connect_error,
    interleaved,
    ip_addresses,
    unix_address,
)
from smtp_proto.flow import ChooseLocalAddress, Connect, LocalAddress, Resolve


async def resolve(action: Resolve) -> list[str]:
    """The addresses of a host. Raises OSError."""
    family = socket.AF_INET if action.ipv4_only else socket.AF_UNSPEC
    found = await trio.socket.getaddrinfo(action.host, None, family, socket.SOCK_STREAM)
    return ip_addresses(found)


async def connect(action: Connect) -> socket.socket:
    """Connect to where the action says. Raises OSError, which says what became of each address."""
    if action.unix_path is not None:
        return await attempt(unix_address(action.unix_path), None)
    found = await trio.socket.getaddrinfo(action.host, action.port, type=socket.SOCK_STREAM)
    return await race(interleaved(found), action.local_address)


async def race(
    addresses: Sequence[Address], local_address: LocalAddress | ChooseLocalAddress | None = None
) -> socket.socket:
    """Connect to whichever address answers first; one after the other is tried. RFC 8305 5

    Raises OSError. Whatever happens, no other socket stays open.
    """
    connections: list[socket.socket] = []
    failures: list[OSError] = []

    async def compete(address: Address, failed: trio.Event) -> None:
        try:
            connections.append(await attempt(address, local_address))
        except OSError as error:
            failures.append(error)
            failed.set()
        else:
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(compete, address, failed)
                with trio.move_on_after(NEXT_ADDRESS):
                    await failed.wait()
    except BaseException as error:  # noqa: BLE001 - it goes on
        _close(connections)
        raise _essence(error) from None
    _close(connections[1:])  # two may answer in the same moment
    if not connections:
        raise connect_error(failures)
    return connections[0]


def _close(connections: Sequence[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def _essence(error: BaseException) -> BaseException:
    """What a nursery has wrapped that nobody shall know of: an interrupt, or a cancellation."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        _, others = group.split(trio.Cancelled)
        error = (others or group).exceptions[0]
    return error


async def attempt(
    address: Address, local_address: LocalAddress | ChooseLocalAddress | None
) -> socket.socket:
    """Connect to one address. Raises OSError."""
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        bind(connection, address, local_address)
        await trio.socket.from_stdlib_socket(connection).connect(where)
        with suppress(OSError):  # a Unix socket has no such thing
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection
