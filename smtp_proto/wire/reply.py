"""The server's replies. RFC 5321 4.2, RFC 2034, RFC 3463

Knows their grammar, and that their text comes from a stranger: no control character of it
gets past this file.
Must not know which command a reply answers.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from smtp_proto.wire.buffer import ReceiveBuffer
from smtp_proto.wire.errors import LimitExceeded, WireError, escaped, refuse_text, shown
from smtp_proto.wire.limits import Limits

# status-code = class "." subject "." detail, without leading zeros.  RFC 3463 2
_STATUS_CODE = r"([245])\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})"
_EXACT_STATUS_CODE = re.compile(_STATUS_CODE)
# In a reply "one or more spaces" follow it; servers that have no text leave them out.  RFC 2034 3
_LEADING_STATUS_CODE = re.compile(_STATUS_CODE + r"(?: +|\Z)")

# Reply-code and what may follow it.  RFC 5321 4.2
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])|\Z)")
_LINE_BREAKER = re.compile(rb"[\r\n\0]")

# All of C0 but HT, DEL and C1. What is not UTF-8 stands in a str as U+DC80 to U+DCFF, and an
# eight-bit terminal takes the octets 0x80 to 0x9F for C1, too.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\udc80-\udc9f]")


@dataclass(frozen=True, slots=True)
class EnhancedStatusCode:
    """An enhanced status code, such as 5.1.1. RFC 3463 2

    `status_class` is 2, 4 or 5; `subject` and `detail` are 0 to 999. Raises WireError otherwise.
    """

    status_class: int
    subject: int
    detail: int

    def __post_init__(self) -> None:
        numbers = 0 <= self.subject <= 999 and 0 <= self.detail <= 999
        if self.status_class not in (2, 4, 5) or not numbers:
            raise WireError("status-code", f"{self} is not class.subject.detail")

    @classmethod
    def parse(cls, text: str) -> "EnhancedStatusCode":
        """Read "5.1.1", and nothing else around it. Raises WireError."""
        match = _EXACT_STATUS_CODE.fullmatch(text)
        if match is None:
            raise WireError("status-code", f"not class.subject.detail: {shown(text)}")
        return cls(*map(int, match.groups()))

    def __str__(self) -> str:
        return f"{self.status_class}.{self.subject}.{self.detail}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, from either side.

    Act on the code, on its first digit above all, and never on the text: any text is legal,
    and a peer that you do not trust wrote it. RFC 5321 4.2, 4.3.2

    `code` is 200 to 599. `lines` has at least one line, each as on the wire behind the code and
    the blank, an enhanced status code included. Octets that are not UTF-8 stand in them as
    surrogate escapes. There is no control character in them but HT: raises WireError.
    """

    code: int
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        # RFC 5321 4.2: no code begins with another digit; the second may be one yet unheard of.
        if not 200 <= self.code <= 599:
            raise WireError("Reply-code", f"{self.code} is not 200 to 599")
        if not self.lines:
            raise WireError("Reply-line", "a reply has one line at least")
        refuse_text("lines", self.lines)
        for line in self.lines:
            _check_text(line)

    @classmethod
    def build(cls, code: int, *lines: str, status: str | None = None) -> "Reply":
        """Make the reply of a server, of one empty line if none is given.

        `status` ("2.1.0") is put in front of each line. Its class must be the first digit of
        `code`. Raises WireError, also for a line end within a line: give two lines instead.
        """
        lines = lines or ("",)
        if status is not None:
            if EnhancedStatusCode.parse(status).status_class != code // 100:
                raise WireError("status-code", f"{status} cannot stand in a reply {code}")
            # RFC 2034 4: the same in each line.
            lines = tuple(f"{status} {line}" for line in lines)
        return cls(code, lines)

    @property
    def positive(self) -> bool:
        """Done: 2xx. RFC 5321 4.2.1"""
        return self.code < 300

    @property
    def intermediate(self) -> bool:
        """Accepted so far, more is wanted: 3xx. RFC 5321 4.2.1"""
        return 300 <= self.code < 400

    @property
    def transient(self) -> bool:
        """Refused for now, the same may pass later: 4xx. RFC 5321 4.2.1"""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """Refused for good: 5xx. RFC 5321 4.2.1"""
        return self.code >= 500

    @property
    def enhanced_status(self) -> EnhancedStatusCode | None:
        """The enhanced status code that the first line begins with, if any. RFC 2034

        One whose class is not the first digit of the code does not count.
        """
        match = self._status_match(self.lines[0])
        return EnhancedStatusCode(*map(int, match.groups())) if match else None

    @property
    def text(self) -> str:
        """The lines without their enhanced status codes, joined by LF. Written by a stranger."""
        return "\n".join(self._without_status(line) for line in self.lines)

    def _status_match(self, line: str) -> re.Match[str] | None:
        match = _LEADING_STATUS_CODE.match(line)
        # RFC 2034 4: a 2xx reply has a 2.x.x code, and so on.
        return match if match and int(match[1]) == self.code // 100 else None

    def _without_status(self, line: str) -> str:
        match = self._status_match(line)
        return line[match.end() :] if match else line

    def encode(self) -> bytes:
        """Return the octets to send, CRLF included."""
        code = self.code
        head = "".join(f"{code}-{line}\r\n" for line in self.lines[:-1])
        # RFC 5321 4.2: the blank is sent though no text follows.
        return f"{head}{code} {self.lines[-1]}\r\n".encode("utf-8", "surrogateescape")

    def __str__(self) -> str:
        """The reply on one line, everything unprintable escaped: for logs and terminals."""
        return escaped(f"{self.code} {' / '.join(self.lines)}")


class ReplyReader:
    """Reads replies, however their octets are cut. RFC 5321 4.2

    It keeps the lines of a multi-line reply that has not ended yet, and holds them to `limits`.
    After it has raised, the reader and what is in the buffer are of no use any more.
    """

    __slots__ = ("_code", "_limits", "_lines", "_octets")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._code = 0
        self._lines: list[str] = []
        self._octets = 0

    @property
    def partial(self) -> bool:
        """Whether a multi-line reply has begun and not ended."""
        return bool(self._lines)

    def reset(self) -> None:
        """Forget the lines of a reply that has not ended."""
        self._lines.clear()
        self._octets = 0

    def read(self, buffer: ReceiveBuffer) -> Reply | None:
        """Take the next reply out of `buffer`; None if it is not all there yet.

        One call takes one reply: more may be waiting behind it. Raises WireError for what is no
        reply, and LimitExceeded, as soon as that is certain.
        """
        while (line := buffer.take_line(self._limits.reply_line, "reply_line")) is not None:
            reply = self.add(line)
            if reply is not None:
                return reply
        return None

    def add(self, line: bytes) -> Reply | None:
        """Take one line, without its CRLF; return the reply that it ends, if it does.

        Raises WireError for what is no line of a reply, and LimitExceeded.
        """
        if not self._lines and line[3:4] != b"-":
            return _parse_reply(line)
        return self._continue(line)

    def _continue(self, line: bytes) -> Reply | None:
        """Add one line to a multi-line reply; return the reply if that was the last one."""
        limits = self._limits
        code, more, text = _parse_line(line)
        # RFC 5321 4.2.1: the code is the same on each line.
        if self._lines and code != self._code:
            raise WireError("Reply-code", f"{code} within a reply {self._code}")
        self._octets += len(line) + 2
        if self._octets > limits.reply_octets:
            raise LimitExceeded("reply", "reply_octets", limits.reply_octets)
        if len(self._lines) == limits.reply_lines:
            raise LimitExceeded("reply", "reply_lines", limits.reply_lines)
        self._code = code
        self._lines.append(text)
        if more:
            return None
        reply = Reply(code, tuple(self._lines))
        self.reset()
        return reply


# Most replies of a session are the same few lines, again and again.
@lru_cache(maxsize=256)
def _parse_reply(line: bytes) -> Reply:
    code, _, text = _parse_line(line)
    return Reply(code, (text,))


def _parse_line(line: bytes) -> tuple[int, bool, str]:
    """Read one line without its CRLF: the code, whether more lines follow, the text."""
    match = _REPLY_LINE.match(line)
    if match is None:
        raise WireError(
            "Reply-line",
            f"not a code of 200 to 599 with a blank, a hyphen or nothing behind it: {shown(line)}",
        )
    # RFC 5321 4.2: no control character is legal here, but with these a careless reader further
    # on sees a second line, or none: no honest server sends them.
    if _LINE_BREAKER.search(line):
        raise WireError("textstring", f"CR, LF or NUL within the line: {shown(line)}")
    # RFC 5321 4.2: the code alone is a reply, too.
    text = line[4:].decode("utf-8", "surrogateescape")
    return int(match[1]), match[2] == b"-", _CONTROL.sub(_visible, text)


def _visible(control: re.Match[str]) -> str:
    return f"\\x{ord(control[0]) & 0xFF:02x}"


def _check_text(line: str) -> None:
    """Raise WireError unless `line` can be written, and read again as it is."""
    if line.isascii() and line.isprintable():
        return
    control = _CONTROL.search(line)
    if control:
        raise WireError("textstring", f"{_visible(control)} in the line {shown(line)}")
    try:
        octets = line.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise WireError("textstring", f"a lone surrogate in the line {shown(line)}") from None
    # Surrogate escapes can be put together so that they are UTF-8 after all.
    if octets.decode("utf-8", "surrogateescape") != line:
        raise WireError("textstring", f"escaped UTF-8 in the line {shown(line)}")
