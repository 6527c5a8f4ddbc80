"""Octets that came in and are not yet read.

Knows lines and their CRLF, and counts of octets.
Must not know what a line says.
"""

from typing import TypeAlias

from smtp_proto.wire.errors import LimitExceeded

Octets: TypeAlias = bytes | bytearray | memoryview

_CR = b"\r"
_CRLF = b"\r\n"


class ReceiveBuffer:
    """What was received, read from its front.

    However the input is cut, the time spent is linear in its length: no octet is searched
    twice for a line end, and what is read is taken off without moving the rest.

    look     len(), find(), peek()
    feed     feed(), clear()
    poll     take_line(), take_lines(), drop_line(), take()
    """

    __slots__ = ("_octets", "_searched")

    def __init__(self) -> None:
        self._octets = bytearray()
        self._searched = 0  # no CRLF begins before this offset

    def __len__(self) -> int:
        return len(self._octets)

    def feed(self, data: Octets) -> None:
        """Add `data` at the end."""
        self._octets += data

    def clear(self) -> None:
        """Forget everything."""
        self._octets.clear()
        self._searched = 0

    def take_line(self, maximum: int, limit: str = "line") -> bytes | None:
        """Take one line off and return it without its CRLF; None if it is not all there yet.

        Only CRLF ends a line: a bare CR or LF is part of it. Raises LimitExceeded(limit), and
        takes nothing, if the first `maximum` octets hold no CRLF. Then call `drop_line()` until
        it finds the end, or give the connection up.
        """
        octets = self._octets
        # RFC 5321 2.3.8
        end = octets.find(_CRLF, self._searched, maximum)
        if end < 0:
            self._await_line_end(maximum, limit)
            return None
        line = bytes(octets[:end])
        del octets[: end + 2]
        self._searched = 0
        return line

    def take_lines(self, count: int, maximum: int, limit: str = "line") -> list[bytes]:
        """Take up to `count` lines off, as many calls of `take_line()` would, only quicker.

        There may be more behind them: ask again until there is none. Raises as the first of those
        calls would; if only a later one would, the lines before it are returned.
        """
        octets = self._octets
        if not octets:
            return []
        if octets.find(_CRLF, self._searched, maximum) < 0:
            self._await_line_end(maximum, limit)
            return []
        # A line that ends within so many octets is not too long, whichever it is.
        front = bytes(octets[:maximum])
        lines = front.split(_CRLF, count)
        rest = lines.pop()
        del octets[: len(front) - len(rest)]
        self._searched = 0
        return lines

    def _await_line_end(self, maximum: int, limit: str) -> None:
        size = len(self._octets)
        if size >= maximum:
            raise LimitExceeded("line", limit, maximum)
        self._searched = max(0, size - 1)

    def drop_line(self) -> bool:
        """Drop everything up to the next CRLF and that too; say whether it was there.

        If not, call it again when more has come in: nothing is kept in between but a CR at the
        very end, which may be half of a CRLF.
        """
        octets = self._octets
        end = octets.find(_CRLF, self._searched)
        self._searched = 0
        if end >= 0:
            del octets[: end + 2]
            return True
        del octets[: len(octets) - octets.endswith(_CR)]
        return False

    def take(self, count: int) -> bytes:
        """Take `count` octets off and return them, or all there are if they are fewer."""
        taken = self.peek(count)
        del self._octets[:count]
        self._searched = 0
        return taken

    def peek(self, count: int) -> bytes:
        """Return the first `count` octets, or all there are, and leave them where they are."""
        with memoryview(self._octets) as octets, octets[:count] as front:
            return bytes(front)

    def find(self, pattern: bytes, start: int = 0) -> int:
        """Return the first offset from `start` on at which `pattern` begins; -1 if nowhere."""
        return self._octets.find(pattern, start)
