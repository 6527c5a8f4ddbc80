"""The parameters of MAIL and RCPT. RFC 5321 4.1.1.11 and 4.1.2

Knows the parameters of SIZE, 8BITMIME, BINARYMIME, SMTPUTF8, DSN, AUTH and REQUIRETLS by their
types, and keeps all others as they are.
Knows the extension of each. Must not know which of them the server has offered.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Self, TypeVar

from smtp_proto.wire.address import (
    NULL_REVERSE_PATH,
    Mailbox,
    NullReversePath,
    ReversePath,
)
from smtp_proto.wire.errors import WireError, shown
from smtp_proto.wire.quick import quick

_T = TypeVar("_T")

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+")  # RFC 5321 4.1.2
_VALUE = re.compile(r"[!-<>-~\x80-\U0010ffff]++")  # RFC 6531 3.3
_PARAMETERS = re.compile(rf"(?: {_KEYWORD.pattern}(?:={_VALUE.pattern})?+)*+")
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 3
_LARGEST_SIZE = 10**20 - 1
_LONGEST_ENVID = 100  # characters, as xtext.  RFC 3461 4.4
_LONGEST_ORCPT = 500  # characters, address type included.  RFC 3461 4.2

_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]++")
# xtext; RFC 4954 8 has small hexadecimal digits, too.  RFC 3461 4
_XTEXT = re.compile(r"(?:[!-*,-<>-~]++|\+[0-9A-Fa-f]{2})*+")
_NO_XCHAR = re.compile(rb"[^!-*,-<>-~]")
_HEXCHAR = re.compile(rb"\+(..)")
# utf-8-addr-unitext, of which utf-8-addr-xtext is the ASCII form.  RFC 6533 3
_UNITEXT = re.compile(
    r"(?:[!-*,-<>-\[\]-~\x80-\U0010ffff]++|\\x\{[0-9A-Fa-f]{2,5}\}"
    r"|\\x\{10[0-9A-Fa-f]{4}\})++"
)
_NO_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_EMBEDDED_UNICODE_CHAR = re.compile(r"\\x\{(.+?)\}")


class _Word(Enum):
    """A word that is the same in capitals and in small letters."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one, in any case. Raises ValueError."""
        # The capitals of a few other letters are in ASCII.
        return cls(text.upper() if text.isascii() else text)


class Body(_Word):
    """What the content is made of. RFC 6152 3, RFC 3030 3"""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


class Ret(_Word):
    """What a report of failure shall return: the message, or its header section. RFC 3461 4.3"""

    FULL = "FULL"
    HDRS = "HDRS"


class Notify(_Word):
    """What shall be reported to the sender: nothing, or any of the others. RFC 3461 4.1"""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


# --- esmtp-param = esmtp-keyword ["=" esmtp-value] --------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """Any parameter, as it is: for the extensions that this package does not know.

    `keyword` is made capitals. `value` is as on the wire; None if there is no "=" either.
    Raises WireError for what is no esmtp-param. RFC 5321 4.1.2
    """

    keyword: str
    value: str | None

    def __post_init__(self) -> None:
        if not _KEYWORD.fullmatch(self.keyword):
            raise WireError("esmtp-keyword", f'not letters and digits: "{shown(self.keyword)}"')
        if self.value is not None and not (
            _VALUE.fullmatch(self.value) and self.value.isprintable()
        ):
            raise WireError(
                "esmtp-value", f'empty, or has a blank, "=" or a control: "{shown(self.value)}"'
            )
        object.__setattr__(self, "keyword", self.keyword.upper())

    @classmethod
    def parse(cls, text: str) -> "Parameter":
        """Read one parameter, without a blank around it. Raises WireError."""
        keyword, equals, value = text.partition("=")
        return cls(keyword, value if equals else None)

    def __str__(self) -> str:
        return self.keyword if self.value is None else f"{self.keyword}={self.value}"


# --- Mail-parameters = esmtp-param *(SP esmtp-param) ------------------------------------------


@quick
@dataclass(frozen=True, slots=True)
class MailParameters:
    """The parameters of MAIL; None, False or () for what is not there.

    size         octets that the content has, or a guess rather too high (RFC 1870 6)
    body         what the content is made of (RFC 6152)
    smtputf8     an address or a header field is not ASCII (RFC 6531 3.4)
    ret          what a report of failure shall return (RFC 3461 4.3)
    envid        the sender's own name for this envelope, in ASCII (RFC 3461 4.4)
    auth         who submitted the message; null: nobody that is known (RFC 4954 5)
    require_tls  never to be sent on without TLS (RFC 8689 2)
    other        all others, in their order

    Send only what the server has offered. Raises WireError for what cannot be sent, for a
    parameter that comes twice, and for one in `other` that has a field of its own.
    """

    size: int | None = None
    body: Body | None = None
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str | None = None
    auth: ReversePath | None = None
    require_tls: bool = False
    other: tuple[Parameter, ...] = ()
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = "" if self.size is None else f" SIZE={_write_size(self.size)}"
        if self.body is not None:
            text += f" BODY={self.body.value}"
        if self.smtputf8:
            text += " SMTPUTF8"
        if self.ret or self.envid is not None or self.auth is not None or self.require_tls:
            text += _write(self._rarer_words())
        if self.other:
            _check_other(self.other, known=_MAIL_KEYWORDS)
            text += _write(map(str, self.other))
        object.__setattr__(self, "_text", text)

    @classmethod
    def parse(cls, text: str) -> "MailParameters":
        """Read what follows the reverse-path: nothing, or a blank and parameters.

        Raises WireError. Parameters that are not known are in `other`: a server answers 555 to
        those that it did not offer. RFC 5321 4.1.1.11
        """
        if not text:
            return NO_MAIL_PARAMETERS
        given = _read(text)
        return cls(
            size=_take(given, "SIZE", _read_size),
            body=_take(given, "BODY", Body.parse),
            smtputf8=_take_flag(given, "SMTPUTF8"),
            ret=_take(given, "RET", Ret.parse),
            envid=_take(given, "ENVID", decode_xtext),
            auth=_take(given, "AUTH", _read_auth),
            require_tls=_take_flag(given, "REQUIRETLS"),
            other=tuple(given.values()),
        )

    def encode(self) -> str:
        """Return the parameters with a blank before each, or ""."""
        return self._text

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keywords of the parameters that are there, in capitals."""
        return _keywords(self._text)

    def _rarer_words(self) -> Iterator[str]:
        if self.ret is not None:
            yield f"RET={self.ret.value}"
        if self.envid is not None:
            yield f"ENVID={_write_envid(self.envid)}"
        if self.auth is not None:
            yield f"AUTH={_write_auth(self.auth)}"
        if self.require_tls:
            yield "REQUIRETLS"


_MAIL_KEYWORDS = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "REQUIRETLS"})

# --- Rcpt-parameters = esmtp-param *(SP esmtp-param) ------------------------------------------


@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """The recipient that the sender named, and the kind of address that it is. RFC 3461 4.2

    `address_type` is "rfc822", or "utf-8" for an address that is not ASCII (RFC 6533 3), or
    another registered name. `address` is the address itself, not encoded. Raises WireError.
    """

    address_type: str
    address: str

    def __post_init__(self) -> None:
        # RFC 3461 4.2: only ASCII can be reported, but for the address type that says otherwise.
        if not self._utf8 and not self.address.isascii():
            raise WireError("ORCPT", f'the address type must be "utf-8": {shown(self.address)}')
        if not self.address or not self.address.isprintable():
            raise WireError("ORCPT", f"empty, or has a control: {shown(self.address)}")
        if not _ADDRESS_TYPE.fullmatch(self.address_type):
            raise WireError("addr-type", f"not letters and digits: {shown(self.address_type)}")
        if len(self.encode()) > _LONGEST_ORCPT:
            raise WireError("ORCPT", f"longer than {_LONGEST_ORCPT}: {shown(self.address)}")

    @property
    def _utf8(self) -> bool:
        return self.address_type.lower() == "utf-8"

    @classmethod
    def parse(cls, text: str) -> "OriginalRecipient":
        """Read the value of ORCPT. Raises WireError."""
        address_type, semicolon, address = text.partition(";")
        if not semicolon:
            raise WireError("ORCPT", f'no ";" behind the address type: {shown(text)}')
        decode = _decode_unitext if address_type.lower() == "utf-8" else decode_xtext
        return cls(address_type, decode(address))

    def encode(self) -> str:
        """Return the value of ORCPT, in ASCII: so it may also go where SMTPUTF8 is not offered."""
        encode = _encode_unitext if self._utf8 else encode_xtext
        return f"{self.address_type};{encode(self.address)}"


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """The parameters of RCPT; the empty set, None or () for what is not there.

    notify       what shall be reported about this recipient (RFC 3461 4.1)
    orcpt        the recipient that the sender named (RFC 3461 4.2)
    other        all others, in their order

    Send only what the server has offered. Raises WireError for what cannot be sent, for a
    parameter that comes twice, and for one in `other` that has a field of its own.
    """

    notify: frozenset[Notify] = frozenset()
    orcpt: OriginalRecipient | None = None
    other: tuple[Parameter, ...] = ()
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require("ORCPT", self.orcpt, OriginalRecipient)
        _check_other(self.other, known=_RCPT_KEYWORDS)
        object.__setattr__(self, "_text", _write(self._words()))

    @classmethod
    def parse(cls, text: str) -> "RcptParameters":
        """Read what follows the forward-path: nothing, or a blank and parameters.

        Raises WireError. Parameters that are not known are in `other`: a server answers 555 to
        those that it did not offer. RFC 5321 4.1.1.11
        """
        if not text:
            return NO_RCPT_PARAMETERS
        given = _read(text)
        return cls(
            notify=_take(given, "NOTIFY", _read_notify) or frozenset(),
            orcpt=_take(given, "ORCPT", OriginalRecipient.parse),
            other=tuple(given.values()),
        )

    def encode(self) -> str:
        """Return the parameters with a blank before each, or ""."""
        return self._text

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keywords of the parameters that are there, in capitals."""
        return _keywords(self._text)

    def _words(self) -> Iterator[str]:
        if self.notify:
            yield f"NOTIFY={_write_notify(self.notify)}"
        if self.orcpt is not None:
            yield f"ORCPT={self.orcpt.encode()}"
        yield from map(str, self.other)


_RCPT_KEYWORDS = frozenset({"NOTIFY", "ORCPT"})


# --- the extensions ---------------------------------------------------------------------------

# Those that have another name than the parameter.
_EXTENSIONS = {
    "BODY": "8BITMIME",  # RFC 6152 2
    "RET": "DSN",  # RFC 3461 3
    "ENVID": "DSN",
    "NOTIFY": "DSN",
    "ORCPT": "DSN",
    "BY": "DELIVERBY",  # RFC 2852 3
    "HOLDFOR": "FUTURERELEASE",  # RFC 4865 3
    "HOLDUNTIL": "FUTURERELEASE",
    "TRANSID": "CHECKPOINT",  # RFC 1845 4
    "SOLICIT": "NO-SOLICITING",  # RFC 3865 2
}


def extension_of(keyword: str) -> str:
    """Return the keyword in the reply to EHLO that offers a parameter; both in capitals."""
    return _EXTENSIONS.get(keyword, keyword)


# --- the values, each with its reader and its writer ------------------------------------------


def _read_size(text: str) -> int:
    # int() alone would also take signs, blanks, underscores and the digits of other scripts.
    if not _SIZE.fullmatch(text):
        raise ValueError
    return int(text)


def _write_size(size: int) -> str:
    _require("SIZE", size, int)
    if not 0 <= size <= _LARGEST_SIZE:
        raise WireError("SIZE", "not a number of 1 to 20 digits")
    return f"{size:d}"


def _write_envid(envid: str) -> str:
    # RFC 3461 4.4
    xtext = encode_xtext(envid)
    if not envid.isascii() or len(xtext) > _LONGEST_ENVID:
        raise WireError("ENVID", f"not ASCII, or too long: {shown(envid)}")
    return xtext


def _read_auth(text: str) -> ReversePath:
    return NULL_REVERSE_PATH if text == "<>" else Mailbox.parse(decode_xtext(text))


def _write_auth(auth: ReversePath) -> str:
    _require("AUTH", auth, Mailbox, NullReversePath)
    # RFC 4954 5
    return "<>" if auth is NULL_REVERSE_PATH else encode_xtext(str(auth))


def _read_notify(text: str) -> frozenset[Notify]:
    return frozenset(map(Notify.parse, text.split(",")))


def _write_notify(notify: frozenset[Notify]) -> str:
    # RFC 3461 4.1
    if Notify.NEVER in notify and len(notify) > 1:
        raise WireError("NOTIFY", "NEVER stands alone")
    return ",".join(word.value for word in Notify if word in notify)


def encode_xtext(text: str) -> str:
    """Return `text` as xtext, letters outside ASCII as the octets of their UTF-8. RFC 3461 4

    Raises WireError for control characters, which would come out again at the other end.
    """
    if not text.isprintable():
        raise WireError("xtext", f"a control character in {shown(text)}")
    return _NO_XCHAR.sub(lambda octet: b"+%02X" % octet[0][0], text.encode()).decode("ascii")


def decode_xtext(text: str) -> str:
    """Return what `text` encodes. RFC 3461 4

    Raises WireError for what is no xtext, or encodes controls or octets that are not UTF-8.
    """
    if _XTEXT.fullmatch(text):
        octets = _HEXCHAR.sub(
            lambda hexchar: bytes.fromhex(hexchar[1].decode("ascii")), text.encode("ascii")
        )
        try:
            decoded = octets.decode()
        except UnicodeDecodeError:
            decoded = "\0"
        if decoded.isprintable():
            return decoded
    raise WireError("xtext", f"cannot be decoded to UTF-8 without controls: {shown(text)}")


def _encode_unitext(text: str) -> str:
    return _NO_QCHAR.sub(lambda character: f"\\x{{{ord(character[0]):02X}}}", text)


def _decode_unitext(text: str) -> str:
    if not _UNITEXT.fullmatch(text):
        raise WireError("utf-8-addr-unitext", f"malformed: {shown(text)}")
    return _EMBEDDED_UNICODE_CHAR.sub(lambda embedded: chr(int(embedded[1], 16)), text)


# --- common to MAIL and RCPT ------------------------------------------------------------------


def _read(text: str) -> dict[str, Parameter]:
    """Read parameters, each with a blank before it, by keyword. Raises WireError."""
    if not text.startswith(" "):
        raise WireError("esmtp-param", f"no blank before {shown(text)}")
    parameters = [Parameter.parse(word) for word in text[1:].split(" ")]
    given = {parameter.keyword: parameter for parameter in parameters}
    if len(given) < len(parameters):
        raise WireError("esmtp-param", f"one of them comes twice: {shown(text)}")
    return given


def _write(parameters: Iterable[str]) -> str:
    """Put a blank before each. Raises WireError if anything but parameters would come of it."""
    text = "".join(f" {parameter}" for parameter in parameters)
    if not _PARAMETERS.fullmatch(text):
        raise WireError("esmtp-param", f"an empty value in {shown(text)}")
    return text


def _keywords(text: str) -> tuple[str, ...]:
    return tuple(parameter.partition("=")[0] for parameter in text.split())


def _take(given: dict[str, Parameter], keyword: str, read: Callable[[str], _T]) -> _T | None:
    """Take a parameter out and read its value; None if it is not there. Raises WireError."""
    parameter = given.pop(keyword, None)
    if parameter is None:
        return None
    try:
        if parameter.value is not None:
            return read(parameter.value)
    except ValueError:
        pass
    raise WireError(keyword, f"no legal value in {shown(str(parameter))}")


def _take_flag(given: dict[str, Parameter], keyword: str) -> bool:
    """Take a parameter that has no value out, and say whether it was there. Raises WireError."""
    parameter = given.pop(keyword, None)
    if parameter is not None and parameter.value is not None:
        raise WireError(keyword, f"takes no value: {shown(parameter.value)}")
    return parameter is not None


def _require(keyword: str, value: object, *kinds: type) -> None:
    """Raise TypeError for a value that would be written, and be something else on the wire."""
    if value is not None and type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{keyword} takes {names}, not {type(value).__name__}")


def _check_other(other: tuple[Parameter, ...], known: frozenset[str]) -> None:
    """Refuse parameters that have a field of their own, and those that come twice."""
    keywords = {parameter.keyword for parameter in other}
    if len(keywords) < len(other) or keywords & known:
        raise WireError(
            "esmtp-param",
            f"one comes twice, or has a field of its own: {shown(_write(map(str, other)))}",
        )


NO_MAIL_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()
