"""How much a peer may send.

Knows every bound that this package keeps, each with its reason.
Must not know who keeps it.
"""

from dataclasses import dataclass, fields

_ZERO_IS_NO_LIMIT = frozenset({"message_size"})


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is taken from a peer: octets, or counts where it says so.

    A peer that goes beyond a limit is told so, or cut off; nothing is ever cut short silently.
    Raises ValueError or TypeError, naming the field, for a value that makes no sense.
    """

    # The client's side.

    reply_line: int = 4096
    """One line of a reply, CRLF included. The RFC says 512; many servers write longer texts.

    RFC 5321 4.5.3.1.5
    """

    reply_lines: int = 1000
    """Lines in one multi-line reply, a count: the members of a list may be many, not endless."""

    reply_octets: int = 262_144
    """All lines of one multi-line reply together: what a client must hold of it at most."""

    pipelined_commands: int = 100
    """Commands in one flight, a count: some servers stall when their receive window is full.

    RFC 2920 3.1
    """

    pipelined_octets: int = 262_144
    """Content in chunks under way: behind so much, the next message waits for replies.

    What is under way when the connection is lost is in doubt, all of it.
    """

    # The server's side.

    command_line: int = 4096
    """One command line, CRLF included. The RFC says 512, and more for each extension.

    RFC 5321 4.5.3.1.4
    """

    message_size: int = 52_428_800
    """One message. The server announces it as SIZE and holds DATA and BDAT to it. 0: no limit.

    RFC 1870 3
    """

    recipients: int = 1000
    """Recipients in one transaction, a count; a server must take 100 at least.

    RFC 5321 4.5.3.1.8
    """

    errors: int = 10
    """Refused command lines in one session, a count: then the server says 421 and closes.

    RFC 5321 7.8
    """

    # Both sides.

    auth_line: int = 12_288 + 2
    """One line inside the AUTH exchange: 12288 octets of base64 and CRLF.

    RFC 4954 4
    """

    auth_rounds: int = 10
    """Challenges in one AUTH exchange, a count: no mechanism in use needs more than a few."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value: object = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"the limit {field.name} is an int, not {value!r}")
            if value < 0 or (value == 0 and field.name not in _ZERO_IS_NO_LIMIT):
                raise ValueError(f"the limit {field.name} cannot be {value}")
