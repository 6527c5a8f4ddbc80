"""Versions and ciphers: what the settings want, and whether this OpenSSL can do all of it.

Knows OpenSSL's cipher lists, and that it says nothing of what it does not know in them: so each
thing is tried. Must not know certificates.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable

# What old lists exclude, and newer OpenSSLs have no more: to exclude it is no mistake.
_GONE = re.compile(
    r"3?DES|DSS|EXP(ORT(40|56)?)?|GOST|IDEA|KRB5|LOW|MD5|PSK|RC[24]|SEED|SRP|SSLv2"
    r"|a(DH|DSS|ECDH|GOST)|k(DH[dr]?|ECDH[er]?|EDH|GOST|SRP)"
)
_SECURITY_LEVEL = re.compile(r"@SECLEVEL=[0-5]")
_UNSAFE = "!aNULL:!eNULL"  # without a certificate, or without encryption, there is no TLS
_SEPARATORS = re.compile(r"[:, ;]+")


def limit(
    context: ssl.SSLContext,
    minimum: ssl.TLSVersion,
    maximum: ssl.TLSVersion | None,
    ciphers: str | None,
) -> None:
    """Let the context use these versions and ciphers only. Raises ValueError for what it cannot."""
    _check_order(minimum, maximum)
    if ciphers is not None:
        _choose(context, ciphers, minimum, maximum)
    highest = context.maximum_version
    for setting, version in (("minimum_version", minimum), ("maximum_version", maximum)):
        if version is not None:
            _try_version(context, setting, version)
    context.minimum_version = minimum
    context.maximum_version = maximum or highest


def _check_order(minimum: ssl.TLSVersion, maximum: ssl.TLSVersion | None) -> None:
    unnamed = {ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.MAXIMUM_SUPPORTED}
    if unnamed & {minimum, maximum}:
        raise ValueError("minimum_version and maximum_version name a version, such as TLSv1_2")
    if maximum is not None and minimum > maximum:
        raise ValueError(
            f"minimum_version {minimum.name} is above maximum_version {maximum.name}: nothing is "
            "left between them"
        )


def _try_version(context: ssl.SSLContext, setting: str, version: ssl.TLSVersion) -> None:
    context.minimum_version = context.maximum_version = version
    problem = _problem(context)
    if version < ssl.TLSVersion.TLSv1_2 and context.security_level > 0:
        # It might begin, and then find that SHA-1 must not sign.
        problem = 'it needs ciphers="DEFAULT:@SECLEVEL=0"'
    if problem:
        raise ValueError(
            f"{setting} {version.name}: {ssl.OPENSSL_VERSION} cannot do it with these settings: "
            f"{problem}"
        )


def _choose(
    context: ssl.SSLContext,
    ciphers: str,
    minimum: ssl.TLSVersion,
    maximum: ssl.TLSVersion | None,
) -> None:
    names = [name for name in _SEPARATORS.split(ciphers) if name]
    suites = [name for name in names if name.startswith("TLS_") and "_WITH_" not in name]
    older = [name for name in names if name not in suites]
    if not names:
        raise ValueError("ciphers is empty: leave it out for those of the ssl module")
    if suites and maximum is not None and maximum < ssl.TLSVersion.TLSv1_3:
        raise ValueError(f"ciphers: {', '.join(suites)}: for TLS 1.3, which is above the maximum")
    if older and minimum >= ssl.TLSVersion.TLSv1_3:
        raise ValueError(f"ciphers: {', '.join(older)}: for TLS 1.2, which is below the minimum")
    if suites:
        _choose_suites(context, suites)
    if older:
        _choose_older(context, older)


def _choose_suites(context: ssl.SSLContext, suites: list[str]) -> None:
    names = ", ".join(suites)
    choose: Callable[[str], None] | None = getattr(context, "set_ciphersuites", None)
    if choose is None:
        raise ValueError(
            f"ciphers: {names}: this Python cannot choose among the suites of TLS 1.3; leave them "
            "out, all are strong"
        )
    try:
        choose(":".join(suites))
    except ssl.SSLError as error:
        raise ValueError(
            f"ciphers: {names}: {ssl.OPENSSL_VERSION} does not have all of them"
        ) from error


def _choose_older(context: ssl.SSLContext, names: list[str]) -> None:
    level = "".join(f":{name}" for name in names if _SECURITY_LEVEL.fullmatch(name))
    lacking = [name for place, name in enumerate(names) if not _has(name, level, first=place == 0)]
    if lacking:
        raise ValueError(
            f"ciphers: {', '.join(lacking)}: {ssl.OPENSSL_VERSION} does not have it, or does not "
            "allow it here"
        )
    try:
        context.set_ciphers(":".join((*names, _UNSAFE)))
    except ssl.SSLError as error:
        raise ValueError(f"ciphers: {':'.join(names)}: no cipher is left") from error


def _has(name: str, level: str, *, first: bool) -> bool:
    """Whether one entry of a list means something to this OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if name.startswith("@"):
        return name == "@STRENGTH" or _SECURITY_LEVEL.fullmatch(name) is not None
    if name.startswith(("!", "-", "+")):
        return _GONE.fullmatch(name[1:]) is not None or _selects(context, name[1:])
    # DEFAULT is known in the first place only.
    alone = f"{name}:{_UNSAFE}" if first else f"{_UNSAFE}:{name}"
    return _selects(context, alone + level) and not _problem(context)


def _selects(context: ssl.SSLContext, ciphers: str) -> bool:
    try:
        context.set_ciphers(ciphers)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _problem(context: ssl.SSLContext) -> str:
    """Why the context cannot begin a handshake; "" if it can."""
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass  # now the server would answer
    except ssl.SSLError as error:
        return error.reason or str(error)
    return ""
