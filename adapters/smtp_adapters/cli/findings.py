"""What was found out about a server, for people and for programs.

Knows what a report has in it, and what the extensions of SMTP mean. Must not know how it came
about, nor what a terminal is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from smtp_adapters.cli.names import Names
from smtp_adapters.cli.text import Cell, Mood
from smtp_adapters.tls.certificates import expiry, fingerprint, names
from smtp_proto.flow import CredentialReport, Security, SMTPError, TLSInfo
from smtp_proto.wire import Capabilities

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"
Row: TypeAlias = tuple[str, str | Cell]

_MEANINGS = {
    "8BITMIME": "takes octets above 127 (RFC 6152)",
    "ATRN": "gives mail the other way round, after a login (RFC 2645)",
    "AUTH": "takes logins (RFC 4954)",
    "BINARYMIME": "takes content of any octets, by BDAT (RFC 3030)",
    "BURL": "fetches content from an IMAP server (RFC 4468)",
    "CHUNKING": "takes content in counted chunks, BDAT (RFC 3030)",
    "DELIVERBY": "takes a time by which to deliver (RFC 2852)",
    "DSN": "takes wishes about delivery reports (RFC 3461)",
    "ENHANCEDSTATUSCODES": "says in three numbers what happened (RFC 2034)",
    "ETRN": "starts its queue for a domain (RFC 1985)",
    "EXPN": "shows who is on a list (RFC 5321)",
    "FUTURERELEASE": "holds mail until a given time (RFC 4865)",
    "HELP": "has a help text (RFC 5321)",
    "LIMITS": "says how much it takes at a time (RFC 9422)",
    "MT-PRIORITY": "takes priorities (RFC 6710)",
    "PIPECONNECT": "takes commands before it has greeted",
    "PIPELINING": "takes many commands in one flight (RFC 2920)",
    "PRDR": "answers to the content for each recipient",
    "REQUIRETLS": "promises TLS on the whole way (RFC 8689)",
    "SIZE": "says how large a message it takes (RFC 1870)",
    "SMTPUTF8": "takes addresses in UTF-8 (RFC 6531)",
    "STARTTLS": "changes to TLS (RFC 3207)",
    "VRFY": "tells whether a user exists (RFC 5321)",
    "XCLIENT": "takes the word of a proxy about who connects",
}

_WAYS = {
    Security.IMPLICIT: "TLS from the start",
    Security.STARTTLS: "STARTTLS",
    Security.NONE: "clear text",
}


def meaning(keyword: str) -> str:
    """What an extension is for; "" where that is not known here."""
    return _MEANINGS.get(keyword, "")


def way(security: Security) -> str:
    """What to call a way to reach a server."""
    return _WAYS[security]


def outcome(error: SMTPError | None, success: str, names: Names) -> Cell:
    """What became of it: why it failed, or the word for its success."""
    return Cell(success, Mood.GOOD) if error is None else Cell(names(str(error)), Mood.BAD)


def tls_rows(tls: TLSInfo | None) -> Iterator[Row]:
    """What TLS was in force, one thing after the other."""
    if tls is None:
        yield "TLS", "none"
        return
    yield "TLS", f"{tls.version}, {tls.cipher}"
    certificate = tls.peer_certificate
    verdict = Cell("verified", Mood.GOOD) if tls.verified else Cell("not verified", Mood.BAD)
    yield "certificate", verdict
    if certificate is not None:
        until = expiry(certificate)
        yield "for", ", ".join(names(certificate))
        yield "until", "" if until is None else f"{until:%Y-%m-%d %H:%M} UTC"
        yield "SHA-256", fingerprint(certificate)


def login_rows(report: CredentialReport, names: Names) -> Iterator[Row]:
    """What became of the login, one thing after the other."""
    yield "offered", ", ".join(report.offered) or "nothing"
    yield "allowed", "any" if report.allowed is None else ", ".join(sorted(report.allowed))
    yield "tried", ", ".join(report.tried) or "nothing"
    for name, why in report.passed_over:
        yield f"not {name}", Cell(names(why), Mood.FAINT)
    if report.reply is not None:
        yield "reply", str(report.reply)


def offer_rows(report: CredentialReport) -> Iterator[tuple[str | Cell, ...]]:
    """What the server offers: keyword, values, when, and what that is."""
    before = _keywords(report.capabilities_before_tls)
    now = _keywords(report.capabilities)
    for keyword, values in (before | now).items():
        when = ""
        if report.capabilities_before_tls is not None:
            when = _when(keyword in before, keyword in now)
        yield keyword, " ".join(values), when, Cell(meaning(keyword), Mood.FAINT)


def _when(before: bool, now: bool) -> str:
    if before and now:
        return ""
    return "only before TLS" if before else "only under TLS"


def _keywords(capabilities: Capabilities | None) -> dict[str, tuple[str, ...]]:
    return {} if capabilities is None else dict(capabilities.keywords)


# --- For programs -----------------------------------------------------------------------------


def server_json(report: CredentialReport, names: Names) -> dict[str, Json]:
    """What the server is like, and why not all of it is known."""
    return {
        "greeting": None if report.greeting is None else str(report.greeting),
        "tls": _tls(report.tls),
        "capabilities_before_tls": _capabilities(report.capabilities_before_tls),
        "capabilities": _capabilities(report.capabilities),
        "error": _error(report.error, names),
    }


def login_json(report: CredentialReport, names: Names) -> dict[str, Json]:
    """Which ways were tried, and what became of the login. It has no secret in it."""
    return {
        "host": report.host,
        "port": report.port,
        "authenticated": report.authenticated,
        "attempts": [
            {
                "port": attempt.port,
                "security": attempt.security.value,
                "error": _error(attempt.error, names),
            }
            for attempt in report.attempts
        ],
        "offered": [*report.offered],
        "allowed": None if report.allowed is None else [*sorted(report.allowed)],
        "tried": [*report.tried],
        "passed_over": {name: names(why) for name, why in report.passed_over},
        "reply": None if report.reply is None else str(report.reply),
    }


def _error(error: SMTPError | None, names: Names) -> Json:
    if error is None:
        return None
    return {
        "kind": type(error).__name__,
        "phase": None if error.phase is None else error.phase.value,
        "text": names(str(error)),
    }


def _tls(tls: TLSInfo | None) -> Json:
    if tls is None:
        return None
    certificate = tls.peer_certificate
    return {
        "version": tls.version,
        "cipher": tls.cipher,
        "server_hostname": tls.server_hostname,
        "verified": tls.verified,
        "not_verified_because": tls.not_verified_because or None,
        "certificate": None if certificate is None else _certificate(certificate),
    }


def _certificate(certificate: bytes) -> Json:
    until = expiry(certificate)
    return {
        "names": [*names(certificate)],
        "until": None if until is None else until.isoformat(),
        "sha256": fingerprint(certificate),
    }


def _capabilities(capabilities: Capabilities | None) -> Json:
    if capabilities is None:
        return None
    keywords: Mapping[str, tuple[str, ...]] = capabilities.keywords
    return {keyword: [*parameters] for keyword, parameters in keywords.items()}
