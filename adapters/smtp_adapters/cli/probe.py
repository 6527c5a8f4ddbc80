"""`smtp-proto probe`: what a server offers, in each way to reach it.

Knows which ways there are, and how to show what was found. No login is tried, no mail is sent.
"""

from __future__ import annotations

import argparse
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace

from smtp_adapters.cli.arguments import Endpoint, endpoint, readable
from smtp_adapters.cli.findings import Json, offer_rows, outcome, server_json, tls_rows, way
from smtp_adapters.cli.names import PROBE
from smtp_adapters.cli.text import Exit, exit_of, say, show_table
from smtp_adapters.socket import SMTPClient
from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import CertificateError, CredentialReport, Security

NAMES = PROBE
HELP = "show what a server offers"
DESCRIPTION = """\
Connect to a server in each way that there is, and show which of them work, its
certificate, and what it offers, before TLS and after. No login is tried and no mail
is sent. Without a port: 465 with TLS from the start, 587 and 25 with STARTTLS, and
25 in clear text. A certificate that is refused is a failure, whichever other way works."""

_WAYS = (
    (465, Security.IMPLICIT),
    (587, Security.STARTTLS),
    (25, Security.STARTTLS),
    (25, Security.NONE),
)
_MODES = (Security.IMPLICIT, Security.STARTTLS, Security.NONE)
_PATIENCE = 10.0  # seconds for each way


@dataclass(frozen=True, slots=True)
class _Finding:
    """What was found in one way."""

    port: int
    security: Security
    report: CredentialReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `probe` can be given."""
    parser.add_argument("server", metavar="HOST[:PORT]", type=endpoint, help="the server")
    parser.add_argument(
        "--ca-file", metavar="FILE", type=readable, help="trust these certificates (PEM)"
    )
    parser.add_argument("--local-hostname", metavar="NAME", help="what to call this host in EHLO")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=_PATIENCE,
        help="for each way (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print it for programs to read")


def run(given: argparse.Namespace) -> Exit:
    """Look, and show what was found. Raises ValueError for what cannot be used."""
    server: Endpoint = given.server
    ways = _WAYS if server.port is None else [(server.port, mode) for mode in _MODES]
    findings = [_look(given, server.host, port, security) for port, security in ways]
    if given.json:
        say(json.dumps({"host": server.host, "ways": [_json(finding) for finding in findings]}))
    else:
        _show(findings)
    return _exit([finding.report for finding in findings])


def _exit(reports: Sequence[CredentialReport]) -> Exit:
    """How it ended: OK if any way works, else by the failure that came after the greeting."""
    errors = [report.error for report in reports]
    if any(isinstance(error, CertificateError) for error in errors):
        return Exit.CERTIFICATE
    furthest = max(reports, key=lambda report: (report.error is None, report.greeting is not None))
    return Exit.OK if furthest.error is None else exit_of(furthest.error)


def _look(given: argparse.Namespace, host: str, port: int, security: Security) -> _Finding:
    def check(tls: ClientTLS | None) -> CredentialReport:
        client = SMTPClient(
            host,
            port,
            security=security,
            tls=tls,
            timeouts=given.timeout,
            local_hostname=given.local_hostname,
        )
        return client.check_credentials()

    if security is Security.NONE:
        return _Finding(port, security, check(None))
    report = check(ClientTLS(ca_file=given.ca_file))
    refusal = report.error
    if isinstance(refusal, CertificateError):
        # Nothing is trusted to this connection: it is only looked at.
        seen = check(ClientTLS(context=_not_verifying()))
        tls = seen.tls and replace(seen.tls, not_verified_because=NAMES(str(refusal)))
        report = replace(seen, tls=tls, error=refusal)
    return _Finding(port, security, report)


def _not_verifying() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _json(finding: _Finding) -> dict[str, Json]:
    return {
        "port": finding.port,
        "security": finding.security.value,
        **server_json(finding.report, NAMES),
    }


def _show(findings: Sequence[_Finding]) -> None:
    show_table(
        ("port", "way", "outcome"),
        [
            (
                str(finding.port),
                way(finding.security),
                outcome(finding.report.error, "works", NAMES),
            )
            for finding in findings
        ],
    )
    for finding in findings:
        if finding.report.greeting is not None:
            say("")
            _show_one(finding)


def _show_one(finding: _Finding) -> None:
    report = finding.report
    say(f"Port {finding.port}, {way(finding.security)}")
    say("")
    show_table(("", ""), [("greeting", str(report.greeting)), *tls_rows(report.tls)])
    rows = list(offer_rows(report))
    if rows:
        say("")
        show_table(("offers", "with", "when", "what it is"), rows)
