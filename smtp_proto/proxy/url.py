"""Proxy URLs: one string that says all of a proxy.

Knows the schemes, and how credentials are written. Must not know any proxy's protocol.

    socks4://user-id@host:port      SOCKS4, with names resolved here
    socks4a://user-id@host:port     SOCKS4a, with names resolved by the proxy
    socks5://user:pass@host:port    SOCKS5, with names resolved here
    socks5h://user:pass@host:port   SOCKS5, with names resolved by the proxy
    http://user:pass@host:port      HTTP CONNECT
    https://user:pass@host:port     HTTP CONNECT, and TLS with the proxy

Credentials and port may be left out. In a user name and a password, what is no letter, digit or
one of "-._~" is best written as %XX: "%40" is an "@".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from smtp_proto.proxy.http_connect import HttpConnect
from smtp_proto.proxy.socks4 import Socks4, Socks4a
from smtp_proto.proxy.socks5 import Socks5
from smtp_proto.wire import WireError

Proxy: TypeAlias = Socks4 | Socks4a | Socks5 | HttpConnect
"""Any proxy: it has `host`, `port`, `url`, `resolves_names` and `codec()`."""

_WHAT = "proxy URL"


def _with_user_id(
    kind: Callable[[str, int, str], Socks4 | Socks4a],
    host: str,
    port: int,
    username: str | None,
    password: str | None,
) -> Proxy:
    if password is not None:
        raise WireError(_WHAT, "SOCKS4 has no password: give a user id alone, or use SOCKS5")
    return kind(host, port, username or "")


@dataclass(frozen=True, slots=True)
class _Scheme:
    default_port: int
    build: Callable[[str, int, str | None, str | None], Proxy]


# The ports are those that the schemes have everywhere: RFC 1928 3 for SOCKS, RFC 9110 4.2 for the
# others. Some programs use 1080 for all of them, some 8080: who means these writes them.
_SCHEMES: Mapping[str, _Scheme] = MappingProxyType(
    {
        "socks4": _Scheme(1080, partial(_with_user_id, Socks4)),
        "socks4a": _Scheme(1080, partial(_with_user_id, Socks4a)),
        "socks5": _Scheme(1080, partial(Socks5, resolve_here=True)),
        "socks5h": _Scheme(1080, Socks5),
        "http": _Scheme(80, HttpConnect),
        "https": _Scheme(443, partial(HttpConnect, tls=True)),
    }
)

# authority = [ userinfo "@" ] host [ ":" port ]; an IPv6 address stands in brackets.
# RFC 3986 3.2
_AUTHORITY = re.compile(r"([^/?#]*)/?")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
# RFC 3986 2.1
_PERCENT_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def parse_proxy(url: str) -> Proxy:
    """Read a proxy URL.

    Raises WireError, without a credential in it: for an unknown scheme, for a path, a query or a
    fragment, and for all that the proxy itself does not take.
    """
    scheme, _, rest = url.partition("://")
    kind = _SCHEMES.get(scheme.lower())
    if kind is None or not rest:
        raise WireError(_WHAT, f"not one of {', '.join(_SCHEMES)} with :// and a host behind it")
    authority = _AUTHORITY.fullmatch(rest)
    if authority is None:
        raise WireError(
            _WHAT,
            "a path, a query or a fragment means nothing here: leave it out; in a user name or a "
            "password write %2F, %3F and %23 for / ? #",
        )
    userinfo, _, host_and_port = authority[1].rpartition("@")
    host, port = _split_host_and_port(host_and_port)
    username, password = _split_userinfo(userinfo)
    return kind.build(host, kind.default_port if port is None else int(port), username, password)


def _split_host_and_port(text: str) -> tuple[str, str | None]:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise WireError(_WHAT, "not host:port, [2001:db8::1]:port, or one of these without port")
    return match[1], match[2]


def _split_userinfo(text: str) -> tuple[str | None, str | None]:
    """Return user name and password; None for each that is not there."""
    if not text:
        return None, None
    if "@" in text:
        raise WireError(_WHAT, 'in a user name or a password write %40 for "@"')
    username, colon, password = text.partition(":")
    return _decode(username), _decode(password) if colon else None


def _decode(text: str) -> str:
    """Decode what is percent-encoded. What is no UTF-8 then, no credential may have."""
    octets = text.encode("utf-8", "surrogatepass")
    if _STRAY_PERCENT.search(octets):
        raise WireError(_WHAT, 'in a user name or a password write %25 for "%"')
    octets = _PERCENT_ENCODED.sub(lambda encoded: bytes.fromhex(encoded[1].decode()), octets)
    return octets.decode("utf-8", "surrogateescape")
