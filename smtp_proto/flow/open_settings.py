"""All that decides how a session is opened. Pure values, which agree with each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from smtp_proto.engine import Protocol
from smtp_proto.flow.actions import ChooseLocalAddress, LocalAddress
from smtp_proto.flow.security import Security, check_security
from smtp_proto.flow.timeouts import Timeouts
from smtp_proto.flow.tls import ClientTLSFactory, no_tls
from smtp_proto.proxy import Proxy, ProxyCodecError, ProxyHeaderReader
from smtp_proto.proxy.endpoint import Endpoint, check_port
from smtp_proto.sasl import AnyCredentials, Policy
from smtp_proto.sasl.mechanism import Mechanism
from smtp_proto.sasl.registry import MECHANISMS
from smtp_proto.wire import Limits, WireError, validate_domain
from smtp_proto.wire.errors import check_flag, kind_of, shown

_ANY_PORT = 25


@dataclass(frozen=True, slots=True)
class OpenSettings:
    """All that decides how a session is opened.

    Raises ValueError for what does not go together, WireError for a host or a port that is none,
    and TypeError for what must not be mistaken for something else.
    """

    host: str
    port: int | None = None
    """None: the default of `security`; with AUTO 465, then 587."""
    security: Security = Security.AUTO
    tls: ClientTLSFactory = no_tls
    """Makes the TLS layer; needed in each mode but NONE."""
    server_hostname: str | None = None
    """The name to verify in the server's certificate; None: `host`."""
    proxies: tuple[Proxy, ...] = ()
    """The way to the server, the nearest first."""
    proxy_tls: ClientTLSFactory = no_tls
    """Makes the TLS layer towards proxies that want one."""
    proxy_header: bytes = b""
    """The PROXY header to begin with, for servers that want one; see `proxy.ProxyHeader`."""
    local_address: LocalAddress | ChooseLocalAddress | None = None
    """Where the connection is to begin; None: wherever the system likes."""
    unix_path: str | None = None
    """The Unix socket to connect to; `host` is then only a name."""
    allow_cleartext: bool = False
    """With AUTO: whether to go on without TLS where the server does not offer it."""
    credentials: AnyCredentials | None = field(default=None, repr=False)
    """None: no AUTH. With MANUAL they wait for `Authenticate`."""
    policy: Policy = field(default_factory=Policy)
    """Which mechanisms may be used."""
    mechanisms: tuple[Mechanism, ...] = field(default=MECHANISMS, repr=False)
    """Those that are known."""
    nonce: Callable[[], bytes] | None = None
    """Fresh random octets for the mechanisms that need them; None: they are passed over."""
    local_hostname: str | None = None
    """What EHLO says; None: the literal of the stream's local address (RFC 5321 4.1.3)."""
    protocol: Protocol = Protocol.SMTP
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    pipelining: bool = True
    """False: one command at a time, also where the server offers PIPELINING."""
    chunking: bool = True
    """False: DATA, also where the server offers CHUNKING."""

    def __post_init__(self) -> None:
        self._check_each()
        if self.allow_cleartext and self.security is not Security.AUTO:
            raise ValueError(
                f"allow_cleartext is for security 'auto'; {self.security.value!r} says itself "
                "what may be clear"
            )
        if self.proxies:
            Endpoint.parse(self.host, _ANY_PORT)
        if self.unix_path is not None and self.proxies:
            raise ValueError("unix_path: no proxy leads to a socket of this machine")
        if self.unix_path is not None and self.port is None and self.security is Security.AUTO:
            raise ValueError("unix_path: say which security, as there is no port to tell it by")

    def _check_each(self) -> None:
        _check_host(self.host)
        if self.port is not None:
            check_port(self.port)
        check_security(self.security)
        _check_factory("tls", self.tls)
        _check_factory("proxy_tls", self.proxy_tls)
        if self.proxy_header:
            _check_header(self.proxy_header)
        check_flag("allow_cleartext", self.allow_cleartext)
        if self.local_hostname is not None:
            validate_domain(self.local_hostname)

    @property
    def requires_tls(self) -> bool:
        """Whether nothing but EHLO and the like may go over a clear connection."""
        match self.security:
            case Security.IMPLICIT | Security.STARTTLS:
                return True
            case Security.AUTO:
                return not self.allow_cleartext
            case _:
                return False


def _check_host(host: object) -> None:
    if not isinstance(host, str):
        raise TypeError(f"host is a name or an IP address as str, not {kind_of(host)}")
    if not host or not host.isprintable() or " " in host:
        raise WireError("host", f"neither a name nor an IP address: '{shown(host)}'")


def _check_factory(name: str, factory: object) -> None:
    if not callable(factory):
        raise TypeError(f"{name} is a callable that makes the TLS layer, not {kind_of(factory)}")


def _check_header(octets: bytes) -> None:
    reader = ProxyHeaderReader()
    try:
        reader.receive_data(octets)
        reader.receive_eof()
    except ProxyCodecError as error:
        raise ValueError(
            f"proxy_header: make it with ProxyHeader(...).encode_v1() or encode_v2(): {error}"
        ) from error
    if reader.leftover:
        raise ValueError("proxy_header: there is something behind the header")
