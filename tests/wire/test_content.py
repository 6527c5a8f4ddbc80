"""Message content: what goes out, what comes in, and that nothing but CRLF.CRLF ends it."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.wire.buffer import Octets, ReceiveBuffer
from smtp_proto.wire.content import (
    BareLineEndings,
    ContentDecoder,
    ContentEncoder,
    LineEndings,
)
from smtp_proto.wire.content import canonical as canonical_content
from smtp_proto.wire.errors import WireError

# Few octets, so that the interesting ones meet often.
AWKWARD = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"x", b"\0", b"\r\n", b"\r\n.", b"\r\n.\r\n"]), max_size=16
).map(b"".join)
CLEAN = st.lists(st.sampled_from([b".", b"x", b"\0", b"\xff", b"\r\n"]), max_size=16).map(b"".join)
CONTENT = AWKWARD | CLEAN | st.binary(max_size=40)


@st.composite
def cut(draw: st.DrawFn, octets: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Octets, and the same octets in pieces, empty ones among them."""
    whole = draw(octets)
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    return whole, [whole[a:b] for a, b in itertools.pairwise([0, *places, len(whole)])]


def in_pieces(whole: bytes, size: int) -> list[bytes]:
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def cuttings(whole: bytes) -> Iterator[list[bytes]]:
    """Whole, in equal pieces of a few sizes down to one octet, and in two at every place."""
    yield [whole]
    for size in (1, 2, 3, 5, 7):
        yield in_pieces(whole, size)
    for place in range(len(whole) + 1):
        yield [whole[:place], whole[place:]]


# --- What the code must compute, said in another way ---------------------------------------------


def normalised(content: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", b"\r\n", content)


def canonical(content: bytes) -> bytes:
    """Content as the receiver gets it: clean line ends, one after the last line too."""
    lines = normalised(content)
    return lines if lines.endswith(b"\r\n") or not lines else lines + b"\r\n"


def first_bare(content: bytes) -> str | None:
    rest = content.replace(b"\r\n", b"  ")
    places = {rest.find(octet): name for octet, name in ((b"\r", "CR"), (b"\n", "LF"))}
    places.pop(-1, None)
    return f"a bare {places[min(places)]}" if places else None


def read_lines(stream: bytes) -> tuple[bytes, bytes] | None:
    """The raw lines up to the end of the mail data and what is behind it, line by line."""
    raw = b""
    while b"\r\n" in stream:
        line, stream = stream.split(b"\r\n", 1)
        if line == b".":
            return raw, stream
        raw += line + b"\r\n"
    return None


def without_dots(raw: bytes) -> bytes:
    return b"\r\n".join(line.removeprefix(b".") for line in raw.split(b"\r\n"))


# --- Driving the code --------------------------------------------------------------------------


def encode(pieces: Iterable[Octets], encoder: ContentEncoder) -> bytes:
    return b"".join([encoder.encode(piece) for piece in pieces]) + encoder.end()


def outcome(
    pieces: Iterable[Octets], line_endings: LineEndings, *, dot_stuffing: bool = True
) -> bytes | str:
    """What goes out, or the error's text."""
    try:
        return encode(pieces, ContentEncoder(line_endings, dot_stuffing=dot_stuffing))
    except WireError as error:
        return str(error)


def decode(
    pieces: Iterable[Octets], policy: BareLineEndings = BareLineEndings.REFUSE
) -> tuple[ContentDecoder, bytes, bytes]:
    """The decoder after all pieces, the content, and what is left behind its end."""
    decoder, buffer, content = ContentDecoder(policy), ReceiveBuffer(), b""
    for piece in pieces:
        buffer.feed(piece)
        content += decoder.decode(buffer)
        assert decoder.ended or len(buffer) <= 4
    return decoder, content, buffer.take(len(buffer))


# --- Out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dot_stuffing", [True, False])
@pytest.mark.parametrize("line_endings", LineEndings)
@given(cut(CONTENT))
def test_what_goes_out_does_not_depend_on_the_cutting(
    line_endings: LineEndings, dot_stuffing: bool, content: tuple[bytes, list[bytes]]
) -> None:
    whole, pieces = content
    assert outcome(pieces, line_endings, dot_stuffing=dot_stuffing) == outcome(
        [whole], line_endings, dot_stuffing=dot_stuffing
    )


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"..", b"...\r\n.\r\n"),
        (b".x", b"..x\r\n.\r\n"),
        (b"x", b"x\r\n.\r\n"),
        (b"x\r\n", b"x\r\n.\r\n"),
        (b"x.\r\n", b"x.\r\n.\r\n"),
        (b"\r", b"\r\n.\r\n"),
        (b"\n", b"\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (b"\n\r", b"\r\n\r\n.\r\n"),
        (b"\r\r\n", b"\r\n\r\n.\r\n"),
        (b"x\n.\ny", b"x\r\n..\r\ny\r\n.\r\n"),
        (b"x\r.\ry", b"x\r\n..\r\ny\r\n.\r\n"),
        (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
        (b"a\r\n.\r\n", b"a\r\n..\r\n.\r\n"),
        (b"a\r\n..\r\n", b"a\r\n...\r\n.\r\n"),
        (b"test\r\n\r\n.\r\nRCPT TO:<x>", b"test\r\n\r\n..\r\nRCPT TO:<x>\r\n.\r\n"),
        (b"\r\n\r\n.", b"\r\n\r\n..\r\n.\r\n"),
        (b"a\0b\r\n", b"a\0b\r\n.\r\n"),
    ],
)
def test_wire_form_in_every_cutting(content: bytes, wire: bytes) -> None:
    for pieces in cuttings(content):
        assert encode(pieces, ContentEncoder()) == wire


@given(CONTENT)
def test_lines_longer_than_any_limit_go_out_as_they_are(content: bytes) -> None:
    line = b"x" * 2000
    assert encode([line + content], ContentEncoder()).startswith(line)


@given(CONTENT)
def test_nothing_bare_ever_goes_out(content: bytes) -> None:
    wire = encode([content], ContentEncoder())
    assert first_bare(wire) is None
    assert first_bare(encode([content], ContentEncoder(dot_stuffing=False))) is None


@pytest.mark.parametrize(
    "false_end",
    [
        rb"\n\.\n",
        rb"\r\.\r",
        rb"\n\.\r\n",
        rb"\r\n\.\n",
        rb"\r?\n\.\r?\n",
        rb"\r+\n\.\r*\n",
        rb"[\r\n]\.[\r\n]",
        rb"\r*\n\r*\.\r*\n\r*",
    ],
)
@given(content=CONTENT)
def test_a_receiver_with_ends_of_its_own_sees_one_end(false_end: bytes, content: bytes) -> None:
    wire = b"DATA\r\n" + encode([content], ContentEncoder())
    ends = [match.end() for match in re.finditer(rb"\r\n\.\r\n|" + false_end, wire)]
    assert len(ends) == 1
    assert wire[ends[0] :] in (b"", b"\n")  # a CR alone may be enough for it


@given(CONTENT)
def test_without_dots_only_the_line_ends_change(content: bytes) -> None:
    assert encode([content], ContentEncoder(dot_stuffing=False)) == canonical(content)


@pytest.mark.parametrize("dot_stuffing", [True, False])
@given(cut(CONTENT))
def test_refusing_refuses_what_normalising_would_change(
    dot_stuffing: bool, content: tuple[bytes, list[bytes]]
) -> None:
    whole, pieces = content
    expected: bytes | str = outcome([whole], LineEndings.NORMALISE, dot_stuffing=dot_stuffing)
    if bare := first_bare(whole):
        offset = re.search(rb"\r(?!\n)|(?<!\r)\n", whole)
        assert offset is not None
        expected = (
            f"message content: {bare} at octet {offset.start()}: end each line with CRLF,"
            " or have the line ends normalised"
        )
    assert outcome(pieces, LineEndings.REFUSE, dot_stuffing=dot_stuffing) == expected


def test_a_refused_piece_changes_nothing() -> None:
    encoder = ContentEncoder(LineEndings.REFUSE)
    assert encoder.encode(b"a\r") == b"a"
    for _ in range(2):
        with pytest.raises(WireError, match="a bare CR at octet 1"):
            encoder.encode(b"b")
        with pytest.raises(WireError, match="a bare CR at octet 1"):
            encoder.end()
    assert encoder.encode(b"\n.b") == b"\r\n..b"
    assert encoder.end() == b"\r\n.\r\n"


@pytest.mark.parametrize("line_endings", LineEndings)
def test_clean_content_is_not_copied(line_endings: LineEndings) -> None:
    content = b"Subject: x\r\n\r\nno dot begins a line.\r\n" * 50
    assert ContentEncoder(line_endings).encode(content) is content
    assert ContentEncoder(line_endings, dot_stuffing=False).encode(content) is content


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_goes_in(kind: Callable[[bytes], Octets]) -> None:
    encoder = ContentEncoder()
    encoded = encoder.encode(kind(b"a\r\n")) + encoder.encode(kind(b".\n")) + encoder.end()
    assert type(encoded) is bytes
    assert encoded == b"a\r\n..\r\n.\r\n"


# --- In ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", BareLineEndings)
@given(CONTENT)
def test_decoding_undoes_encoding(policy: BareLineEndings, content: bytes) -> None:
    wire = encode([content], ContentEncoder())
    decoder, decoded, rest = decode([wire + b"RSET\r\n"], policy)
    assert (decoder.ended, decoder.malformed) == (True, None)
    assert decoded == canonical(content)
    assert rest == b"RSET\r\n"


@pytest.mark.parametrize("policy", BareLineEndings)
@given(cut(AWKWARD | st.binary(max_size=40)))
def test_what_comes_in_does_not_depend_on_the_cutting(
    policy: BareLineEndings, stream: tuple[bytes, list[bytes]]
) -> None:
    whole, pieces = stream
    one, one_content, one_rest = decode([whole], policy)
    many, many_content, many_rest = decode(pieces, policy)
    assert (one.ended, one.malformed) == (many.ended, many.malformed)
    assert one_content == many_content
    assert one_rest == many_rest


@given(cut(AWKWARD))
def test_accepted_content_is_every_octet_but_the_dots(stream: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = stream
    decoder, content, rest = decode(pieces, BareLineEndings.ACCEPT)
    assert decoder.malformed is None
    expected = read_lines(whole)
    assert decoder.ended == (expected is not None)
    if expected is not None:
        assert (content, rest) == (without_dots(expected[0]), expected[1])
    else:
        assert without_dots(whole).startswith(content)


@given(cut(AWKWARD))
def test_a_malformed_message_is_cut_off_at_the_offence(stream: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = stream
    decoder, content, rest = decode(pieces, BareLineEndings.REFUSE)
    expected = read_lines(whole)
    assert decoder.ended == (expected is not None)
    if expected is not None:
        raw, behind = expected
        assert decoder.malformed == first_bare(raw)
        assert rest == behind
        assert without_dots(raw).startswith(content)
        if decoder.malformed is None:
            assert content == without_dots(raw)


def test_after_an_offence_nothing_more_comes_out_until_the_end() -> None:
    decoder, buffer = ContentDecoder(), ReceiveBuffer()
    buffer.feed(b"good\r\n..\r\nbad\nline\r\n")
    assert decoder.decode(buffer) == b"good\r\n.\r\nbad"
    assert (decoder.malformed, decoder.ended) == ("a bare LF", False)
    buffer.feed(b"bare\rCR\r\ngood\r\n.\r\n.\r\n")
    assert decoder.decode(buffer) == b""
    assert (decoder.malformed, decoder.ended) == ("a bare LF", True)
    assert decoder.decode(buffer) == b""
    assert buffer.take(99) == b".\r\n"


def test_content_comes_out_as_soon_as_it_is_certain() -> None:
    steps = [
        (b".", b""),
        (b".", b"."),
        (b"a", b"a"),
        (b"\r", b""),
        (b"\n", b""),
        (b".", b""),
        (b"\r", b""),
        (b"b", b"\r\n\rb"),
    ]
    decoder, buffer = ContentDecoder(BareLineEndings.ACCEPT), ReceiveBuffer()
    for octet, content in steps:
        buffer.feed(octet)
        assert decoder.decode(buffer) == content


# --- Smuggling ---------------------------------------------------------------------------------

LINE_ENDS = (b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\r\0\n", b"\0\r\n", b"\r\n\0")
FALSE_ENDS = {
    before + b"." + after
    for before in LINE_ENDS
    for after in LINE_ENDS
    if b"\r\n.\r\n" not in before + b"." + after
} | {
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\x0b.\x0b",
    b"\x0c.\x0c",
    b"\x1c.\x1d\x1e",
    b"\x85.\x85",
    b"\xc2\x85.\xc2\x85",
    b"\xe2\x80\xa8.",
    b"\xe2\x80\xa9.\xe2\x80\xa9",
    b"\r\n .\r\n",
    b"\r\n.\t\r\n",
    b"\r\n. \r\n",
}
SECOND_MESSAGE = b"MAIL FROM:<x>\r\nRCPT TO:<y>\r\nDATA\r\nsmuggled"
BEHIND = b"RSET\r\nQUIT\r\n"


@pytest.mark.parametrize("policy", BareLineEndings)
@pytest.mark.parametrize("body", [b"", b"body"], ids=["first", "inside"])
@pytest.mark.parametrize("false_end", sorted(FALSE_ENDS), ids=repr)
def test_nothing_else_ends_the_data(false_end: bytes, body: bytes, policy: BareLineEndings) -> None:
    raw = body + false_end + SECOND_MESSAGE
    for pieces in cuttings(raw + b"\r\n.\r\n" + BEHIND):
        decoder, content, rest = decode(pieces, policy)
        assert decoder.ended
        assert rest == BEHIND
        if policy is BareLineEndings.REFUSE:
            assert decoder.malformed == first_bare(false_end)
        if decoder.malformed is None:
            assert content == without_dots(raw) + b"\r\n"


@pytest.mark.parametrize("policy", BareLineEndings)
@pytest.mark.parametrize("start", [b".\n", b".\r", b"\n.\r\n", b"\r.\r\n", b".\0\r\n", b"..\r\n"])
def test_no_false_end_at_the_very_start(start: bytes, policy: BareLineEndings) -> None:
    for pieces in cuttings(start + b"x\r\n.\r\n" + BEHIND):
        decoder, _, rest = decode(pieces, policy)
        assert (decoder.ended, rest) == (True, BEHIND)


@pytest.mark.parametrize("policy", BareLineEndings)
@pytest.mark.parametrize(
    ("stream", "content", "malformed"),
    [
        (b".\r\n", b"", None),
        (b"\r\n.\r\n", b"\r\n", None),
        (b"..\r\n.\r\n", b".\r\n", None),
        (b"x\r\n.\r\n", b"x\r\n", None),
        (b"x\r\r\n.\r\n", b"x\r\r\n", "a bare CR"),
        (b"x\n\r\n.\r\n", b"x\n\r\n", "a bare LF"),
        (b".\r\r\n.\r\n", b"\r\r\n", "a bare CR"),
    ],
)
def test_the_true_end_ends_the_data(
    stream: bytes, content: bytes, malformed: str | None, policy: BareLineEndings
) -> None:
    for pieces in cuttings(stream + b".\r\n" + BEHIND):
        decoder, decoded, rest = decode(pieces, policy)
        assert decoder.ended
        assert rest == b".\r\n" + BEHIND
        if policy is BareLineEndings.ACCEPT or malformed is None:
            assert decoded == content
        else:
            assert decoder.malformed == malformed


@pytest.mark.parametrize("false_end", sorted(FALSE_ENDS), ids=repr)
def test_what_a_sender_was_given_stays_one_message(false_end: bytes) -> None:
    given_content = b"body" + false_end + SECOND_MESSAGE
    for pieces in cuttings(given_content):
        wire = encode(pieces, ContentEncoder())
        decoder, content, rest = decode([wire])
        assert (decoder.ended, decoder.malformed, rest) == (True, None, b"")
        assert content == canonical(given_content)


# --- Canonical content ----------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([b"a", b".", b"\r", b"\n", b"\r\n", b"\xff"])), st.binary(max_size=3)
)
def test_canonical_content_goes_out_as_any_other_would(parts: list[bytes], before: bytes) -> None:
    content = canonical_content(b"".join(parts))
    encoder, reference = ContentEncoder(), ContentEncoder()
    assert encoder.encode(before) + encoder.encode(content) + encoder.end() == (
        reference.encode(before) + reference.encode(bytes(content)) + reference.end()
    )


@pytest.mark.parametrize("line_endings", LineEndings)
@pytest.mark.parametrize("times", [1, 20_000])
def test_canonical_leaves_the_dots_alone(line_endings: LineEndings, times: int) -> None:
    content = b".a\r\n.\r\n" * times
    assert canonical_content(content, line_endings) == content


def test_canonical_refuses_what_the_encoder_refuses() -> None:
    assert canonical_content(b"a\nb") == b"a\r\nb\r\n"
    with pytest.raises(WireError):
        canonical_content(b"a\nb", LineEndings.REFUSE)
