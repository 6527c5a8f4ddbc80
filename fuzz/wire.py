"""Harnesses for the values of `smtp_proto.wire`, their readers and their writers.

Knows the rules that every one of them keeps. Must not know any session.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

from fuzz.script import Cut, the_same_however_cut
from smtp_proto.wire import (
    AuthResponse,
    BareLineEndings,
    Capabilities,
    Command,
    CommandError,
    ContentDecoder,
    ContentEncoder,
    EnhancedStatusCode,
    LimitExceeded,
    Limits,
    LineEndings,
    Mailbox,
    MailParameters,
    OriginalRecipient,
    Parameter,
    RcptParameters,
    ReceiveBuffer,
    Reply,
    ReplyReader,
    WireError,
    decode_xtext,
    encode_xtext,
    parse_command,
    parse_forward_path,
    parse_reverse_path,
    split_path,
    validate_domain,
)

T = TypeVar("T")

# So low that short inputs get beyond each of them.
LIMITS = Limits(
    reply_line=64,
    reply_lines=4,
    reply_octets=128,
    pipelined_commands=3,
    pipelined_octets=64,
    command_line=64,
    auth_line=64,
    message_size=48,
    recipients=2,
    errors=3,
    auth_rounds=2,
)
_WIDE = Limits()

_CRLF = b"\r\n"
_END = b"\r\n.\r\n"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_MOST_HELD_BACK = len(_END) - 1


def assert_says_why(error: Exception, reply: Reply | None = None) -> None:
    """One line that any terminal can take, and a reply that refuses if there is one."""
    assert str(error).isprintable()
    assert reply is None or reply.permanent


# --- Replies ---------------------------------------------------------------------------------


def replies(data: bytes, reader: Callable[[Limits], ReplyReader] = ReplyReader) -> None:
    """The octets are what a server says."""

    def tell(cut: Cut) -> list[Reply | str]:
        return _read_replies(reader(LIMITS), cut(data), LIMITS)

    for heard in the_same_however_cut(data, tell):
        if isinstance(heard, Reply):
            assert _read_replies(reader(_WIDE), [heard.encode()], _WIDE) == [heard]
            _look_at_reply(heard)


def _read_replies(
    reader: ReplyReader, pieces: Iterable[bytes], limits: Limits
) -> list[Reply | str]:
    buffer = ReceiveBuffer()
    heard: list[Reply | str] = []
    for piece in pieces:
        buffer.feed(piece)
        try:
            while (reply := reader.read(buffer)) is not None:
                heard.append(reply)
        except WireError as error:
            return [*heard, str(error)]
        assert len(buffer) < limits.reply_line
    return heard


def _look_at_reply(reply: Reply) -> None:
    assert str(reply).isprintable()
    assert reply.enhanced_status is None or reply.enhanced_status.status_class == reply.code // 100
    assert len(reply.text) <= sum(map(len, reply.lines)) + len(reply.lines)
    offered = Capabilities.from_reply(reply)
    assert Capabilities.from_reply(Reply(250, offered.lines())) == offered
    assert offered.size is None or offered.size >= 0
    assert len(set(offered.auth)) == len(offered.auth)
    assert all(limit > 0 for limit in offered.limits.values())
    assert Capabilities.from_helo(reply).domain == offered.domain


# --- Commands --------------------------------------------------------------------------------


def commands(data: bytes, parse: Callable[[bytes], Command] = parse_command) -> None:
    """The octets are what a client says, a command on each line."""

    def tell(cut: Cut) -> list[bytes | None]:
        return _read_lines(cut(data))

    for line in the_same_however_cut(data, tell):
        if line is not None:
            _check_command(line, parse)
            _check_command(line, AuthResponse.parse)


def _read_lines(pieces: Iterable[bytes]) -> list[bytes | None]:
    """Return the lines, None for one that is too long."""
    buffer = ReceiveBuffer()
    lines: list[bytes | None] = []
    too_long = False
    for piece in pieces:
        buffer.feed(piece)
        while True:
            try:
                if too_long and not buffer.drop_line():
                    break
                too_long = False
                line = buffer.take_line(LIMITS.command_line)
            except LimitExceeded:
                too_long = True
                lines.append(None)
            else:
                if line is None:
                    break
                lines.append(line)
        assert len(buffer) < LIMITS.command_line
    return lines


def _check_command(line: bytes, parse: Callable[[bytes], Command | AuthResponse]) -> None:
    try:
        command = parse(line)
    except CommandError as error:
        assert_says_why(error, error.reply)
    else:
        assert_one_line(command.encode())
        assert parse(command.encode().removesuffix(_CRLF)) == command


def assert_one_line(octets: bytes) -> None:
    """One CRLF at the end, and no other CR, LF or NUL."""
    assert octets.endswith(_CRLF)
    assert not re.search(rb"[\r\n\0]", octets.removesuffix(_CRLF))


# --- Values ----------------------------------------------------------------------------------

Reread: TypeAlias = Callable[[str], tuple[object, object]]


def _reread(parse: Callable[[str], T], write: Callable[[T], str] = str) -> Reread:
    def reread(text: str) -> tuple[T, T]:
        value = parse(text)
        return value, parse(write(value))

    return reread


def _path(text: str) -> tuple[object, object]:
    path, rest = split_path(text)
    # The source route is gone for good, so that it cannot be written.
    return text.endswith(f"{path}>{rest}"), True


READERS: Mapping[str, Reread] = {
    "Mailbox": _reread(Mailbox.parse),
    "Mailbox in ASCII": _reread(lambda text: Mailbox.parse(text).to_ascii()),
    "reverse-path": _reread(parse_reverse_path),
    "forward-path": _reread(parse_forward_path),
    "Path": _path,
    "Domain": _reread(validate_domain),
    "lenient Domain": _reread(lambda text: validate_domain(text, lenient=True)),
    "esmtp-param": _reread(Parameter.parse),
    "Mail-parameters": _reread(MailParameters.parse, MailParameters.encode),
    "Rcpt-parameters": _reread(RcptParameters.parse, RcptParameters.encode),
    "ORCPT": _reread(OriginalRecipient.parse, OriginalRecipient.encode),
    "xtext": _reread(decode_xtext, encode_xtext),
    "status-code": _reread(EnhancedStatusCode.parse),
}
"""Each reads a text, and then what is written for its value; both values are returned."""


def values(data: bytes, readers: Mapping[str, Reread] = READERS) -> None:
    """The octets are a text, given to each reader."""
    text = data.decode("utf-8", "surrogateescape")
    for name, reread in readers.items():
        try:
            value, again = reread(text)
        except WireError as error:
            assert_says_why(error)
        else:
            assert value == again, f"{name}: {value!r} and {again!r}"


# --- Content ---------------------------------------------------------------------------------


def content_in(
    data: bytes, decoder: Callable[[BareLineEndings], ContentDecoder] = ContentDecoder
) -> None:
    """The octets are what follows DATA at the receiver."""
    for policy in BareLineEndings:

        def tell(
            cut: Cut, policy: BareLineEndings = policy
        ) -> tuple[bytes, bool, str | None, bytes]:
            return _decode(decoder(policy), cut(data))

        content, ended, malformed, _ = the_same_however_cut(data, tell)
        if ended and policy is BareLineEndings.REFUSE and malformed is None:
            encoder = ContentEncoder(LineEndings.REFUSE)
            again = encoder.encode(content) + encoder.end()
            assert _decode(decoder(policy), [again]) == (content, True, None, b"")


def _decode(
    decoder: ContentDecoder, pieces: Iterable[bytes]
) -> tuple[bytes, bool, str | None, bytes]:
    """Return the content, whether it has ended, what is wrong with it, and what follows it."""
    buffer = ReceiveBuffer()
    content = bytearray()
    for piece in pieces:
        buffer.feed(piece)
        content += decoder.decode(buffer)
        assert decoder.ended or len(buffer) <= _MOST_HELD_BACK
    return bytes(content), decoder.ended, decoder.malformed, buffer.take(len(buffer))


def content_out(
    data: bytes, encoder: Callable[[LineEndings], ContentEncoder] = ContentEncoder
) -> None:
    """The octets are content to be sent."""

    def normalise(cut: Cut) -> bytes:
        return _encode(encoder(LineEndings.NORMALISE), cut(data))

    def refuse(cut: Cut) -> bytes | str:
        try:
            return _encode(encoder(LineEndings.REFUSE), cut(data))
        except WireError as error:
            return str(error)

    canonical = _LINE_END.sub(_CRLF, data)
    if canonical and not canonical.endswith(_CRLF):
        canonical += _CRLF
    sent = the_same_however_cut(data, normalise)
    assert (_CRLF + sent).find(_END) == len(sent) - 3, "the end is at the end, and only there"
    for policy in BareLineEndings:
        assert _decode(ContentDecoder(policy), [sent]) == (canonical, True, None, b"")
    refused = the_same_however_cut(data, refuse)
    assert isinstance(refused, str) if _BARE.search(data) else refused == sent


def _encode(encoder: ContentEncoder, pieces: Iterable[bytes]) -> bytes:
    return b"".join([*map(encoder.encode, pieces), encoder.end()])
