"""Replies: one table drives writer and reader, whole and cut; nothing harmful gets through."""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtp_proto.wire.buffer import ReceiveBuffer
from smtp_proto.wire.errors import LimitExceeded, WireError
from smtp_proto.wire.limits import Limits
from smtp_proto.wire.reply import EnhancedStatusCode, Reply, ReplyReader

HARMFUL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\udc80-\udc9f]")

# Written and read: each is the other, turned round.
CASES = [
    (b"250 Ok\r\n", 250, ("Ok",)),
    (b"250 \r\n", 250, ("",)),
    (b"250  \r\n", 250, (" ",)),
    (b"250 -\r\n", 250, ("-",)),
    (b"250 a\tb\r\n", 250, ("a\tb",)),
    (b"550 5.1.1 No such user\r\n", 550, ("5.1.1 No such user",)),
    (b"250-a\r\n250 b\r\n", 250, ("a", "b")),
    (b"250-\r\n250-\r\n250 \r\n", 250, ("", "", "")),
    (b"250-First line\r\n250-234 Text\r\n250 Last\r\n", 250, ("First line", "234 Text", "Last")),
    # The second digit may be one that is yet unheard of.
    (b"299 ?\r\n", 299, ("?",)),
    (b"599 ?\r\n", 599, ("?",)),
    ("250 Grüße\r\n".encode(), 250, ("Grüße",)),
    (b"250 Gr\xfc\xdfe\r\n", 250, ("Gr\udcfc\udcdfe",)),
]

# Read only: what is written differs.
READ_CASES = [
    (b"250\r\n", 250, ("",)),
    (b"250-a\r\n250\r\n", 250, ("a", "")),
    (b"250 \x1b]0;pwned\x07\r\n", 250, ("\\x1b]0;pwned\\x07",)),
    (b"250 \x7f\x0b\x0c\x01\r\n", 250, ("\\x7f\\x0b\\x0c\\x01",)),
    (b"250 \xc2\x9b31m \xc2\x85\r\n", 250, ("\\x9b31m \\x85",)),
    (b"250 \x9b31m\r\n", 250, ("\\x9b31m",)),
    (b"250-a\x1b\r\n250 b\r\n", 250, ("a\\x1b", "b")),
]

BROKEN = [
    b"\r\n",
    b" \r\n",
    b"25\r\n",
    b"25 Ok\r\n",
    b"22X Ok\r\n",
    b"220Ok\r\n",
    b"2500 x\r\n",
    b"250_x\r\n",
    b"250\tx\r\n",
    b"250\n\r\n",
    b"250\0x\r\n",
    b"100 x\r\n",
    b"199 x\r\n",
    b"000 x\r\n",
    b"600 x\r\n",
    b"699 x\r\n",
    b"850 x\r\n",
    b"-250 x\r\n",
    b"+250 x\r\n",
    b" 250 x\r\n",
    b"2 0 x\r\n",
    b"\xb2\xb2\xb0 x\r\n",
    "٢٢٠ x\r\n".encode(),
    b"250 a\rb\r\n",
    b"250 a\nb\r\n",
    b"250 a\0b\r\n",
    b"250 a\r\r\n",
    b"250 a\n250 b\r\n",
    b"250-a\r\n251 b\r\n",
    b"200-a\r\n250 b\r\n",
    b"250-a\r\nsome text without a code\r\n",
    b"250-a\r\n\r\n",
    b"250-a\r\n-b\r\n",
    b"250-a\rb\r\n250 c\r\n",
    b"POST / HTTP/1.1\r\n",
]

REPLY_TEXT = (
    st.binary(max_size=40)
    .map(lambda octets: HARMFUL.sub("", octets.decode("utf-8", "surrogateescape")))
    .filter(lambda text: text == reread(text))
)
REPLIES = st.builds(
    Reply, st.integers(200, 599), st.lists(REPLY_TEXT, min_size=1, max_size=5).map(tuple)
)


def reread(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def read_all(pieces: list[bytes], limits: Limits | None = None) -> list[Reply | str]:
    """Read replies as the pieces come in; an error is the last item."""
    buffer = ReceiveBuffer()
    reader = ReplyReader(limits or Limits())
    seen: list[Reply | str] = []
    try:
        for piece in pieces:
            buffer.feed(piece)
            while (reply := reader.read(buffer)) is not None:
                seen.append(reply)
    except WireError as error:
        seen.append(f"{type(error).__name__} {error}")
    return seen


def octets(data: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in data]


# --- Reading and writing


@pytest.mark.parametrize(("data", "code", "lines"), CASES)
def test_writing(data: bytes, code: int, lines: tuple[str, ...]) -> None:
    assert Reply(code, lines).encode() == data


@pytest.mark.parametrize(("data", "code", "lines"), CASES + READ_CASES)
def test_reading(data: bytes, code: int, lines: tuple[str, ...]) -> None:
    reply = Reply(code, lines)
    assert read_all([data]) == [reply]
    assert read_all(octets(data)) == [reply]
    assert read_all([data + data + b"25"]) == [reply, reply]
    for place in range(len(data)):
        assert read_all([data[:place]]) == []
        assert read_all([data[:place], data[place:]]) == [reply]


@pytest.mark.parametrize("data", BROKEN)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    for pieces in ([data], octets(data), [data + b"250 Ok\r\n"]):
        (error,) = read_all(pieces)
        assert isinstance(error, str)
        assert error.startswith(("WireError Reply-", "WireError textstring"))
        assert error.isprintable()
    assert read_all([b"250 Ok\r\n" + data])[0] == Reply(250, ("Ok",))


@pytest.mark.parametrize("data", [b"250 Ok\n", b"250 Ok\r", b"250-Ok\r\n", b"250", b""])
def test_what_has_not_ended_is_waited_for(data: bytes) -> None:
    assert read_all([data]) == []


@given(REPLIES)
def test_round_trip(reply: Reply) -> None:
    assert read_all([reply.encode()]) == [reply]
    assert read_all(octets(reply.encode())) == [reply]


@given(st.lists(REPLIES, max_size=4), st.data())
def test_replies_do_not_depend_on_how_they_are_cut(
    replies: list[Reply], data: st.DataObject
) -> None:
    stream = b"".join(reply.encode() for reply in replies)
    place = data.draw(st.integers(0, len(stream)))
    assert read_all([stream[:place], stream[place:]]) == replies


@given(
    st.lists(
        st.sampled_from(
            [b"250", b"2", b"5", b"-", b" ", b"\r\n", b"\r", b"\n", b"\0", b"x", b"\xff", b"\x1b"]
        )
    ).map(b"".join)
)
def test_any_octets_give_replies_or_one_documented_error(data: bytes) -> None:
    limits = Limits(reply_line=20, reply_lines=2, reply_octets=30)
    seen = read_all([data], limits)
    assert read_all(octets(data), limits) == seen
    for reply in seen:
        if isinstance(reply, Reply):
            assert not any(HARMFUL.search(line) for line in reply.lines)
            assert read_all([reply.encode()]) == [reply]


@given(st.binary(max_size=200))
def test_no_text_of_a_server_is_harmful(data: bytes) -> None:
    for reply in read_all([b"250 " + data.replace(b"\r\n", b"") + b"\r\n"]):
        if isinstance(reply, Reply):
            assert not HARMFUL.search(reply.lines[0])
            assert str(reply).isprintable()


def test_the_same_line_gives_the_same_object() -> None:
    first, second = read_all([b"250 2.1.5 Same\r\n" * 2])
    assert first is second


# --- Limits


def test_a_line_of_the_greatest_length_is_read() -> None:
    limits = Limits(reply_line=10)
    assert read_all([b"250 abcd\r\n"], limits) == [Reply(250, ("abcd",))]


@pytest.mark.parametrize("data", [b"250 abcde\r\n", b"250 abcdef", b"334 " + b"A" * 1_000_000])
def test_a_longer_line_is_refused_before_it_ends(data: bytes) -> None:
    for pieces in ([data], octets(data[:20])):
        (error,) = read_all(pieces, Limits(reply_line=10))
        assert "reply_line" in str(error)


def test_an_endless_reply_is_refused_by_its_lines() -> None:
    limits = Limits(reply_lines=3)
    assert read_all([b"250-x\r\n" * 2 + b"250 x\r\n"], limits) == [Reply(250, ("x",) * 3)]
    assert read_all([b"250-x\r\n" * 3], limits) == []
    for last in (b"250-x\r\n", b"250 x\r\n"):
        (error,) = read_all([b"250-x\r\n" * 3 + last], limits)
        assert "reply_lines" in str(error)


def test_an_endless_reply_is_refused_by_its_octets() -> None:
    limits = Limits(reply_octets=21)
    assert read_all([b"250-x\r\n" * 2 + b"250 x\r\n"], limits) == [Reply(250, ("x",) * 3)]
    (error,) = read_all([b"250-x\r\n" * 2 + b"250 xy\r\n"], limits)
    assert "reply_octets" in str(error)


def test_each_reply_is_counted_anew() -> None:
    stream = b"250-x\r\n250 x\r\n" * 10 + b"250-x\r\n250 xy\r\n"
    *replies, error = read_all([stream], Limits(reply_octets=14, reply_lines=2))
    assert replies == [Reply(250, ("x", "x"))] * 10
    assert "reply_octets" in str(error)


def test_a_limit_error_tells_which_limit() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"250-x\r\n" * 2)
    with pytest.raises(LimitExceeded) as caught:
        ReplyReader(Limits(reply_lines=1)).read(buffer)
    assert (caught.value.limit, caught.value.maximum) == ("reply_lines", 1)


# --- The reader's state


def test_partial_tells_that_a_reply_has_begun() -> None:
    buffer = ReceiveBuffer()
    reader = ReplyReader(Limits())
    partial: list[bool] = []
    for line in (b"250 x\r\n", b"250-a\r\n", b"250-", b"b\r\n", b"250 c\r\n"):
        buffer.feed(line)
        reader.read(buffer)
        partial.append(reader.partial)
    assert partial == [False, True, True, True, False]


def test_reset_forgets_the_lines_and_their_octets() -> None:
    buffer = ReceiveBuffer()
    reader = ReplyReader(Limits(reply_octets=14))
    buffer.feed(b"250-a\r\n")
    assert reader.read(buffer) is None
    reader.reset()
    assert not reader.partial
    buffer.feed(b"220-b\r\n220 c\r\n")
    assert reader.read(buffer) == Reply(220, ("b", "c"))


# --- The value


@pytest.mark.parametrize("code", [-250, 0, 25, 100, 199, 600, 2500])
def test_a_code_out_of_range_is_refused(code: int) -> None:
    with pytest.raises(WireError, match="Reply-code"):
        Reply(code, ("",))


def test_one_text_is_no_tuple_of_lines() -> None:
    make: Callable[..., Reply] = Reply
    with pytest.raises(TypeError, match="lines: a tuple, not one str"):
        make(220, "hello")


def test_a_reply_without_a_line_is_refused() -> None:
    with pytest.raises(WireError, match="Reply-line"):
        Reply(250, ())


@pytest.mark.parametrize(
    "text",
    [
        *map(chr, (*range(0x09), *range(0x0A, 0x20), *range(0x7F, 0xA0))),
        *map(chr, (0xD800, 0xDC00, 0xDC80, 0xDC9B, 0xDC9F, 0xDD00, 0xDFFF)),
        "\udcc3\udca9",
        "a\r\n250 b",
    ],
)
def test_text_that_cannot_be_written_or_read_again_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="textstring") as caught:
        Reply(250, ("fine", f"a{text}b"))
    assert str(caught.value).isprintable()


def test_build_makes_an_empty_line_of_nothing() -> None:
    assert Reply.build(250) == Reply(250, ("",))
    assert Reply.build(250, status="2.0.0") == Reply(250, ("2.0.0 ",))


def test_build_puts_the_status_in_front_of_each_line() -> None:
    reply = Reply.build(550, "No", "Really not", status="5.7.1")
    assert reply == Reply(550, ("5.7.1 No", "5.7.1 Really not"))
    assert Reply.build(550, "No") == Reply(550, ("No",))


@pytest.mark.parametrize(
    ("code", "status"), [(250, "5.1.1"), (550, "4.1.1"), (354, "3.0.0"), (250, "2.1"), (250, "")]
)
def test_build_refuses_a_status_that_does_not_fit(code: int, status: str) -> None:
    with pytest.raises(WireError, match="status-code"):
        Reply.build(code, "x", status=status)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (200, "positive"),
        (299, "positive"),
        (300, "intermediate"),
        (399, "intermediate"),
        (400, "transient"),
        (499, "transient"),
        (500, "permanent"),
        (599, "permanent"),
    ],
)
def test_the_first_digit_decides(code: int, kind: str) -> None:
    reply = Reply(code, ("",))
    kinds = ("positive", "intermediate", "transient", "permanent")
    assert [name for name in kinds if getattr(reply, name)] == [kind]


def test_str_is_one_printable_line() -> None:
    assert str(Reply.build(250, "Ok", status="2.1.0")) == "250 2.1.0 Ok"
    assert str(Reply(250, ("a", "b\tc", "\u202e", "\udcff"))) == "250 a / b\\tc / \\u202e / \\udcff"


# --- Enhanced status codes


@pytest.mark.parametrize(
    ("code", "line", "status", "text"),
    [
        (250, "2.1.5 Ok", EnhancedStatusCode(2, 1, 5), "Ok"),
        (250, "2.1.5", EnhancedStatusCode(2, 1, 5), ""),
        (250, "2.1.5 ", EnhancedStatusCode(2, 1, 5), ""),
        (250, "2.1.5   Ok ", EnhancedStatusCode(2, 1, 5), "Ok "),
        (450, "4.999.0 x", EnhancedStatusCode(4, 999, 0), "x"),
        (550, "5.7.26 x", EnhancedStatusCode(5, 7, 26), "x"),
        (250, "5.1.1 x", None, "5.1.1 x"),
        (354, "3.0.0 x", None, "3.0.0 x"),
        (250, "2.1 x", None, "2.1 x"),
        (250, "2.01.1 x", None, "2.01.1 x"),
        (250, "2.1.1000 x", None, "2.1.1000 x"),
        (250, "2.1.5x", None, "2.1.5x"),
        (250, "2.1.5.7 x", None, "2.1.5.7 x"),
        (250, " 2.1.5 x", None, " 2.1.5 x"),
        (250, "Ok 2.1.5 x", None, "Ok 2.1.5 x"),
        (250, "2.1.٥ x", None, "2.1.٥ x"),
        (250, "", None, ""),
    ],
)
def test_the_status_is_found_and_taken_off(
    code: int, line: str, status: EnhancedStatusCode | None, text: str
) -> None:
    reply = Reply(code, (line,))
    assert reply.enhanced_status == status
    assert reply.text == text


def test_text_takes_the_status_off_each_line() -> None:
    assert Reply(550, ("5.7.1 No", "5.7.1 really", "not")).text == "No\nreally\nnot"
    assert Reply(250, ("mx.example.org", "SIZE 1000")).text == "mx.example.org\nSIZE 1000"


@example(5, 999, 999)
@example(2, 0, 0)
@given(st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999))
def test_a_status_code_is_read_as_it_is_written(class_: int, subject: int, detail: int) -> None:
    status = EnhancedStatusCode(class_, subject, detail)
    assert str(status) == f"{class_}.{subject}.{detail}"
    assert EnhancedStatusCode.parse(str(status)) == status
    assert Reply.build(class_ * 100, "x", status=str(status)).enhanced_status == status


@pytest.mark.parametrize(
    "numbers", [(3, 0, 0), (1, 0, 0), (2, -1, 0), (2, 0, -1), (2, 1000, 0), (2, 0, 1000)]
)
def test_a_status_code_out_of_range_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(WireError, match="status-code"):
        EnhancedStatusCode(*numbers)


@pytest.mark.parametrize("text", ["", "2", "2.1", "2.1.5 ", " 2.1.5", "2.1.5\n", "2.1.05", "2.1.x"])
def test_a_text_that_is_no_status_code_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="status-code"):
        EnhancedStatusCode.parse(text)


@pytest.mark.parametrize("code", [200, 299, 400, 499, 500, 599])
def test_the_class_of_a_status_is_the_first_digit_of_the_code(code: int) -> None:
    first = code // 100
    assert Reply(code, (f"{first}.1.2 x",)).enhanced_status == EnhancedStatusCode(first, 1, 2)
    other = 2 if first == 5 else 5
    assert Reply(code, (f"{other}.1.2 x",)).enhanced_status is None
