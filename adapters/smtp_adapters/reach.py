"""Reaching a host: which address is tried when, from where, and what is told where none answers.

Knows addresses and errors. Must not know any world: nothing here connects.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from itertools import zip_longest
from typing import TypeAlias, cast

from smtp_adapters.values import check_port
from smtp_proto.flow import ChooseLocalAddress, LocalAddress
from smtp_proto.wire import shown
from smtp_proto.wire.errors import kind_of

NEXT_ADDRESS = 0.25  # seconds until a slow address gets company. RFC 8305 5

_Where: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes] | str
Address: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, _Where]
"""As getaddrinfo() gives them; for a Unix socket its path is where it is."""


class TimeIsUp(TimeoutError):
    """A deadline of ours has struck. What the system gives up by itself is another TimeoutError."""


def closed_here() -> OSError:
    """What to raise where somebody has closed the stream under a call."""
    return ConnectionAbortedError("the connection has been closed on this side")


def used_up() -> OSError:
    """What to raise where a stream that was given is asked to connect once more."""
    return OSError("the stream that was given serves for one connection, and has been used")


def unix_address(path: str) -> Address:
    """The address of a Unix socket."""
    return socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path


def own_address(name: object) -> str | None:
    """The IP address of our end, of what getsockname() says; None: it has none."""
    if isinstance(name, tuple):
        return str(cast("tuple[object, ...]", name)[0])
    return None


def ip_addresses(addresses: Iterable[Address]) -> list[str]:
    """What getaddrinfo() found, each once, in its order. RFC 6724"""
    return list(dict.fromkeys(str(where[0]) for *_, where in addresses))


def interleaved(addresses: Iterable[Address]) -> list[Address]:
    """Let the families take turns: one that leads nowhere delays less. RFC 8305 4"""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    turns = zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


def bind(
    connection: socket.socket, address: Address, choice: LocalAddress | ChooseLocalAddress | None
) -> None:
    """Have an attempt to reach an address begin where it is to begin. Raises OSError.

    Whatever the caller's function raises is that, too, in its words: the next address may do.
    """
    if choice is None:
        return
    *_, where = address
    try:
        chosen = choice(str(where[0]), int(where[1])) if callable(choice) else choice
        if chosen is not None:
            connection.bind(checked_local_address(chosen))
    except Exception as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OSError(f"no local address for {where[0]}: {words}") from error


def checked_local_address(given: object) -> LocalAddress:
    """Look at what a caller gave: an address, or one with a port. Raises TypeError, ValueError.

    A name is none: nothing is looked up where others would have to wait.
    """
    match given:
        case str(address):
            port = 0
        case (str(address), int(port)):
            check_port(port, 0)
        case _:
            raise TypeError(
                "local_address is an IP address as str, alone or with a port, or a callable, "
                f"not {kind_of(given)}"
            )
    try:
        return str(ip_address(address)), port
    except ValueError:
        raise ValueError(
            f"{shown(address)!r} is no IP address, as 192.0.2.1 is; nor can it be a name"
        ) from None


def connect_error(errors: Sequence[OSError]) -> OSError:
    """What to raise where none of a host's addresses could be reached: `errors`, one for each."""
    plain = [in_plain_words(error) for error in errors]
    words = dict.fromkeys(error.strerror or str(error) for error in plain)
    return plain[0] if len(words) == 1 else OSError("; ".join(words))


def in_plain_words(error: OSError) -> OSError:
    """The error in the system's own words: some worlds put the address into theirs."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error
    return OSError(error.errno, os.strerror(error.errno))
