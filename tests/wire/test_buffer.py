"""The receive buffer: lines and octets come out as they went in, however they were cut."""

import re
from collections.abc import Callable, Iterator
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.wire.buffer import Octets, ReceiveBuffer
from smtp_proto.wire.errors import LimitExceeded

# Little else than what lines are made of, so that every combination comes up.
STREAM = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"bc", b"\0"])).map(b"".join)


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """Cut `data` at `places`, taken modulo its length."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    for start, end in pairwise(edges):
        yield data[start:end]


def take_lines(buffer: ReceiveBuffer, maximum: int = 4096) -> Iterator[bytes]:
    while (line := buffer.take_line(maximum)) is not None:
        yield line


def filled(data: bytes) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    buffer.feed(data)
    return buffer


@pytest.mark.parametrize("data", [b"ab\r\n", bytearray(b"ab\r\n"), memoryview(b"ab\r\n")])
def test_any_buffer_can_be_fed(data: Octets) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(data)
    assert len(buffer) == 4
    assert buffer.take_line(4) == b"ab"
    assert len(buffer) == 0


@given(STREAM, st.lists(st.integers(0, 10_000)))
def test_lines_do_not_depend_on_how_the_input_is_cut(data: bytes, places: list[int]) -> None:
    *lines, rest = re.split(b"\r\n", data)
    buffer = ReceiveBuffer()
    taken: list[bytes] = []
    for piece in cut(data, places):
        buffer.feed(piece)
        taken += take_lines(buffer)
    assert taken == lines
    assert buffer.take(len(data)) == rest


@given(STREAM, st.lists(st.integers(0, 10_000), max_size=4), st.integers(1, 4), st.integers(1, 6))
def test_many_lines_are_what_they_are_one_by_one(
    data: bytes, places: list[int], count: int, maximum: int
) -> None:
    def take(buffer: ReceiveBuffer, take: Callable[[], list[bytes]]) -> list[bytes | str]:
        taken: list[bytes | str] = []
        try:
            while lines := take():
                assert len(lines) <= count
                taken += lines
        except LimitExceeded as error:
            taken.append(str(error))
        return [*taken, buffer.peek(len(buffer))]

    one_by_one, many = ReceiveBuffer(), ReceiveBuffer()
    for piece in cut(data, places):
        one_by_one.feed(piece)
        many.feed(piece)
        assert take(many, lambda: many.take_lines(count, maximum)) == take(
            one_by_one, lambda: [*islice(take_lines(one_by_one, maximum), 1)]
        )


@given(STREAM, st.integers(1, 6))
def test_a_limit_is_hit_at_the_same_line_however_the_input_is_cut(data: bytes, most: int) -> None:
    def read(pieces: Iterator[bytes]) -> list[bytes | str]:
        buffer = ReceiveBuffer()
        seen: list[bytes | str] = []
        try:
            for piece in pieces:
                buffer.feed(piece)
                seen.extend(take_lines(buffer, most))
        except LimitExceeded as error:
            seen.append(str(error))
        return seen

    assert read(iter([data])) == read(cut(data, list(range(len(data)))))


def test_the_limit_counts_the_line_end() -> None:
    assert filled(b"abc\r\n").take_line(5) == b"abc"
    with pytest.raises(LimitExceeded) as caught:
        filled(b"abcd\r\n").take_line(5, "command_line")
    assert (caught.value.what, caught.value.limit, caught.value.maximum) == (
        "line",
        "command_line",
        5,
    )


@pytest.mark.parametrize("data", [b"abcde", b"abcd\r", b"abcd\r\n", b"abcdefghij"])
def test_the_limit_is_hit_before_the_line_ends(data: bytes) -> None:
    with pytest.raises(LimitExceeded):
        filled(data).take_line(5)


@pytest.mark.parametrize("data", [b"", b"abc\r", b"abcd"])
def test_a_line_that_may_still_fit_is_waited_for(data: bytes) -> None:
    assert filled(data).take_line(5) is None


def test_nothing_is_taken_when_the_limit_is_hit() -> None:
    buffer = filled(b"abcdef\r\nQUIT\r\n")
    with pytest.raises(LimitExceeded):
        buffer.take_line(5)
    assert buffer.drop_line()
    assert buffer.take_line(6) == b"QUIT"


def test_a_higher_limit_can_be_tried_after_a_lower_one() -> None:
    buffer = filled(b"abc\r\n")
    with pytest.raises(LimitExceeded):
        buffer.take_line(3)
    assert buffer.take_line(5) == b"abc"


@given(STREAM, STREAM)
def test_a_dropped_line_takes_no_room_and_no_octet_of_the_next(first: bytes, rest: bytes) -> None:
    line = first.replace(b"\r\n", b"") + b"\r\n"
    end = line.index(b"\r\n")
    buffer = ReceiveBuffer()
    for octet in line[: end + 1]:
        buffer.feed(bytes([octet]))
        assert buffer.drop_line() is False
        assert len(buffer) <= 1
    buffer.feed(b"\n" + line[end + 2 :] + rest)
    assert buffer.drop_line() is True
    assert buffer.take(10_000) == line[end + 2 :] + rest


def test_dropping_goes_on_where_taking_a_line_gave_up() -> None:
    buffer = filled(b"abc\r")
    assert buffer.take_line(10) is None
    assert not buffer.drop_line()
    buffer.feed(b"\nx\r\n")
    assert buffer.drop_line()
    assert buffer.take_line(10) == b"x"


@given(STREAM, st.integers(0, 20))
def test_take_gives_the_front_and_keeps_the_rest(data: bytes, count: int) -> None:
    buffer = filled(data)
    assert buffer.peek(count) == data[:count]
    assert len(buffer) == len(data)
    assert buffer.take(count) == data[:count]
    assert buffer.take(len(data)) == data[count:]


def test_lines_are_found_again_after_octets_were_taken() -> None:
    buffer = filled(b"abcdef")
    assert buffer.take_line(100) is None
    assert buffer.take(5) == b"abcde"
    buffer.feed(b"\r\ng\r\n")
    assert list(take_lines(buffer)) == [b"f", b"g"]


def test_find_looks_from_an_offset_on() -> None:
    buffer = filled(b"ab\r\n.\r\n")
    assert buffer.find(b"\r\n") == 2
    assert buffer.find(b"\r\n", 3) == 5
    assert buffer.find(b"x") == -1


def test_clear_forgets_octets_and_offset() -> None:
    buffer = filled(b"abc")
    assert buffer.take_line(100) is None
    buffer.clear()
    assert len(buffer) == 0
    buffer.feed(b"\r\n")
    assert buffer.take_line(100) == b""


def test_an_empty_line_right_behind_others_is_found() -> None:
    buffer = filled(b"a\r\nb\r\n")
    assert buffer.take_lines(9, 100) == [b"a", b"b"]
    assert buffer.take_lines(9, 100) == []
    buffer.feed(b"\r\n")
    assert buffer.take_lines(9, 100) == [b""]
