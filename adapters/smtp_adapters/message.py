"""A message as its author has it -> an envelope, and the octets to send.

Knows header fields: which of them say who sends to whom, which are not for others to see.
Must not know any connection, nor what a server offers.

The author may have an `email.message.Message`, or the octets of a file. Whom the message goes to
is read from it strictly: where two readers could come to two addresses, it is refused, and the
caller has to give the address.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.errors import MessageDefect, MessageError, MissingHeaderBodySeparatorDefect
from email.headerregistry import AddressHeader, BaseHeader, Group
from email.message import Message
from email.policy import SMTPUTF8, EmailPolicy
from typing import TypeAlias

from smtp_adapters.values import Takes, check_types
from smtp_adapters.writing import addr_specs, harmful, refuse_line_ends, refused, written
from smtp_proto.flow.envelope import Envelope
from smtp_proto.wire import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    Mailbox,
    MailParameters,
    RcptParameters,
)
from smtp_proto.wire.errors import WireError, shown

_Fields: TypeAlias = Mapping[str, Sequence[object]]
"""The values of all fields of a name, which is in small letters: each a str, as it was read, or
what the email package has made of it."""

# Taken out of every copy, so that nobody sees who else got one.  RFC 5322 3.6.3
_HIDDEN_FIELDS = ("bcc", "resent-bcc")
_DESTINATION_FIELDS = ("To", "Cc", "Bcc")
_ADDRESS_FIELDS = ("from", "sender", "reply-to", "to", "cc")
_RESENT = "resent-"

# What parsers of strange text have been seen to raise.
_PARSER_ERRORS = (MessageError, ValueError, LookupError, AttributeError, RecursionError)

_MESSAGE = {
    "message": Takes("a Message of the email package (for octets there is send())", (Message,))
}

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BETWEEN_WORDS = re.compile(r"[\s<>,]+")
_FOLD = re.compile(r"\r?\n(?=[ \t])")

# What tells whether a comma stands between two members of a list.  RFC 5322 3.2.2, 3.2.4, 3.4
_LIST_MARK = re.compile(r'\\.|[",()]', re.DOTALL)
_LONGEST_MEMBER = 998  # characters: what a line can have.  RFC 5322 2.1.1
# field = field-name ":" unstructured CRLF; obsolete: blanks in front of the colon.
# RFC 5322 2.2, 4.5
_HEADER_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)")


@dataclass(frozen=True, slots=True)
class PreparedMessage:
    """What can be sent: give both to `send()`.

    `content` is the message without its Bcc. From `prepare()` and `prepare_octets()` it has
    CRLF at the end of each line.
    """

    envelope: Envelope
    content: bytes = field(repr=False)


def prepare(
    message: Message,
    sender: str | None = None,
    recipients: Sequence[str] | None = None,
    *,
    mail_parameters: MailParameters = NO_MAIL_PARAMETERS,
    rcpt_parameters: RcptParameters | Mapping[str, RcptParameters] = NO_RCPT_PARAMETERS,
) -> PreparedMessage:
    """Take the envelope from `message` and write it out. The message itself stays as it is.

    `sender` and `recipients` are mailboxes ("user@example.org"), and go before what the header
    fields say; "" is the null reverse-path. Without them they come from Sender or From, and from
    To, Cc and Bcc; in a message that was resent from the fields with Resent- in front.
    `mail_parameters` and `rcpt_parameters` are those of `Envelope.of()`.

    Header fields that were read from somewhere go out as they came; others are written in ASCII,
    with encoded words and A-labels, and those of addresses without their comments. Only if an
    address has no such form they are written in UTF-8.

    Raises ValueError, naming the header field and what to do about it, if that leaves a doubt,
    or if the message cannot be written. Raises TypeError for what is no message.
    """
    check_types(_MESSAGE, {"message": message})
    with suppress(RecursionError):
        _refuse_half_a_header(message)
        refuse_line_ends(message)
        if not isinstance(message.policy, EmailPolicy):
            _refuse_encoded_addresses(message)
        addresses = _addresses(message.raw_items(), sender, recipients)
        envelope = Envelope.of(
            *addresses, mail_parameters=mail_parameters, rcpt_parameters=rcpt_parameters
        )
        visible = copy.copy(message)
        for name in _HIDDEN_FIELDS:
            del visible[name]
        return PreparedMessage(envelope, written(visible))
    raise ValueError(
        "the message cannot be written: its parts are nested too deeply for the email package;"
        " take some out, or give the message in octets"
    )


def prepare_octets(
    octets: bytes,
    sender: str | None = None,
    recipients: Sequence[str] | None = None,
    *,
    mail_parameters: MailParameters = NO_MAIL_PARAMETERS,
    rcpt_parameters: RcptParameters | Mapping[str, RcptParameters] = NO_RCPT_PARAMETERS,
) -> PreparedMessage:
    """Take the envelope from a message in octets, as `prepare()` does.

    But for its Bcc, and for line ends that are not CRLF, the message is left as it is. Raises
    ValueError also if it does not begin with header fields and an empty line behind them.
    """
    content = _LINE_END.sub(b"\r\n", octets)
    items: list[tuple[str, object]] = []
    visible: list[bytes] = []
    end = 0
    while match := _HEADER_FIELD.match(content, end):
        end = match.end()
        name = match[1].decode("ascii")
        items.append((name, match[2].decode("utf-8", "surrogateescape").strip("\r ")))
        if name.lower() not in _HIDDEN_FIELDS:
            visible.append(match[0])
    body = content[end:]
    # Some readers end the header section here and some go on: these would find another message.
    if body and not body.startswith(b"\r\n"):
        number = content.count(b"\n", 0, end) + 1
        line, _, _ = body.partition(b"\r\n")
        raise WireError(
            "message",
            f"line {number} is no header field, put an empty line in front of the text:"
            f" {shown(line)}",
        )
    envelope = Envelope.of(
        *_addresses(items, sender, recipients),
        mail_parameters=mail_parameters,
        rcpt_parameters=rcpt_parameters,
    )
    return PreparedMessage(envelope, b"".join(visible) + body)


# --- Envelope ---------------------------------------------------------------------------------


def _addresses(
    items: Iterable[tuple[str, object]], sender: str | None, recipients: Sequence[str] | None
) -> tuple[str, Sequence[str]]:
    if sender is None or recipients is None:
        fields: dict[str, list[object]] = {}
        for name, value in items:
            fields.setdefault(name.lower(), []).append(value)
        block = _latest_block(fields)
        if sender is None:
            sender = _sender(fields, block)
        if recipients is None:
            recipients = _recipients(fields, block)
    return sender, recipients


def _latest_block(fields: _Fields) -> str:
    """The prefix of the fields that count: those of the resending, if there was one.

    RFC 5322 3.6.6
    """
    resent = [name for name in fields if name.startswith(_RESENT)]
    for name in resent:
        # The blocks of several resendings need not be apart, nor the latest one be the first.
        if len(fields[name]) > 1:
            raise refused(name.title(), "is there twice: give the sender and the recipients")
    return _RESENT.title() if resent else ""


def _sender(fields: _Fields, block: str) -> str:
    # RFC 5322 3.6.2: Sender is there if From does not say who sent the message.
    for name in (block + "Sender", block + "From"):
        values = fields.get(name.lower())
        if not values:
            continue
        # RFC 5322 3.6: each of them once.
        if len(values) > 1:
            raise refused(name, "is there twice: leave one of them, or give the sender")
        mailboxes = _mailboxes(name, values[0])
        if len(mailboxes) != 1:
            raise refused(
                name,
                f"has {len(mailboxes)} mailboxes: name one in {block}Sender, or give the sender",
            )
        return mailboxes[0]
    raise ValueError(f"the message has no header field {block}From: add it, or give the sender")


def _recipients(fields: _Fields, block: str) -> list[str]:
    # RFC 5322 4.5.3: what stands in several fields of a name adds up.
    names = [block + name for name in _DESTINATION_FIELDS]
    recipients = [
        mailbox
        for name in names
        for value in fields.get(name.lower(), ())
        for mailbox in _mailboxes(name, value)
    ]
    if not recipients:
        raise ValueError(
            f"the message has no recipient in {', '.join(names)}: add one, or give the recipients"
        )
    return recipients


# --- Addresses in header fields ---------------------------------------------------------------


def _mailboxes(name: str, value: object) -> list[str]:
    """Read the mailboxes of an address field. Raises WireError, naming the field."""
    return [mailbox for member in _members(name, value) for mailbox in _read(name, member)]


def _members(name: str, value: object) -> list[object]:
    """Split a list at its commas: the email package needs the square of the time for a whole one.

    What it has read already is left whole.
    """
    if isinstance(value, BaseHeader):
        return [value]
    text = _text(name, value)
    members: list[object] = []
    start = depth = 0
    quoted = False
    for mark in _LIST_MARK.finditer(text):
        match mark[0]:
            case '"' if not depth:
                quoted = not quoted
            case "(" if not quoted:
                depth += 1
            case ")" if not quoted and depth:
                depth -= 1
            case "," if not quoted and not depth:
                members.append(_member(name, text[start : mark.start()]))
                start = mark.end()
            case _:
                pass
    members.append(_member(name, text[start:]))
    return [member for member in members if member] or [""]


def _member(name: str, text: str) -> str:
    member = text.strip()
    if len(member) > _LONGEST_MEMBER:
        raise refused(
            name, f"has {shown(member)}: no mailbox has more than {_LONGEST_MEMBER} characters"
        )
    return member


def _read(name: str, value: object) -> list[str]:
    """Read the mailboxes in one member of a list. Raises WireError, naming the field."""
    text = _text(name, value)
    groups, defects = _parsed(name, value)
    for defect in harmful(defects):
        raise refused(name, f"{defect} in {shown(text)}: correct it")
    # RFC 5322 3.4: whether a group is its members, or a list somewhere, nobody says. One without
    # members, as in "undisclosed-recipients:;", is nobody.
    for group in groups:
        if group.display_name is not None and group.addresses:
            raise refused(
                name, f"has the group {shown(group.display_name)}: name the mailboxes themselves"
            )
    words = frozenset(_BETWEEN_WORDS.split(text))
    return [_mailbox(name, mailbox, text, words) for mailbox in addr_specs(groups)]


def _mailbox(name: str, mailbox: str, text: str, words: frozenset[str]) -> str:
    # What had to be put together, from pieces with comments, blanks or routes between them or
    # from encoded words, somebody else puts together in another way.
    if mailbox not in words and not _stands_by_itself(mailbox, text):
        raise refused(
            name,
            f"{shown(mailbox)} does not stand by itself in {shown(text)}: write it without"
            " comments, blanks or encoded words in it",
        )
    try:
        return str(Mailbox.parse(mailbox))
    except WireError as error:
        raise refused(name, f"{error}: correct it") from None


def _stands_by_itself(mailbox: str, text: str) -> bool:
    """The same for those with blanks or commas in a quoted local part."""
    return bool(re.search(rf"(?<![^\s<,]){re.escape(mailbox)}(?![^\s>,])", text))


def _parsed(name: str, value: object) -> tuple[Sequence[Group], Sequence[MessageDefect]]:
    """What the email package makes of a field of addresses, and what it finds wrong with it."""
    header = value
    if not isinstance(value, BaseHeader):
        text = _text(name, value)
        with suppress(*_PARSER_ERRORS):
            header = SMTPUTF8.header_factory(name, text)
    groups = header.groups if isinstance(header, AddressHeader) else None
    if groups is None:
        raise refused(name, f"cannot be read: {shown(str(value))}")
    return groups, header.defects if isinstance(header, BaseHeader) else ()


def _text(name: str, value: object) -> str:
    """The value of a field on one line. Octets that were read as surrogate escapes are UTF-8."""
    try:
        # RFC 6532 3.2
        text = str(value).encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise refused(name, f"is not UTF-8: {shown(str(value))}") from None
    return _FOLD.sub("", text)


# --- What cannot be written -------------------------------------------------------------------


def _refuse_half_a_header(message: Message) -> None:
    """Refuse what was read with text in the middle of its header: a Bcc may stand behind that."""
    for defect in message.defects:
        if isinstance(defect, MissingHeaderBodySeparatorDefect):
            raise WireError(
                "message",
                "its header was broken off at a line that is no header field: correct that, or put"
                " an empty line in front of the text",
            )


def _refuse_encoded_addresses(message: Message) -> None:
    """The old policy makes encoded words of what is not ASCII, addresses included."""
    for name, value in message.raw_items():
        field_name = name.lower().removeprefix(_RESENT)
        if (
            field_name in _ADDRESS_FIELDS
            and not _is_as_read(str(value))
            and not all(
                str.isascii(mailbox)
                for member in _members(name, value)
                for mailbox in addr_specs(_parsed(name, member)[0])
            )
        ):
            raise refused(
                name,
                "has an address that is not ASCII, which a message of the policy compat32 cannot"
                " be written with: make it an email.message.EmailMessage",
            )


def _is_as_read(text: str) -> bool:
    """Whether what is not ASCII in `text` are octets that were read: these go out as they are."""
    try:
        text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
