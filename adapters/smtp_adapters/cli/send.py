"""`smtp-proto send`: one message, from a file to a server.

Knows what is to be sent and what to say about the outcome. Must not know how it is sent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from smtp_adapters.cli.arguments import Endpoint, add_settings, settings_of
from smtp_adapters.cli.names import CLIENT
from smtp_adapters.cli.text import Exit, complain, exit_of, explained, progress, say
from smtp_adapters.message import PreparedMessage, prepare_octets
from smtp_adapters.settings import Settings, make_client
from smtp_adapters.socket import SMTPClient
from smtp_proto.flow.envelope import SendResult
from smtp_proto.flow.errors import RecipientsRefused, SMTPError
from smtp_proto.wire import (
    NO_RCPT_PARAMETERS,
    MailParameters,
    Notify,
    RcptParameters,
    Ret,
    WireError,
    parse_forward_path,
    parse_reverse_path,
    shown,
)

_LARGE = 1_048_576  # octets: less is gone before anybody could look

NAMES = CLIENT
HELP = "send a message"
DESCRIPTION = """\
Send the message in FILE as it is, header fields and all; only its Bcc is left
out. It goes from its Sender or From to its To, Cc and Bcc, unless --from and
--to say otherwise. Wherever there is TLS the server's certificate is verified."""

_NOTIFY = "never, or any of success,failure,delay"
_DELIVERY_HELP = """\
The server has to offer DSN for the first three (RFC 3461), and REQUIRETLS for
the last (RFC 8689): if not, nothing is sent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `send` can be given."""
    parser.usage = "%(prog)s FILE --server HOST[:PORT] [OPTION ...]"
    parser.add_argument("file", metavar="FILE", help="the message; - is standard input")
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
    group = parser.add_argument_group("delivery", _DELIVERY_HELP)
    group.add_argument(
        "--ret",
        choices=[word.value.lower() for word in Ret],
        help="what a report of failure returns: the message, or its header fields alone",
    )
    group.add_argument("--envid", metavar="ID", help="a name of yours that reports quote, in ASCII")
    group.add_argument(
        "--notify",
        metavar="WORD,...",
        help=f"when to report: {_NOTIFY}",
    )
    group.add_argument(
        "--require-tls", action="store_true", help="no host may pass the message on without TLS"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing unless something fails")
    add_settings(parser)


def run(given: argparse.Namespace) -> Exit:
    """Send it. Raises ValueError, or OSError for a file, if what was given cannot be used."""
    _check_addresses(given)
    message = prepare_octets(
        _read(given.file),
        given.sender,
        given.recipients,
        mail_parameters=_mail_parameters(given),
        rcpt_parameters=_rcpt_parameters(given),
    )
    settings = settings_of(given)
    client = make_client(SMTPClient, settings)
    server = _server(settings)
    try:
        with client:
            result = _send(client, message, server, quiet=given.quiet)
    except RecipientsRefused as error:
        for recipient, reply in error.refused.items():
            complain(f"<{recipient}> was refused: {reply}")
        complain("no recipient was accepted: nothing was delivered")
        return exit_of(error)
    except SMTPError as error:
        complain(explained(error))
        return exit_of(error)
    return _report(result, server, quiet=given.quiet)


def _check_addresses(given: argparse.Namespace) -> None:
    """Raises ValueError that names the option."""
    sender: str | None = given.sender
    recipients: list[str] = given.recipients or []
    try:
        parse_reverse_path(sender or "")
    except WireError as error:
        raise ValueError(f"--from wants an address: {error}") from None
    try:
        for recipient in recipients:
            parse_forward_path(recipient)
    except WireError as error:
        raise ValueError(f"--to wants one address, and once for each: {error}") from None


def _mail_parameters(given: argparse.Namespace) -> MailParameters:
    """Raises ValueError that names the option."""
    ret = None if given.ret is None else Ret.parse(given.ret)
    try:
        return MailParameters(ret=ret, envid=given.envid, require_tls=given.require_tls)
    except WireError as error:
        raise ValueError(f"--envid wants 1 to 100 characters of ASCII: {error}") from None


def _rcpt_parameters(given: argparse.Namespace) -> RcptParameters:
    """Raises ValueError that names the option."""
    if given.notify is None:
        return NO_RCPT_PARAMETERS
    notify: str = given.notify
    try:
        return RcptParameters(frozenset(map(Notify.parse, notify.split(","))))
    except ValueError:
        raise ValueError(f"--notify wants {_NOTIFY}, not {shown(notify)!r}") from None


def _read(file: str) -> bytes:
    if file != "-":
        return Path(file).read_bytes()
    if sys.stdin is None:
        raise ValueError("-: the standard input, where the message should come from, is closed")
    return sys.stdin.buffer.read()


def _server(settings: Settings) -> str:
    """What to call the server."""
    given = settings.given
    if "socket" in given:
        return given["socket"].text
    port = given.get("port")
    return str(Endpoint(given["host"].text, None if port is None else int(port.text)))


def _send(client: SMTPClient, message: PreparedMessage, server: str, *, quiet: bool) -> SendResult:
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


def _report(result: SendResult, server: str, *, quiet: bool) -> Exit:
    if not quiet:
        accepted = ", ".join(f"<{recipient}>" for recipient in result.accepted)
        say(f"{server} has taken the message for {accepted}: {result.reply}")
    for recipient, reply in result.refused.items():
        complain(f"<{recipient}> was refused: {reply}")
    return Exit.REFUSED if result.refused else Exit.OK
