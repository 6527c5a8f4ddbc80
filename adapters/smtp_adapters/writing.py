"""A message of the email package -> the octets to send.

Knows how header fields are folded, and in which letters. Must not know what they mean, nor who
gets the message.

The email package writes nearly all of it. Fields of addresses that a program has set are written
here: the package may lose the quotes around a name, and a name is anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from email.errors import MessageDefect, MessageError, NonASCIILocalPartDefect, ObsoleteHeaderDefect
from email.generator import BytesGenerator
from email.header import Header
from email.headerregistry import Address, AddressHeader, BaseHeader, Group
from email.message import Message
from email.policy import EmailPolicy, Policy
from functools import lru_cache
from io import BytesIO
from typing import Self, cast

from smtp_proto.wire.address import Mailbox
from smtp_proto.wire.errors import WireError, shown

# Faults of form that leave no doubt about the address.
_HARMLESS_DEFECTS = (NonASCIILocalPartDefect, ObsoleteHeaderDefect)
# What the email package says where it has passed over something, or put words together.
_LOST = re.compile("^invalid (?:address|mailbox) in |(?:inside comment|between words)$")

_LINE_END_IN_FIELD = re.compile("\r(?!\n)|\n(?![ \t])|[\v\f\x1c-\x1e\x85\u2028\u2029]")
_FIELD_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 2.2

# What stands for itself in a phrase, but for "?": that may begin an encoded word.  RFC 5322 3.2.3
_WORDS = re.compile(r"[\w!#$%&'*+/=^`{|}~-]+(?: [\w!#$%&'*+/=^`{|}~-]+)*")
_TO_BE_QUOTED = re.compile(r'[\\"]')
_LINE = 78  # characters: no more should be in one.  RFC 5322 2.1.1
_LONGEST = 200  # octets of a name, or an address: no line may have more than 998.  RFC 5322 2.1.1
# Not a mailbox, and yet nothing else: a name without a domain, or one with an underscore in it.
_NO_MAILBOX = re.compile(r'<>|(?!\.)[^\s"(),:;<>\[\]\\]*')


def refused(name: str, why: str) -> WireError:
    """Return the error for a header field."""
    return WireError(f"header field {name}", why)


def addr_specs(groups: Iterable[Group]) -> list[str]:
    """Return the addresses alone, without display names. RFC 5322 3.4.1"""
    return [address.addr_spec for group in groups for address in group.addresses]


def harmful(defects: Iterable[MessageDefect]) -> list[MessageDefect]:
    """Return those that leave a doubt about an address."""
    return [defect for defect in defects if not isinstance(defect, _HARMLESS_DEFECTS)]


def refuse_line_ends(message: Message) -> None:
    """Refuse fields that would be written as more than one: not every version of Python does."""
    for part in message.walk():
        for name, value in part.raw_items():
            if not _FIELD_NAME.fullmatch(name):
                raise refused(shown(name), "is not a name for one: take letters and hyphens")
            if _LINE_END_IN_FIELD.search(str(value)):
                raise refused(name, f"has a line end in it: take it out of {shown(str(value))}")


def written(message: Message) -> bytes:
    """Return the message with CRLF at the end of each line. Raises ValueError if it cannot be."""
    policy = _writing_policy(message.policy, _needs_utf8(message))
    octets = BytesIO()
    try:
        BytesGenerator(octets, policy=policy).flatten(message)
    except (MessageError, UnicodeError, LookupError) as error:
        raise ValueError(f"the message cannot be written: {shown(str(error))}") from error
    return octets.getvalue()


@lru_cache(maxsize=16)
def _writing_policy(policy: Policy[Message], utf8: bool) -> Policy[Message]:
    policy = policy.clone(linesep="\r\n", mangle_from_=False)
    if not isinstance(policy, EmailPolicy):
        return policy
    # What was read is not folded anew: it may be signed.
    policy = policy.clone(utf8=utf8, refold_source="none")
    writing: object = object.__new__(type("_Writing", (_Writing, type(policy)), {}))
    vars(writing).update(vars(policy))
    return cast("Policy[Message]", writing)


class _Writing(EmailPolicy):
    """Whatever else a policy does, it leaves the folding of addresses to us."""

    def fold_binary(self, name: str, value: str) -> bytes:
        if isinstance(value, AddressHeader):
            for defect in _defects(value):
                if _LOST.search(str(defect)):
                    raise refused(
                        name,
                        f"{defect} in {shown(value)}: correct it, with names in quotation marks",
                    )
            value = _AddressField.of(name, value.groups)
        return super().fold_binary(name, value)


# --- Letters ----------------------------------------------------------------------------------


def _needs_utf8(message: Message) -> bool:
    return any(_is_utf8_only(value) for part in message.walk() for _, value in part.raw_items())


def _is_utf8_only(value: object) -> bool:
    """Whether a field must go out in UTF-8: no encoded word can stand in an address.

    RFC 2047 5
    """
    if isinstance(value, AddressHeader):
        return not all(map(_has_ascii_form, addr_specs(value.groups)))
    return not isinstance(value, BaseHeader) and not str(value).isascii()


def _defects(header: object) -> Sequence[MessageDefect]:
    return header.defects if isinstance(header, BaseHeader) else ()


def _has_ascii_form(addr_spec: str) -> bool:
    try:
        _in_ascii(addr_spec)
    except WireError:
        return False
    return True


def _in_ascii(addr_spec: str) -> str:
    """The address with its domain in A-labels. Raises WireError. RFC 5890 2.3.2.1"""
    return addr_spec if addr_spec.isascii() else str(Mailbox.parse(addr_spec).to_ascii())


# --- Fields of addresses ----------------------------------------------------------------------


class _AddressField(str):
    """The value of a field of addresses, as a policy takes it: with a way to fold it.

    Comments are lost.
    """

    __slots__ = ("groups", "name")
    name: str
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, name: str, groups: Iterable[Group]) -> Self:
        field = cls()
        field.name = name
        field.groups = tuple(groups)
        return field

    def fold(self, *, policy: EmailPolicy) -> str:
        """Write the field, with line ends between its members only, or between encoded words."""
        members = _list(_group(self.name, group, utf8=policy.utf8) for group in self.groups)
        lines = [f"{self.name}:"]
        for place, member in enumerate(members):
            _, _, line = lines[-1].rpartition(policy.linesep)
            if place and len(line) + len(member) >= (policy.max_line_length or _LINE):
                lines.append("")
            lines[-1] += f" {member}"
        return policy.linesep.join((*lines, ""))


def _list(members: Iterable[Sequence[str]]) -> list[str]:
    """Put commas between the members. Each is in pieces that may stand on lines of their own."""
    pieces: list[str] = []
    for member in filter(None, members):
        if pieces:
            pieces[-1] += ","
        pieces += member
    return pieces


def _group(name: str, group: Group, *, utf8: bool) -> list[str]:
    """RFC 5322 3.4: one mailbox by itself is a group without a name."""
    pieces = _list([_mailbox(name, address, utf8=utf8)] for address in group.addresses)
    if group.display_name is not None:
        phrase = _phrase(group.display_name, utf8=utf8)
        # RFC 2047 5: a blank behind an encoded word.
        pieces.insert(0, f"{phrase} :" if phrase.endswith("?=") else f"{phrase}:")
        pieces[-1] += ";"
    return pieces


def _mailbox(name: str, address: Address, *, utf8: bool) -> str:
    """RFC 5322 3.4. Raises WireError for what others would not read as one address."""
    addr_spec = address.addr_spec if utf8 else _in_ascii(address.addr_spec)
    if not _is_one_word(addr_spec):
        try:
            Mailbox.parse(addr_spec)
        except WireError as error:
            raise refused(name, f"{error}: correct it") from None
    if not address.display_name:
        return addr_spec
    angle_addr = addr_spec if addr_spec == "<>" else f"<{addr_spec}>"
    return f"{_phrase(address.display_name, utf8=utf8)} {angle_addr}"


def _is_one_word(addr_spec: str) -> bool:
    return (
        _NO_MAILBOX.fullmatch(addr_spec) is not None
        and addr_spec.isprintable()
        and len(addr_spec.encode()) <= _LONGEST
    )


def _phrase(name: str, *, utf8: bool) -> str:
    octets = name.encode("utf-8", "surrogateescape")
    try:
        name = octets.decode()  # what was read as surrogate escapes is UTF-8.  RFC 6532 3.2
    except UnicodeDecodeError:
        return Header(octets, "unknown-8bit").encode(linesep="\r\n")
    if (
        "=?" in name
        or not (name.isprintable() and (utf8 or name.isascii()))
        or len(name.encode()) > _LONGEST
    ):
        return Header(name, "utf-8").encode(linesep="\r\n")  # RFC 2047 5
    if _WORDS.fullmatch(name):
        return name
    return f'"{_TO_BE_QUOTED.sub(lambda match: chr(92) + match[0], name)}"'  # RFC 5322 3.2.4
