r"""A peer that plays a transcript, and what it does where it is told to misbehave.

Knows lines, TLS in memory, and faults. Must not know SMTP.

A transcript has one line for each that is said, and marks between them:

    S: 220 mail.example.org     the server says this
    C: EHLO *                   the client says this; * is any text, \* a star
    C: ...                      the client says any one line: the same as *
    C*: .                       the client says any lines, the last of which is this one
    <tls>                       TLS begins
    <wait 5>                    five seconds go by
    <drop>, <reset>, ...        a fault, by its value in `Fault`
    # ...                       nothing: a remark

What the peer hears may be written so in either role. No text has a CR, LF or NUL in it. At its end
the peer hangs up.

Lines of one side that follow each other are its turn, and nobody speaks out of turn: C:, C:, S:, S:
is a client that says two commands and then waits for two replies; C:, S:, C:, S: one that waits
for each.
"""

from __future__ import annotations

import errno
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, islice
from math import inf
from typing import Self, TypeAlias, assert_never

from smtp_proto.flow.errors import TLSError
from smtp_proto.flow.tls import TLSLayer
from smtp_proto.testing.clock import Clock
from smtp_proto.testing.given import A_CALLABLE, check_count, check_type
from smtp_proto.testing.link import Course, Cut, Fault, check_fault, whole
from smtp_proto.wire import Octets


class Side(Enum):
    """Who plays a part."""

    CLIENT = "C"
    SERVER = "S"


class TranscriptError(AssertionError):
    """The other side has not said what stands in the transcript."""


# --- The transcript --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is said. `number`: where it stands, from 1."""

    number: int
    text: str
    speaker: Side
    words: str
    any_before: bool

    def matches(self, line: bytes) -> bool:
        words = "*" if self.words == "..." else self.words
        parts = re.split(r"(?<!\\)\*", words)
        pattern = _TEXT.join(re.escape(part.replace("\\*", "*")) for part in parts)
        return re.fullmatch(pattern.encode(), line) is not None


@dataclass(frozen=True, slots=True)
class _StartTLS:
    number: int


@dataclass(frozen=True, slots=True)
class _Wait:
    number: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Strike:
    number: int
    fault: Fault


_Step: TypeAlias = _Line | _StartTLS | _Wait | _Strike

_CRLF = b"\r\n"
_TEXT = r"[^\r\n\0]*"  # a bare LF would hide a second line
_SAID = re.compile(r"([CS])(\*?):(?: (.*))?")
_WAIT = re.compile(r"<wait (\d+(?:\.\d+)?)>")
_FAULTS = {f"<{fault.value}>": fault for fault in Fault}
_FORMS = ", ".join(
    ("S: text", "C: text", "S*: text", "C*: text", "# remark", "<tls>", "<wait 5>", *_FAULTS)
)
_DEAF = (Fault.RESET, Fault.STALL)  # behind these nothing is heard any more


def _numbered(transcript: str) -> Iterator[tuple[int, str]]:
    """The lines, from 1: one that is empty because the quotes stand alone does not count."""
    return enumerate(map(str.strip, transcript.strip().splitlines()), 1)


def _steps(transcript: str) -> Iterator[_Step]:
    for number, text in _numbered(transcript):
        if not text or text.startswith("#"):
            continue
        if said := _SAID.fullmatch(text):
            yield _Line(number, text, Side(said[1]), said[3] or "", bool(said[2]))
        elif waiting := _WAIT.fullmatch(text):
            yield _Wait(number, float(waiting[1]))
        elif text == "<tls>":
            yield _StartTLS(number)
        elif text in _FAULTS:
            yield _Strike(number, _FAULTS[text])
        else:
            raise ValueError(
                f"line {number} of the transcript is {text!r}, and none of these: {_FORMS}"
            )


def _check_given(transcript: object, plays: object, tls: object) -> None:
    check_type("transcript", transcript, str, "text, as str")
    check_type("plays", plays, Side, "Side.CLIENT or Side.SERVER")
    check_type("tls", tls, A_CALLABLE, "a callable that makes the TLS layer")


def _first_line(octets: Octets) -> bytes:
    return bytes(octets).partition(_CRLF)[0]


def _no_tls() -> TLSLayer:
    raise ValueError("the transcript has <tls>, and nothing was given to make it")


# --- The peer --------------------------------------------------------------------------------


class ScriptedPeer:
    """Plays one side of a transcript, and is the other side's end of the stream: a `Stream`.

    `plays`: whose lines it says; it hears the other's, and raises TranscriptError where they are
    not as written. `tls`: makes its layer where TLS begins. `clock`: what its delays go by. `cut`
    and `delay`: what becomes of its octets on their way. `faults`: what strikes behind so many
    octets that it has said in clear. `heard`: all that the other side has said, in clear; also
    behind a fault, unless that is RESET or STALL.

    It is a TranscriptError, too, if the other side speaks out of turn: if it says more than stands
    before the peer's next line, or has not read what it answers.

    When the conversation is over, call `finish()`. Raises ValueError for a line that is none, and
    TypeError or ValueError for what a parameter does not take.
    """

    def __init__(
        self,
        transcript: str,
        *,
        plays: Side = Side.SERVER,
        tls: Callable[[], TLSLayer] = _no_tls,
        clock: Clock | None = None,
        cut: Cut = whole,
        delay: float = 0.0,
        faults: Iterable[tuple[int, Fault]] = (),
    ) -> None:
        _check_given(transcript, plays, tls)
        self.transcript = transcript
        self.clock = clock or Clock()
        self.faults = tuple(faults)
        self.heard = bytearray()
        self._plays = plays
        self._tls = tls
        self._layer: TLSLayer | None = None
        self._steps = deque(_steps(transcript))
        self._unread = bytearray()
        self._played = False  # to its end, by nobody's fault
        self._hung_up = False  # the other side has
        self._course = Course(self.clock)
        self._course.cut = cut
        self._course.delay = delay
        for after, fault in self.faults:
            check_count("after", after)
            self._course.strike_after(after, fault)

    def with_fault(self, *, after: int, fault: Fault) -> Self:
        """Return a peer that begins anew and has this fault, too, behind so many octets."""
        return type(self)(
            self.transcript,
            plays=self._plays,
            tls=self._tls,
            clock=self.clock,
            cut=self._course.cut,
            delay=self._course.delay,
            faults=(*self.faults, (after, fault)),
        )

    def __repr__(self) -> str:
        faults = ", ".join(f"{fault.value} after {after} octets" for after, fault in self.faults)
        return f"<{type(self).__name__}: {faults or 'no fault'}>"

    # --- The other side's end of the stream --------------------------------------------------

    @property
    def arrives(self) -> float:
        """The moment at which there is something to read; inf: nothing is on its way."""
        self._play()
        return self._course.arrives

    def write(self, data: Octets) -> None:
        """Let the peer hear `data`. Raises TranscriptError, and OSError as a fault says."""
        self._check_open()
        self._play()
        self._course.check_writable()
        if self._course.stopped not in _DEAF:
            self._hear(bytes(data))

    def read(self, maximum: int = 65_536) -> bytes | None:
        """Take what has arrived, b"" at the end; None: nothing yet. Raises OSError.

        Raises TranscriptError if nothing will come because it is the other side's turn.
        """
        self._check_open()
        if self.arrives == inf and self._course.stopped is None:
            raise self._wrong(self._steps[0], f"waits{self._half_line}")
        return self._course.take(maximum)

    def close(self) -> None:
        """Hang up."""
        self._hung_up = True

    def finish(self) -> None:
        """Make sure that all was played, and that the other side has said no more.

        Raises TranscriptError. Where a fault has ended the conversation there is nothing to see.
        """
        self._play()
        if self._steps and self._course.stopped is None:
            raise self._wrong(self._steps[0], f"has not come so far{self._half_line}")
        if self._played and self._unread:
            raise TranscriptError(f"behind the transcript {self._other} says {self._unread!r}")

    def _check_open(self) -> None:
        if self._hung_up:
            raise ConnectionAbortedError(errno.ECONNABORTED, "this end has been closed")

    # --- Playing -----------------------------------------------------------------------------

    def _play(self) -> None:
        """Go on in the transcript until the other side is to speak."""
        while self._course.stopped is None:
            if not self._steps:
                self._end()
            elif not self._take(self._steps[0]):
                break
            else:
                self._steps.popleft()

    def _take(self, step: _Step) -> bool:
        """Play one step; return whether it is done."""
        match step:
            case _Line() if step.speaker is self._plays:
                self._check_silent(step)
                self._course.put(step.words.encode() + _CRLF)
            case _Line():
                return self._expect(step)
            case _StartTLS():
                return self._shake_hands(step)
            case _Wait():
                self._course.pause(step.seconds)
            case _Strike():
                self._course.strike(step.fault)
                if step.fault in _DEAF:
                    del self.heard[len(self.heard) - len(self._unread) :]
            case _:
                assert_never(step)
        return True

    def _end(self) -> None:
        self._played = True
        if self._layer is not None:
            self._course.put_raw(self._layer.close())
        self._course.strike(Fault.DROP)

    def _hear(self, data: bytes) -> None:
        try:
            clear = data if self._layer is None else self._layer.receive_data(data)
        except TLSError:
            if self._course.stopped is None:
                self._course.strike(Fault.DROP)
            return
        self._note(clear)
        self._play()

    def _note(self, clear: bytes) -> None:
        self.heard += clear
        if self._plays is Side.SERVER and self._course.stopped is None:
            self._check_client(self._steps[0], clear)
        self._unread += clear

    def _expect(self, step: _Line) -> bool:
        """Match the line, if it is there."""
        while (end := self._unread.find(_CRLF)) >= 0:
            line = bytes(self._unread[:end])
            del self._unread[: end + len(_CRLF)]
            if step.matches(line):
                if self._ends_turn:
                    self._check_has_read(step, f"says {line!r}")
                return True
            if not step.any_before:
                raise self._wrong(step, f"says {line!r}")
        return False

    # --- Turns -------------------------------------------------------------------------------

    @property
    def _ends_turn(self) -> bool:
        """Whether the other side's present line is the last one of its turn."""
        behind = (step for step in islice(self._steps, 1, None) if isinstance(step, _Line))
        return next((step.speaker is self._plays for step in behind), True)

    def _check_silent(self, step: _Step) -> None:
        """Make sure that the other side has said nothing behind its turn."""
        if self._unread:
            hint = ""
            if (
                isinstance(step, _Line)
                and step.speaker is Side.SERVER
                and step.words.startswith("421")
            ):
                hint = " (<421> is said at any time)"  # RFC 5321 3.8
            raise self._wrong(step, f"says {_first_line(self._unread)!r} out of turn{hint}")

    def _check_client(self, step: _Step, clear: bytes) -> None:
        # A server may answer the first command before it has read the second: it is looked at when
        # its turn ends. A client has read every reply before it says a word, or begins TLS.
        if isinstance(step, _StartTLS):
            self._check_has_read(step, "begins TLS")
        elif clear:
            self._check_has_read(step, f"says {_first_line(clear)!r}")

    def _check_has_read(self, step: _Step, does: str) -> None:
        """Make sure that nothing that the peer has said is still on its way."""
        if not self._course.all_taken:
            raise self._wrong(step, f"{does} before it has read all that it was told")

    # --- TLS ---------------------------------------------------------------------------------

    def _shake_hands(self, step: _StartTLS) -> bool:
        if self._layer is None:
            self._check_silent(step)
            self._layer = self._tls()
        try:
            complete = self._layer.handshake()
        except TLSError:
            self._course.put_raw(self._layer.data_to_send())  # the alert: why
            self._course.strike(Fault.DROP)
            return False
        self._course.put_raw(self._layer.data_to_send())
        if complete:
            self._course.seal = self._layer.encrypt
            self._note(self._layer.receive_data(b""))
        return complete

    # --- What is wrong -----------------------------------------------------------------------

    @property
    def _other(self) -> str:
        return "the client" if self._plays is Side.SERVER else "the server"

    @property
    def _half_line(self) -> str:
        """What has come of a line whose end has not; "" if nothing."""
        return f" behind {bytes(self._unread)!r}, without CRLF" if self._unread else ""

    def _wrong(self, step: _Step, what: str) -> TranscriptError:
        lines = [
            f"{'>>>' if number == step.number else '   '} {line}"
            for number, line in _numbered(self.transcript)
        ]
        return TranscriptError(
            f"{self._other} {what}, in line {step.number} of the transcript, "
            "where this was to come:\n" + "\n".join(lines)
        )


def faults_everywhere(
    transcript: str,
    *,
    plays: Side = Side.SERVER,
    tls: Callable[[], TLSLayer] = _no_tls,
    clock: Clock | None = None,
    cut: Cut = whole,
    delay: float = 0.0,
    faults: Iterable[Fault] = Fault,
) -> Iterator[ScriptedPeer]:
    """Yield the peer with each of the faults, behind each octet that it says.

    Only a server says 421, and only where a line begins. All else is as for ScriptedPeer, and a
    `clock` or `cut` serves for all: `cut_at()`, which counts, cuts only the first one.

    Raises TypeError or ValueError at once, as ScriptedPeer does.
    """

    def peer(*faults: tuple[int, Fault]) -> ScriptedPeer:
        return ScriptedPeer(
            transcript, plays=plays, tls=tls, clock=clock, cut=cut, delay=delay, faults=faults
        )

    peer()  # raises what there is to raise
    chosen = tuple(faults)
    for fault in chosen:
        check_fault(fault)
    said = [
        len(step.words.encode()) + len(_CRLF)
        for step in _steps(transcript)
        if isinstance(step, _Line) and step.speaker is plays
    ]
    beginnings = list(accumulate(said, initial=0))

    def points(fault: Fault) -> Iterable[int]:
        if fault is Fault.CLOSING:
            return beginnings if plays is Side.SERVER else ()
        return range(beginnings[-1] + 1)

    return (peer((after, fault)) for fault in chosen for after in points(fault))
