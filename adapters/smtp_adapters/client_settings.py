"""What SMTPClient is given, looked at and made into what a session is opened with.

Knows each parameter, and which of them contradict each other. Must not know any world.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from smtp_adapters.reach import checked_local_address
from smtp_adapters.tls import ClientTLS, server_name
from smtp_adapters.values import (
    FLAG,
    LIMITS,
    PROTOCOL,
    SECONDS,
    TEXT,
    as_tuple,
    check_port,
    mechanism_names,
    naming,
)
from smtp_proto.flow import (
    ChooseLocalAddress,
    ClientTLSFactory,
    LocalAddress,
    Security,
)
from smtp_proto.flow.tls import no_tls
from smtp_proto.proxy import HttpConnect, Proxy, choose_from_environment, parse_proxy
from smtp_proto.proxy.endpoint import Endpoint
from smtp_proto.sasl import AnyCredentials, Credentials, Policy
from smtp_proto.sasl.mechanism import Mechanism
from smtp_proto.sasl.registry import MECHANISMS
from smtp_proto.wire import WireError, shown, validate_domain
from smtp_proto.wire.errors import kind_of

PARAMETERS = {
    "allow_cleartext": FLAG,
    "allow_cleartext_auth": FLAG,
    "chunking": FLAG,
    "limits": LIMITS,
    "local_hostname": TEXT.or_none,
    "pipelining": FLAG,
    "protocol": PROTOCOL,
    "timeouts": SECONDS,
}
"""Those of SMTPClient that are of simple types."""

FROM_ENVIRONMENT = "env"
_THIS_HOST = "localhost"


# --- where to ------------------------------------------------------------------------------------


_ANY_PORT = 25
_HOST_AND_PORT = re.compile(r"[^:]*:[0-9]+|\[.*\]:[0-9]+")


def host_and_path(host: object) -> tuple[str, str | None]:
    """The host as a resolver takes it, and the Unix socket, if it is one. Raises TypeError.

    An address is without brackets then, a name in A-labels.
    """
    if isinstance(host, Path):
        return _THIS_HOST, str(host)
    if not isinstance(host, str):
        raise TypeError(
            "host is a name or an IP address as str, or the Path of a Unix socket, "
            f"not {kind_of(host)}"
        )
    if "://" in host:
        raise ValueError("host is a name or an address; for a URL there is SMTPClient.from_url()")
    if host.startswith("/"):
        raise ValueError("host is a name or an address; for a Unix socket give its Path")
    if _HOST_AND_PORT.fullmatch(host):
        raise ValueError("host is a name or an address alone: the port is a parameter of its own")
    with naming("host"):
        name = server_name(host)
        if ":" not in name:
            Endpoint.parse(name, _ANY_PORT)  # 127.1 and the like mean something else to a resolver
    return (host.removeprefix("[").removesuffix("]") if host.isascii() else name), None


def check_one_way(path: str | None, stream: object, local_address: object) -> None:
    """Look at what leads to the server. Raises ValueError where one thing rules out another."""
    if path is not None and stream is not None:
        raise ValueError("stream and a Unix socket contradict each other: only one can be used")
    if local_address is not None and (path is not None or stream is not None):
        raise ValueError("local_address is for connections that begin here, to a host and a port")


def client_port(port: int | None, security: Security, *, has_port: bool) -> int | None:
    """The port to connect to; None: AUTO tries more than one, or there is none.

    `has_port`: whether what is connected to has a port at all. Raises TypeError or ValueError.
    """
    if port is None:
        if not has_port and security is Security.AUTO:
            raise ValueError(
                "a stream or a Unix socket has no port to tell how TLS begins: say which security"
            )
        return security.default_port if has_port else None
    check_port(port, 1)
    return port


def local_end(
    given: str | LocalAddress | ChooseLocalAddress | None,
) -> LocalAddress | ChooseLocalAddress | None:
    """Where connections are to begin. Raises TypeError or ValueError."""
    if given is None or callable(given):
        return given
    with naming("local_address"):
        return checked_local_address(given)


def own_name(given: str | None) -> str | None:
    """What to call this host. Raises WireError."""
    with naming("local_hostname"):
        return None if given is None else validate_domain(given)


# --- the way -------------------------------------------------------------------------------------


def proxies(
    given: str | Proxy | Sequence[str | Proxy] | None,
    host: str,
    port: int | None,
    *,
    has_port: bool,
) -> tuple[Proxy, ...]:
    """The proxies to go through, the nearest first. Raises TypeError or WireError."""
    if given is None:
        return ()
    if given == FROM_ENVIRONMENT:
        if not has_port:
            return ()  # there is a way already
        chosen = choose_from_environment(os.environ, host, port or _first_port())
        return () if chosen is None else (chosen,)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return tuple(_proxy(each) for each in given)
    return (_proxy(given),)


def _first_port() -> int:
    return Security.IMPLICIT.default_port or 0


_NEXT_URL = re.compile(r",\s*[a-z0-9]+://", re.IGNORECASE)


def _proxy(given: object) -> Proxy:
    if isinstance(given, str):
        if _NEXT_URL.search(given):
            raise WireError("proxy", "several URLs in one text: give a list of them")
        return parse_proxy(given)
    if isinstance(given, Proxy):
        return given
    raise TypeError(
        "proxy is a URL, a proxy of smtp_proto.proxy, a sequence of these, or 'env', "
        f"not {kind_of(given)}"
    )


def proxy_tls_factory(
    given: ClientTLS | ssl.SSLContext | None, chain: Sequence[Proxy], *, by_chance: bool
) -> ClientTLSFactory:
    """What makes TLS with proxies that want it.

    `by_chance`: whether the chain is not the caller's choice, and may have none. Raises TypeError
    or ValueError.
    """
    wanted = any(isinstance(proxy, HttpConnect) and proxy.tls for proxy in chain)
    if given is not None and not wanted and not by_chance:
        raise ValueError("proxy_tls is for https proxies, and there is none")
    tls = _client_tls("proxy_tls", given)
    with naming("proxy_tls"):
        return tls.factory() if wanted else no_tls


def header(given: object) -> bytes:
    """The PROXY header. Raises TypeError; OpenSettings looks at the octets."""
    if given is None:
        return b""
    if not isinstance(given, bytes):
        raise TypeError(
            "proxy_header is bytes, as ProxyHeader(...).encode_v2() makes them, "
            f"not {kind_of(given)}"
        )
    return given


# --- TLS and login -------------------------------------------------------------------------------


def tls_settings(security: Security, tls: ClientTLS | ssl.SSLContext | None) -> ClientTLS | None:
    """How to make TLS with the server; None where there is none. Raises TypeError, ValueError."""
    if security is Security.NONE:
        if tls is not None:
            raise ValueError("security NONE and settings for TLS contradict each other")
        return None
    return _client_tls("tls", tls)


def _client_tls(name: str, tls: object) -> ClientTLS:
    match tls:
        case None:
            return ClientTLS()
        case ClientTLS():
            return tls
        case ssl.SSLContext():
            return ClientTLS(context=tls)
        case _:
            raise TypeError(f"{name} is a ClientTLS or an SSLContext, not {kind_of(tls)}")


def as_credentials(auth: object) -> AnyCredentials | None:
    """What to log in with. Raises TypeError."""
    if auth is None or isinstance(auth, AnyCredentials):
        return auth
    match auth:
        case (str(user), str(password)):
            return Credentials(user, password)
        case _:  # nothing of it is shown: there may be a password in it
            raise TypeError("auth is a user name and a password, or credentials of smtp_proto.sasl")


def policy(
    mechanisms: Sequence[str] | Policy | None,
    known: Iterable[Mechanism],
    allow_cleartext_auth: bool,
) -> Policy:
    """Which mechanisms may be used. Raises TypeError or ValueError."""
    if isinstance(mechanisms, Policy):
        chosen = mechanisms
        if allow_cleartext_auth and not chosen.allow_cleartext:
            raise ValueError(
                "allow_cleartext_auth and a Policy whose allow_cleartext is False contradict each "
                "other: let the Policy say it"
            )
    else:
        allowed = None if mechanisms is None else frozenset(mechanism_names(mechanisms))
        chosen = Policy(allowed, allow_cleartext=allow_cleartext_auth)
    names = {mechanism.name for mechanism in known}
    for name in sorted({*(chosen.allowed or ()), *chosen.order} - names):
        close = get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]}?" if close else "own_mechanisms brings more of them"
        raise ValueError(f"mechanisms: {shown(name)} is not known here; {hint}")
    return chosen


def known_mechanisms(own: Sequence[Mechanism]) -> tuple[Mechanism, ...]:
    """The caller's mechanisms, and those that are known anyway. Raises TypeError."""
    words = "values of smtp_proto.sasl.mechanism.Mechanism"
    return (*as_tuple("own_mechanisms", own, Mechanism, words), *MECHANISMS)
