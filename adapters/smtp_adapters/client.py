"""What the clients of all worlds share: their parameters, and the session that they have.

Knows that one task at a time uses a client, and what it can be asked. Must not know any world:
nothing here waits, reads or writes.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self, cast

from smtp_adapters import client_settings as settings
from smtp_adapters.journal import ConnectionJournal, FailedLogins, TraceTarget, trace_to
from smtp_adapters.settings import from_env, from_toml, from_url, make_client
from smtp_adapters.tls import ClientTLS
from smtp_adapters.values import as_timeouts, check_types, nonce
from smtp_proto.engine import LocalProtocolError, Protocol
from smtp_proto.flow import (
    Attempt,
    ChooseLocalAddress,
    CloseSession,
    LocalAddress,
    Login,
    OpenSettings,
    Security,
    SendMany,
    Session,
    Timeouts,
    TLSInfo,
)
from smtp_proto.flow.security import check_security
from smtp_proto.flow.tls import no_tls
from smtp_proto.proxy import Proxy
from smtp_proto.sasl import AnyCredentials, Policy
from smtp_proto.sasl.mechanism import Mechanism
from smtp_proto.wire import Capabilities, Limits, Reply

_FAREWELL = 1.0  # seconds for QUIT, where an error waits to be told


class Client(ABC):
    """The part of each SMTPClient that needs no I/O.

    Where to: `host` is a name or an IP address, or the Path of a Unix socket. `port`: by default
    the one that goes with `security`. `stream`: a stream that is connected already, for one
    `open()`: a socket, or what this world has for a stream; it is closed with the client.

    The way: `proxy` is a URL, a proxy of smtp_proto.proxy, a sequence of these, the nearest first,
    or "env" for what the environment names now. `proxy_tls`: whom to trust as an https proxy.
    `proxy_header`: octets to begin with, for servers behind a proxy of their own. `local_address`:
    where connections begin, an IP address alone or with a port; or a function that is given the
    address and the port to connect to, for each address that is tried.

    Trust: `security` says when TLS is required; by default it is, in whichever way the server has
    it. `allow_cleartext`: whether AUTO may do without where none is offered. `tls`: whom to trust,
    or an ssl context of your own. `auth`: a user name and a password, or the credentials of
    another kind of login. `mechanisms`: the only ones of AUTH that may be used, or a Policy of
    smtp_proto.sasl, which also has an order and a minimum. `own_mechanisms`: more of them, of your
    own. `allow_cleartext_auth`: whether the password may go over a clear connection; a Policy says
    that itself.

    The rest: `timeouts`: seconds for everything, or for each phase. `local_hostname`: what EHLO
    says, by default the address literal of the connection's own end. `limits`: the most that is
    taken from the server. `protocol`: SMTP or LMTP. `pipelining`, `chunking`: False to do without,
    for servers that offer what they cannot do. `trace`: who is told each line, without secrets and
    content: a callable that is given a `smtp_adapters.journal.TraceLine`, a logger, or the path of
    a file to append to.

    Raises ValueError or TypeError for what makes no sense, and OSError for a file that cannot be
    read.
    """

    def __init__(
        self,
        host: str | Path,
        port: int | None = None,
        *,
        security: Security = Security.AUTO,
        tls: ClientTLS | ssl.SSLContext | None = None,
        auth: tuple[str, str] | AnyCredentials | None = None,
        proxy: str | Proxy | Sequence[str | Proxy] | None = None,
        proxy_tls: ClientTLS | ssl.SSLContext | None = None,
        proxy_header: bytes | None = None,
        local_address: str | LocalAddress | ChooseLocalAddress | None = None,
        stream: object = None,
        timeouts: Timeouts | float | None = None,
        local_hostname: str | None = None,
        limits: Limits | None = None,
        protocol: Protocol = Protocol.SMTP,
        pipelining: bool = True,
        chunking: bool = True,
        allow_cleartext: bool = False,
        allow_cleartext_auth: bool = False,
        mechanisms: Sequence[str] | Policy | None = None,
        own_mechanisms: Sequence[Mechanism] = (),
        trace: TraceTarget | None = None,
    ) -> None:
        check_security(security)
        check_types(settings.PARAMETERS, locals())
        name, path = settings.host_and_path(host)
        settings.check_one_way(path, stream, local_address)
        has_port = path is None and stream is None
        port = settings.client_port(port, security, has_port=has_port)
        tls = settings.tls_settings(security, tls)
        chain = settings.proxies(proxy, name, port, has_port=has_port)
        known = settings.known_mechanisms(own_mechanisms)
        self._settings = OpenSettings(
            host=name,
            port=port,
            security=security,
            tls=no_tls if tls is None else tls.factory(),
            server_hostname=None if tls is None else tls.server_hostname,
            proxies=chain,
            proxy_tls=settings.proxy_tls_factory(
                proxy_tls, chain, by_chance=proxy == settings.FROM_ENVIRONMENT
            ),
            proxy_header=settings.header(proxy_header),
            local_address=settings.local_end(local_address),
            unix_path=path,
            allow_cleartext=allow_cleartext,
            credentials=settings.as_credentials(auth),
            policy=settings.policy(mechanisms, known, allow_cleartext_auth),
            mechanisms=known,
            nonce=nonce,
            local_hostname=settings.own_name(local_hostname),
            protocol=protocol,
            timeouts=as_timeouts(timeouts),
            limits=limits or Limits(),
            pipelining=pipelining,
            chunking=chunking,
        )
        self._trace = None if trace is None else trace_to(trace)
        self._failed_logins = FailedLogins()
        self._prepare(stream)
        self._turn = Turn()
        self._last_session: Session | None = None
        self._is_open = False
        self._many: SendMany | None = None

    @classmethod
    def from_url(cls, url: str, **overrides: object) -> Self:
        """Make a client of a URL, as "smtp+starttls://user:password@host:587?timeout=30".

        `overrides`: parameters that stand in place of what the URL says; and `user`, `password`,
        `token` and `key_password`, as text or as a callable that returns it. The keys are listed
        in docs/settings.md. Raises SettingsError, a ValueError, which names the key and has no
        secret in it; and what the parameters themselves raise.
        """
        return make_client(cls, from_url(url), overrides)

    @classmethod
    def from_toml(
        cls, path: str | PathLike[str], section: str = "smtp", **overrides: object
    ) -> Self:
        """Make a client of a table in a TOML file; see `from_url()`."""
        return make_client(cls, from_toml(path, section), overrides)

    @classmethod
    def from_env(cls, prefix: str = "SMTP_", **overrides: object) -> Self:
        """Make a client of the environment variables with a prefix; see `from_url()`."""
        return make_client(cls, from_env(prefix), overrides)

    @abstractmethod
    def _prepare(self, stream: object) -> None:
        """Make ready what `open()` will use; `stream`: what was given. Raises TypeError."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection. The server may have ended it: the next call tells."""
        return self._is_open

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers. Also after the end; before `open()` a LocalProtocolError."""
        return self._seen_session().capabilities

    @property
    def tls(self) -> TLSInfo | None:
        """What TLS is in force, None on a clear connection; see `capabilities` for when."""
        return self._seen_session().tls

    @property
    def greeting(self) -> Reply:
        """What the server said first; see `capabilities` for when."""
        # A session that was opened has been greeted.
        return cast("Reply", self._seen_session().greeting)

    @property
    def login(self) -> Login | None:
        """How it was logged in, None where it was not; see `capabilities` for when.

        It tells which mechanism was used, and why each other one was passed over.
        """
        return self._seen_session().login

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The ways that AUTO went, the last one to a greeting; see `capabilities` for when.

        Where none led to one, the error that was raised has them.
        """
        return self._seen_session().attempts

    def _journal(self) -> ConnectionJournal:
        """The journal of a new connection."""
        settings = self._settings
        where = settings.unix_path or settings.host
        if settings.port is not None:
            where = f"{where}:{settings.port}"
        return ConnectionJournal("client", where, self._failed_logins, self._trace)

    def _begin(self, session: Session) -> None:
        self._last_session = session
        self._is_open = True

    def _require_closed(self) -> None:
        if self._is_open:
            raise LocalProtocolError("this client is open already: close() it first")

    def _session(self) -> Session:
        """The session to use now. Raises LocalProtocolError if there is none, or it is in use."""
        session = self._open_session()
        if self._is_sending:
            raise LocalProtocolError(
                "messages of send_many() are under way: take all outcomes first, "
                "or close() the client"
            )
        return session

    def _open_session(self) -> Session:
        session = self._seen_session()
        if not self._is_open:
            raise LocalProtocolError(
                "the connection has been closed, or an earlier call has failed: open() it again"
            )
        return session

    def _send_many(self) -> SendMany:
        """Begin to send many messages."""
        return SendMany(self._session())

    def _session_of(self, many: SendMany) -> Session:
        """The session for going on with many messages. Raises LocalProtocolError likewise."""
        session = self._open_session() if many is self._many else self._session()
        if many.session is not session:
            raise LocalProtocolError("this send_many() was on a connection that has been closed")
        self._many = many
        return session

    def _is_sending_by(self, many: SendMany) -> bool:
        """Whether messages of this are under way on this connection."""
        return self._is_open and many.session is self._last_session and many.under_way

    @property
    def _is_sending(self) -> bool:
        return self._many is not None and self._is_sending_by(self._many)

    def _can_go_on(self, session: Session) -> bool:
        """Whether the connection is of use, now that a flow has ended."""
        return session.usable or (session.in_step and self._is_sending)

    def _seen_session(self) -> Session:
        if self._last_session is None:
            raise LocalProtocolError("this client is not open: open() it, or use it in a `with`")
        return self._last_session


def farewell(session: Session) -> CloseSession:
    """QUIT, where an error is on its way to the caller.

    The server is told, so that it need not look for a lost client. But QUIT changes nothing any
    more, so nobody waits for it as long as at an orderly end: perhaps the server is what fails.
    """
    flow = CloseSession(session)
    flow.total = _FAREWELL if flow.total is None else min(_FAREWELL, flow.total)
    return flow


class Turn:
    """One call at a time, from whichever thread or task: the replies of two would be mixed up."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise LocalProtocolError(
                "another thread or task is using this client: give each one its own"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()
