"""Reaching a host on asyncio: its addresses race for the connection.

Knows tasks and plain sockets. Must not know what the connection is for.

A connection that is made while all is cancelled must not be lost, as it can be in
loop.create_connection(): that one gets a socket which is connected.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence

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
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(action.host, None, family=family, type=socket.SOCK_STREAM)
    return ip_addresses(found)


async def connect(action: Connect) -> socket.socket:
    """Connect to where the action says. Raises OSError, which says what became of each address."""
    if action.unix_path is not None:
        return await attempt(unix_address(action.unix_path), None)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(action.host, action.port, type=socket.SOCK_STREAM)
    return await race(interleaved(found), action.local_address)


async def race(
    addresses: Sequence[Address], local_address: LocalAddress | ChooseLocalAddress | None = None
) -> socket.socket:
    """Connect to whichever address answers first; one after the other is tried. RFC 8305 5

    Raises OSError. Whatever happens, no other socket stays open.
    """
    untried = deque(addresses)
    attempts: set[asyncio.Task[socket.socket]] = set()
    failures: list[OSError] = []
    try:
        while untried or attempts:
            if untried:
                attempts.add(asyncio.create_task(attempt(untried.popleft(), local_address)))
            done, _ = await asyncio.wait(
                attempts,
                timeout=NEXT_ADDRESS if untried else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for each in done:
                try:
                    connection = each.result()
                except OSError as error:
                    attempts.remove(each)
                    failures.append(error)
                else:
                    await _abandon(attempts - {each})
                    attempts.clear()  # from here on nothing waits: it is the caller's
                    return connection
    finally:
        await _abandon(attempts)
    raise connect_error(failures)


async def _abandon(attempts: set[asyncio.Task[socket.socket]]) -> None:
    """End attempts, and wait for their ends; what they connected all the same is closed."""
    for each in attempts:
        each.add_done_callback(_discard)
        each.cancel()
    if attempts:
        await asyncio.wait(attempts)


def _discard(done: asyncio.Task[socket.socket]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().close()


async def attempt(
    address: Address, local_address: LocalAddress | ChooseLocalAddress | None
) -> socket.socket:
    """Connect to one address. Raises OSError."""
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        bind(connection, address, local_address)
        await asyncio.get_running_loop().sock_connect(connection, where)
    except BaseException:
        connection.close()
        raise
    return connection
