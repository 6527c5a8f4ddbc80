"""The harnesses for the flows that send mail: the octets are a script, see `fuzz.script`.

Knows what an envelope and a content may need of a server, and what a result must say. Must not know
in which order a flow does things.

What a client's flow sends depends on what it has heard by then, so that a server that talks out
of turn is noticed or not: cut and whole are compared where all went well.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from fuzz.engine import EVERYTHING, protocol_of
from fuzz.opening import close
from fuzz.script import Script, Turn, cuts, whole
from fuzz.stream import Stream, assert_same_or_none, carry_out
from fuzz.wire import LIMITS, assert_says_why
from smtp_proto.flow import (
    DeliveryInDoubt,
    Envelope,
    Flow,
    OpenSession,
    OpenSettings,
    Outcome,
    Security,
    SendMail,
    SendMany,
    SendResult,
    Session,
    SMTPError,
)
from smtp_proto.wire import Limits, Reply, WireError

_WITHHELD = {"P": "PIPELINING", "C": "CHUNKING", "8": "8BITMIME", "U": "SMTPUTF8"}
_PLAIN = Envelope.of("a@b.example", ["c@d.example", "Postmaster", '"e f"@g.example'])
_UTF8 = Envelope.of("ü@b.example", ["c@d.example", "e@bücher.example"])

_LONG = b"X: " + b"x" * 65_536 + b"\r\n"  # as much as is looked at before anything is sent
_NOBODY = Envelope.of("", ["nobody@g.example"])

SendMailLike: TypeAlias = Callable[[Session, Envelope, bytes | None], Flow[SendResult]]
SendManyLike: TypeAlias = Callable[[Session], SendMany]


def send_mail(data: bytes, flow: SendMailLike = SendMail) -> None:
    """Send mail, twice if the first time leaves the session usable, whatever the server says.

    Options: L for LMTP; P, C, 8, U for a server without PIPELINING, CHUNKING, 8BITMIME, SMTPUTF8;
    p for content that comes in pieces, l for a long one of these in front; u for UTF-8 in
    addresses and content, 0 for a NUL in it, S for more of it than the server announces to take.
    """
    script = Script.read(data)
    envelope = _UTF8 if "u" in script.options else _PLAIN
    content = b"Subject: x\r\n\r\n.\r\n.x\n"
    if "u" in script.options:
        content = "Subject: ü\r\n\r\nü".encode()
    if "0" in script.options:
        content += b"\0"
    if "S" in script.options:
        content *= 3
    pieces = "p" in script.options
    outcomes: list[bytes | None] = []
    for cut in (whole, *cuts(data)):
        session = _opened_session(script)
        stream = Stream(script.turns, cut)
        well = True
        for _ in range(2):
            if session.usable:
                mail = partial(flow, session, envelope, None if pieces else content)
                well &= _send_one(mail, stream, envelope, _pieces(content, script))
        outcomes.append(stream.sent if well else None)
        if session.usable:
            close(session, stream)
    assert_same_or_none(outcomes)


def send_many(data: bytes, many: SendManyLike = SendMany) -> None:
    """Send four messages, the next before the last is answered. The options are the same.

    How many replies that takes depends on when they come: there is no RSET in front of a message
    where the one before has been answered. So what this server says is right in one cut alone.
    """
    script = Script.read(data)
    content = b"Subject: x\r\n\r\n.x\n" + b"\0" * ("0" in script.options)
    envelopes = [_PLAIN, _NOBODY, _UTF8 if "u" in script.options else _PLAIN, _PLAIN]
    pieces = "p" in script.options
    for cut in (whole, *cuts(data)):
        session = _opened_session(script)
        stream = Stream(script.turns, cut)
        cut_up = _pieces(content, script) if pieces else None
        outcomes = _send_many(many(session), stream, envelopes, content, cut_up)
        sent = stream.sent.count(b"\r\n.\r\n") + stream.sent.count(b" LAST\r\n")
        assert sum(isinstance(each, SendResult | DeliveryInDoubt) for each in outcomes) <= sent
        if session.usable:
            close(session, stream)


def _send_many(
    many: SendMany,
    stream: Stream,
    envelopes: Sequence[Envelope],
    content: bytes,
    pieces: Sequence[bytes] | None,
) -> list[Outcome]:
    """Return what became of each message that was taken, before the session ended."""
    left = iter(envelopes)
    outcomes: list[Outcome] = []
    taken = 0
    try:
        while True:
            outcome = many.next_outcome()
            if outcome is not None:
                if isinstance(outcome, Exception):
                    assert_says_why(outcome)
                outcomes.append(outcome)
            elif many.wants_message and (envelope := next(left, None)) is not None:
                taken += 1
                many.add(envelope, content if pieces is None else None)
            elif many.wants_message:
                many.end()
            elif not many.under_way:
                break
            if many.under_way:
                carry_out(many.go_on(), stream, pieces or ())
    except SMTPError as error:
        assert_says_why(error)
    except WireError as error:
        assert_says_why(error)
        assert pieces is not None
    assert len(outcomes) == taken
    return outcomes


def _pieces(content: bytes, script: Script) -> Sequence[bytes]:
    long = [_LONG] if "l" in script.options else []
    return [*long, content[:7], b"", content[7:]]


def _opened_session(script: Script) -> Session:
    """Return a session with a server that offers all but TLS, and what the script withholds."""
    withheld = {_WITHHELD.get(letter) for letter in script.options} | {"STARTTLS"}
    offered = tuple(line for line in EVERYTHING if line not in withheld)
    greetings = Reply(220, ("s.example",)), Reply(250, offered)
    settings = OpenSettings(
        "s.example",
        25,
        security=Security.NONE,
        protocol=protocol_of(script),
        limits=Limits(pipelined_commands=LIMITS.pipelined_commands),
    )
    turns = [Turn("", reply.encode()) for reply in greetings]
    return carry_out(OpenSession(settings), Stream(turns, whole))


def _send_one(
    mail: Callable[[], Flow[SendResult]],
    stream: Stream,
    envelope: Envelope,
    pieces: Sequence[bytes],
) -> bool:
    """Return whether it was sent to anybody."""
    before = len(stream.sent)
    try:
        result = carry_out(mail(), stream, pieces)
    except DeliveryInDoubt:
        assert _content_was_sent(stream.sent[before:])
        return False
    except (SMTPError, WireError) as error:
        assert_says_why(error)
        return False
    assert _content_was_sent(stream.sent[before:])
    assert result.accepted
    assert all(reply.positive for reply in result.accepted.values())
    assert not {*result.accepted} & {*result.refused}
    assert {*result.accepted, *result.refused} == set(map(str, envelope.forward_paths))
    return True


def _content_was_sent(octets: bytes) -> bool:
    return octets.endswith(b"\r\n.\r\n") or b" LAST\r\n" in octets
