"""The one place that decides what may go over which connection. Knows no I/O and no TLS library."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from smtp_proto.wire.errors import kind_of


class Security(Enum):
    """When a connection is encrypted. Certificates and names are verified in each mode but NONE."""

    NONE = "none"
    """Clear text, whatever the server offers."""
    IMPLICIT = "implicit"
    """TLS from the first octet on (RFC 8314 3.3, port 465)."""
    STARTTLS = "starttls"
    """Clear text until STARTTLS (RFC 3207), which must be offered and must succeed.

    Nothing but EHLO and QUIT goes before it.
    """
    OPPORTUNISTIC = "opportunistic"
    """STARTTLS where it is offered, else clear text without credentials.

    Once offered, it must succeed.
    """
    AUTO = "auto"
    """TLS, in whichever way the server has it; `ways()` tells the order.

    Clear text only where `allow_cleartext` says so, and the server offers nothing else.
    """
    MANUAL = "manual"
    """Clear text, until the caller starts TLS. Logging in is the caller's, too."""

    @property
    def default_port(self) -> int | None:
        """The port that goes with the mode: submission where mail is submitted, else relay.

        None: AUTO tries more than one.
        """
        match self:
            case Security.IMPLICIT:
                return _IMPLICIT_PORT
            case Security.STARTTLS | Security.MANUAL:
                return _SUBMISSION_PORT
            case Security.NONE | Security.OPPORTUNISTIC:
                return _RELAY_PORT
            case Security.AUTO:
                return None
            case _:
                assert_never(self)


def check_security(security: object) -> None:
    """Look at what a caller gave. Raises TypeError: its mere name must not mean another mode."""
    if not isinstance(security, Security):
        members = ", ".join(f"Security.{member.name}" for member in Security)
        raise TypeError(f"security is one of {members}, not {kind_of(security)}")


_IMPLICIT_PORT = 465  # RFC 8314 3.3
_SUBMISSION_PORT = 587  # RFC 6409 3.1
_RELAY_PORT = 25  # RFC 5321 4.5.4.2


@dataclass(frozen=True, slots=True)
class Way:
    """A way that AUTO can go."""

    port: int
    security: Security
    """IMPLICIT or STARTTLS."""
    probe: bool = False
    """Whether a server that is silent is taken for one that waits for TLS."""


def ways(port: int | None) -> tuple[Way, ...]:
    """The ways that AUTO goes, one after the other, until a server greets.

    Without a port both ports for submission (RFC 8314 3.3), TLS from the start first. Port 25 is
    never spoken to first: there, a delayed greeting is a test of manners.
    """
    match port:
        case None:
            return (
                Way(_IMPLICIT_PORT, Security.IMPLICIT),
                Way(_SUBMISSION_PORT, Security.STARTTLS),
            )
        case 465:
            return Way(port, Security.IMPLICIT), Way(port, Security.STARTTLS)
        case 25:
            return (Way(port, Security.STARTTLS),)
        case _:
            return Way(port, Security.STARTTLS, probe=True), Way(port, Security.IMPLICIT)
