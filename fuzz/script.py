r"""How octets tell a story: what a peer says, cut into pieces, and what is done in between.

Knows the format, which is made so that a seed can be read and a mutation is a story, too:

    options LF *( RS actions LF octets )

Options and actions are letters, which each harness explains; those that it does not know mean
nothing. RS is the octet 0x1E. The octets are what the peer says in one turn.

Must not know any protocol.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Cut: TypeAlias = Callable[[bytes], Sequence[bytes]]
"""A way to cut octets into pieces."""

_RS = b"\x1e"


@dataclass(frozen=True, slots=True)
class Turn:
    """Something is done, then the peer says something."""

    actions: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Script:
    """A story: how it is set up, and its turns."""

    options: str
    turns: tuple[Turn, ...]

    @classmethod
    def read(cls, data: bytes) -> "Script":
        """Read any octets: each is a script."""
        head, *tail = data.split(_RS)
        options, octets = _first_line(head)
        # What stands behind the options is a turn without an action.
        turns = [Turn("", octets), *(Turn(*_first_line(turn)) for turn in tail)]
        return cls(options, tuple(turns))


def _first_line(octets: bytes) -> tuple[str, bytes]:
    line, _, rest = octets.partition(b"\n")
    return line.decode("latin-1"), rest


def whole(octets: bytes) -> Sequence[bytes]:
    """Cut nowhere. No piece is ever empty: that would be the end of the stream."""
    return [octets] if octets else []


def _in_pieces(size: int) -> Cut:
    def cut(octets: bytes) -> Sequence[bytes]:
        return [octets[start : start + size] for start in range(0, len(octets), size)]

    return cut


def cuts(data: bytes) -> Iterator[Cut]:
    """Yield ways to cut: between all octets, and into pieces of a size that depends on `data`."""
    yield _in_pieces(1)
    yield _in_pieces(2 + len(data) % 13)


# What is followed by something else than a line that is already on its way: a client has to wait
# for the reply. RFC 4954 4, RFC 3207 4. And where a TLS layer breaks, which is \x14, it gives what
# came before, and breaks when more is asked of it: that may be too late for a timeout.
_WAITS = re.compile(rb"AUTH|STARTTLS|\x14", re.IGNORECASE)


def patient(script: Script, cut: Cut) -> Cut:
    """Return `cut`; if somebody has to wait somewhere, one that cuts behind each line, too."""
    if not _WAITS.search(b"".join(turn.octets for turn in script.turns)):
        return cut
    return lambda octets: [
        piece for line in re.split(rb"(?<=\n)|(?=\x14)", octets) if line for piece in cut(line)
    ]


def the_same_however_cut(data: bytes, tell: Callable[[Cut], T]) -> T:
    """Return what is told of `data` whole. Raises AssertionError if a cutting changes it."""
    told = tell(whole)
    for cut in cuts(data):
        in_pieces = tell(cut)
        assert in_pieces == told, f"cut: {in_pieces!r}\nwhole: {told!r}"
    return told
