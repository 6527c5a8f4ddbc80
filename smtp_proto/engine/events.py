"""What the engine tells its caller. Pure values.

Knows requests, replies and content. Must not know how they came about.

The client hears replies, each with the request that it answers. The server hears requests; a
reply is due after each event but ContentReceived and ConnectionEnded.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

from smtp_proto.wire import AuthResponse, Command, ForwardPath, Reply
from smtp_proto.wire.quick import quick


class Signal(Enum):
    """No event, and why."""

    NEED_DATA = "need data"
    """Receive something, feed it, and ask again."""
    PAUSED = "paused"
    """It is your turn: a reply is due, or the TLS handshake."""


NEED_DATA: Literal[Signal.NEED_DATA] = Signal.NEED_DATA
PAUSED: Literal[Signal.PAUSED] = Signal.PAUSED

# --- Requests: what a reply can answer -------------------------------------------------------


class Greeting(Enum):
    """The connection itself. RFC 5321 3.1"""

    GREETING = "greeting"


class Unsolicited(Enum):
    """Nothing: a server that has to close says 421 unasked. RFC 5321 3.8"""

    UNSOLICITED = "unsolicited"


@quick
@dataclass(frozen=True, slots=True)
class EndOfContent:
    """The end of the content. In LMTP one of these for each accepted recipient. RFC 2033 4.2"""

    recipient: ForwardPath | None = None


Request: TypeAlias = Command | AuthResponse | Greeting | EndOfContent | Unsolicited

# --- Both roles ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionEnded:
    """The peer closed the connection, in order. Close it, too."""


# --- The client's ----------------------------------------------------------------------------


@quick
@dataclass(frozen=True, slots=True)
class ReplyReceived:
    """The server has answered `command`, positively or not: look at the reply's first digit."""

    command: Request
    reply: Reply


ClientEvent: TypeAlias = ReplyReceived | ConnectionEnded

# --- The server's ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A command that is legal now. Do what it says, then send a reply."""

    command: Command


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """A line that is no command, or a command that is not legal now.

    Send `reply`, or another negative one; a positive one is not accepted.
    """

    reply: Reply


@dataclass(frozen=True, slots=True)
class AuthResponseReceived:
    """The client's response to the challenge. Send a reply.

    None: the client cancels the exchange; only a negative reply is accepted. RFC 4954 4
    """

    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ContentReceived:
    """A piece of the content, as the sender has it. No reply is due yet."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ContentEnded:
    """The content is there whole (`last`), or a chunk of it. Send a reply.

    In LMTP the last one wants a reply for each accepted recipient, in the order of their RCPT.

    If there is a `refusal` the content must not be accepted: send that, or another negative
    reply. The pieces that were received are to be thrown away.
    """

    refusal: Reply | None = None
    last: bool = True


ServerEvent: TypeAlias = (
    CommandReceived
    | CommandRefused
    | AuthResponseReceived
    | ContentReceived
    | ContentEnded
    | ConnectionEnded
)
