"""What the tests of all codecs share: a proxy that says what it is told, cut anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

from smtp_proto.proxy import ProxyCodec, ProxyCodecError

GREETING = b"220 mail.test ESMTP\r\n"
"""A server speaks first: it may be heard in one segment with the proxy's answer."""

CUTS = st.lists(st.integers(0, 10_000), max_size=8)
CANARY = "canary-7c1"


@dataclass(frozen=True)
class Outcome:
    """What came of a conversation with a proxy."""

    sent: bytes
    established: bool
    leftover: bytes
    error: str | None = None


def talk(codec: ProxyCodec, pieces: Iterable[bytes]) -> Outcome:
    """Hold the conversation in which the proxy says `pieces`, whatever it is sent."""
    sent = codec.start()
    try:
        for piece in pieces:
            sent += codec.receive_data(piece)
    except ProxyCodecError as error:
        # What went out before depends on what came with the offence: only the offence counts.
        return Outcome(b"", codec.established, codec.leftover, f"{type(error).__name__} {error}")
    return Outcome(sent, codec.established, codec.leftover)


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """Cut `data` at `places`, taken modulo its length."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    for start, end in pairwise(edges):
        yield data[start:end]


def ways_to_cut(data: bytes) -> Iterator[list[bytes]]:
    """Whole, octet by octet, and in two at each place."""
    yield [data]
    yield [bytes([octet]) for octet in data]
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]
