"""`smtp-proto check-credentials`: can we log in there?

Knows how to show a report. Must not know how it comes about. No mail is sent.
"""

from __future__ import annotations

import argparse
import json

from smtp_adapters.cli.arguments import add_settings, settings_of
from smtp_adapters.cli.findings import login_json, login_rows, outcome, server_json, tls_rows, way
from smtp_adapters.cli.names import CLIENT
from smtp_adapters.cli.text import Cell, Exit, Mood, complain, exit_of, explained, say, show_table
from smtp_adapters.settings import client_arguments, make_client
from smtp_adapters.socket import SMTPClient
from smtp_proto.flow import CredentialReport

NAMES = CLIENT
HELP = "log in, and tell what happened"
DESCRIPTION = """\
Connect to a server, start TLS and log in, as the options say, and show what was tried
on the way, the certificate, the mechanisms, and what the server answered. No mail is
sent. The password is asked for on a terminal; else it is read from a file or from the
environment, see --password-file and --password-env: it is never an option itself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `check-credentials` can be given."""
    parser.usage = "%(prog)s --server HOST[:PORT] --user NAME [OPTION ...]"
    parser.add_argument("--json", action="store_true", help="print it for programs to read")
    add_settings(parser)


def run(given: argparse.Namespace) -> Exit:
    """Check, and show the report. OK if it led to a login. Raises ValueError without a login."""
    settings = settings_of(given)
    if client_arguments(settings).get("auth") is None:
        raise ValueError("nobody to log in as: give --user and a password")
    report = make_client(SMTPClient, settings).check_credentials()
    if given.json:
        say(json.dumps({**login_json(report, NAMES), **server_json(report, NAMES)}))
    else:
        _show(report)
    if report.error is None:
        return Exit.OK
    complain(explained(report.error))
    return exit_of(report.error)


def _show(report: CredentialReport) -> None:
    if report.attempts:
        show_table(
            ("port", "way", "outcome"),
            [
                (str(attempt.port), way(attempt.security), outcome(attempt.error, "greeted", NAMES))
                for attempt in report.attempts
            ],
        )
        say("")
    server = report.host if report.port is None else f"{report.host} port {report.port}"
    # Why it failed is told where errors are.
    failed = Cell(f"failed in phase {report.phase.value}" if report.phase else "failed", Mood.BAD)
    show_table(
        ("", ""),
        [
            ("server", server),
            ("login", Cell("succeeded", Mood.GOOD) if report else failed),
            *tls_rows(report.tls),
            *login_rows(report, NAMES),
        ],
    )
