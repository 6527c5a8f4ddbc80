"""Laws of `wire` and of both engines: round trip, no injection, bounds.

Knows every class that has a form on the wire, and every text that gets into one. Must not know the
grammar of any: what is legal, the constructors say.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from itertools import chain
from operator import index
from types import FrameType
from typing import TYPE_CHECKING, SupportsIndex, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.engine import natural_reply
from smtp_proto import wire
from smtp_proto.engine import (
    PAUSED,
    AuthResponseReceived,
    ClientConnection,
    CommandReceived,
    RemoteProtocolError,
    ReplyReceived,
    ServerConnection,
    ServerEvent,
    Signal,
    State,
)
from smtp_proto.wire import (
    NULL_REVERSE_PATH,
    Auth,
    AuthResponse,
    Body,
    Capabilities,
    Command,
    ContentDecoder,
    ContentEncoder,
    Ehlo,
    EnhancedStatusCode,
    Expn,
    Helo,
    Help,
    Lhlo,
    Limits,
    LineEndings,
    Mail,
    Mailbox,
    MailParameters,
    Noop,
    Notify,
    NullReversePath,
    OriginalRecipient,
    OtherCommand,
    Parameter,
    Postmaster,
    Rcpt,
    RcptParameters,
    ReceiveBuffer,
    Reply,
    ReplyReader,
    Ret,
    Verb,
    Vrfy,
    WireError,
    decode_xtext,
    encode_xtext,
    parse_command,
    parse_forward_path,
    parse_reverse_path,
)
from tests import strategies

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, TraceFunction

CRLF = b"\r\n"


def read_replies(octets: bytes) -> list[Reply]:
    buffer = ReceiveBuffer()
    buffer.feed(octets)
    reader = ReplyReader(Limits())
    replies: list[Reply] = []
    while (reply := reader.read(buffer)) is not None:
        replies.append(reply)
    assert not len(buffer)
    assert not reader.partial
    return replies


def read_command(octets: bytes) -> object:
    assert octets.endswith(CRLF)
    return parse_command(octets.removesuffix(CRLF))


def read_auth_response(octets: bytes) -> object:
    assert octets.endswith(CRLF)
    return AuthResponse.parse(octets.removesuffix(CRLF))


def offer(capabilities: Capabilities) -> Reply:
    return Reply(250, capabilities.lines())


# --- Law 3: what is written is read again as it was ------------------------------------------


ROUND_TRIPS: dict[type, tuple[st.SearchStrategy[object], Callable[..., object]]] = {
    **{
        kind: (strategy, lambda command: read_command(command.encode()))
        for kind, strategy in strategies.commands.items()
    },
    AuthResponse: (strategies.auth_responses, lambda each: read_auth_response(each.encode())),
    Reply: (strategies.replies, lambda each: read_replies(each.encode())[0]),
    EnhancedStatusCode: (strategies.status_codes, lambda each: EnhancedStatusCode.parse(str(each))),
    Capabilities: (strategies.capabilities, lambda each: Capabilities.from_reply(offer(each))),
    Mailbox: (strategies.mailboxes, lambda each: Mailbox.parse(str(each))),
    NullReversePath: (st.sampled_from(NullReversePath), lambda each: parse_reverse_path(str(each))),
    Postmaster: (st.sampled_from(Postmaster), lambda each: parse_forward_path(str(each))),
    Parameter: (strategies.parameters, lambda each: Parameter.parse(str(each))),
    MailParameters: (
        strategies.mail_parameters,
        lambda each: MailParameters.parse(each.encode()),
    ),
    RcptParameters: (
        strategies.rcpt_parameters,
        lambda each: RcptParameters.parse(each.encode()),
    ),
    OriginalRecipient: (
        strategies.original_recipients,
        lambda each: OriginalRecipient.parse(each.encode()),
    ),
    Body: (st.sampled_from(Body), lambda each: Body.parse(each.value.lower())),
    Ret: (st.sampled_from(Ret), lambda each: Ret.parse(each.value.lower())),
    Notify: (st.sampled_from(Notify), lambda each: Notify.parse(each.value.lower())),
    Verb: (st.sampled_from(Verb), lambda each: Verb(each.value)),
}
NOT_ON_THE_WIRE: set[type] = {Limits, LineEndings, wire.BareLineEndings}


def value_classes() -> set[type]:
    exported = (getattr(wire, name) for name in wire.__all__)
    return {
        each
        for each in exported
        if isinstance(each, type) and (is_dataclass(each) or issubclass(each, Enum))
    }


def test_every_value_class_is_here() -> None:
    assert value_classes() - NOT_ON_THE_WIRE == set(ROUND_TRIPS)


@pytest.mark.parametrize("kind", ROUND_TRIPS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_round_trip(kind: type, data: st.DataObject) -> None:
    strategy, write_and_read = ROUND_TRIPS[kind]
    value = data.draw(strategy)
    assert type(value) is kind
    assert write_and_read(value) == value


@given(st.lists(strategies.replies, max_size=5))
def test_round_trip_of_many_replies(replies: list[Reply]) -> None:
    assert read_replies(b"".join(reply.encode() for reply in replies)) == replies


@given(strategies.printable | strategies.words)
def test_round_trip_of_xtext(text: str) -> None:
    assert decode_xtext(encode_xtext(text)) == text


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b".", b"\r\n", b"\r\n.", b"..", b"x"])))
def test_round_trip_of_content(pieces: list[bytes]) -> None:
    content = b"".join(pieces).replace(b"\r", b"").replace(b"\n", b"\r\n")
    encoder = ContentEncoder(LineEndings.REFUSE)
    buffer = ReceiveBuffer()
    buffer.feed(encoder.encode(content) + encoder.end() + b"NEXT")
    decoder = ContentDecoder()
    due = CRLF if content and not content.endswith(CRLF) else b""
    assert decoder.decode(buffer) == content + due
    assert decoder.ended
    assert decoder.malformed is None
    assert buffer.take(len(buffer)) == b"NEXT"


# --- Law 5: no text puts more on the wire than it should -------------------------------------

A = Mailbox("a", "example.org")


@dataclass(frozen=True)
class Door:
    """Where a text gets in: the field, a text that is fine there, and what is made of it."""

    field: str
    good: str
    make: Callable[[str], Command | AuthResponse]

    def __str__(self) -> str:
        return self.field


def mail(parameters: MailParameters) -> Mail:
    return Mail(NULL_REVERSE_PATH, parameters)


def octets_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


DOORS = [
    Door("Helo.domain", "a.example", Helo),
    Door("Ehlo.domain", "[127.0.0.1]", Ehlo),
    Door("Lhlo.domain", "a_b", Lhlo),
    Door("Mailbox.local_part", "a b", lambda text: Mail(Mailbox(text, "example.org"))),
    Door("Mailbox.local_part", "ü", lambda text: Rcpt(Mailbox(text, "example.org"))),
    Door("Mailbox.domain", "ü.example", lambda text: Mail(Mailbox("a", text))),
    Door("Mailbox.domain", "[IPv6:::1]", lambda text: Rcpt(Mailbox("a", text))),
    Door("Mailbox", '"a b"@c', lambda text: Rcpt(Mailbox.parse(text))),
    Door("Reverse-path", "", lambda text: Mail(parse_reverse_path(text))),
    Door("Forward-path", "postmaster", lambda text: Rcpt(parse_forward_path(text))),
    Door("MailParameters.envid", "a b", lambda text: mail(MailParameters(envid=text))),
    Door("MailParameters.auth", "a b", lambda text: mail(MailParameters(auth=Mailbox(text, "c")))),
    Door("MailParameters.auth", "c.d", lambda text: mail(MailParameters(auth=Mailbox("a", text)))),
    Door("Mail-parameters", " SIZE=1", lambda text: mail(MailParameters.parse(text))),
    Door(
        "Parameter.keyword",
        "X",
        lambda text: mail(MailParameters(other=(Parameter(text, None),))),
    ),
    Door(
        "Parameter.keyword",
        "X",
        lambda text: Rcpt(A, RcptParameters(other=(Parameter(text, "a"),))),
    ),
    Door(
        "Parameter.value",
        "ü",
        lambda text: mail(MailParameters(other=(Parameter("X", text), Parameter("Y", None)))),
    ),
    Door(
        "Parameter.value",
        "a",
        lambda text: Rcpt(A, RcptParameters(other=(Parameter("X", text),))),
    ),
    Door(
        "OriginalRecipient.address_type",
        "rfc822",
        lambda text: Rcpt(A, RcptParameters(orcpt=OriginalRecipient(text, "a"))),
    ),
    Door(
        "OriginalRecipient.address",
        "a b",
        lambda text: Rcpt(A, RcptParameters(orcpt=OriginalRecipient("rfc822", text))),
    ),
    Door(
        "OriginalRecipient.address",
        "ü+\\",
        lambda text: Rcpt(A, RcptParameters(orcpt=OriginalRecipient("utf-8", text))),
    ),
    Door("Rcpt-parameters", " NOTIFY=NEVER", lambda text: Rcpt(A, RcptParameters.parse(text))),
    Door("Vrfy.string", '"a b"', Vrfy),
    Door("Vrfy.string", "ü", lambda text: Vrfy(text, smtputf8=True)),
    Door("Expn.string", '"a b"', Expn),
    Door("Expn.string", "ü", lambda text: Expn(text, smtputf8=True)),
    Door("Help.string", "a b", Help),
    Door("Noop.string", "", Noop),
    Door("Auth.mechanism", "plain", Auth),
    Door("Auth.mechanism", "X-Y_Z", lambda text: Auth(text, b"a")),
    Door("Auth.initial_response", "\0\r\n", lambda text: Auth("PLAIN", octets_of(text))),
    Door("AuthResponse.data", "\0\r\n", lambda text: AuthResponse(octets_of(text))),
    Door("OtherCommand.keyword", "XYZZY", OtherCommand),
    Door("OtherCommand.keyword", "XYZZY", lambda text: OtherCommand(text, "a")),
    Door("OtherCommand.argument", "a b", lambda text: OtherCommand("XYZZY", text)),
]


@dataclass(frozen=True)
class ReplyDoor:
    """The same for replies, with the number of lines that they have."""

    field: str
    good: str
    lines: int
    make: Callable[[str], Reply]

    def __str__(self) -> str:
        return self.field


REPLY_DOORS = [
    ReplyDoor("Reply.lines", "a\tü\udcff", 1, lambda text: Reply(250, (text,))),
    ReplyDoor("Reply.lines", "", 3, lambda text: Reply(250, ("a", text, "b"))),
    ReplyDoor("Reply.lines", "a", 2, lambda text: Reply.build(550, text, "b", status="5.1.1")),
    ReplyDoor("EnhancedStatusCode", "2.1.0", 1, lambda text: Reply.build(250, "a", status=text)),
    ReplyDoor("Capabilities.domain", "a", 2, lambda text: offer(Capabilities(text, {"X": ()}))),
    ReplyDoor("Capabilities.keywords", "X", 2, lambda text: offer(Capabilities("a", {text: ()}))),
    ReplyDoor(
        "Capabilities.keywords",
        "a",
        3,
        lambda text: offer(Capabilities("a", {"X": ("b", text), "Y": ()})),
    ),
]


def fields_with_text() -> set[str]:
    """Every field of a value class that takes text, or octets."""
    return {
        f"{kind.__name__}.{field.name}"
        for kind in value_classes() - NOT_ON_THE_WIRE
        if is_dataclass(kind)
        for field in fields(kind)
        if field.init and {str, bytes} & mentioned(get_type_hints(kind)[field.name])
    }


def mentioned(annotation: object) -> set[object]:
    """The types that an annotation has somewhere inside."""
    return {annotation, *chain.from_iterable(map(mentioned, get_args(annotation)))}


def test_there_is_a_door_for_every_text() -> None:
    doors = {door.field for door in DOORS} | {door.field for door in REPLY_DOORS}
    assert fields_with_text() <= doors


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_each_door_is_open_for_good_text(door: Door) -> None:
    assert_one_command(door.make(door.good))


@pytest.mark.parametrize("door", DOORS, ids=str)
@given(text=strategies.hostile_text)
def test_no_text_makes_more_of_a_command(door: Door, text: str) -> None:
    with contextlib.suppress(WireError):
        assert_one_command(door.make(text))


def assert_one_command(command: Command | AuthResponse) -> None:
    octets = command.encode()
    assert not re.search(rb"[\r\n\0]", octets.removesuffix(CRLF))
    read = read_auth_response if isinstance(command, AuthResponse) else read_command
    assert read(octets) == command


@pytest.mark.parametrize("door", REPLY_DOORS, ids=str)
def test_each_door_of_replies_is_open_for_good_text(door: ReplyDoor) -> None:
    assert_one_reply(door.make(door.good), door.lines)


@pytest.mark.parametrize("door", REPLY_DOORS, ids=str)
@given(text=strategies.hostile_text)
def test_no_text_makes_more_of_a_reply(door: ReplyDoor, text: str) -> None:
    with contextlib.suppress(WireError):
        assert_one_reply(door.make(text), door.lines)


def assert_one_reply(reply: Reply, lines: int) -> None:
    octets = reply.encode()
    assert octets.count(CRLF) == octets.count(b"\r") == octets.count(b"\n") == lines
    assert b"\0" not in octets
    assert read_replies(octets) == [reply]


# --- Law 7: what is kept has bounds, and the work is linear ----------------------------------

MEGABYTE = 1_000_000
# How much comes, and in pieces of what size.
STREAMS = ((MEGABYTE, 1460), (MEGABYTE // 10, 7))

# A server that is this patient hears a hostile client out.
PATIENT = Limits(recipients=MEGABYTE, errors=MEGABYTE)
LONGEST_LINE = max(PATIENT.reply_line, PATIENT.command_line, PATIENT.auth_line)


class CountingOctets(bytearray):
    """Counts how many octets are searched for something."""

    searched = 0

    def find(
        self,
        pattern: ReadableBuffer | SupportsIndex,
        start: SupportsIndex | None = None,
        end: SupportsIndex | None = None,
        /,
    ) -> int:
        found = super().find(pattern, start, end)
        last = len(self) if end is None else min(len(self), index(end))
        self.searched += (last if found < 0 else found) - (0 if start is None else index(start))
        return found


def watched(buffer: ReceiveBuffer) -> CountingOctets:
    octets = CountingOctets(buffer.peek(len(buffer)))
    buffer._octets = octets
    return octets


def in_pieces(stream: bytes, size: int) -> Iterator[bytes]:
    return (stream[start : start + size] for start in range(0, len(stream), size))


@dataclass(frozen=True)
class Hostile:
    """A stream: how it begins, what comes then, again and again, and where that leads a server."""

    name: str
    beginning: bytes
    again: bytes
    state: State = State.READY

    def __str__(self) -> str:
        return self.name

    def octets(self, total: int) -> bytes:
        return self.beginning + self.again * (total // len(self.again))


def asking_client() -> ClientConnection:
    """A client that has said EHLO, and more in the same breath, as far as it may."""
    client = ClientConnection()
    client.receive_data(b"220 a\r\n")
    client.next_event()
    client.send(Ehlo("a.example"))
    client.receive_data(b"250-a\r\n250 PIPELINING\r\n")
    client.next_event()
    client.send(Mail(A))
    for _ in range(100):
        client.send(Rcpt(A))
    return client


CLIENT_STREAMS = [
    Hostile("a line without an end", b"250 ", b"x"),
    Hostile("nothing but CR", b"", b"\r"),
    Hostile("nothing but LF", b"", b"\n"),
    Hostile("lines that end almost", b"250 ", b"\n\r"),
    Hostile("replies", b"", b"250 a\r\n"),
    Hostile("a reply without an end", b"", b"250-a\r\n"),
    Hostile("long lines without an end", b"", b"250-" + b"x" * 4000 + b"\r\n"),
    Hostile("empty lines", b"", b"250-\r\n"),
]


@pytest.mark.parametrize(("total", "size"), STREAMS)
@pytest.mark.parametrize("hostile", CLIENT_STREAMS, ids=str)
def test_a_client_keeps_no_more_than_it_may(hostile: Hostile, total: int, size: int) -> None:
    client = asking_client()
    octets = watched(client._buffer)
    stream = hostile.octets(total)
    for piece in in_pieces(stream, size):
        client.receive_data(piece)
        with contextlib.suppress(RemoteProtocolError):
            while isinstance(client.next_event(), ReplyReceived):
                pass
        assert len(octets) < PATIENT.reply_line
        assert client._reader._octets <= PATIENT.reply_octets
        assert len(client._reader._lines) <= PATIENT.reply_lines
    assert octets.searched <= 4 * len(stream)


TRANSACTION = b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n"
SERVER_STREAMS = [
    Hostile("a line without an end", b"NOOP ", b"x"),
    Hostile("nothing but CR", b"", b"\r"),
    Hostile("nothing but LF", b"", b"\n"),
    Hostile("lines that are too long", b"", b"x" * 5000 + b"\r\n"),
    Hostile("commands", b"", b"NOOP and no more than that\r\n"),
    Hostile("no commands", b"", b"\0" * 40 + b"\r\n"),
    Hostile("commands out of order", b"", b"RCPT TO:<somebody@example.org>\r\n"),
    Hostile("recipients", b"MAIL FROM:<>\r\n", b"RCPT TO:<" + b"a" * 50 + b"@b>\r\n", State.RCPT),
    Hostile("a response without an end", b"AUTH PLAIN\r\n", b"e", State.AUTH),
    Hostile("responses", b"AUTH PLAIN\r\n", b"eHh4" * 20 + b"\r\n", State.AUTH),
    Hostile("content in one line", TRANSACTION + b"DATA\r\n", b"x", State.DATA),
    Hostile("content of dots", TRANSACTION + b"DATA\r\n", b"..\r\n", State.DATA),
    Hostile("content that ends almost", TRANSACTION + b"DATA\r\n", b"\r\n.\r", State.DATA),
    Hostile("content of CR", TRANSACTION + b"DATA\r\n", b"\r", State.DATA),
    Hostile("messages", b"", TRANSACTION + b"DATA\r\n" + b"x\r\n" * 50 + b".\r\n"),
    Hostile(
        "a chunk without an end", TRANSACTION + b"BDAT 99999999999999999999\r\n", b"x", State.RCPT
    ),
    Hostile("a refused chunk", b"BDAT 99999999999999999999\r\n", b"x"),
    Hostile("empty chunks", TRANSACTION, b"BDAT " + b"0" * 20 + b"\r\n", State.BDAT),
]


class PatientServer:
    """A server that answers whatever comes, and keeps nothing itself."""

    def __init__(self) -> None:
        self.engine = ServerConnection(limits=PATIENT)
        self.kept = watched(self.engine._buffer)
        self._last: ServerEvent | None = None
        self.receive(b"EHLO a\r\n")

    def receive(self, piece: bytes) -> None:
        self.engine.receive_data(piece)
        while (event := self.engine.next_event()) is not Signal.NEED_DATA:
            if event is PAUSED:
                self.engine.send_reply(self._reply())
            elif not isinstance(event, Signal):
                self._last = event

    def _reply(self) -> Reply:
        asked = isinstance(self._last, CommandReceived) and isinstance(self._last.command, Auth)
        if asked or isinstance(self._last, AuthResponseReceived):
            return Reply(334, ("",))
        return natural_reply(self._last)


@pytest.mark.parametrize(("total", "size"), STREAMS)
@pytest.mark.parametrize("hostile", SERVER_STREAMS, ids=str)
def test_a_server_keeps_no_more_than_it_may(hostile: Hostile, total: int, size: int) -> None:
    server = PatientServer()
    stream = hostile.octets(total)
    start = len(hostile.beginning)  # after AUTH, say, a client has to wait
    for piece in (*in_pieces(stream[:start], size), *in_pieces(stream[start:], size)):
        server.receive(piece)
        assert len(server.kept) < LONGEST_LINE
    assert server.engine.state is hostile.state
    assert server.kept.searched <= 8 * len(stream)


def lines_run(act: Callable[[], object]) -> int:
    """Count the lines of Python that run."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def hear_one_long_reply(lines: int) -> None:
    octets = b"250-a\r\n" * lines + b"250 a\r\n"
    assert len(read_replies(octets)[0].lines) == lines + 1


def send_to(recipients: int) -> None:
    client = asking_client()
    for _ in range(recipients):
        client.send(Rcpt(A))
    client.receive_data(b"250 a\r\n" + b"250 a\r\n550 b\r\n" * (recipients // 2))
    heard = 0
    while isinstance(client.next_event(), ReplyReceived):
        heard += 1
    assert heard == recipients // 2 * 2 + 1


def serve(stream: bytes) -> None:
    server = PatientServer()
    for piece in in_pieces(stream, 1460):
        server.receive(piece)
    assert server.engine.state is State.READY


WORK: dict[str, Callable[[int], None]] = {
    "one long reply": hear_one_long_reply,
    "many recipients at the client": send_to,
    "many recipients": lambda count: serve(
        b"MAIL FROM:<>\r\n" + b"RCPT TO:<a@b>\r\n" * count + b"DATA\r\n.\r\n"
    ),
    "many messages": lambda count: serve((TRANSACTION + b"DATA\r\nx\r\n.\r\n") * count),
    "many chunks": lambda count: serve(TRANSACTION + b"BDAT 1\r\nx" * count + b"BDAT 0 LAST\r\n"),
    "long content": lambda count: serve(
        TRANSACTION + b"DATA\r\n" + b".x\r\n" * 100 * count + b".\r\n"
    ),
    "many refusals": lambda count: serve(b"\0\r\n" * count + b"RSET\r\n"),
}


@pytest.mark.parametrize("name", WORK)
def test_ten_times_as_much_is_ten_times_the_work(name: str) -> None:
    work = WORK[name]
    work(90)  # whatever is done only once
    assert lines_run(lambda: work(900)) <= 10.5 * lines_run(lambda: work(90))
