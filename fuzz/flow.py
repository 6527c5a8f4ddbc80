"""Harnesses for the flows, in clear: the octets are a script, see `fuzz.script`.

Knows how to carry out actions without any I/O, and what may come of a flow whatever the peer says.
Must not know in which order a flow does things.

What happens in front of a turn, at the flow's next wait: t the time is up, b the connection
breaks, x the peer has closed it; w nothing can be written from now on.

What a client's flow sends depends on what it has heard by then, so that a server that talks out
of turn is noticed or not: cut and whole are compared for the server's flow only.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import TypeAlias, TypeVar, assert_never, cast

from fuzz.engine import EVERYTHING, protocol_of
from fuzz.script import Cut, Script, Turn, cuts, patient, the_same_however_cut, whole
from fuzz.wire import LIMITS, assert_says_why
from smtp_proto.engine import State
from smtp_proto.flow import (
    Ask,
    CloseSession,
    Connect,
    Content,
    DeliveryInDoubt,
    Done,
    Envelope,
    Flow,
    Handler,
    OpenSession,
    OpenSettings,
    Receive,
    Resolve,
    Security,
    Send,
    SendMail,
    SendResult,
    Serve,
    ServerSession,
    ServeSettings,
    Session,
    SMTPError,
    Timer,
)
from smtp_proto.sasl import Credentials, Policy
from smtp_proto.wire import (
    BareLineEndings,
    Limits,
    Mail,
    Octets,
    OtherCommand,
    Rcpt,
    ReceiveBuffer,
    Reply,
    ReplyReader,
    WireError,
)

T = TypeVar("T")


class Stream:
    """What the peer says to a flow, and what the flow sends."""

    def __init__(self, turns: Sequence[Turn], cut: Cut) -> None:
        self.sent = b""
        self.size = sum(len(turn.octets) for turn in turns)
        self._writable = True
        self._coming = self._events(turns, cut)

    def send(self, flow: Flow[T], data: Octets) -> None:
        """Take what a flow sends. What cannot be written may have been all the same."""
        self.sent += data
        if not self._writable:
            flow.failed(BrokenPipeError("broken pipe"))

    def receive(self, flow: Flow[T]) -> int:
        """Give a flow what comes next; return how many lines end in it."""
        match next(self._coming, None):
            case None:
                flow.receive_eof()
            case OSError() as error:
                flow.failed(error)
            case octets:
                flow.receive_data(octets)
                return octets.count(b"\n")
        return 0

    def _events(self, turns: Sequence[Turn], cut: Cut) -> Iterator[bytes | OSError]:
        for turn in turns:
            if "w" in turn.actions:
                self._writable = False
            if "t" in turn.actions:
                yield TimeoutError()
            if "b" in turn.actions:
                yield ConnectionResetError("reset")
            if "x" in turn.actions:
                return
            yield from cut(turn.octets)


def carry_out(flow: Flow[T], stream: Stream, pieces: Sequence[bytes] = ()) -> T:
    """Carry a flow out to its end; raises what it raises."""
    content = iter(pieces)
    timers: list[Timer] = []
    progress = 0  # what may begin another wait: something was sent, a line has come
    for _ in range(200 + 10 * stream.size):
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        assert action.timer.seconds is not None, "a wait without end"
        if not timers or timers[-1] is not action.timer:
            timers.append(action.timer)
            assert len(timers) <= 10 + 2 * progress, "what drips in moves the deadline"
        match action:
            case Connect():
                flow.connected("192.0.2.1")
            case Resolve():
                flow.resolved(["192.0.2.1"])
            case Send(data):
                assert data, "nothing to send"
                progress += 1
                stream.send(flow, data)
            case Receive():
                progress += stream.receive(flow)
            case Content():
                progress += 1
                flow.content(next(content, None))
            case Ask():
                progress += 1
                _ask(flow, action)
            case _:
                assert_never(action)
    raise AssertionError("the flow does not come to its end")


def _ask(flow: Flow[T], question: Ask) -> None:
    try:
        value = question.function(*question.arguments)
    except Exception as error:
        flow.failed(error)
    else:
        flow.answer(value)


# --- OpenSession -----------------------------------------------------------------------------

_CREDENTIALS = Credentials("user", "pass word")
_IN_CLEAR = Policy(frozenset({"PLAIN", "LOGIN", "CRAM-MD5"}), allow_cleartext=True)
_SECRETS = (b"pass word", b64encode(b"pass word"), b64encode(b"\0user\0pass word"))


def open_session(data: bytes, flow: Callable[[OpenSettings], Flow[Session]] = OpenSession) -> None:
    """Open a session with whatever the server says.

    Options: L for LMTP, 1 for no pipelining, s to require STARTTLS, o to take it where offered, a
    to log in, A to do so in clear text, too.
    """
    script = Script.read(data)
    settings = OpenSettings(
        "s.example",
        587,
        security=_security(script.options),
        credentials=_CREDENTIALS if "a" in script.options else None,
        policy=_IN_CLEAR if "A" in script.options else Policy(),
        protocol=protocol_of(script),
        limits=LIMITS,
        pipelining="1" not in script.options,
    )
    for cut in (whole, *cuts(data)):
        stream = Stream(script.turns, cut)
        try:
            session = carry_out(flow(settings), stream)
        except SMTPError as error:
            assert_says_why(error)
        else:
            assert settings.security is not Security.STARTTLS
            assert session.authenticated == (settings.credentials is not None)
            _close(session, stream)
        in_clear = settings.policy is _IN_CLEAR and settings.security is Security.NONE
        assert in_clear or not any(secret in stream.sent for secret in _SECRETS)


def _security(options: str) -> Security:
    if "s" in options:
        return Security.STARTTLS
    return Security.OPPORTUNISTIC if "o" in options else Security.NONE


def _close(session: Session, stream: Stream) -> None:
    assert session.usable
    assert session.engine.state is State.READY
    carry_out(CloseSession(session), stream)
    assert not session.usable


# --- SendMail --------------------------------------------------------------------------------

_WITHHELD = {"P": "PIPELINING", "C": "CHUNKING", "8": "8BITMIME", "U": "SMTPUTF8"}
_PLAIN = Envelope.of("a@b.example", ["c@d.example", "Postmaster", '"e f"@g.example'])
_UTF8 = Envelope.of("ü@b.example", ["c@d.example", "e@bücher.example"])

SendMailLike: TypeAlias = Callable[[Session, Envelope, bytes | None], Flow[SendResult]]


def send_mail(data: bytes, flow: SendMailLike = SendMail) -> None:
    """Send mail, twice if the first time leaves the session usable, whatever the server says.

    Options: L for LMTP; P, C, 8, U for a server without PIPELINING, CHUNKING, 8BITMIME, SMTPUTF8;
    p for content that comes in pieces; u for UTF-8 in addresses and content, 0 for a NUL in it, S
    for more of it than the server announces to take.
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
    for cut in (whole, *cuts(data)):
        session = _opened_session(script)
        stream = Stream(script.turns, cut)
        for _ in range(2):
            if session.usable:
                mail = partial(flow, session, envelope, None if pieces else content)
                _send_one(mail, stream, envelope, [content[:7], b"", content[7:]])
        if session.usable:
            _close(session, stream)


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
) -> None:
    before = len(stream.sent)
    try:
        result = carry_out(mail(), stream, pieces)
    except DeliveryInDoubt:
        assert _content_was_sent(stream.sent[before:])
    except (SMTPError, WireError) as error:
        assert_says_why(error)
    else:
        assert _content_was_sent(stream.sent[before:])
        assert result.accepted
        assert all(reply.positive for reply in result.accepted.values())
        assert not {*result.accepted} & {*result.refused}
        assert {*result.accepted, *result.refused} == set(map(str, envelope.forward_paths))


def _content_was_sent(octets: bytes) -> bool:
    return octets.endswith(b"\r\n.\r\n") or b" LAST\r\n" in octets


# --- Serve -----------------------------------------------------------------------------------

_PEER = "192.0.2.1"

_ANSWERS: Mapping[str, object] = {
    "+": None,
    "p": Reply.build(250, "In my own words"),
    "-": Reply.build(550, "No"),
    "3": Reply.build(354, "No answer at all"),
    "4": Reply.build(421, "Go"),
    "y": True,
    "n": False,
    "s": "secret",
    "l": [Reply.build(250, "One"), Reply.build(452, "Two")],
    "?": object(),
}


class _Application(Handler):
    """Answers whatever the options say, over and over, and takes note of what it was asked."""

    def __init__(self, options: str) -> None:
        known = [letter for letter in options if letter in _ANSWERS or letter == "!"]
        self._answers = cycle(known or "+")
        self.story: list[object] = []
        self.finding: Exception | None = None
        self._content = b""

    def _answer(self, session: ServerSession, *question: object) -> object:
        assert self.story[-1:] != ["disconnect"]
        assert session.reverse_path is not None or not session.recipients
        self.story.append(question)
        letter = next(self._answers)
        if letter == "!":
            raise LookupError("the application has a bug")
        return _ANSWERS[letter]

    def _reply(self, session: ServerSession, *question: object) -> Reply | None:
        return cast("Reply | None", self._answer(session, *question))

    def on_connect(self, session: ServerSession) -> Reply | None:
        return self._reply(session, "connect")

    def on_helo(self, session: ServerSession, domain: str) -> Reply | None:
        return self._reply(session, "helo", domain)

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool | Reply:
        return cast("bool | Reply", self._answer(session, credentials))

    def find_password(self, session: ServerSession, authentication_identity: str) -> str | None:
        return cast("str | None", self._answer(session, "password", authentication_identity))

    def on_mail(self, session: ServerSession, mail: Mail) -> Reply | None:
        assert session.reverse_path is None
        return self._reply(session, mail)

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        assert session.reverse_path is not None
        return self._reply(session, rcpt)

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | Sequence[Reply] | None:
        assert len(content) <= LIMITS.message_size
        assert 0 < len(envelope.forward_paths) <= LIMITS.recipients
        answer = self._answer(session, envelope, content)
        return cast("Reply | Sequence[Reply] | None", answer)

    def on_verify(self, session: ServerSession, string: str) -> Reply | None:
        return self._reply(session, "verify", string)

    def on_expand(self, session: ServerSession, string: str) -> Reply | None:
        return self._reply(session, "expand", string)

    def on_other(self, session: ServerSession, command: OtherCommand) -> Reply | None:
        return self._reply(session, command)

    def on_reset(self, session: ServerSession) -> None:
        assert session.reverse_path is None
        self.story.append("reset")

    def on_disconnect(self, session: ServerSession) -> None:
        assert session.peer == _PEER
        self.story.append("disconnect")

    def on_error(self, session: ServerSession, error: Exception) -> None:
        if isinstance(error, AssertionError):
            self.finding = error  # the flow takes it for a fault of the application
        self.story.append((session.reverse_path, str(error)))


class _StreamingApplication(_Application):
    """Takes the content as it comes."""

    def on_content(self, session: ServerSession, data: bytes) -> None:
        # It must not depend on the cutting how often an answer is asked for.
        assert session.recipients
        self._content += data

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | Sequence[Reply] | None:
        assert not content
        content, self._content = self._content, b""
        return super().on_message(session, envelope, content)

    def on_reset(self, session: ServerSession) -> None:
        self._content = b""
        super().on_reset(session)


def serve(data: bytes, flow: Callable[[Handler, ServeSettings, str], Flow[None]] = Serve) -> None:
    """Serve whatever a client says.

    Options: L for LMTP, A to accept bare line endings, R to require AUTH, c for an application that
    takes the content as it comes; those of `_ANSWERS`, and ! for an exception, are its answers.
    Writing never fails (see w): how much was done by then depends on the cutting.
    """
    script = Script.read(data)
    settings = ServeSettings(
        hostname="s.example",
        nonce=lambda: b"0123456789abcdef",
        mechanisms=("PLAIN", "LOGIN", "CRAM-MD5"),
        require_auth="R" in script.options,
        allow_cleartext_auth=True,
        protocol=protocol_of(script),
        bare_line_endings=(
            BareLineEndings.ACCEPT if "A" in script.options else BareLineEndings.REFUSE
        ),
        limits=LIMITS,
    )
    turns = [Turn(turn.actions.replace("w", ""), turn.octets) for turn in script.turns]

    def tell(cut: Cut) -> tuple[bytes, list[object]]:
        kind = _StreamingApplication if "c" in script.options else _Application
        application = kind(script.options)
        stream = Stream(turns, patient(script, cut))
        carry_out(flow(application, settings, _PEER), stream)
        if application.finding is not None:
            raise application.finding
        return stream.sent, application.story

    sent, story = the_same_however_cut(data, tell)
    assert story[-1] == "disconnect"
    _check_replies(sent)


def _check_replies(sent: bytes) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(sent)
    reader = ReplyReader(Limits())
    while reader.read(buffer) is not None:
        pass
    assert not len(buffer)
