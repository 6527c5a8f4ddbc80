"""Content, wherever the caller has it: what there is of it, and the pieces it comes in.

Knows octets, files and iterables. Must not know any world: nothing here waits, but on a file.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from email.message import Message
from enum import Enum
from functools import partial
from io import SEEK_END, IOBase, TextIOBase
from os import PathLike
from typing import Protocol, TypeAlias, runtime_checkable

from smtp_proto.wire import Octets
from smtp_proto.wire.errors import kind_of

_PIECE = 65_536  # octets read from a file at a time


@runtime_checkable
class BinaryFile(Protocol):
    """What can be read from, open for octets."""

    def read(self, size: int, /) -> bytes:
        """Return `size` octets at most; b"" at the end."""
        ...


AnyContent: TypeAlias = Octets | BinaryFile | Iterable[Octets]
AnyAsyncContent: TypeAlias = AnyContent | AsyncIterable[Octets]
Pieces: TypeAlias = Iterator[Octets]
AsyncPieces: TypeAlias = Pieces | AsyncIterator[Octets]

NO_PIECES: Pieces = iter(())


class End(Enum):
    """What comes behind the last piece. None may also be what a faulty iterator gives."""

    END = "end"


END = End.END


def source(content: AnyContent) -> tuple[Octets | None, int | None, Pieces]:
    """The content if it is all there; else its size, if that can be told, and its pieces.

    Raises TypeError for text, and for what is no content at all.
    """
    if isinstance(content, bytes | bytearray):
        return content, None, NO_PIECES
    if isinstance(content, memoryview):
        return content.cast("B"), None, NO_PIECES  # its octets, whatever its items are
    _check_content(content)
    if isinstance(content, BinaryFile):
        return None, _size(content), iter(partial(content.read, _PIECE), b"")
    return None, None, iter(content)


def _check_content(given: object) -> None:
    """Look at what a caller gave in place of octets. Raises TypeError."""
    kind = kind_of(given)
    match given:
        case str() | TextIOBase():
            raise TypeError("content is octets, not text: encode() it, or open the file as binary")
        case Message():  # an iterable, of the names of its fields
            hint = ": send_message() takes it"
        case BinaryFile() | Iterable():
            return
        case PathLike():
            hint = ": open() the file as binary"
        case _:
            hint = ": call it" if callable(given) else ""
    raise TypeError(f"content is octets, a binary file, or an iterable of octets, not {kind}{hint}")


def async_source(content: AnyAsyncContent) -> tuple[Octets | None, int | None, AsyncPieces]:
    """What `source()` says, where pieces may have to be awaited."""
    if isinstance(content, AsyncIterable):
        return None, None, aiter(content)
    return source(content)


def _size(file: BinaryFile) -> int | None:
    """The octets that are left in the file, as its line ends are; None: it cannot tell."""
    if not isinstance(file, IOBase) or not file.seekable():
        return None
    position = file.tell()
    end = file.seek(0, SEEK_END)
    file.seek(position)
    return end - position


def check(piece: object) -> None:
    """Look at what a caller's file or iterator gave. Raises TypeError if it is not octets."""
    if not isinstance(piece, Octets | End):
        raise TypeError(f"content comes in octets, not as {kind_of(piece)}")
