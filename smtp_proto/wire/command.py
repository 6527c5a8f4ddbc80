"""Commands: what a client says. RFC 5321 4.1.1, RFC 2033 4.1, RFC 3030 2, RFC 3207 4, RFC 4954 4

Knows how each command is written, and how one line is read.
Must not know which command is due, nor what the server has offered.
"""

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import ClassVar, Self, TypeAlias

from smtp_proto.wire.address import (
    ForwardPath,
    Mailbox,
    ReversePath,
    parse_forward_path,
    parse_reverse_path,
    split_path,
    validate_domain,
    write_path,
)
from smtp_proto.wire.errors import WireError, shown
from smtp_proto.wire.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    RcptParameters,
)
from smtp_proto.wire.quick import quick
from smtp_proto.wire.reply import Reply

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+")  # as an esmtp-keyword.  RFC 5321 4.1.2
# RFC 3030 2; more than 20 digits are not worth the time that reading them takes.
_CHUNK_SIZE = re.compile(r"([0-9]{1,20})(?: (LAST))?", re.ASCII | re.IGNORECASE)
_LARGEST_CHUNK = 10**20 - 1
# String; a mailbox, in angle brackets or not, is what most servers want.  RFC 5321 4.1.2
_STRING = re.compile(r'(?:[^ "]++|"(?:[^"\\]|\\.)*+")++')
_SMTPUTF8 = re.compile(r"(.*) SMTPUTF8", re.ASCII | re.IGNORECASE)
# sasl-mech.  RFC 4422 3.1
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")
# base64.  RFC 4954 8
_BASE64 = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
)
_CANCEL = b"*"
_EMPTY_INITIAL_RESPONSE = b"="


class Verb(Enum):
    """The words with which the commands begin that this package knows."""

    HELO = "HELO"
    EHLO = "EHLO"
    LHLO = "LHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    RSET = "RSET"
    VRFY = "VRFY"
    EXPN = "EXPN"
    HELP = "HELP"
    NOOP = "NOOP"
    QUIT = "QUIT"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"

    # There is one object of each; Enum would hash its name, and in Python.
    __hash__ = object.__hash__


class CommandError(WireError):
    """A line that is no command. `reply` is what a server answers; it quotes nothing of the line.

    RFC 5321 4.2.4 and 4.3.2
    """

    def __init__(self, what: str, why: str, reply: Reply) -> None:
        super().__init__(what, why)
        self.reply = reply


# --- ehlo = "EHLO" SP ( Domain / address-literal ) CRLF ---------------------------------------


@dataclass(frozen=True, slots=True)
class _Hello:
    """A client names itself.

    `domain` is a Domain or an address literal, in ASCII. An underscore passes for a letter, as a
    server must let it: to send it, see `validate_domain()` first. Raises WireError.
    """

    domain: str
    verb: ClassVar[Verb]

    def __post_init__(self) -> None:
        validate_domain(self.domain, lenient=True)

    def encode(self) -> bytes:
        """Return the line to send, CRLF included."""
        return f"{self.verb.value} {self.domain}\r\n".encode("ascii")

    @classmethod
    def parse(cls, argument: str) -> Self:
        """Read what follows the verb and a blank. Raises WireError."""
        return cls(argument)


class Helo(_Hello):
    """HELO: the client names itself, and wants no extensions. RFC 5321 4.1.1.1"""

    __slots__ = ()
    verb: ClassVar[Verb] = Verb.HELO


class Ehlo(_Hello):
    """EHLO: the client names itself, and asks for the extensions. RFC 5321 4.1.1.1"""

    __slots__ = ()
    verb: ClassVar[Verb] = Verb.EHLO


class Lhlo(_Hello):
    """LHLO: the EHLO of LMTP. RFC 2033 4.1"""

    __slots__ = ()
    verb: ClassVar[Verb] = Verb.LHLO


# --- mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF -------------------------------


@quick
@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL: a transaction begins, with its sender. RFC 5321 4.1.1.2

    If the reverse-path is not ASCII, the parameters must have SMTPUTF8. RFC 6531 3.4
    """

    reverse_path: ReversePath
    parameters: MailParameters = NO_MAIL_PARAMETERS
    verb: ClassVar[Verb] = Verb.MAIL

    def encode(self) -> bytes:
        """Return the line to send, CRLF included. Raises TypeError for what is no path."""
        path = write_path(self.reverse_path)
        return ("MAIL FROM:" + path + self.parameters.encode() + "\r\n").encode()

    @classmethod
    def parse(cls, argument: str) -> "Mail":
        """Read what follows the verb and a blank. Raises WireError."""
        path, parameters = split_path(_without_prefix("FROM:", argument))
        return cls(parse_reverse_path(path), MailParameters.parse(parameters))


# --- rcpt = "RCPT TO:" ( "<Postmaster>" / Forward-path ) [SP Rcpt-parameters] CRLF ------------


@quick
@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT: one more recipient. RFC 5321 4.1.1.3"""

    forward_path: ForwardPath
    parameters: RcptParameters = NO_RCPT_PARAMETERS
    verb: ClassVar[Verb] = Verb.RCPT

    def encode(self) -> bytes:
        """Return the line to send, CRLF included. Raises TypeError for what is no path."""
        path = self.forward_path
        # Nearly all of them are that simple, and there may be a thousand in one transaction.
        if type(path) is Mailbox and self.parameters is NO_RCPT_PARAMETERS:
            return f"RCPT TO:<{path.text}>\r\n".encode()
        return ("RCPT TO:" + write_path(path) + self.parameters.encode() + "\r\n").encode()

    @classmethod
    def parse(cls, argument: str) -> "Rcpt":
        """Read what follows the verb and a blank. Raises WireError."""
        path, parameters = split_path(_without_prefix("TO:", argument))
        return cls(parse_forward_path(path), RcptParameters.parse(parameters))


def _without_prefix(prefix: str, argument: str) -> str:
    if argument[: len(prefix)].upper() != prefix:
        raise WireError("Path", f'not behind "{prefix}": {shown(argument)}')
    # RFC 5321 3.3: there is no blank on either side of the colon.
    return argument[len(prefix) :]


# --- data = "DATA" CRLF -----------------------------------------------------------------------


class _Bare:
    """A command that is its verb and nothing else."""

    __slots__ = ()
    verb: ClassVar[Verb]

    def encode(self) -> bytes:
        """Return the line to send, CRLF included."""
        return _bare_line(self.verb)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """Read what follows the verb, that is nothing. Raises WireError."""
        if argument:
            raise WireError(cls.verb.value, "takes no argument")
        return cls()


@cache
def _bare_line(verb: Verb) -> bytes:
    return f"{verb.value}\r\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class Data(_Bare):
    """DATA: the content is to follow, once the server says 354. RFC 5321 4.1.1.4"""

    verb: ClassVar[Verb] = Verb.DATA


@dataclass(frozen=True, slots=True)
class Rset(_Bare):
    """RSET: the transaction is given up. RFC 5321 4.1.1.5"""

    verb: ClassVar[Verb] = Verb.RSET


@dataclass(frozen=True, slots=True)
class Quit(_Bare):
    """QUIT: the session ends. RFC 5321 4.1.1.10"""

    verb: ClassVar[Verb] = Verb.QUIT


@dataclass(frozen=True, slots=True)
class StartTls(_Bare):
    """STARTTLS: TLS begins with the octet after the server's 220. RFC 3207 4"""

    verb: ClassVar[Verb] = Verb.STARTTLS


# --- bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CRLF -----------------------------------


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: `size` octets of the content follow at once; with `last` there are no more.

    Raises WireError for a size that is negative, or has more than 20 digits. RFC 3030 2
    """

    size: int
    last: bool = False
    verb: ClassVar[Verb] = Verb.BDAT

    def __post_init__(self) -> None:
        if not 0 <= self.size <= _LARGEST_CHUNK:
            raise WireError("chunk-size", "not a number of 1 to 20 digits")

    def encode(self) -> bytes:
        """Return the line to send, CRLF included, and the chunk not."""
        return f"BDAT {self.size:d}{' LAST' if self.last else ''}\r\n".encode("ascii")

    @classmethod
    def parse(cls, argument: str) -> "Bdat":
        """Read what follows the verb and a blank. Raises WireError."""
        match = _CHUNK_SIZE.fullmatch(argument)
        if match is None:
            raise WireError("BDAT", f'not 1 to 20 digits and perhaps "LAST": {shown(argument)}')
        return cls(int(match[1]), last=match[2] is not None)


# --- vrfy = "VRFY" SP String [ SP "SMTPUTF8" ] CRLF -------------------------------------------


@dataclass(frozen=True, slots=True)
class _Question:
    """A client asks about a name.

    `string` is as on the wire: a user name or a mailbox, in quotes where it has blanks. With
    `smtputf8` the reply may have other letters than ASCII: only where the server has offered
    SMTPUTF8. Raises WireError. RFC 6531 3.7.4.2
    """

    string: str
    smtputf8: bool = False
    verb: ClassVar[Verb]

    def __post_init__(self) -> None:
        if not _STRING.fullmatch(self.string) or not self.string.isprintable():
            raise WireError("String", f"empty, or needs quotes around it: {shown(self.string)}")

    def encode(self) -> bytes:
        """Return the line to send, CRLF included."""
        parameter = " SMTPUTF8" if self.smtputf8 else ""
        return f"{self.verb.value} {self.string}{parameter}\r\n".encode()

    @classmethod
    def parse(cls, argument: str) -> Self:
        """Read what follows the verb and a blank. Raises WireError."""
        match = _SMTPUTF8.fullmatch(argument)
        return cls(match[1], smtputf8=True) if match else cls(argument)


class Vrfy(_Question):
    """VRFY: whether a name is a user's or a mailbox. RFC 5321 4.1.1.6"""

    __slots__ = ()
    verb: ClassVar[Verb] = Verb.VRFY


class Expn(_Question):
    """EXPN: whether a name is a mailing list's, and who is on that. RFC 5321 4.1.1.7"""

    __slots__ = ()
    verb: ClassVar[Verb] = Verb.EXPN


# --- help = "HELP" [ SP String ] CRLF ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Remark:
    """A client says something that changes nothing.

    `string` may be empty; it is printable ASCII, without blanks at its ends. Raises WireError.
    """

    string: str = ""
    verb: ClassVar[Verb]

    def __post_init__(self) -> None:
        _check_text("String", self.string)

    def encode(self) -> bytes:
        """Return the line to send, CRLF included."""
        return _line(self.verb.value, self.string)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """Read what follows the verb and a blank, if anything does. Raises WireError."""
        return cls(argument)


class Help(_Remark):
    """HELP: the server may say what it knows, about the `string` or at all. RFC 5321 4.1.1.8"""

    __slots__ = ()
    verb: ClassVar[Verb] = Verb.HELP


class Noop(_Remark):
    """NOOP: the server answers, no more; it ignores the `string`. RFC 5321 4.1.1.9"""

    __slots__ = ()
    verb: ClassVar[Verb] = Verb.NOOP


# --- auth-command = "AUTH" SP sasl-mech [SP initial-response] CRLF ----------------------------


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH: an authentication exchange begins. RFC 4954 4

    `mechanism` is the name of a SASL mechanism, and made capitals. `initial_response` is what
    the mechanism says first, not encoded; None if it says nothing, which is not the same as b"".
    It is kept out of `repr()`. Raises WireError.

    Where the line would be longer than the server takes, leave the initial response out, and
    send it when the server asks for it.
    """

    mechanism: str
    initial_response: bytes | None = field(default=None, repr=False)
    verb: ClassVar[Verb] = Verb.AUTH

    def __post_init__(self) -> None:
        if not _MECHANISM.fullmatch(self.mechanism):
            raise WireError("sasl-mech", "not 1 to 20 letters, digits, hyphens and underscores")
        object.__setattr__(self, "mechanism", self.mechanism.upper())

    def encode(self) -> bytes:
        """Return the line to send, CRLF included."""
        words = [b"AUTH", self.mechanism.encode("ascii")]
        if self.initial_response is not None:
            # RFC 4954 4: what is empty is written so that it can be seen.
            words.append(_encode_base64(self.initial_response) or _EMPTY_INITIAL_RESPONSE)
        return b" ".join(words) + b"\r\n"

    @classmethod
    def parse(cls, argument: str) -> "Auth":
        """Read what follows the verb and a blank. Raises WireError, which quotes nothing."""
        mechanism, blank, response = argument.partition(" ")
        if not mechanism:
            raise WireError("AUTH", "names no mechanism")
        if not blank:
            return cls(mechanism)
        encoded = response.encode()
        return cls(
            mechanism, b"" if encoded == _EMPTY_INITIAL_RESPONSE else _decode_base64(encoded)
        )


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """What a client answers to a challenge: no command, but a line of its own. RFC 4954 4

    `data` is not encoded, and kept out of `repr()`; None cancels the exchange.
    """

    data: bytes | None = field(repr=False)

    def encode(self) -> bytes:
        """Return the line to send, CRLF included."""
        return (_CANCEL if self.data is None else _encode_base64(self.data)) + b"\r\n"

    @classmethod
    def parse(cls, line: bytes) -> "AuthResponse":
        """Read a line without its CRLF. Raises CommandError, which quotes nothing."""
        if line == _CANCEL:
            return cls(None)
        try:
            return cls(_decode_base64(line))
        except WireError as error:
            raise _command_error(error) from None


def _encode_base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)


def _decode_base64(text: bytes) -> bytes:
    # RFC 4954 4: nothing may be ignored.
    if not _BASE64.fullmatch(text):
        raise WireError("base64", "has other characters, or another length")
    return a2b_base64(text)


# --- any other: keyword [ SP argument ] CRLF --------------------------------------------------


@dataclass(frozen=True, slots=True)
class OtherCommand:
    """A command that this package does not know: an extension of your own, or nothing at all.

    `keyword` is made capitals; it is none of the verbs that have a class of their own.
    `argument` may be empty; it is printable ASCII, without blanks at its ends. Raises WireError.
    """

    keyword: str
    argument: str = ""

    def __post_init__(self) -> None:
        if not _KEYWORD.fullmatch(self.keyword):
            raise WireError("keyword", f'not letters and digits: "{shown(self.keyword)}"')
        object.__setattr__(self, "keyword", self.keyword.upper())
        if self.keyword in _PARSERS:
            raise WireError("keyword", f"{self.keyword} has a class of its own")
        _check_text("argument", self.argument)

    def encode(self) -> bytes:
        """Return the line to send, CRLF included."""
        return _line(self.keyword, self.argument)


Command: TypeAlias = (
    Helo
    | Ehlo
    | Lhlo
    | Mail
    | Rcpt
    | Data
    | Bdat
    | Rset
    | Vrfy
    | Expn
    | Help
    | Noop
    | Quit
    | StartTls
    | Auth
    | OtherCommand
)


def _check_text(what: str, text: str) -> None:
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise WireError(what, f"not printable ASCII, or a blank at an end: {shown(text)}")


def _line(keyword: str, argument: str) -> bytes:
    return f"{keyword} {argument}".rstrip().encode("ascii") + b"\r\n"


# --- reading a line ---------------------------------------------------------------------------

_PARSERS: Mapping[str, Callable[[str], Command]] = {
    "HELO": Helo.parse,
    "EHLO": Ehlo.parse,
    "LHLO": Lhlo.parse,
    "MAIL": Mail.parse,
    "RCPT": Rcpt.parse,
    "DATA": Data.parse,
    "BDAT": Bdat.parse,
    "RSET": Rset.parse,
    "VRFY": Vrfy.parse,
    "EXPN": Expn.parse,
    "HELP": Help.parse,
    "NOOP": Noop.parse,
    "QUIT": Quit.parse,
    "STARTTLS": StartTls.parse,
    "AUTH": Auth.parse,
}

_UNRECOGNIZED = Reply.build(500, "Syntax error, command unrecognized", status="5.5.2")
_BAD_ARGUMENT = Reply.build(501, "Syntax error in parameters or arguments", status="5.5.4")
# By the grammar rule that was broken.  RFC 3463 3.2, RFC 4954 4
_REPLIES: Mapping[str, Reply] = {
    "reverse-path": Reply.build(501, "Syntax error in the sender's mailbox", status="5.1.7"),
    "forward-path": Reply.build(501, "Syntax error in the recipient's mailbox", status="5.1.3"),
    "sasl-mech": Reply.build(504, "Unrecognized authentication mechanism", status="5.5.4"),
    "base64": Reply.build(501, "Cannot decode the response", status="5.5.2"),
}


def parse_command(line: bytes) -> Command:
    """Read a command line without its CRLF.

    A verb that is not known gives an OtherCommand. Raises CommandError with the reply that a
    server gives: 500 for what cannot be any command, 501 or 504 for a bad argument.
    """
    # RFC 5321 4.1.1: trailing white space is tolerated.
    # Octets that are not UTF-8 become lone surrogates, which no check below lets pass.
    text = line.rstrip(b" \t").decode("utf-8", "surrogateescape")
    keyword, _, argument = text.partition(" ")
    if not _KEYWORD.fullmatch(keyword):
        raise CommandError("keyword", "not letters and digits", _UNRECOGNIZED)
    # RFC 5321 2.4: verbs are recognized in any case.
    parse = _PARSERS.get(keyword.upper())
    # RFC 5321 4.1.2: invalid character codes are refused with 501.
    if not argument.isprintable():
        raise CommandError("argument", "has a control character, or is not UTF-8", _BAD_ARGUMENT)
    try:
        return parse(argument) if parse else OtherCommand(keyword, argument)
    except WireError as error:
        raise _command_error(error) from None


def _command_error(error: WireError) -> CommandError:
    return CommandError(error.what, error.why, _REPLIES.get(error.what, _BAD_ARGUMENT))
