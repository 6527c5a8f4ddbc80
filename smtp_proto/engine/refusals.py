"""What a server refuses whatever its application thinks of it, and the replies that say so.

Knows the extensions, the limits, and enhanced status codes (RFC 3463).
Must not know the state of the session.

No reply quotes what the client said: some clients read it aloud.
"""

import re
from collections.abc import Iterable, Mapping

from smtp_proto.engine.table import Move
from smtp_proto.engine.transaction import Transaction
from smtp_proto.wire import (
    NO_RCPT_PARAMETERS,
    Body,
    Capabilities,
    Command,
    ForwardPath,
    Limits,
    Mail,
    Mailbox,
    Rcpt,
    Reply,
    ReversePath,
)
from smtp_proto.wire.parameters import extension_of

# --- Replies ---------------------------------------------------------------------------------

BAD_SEQUENCE = Reply.build(503, "Bad sequence of commands", status="5.5.1")
OTHER_PROTOCOL = Reply.build(500, "A command of another protocol", status="5.5.1")
NOT_OFFERED = Reply.build(502, "Command not implemented", status="5.5.1")
LINE_TOO_LONG = Reply.build(500, "Line too long", status="5.5.2")
RESPONSE_TOO_LONG = Reply.build(500, "Authentication response too long", status="5.5.6")
TOO_MANY_ERRORS = Reply.build(421, "Too many errors, closing the connection", status="4.7.0")
_TOO_MANY_RECIPIENTS = Reply.build(452, "Too many recipients", status="4.5.3")
TOO_LARGE = Reply.build(552, "Message too large", status="5.3.4")
_BARE_LINE_ENDING = Reply.build(550, "Lines must end with CRLF", status="5.6.0")
NOT_SMTP = Reply.build(554, "This is not SMTP", status="5.5.1")
NOT_YET_ANSWERED = Reply.build(503, "Nothing may follow AUTH before its reply", status="5.5.1")
NOT_YET_TLS = Reply.build(554, "Nothing may follow STARTTLS in clear text", status="5.5.1")

_UNKNOWN_PARAMETER = Reply.build(555, "Parameter of no extension offered", status="5.5.4")
_NEEDS_SMTPUTF8 = Reply.build(553, "The address needs SMTPUTF8", status="5.6.7")

# --- What is no SMTP -------------------------------------------------------------------------

HTTP_METHODS = frozenset(
    {b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"}
)
"""First words of what a browser sends when somebody has talked it into it."""

# A field name and its colon.  RFC 5322 3.6.8
HEADER_FIELD = re.compile(rb"[!-9;-~]++:")
"""How its next lines begin, and no command: MAIL and RCPT have a blank before their colon."""

# --- What the extensions allow ---------------------------------------------------------------

EXTENSIONS: Mapping[Move, str] = {
    Move.STARTTLS: "STARTTLS",
    Move.AUTH: "AUTH",
    Move.BDAT: "CHUNKING",
    Move.BDAT_LAST: "CHUNKING",
}
"""The keyword that offers a command."""


def of_command(
    command: Command, transaction: Transaction, capabilities: Capabilities, limits: Limits
) -> Reply | None:
    """Return why the arguments of a command are refused; None if they are not."""
    match command:
        case Rcpt():
            # RFC 5321 4.5.3.1.10
            full = transaction.recipients >= limits.recipients
            return _TOO_MANY_RECIPIENTS if full else _of_rcpt(command, transaction, capabilities)
        case Mail():
            return _of_mail(command, capabilities, limits)
        case _:
            return None


def of_content(transaction: Transaction, malformed: str | None) -> Reply | None:
    """Return why content that has come to its end is refused; None if it is not."""
    if transaction.too_large:
        return TOO_LARGE
    return _BARE_LINE_ENDING if malformed else None


def _of_mail(mail: Mail, capabilities: Capabilities, limits: Limits) -> Reply | None:
    parameters = mail.parameters
    # RFC 3030 3
    binary = parameters.body is Body.BINARY_MIME
    if not _offered(parameters.keywords, capabilities) or (binary and not capabilities.binary_mime):
        return _UNKNOWN_PARAMETER
    # RFC 1870 6.1
    if parameters.size is not None and 0 < limits.message_size < parameters.size:
        return TOO_LARGE
    return _of_path(mail.reverse_path, parameters.smtputf8)


def _of_rcpt(rcpt: Rcpt, transaction: Transaction, capabilities: Capabilities) -> Reply | None:
    parameters = rcpt.parameters
    plain = parameters is NO_RCPT_PARAMETERS  # as nearly all are
    if not plain and not _offered(parameters.keywords, capabilities):
        return _UNKNOWN_PARAMETER
    return _of_path(rcpt.forward_path, transaction.smtputf8)


def _of_path(path: ReversePath | ForwardPath, smtputf8: bool) -> Reply | None:
    # RFC 6531 3.5
    plain = smtputf8 or not isinstance(path, Mailbox) or path.ascii
    return None if plain else _NEEDS_SMTPUTF8


def _offered(keywords: Iterable[str], capabilities: Capabilities) -> bool:
    # RFC 5321 4.1.1.11
    return all(extension_of(keyword) in capabilities for keyword in keywords)
