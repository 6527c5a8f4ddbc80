"""TLS and AUTH when the caller says so, in a session that was opened with MANUAL."""

from __future__ import annotations

from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow.errors import CapabilityMissing
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.login import log_in
from smtp_proto.flow.open import upgrade
from smtp_proto.flow.session import Session
from smtp_proto.sasl import AnyCredentials


def start_tls(session: Session) -> Flow[None]:
    """STARTTLS (RFC 3207 4), the handshake, and EHLO again.

    Raises CapabilityMissing where the server does not offer it: nothing was said. Raises TLSError
    where it refuses, or the handshake fails: the session is over then, as whoever asks for TLS does
    not want to go on without. Raises LocalProtocolError where TLS is on already, or the session is
    authenticated: that comes behind TLS.
    """
    if session.tls is not None:
        raise LocalProtocolError("TLS is on already")  # RFC 3207 4.2
    if session.authenticated:
        raise LocalProtocolError("this session is authenticated already: start TLS before that")
    return Flow(session.conversation(_start_tls(session)), session.timeouts.total)


def authenticate(session: Session, credentials: AnyCredentials | None = None) -> Flow[None]:
    """AUTH (RFC 4954 4), with `credentials` or those that the session was opened with.

    Raises AuthenticationError. Where nothing was said, or the server has said no, the session can
    be used further, for another try. Raises LocalProtocolError where there are no credentials, or
    the session is authenticated already.
    """
    if session.authenticated:
        raise LocalProtocolError("this session is authenticated already")  # RFC 4954 4
    credentials = credentials or session.settings.credentials
    if credentials is None:
        raise LocalProtocolError("there are no credentials: give some")
    return Flow(session.conversation(log_in(session, credentials)), session.timeouts.total)


def _start_tls(session: Session) -> Steps[None]:
    if not session.capabilities.starttls:
        raise CapabilityMissing("the server does not offer STARTTLS", capability="STARTTLS")
    yield from upgrade(session)
