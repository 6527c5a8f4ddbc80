"""The order of things: open, send, close, serve.

Knows phases and policies; does no I/O and has no clock.
"""

from smtp_proto.flow.actions import (
    Action,
    Ask,
    ChooseLocalAddress,
    Connect,
    Content,
    Done,
    LocalAddress,
    Receive,
    Resolve,
    Send,
    Timer,
)
from smtp_proto.flow.by_hand import authenticate, start_tls
from smtp_proto.flow.check import CheckCredentials, CredentialReport
from smtp_proto.flow.close import CloseSession
from smtp_proto.flow.envelope import Envelope, SendResult
from smtp_proto.flow.errors import (
    Attempt,
    AuthenticationError,
    CapabilityMissing,
    CertificateError,
    ConnectError,
    ConnectionLost,
    ContentRefused,
    DeliveryInDoubt,
    MessageTooLarge,
    PermanentError,
    ProtocolViolation,
    ProxyError,
    RecipientsRefused,
    ReplyError,
    SenderRefused,
    SMTPError,
    SMTPTimeout,
    TLSError,
    TransientError,
)
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.journal import QUIET, Journal
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.send_many import Outcome, SendMany
from smtp_proto.flow.serve import Serve, ServeSettings
from smtp_proto.flow.session import Login, Session
from smtp_proto.flow.simple import SimpleCommand, expand, help_, noop, reset, verify
from smtp_proto.flow.timeouts import Phase, Timeouts
from smtp_proto.flow.tls import ClientTLSFactory, ServerTLSFactory, TLSInfo, TLSLayer

__all__ = [
    "QUIET",
    "Action",
    "Ask",
    "Attempt",
    "AuthenticationError",
    "CapabilityMissing",
    "CertificateError",
    "CheckCredentials",
    "ChooseLocalAddress",
    "ClientTLSFactory",
    "CloseSession",
    "Connect",
    "ConnectError",
    "ConnectionLost",
    "Content",
    "ContentRefused",
    "CredentialReport",
    "DeliveryInDoubt",
    "Done",
    "Envelope",
    "Flow",
    "Handler",
    "Journal",
    "LocalAddress",
    "Login",
    "MessageTooLarge",
    "OpenSession",
    "OpenSettings",
    "Outcome",
    "PermanentError",
    "Phase",
    "ProtocolViolation",
    "ProxyError",
    "Receive",
    "RecipientsRefused",
    "ReplyError",
    "Resolve",
    "SMTPError",
    "SMTPTimeout",
    "Security",
    "Send",
    "SendMail",
    "SendMany",
    "SendResult",
    "SenderRefused",
    "Serve",
    "ServeSettings",
    "ServerSession",
    "ServerTLSFactory",
    "Session",
    "SimpleCommand",
    "Steps",
    "TLSError",
    "TLSInfo",
    "TLSLayer",
    "Timeouts",
    "Timer",
    "TransientError",
    "authenticate",
    "expand",
    "help_",
    "noop",
    "reset",
    "start_tls",
    "verify",
]
