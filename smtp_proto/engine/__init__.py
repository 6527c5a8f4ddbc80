"""What is legal when: the state of a session, for the client and for the server.

Knows the order of commands and replies. Must not know why anybody says what, nor over what.
"""

from smtp_proto.engine.challenge import challenge
from smtp_proto.engine.client import ClientConnection
from smtp_proto.engine.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from smtp_proto.engine.events import (
    NEED_DATA,
    PAUSED,
    AuthResponseReceived,
    ClientEvent,
    CommandReceived,
    CommandRefused,
    ConnectionEnded,
    ContentEnded,
    ContentReceived,
    EndOfContent,
    Greeting,
    ReplyReceived,
    Request,
    ServerEvent,
    Signal,
    Unsolicited,
)
from smtp_proto.engine.server import ServerConnection
from smtp_proto.engine.table import (
    GROUP_ENDERS,
    LEGAL,
    TABLE,
    Move,
    Outcome,
    Protocol,
    State,
    hoped,
    legal,
    move_of,
    outcome_of,
)
from smtp_proto.engine.trace import Speaker, Trace

__all__ = [
    "GROUP_ENDERS",
    "LEGAL",
    "NEED_DATA",
    "PAUSED",
    "TABLE",
    "AuthResponseReceived",
    "ClientConnection",
    "ClientEvent",
    "CommandReceived",
    "CommandRefused",
    "ConnectionEnded",
    "ContentEnded",
    "ContentReceived",
    "EndOfContent",
    "Greeting",
    "LocalProtocolError",
    "Move",
    "Outcome",
    "Protocol",
    "ProtocolError",
    "RemoteProtocolError",
    "ReplyReceived",
    "Request",
    "ServerConnection",
    "ServerEvent",
    "Signal",
    "Speaker",
    "State",
    "Trace",
    "Unsolicited",
    "challenge",
    "hoped",
    "legal",
    "move_of",
    "outcome_of",
]
