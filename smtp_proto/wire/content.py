"""Message content and its octets after DATA, both directions.

Knows lines, their CRLF, the dots in front of them and the end of the mail data.
Must not know what the lines say, nor what is done with a message that breaks the rules.

    mail data = *( [ "." ] line CRLF ) "." CRLF

Only CRLF ends a line and only CRLF.CRLF ends the data, where the CRLF of the DATA command itself
counts as the first. Every octet that is no part of a CRLF is content, NUL among them.
"""

import re
from enum import Enum

from smtp_proto.wire.buffer import Octets, ReceiveBuffer
from smtp_proto.wire.errors import WireError

_CR = b"\r"
_LF = b"\n"
_CRLF = b"\r\n"
_DOT = b"."
_DOT_LINE = b".\r\n"
_END = b"\r\n.\r\n"  # RFC 5321 4.1.1.4

_FEW_LINES = 131_072  # octets; beyond, nothing but line ends would make very many objects

# RFC 5321 2.3.8
_BARE_CR = re.compile(rb"\r(?!\n)")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_BARE_NAMES = {_CR: "a bare CR", _LF: "a bare LF"}


class LineEndings(Enum):
    """What the sender does with a CR or LF that is no part of a CRLF.

    It never goes out: receivers that take it for a line end see other messages than we send.
    """

    NORMALISE = "normalise"  # a line end it shall be: CRLF goes out in its place
    REFUSE = "refuse"  # for content that must not change, as when it is signed: WireError


class BareLineEndings(Enum):
    """What the receiver does with a CR or LF that is no part of a CRLF. It never is an end."""

    REFUSE = "refuse"  # the message is malformed; the rest of it is dropped
    ACCEPT = "accept"  # content like any other octet


class ContentEncoder:
    """Content on its way out, one encoder for each message.

    Give the content to `encode()` in pieces of any size, then call `end()` once; send what both
    return. What goes out does not depend on where the content was cut.

    With `dot_stuffing` it goes out behind DATA: a dot is put in front of each line that begins
    with one, and a line with a dot alone is the end. Without, it goes into the chunks of BDAT
    as text with clean line ends. (Binary content needs no encoder there.)
    """

    __slots__ = ("_at_line_start", "_dot_stuffing", "_encoded", "_held", "_line_endings")

    def __init__(
        self, line_endings: LineEndings = LineEndings.NORMALISE, *, dot_stuffing: bool = True
    ) -> None:
        self._line_endings = line_endings
        self._dot_stuffing = dot_stuffing
        self._at_line_start = True
        self._held = b""  # a CR at the very end of a piece: the next one tells if it is bare
        self._encoded = 0  # octets of the content dealt with, without the one held

    def encode(self, data: Octets) -> bytes:
        """Return what goes out for the next piece of the content; it may be empty.

        Clean content comes back as it is, without a copy if it is `bytes`.

        Raises WireError on a bare CR or LF if these are refused: nothing has changed then, and
        the message cannot be sent.
        """
        if isinstance(data, CanonicalContent) and data and not self._held:
            self._encoded += len(data)
            return self._with_dots(data)
        text = self._held + data
        held = text[-1:] if text.endswith(_CR) else b""
        if held:
            text = text[:-1]
        clean = self._with_clean_line_ends(text)
        self._encoded += len(text)
        self._held = held
        return self._with_dots(clean) if clean else b""

    def end(self) -> bytes:
        """Return what goes out behind the last piece: a line end, if one is due, and the end.

        Raises WireError if the content ended in a bare CR and these are refused.
        """
        if self._held and self._line_endings is LineEndings.REFUSE:
            raise _refused(self._held, self._encoded)
        # A second CRLF would be an empty line that the content does not have.
        due = bool(self._held) or not self._at_line_start  # RFC 5321 4.1.1.4
        line_end = _CRLF if due else b""
        return line_end + _DOT_LINE if self._dot_stuffing else line_end

    def _with_clean_line_ends(self, text: bytes) -> bytes:
        if not _has_bare(text):
            return text
        if self._line_endings is LineEndings.REFUSE:
            bare = _first_bare(text)
            raise _refused(bare[0], self._encoded + bare.start())
        if _CR in text:
            text = text.replace(_CRLF, _LF).replace(_CR, _LF)
        return text.replace(_LF, _CRLF)

    def _with_dots(self, text: bytes) -> bytes:
        after_line_end = self._at_line_start
        self._at_line_start = text.endswith(_CRLF)
        if not self._dot_stuffing:
            return text
        stuffed = text.replace(b"\r\n.", b"\r\n..")  # RFC 5321 4.5.2
        return _DOT + stuffed if after_line_end and text.startswith(_DOT) else stuffed


class CanonicalContent(bytes):
    """A whole content in which each CR and each LF is half of a CRLF, one at the very end, too.

    Only `canonical()` makes it: what is made so need not be looked through again.
    """

    __slots__ = ()


def canonical(
    content: Octets, line_endings: LineEndings = LineEndings.NORMALISE
) -> CanonicalContent:
    """Return the whole content as it goes out, but for the dots. RFC 5321 2.3.8

    Raises WireError on a bare CR or LF if these are refused.
    """
    if line_endings is LineEndings.NORMALISE and len(content) <= _FEW_LINES:
        # The quickest way there is: octets, unlike str, are split at CR, LF and CRLF only.
        return CanonicalContent(_CRLF.join([*bytes(content).splitlines(), b""]))
    encoder = ContentEncoder(line_endings, dot_stuffing=False)
    return CanonicalContent(encoder.encode(content) + encoder.end())


class ContentDecoder:
    """Content on its way in behind DATA, one decoder for each message.

    Call `decode()` whenever something was received, until `ended`. What it returns in all does
    not depend on where the input was cut.
    """

    __slots__ = ("_begun", "_ended", "_malformed", "_policy")

    def __init__(self, policy: BareLineEndings = BareLineEndings.REFUSE) -> None:
        self._policy = policy
        self._begun = False  # the first line is known not to be the end
        self._ended = False
        self._malformed: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the end of the mail data was read; what is in the buffer now is behind it."""
        return self._ended

    @property
    def malformed(self) -> str | None:
        """The first offence if bare line ends are refused: "a bare CR" or "a bare LF".

        The message must not be accepted then. Read on to its end all the same, and answer there:
        what the client goes on to send is content, never commands.
        """
        return self._malformed

    def decode(self, buffer: ReceiveBuffer) -> bytes:
        """Take off `buffer` what is content for certain and return it, without added dots.

        At most four octets stay behind, until the next ones tell whether they are the end. Of
        a malformed message only what is in front of the offence is returned.
        """
        if not self._begun:
            self._begin(buffer)
        if self._ended or not self._begun:
            return b""
        end = buffer.find(_END)
        if end < 0:
            return self._decoded(buffer.take(len(buffer) - _possible_end(buffer)))
        # The first CRLF of the end is the line end of the last line, and content.
        content = self._decoded(buffer.take(end + len(_CRLF)))  # RFC 5321 4.1.1.4
        buffer.take(len(_DOT_LINE))
        self._ended = True
        return content

    def _begin(self, buffer: ReceiveBuffer) -> None:
        start = buffer.peek(len(_DOT_LINE))
        if start == _DOT_LINE:
            buffer.take(len(_DOT_LINE))
            self._begun = self._ended = True
        elif not _DOT_LINE.startswith(start):
            self._begun = True
            if start.startswith(_DOT):
                buffer.take(len(_DOT))

    def _decoded(self, raw: bytes) -> bytes:
        if self._malformed is not None:
            return b""
        # A block never begins or ends inside a CRLF: a CR is kept back until the next octet.
        if self._policy is BareLineEndings.REFUSE and _has_bare(raw):
            bare = _first_bare(raw)
            self._malformed = _BARE_NAMES[bare[0]]
            raw = raw[: bare.start()]
        return raw.replace(b"\r\n.", _CRLF)  # RFC 5321 4.5.2


def _has_bare(octets: bytes) -> bool:
    """Whether some CR or LF is no part of a CRLF.

    With no bare CR there are as many CRLF as CR, and any LF more than that is bare. Each step
    looks for one octet, and so runs many times as fast as a search for `_BARE`.
    """
    return _BARE_CR.search(octets) is not None or octets.count(_CR) != octets.count(_LF)


def _first_bare(octets: bytes) -> re.Match[bytes]:
    """The first CR or LF that is no part of a CRLF; there must be one."""
    return next(_BARE.finditer(octets))


def _refused(octet: bytes, offset: int) -> WireError:
    return WireError(
        "message content",
        f"{_BARE_NAMES[octet]} at octet {offset}: end each line with CRLF,"
        " or have the line ends normalised",
    )


def _possible_end(buffer: ReceiveBuffer) -> int:
    """How many of the last octets may be the first ones of the end."""
    size = len(buffer)
    for count in range(len(_END) - 1, 0, -1):
        if buffer.find(_END[:count], max(0, size - count)) >= 0:
            return count
    return 0
