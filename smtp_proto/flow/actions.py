"""What a flow can ask of whoever carries it out.

Pure values: no clock, no socket, no code that acts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire import Octets
from smtp_proto.wire.quick import quick

T_co = TypeVar("T_co", covariant=True)


@quick
@dataclass(frozen=True, slots=True)
class Timer:
    """One wait: its deadline is `seconds` after the first action that carries it.

    Later actions that carry the same timer (compare by identity) belong to the same wait and do not
    move the deadline,
    however many octets come in meanwhile.
    """

    phase: Phase
    seconds: float | None
    """None: wait without limit."""


LocalAddress: TypeAlias = tuple[str, int]
"""An IP address of this machine and a port; port 0: any that is free."""

ChooseLocalAddress: TypeAlias = Callable[[str, int], LocalAddress | None]
"""Sees the address and the port about to be connected to; answers with this side's, None: any."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a byte stream to host and port, closing one that is open.

    Then call `connected()`, or `failed(error)`. The timer is for each address of the host.
    """

    host: str
    port: int
    timer: Timer
    local_address: LocalAddress | ChooseLocalAddress | None = None
    """Where the stream is to begin; None: wherever the system likes."""
    unix_path: str | None = None
    """The Unix socket to connect to, in place of host and port."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find the host's IP addresses, the best first; with `ipv4_only` no others.

    Then call `resolved(addresses)`, or `failed(error)`.
    """

    host: str
    ipv4_only: bool
    timer: Timer


@quick
@dataclass(frozen=True, slots=True)
class Send:
    """Write all of `data`.

    Then ask for the next action; `failed(error)` if it could not be written.
    """

    data: Octets = field(repr=False)  # it may be a secret
    timer: Timer


@quick
@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for octets.

    Then call `receive_data(data)` with what came, `receive_eof()` at the end, or `failed(error)`.
    """

    timer: Timer


@dataclass(frozen=True, slots=True)
class Content:
    """Fetch the next piece of the message from where the caller has it.

    Then call `content(piece)`; None: that was all.
    """

    timer: Timer


@dataclass(frozen=True, slots=True)
class Ask:
    """Call `function(*arguments)`, await what it returns in an async world, then `answer(value)`.

    `failed(error)` if it raised. `name` says what is asked, for people.
    """

    name: str
    function: Callable[..., object | Awaitable[object]]
    arguments: tuple[object, ...]
    timer: Timer


@quick
@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    """The flow is over and this is its result.

    The connection stays open unless `close` is true: then close it.
    """

    result: T_co
    close: bool = False


Action: TypeAlias = Connect | Resolve | Send | Receive | Content | Ask
