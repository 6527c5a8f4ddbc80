"""Mailboxes and paths. RFC 5321 4.1.2 and 4.1.3, RFC 6531 3.3

Knows their grammar, how long they may be, and which characters deceive.
Must not know in which command they stand, nor what the peer has offered.

An address of an envelope is no header field: nothing here takes comments, display names, lists,
encoded words or blanks around it.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TypeAlias
from unicodedata import category, is_normalized, normalize

from smtp_proto.wire.errors import WireError, kind_of, shown

_LONGEST_LOCAL_PART = 64  # octets.  RFC 5321 4.5.3.1.1
_LONGEST_DOMAIN = 255  # octets.  RFC 5321 4.5.3.1.2
_LONGEST_PATH = 256  # octets, with its angle brackets.  RFC 5321 4.5.3.1.3
_LONGEST_MAILBOX = _LONGEST_PATH - len("<>")
_LONGEST_LABEL = 63  # octets, as an A-label.  RFC 5890 2.3.2.1

# No quantifier below gives back what it took: the time is linear in the text, whatever it is.
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_UTF8_ATEXT = r"\x80-\U0010ffff" + _ATEXT  # RFC 6531 3.3
_LDH_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}+(?<!-)"
_PLAIN_LABEL = r"(?![Xx][Nn]--)" + _LDH_LABEL

# Nearly every Mailbox: an ASCII Dot-string and a Domain without an A-label.
_PLAIN_MAILBOX = re.compile(
    rf"[{_ATEXT}]++(?:\.[{_ATEXT}]++)*+@{_PLAIN_LABEL}(?:\.{_PLAIN_LABEL})*+"
)
_DOT_STRING = re.compile(rf"[{_UTF8_ATEXT}]++(?:\.[{_UTF8_ATEXT}]++)*+")
_QUOTED_STRING = r'"((?:[^"\\]|\\[ -~])*+)"'
_QUOTED_MAILBOX = re.compile(_QUOTED_STRING + "@(.*)", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_LABEL = re.compile(_LDH_LABEL)
_LENIENT_LABEL = re.compile(_LDH_LABEL.replace("0-9", "0-9_"))

# address-literal. Of dcontent we leave out what a careless reader takes for the end of a path or
# for a Quoted-string: no tag that was ever registered needs it.  RFC 5321 4.1.3
_ADDRESS_LITERAL = re.compile(r"\[(?:([A-Za-z0-9-]*[A-Za-z0-9]):)?([!#-;=?-Z^-~]++)\]")

_PATH = re.compile(r'<((?:[^"<>]++|"(?:[^"\\]|\\.)*+")*+)>', re.DOTALL)

# Default_Ignorable_Code_Point, as far as `isprintable()` lets it pass: letters and marks that
# nobody can see.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
# LetterDigits, of which the capitals are mapped before they are used.  RFC 5892 2.1, RFC 5895 2
_LETTER_DIGITS = frozenset({"Ll", "Lu", "Lo", "Nd", "Lm", "Mn", "Mc"})
_A_LABEL_PREFIX = "xn--"  # RFC 5890 2.3.2.1
_JOINERS = re.compile("[\u200c\u200d]")

# The letters that IDNA 2003 replaces and IDNA 2008 keeps: "\xdf" (s sharp), final sigma. Each
# stands for two domains, which may belong to two owners.  RFC 5894 7.2
_DEVIATIONS = str.maketrans({"\u00df": "s", "\u03c2": "\u03c3"})


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Mailbox: a local part and a domain. RFC 5321 4.1.2, RFC 6531 3.3

    `local_part` is the value itself, without quotes and backslashes; only the host of the domain
    may say what it means, so it is kept and compared as it is. `domain` is a Domain, of A-labels
    or U-labels, or an address literal: "[192.0.2.1]", "[IPv6:2001:db8::1]", "[tag:content]".
    A U-label has no capitals, and loses those that it is given with. `text` is how both are
    written between angle brackets, with no more quoting than needed.

    Raises WireError for what is none, and also for characters that cannot be seen, or that pass
    for others: a domain with such letters can still be given with its A-labels.

    A `local_part` of a stranger is harmless on the wire only. In a shell, a path or a template
    it is not.
    """

    local_part: str
    domain: str
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = self.local_part + "@" + self.domain
        if (
            _PLAIN_MAILBOX.fullmatch(text) is None
            or len(self.local_part) > _LONGEST_LOCAL_PART
            or len(text) > _LONGEST_MAILBOX
        ):
            domain = _read_host(self.domain)
            text = _write_mailbox(self.local_part, domain)
            object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "text", text)

    @classmethod
    def parse(cls, text: str) -> "Mailbox":
        """Read a Mailbox as it stands between angle brackets, without these.

        Raises WireError. Addresses recur, so that the same text may give the same object.
        """
        return _parse_mailbox(text)

    def __str__(self) -> str:
        return self.text

    @property
    def ascii(self) -> bool:
        """Whether it is all ASCII, so that it needs no SMTPUTF8. RFC 6531 3.2"""
        return self.text.isascii()

    @property
    def literal(self) -> bool:
        """Whether the domain is an address literal. RFC 5321 4.1.3"""
        return self.domain.startswith("[")

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The IP address of the literal; None for a Domain and for a literal of another kind."""
        return _parse_literal(self.domain) if self.literal else None

    def to_ascii(self) -> "Mailbox":
        """Return the same mailbox with its domain in A-labels, for a peer without SMTPUTF8.

        Raises WireError if the local part is not ASCII, for then there is no such form, and if
        the domain has a letter that IDNA 2003 and IDNA 2008 take for different domains: give
        that domain with its A-labels. RFC 6531 3.2, RFC 5891 5
        """
        if self.ascii:
            return self
        if not self.local_part.isascii():
            raise WireError(
                "Local-part", f"not ASCII, so that it needs SMTPUTF8: {shown(self.local_part)}"
            )
        return Mailbox(self.local_part, domain_to_ascii(self.domain))


class NullReversePath(Enum):
    """The reverse-path of a message to which nobody may send a report: <>. RFC 5321 4.5.5"""

    NULL = ""

    @property
    def text(self) -> str:
        """How it is written between angle brackets, as that of a Mailbox."""
        return self.value

    def __str__(self) -> str:
        return self.value


class Postmaster(Enum):
    """The only forward-path without a domain: <Postmaster>, in any case. RFC 5321 4.5.1"""

    POSTMASTER = "Postmaster"

    @property
    def text(self) -> str:
        """How it is written between angle brackets, as that of a Mailbox."""
        return self.value

    def __str__(self) -> str:
        return self.value


NULL_REVERSE_PATH = NullReversePath.NULL
POSTMASTER = Postmaster.POSTMASTER

ReversePath: TypeAlias = Mailbox | NullReversePath
ForwardPath: TypeAlias = Mailbox | Postmaster

_PATHS = (Mailbox, NullReversePath, Postmaster)  # to make their union anew each time is slow


# --- Mailbox = Local-part "@" ( Domain / address-literal ) ------------------------------------


@lru_cache(maxsize=4096)
def _parse_mailbox(text: str) -> Mailbox:
    if text.startswith('"'):
        return _parse_quoted_mailbox(text)
    local_part, at, domain = text.partition("@")
    if not at:
        raise WireError("Mailbox", f'no "@" in {shown(text)}')
    mailbox = Mailbox(local_part, domain)
    if mailbox.text.startswith('"'):
        raise WireError("Local-part", f"needs quotes around it: {shown(local_part)}")
    return mailbox


def _parse_quoted_mailbox(text: str) -> Mailbox:
    match = _QUOTED_MAILBOX.fullmatch(text)
    if match is None:
        raise WireError("Quoted-string", f'does not end with a quote and "@": {shown(text)}')
    return Mailbox(_QUOTED_PAIR.sub(r"\1", match[1]), match[2])


def _write_mailbox(local_part: str, domain: str) -> str:
    """Return the Mailbox as it is written. Raises WireError for a bad local part, or a long one."""
    written = local_part if _DOT_STRING.fullmatch(local_part) else _quote(local_part)
    _check_length("Local-part", written, _LONGEST_LOCAL_PART)
    _check_characters("Local-part", local_part)
    text = f"{written}@{domain}"
    _check_length("Mailbox", text, _LONGEST_MAILBOX)
    return text


def _quote(local_part: str) -> str:
    escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- Path = "<" [ A-d-l ":" ] Mailbox ">" -----------------------------------------------------


def parse_reverse_path(text: str) -> ReversePath:
    """Read what stands between the angle brackets of MAIL; "" is the null reverse-path.

    Raises WireError("reverse-path", ...). RFC 5321 4.1.1.2
    """
    if not text:
        return NULL_REVERSE_PATH
    try:
        return _parse_mailbox(text)
    except WireError as error:
        raise WireError("reverse-path", _why(text, error)) from None


def parse_forward_path(text: str) -> ForwardPath:
    """Read what stands between the angle brackets of RCPT; "Postmaster" needs no domain.

    Raises WireError("forward-path", ...). RFC 5321 4.1.1.3
    """
    if text.lower() == "postmaster":
        return POSTMASTER
    try:
        return _parse_mailbox(text)
    except WireError as error:
        raise WireError("forward-path", _why(text, error)) from None


def _why(text: str, error: WireError) -> str:
    """What is wrong with a path; what is often taken for one has a word of its own."""
    if text.endswith(">"):
        return f"an address alone, without a name and angle brackets: {shown(text)}"
    if "," in text and '"' not in text:
        return f"one address, not a list of them: {shown(text)}"
    return str(error)


def split_path(text: str) -> tuple[str, str]:
    """Split the argument of MAIL or RCPT behind the colon: the path, and all that follows it.

    The path comes without its angle brackets and without the source route, which is read and
    then ignored; give it to `parse_reverse_path()` or `parse_forward_path()`. Raises WireError.
    """
    match = _PATH.match(text)
    if match is None:
        raise WireError("Path", f"does not begin and end with angle brackets: {shown(text)}")
    _check_length("Path", match[0], _LONGEST_PATH)
    path = match[1]
    if path.startswith("@"):
        path = _without_route(path)
    return path, text[match.end() :]


def write_path(path: object) -> str:
    """Return a reverse-path or a forward-path with its angle brackets.

    Raises TypeError for everything else: a str in its place might be more than a path.
    """
    if isinstance(path, _PATHS):
        return f"<{path.text}>"
    raise TypeError(f"a path is a Mailbox, see Mailbox.parse(), and not {kind_of(path)}")


def _without_route(path: str) -> str:
    # RFC 5321 4.1.2: a source route must be accepted, and should be ignored.
    route, _, mailbox = path.partition(":")
    for at_domain in route.split(","):
        if not at_domain.startswith("@"):
            raise WireError("At-domain", f'does not begin with "@": {shown(at_domain)}')
        _read_domain(at_domain[1:])
    # The null reverse-path and the Postmaster have no route.
    if "@" not in mailbox:
        raise WireError("Path", f"no Mailbox behind the source route {shown(route)}")
    return mailbox


# --- Domain = sub-domain *("." sub-domain) ----------------------------------------------------


def validate_domain(text: str, *, lenient: bool = False) -> str:
    """Return the argument of EHLO: a Domain or an address literal, in ASCII.

    With `lenient` an underscore passes for a letter, as a server should let it: many clients
    take the names of their machines. Raises WireError. RFC 5321 4.1.1.1
    """
    # RFC 6531 3.7.1: at this point nobody knows whether the server supports SMTPUTF8.
    if not text.isascii():
        raise WireError("Domain", f"not ASCII, give its A-labels: {shown(text)}")
    return _read_host(text, _LENIENT_LABEL if lenient else _LABEL)


def domain_to_ascii(text: str, *, lenient: bool = False) -> str:
    """Return a Domain in A-labels, as the DNS knows it and all software takes it.

    `lenient` is that of `validate_domain()`. Raises WireError for what is no Domain, and for a
    letter that IDNA 2003 and IDNA 2008 take for different domains: give that domain with its
    A-labels. RFC 5891 5
    """
    domain = _read_domain(text, _LENIENT_LABEL if lenient else _LABEL)
    a_labels = ".".join(map(_to_a_label, domain.split(".")))
    _check_length("Domain", a_labels, _LONGEST_DOMAIN)
    return a_labels


def _read_host(text: str, ldh_label: re.Pattern[str] = _LABEL) -> str:
    """Return a Domain, see `_read_domain()`, or an address literal. Raises WireError."""
    if not text.startswith("["):
        return _read_domain(text, ldh_label)
    _parse_literal(text)
    return text


def _read_domain(domain: str, ldh_label: re.Pattern[str] = _LABEL) -> str:
    """Return a Domain with the capitals of its U-labels made small. Raises WireError."""
    _check_length("Domain", domain, _LONGEST_DOMAIN)
    return ".".join(
        _read_ldh_label(label, ldh_label) if label.isascii() else _read_u_label(label)
        for label in domain.split(".")
    )


def _read_ldh_label(label: str, ldh_label: re.Pattern[str]) -> str:
    if not ldh_label.fullmatch(label):
        raise WireError(
            "Domain",
            f'not 1 to {_LONGEST_LABEL} letters, digits and hyphens within: "{shown(label)}"',
        )
    if label[:4].lower() == _A_LABEL_PREFIX:
        _check_a_label(label)
    return label


def _parse_literal(literal: str) -> IPv4Address | IPv6Address | None:
    """Read an address literal; None for one with another tag than IPv6. Raises WireError."""
    match = _ADDRESS_LITERAL.fullmatch(literal)
    if match and len(literal) <= _LONGEST_DOMAIN:
        tag, content = match.groups()
        try:
            if tag is None:
                return IPv4Address(content)
            if tag.upper() != "IPV6":
                return None
            # A zone means nothing to another host, and the grammar has none.
            if "%" not in content:
                return IPv6Address(content)
        except AddressValueError:
            pass
    raise WireError(
        "address-literal",
        f"not like [192.0.2.1] or [IPv6:2001:db8::1]: {shown(literal)}",
    )


# --- A-label and U-label: RFC 5890 2.3.2.1 ----------------------------------------------------


def _check_a_label(label: str) -> None:
    """Refuse an A-label that nothing is written as, or that hides what a Domain may not show.

    What it stands for may have symbols, as IDNA 2003 allowed: such domains receive mail.
    """
    encoded = label[4:].lower()
    try:
        decoded = encoded.encode("ascii").decode("punycode")
    except UnicodeError:
        decoded = ""
    if _punycoded(decoded) != _A_LABEL_PREFIX + encoded:
        raise WireError("A-label", f"not Punycode: {shown(label)}")
    _check_characters("A-label", _JOINERS.sub("", decoded))


def _read_u_label(label: str) -> str:
    """Return a U-label with its capitals made small. RFC 5891 4.2, RFC 5892 2, RFC 5895 2

    Refuses what is none then; letters that are legal in some contexts only are among that.
    """
    _check_characters("U-label", label)
    # Letter by letter: the whole word would get a final sigma at its end.
    lowered = "".join(map(str.lower, label))
    mapped = lowered.translate(_DEVIATIONS)
    legal = (
        is_normalized("NFKC", label)
        and normalize("NFKC", mapped.casefold()) == mapped
        and all(letter == "-" or category(letter) in _LETTER_DIGITS for letter in label)
        # RFC 5891 4.2.3.1
        and not (label.startswith("-") or label.endswith("-") or label[2:4] == "--")
        # RFC 5891 4.2.3.2
        and category(label[0]) not in {"Mn", "Mc"}
        and len(_punycoded(lowered)) <= _LONGEST_LABEL
    )
    if not legal:
        raise WireError("U-label", f"not legal in a domain, give its A-label: {shown(label)}")
    return lowered


def _to_a_label(label: str) -> str:
    if label.isascii():
        return label
    if label != label.translate(_DEVIATIONS):
        raise WireError(
            "U-label",
            f"IDNA 2003 and IDNA 2008 make two domains of it, give its A-label: {shown(label)}",
        )
    return _punycoded(label)


def _punycoded(label: str) -> str:
    return _A_LABEL_PREFIX + label.encode("punycode").decode("ascii")


# --- What is common to all -------------------------------------------------------------------


def _check_length(what: str, text: str, longest: int) -> None:
    # Surrogates are refused elsewhere; here they are only counted.
    if len(text.encode("utf-8", "surrogatepass")) > longest:
        raise WireError(what, f"longer than {longest} octets: {shown(text)}")


def _check_characters(what: str, text: str) -> None:
    """Refuse controls and all else that cannot be seen, and what may become syntax later.

    The latter are letters such as the full-width "@": who applies NFKC behind us, and many do,
    would get another address.
    """
    for character in text:
        if not character.isprintable() or _IGNORABLE.match(character):
            raise WireError(what, f"{_code_point(character)} in {shown(text)} cannot be seen")
        if character > "\x7f" and not all(map(_is_harmless, normalize("NFKC", character))):
            raise WireError(what, f"{_code_point(character)} in {shown(text)} passes for ASCII")


def _is_harmless(character: str) -> bool:
    return character.isalnum() or not character.isascii()


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"
