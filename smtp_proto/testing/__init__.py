"""What tests of clients, servers and transports are made of: without a socket, without sleeping.

Knows flows. Nothing else in this package knows it. The strategies for hypothesis are in
`smtp_proto.testing.strategies`, which alone needs that package.
"""

from smtp_proto.testing.clock import ADDRESS, Clock, Connector, Stream, StuckError, carry_out
from smtp_proto.testing.link import (
    DRIP_SECONDS,
    Course,
    Cut,
    End,
    Fault,
    FlowPeer,
    Link,
    cut_at,
    in_pieces,
    octet_by_octet,
    whole,
)
from smtp_proto.testing.peer import ScriptedPeer, Side, TranscriptError, faults_everywhere
from smtp_proto.testing.socket_like import SocketLike
from smtp_proto.testing.transport import CANCELLATION, CASES, Case, Finding, Report, TransportError

__all__ = [
    "ADDRESS",
    "CANCELLATION",
    "CASES",
    "DRIP_SECONDS",
    "Case",
    "Clock",
    "Connector",
    "Course",
    "Cut",
    "End",
    "Fault",
    "Finding",
    "FlowPeer",
    "Link",
    "Report",
    "ScriptedPeer",
    "Side",
    "SocketLike",
    "Stream",
    "StuckError",
    "TranscriptError",
    "TransportError",
    "carry_out",
    "cut_at",
    "faults_everywhere",
    "in_pieces",
    "octet_by_octet",
    "whole",
]
