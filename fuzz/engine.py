"""Harnesses for both engines: the octets are a script, see `fuzz.script`.

Knows what an application may do, and what an engine may never do whatever the peer says.
Must not know what the flows make of it.

Two ways to cut what is at the border of TLS differ in one thing: the command STARTTLS and the
reply to it are an event, or they are not because of the clear text that came with them; either way
that is the end. So they are left out of what is compared.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, cycle
from typing import assert_never

from fuzz.script import Cut, Script, patient, the_same_however_cut
from fuzz.wire import LIMITS, assert_one_line, assert_says_why
from smtp_proto.engine import (
    NEED_DATA,
    PAUSED,
    AuthResponseReceived,
    ClientConnection,
    CommandReceived,
    CommandRefused,
    ConnectionEnded,
    ContentEnded,
    ContentReceived,
    LocalProtocolError,
    Protocol,
    RemoteProtocolError,
    ReplyReceived,
    ServerConnection,
    ServerEvent,
    State,
    challenge,
)
from smtp_proto.wire import (
    NULL_REVERSE_PATH,
    POSTMASTER,
    Auth,
    AuthResponse,
    BareLineEndings,
    Body,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Mailbox,
    MailParameters,
    Noop,
    OtherCommand,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    Vrfy,
    WireError,
)

_LONGEST_LINE = max(LIMITS.reply_line, LIMITS.command_line, LIMITS.auth_line)


def protocol_of(script: Script) -> Protocol:
    """LMTP with the option L."""
    return Protocol.LMTP if "L" in script.options else Protocol.SMTP


# --- The client ------------------------------------------------------------------------------


class Client(ClientConnection):
    """The client's engine, with a look at what it holds."""

    @property
    def held(self) -> int:
        """Octets that were received and not yet read."""
        return len(self._buffer)


def _send(command: Command | AuthResponse) -> Callable[[Client], bytes]:
    def action(engine: Client) -> bytes:
        legal = engine.can_send(command)
        try:
            octets = engine.send(command)
        except LocalProtocolError:
            assert not legal
            raise
        assert legal
        assert_one_line(octets)
        return octets

    return action


ACTIONS: Mapping[str, Callable[[Client], bytes | None]] = {
    "e": _send(Ehlo("c.example")),
    "h": _send(Helo("c.example")),
    "l": _send(Lhlo("c.example")),
    "m": _send(Mail(NULL_REVERSE_PATH)),
    "M": _send(Mail(Mailbox("a", "b"), MailParameters(body=Body.BINARY_MIME))),
    "r": _send(Rcpt(Mailbox("a", "b"))),
    "R": _send(Rcpt(POSTMASTER)),
    "d": _send(Data()),
    "c": lambda engine: engine.send_content(b".\r\n.x\n"),
    ".": lambda engine: engine.end_content(),
    "b": lambda engine: engine.send_chunk(b"\r\n.\r\n"),
    "B": lambda engine: engine.send_chunk(b"", last=True),
    "z": _send(Rset()),
    "v": _send(Vrfy("x")),
    "V": _send(Expn("x")),
    "?": _send(Help()),
    "n": _send(Noop()),
    "o": _send(OtherCommand("XYZZY", "x")),
    "q": _send(Quit()),
    "a": _send(Auth("PLAIN", b"")),
    "A": _send(AuthResponse(b"x")),
    "*": _send(AuthResponse(None)),
    "s": _send(StartTls()),
    "t": lambda engine: engine.tls_started(),
    "x": lambda engine: engine.receive_eof(),
    "f": lambda engine: engine.send_failed(),
}
"""What a client can do. Options: L for LMTP, 1 for no pipelining, S for TLS from the start."""


def client(data: bytes, connection: Callable[..., Client] = Client) -> None:
    """Tell a client's engine what a server may say."""
    script = Script.read(data)

    def tell(cut: Cut) -> list[object]:
        engine = connection(
            protocol=protocol_of(script),
            limits=LIMITS,
            pipelining="1" not in script.options,
            secure="S" in script.options,
        )
        return list(chain.from_iterable(_client_turns(engine, script, cut)))

    the_same_however_cut(data, tell)


def _client_turns(engine: Client, script: Script, cut: Cut) -> Iterator[Iterable[object]]:
    ended = False
    for turn in script.turns:
        for letter in turn.actions:
            if letter in ACTIONS:
                yield _act(engine, letter)
                ended = ended or letter == "x"
        yield _hear(engine, () if ended else cut(turn.octets))


def _act(engine: Client, letter: str) -> Iterable[object]:
    before = (engine.state, engine.projected, engine.outstanding, engine.held)
    try:
        octets = ACTIONS[letter](engine)
    except LocalProtocolError:
        after = (engine.state, engine.projected, engine.outstanding, engine.held)
        assert after == before, f"{letter} was refused and has changed something"
        return [f"{letter} refused"]
    assert not engine.finished or not octets
    return [octets]


def _hear(engine: Client, pieces: Iterable[bytes]) -> Iterable[object]:
    """Yield what the engine makes of octets."""
    # Where there is none, there may still be the end.
    for piece in chain(pieces, [b""]):
        try:
            if piece:
                engine.receive_data(piece)
            while (event := engine.next_event()) is not NEED_DATA:
                if isinstance(event, ReplyReceived):
                    _look_at_challenge(event.reply)
                    if isinstance(event.command, StartTls) and event.reply.positive:
                        continue
                yield event
                if isinstance(event, ConnectionEnded):
                    break
        except RemoteProtocolError as error:
            assert engine.finished
            assert_says_why(error)
            yield _told(error)
            return
        assert engine.held < LIMITS.reply_line
        assert not (engine.finished and engine.outstanding)


def _look_at_challenge(reply: Reply) -> None:
    try:
        challenge(reply)
    except WireError as error:
        assert_says_why(error)


def _told(error: RemoteProtocolError) -> str:
    return "clear text" if "clear text" in str(error) else str(error)


# --- The server ------------------------------------------------------------------------------

EVERYTHING = (
    "s.example",
    "PIPELINING",
    "SIZE 48",
    "8BITMIME",
    "BINARYMIME",
    "CHUNKING",
    "SMTPUTF8",
    "DSN",
    "STARTTLS",
    "AUTH PLAIN",
    "XYZZY",
)
"""The lines of a reply to EHLO that offers all there is."""


def server(data: bytes, connection: Callable[..., ServerConnection] = ServerConnection) -> None:
    """Tell a server's engine what a client may say.

    Options: L for LMTP, A to accept bare line endings, S for TLS from the start. Those of "+-34"
    are replies that the application makes, over and over: the natural one, 550, 3yz, 421.

    Actions: t when TLS is there, x when the client has gone.
    """
    script = Script.read(data)

    def tell(cut: Cut) -> list[object]:
        engine = connection(
            protocol=protocol_of(script),
            limits=LIMITS,
            secure="S" in script.options,
            bare_line_endings=(
                BareLineEndings.ACCEPT if "A" in script.options else BareLineEndings.REFUSE
            ),
        )
        return _Application(engine, script, patient(script, cut)).story

    the_same_however_cut(data, tell)


class _Application:
    """What answers a client, and keeps what has happened in `story`."""

    def __init__(self, engine: ServerConnection, script: Script, cut: Cut) -> None:
        self.story: list[object] = []
        self._engine = engine
        self._last: ServerEvent | None = None  # None: the connection itself
        self._unanswered = True
        self._replies = cycle([letter for letter in script.options if letter in "+-34"] or "+")
        self._content = b""
        self._play(script, cut)

    def _play(self, script: Script, cut: Cut) -> None:
        engine = self._engine
        ended = False
        try:
            for turn in script.turns:
                if "t" in turn.actions:
                    self._start_tls()
                if "x" in turn.actions and not ended:
                    engine.receive_eof()
                    ended = True
                for piece in chain([] if ended else cut(turn.octets), [b""]):
                    if piece:
                        engine.receive_data(piece)
                    self._converse()
        except RemoteProtocolError as error:
            assert engine.finished
            assert_says_why(error, error.reply_hint)
            self._note_content()
            self.story.append(_told(error))

    def _start_tls(self) -> None:
        before = self._look()
        try:
            self._engine.tls_started()
        except LocalProtocolError:
            assert self._look() == before
        else:
            self._last = None

    def _converse(self) -> None:
        engine = self._engine
        while True:
            event = engine.next_event()
            assert event is PAUSED or not self._unanswered
            if event is NEED_DATA:
                assert engine.unread < _LONGEST_LINE
                return
            if event is PAUSED:
                if engine.state is State.TLS:
                    return
                self._reply()
            elif isinstance(event, ConnectionEnded):
                self.story.append(event)
                return
            else:
                self._note(event)
                self._last = event
                self._unanswered = not isinstance(event, ContentReceived)

    def _note(self, event: ServerEvent) -> None:
        if isinstance(event, ContentReceived):
            self._content += event.data
            assert len(self._content) <= LIMITS.message_size
            return
        last = isinstance(event, ContentEnded) and event.last
        begun = isinstance(event, CommandReceived) and isinstance(event.command, Mail)
        if last or begun:
            self._note_content()
        if event != CommandReceived(StartTls()):
            self.story.append(event)

    def _note_content(self) -> None:
        """Take note of a message's content in one piece, however it came."""
        self.story.append(self._content)
        self._content = b""

    def _reply(self) -> None:
        engine = self._engine
        natural = natural_reply(self._last)
        self._unanswered = False
        to_starttls = self._last == CommandReceived(StartTls())
        letter = "+" if to_starttls else next(self._replies)
        before = self._look()
        try:
            octets = engine.send_reply(_REPLIES.get(letter, natural))
        except LocalProtocolError:
            assert self._look() == before, f"{letter} was refused and has changed something"
            assert letter != "+"
            octets = engine.send_reply(natural)
        if not to_starttls:
            self.story.append(octets)

    def _look(self) -> tuple[object, ...]:
        engine = self._engine
        return engine.state, engine.unread, engine.recipients_accepted, engine.authenticated


_REPLIES = {
    "-": Reply.build(550, "No"),
    "3": Reply.build(334, ""),
    "4": Reply.build(421, "Closing"),
}


def natural_reply(event: ServerEvent | None) -> Reply:
    """Return the reply that the engine must take."""
    match event:
        case None:
            return Reply.build(220, "s.example")
        case CommandReceived(command):
            return _natural_reply_to(command)
        case CommandRefused(reply):
            return reply
        case AuthResponseReceived(data):
            return (
                Reply.build(235, "Welcome") if data is not None else Reply.build(501, "Cancelled")
            )
        case ContentEnded(refusal):
            return refusal or Reply.build(250, "Ok")
        case ContentReceived() | ConnectionEnded():
            raise AssertionError("no reply is due")
        case _:
            assert_never(event)


def _natural_reply_to(command: Command) -> Reply:
    match command:
        case Ehlo() | Lhlo():
            return Reply(250, EVERYTHING)
        case Data():
            return Reply.build(354, "Go on")
        case StartTls():
            return Reply.build(220, "Go on")
        case _:
            return Reply.build(250, "Ok")
