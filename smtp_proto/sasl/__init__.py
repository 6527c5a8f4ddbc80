"""SASL (RFC 4422): who the client is, proven to the server by a mechanism of many.

Knows mechanisms, and the policy that chooses one. Must not know SMTP: base64, replies and the AUTH
command are the business of `wire`, `engine` and `flow`.
"""

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    Accepted,
    Answer,
    Challenge,
    CheckPassword,
    ClientContext,
    ClientFactory,
    ClientMechanism,
    Credentials,
    FetchPassword,
    Mechanism,
    Rejected,
    ServerContext,
    ServerFactory,
    ServerMechanism,
    Step,
    Strength,
)
from smtp_proto.sasl.policy import Choice, Policy, choose
from smtp_proto.sasl.registry import CLIENT_MECHANISMS, MECHANISMS, SERVER_MECHANISMS

__all__ = [
    "CLIENT_MECHANISMS",
    "MECHANISMS",
    "NO_CLIENT_CONTEXT",
    "SERVER_MECHANISMS",
    "Accepted",
    "Answer",
    "Challenge",
    "CheckPassword",
    "Choice",
    "ClientContext",
    "ClientFactory",
    "ClientMechanism",
    "Credentials",
    "FetchPassword",
    "Mechanism",
    "Policy",
    "Rejected",
    "SASLError",
    "ServerContext",
    "ServerFactory",
    "ServerMechanism",
    "Step",
    "Strength",
    "choose",
]
