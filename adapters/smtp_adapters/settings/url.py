"""Settings as a URL: reads it, and writes it without secrets.

Knows RFC 3986, and which key stands where. Must not know what a key means.

    smtp://user:password@host:port?key=value&key=value
    lmtp+unix:///run/lmtp.sock?key=value

The scheme says the protocol and when TLS begins. In a name, a password or a value, what is no
letter, digit or one of "-._~" is best written as %XX: "%40" is an "@". A "+" is a "+".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from smtp_adapters.settings.given import Given, Settings, SettingsError, unknown
from smtp_adapters.settings.keys import BY_NAME, FROM_ENVIRONMENT, KEYS, NONE
from smtp_proto.engine import Protocol
from smtp_proto.flow import Security
from smtp_proto.proxy import parse_proxy
from smtp_proto.wire.errors import shown


class _Scheme(NamedTuple):
    protocol: str
    security: str
    unix: bool


def _schemes() -> Iterator[tuple[str, _Scheme]]:
    for protocol in ("smtp", "lmtp"):
        for security in Security:
            name = protocol + _SUFFIXES.get(security, f"+{security.value}")
            yield name, _Scheme(protocol, security.value, unix=False)
        # Without a port, there is nothing for AUTO to go by.
        for security in _UNIX_SECURITIES:
            name = protocol + _UNIX_SUFFIXES.get(security, f"+{security.value}") + "+unix"
            yield name, _Scheme(protocol, security.value, unix=True)


_SUFFIXES = {Security.AUTO: "", Security.IMPLICIT: "s"}
_UNIX_SECURITIES = [security for security in Security if security is not Security.AUTO]
_UNIX_SUFFIXES = {Security.NONE: "", Security.IMPLICIT: "s"}


def _is_plain(scheme: _Scheme) -> bool:
    return scheme.protocol == "smtp" and not scheme.unix


SCHEMES: Mapping[str, _Scheme] = MappingProxyType(dict(_schemes()))
_SCHEME_OF = {scheme: name for name, scheme in SCHEMES.items()}

_ALL_SCHEMES = (
    ", ".join(name for name, scheme in SCHEMES.items() if _is_plain(scheme))
    + "; lmtp for smtp where it is LMTP, +unix behind for a Unix socket"
)


def no_such_scheme(name: str) -> str:
    """What is wrong with a scheme, and what may have been meant; "" if there is such a scheme."""
    if name.lower() in SCHEMES:
        return ""
    # Of the name itself nothing is shown: it may be a part of a password.
    close = get_close_matches(name[:80].lower(), SCHEMES, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"there is no such scheme: {hint}the schemes are {_ALL_SCHEMES}"


# Where a URL has those keys that are not in its query.
_PLACES = {
    "host": "it stands behind ://",
    "port": "it stands behind the host",
    "socket": "it is the path of lmtp+unix:///path",
    "security": "the scheme says it, as smtp+starttls:// does",
    "protocol": "the scheme says it",
    "auth.user": "it stands before the host, as user:password@host",
    "auth.password": "it stands before the host, as user:password@host",
    "url": "a URL is not inside a URL",
}

# URI = scheme "://" authority path [ "?" query ] [ "#" fragment ]    RFC 3986 3
_PARTS = re.compile(
    r"(?P<scheme>[^:/?#]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?",
    re.DOTALL,
)
# authority = [ userinfo "@" ] host [ ":" port ]    RFC 3986 3.2
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def from_url(url: str) -> Settings:
    """Read a URL. Raises SettingsError, without a secret in it."""
    return Settings.of(read_url(url, "URL"))


def read_url(url: str, where: str, folder: Path | None = None) -> Iterator[Given]:
    """Yield what a URL gives. Errors name it by `where`; its files are in `folder`."""
    parts = _PARTS.fullmatch(url)
    wrong = no_such_scheme(parts["scheme"]) if parts else f"the schemes are {_ALL_SCHEMES}"
    if parts is None or wrong:
        raise SettingsError(
            where,
            "no URL of a server, as smtps://mail.example.org and lmtp+unix:///run/lmtp.sock are; "
            + wrong,
        )
    scheme = SCHEMES[parts["scheme"].lower()]
    if parts["fragment"] is not None:
        raise SettingsError(where, 'a fragment means nothing here: write %23 for "#"')
    for name, text in _pairs(scheme, parts, where):
        yield Given.of(BY_NAME[name], text, f"{where} ({name})", folder)


def _pairs(scheme: _Scheme, parts: re.Match[str], where: str) -> Iterator[tuple[str, str]]:
    yield "protocol", scheme.protocol
    yield "security", scheme.security
    userinfo, at, host_and_port = parts["authority"].rpartition("@")
    if not scheme.unix:
        yield from _host_and_port(host_and_port, parts["path"], where)
    elif host_and_port:
        raise SettingsError(
            where, "a Unix socket has no host: write three slashes, as in lmtp+unix:///path"
        )
    else:
        yield "socket", _decode(parts["path"], where)
    if at:
        yield from _userinfo(userinfo, where)
    if parts["query"] is not None:
        # A password with "?" in it that is not encoded ends up in the query.
        readable = bool(at) or "@" not in parts["query"]
        yield from _query(parts["query"], where, show=readable)


def _host_and_port(text: str, path: str, where: str) -> Iterator[tuple[str, str]]:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or path not in ("", "/"):
        raise SettingsError(
            where,
            "not host:port or [2001:db8::1]:port; in a user name or a password write %2F, %3F, "
            "%23 and %40 for / ? # @",
        )
    host, port = match.groups()
    yield "host", _decode(host.removeprefix("[").removesuffix("]"), where)
    if port is not None:
        yield "port", port


def _userinfo(text: str, where: str) -> Iterator[tuple[str, str]]:
    if "@" in text:
        raise SettingsError(where, 'in a user name or a password write %40 for "@"')
    user, colon, password = text.partition(":")
    yield "auth.user", _decode(user, where)
    if colon:
        yield "auth.password", _decode(password, where)


def _query(text: str, where: str, *, show: bool) -> Iterator[tuple[str, str]]:
    for pair in text.split("&"):
        encoded_name, equals, value = pair.partition("=")
        name = _decode(encoded_name, where)
        key = BY_NAME.get(name)
        if key is None:
            if not show:
                raise SettingsError(
                    where, "no such key; if it is part of a password, write %3F for its ?"
                )
            raise unknown(f"{where} ({shown(name)})", name, BY_NAME)
        if key.name in _PLACES:
            raise SettingsError(f"{where} ({name})", f"not in the query: {_PLACES[key.name]}")
        if not equals:
            raise SettingsError(f"{where} ({name})", "there is no value: write key=value")
        yield name, _decode(value, where)


def _decode(text: str, where: str) -> str:
    if _STRAY_PERCENT.search(text):
        raise SettingsError(where, 'write %25 for "%"')
    octets = unquote_to_bytes(text.encode("utf-8", "surrogatepass"))
    # What is no UTF-8 becomes what no value may have.
    return octets.decode("utf-8", "surrogateescape")


# --- Writing ---------------------------------------------------------------------------------


def canonical_url(settings: Settings) -> str:
    """The settings as a URL, without passwords, tokens and what proxies are told.

    Raises SettingsError where there is no host.
    """
    given = settings.given
    unix = "socket" in given
    if not unix and "host" not in given:
        raise no_host()
    security = text_of(settings, "security") or (Security.NONE if unix else Security.AUTO).value
    protocol = text_of(settings, "protocol") or Protocol.SMTP.value
    scheme = _Scheme(protocol.lower(), security.lower(), unix)
    if scheme not in _SCHEME_OF:
        raise SettingsError(given["security"].where, "a Unix socket has no port to tell it by")
    user = text_of(settings, "auth.user")
    userinfo = f"{quote(user, safe='')}@" if user else ""
    query = "&".join(
        f"{key.name}={quote(shown_text(given[key.name]), safe='/:,')}"
        for key in KEYS
        if key.name in given and key.name not in _PLACES and not key.kind.secret
    )
    return f"{_SCHEME_OF[scheme]}://{userinfo}{_where_to(settings)}{query and '?'}{query}"


def _where_to(settings: Settings) -> str:
    if "socket" in settings.given:
        return quote(text_of(settings, "socket"))
    host = text_of(settings, "host").removeprefix("[").removesuffix("]")
    port = text_of(settings, "port")
    quoted = f"[{quote(host, safe=':')}]" if ":" in host else quote(host)
    return f"{quoted}:{port}" if port else quoted


def text_of(settings: Settings, name: str) -> str:
    """The text of a key; "" if it was not given."""
    return settings.given[name].text if name in settings.given else ""


def shown_text(given: Given) -> str:
    """The text of a value that is no secret; proxies without what they are told."""
    return ",".join(map(_without_secret, given.parts) if given.key.name == "proxy" else given.parts)


def _without_secret(proxy: str) -> str:
    return proxy if proxy in (NONE, FROM_ENVIRONMENT) else parse_proxy(proxy).url


def no_host() -> SettingsError:
    """The error for settings that name no server."""
    return SettingsError("host", "it is missing: name the server, or its Unix socket by socket")
