"""`smtp-proto send`: one message, from a file to a server.

Knows what is to be sent and what to say about the outcome. Must not know how it is sent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from smtp_adapters.cli.arguments import Endpoint, add_login, endpoint, login, readable, seconds
from smtp_adapters.cli.text import Exit, complain, exit_of, explained, progress, say
from smtp_adapters.message import PreparedMessage, prepare_octets
from smtp_adapters.socket import SMTPClient
from smtp_adapters.tls import ClientTLS
from smtp_proto.flow.envelope import SendResult
from smtp_proto.flow.errors import RecipientsRefused, SMTPError
from smtp_proto.flow.security import Security

_LARGE = 1_048_576  # octets: less is gone before anybody could look

HELP = "send a message"
DESCRIPTION = """\
Send the message in FILE as it is, header fields and all; only its Bcc is left
out. It goes from its Sender or From to its To, Cc and Bcc, unless --from and
--to say otherwise. Wherever there is TLS the server's certificate is verified."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `send` can be given."""
    parser.add_argument("file", metavar="FILE", help="the message; - is standard input")
    parser.add_argument(
        "--server", metavar="HOST[:PORT]", type=endpoint, required=True, help="where to send it"
    )
    parser.add_argument(
        "--security",
        choices=[security.value for security in Security],
        help="when TLS begins; without it implicit on port 465 and starttls elsewhere",
    )
    parser.add_argument(
        "--ca-file",
        metavar="FILE",
        type=readable,
        help="trust these certificates (PEM) instead of the system's",
    )
    parser.add_argument(
        "--from",
        dest="sender",
        metavar="ADDRESS",
        help='the sender, instead of the message\'s own; "" is the null sender',
    )
    parser.add_argument(
        "--to",
        dest="recipients",
        metavar="ADDRESS",
        action="append",
        help="a recipient, instead of the message's own; once for each",
    )
    parser.add_argument("--local-hostname", metavar="NAME", help="what to call this host in EHLO")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        help="for each step, and for all of them together; without it as RFC 5321 4.5.3.2 says",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing unless something fails")
    add_login(parser, "log in under this name")


def run(given: argparse.Namespace) -> Exit:
    """Send it. Raises ValueError, or OSError for a file, if what was given cannot be used."""
    message = prepare_octets(_read(given.file), given.sender, given.recipients)
    server: Endpoint = given.server
    client = _client(given, server)
    try:
        with client:
            result = _send(client, message, server, quiet=given.quiet)
    except RecipientsRefused as error:
        for recipient, reply in error.refused.items():
            complain(f"<{recipient}> was refused: {reply}")
        complain("no recipient was accepted: nothing was sent")
        return exit_of(error)
    except SMTPError as error:
        complain(explained(error))
        return exit_of(error)
    return _report(result, server, quiet=given.quiet)


def _read(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def _client(given: argparse.Namespace, server: Endpoint) -> SMTPClient:
    security = _security(given.security, server)
    if given.ca_file is not None and security is Security.NONE:
        raise ValueError("--ca-file without TLS: choose another --security than none")
    return SMTPClient(
        server.host,
        server.port,
        security=security,
        tls=None if security is Security.NONE else ClientTLS(ca_file=given.ca_file),
        auth=login(given),
        timeouts=given.timeout,
        local_hostname=given.local_hostname,
        allow_cleartext_auth=given.allow_cleartext_auth,
    )


def _security(name: str | None, server: Endpoint) -> Security:
    if name is not None:
        return Security(name)
    implicit = server.port == Security.IMPLICIT.default_port
    return Security.IMPLICIT if implicit else Security.STARTTLS


def _send(
    client: SMTPClient, message: PreparedMessage, server: Endpoint, *, quiet: bool
) -> SendResult:
    content = message.content
    # What has octets above 127 goes out in one piece, which can be looked at as a whole first:
    # the server may not take it.
    if quiet or len(content) < _LARGE or not content.isascii():
        return client.send(message.envelope, content)
    with progress(f"Sending to {server}", len(content), "octets") as advance:
        return client.send(message.envelope, _Watched(content, advance))


class _Watched(BytesIO):
    """Content that tells how much of it has been read."""

    def __init__(self, content: bytes, advance: Callable[[int], None]) -> None:
        super().__init__(content)
        self._advance = advance

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self._advance(len(piece))
        return piece


def _report(result: SendResult, server: Endpoint, *, quiet: bool) -> Exit:
    if not quiet:
        accepted = ", ".join(f"<{recipient}>" for recipient in result.accepted)
        say(f"{server} has taken the message for {accepted}: {result.reply}")
    for recipient, reply in result.refused.items():
        complain(f"<{recipient}> was refused: {reply}")
    return Exit.REFUSED if result.refused else Exit.OK
