"""Streams in memory: what is cut, what is late, and what breaks."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.testing import (
    DRIP_SECONDS,
    Clock,
    Cut,
    Fault,
    Link,
    cut_at,
    in_pieces,
    octet_by_octet,
    whole,
)
from smtp_proto.testing.strategies import cuts, splits
from tests.testing.transcripts import CONTENT, Inbox, deliver, serving

OCTETS = b"0123456789"


def all_of(link: Link) -> list[bytes]:
    """What the client reads until nothing is there, or the end."""
    pieces: list[bytes] = []
    while octets := link.client.read():
        pieces.append(octets)
    return pieces


# --- What is no such thing -------------------------------------------------------------------


def test_what_a_direction_does_not_take_is_told() -> None:
    course: Any = Link(Clock()).to_client
    with pytest.raises(TypeError, match="^cut is a callable, "):
        course.cut = 3
    with pytest.raises(ValueError, match="^delay is a number from 0 up, not -1$"):
        course.delay = -1
    with pytest.raises(TypeError, match="^fault is a Fault, "):
        course.strike("drop")
    with pytest.raises(TypeError, match="^fault is a Fault, "):
        course.strike_after(1, "drop")
    with pytest.raises(ValueError, match="^octets is a number from 0 up, not -1$"):
        course.strike_after(-1, Fault.DROP)
    with pytest.raises(ValueError, match="^seconds is a number from 0 up, not nan$"):
        course.pause(nan)


# --- Cuts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "pieces"),
    [
        (whole, [OCTETS]),
        (octet_by_octet, [bytes([octet]) for octet in OCTETS]),
        (in_pieces(4), [b"0123", b"4567", b"89"]),
        (cut_at(8, 3), [b"012", b"34567", b"89"]),
        (cut_at(0, 10, 99), [OCTETS]),
    ],
)
def test_octets_are_read_as_they_are_cut(cut: Cut, pieces: list[bytes]) -> None:
    link = Link(Clock())
    link.to_client.cut = cut
    link.server.write(OCTETS)
    assert all_of(link) == pieces


def test_places_are_counted_from_the_beginning_of_the_stream() -> None:
    link = Link(Clock())
    link.to_client.cut = cut_at(2, 5)
    link.server.write(b"012")
    link.server.write(b"3456")
    assert all_of(link) == [b"01", b"2", b"34", b"56"]


def test_a_read_takes_no_more_than_it_may() -> None:
    link = Link(Clock())
    link.server.write(OCTETS)
    assert link.client.read(4) == b"0123"
    assert link.client.read(4) == b"4567"
    assert link.client.read() == b"89"
    assert link.client.read() is None


@given(cut=cuts(), octets=st.lists(st.binary(max_size=50), max_size=5))
def test_no_cut_loses_octets(cut: Cut, octets: list[bytes]) -> None:
    link = Link(Clock())
    link.to_client.cut = cut
    for each in octets:
        link.server.write(each)
    pieces = all_of(link)
    assert b"".join(pieces) == b"".join(octets)


@given(st.binary(max_size=50).flatmap(lambda octets: st.tuples(st.just(octets), splits(octets))))
def test_splits_are_whole_and_none_is_empty(drawn: tuple[bytes, list[bytes]]) -> None:
    octets, pieces = drawn
    assert b"".join(pieces) == octets
    assert all(pieces)


@given(cuts(), cuts())
def test_a_delivery_does_not_depend_on_cuts(one: Cut, other: Cut) -> None:
    inbox = Inbox()
    stream = serving(inbox, Clock())
    stream.link.to_client.cut = one
    stream.link.to_server.cut = other
    deliver(stream)
    assert stream.over
    assert inbox.contents == [CONTENT]


# --- Delays ----------------------------------------------------------------------------------


def test_each_piece_comes_so_much_later() -> None:
    clock = Clock(100.0)
    link = Link(clock)
    link.to_client.delay = 2.0
    link.to_client.cut = in_pieces(5)
    assert link.client.arrives == inf
    link.server.write(OCTETS)
    assert link.client.arrives == 102.0
    assert link.client.read() is None
    clock.reach(103.0)
    assert link.client.read() == b"01234"
    assert link.client.arrives == 104.0
    clock.reach(110.0)
    link.server.close_write()
    assert link.client.read() == b"56789"
    assert link.client.read() == b""


def test_a_delivery_takes_the_time_of_its_octets() -> None:
    clock = Clock()
    stream = serving(Inbox(), clock)
    stream.link.to_client.delay = 10.0
    stream.link.to_server.delay = 1.0
    deliver(stream)
    # The greeting, and three replies to as many flights.
    assert clock.now > 40.0


# --- Ends ------------------------------------------------------------------------------------


def test_half_close() -> None:
    link = Link(Clock())
    link.client.write(b"last")
    link.client.close_write()
    with pytest.raises(BrokenPipeError):
        link.client.write(b"more")
    assert link.server.read() == b"last"
    assert link.server.arrives == 0.0
    assert link.server.read() == b""
    assert link.server.read() == b""
    link.server.write(b"answer")
    assert link.client.read() == b"answer"


def test_close() -> None:
    link = Link(Clock())
    link.client.write(b"last")
    link.client.close()
    link.client.close()
    with pytest.raises(ConnectionAbortedError):
        link.client.read()
    with pytest.raises(ConnectionAbortedError):
        link.client.write(b"more")
    assert link.server.read() == b"last"
    assert link.server.read() == b""
    with pytest.raises(BrokenPipeError):
        link.server.write(b"answer")


# --- Faults ----------------------------------------------------------------------------------


def struck(fault: Fault, after: int = 4) -> Link:
    link = Link(Clock())
    link.to_client.strike_after(after, fault)
    return link


def test_drop() -> None:
    link = struck(Fault.DROP)
    link.server.write(OCTETS)
    assert all_of(link) == [b"0123"]
    assert link.client.read() == b""
    link.client.write(b"heard")
    assert link.server.read() == b"heard"
    link.server.close()  # in order, however it was dropped before


def test_reset_breaks_both_directions() -> None:
    link = struck(Fault.RESET)
    link.server.write(b"012")
    with pytest.raises(ConnectionResetError):
        link.server.write(b"3456")
    assert link.server.arrives == 0.0
    with pytest.raises(ConnectionResetError):
        link.server.read()
    with pytest.raises(ConnectionResetError):
        link.client.write(b"?")
    assert link.client.read() == b"012"
    assert link.client.read() == b"3"
    with pytest.raises(ConnectionResetError):
        link.client.read()


def test_a_reset_takes_its_time() -> None:
    link = struck(Fault.RESET)
    link.to_client.delay = 5.0
    link.server.write(OCTETS)
    link.client.write(b"still there")
    assert link.client.read() is None
    link.to_client.clock.advance(5.0)
    assert link.client.read() == b"0123"
    with pytest.raises(ConnectionResetError):
        link.client.read()


def test_silence() -> None:
    link = struck(Fault.SILENCE)
    link.server.write(OCTETS)
    assert all_of(link) == [b"0123"]
    assert link.client.arrives == inf
    link.client.write(b"heard")
    assert link.server.read() == b"heard"


def test_stall() -> None:
    link = struck(Fault.STALL)
    with pytest.raises(BlockingIOError):
        link.server.write(OCTETS)
    assert all_of(link) == [b"0123"]
    with pytest.raises(BlockingIOError):
        link.client.write(b"?")
    link.server.close()
    assert link.client.arrives == inf


def test_split() -> None:
    link = struck(Fault.SPLIT, after=7)
    link.server.write(OCTETS)
    assert all_of(link) == [b"0123456", b"7", b"8", b"9"]


def test_drip() -> None:
    link = struck(Fault.DRIP, after=8)
    link.server.write(OCTETS)
    assert all_of(link) == [b"01234567"]
    assert link.client.arrives == DRIP_SECONDS
    link.clock.reach(2 * DRIP_SECONDS)
    assert all_of(link) == [b"8", b"9"]


@pytest.mark.parametrize(
    ("fault", "octets"),
    [(Fault.CLOSING, b"421 4.3.2 Closing\r\n"), (Fault.GARBAGE, b"\x00\xff\xfe?\r\n")],
)
def test_other_octets_in_place_of_the_rest(fault: Fault, octets: bytes) -> None:
    link = struck(fault)
    link.server.write(OCTETS)
    assert all_of(link) == [b"0123", octets]
    assert link.client.read() == b""


def test_faults_strike_in_order_of_their_places() -> None:
    link = struck(Fault.DROP, after=6)
    link.to_client.strike_after(0, Fault.SPLIT)
    link.server.write(OCTETS)
    assert all_of(link) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    with pytest.raises(ValueError, match="10 octets have been written already, not 3"):
        link.to_client.strike_after(3, Fault.DROP)


def test_what_is_not_sealed_does_not_count() -> None:
    link = struck(Fault.DROP)
    link.to_client.seal = bytes.upper
    link.to_client.put_raw(b"raw")
    link.server.write(b"abcdef")
    assert all_of(link) == [b"raw", b"ABCD"]


def test_all_is_taken_when_the_last_octet_that_was_put_in_is() -> None:
    course = Link(Clock()).to_client
    course.put_raw(b"raw")
    taken = [course.all_taken]
    course.put(b"0123")
    course.put_raw(b"raw")
    for _ in range(4):
        taken.append(course.all_taken)
        course.take(3)
    course.strike(Fault.SILENCE)
    course.put(b"is lost")
    assert [*taken, course.all_taken] == [True, False, False, False, True, True]


def test_a_pause() -> None:
    link = Link(Clock())
    link.to_client.pause(3.0)
    link.server.write(OCTETS)
    assert link.client.arrives == 3.0
