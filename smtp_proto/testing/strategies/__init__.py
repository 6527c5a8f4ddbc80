"""Strategies for hypothesis: every wire value, octets legal and hostile, and whole sessions.

Knows hypothesis, which the extra `testing` installs. Nothing else in `smtp_proto` may.
"""

from smtp_proto.testing.strategies.octets import (
    client_bytes,
    cuts,
    hostile_bytes,
    server_bytes,
    splits,
)
from smtp_proto.testing.strategies.sessions import (
    ClientMachine,
    ServerMachine,
    SessionError,
)
from smtp_proto.testing.strategies.values import (
    addresses,
    auth_responses,
    capabilities,
    commands,
    content,
    domains,
    forward_paths,
    mail_parameters,
    original_recipients,
    parameters,
    rcpt_parameters,
    replies,
    reverse_paths,
    status_codes,
)

__all__ = [
    "ClientMachine",
    "ServerMachine",
    "SessionError",
    "addresses",
    "auth_responses",
    "capabilities",
    "client_bytes",
    "commands",
    "content",
    "cuts",
    "domains",
    "forward_paths",
    "hostile_bytes",
    "mail_parameters",
    "original_recipients",
    "parameters",
    "rcpt_parameters",
    "replies",
    "reverse_paths",
    "server_bytes",
    "splits",
    "status_codes",
]
