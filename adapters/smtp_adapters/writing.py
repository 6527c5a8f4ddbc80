"""A message of the email package -> the octets to send.

Knows how header fields are folded, and in which letters. Must not know what they mean, nor who
gets the message.

The email package writes nearly all of it. Where it would fold a field of addresses that a program
has set, that is done here: it may lose the quotes around a name, and a name is anybody's.
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

_LINE_END_IN_FIELD = re.compile("\r(?!\n)|\n(?![ \t])|[\v\f\x1c-\x1e\x85\u2028\u2029]")
_FIELD_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 2.2

# What stands for itself in a phrase, but for "?": that may begin an encoded word.  RFC 5322 3.2.3
_WORDS = re.compile(r"[\w!#$%&'*+/=^`{|}~-]+(?: [\w!#$%&'*+/=^`{|}~-]+)*")
_TO_BE_QUOTED = re.compile(r'[\\"]')
_LINE = 78  # characters: no more should be in one.  RFC 5322 2.1.1
_LONGEST_QUOTED = 200  # octets: no line may have more than 998.  RFC 5322 2.1.1
# Not a mailbox, and yet nothing else: a name without a domain.
_NO_MAILBOX = re.compile(r'<>|[^\s"(),:;<>\[\]\\]*')


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
        if (
            isinstance(value, AddressHeader)
            and value.groups
            and not _stays_as_it_is(name, value, self.max_line_length or _LINE)
            and not harmful(_defects(value))
        ):
            value = _AddressField.of(name, value.groups)
        return super().fold_binary(name, value)


def _stays_as_it_is(name: str, value: str, line: int) -> bool:
    """Whether nothing of it would be folded, or read as an encoded word."""
    return value.isascii() and "=?" not in value and len(name) + len(value) < line


# --- Letters ----------------------------------------------------------------------------------


def _needs_utf8(message: Message) -> bool:
    return any(_is_utf8_only(value) for part in message.walk() for _, value in part.raw_items())


def _is_utf8_only(value: object) -> bool:
    """Whether a field must go out in UTF-8: no encoded word can stand in an address.

    RFC 2047 5
    """
    if isinstance(value, AddressHeader):
        has_ascii_form = str.isascii if harmful(_defects(value)) else _has_ascii_form
        return not all(map(has_ascii_form, addr_specs(value.groups)))
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
        members = [_group(self.name, group, utf8=policy.utf8) for group in self.groups]
        lines = [f"{self.name}:"]
        for place, member in enumerate(members, 1):
            text = f" {member}" if place == len(members) else f" {member},"
            _, _, line = lines[-1].rpartition(policy.linesep)
            if place > 1 and len(line) + len(text) > (policy.max_line_length or _LINE):
                lines.append("")
            lines[-1] += text
        return policy.linesep.join((*lines, ""))


def _group(name: str, group: Group, *, utf8: bool) -> str:
    """RFC 5322 3.4: one mailbox by itself is a group without a name."""
    members = ", ".join(_mailbox(name, address, utf8=utf8) for address in group.addresses)
    if group.display_name is None:
        return members
    return f"{_phrase(group.display_name, utf8=utf8)}: {members};"


def _mailbox(name: str, address: Address, *, utf8: bool) -> str:
    """RFC 5322 3.4. Raises WireError for what others would not read as one address."""
    addr_spec = address.addr_spec if utf8 else _in_ascii(address.addr_spec)
    if not _NO_MAILBOX.fullmatch(addr_spec):
        try:
            Mailbox.parse(addr_spec)
        except WireError as error:
            raise refused(name, f"{error}: correct it") from None
    if not address.display_name:
        return addr_spec
    angle_addr = addr_spec if addr_spec == "<>" else f"<{addr_spec}>"
    return f"{_phrase(address.display_name, utf8=utf8)} {angle_addr}"


def _phrase(name: str, *, utf8: bool) -> str:
    if (
        "=?" in name
        or not (name.isprintable() and (utf8 or name.isascii()))
        or len(name.encode()) > _LONGEST_QUOTED
    ):
        return Header(name, "utf-8").encode(linesep="\r\n")  # RFC 2047 5
    if _WORDS.fullmatch(name):
        return name
    return f'"{_TO_BE_QUOTED.sub(lambda match: chr(92) + match[0], name)}"'  # RFC 5322 3.2.4
