"""`smtp-proto check-credentials`: can we log in there?

Knows how to show a report. Must not know how it comes about. No mail is sent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from smtp_adapters.cli.arguments import add_settings, settings_of
from smtp_adapters.cli.findings import as_json, login_rows, outcome, tls_rows
from smtp_adapters.cli.text import Exit, complain, exit_of, explained, say, show_table
from smtp_adapters.settings import client_arguments
from smtp_adapters.socket import SMTPClient

HELP = "log in, and tell what happened"
DESCRIPTION = """\
Connect to a server, start TLS and log in, as the options say, and show what was tried
on the way, the certificate, the mechanisms, and what the server answered. No mail is
sent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `check-credentials` can be given."""
    parser.usage = "%(prog)s --server HOST[:PORT] [OPTION ...]"
    parser.add_argument("--json", action="store_true", help="print it for programs to read")
    add_settings(parser)


def run(given: argparse.Namespace) -> Exit:
    """Check, and show the report. OK if it led to a login."""
    make: Callable[..., SMTPClient] = SMTPClient
    client = make(**client_arguments(settings_of(given)))
    report = client.check_credentials()
    if given.json:
        say(json.dumps(as_json(report)))
    else:
        rows = [
            (str(attempt.port), attempt.security.value, str(attempt.error or "greeted"))
            for attempt in report.attempts
        ]
        if rows:
            show_table(("port", "security", "outcome"), rows)
            say("")
        where = report.host if report.port is None else f"{report.host} port {report.port}"
        show_table(
            ("", ""),
            [
                ("server", where),
                ("outcome", outcome(report)),
                *tls_rows(report.tls),
                *login_rows(report),
            ],
        )
    if report.error is not None:
        complain(explained(report.error))
        return exit_of(report.error)
    if not report:
        complain("no login was tried: give --user and a password")
        return Exit.USAGE
    return Exit.OK
