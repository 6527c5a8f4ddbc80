"""SASL (RFC 4422): who the client is, proven to the server by a mechanism of many.

Knows mechanisms, and the policy that chooses one. Must not know SMTP: base64, replies and the AUTH
command are the business of `wire`, `engine` and `flow`.
"""

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    Accepted,
    AnonymousCredentials,
    Answer,
    AnyCredentials,
    Challenge,
    CheckAnonymous,
    CheckPassword,
    CheckToken,
    ClientContext,
    ClientFactory,
    ClientMechanism,
    Credentials,
    ExplainsRefusal,
    ExternalCredentials,
    FetchIdentity,
    FetchPassword,
    FetchSecret,
    Mechanism,
    Question,
    Rejected,
    ServerContext,
    ServerFactory,
    ServerMechanism,
    Step,
    Strength,
    TokenCredentials,
)
from smtp_proto.sasl.policy import Choice, Policy, choose
from smtp_proto.sasl.registry import CLIENT_MECHANISMS, MECHANISMS, SERVER_MECHANISMS
from smtp_proto.sasl.saslprep import saslprep
from smtp_proto.sasl.scram_secret import ITERATIONS, MINIMUM_ITERATIONS, ScramSecret

__all__ = [
    "CLIENT_MECHANISMS",
    "ITERATIONS",
    "MECHANISMS",
    "MINIMUM_ITERATIONS",
    "NO_CLIENT_CONTEXT",
    "SERVER_MECHANISMS",
    "Accepted",
    "AnonymousCredentials",
    "Answer",
    "AnyCredentials",
    "Challenge",
    "CheckAnonymous",
    "CheckPassword",
    "CheckToken",
    "Choice",
    "ClientContext",
    "ClientFactory",
    "ClientMechanism",
    "Credentials",
    "ExplainsRefusal",
    "ExternalCredentials",
    "FetchIdentity",
    "FetchPassword",
    "FetchSecret",
    "Mechanism",
    "Policy",
    "Question",
    "Rejected",
    "SASLError",
    "ScramSecret",
    "ServerContext",
    "ServerFactory",
    "ServerMechanism",
    "Step",
    "Strength",
    "TokenCredentials",
    "choose",
    "saslprep",
]
