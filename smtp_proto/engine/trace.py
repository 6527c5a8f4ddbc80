"""What a trace may show of a session: each line both ways, but no secret and no content.

Knows which commands and replies carry secrets, by what they are and by where the session stands,
and never by how they look. Must not know who reads the trace, nor when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import TypeAlias

from smtp_proto.wire import Auth, AuthResponse, Command, Help, Noop, Reply, escaped


class Speaker(Enum):
    """Who says a line. The value is what stands in front of it."""

    CLIENT = "C"
    SERVER = "S"


Trace: TypeAlias = Callable[[Speaker, str], None]
"""Told each line without its CRLF, in any terminal's or log's characters."""

_HIDDEN = "***"


def command_line(command: Command | AuthResponse) -> str:
    """What may be shown of a line that a client sends."""
    match command:
        case Auth(mechanism, None):
            return f"AUTH {mechanism}"
        case Auth(mechanism):
            return f"AUTH {mechanism} {_HIDDEN}"
        case AuthResponse(None):
            return "*"  # it cancels
        case AuthResponse():
            return _HIDDEN
        case Noop() | Help():
            return type(command).__name__.upper()  # what stands behind means nothing
        case _:
            return escaped(command.encode().decode("utf-8", "surrogateescape").rstrip("\r\n"))


def reply_lines(reply: Reply, *, to_auth: bool) -> Iterator[str]:
    """What may be shown of a reply; `to_auth`: to a login, whose secrets it may quote."""
    if to_auth:
        status = reply.enhanced_status
        yield " ".join([str(reply.code), *([] if status is None else [str(status)]), _HIDDEN])
        return
    last = len(reply.lines) - 1
    for index, text in enumerate(reply.lines):
        yield escaped(f"{reply.code}{' ' if index == last else '-'}{text}")


def content_line(octets: int) -> str:
    """What stands for content."""
    return f"({octets} octets of content)"


def broken_line(octets: int) -> str:
    """What stands for what is no command: there is no telling what it was meant to be."""
    return f"({octets} octets that are no command)"
