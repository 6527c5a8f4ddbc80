"""The one place that decides what may go over which connection. Knows no I/O and no TLS library."""

from __future__ import annotations

from enum import Enum
from typing import assert_never


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

    @property
    def default_port(self) -> int:
        """The port that goes with the mode: submission where mail is submitted, else relay."""
        match self:
            case Security.IMPLICIT:
                return 465  # RFC 8314 3.3
            case Security.STARTTLS:
                return 587  # RFC 6409 3.1
            case Security.NONE | Security.OPPORTUNISTIC:
                return 25  # RFC 5321 4.5.4.2
            case _:
                assert_never(self)
