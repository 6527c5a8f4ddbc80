"""What a message needs of the server, and the commands that say so.

Knows the content's size, its octets above 127 and where its header ends, and the extensions that
go with them. Knows no other header field, and nothing of what the server answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from smtp_proto.engine import Protocol
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.errors import CapabilityMissing, MessageTooLarge
from smtp_proto.flow.session import Session
from smtp_proto.wire import (
    NO_RCPT_PARAMETERS,
    Bdat,
    Body,
    CanonicalContent,
    Capabilities,
    Command,
    Data,
    Mail,
    MailParameters,
    Octets,
    Rcpt,
    RcptParameters,
    WireError,
    canonical,
)
from smtp_proto.wire.parameters import extension_of

_DATA = Data()
_SMALL = 65_536  # octets that may go out before it is known whether any recipient is accepted


class Message:
    """The content as it will be on the wire before dot-stuffing, and what it needs.

    `content`: all of it; None: it comes in pieces, of which `beginning` has the first. `size`: how
    many octets it has, at least. `declared`: what SIZE says. `eight_bit`, `smtputf8`: None while
    nobody knows.
    """

    __slots__ = ("beginning", "content", "declared", "eight_bit", "size", "smtputf8")

    def __init__(
        self,
        content: Octets | None,
        size: int | None,
        eight_bit: bool | None,
        smtputf8: bool | None,
    ) -> None:
        self.content: CanonicalContent | None = None
        self.beginning = b""
        self.size = self.declared = size
        self.eight_bit = eight_bit
        self.smtputf8 = smtputf8
        if content is not None:
            self.take_whole(content)

    def take_whole(self, content: Octets) -> None:
        """This is all of it. Raises WireError."""
        self.content = whole = canonical(content)
        _refuse_nul(whole)
        self.size = self.declared = len(whole)
        self.eight_bit = bool(self.eight_bit)
        self._look_at(whole)

    def take_beginning(self, octets: bytes) -> None:
        """This is the beginning of it, and its header as far as that counts. Raises WireError."""
        _refuse_nul(octets)
        self.beginning = octets
        lines = canonical(octets)
        if not octets.startswith(lines[:-2]):  # but for the CRLF behind the last line
            self.declared = None  # RFC 1870 6: whose line ends grow has more than was counted
        self._look_at(lines)

    def _look_at(self, octets: bytes) -> None:
        if octets.isascii():
            return
        self.eight_bit = True
        if self.smtputf8 is None:
            # Content may begin with the empty line: then it has no header.
            header = (b"\r\n" + octets).partition(b"\r\n\r\n")[0]
            self.smtputf8 = not header.isascii()  # RFC 6531 3.4

    def heed(self, mail: MailParameters) -> None:
        """Take in what the envelope says of the content. Raises WireError."""
        if self.declared is None:
            self.declared = mail.size
        match mail.body:
            case Body.BINARY_MIME:
                raise WireError(
                    "BODY",
                    "content goes out as lines, never as BINARYMIME: "
                    "encode it, as in base64, and give no body",
                )
            case Body.SEVEN_BIT if self.eight_bit:
                raise WireError("BODY", "7BIT, where the content has octets above 127")
            case Body.SEVEN_BIT:
                self.eight_bit = False
            case Body.EIGHT_BIT_MIME if not self.eight_bit:
                self.eight_bit = None  # it may be said, and need not
            case _:
                pass

    @property
    def ascii(self) -> bool:
        """Whether it is known to have no octet above 127, or is held to that."""
        return self.eight_bit is False if self.content is None else self.content.isascii()

    def check(self, piece: bytes) -> None:
        """Check a later piece for what the beginning is checked for before it is sent.

        Raises WireError or CapabilityMissing.
        """
        _refuse_nul(piece)
        if self.eight_bit is False and not piece.isascii():
            raise _eight_bit_refused("the server was not told so by 8BITMIME")


def _refuse_nul(octets: bytes) -> None:
    if b"\0" in octets:
        # RFC 5321 2.3.8
        raise WireError(
            "content", "it has a NUL octet, which only BINARYMIME can carry: encode it first"
        )


def transaction_commands(session: Session, envelope: Envelope, message: Message) -> list[Command]:
    """The transaction's commands, with what the message needs.

    Raises CapabilityMissing, MessageTooLarge or WireError: nothing was sent.
    """
    plain = envelope.has_no_parameters
    if not plain:
        message.heed(envelope.mail_parameters)
    offered = session.capabilities
    largest = offered.size
    if message.size is not None and largest and message.size > largest:
        raise MessageTooLarge(message.size, largest)  # RFC 1870 6.1
    envelope, smtputf8 = _agree_on_utf8(offered, envelope, message)
    size = message.declared if largest is not None else None
    body = _body(offered, message)
    if plain:
        parameters = MailParameters(size, body, smtputf8)
        recipients = [Rcpt(path) for path in envelope.forward_paths]
    else:
        parameters = replace(envelope.mail_parameters, size=size, body=body, smtputf8=smtputf8)
        each = envelope.rcpt_parameters
        _require(session, parameters, each.values())
        recipients = [
            Rcpt(path, each.get(path, NO_RCPT_PARAMETERS)) for path in envelope.forward_paths
        ]
    return [
        Mail(envelope.reverse_path, parameters),
        *recipients,
        _last_command(session, offered, message),
    ]


def _last_command(session: Session, offered: Capabilities, message: Message) -> Command:
    """BDAT where the whole message can go out in the same flight, else DATA."""
    if (
        session.protocol is Protocol.SMTP  # RFC 2033 4.3: in LMTP it waits for the recipients
        and session.chunking
        and offered.chunking
        and session.pipelining
        and message.content is not None
        and len(message.content) <= _SMALL
    ):
        return Bdat(len(message.content), last=True)  # RFC 3030 2
    return _DATA


def _agree_on_utf8(
    offered: Capabilities, envelope: Envelope, message: Message
) -> tuple[Envelope, bool]:
    """Whether SMTPUTF8 is asked for, and the envelope as it can be sent."""
    mail = envelope.mail_parameters
    plain = envelope.has_no_parameters or _has_ascii_parameters(envelope)
    if plain and not message.smtputf8 and not mail.smtputf8 and envelope.ascii:
        return envelope, False
    if offered.smtputf8:
        return envelope, True
    if message.smtputf8:
        raise CapabilityMissing(
            "the header has characters beyond ASCII and the server does not offer SMTPUTF8: "
            "encode them first (RFC 2047)",
            capability="SMTPUTF8",
        )
    if not plain:
        raise CapabilityMissing(
            "a parameter has characters beyond ASCII and the server does not offer SMTPUTF8",
            capability="SMTPUTF8",
        )
    if mail.smtputf8 and not message.ascii:
        # RFC 6531 3.2: at any level of MIME there may be such a header, which nobody here sees.
        raise CapabilityMissing(
            "the envelope asks for SMTPUTF8, which the server does not offer, and not all of the "
            "content is known to be ASCII; do not ask for it where no header is in UTF-8",
            capability="SMTPUTF8",
        )
    try:
        return envelope.to_ascii(), False
    except WireError as error:
        raise CapabilityMissing(
            f"an address is not ASCII and the server does not offer SMTPUTF8: {error}",
            capability="SMTPUTF8",
        ) from error


def _has_ascii_parameters(envelope: Envelope) -> bool:
    recipients = envelope.rcpt_parameters.values()
    return envelope.mail_parameters.encode().isascii() and all(
        parameters.encode().isascii() for parameters in recipients
    )


def _body(offered: Capabilities, message: Message) -> Body | None:
    """BODY, only where it is needed (RFC 6152 3).

    Where the content is not known yet, wherever it is offered.
    """
    if message.eight_bit is False:
        return None
    if offered.eight_bit_mime:
        return Body.EIGHT_BIT_MIME
    if message.eight_bit:
        raise _eight_bit_refused("the server does not offer 8BITMIME")
    message.eight_bit = False  # from here on each piece is held to it
    return None


def _eight_bit_refused(why: str) -> CapabilityMissing:
    return CapabilityMissing(
        f"the content has octets above 127 and {why}: encode it first", capability="8BITMIME"
    )


def _require(session: Session, mail: MailParameters, recipients: Iterable[RcptParameters]) -> None:
    """No parameter goes to a server that does not offer its extension."""
    offered = session.capabilities
    keywords = chain(mail.keywords, *(parameters.keywords for parameters in recipients))
    for capability in map(extension_of, dict.fromkeys(keywords)):
        if capability not in offered:  # RFC 5321 4.1.1.11
            raise CapabilityMissing(
                f"the envelope asks for {capability}, which the server does not offer",
                capability=capability,
            )
    if mail.require_tls and session.tls is None:
        raise CapabilityMissing(
            "REQUIRETLS needs a connection under TLS (RFC 8689 4.1)", capability="REQUIRETLS"
        )
