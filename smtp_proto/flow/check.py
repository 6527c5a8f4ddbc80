"""Can we log in there? What happens up to there, as a report; no mail is sent.

Knows which of a session's findings people ask for. Must not know how they come about.
"""

from __future__ import annotations

from dataclasses import dataclass

from smtp_proto.flow.close import farewell
from smtp_proto.flow.errors import Attempt, AuthenticationError, SMTPError
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.journal import QUIET, Journal
from smtp_proto.flow.open import open_session
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase
from smtp_proto.flow.tls import TLSInfo
from smtp_proto.wire import Capabilities, Reply


@dataclass(frozen=True, slots=True)
class CredentialReport:
    """What became of a connection that was opened only to log in. True if that succeeded."""

    host: str
    port: int | None
    """Where the server was reached; None: AUTO has not reached any."""
    attempts: tuple[Attempt, ...]
    """The ways that AUTO went; in other modes none."""
    greeting: Reply | None
    tls: TLSInfo | None
    """What TLS was in force at the end; None: none, or the server was not reached."""
    capabilities_before_tls: Capabilities | None
    """What the server offered in clear text; None: TLS came first, or there was none."""
    capabilities: Capabilities | None
    """What it offered at the end."""
    allowed: frozenset[str] | None
    """The mechanisms that the policy names; None: any."""
    tried: tuple[str, ...]
    """Those that were used, the last of them with the outcome in `reply`."""
    passed_over: tuple[tuple[str, str], ...]
    """The others, each with the reason."""
    reply: Reply | None
    """To the login; None: it has not come to that."""
    error: SMTPError | None
    """What failed; None: nothing."""
    authenticated: bool

    def __bool__(self) -> bool:
        return self.authenticated

    def __str__(self) -> str:
        where = self.host if self.port is None else f"{self.host} port {self.port}"
        if self.error is not None:
            return f"not logged in at {where}: {self.error}"
        if not self.authenticated:
            return f"{where} was reached, and there was nobody to log in"
        return f"logged in at {where} with {self.tried[-1]}"

    @property
    def phase(self) -> Phase | None:
        """Where it failed; None: nothing has."""
        return None if self.error is None else self.error.phase

    @property
    def offered(self) -> tuple[str, ...]:
        """The mechanisms that the server offered at the end."""
        return () if self.capabilities is None else self.capabilities.auth


class CheckCredentials(Flow[CredentialReport]):
    """Opens a session, logs in, and ends it; raises no SMTPError, as the report has it.

    Without credentials it reports what there is up to EHLO. Raises ValueError for MANUAL, in which
    nothing happens by itself.
    """

    def __init__(self, settings: OpenSettings, journal: Journal = QUIET) -> None:
        if settings.security is Security.MANUAL:
            raise ValueError("security 'manual' leaves TLS and logging in to you: choose another")
        super().__init__(self._check(settings, journal), settings.timeouts.total, closes=True)

    def _check(self, settings: OpenSettings, journal: Journal) -> Steps[CredentialReport]:
        sessions: list[Session] = []
        error: SMTPError | None = None
        try:
            session = yield from open_session(settings, journal, sessions.append)
        except SMTPError as reason:
            error = reason
            error.phase = error.phase or self.phase
        else:
            yield from farewell(session)
        return _report(settings, sessions[-1] if sessions else None, error)


def _report(
    settings: OpenSettings, session: Session | None, error: SMTPError | None
) -> CredentialReport:
    login = None if session is None else session.login
    outcome = error if isinstance(error, AuthenticationError) else login
    attempts = () if session is None else session.attempts
    return CredentialReport(
        host=settings.host,
        port=settings.port if session is None else session.settings.port,
        attempts=attempts if error is None else error.attempts,
        greeting=None if session is None else session.greeting,
        tls=None if session is None else session.tls,
        capabilities_before_tls=None if session is None else session.capabilities_before_tls,
        capabilities=None if session is None else session.capabilities,
        allowed=settings.policy.allowed,
        tried=() if outcome is None else outcome.tried,
        passed_over=() if outcome is None else outcome.passed_over,
        reply=None if outcome is None else outcome.reply,
        error=error,
        authenticated=login is not None,
    )
