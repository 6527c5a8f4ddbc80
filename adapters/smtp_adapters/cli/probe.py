"""`smtp-proto probe`: what a server offers, in each way to reach it.

Knows which ways there are, and how to show what was found. No login is tried, no mail is sent.
"""

from __future__ import annotations

import argparse
import json
import ssl
from dataclasses import dataclass, replace

from smtp_adapters.cli.arguments import Endpoint, endpoint, readable
from smtp_adapters.cli.findings import Json, as_json, meaning, outcome, tls_rows
from smtp_adapters.cli.text import Exit, exit_of, say, show_table
from smtp_adapters.socket import SMTPClient
from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import CertificateError, CredentialReport, Security

HELP = "show what a server offers"
DESCRIPTION = """\
Connect to a server in each way that there is, and show which of them work, its
certificate, and what it offers, before TLS and after. No login is tried and no mail
is sent. Without a port: 465 with TLS from the start, 587 and 25 with STARTTLS, and
25 in clear text."""

_WAYS = (
    (465, Security.IMPLICIT),
    (587, Security.STARTTLS),
    (25, Security.STARTTLS),
    (25, Security.NONE),
)
_MODES = (Security.IMPLICIT, Security.STARTTLS, Security.NONE)
_PATIENCE = 10.0  # seconds for each step


@dataclass(frozen=True, slots=True)
class _Finding:
    """What was found in one way."""

    port: int
    security: Security
    report: CredentialReport

    @property
    def title(self) -> str:
        return f"port {self.port}, {self.security.value}"


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
    """Look, and show what was found. OK if any way works."""
    server: Endpoint = given.server
    ways = _WAYS if server.port is None else [(server.port, mode) for mode in _MODES]
    findings = [_look(given, server.host, port, security) for port, security in ways]
    if given.json:
        say(json.dumps(_json(server.host, findings), indent=None))
    else:
        _show(findings)
    errors = [finding.report.error for finding in findings]
    if None in errors:
        return Exit.OK
    return next(exit_of(error) for error in errors if error is not None)


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
        tls = seen.tls
        if tls is not None:
            tls = replace(tls, verified=False, not_verified_because=str(refusal))
        report = replace(seen, tls=tls, error=refusal)
    return _Finding(port, security, report)


def _not_verifying() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _json(host: str, findings: list[_Finding]) -> Json:
    return {
        "host": host,
        "ways": [
            {"security": finding.security.value, **as_json(finding.report), "port": finding.port}
            for finding in findings
        ],
    }


def _show(findings: list[_Finding]) -> None:
    show_table(
        ("port", "security", "outcome"),
        [
            (str(finding.port), finding.security.value, outcome(finding.report))
            for finding in findings
        ],
    )
    for finding in findings:
        if finding.report.greeting is not None:
            say("")
            _show_one(finding)


def _show_one(finding: _Finding) -> None:
    report = finding.report
    say(finding.title)
    show_table(("", ""), [("greeting", str(report.greeting)), *tls_rows(report.tls)])
    before = report.capabilities_before_tls
    now = report.capabilities
    offered = {} if now is None else dict(now.keywords)
    rows = [
        (keyword, " ".join(values), "", meaning(keyword)) for keyword, values in offered.items()
    ]
    if before is not None:
        rows = [
            (keyword, values, "" if keyword in before else "only under TLS", what)
            for keyword, values, _, what in rows
        ]
        rows += [
            (keyword, " ".join(values), "only before TLS", meaning(keyword))
            for keyword, values in before.keywords.items()
            if keyword not in offered
        ]
    if rows:
        show_table(("offers", "with", "when", "what it is"), rows)
