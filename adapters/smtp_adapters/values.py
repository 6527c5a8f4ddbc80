"""What clients and servers are both given, looked at before it is used.

Knows what a port, a timeout or a name of a mechanism can be. Must not know what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_bytes

from smtp_proto.flow import Security, Timeouts


def as_timeouts(timeouts: Timeouts | float | None) -> Timeouts:
    """The timeouts that are meant: the defaults, the same for all, or those given."""
    if isinstance(timeouts, Timeouts):
        return timeouts
    return Timeouts() if timeouts is None else Timeouts.of(timeouts)


def check_security(security: object) -> None:
    """Look at what a caller gave. Raises TypeError: its mere name must not mean no TLS."""
    if not isinstance(security, Security):
        members = ", ".join(f"Security.{member.name}" for member in Security)
        raise TypeError(f"security is one of {members}, not a {type(security).__name__}")


def check_flag(name: str, flag: object) -> None:
    """Look at what a caller gave. Raises TypeError: "no" must not mean True."""
    if not isinstance(flag, bool):
        raise TypeError(f"{name} is True or False, not a {type(flag).__name__}")


def check_port(port: object, lowest: int) -> None:
    """Look at what a caller gave. Raises TypeError or ValueError."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"a port is an int, not a {type(port).__name__}")
    if not lowest <= port <= 65_535:
        raise ValueError(f"port {port}: a port is a number from {lowest} to 65535")


def mechanism_names(mechanisms: Sequence[str]) -> tuple[str, ...]:
    """The names as they are registered. Raises TypeError for one that stands for a list."""
    if isinstance(mechanisms, str):
        raise TypeError("mechanisms is a sequence of names, not one str: put it into a list")
    return tuple(name.upper() for name in mechanisms)


def nonce() -> bytes:
    """Fresh randomness for a login, beyond guessing."""
    return token_bytes(24)
