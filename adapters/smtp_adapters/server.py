"""What the servers of all worlds share: settings, and what is said to one client too many.

Knows which values make the settings of a session, and where the server listens.
Must not know any world: nothing here waits, reads or writes.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from logging import ERROR, WARNING, getLogger

from smtp_adapters.journal import ConnectionJournal, FailedLogins, TraceTarget, log, trace_to
from smtp_adapters.tls import server_factory
from smtp_adapters.values import (
    FLAG,
    LIMITS,
    NUMBER,
    OCTETS,
    PROTOCOL,
    SECONDS,
    TEXT,
    Takes,
    as_timeouts,
    check_port,
    check_types,
    mechanism_names,
    naming,
    nonce,
)
from smtp_proto.engine import LocalProtocolError, Protocol
from smtp_proto.flow import Handler, Security, Serve, ServerSession, ServeSettings, Timeouts
from smtp_proto.flow.security import check_security
from smtp_proto.flow.serve_questions import check_logins
from smtp_proto.wire import BareLineEndings, Limits, Reply, validate_domain

_logger = getLogger("smtp_adapters.server")
"""Has what should not happen: errors that are neither the client's nor seen by the handler."""

_PARAMETERS = {
    "handler": Takes("an instance of a class of yours, of Handler", (Handler,)),
    "host": TEXT,
    "tls": Takes("an SSLContext for a server", (ssl.SSLContext,)).or_none,
    "hostname": TEXT.or_none,
    "require_auth": FLAG,
    "allow_cleartext_auth": FLAG,
    "salt_key": OCTETS.or_none,
    "timeouts": SECONDS,
    "limits": LIMITS,
    "protocol": PROTOCOL,
    "bare_line_endings": Takes("a member of BareLineEndings", (BareLineEndings,)),
    "max_connections": NUMBER,
}
"""Those that are of simple types."""

GRACE = 30.0  # seconds: what is coming is there by then, as a rule
_GRACE = Takes("seconds as a number", (int, float)).or_none

_TOO_MANY = Reply.build(421, "Too many connections, try again later", status="4.3.2")


class Server:
    """The part of each SMTPServer that needs no I/O.

    `handler`: your application; what it raises is logged, unless it has an `on_error`. `host`,
    `port`: where to listen; port 0 is any that is free. `security`: IMPLICIT for TLS from the
    start, STARTTLS to require it, OPPORTUNISTIC to offer it. `tls`: the server's context, see
    `smtp_adapters.tls.server_context`. `hostname`: the server's name in its greeting. `mechanisms`:
    what to offer for AUTH. `require_auth`: whether mail is taken only after AUTH.
    `salt_key`: a secret that stays the same when the server is started anew, and for each of
    several: without it, who asks for SCRAM before and after can tell which users there are.
    `allow_cleartext_auth`: whether passwords may come over a clear connection. `timeouts`: seconds
    for everything, or for each phase. `limits`: the most that is taken from a client. `protocol`:
    SMTP or LMTP. `bare_line_endings`: what to do with content that has a bare CR or LF.
    `max_connections`: one more is told 421. `trace`: who is told each line of all connections,
    without secrets and content: see `smtp_adapters.client.Client`.

    Raises ValueError or TypeError for what makes no sense.
    """

    def __init__(
        self,
        handler: Handler,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        security: Security = Security.NONE,
        tls: ssl.SSLContext | None = None,
        hostname: str | None = None,
        mechanisms: Sequence[str] = (),
        require_auth: bool = False,
        allow_cleartext_auth: bool = False,
        salt_key: bytes | None = None,
        timeouts: Timeouts | float | None = None,
        limits: Limits | None = None,
        protocol: Protocol = Protocol.SMTP,
        bare_line_endings: BareLineEndings = BareLineEndings.REFUSE,
        max_connections: int = 100,
        trace: TraceTarget | None = None,
    ) -> None:
        if isinstance(handler, type):
            raise TypeError(f"the handler is to be an instance: write {handler.__name__}()")
        check_types(_PARAMETERS, locals())
        if not host:  # of which each world, and each system, would make something else
            raise ValueError("host is empty: give an address, as 127.0.0.1; 0.0.0.0 or :: is any")
        check_port(port, 0)
        check_security(security)
        if salt_key == b"":
            raise ValueError("salt_key is empty: give 16 octets or more, or leave it out")
        if security is Security.NONE and tls is not None:
            raise ValueError("security NONE and a context for TLS contradict each other")
        if max_connections < 1:
            raise ValueError(f"max_connections is above 0, not {max_connections}")
        with naming("hostname"):
            validate_domain("localhost" if hostname is None else hostname, lenient=True)
        self._check_handler(handler)
        self._handler = handler
        self._listen_at = (host, port)
        self._settings = ServeSettings(
            hostname="localhost" if hostname is None else hostname,
            nonce=nonce,
            salt_key=salt_key or nonce(),
            security=security,
            tls=None if tls is None else server_factory(tls),
            mechanisms=mechanism_names(mechanisms),
            require_auth=require_auth,
            allow_cleartext_auth=allow_cleartext_auth,
            protocol=protocol,
            bare_line_endings=bare_line_endings,
            timeouts=as_timeouts(timeouts),
            limits=limits or Limits(),
            report_error=_log_error,
        )
        check_logins(handler, self._settings.mechanisms)
        self._max_connections = max_connections
        self._trace = None if trace is None else trace_to(trace)
        self._failed_logins = FailedLogins()
        # Who begins with TLS could not read it.
        self._refusal = b"" if security is Security.IMPLICIT else _TOO_MANY.encode()
        self._address: tuple[str, int] | None = None
        self._shutting_down = False

    def _check_handler(self, handler: Handler) -> None:
        """Look at whether this world can call what the handler has. Raises TypeError."""

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port where the server listens. LocalProtocolError if it is not."""
        if self._address is None:
            raise LocalProtocolError(
                "this server is not open: it is while its `with` or `async with` block lasts"
            )
        return self._address

    @property
    def port(self) -> int:
        """The port where the server listens; see `address`."""
        return self.address[1]

    def _require_closed(self) -> None:
        if self._address is not None:
            raise LocalProtocolError("this server is open already: close() it first")

    def _serve(self, peer: str) -> Serve:
        journal = ConnectionJournal("server", peer, self._failed_logins, self._trace)
        flow = Serve(self._handler, self._settings, peer, journal)
        if self._shutting_down:  # it was accepted just before
            flow.shut_down()
        return flow


def check_grace(grace: float | None) -> None:
    """Look at what a caller gave. Raises TypeError or ValueError."""
    check_types({"grace": _GRACE}, {"grace": grace})
    if grace is not None and not 0 <= grace < float("inf"):
        raise ValueError(f"grace: seconds, 0 or more, or None, not {grace!r}")


def _log_error(session: ServerSession, error: Exception) -> None:
    log(_logger, ERROR, "the handler has failed for %s", session.peer, error=error)


def log_given_up(error: Exception) -> None:
    """Tell who looks after the server of an error that is ours."""
    log(_logger, ERROR, "a connection was given up", error=error)


def log_not_served(what: str, error: Exception) -> None:
    """Tell who looks after the server that the system has refused `what`."""
    log(_logger, WARNING, "cannot %s a connection: %s", what, error)
