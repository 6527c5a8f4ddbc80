"""Whole sessions with a server, or with a client, that is under test.

Knows what is legal when: the engine is the judge. Must not know whose server or client it is.

Subclass a machine, say how octets get to yours and back, and run its `TestCase`. What breaks the
protocol is raised as SessionError or RemoteProtocolError, and hypothesis shows the shortest
session that does. It does not look for what else in that session could vary: see `_Machine`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from hypothesis import Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smtp_proto.engine import (
    NEED_DATA,
    ClientConnection,
    CommandReceived,
    CommandRefused,
    ConnectionEnded,
    ContentReceived,
    Protocol,
    ReplyReceived,
    ServerConnection,
    ServerEvent,
    Signal,
    State,
    legal,
    move_of,
)
from smtp_proto.engine.trace import Speaker, command_line
from smtp_proto.flow.envelope import Envelope
from smtp_proto.testing.strategies.octets import splits
from smtp_proto.testing.strategies.values import (
    commands,
    content,
    forward_paths,
    mail_parameters,
    rcpt_parameters,
    replies,
    reverse_paths,
)
from smtp_proto.wire import (
    NO_RCPT_PARAMETERS,
    NULL_REVERSE_PATH,
    POSTMASTER,
    Auth,
    Bdat,
    Body,
    Capabilities,
    Command,
    Data,
    Ehlo,
    Expn,
    ForwardPath,
    Helo,
    Help,
    Lhlo,
    Limits,
    Mail,
    MailParameters,
    Noop,
    Quit,
    Rcpt,
    RcptParameters,
    ReceiveBuffer,
    Reply,
    ReplyReader,
    ReversePath,
    Rset,
    Vrfy,
    escaped,
)


class SessionError(AssertionError):
    """What is under test has broken the protocol."""


def _require(fine: object, what_is_wrong: str) -> None:
    if not fine:
        raise SessionError(what_is_wrong)


class _Machine(RuleBasedStateMachine):
    """How the octets of a session go to and fro. Override these three, and perhaps `disconnect`.

    A ConnectionError means that what is under test has ended the connection.

    `TestCase.settings` are hypothesis' own, without the phase that explains: that phase varies each
    octet of the session that fails, for minutes. Assign to it, or begin settings of your own with
    it, as in `settings(OurServer.TestCase.settings, max_examples=1000)`.
    """

    protocol = Protocol.SMTP
    """What the other side speaks."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        usual = cls.TestCase.settings
        phases = [phase for phase in usual.phases if phase is not Phase.explain]
        cls.TestCase.settings = settings(usual, phases=phases)

    def connect(self) -> None:
        """Begin a session on a fresh connection."""
        raise NotImplementedError

    def send(self, octets: bytes) -> None:
        """Give these octets to what is under test; they may be any part of a line."""
        raise NotImplementedError

    def receive(self) -> bytes:
        """Wait for octets from what is under test; b"": it has ended the connection."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """End the connection. It may have been ended by the other side."""

    def teardown(self) -> None:
        """End the connection that is open last."""
        self.disconnect()

    def _send_in_pieces(self, data: st.DataObject, octets: bytes) -> None:
        pieces = data.draw(splits(octets), label="octets")
        with suppress(ConnectionError):  # then the end is there to be received
            for piece in pieces:
                self.send(piece)

    def _receive(self) -> bytes:
        try:
            return self.receive()
        except ConnectionError:
            return b""


class ClientMachine(_Machine):
    """A client, for a server that is under test.

    It says what is legal, in pieces, alone or pipelined, with parameters of SIZE, 8BITMIME,
    SMTPUTF8 and DSN where these are offered; and what is out of order, which a server has to refuse
    and otherwise ignore. Each command must get one reply, and lead where that reply says: what is
    legal there must not be refused as out of order. What the server makes of a message is looked at
    where `taken` tells that. STARTTLS is not said.

    `credentials`: a user name and a password that the server knows. With them the client also logs
    in by PLAIN, where that is offered: wrongly, which must fail, and rightly, which must not, but
    with 4xx: some servers want time behind a wrong one.
    """

    credentials: tuple[str, str] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._begin()

    def _begin(self) -> None:
        self.connect()
        self.engine = ClientConnection(protocol=self.protocol)
        self._reverse_path: ReversePath = NULL_REVERSE_PATH
        self._forward_paths: list[ForwardPath] = []  # those that were accepted
        self._content = b""
        self._utf8 = False  # whether the mail transaction has SMTPUTF8
        self._hear(["the connection"])

    def taken(self) -> tuple[Envelope, bytes] | None:
        """Return the message that the server has taken last; None, as here: nobody can tell.

        Override it, and the addresses and the content are compared with what was said, whenever a
        message was accepted.
        """
        return None

    # --- What is said ------------------------------------------------------------------------

    @precondition(lambda self: self._may_command())
    @rule(data=st.data())
    def say(self, data: st.DataObject) -> None:
        """A command that is legal now."""
        kinds = [kind for kind in _KINDS if self.engine.can_send(_EXAMPLES[kind])]
        self._ask(data, [self._command(data, data.draw(st.sampled_from(kinds)))])

    @precondition(
        lambda self: self._may_command() and self.engine.can_send(Mail(NULL_REVERSE_PATH))
    )
    @precondition(lambda self: self.engine.capabilities.pipelining)
    @rule(
        data=st.data(),
        recipients=st.integers(1, 3),
        then=st.sampled_from([None, Rset(), Data()]),
        octets=content(),
    )
    def pipeline(
        self, data: st.DataObject, recipients: int, then: Command | None, octets: bytes
    ) -> None:
        """The beginning of a transaction, in one flight. RFC 2920 3.1"""
        mail = self._command(data, Mail)
        utf8 = isinstance(mail, Mail) and mail.parameters.smtputf8
        flight = [mail, *(self._command(data, Rcpt, utf8=utf8) for _ in range(recipients))]
        self._ask(data, flight if then is None else [*flight, then])
        self._send_content(data, octets)

    @precondition(lambda self: self._may_deliver(Data()))
    @rule(data=st.data(), octets=content())
    def deliver(self, data: st.DataObject, octets: bytes) -> None:
        """DATA, and the content if the server wants it."""
        if not self._address(data, Data()):
            return
        self._ask(data, [Data()])
        self._send_content(data, octets)

    @precondition(lambda self: self.engine.capabilities.chunking)
    @precondition(lambda self: self._may_deliver(_CHUNK))
    @rule(data=st.data(), octets=content(), last=st.booleans())
    def deliver_in_chunks(self, data: st.DataObject, octets: bytes, last: bool) -> None:
        """BDAT, with all of the content or with some of it. RFC 3030 2"""
        if not self._address(data, _CHUNK):
            return
        chunks = data.draw(splits(octets), label="chunks") or [b""]
        for number, chunk in enumerate(chunks, 1):
            ends = last and number == len(chunks)
            self._content += chunk
            self._send_in_pieces(data, self.engine.send_chunk(chunk, ends))
            answers = self._hear(["BDAT"] * self.engine.outstanding)
            for answer in answers:
                self._require_no_503("BDAT", answer.reply)
            if not all(answer.reply.positive for answer in answers):
                # Before that nobody knows the state.  RFC 3030 2
                self._ask(data, [Rset()] * self.engine.can_send(Rset()))
                return
            if ends:
                self._check_taken(answers)

    @precondition(lambda self: self._may_command())
    @rule(data=st.data())
    def say_out_of_order(self, data: st.DataObject) -> None:
        """A command that is not legal now: it must be refused, and nothing else. RFC 5321 4.1.4"""
        kinds = [kind for kind in _IN_ORDER if self._out_of_order(kind)]
        command = self._command(data, data.draw(st.sampled_from(kinds)))
        self._send_in_pieces(data, command.encode())
        line = command_line(command)
        reply = self._hear_one(line)
        _require(
            reply.transient or reply.permanent,
            f"{line} was answered by {reply} in the state {self.engine.state.name}",
        )

    @precondition(lambda self: self.engine.can_send(_log_in(("", ""))))
    @precondition(lambda self: self.credentials is not None)
    @precondition(lambda self: "PLAIN" in self.engine.capabilities.auth)
    @rule(data=st.data(), right=st.booleans())
    def log_in(self, data: st.DataObject, right: bool) -> None:
        """AUTH PLAIN: 235 or later, or with a wrong password anything but 235. RFC 4954 4, 6"""
        user, password = self.credentials or ("", "")
        auth = _log_in((user, password if right else password + "x"))
        for answer in self._ask(data, [auth]):
            _require(
                answer.reply.positive is right or answer.reply.transient,
                f"the {'right' if right else 'wrong'} password is answered by {answer.reply}",
            )

    @precondition(lambda self: self._may_command())
    @rule(data=st.data(), length=st.integers(600, 20_000))
    def say_too_much(self, data: st.DataObject, length: int) -> None:
        """A line that is too long: one reply, whatever it says. RFC 5321 4.5.3.1.4"""
        self._send_in_pieces(data, b"NOOP " + b"x" * length + b"\r\n")
        self._hear_one(f"NOOP and {length} octets")

    @precondition(lambda self: self.engine.can_send(Quit()))
    @rule()
    def quit(self) -> None:
        """QUIT, behind which there is nothing but the end."""
        self.send(self.engine.send(Quit()))
        self._hear_one("QUIT", last=True)
        said = self._receive()
        _require(not said, f"behind the reply to QUIT the server says {said!r}")

    # No rule: hypothesis leaves some of them out, and without this one it could not go on.
    @invariant()
    def begin_again(self) -> None:
        """Another session, where one is over."""
        if self.engine.finished:
            self.disconnect()
            self._begin()

    # --- What is heard -----------------------------------------------------------------------

    def _may_command(self) -> bool:
        return self.engine.can_send(Noop())

    def _may_deliver(self, command: Command) -> bool:
        return self.engine.can_send(command) or self.engine.can_send(Mail(NULL_REVERSE_PATH))

    def _address(self, data: st.DataObject, command: Command) -> bool:
        """Say for whom a message is, unless that is said; return whether it may come now."""
        for kind in (Mail, Rcpt):
            if self.engine.can_send(_EXAMPLES[kind]) and not self.engine.can_send(command):
                self._ask(data, [self._command(data, kind)])
        return self.engine.can_send(command)

    def _command(
        self, data: st.DataObject, kind: type[Command], *, utf8: bool | None = None
    ) -> Command:
        utf8 = self._utf8 if utf8 is None else utf8
        return data.draw(_command(kind, self.engine.capabilities, utf8), label="command")

    def _send_content(self, data: st.DataObject, octets: bytes) -> None:
        """Say the content, if the server wants it; a dot alone where it is for nobody."""
        if self.engine.state is not State.DATA:
            return
        # RFC 2920 3.1
        self._content = octets if self._forward_paths else b""
        encoded = self.engine.send_content(octets) if self._forward_paths else b""
        self._send_in_pieces(data, encoded + self.engine.end_content())
        answers = self._hear(["the content"] * self.engine.outstanding)
        if self._forward_paths:
            self._check_taken(answers)

    def _out_of_order(self, kind: type[Command]) -> bool:
        state = self.engine.state
        return (state, kind) not in _IN_DOUBT and not legal(state, move_of(_EXAMPLES[kind]))

    def _ask(self, data: st.DataObject, asked: list[Command]) -> list[ReplyReceived]:
        octets = b"".join(map(self.engine.send, asked))
        self._send_in_pieces(data, octets)
        lines = [command_line(command) for command in asked]
        answers = self._hear(lines)
        for line, answer in zip(lines, answers, strict=False):  # 421 may end it
            if len(asked) == 1:
                self._require_no_503(line, answer.reply)
        return answers

    def _hear(self, asked: Sequence[str]) -> list[ReplyReceived]:
        """Hear a reply to each and no more, unless the last one ends the session."""
        heard: list[ReplyReceived] = []
        while len(heard) < len(asked) and not self.engine.finished:
            event = self.engine.next_event()
            if isinstance(event, ReplyReceived):
                heard.append(event)
                self._take_note(event)
            else:
                self.engine.receive_data(self._receive_some(asked[len(heard) :]))
        if not self.engine.finished:
            self.engine.next_event()  # raises if there is more: nothing has asked for it
        return heard

    def _take_note(self, answer: ReplyReceived) -> None:
        """Keep what the server has agreed to."""
        match answer.command:
            case Mail(reverse_path, parameters) if answer.reply.positive:
                self._reverse_path, self._forward_paths, self._content = reverse_path, [], b""
                self._utf8 = parameters.smtputf8
            case Rcpt(forward_path) if answer.reply.positive:
                self._forward_paths.append(forward_path)
            case _:
                pass

    def _check_taken(self, answers: Sequence[ReplyReceived]) -> None:
        """Compare the message that the server has accepted, for all, with what was said."""
        if not all(answer.reply.positive for answer in answers) or (taken := self.taken()) is None:
            return
        envelope, octets = taken
        for name, its, ours in (
            ("reverse-path", envelope.reverse_path, self._reverse_path),
            ("forward-paths", envelope.forward_paths, tuple(dict.fromkeys(self._forward_paths))),
            ("content", octets, self._content),
        ):
            _require(its == ours, f"the server has taken the {name} {its!r} in place of {ours!r}")

    @staticmethod
    def _require_no_503(asked: str, reply: Reply) -> None:
        _require(reply.code != 503, f"{asked} is legal in this state, and answered by {reply}")

    def _hear_one(self, asked: str, *, last: bool = False) -> Reply:
        """Hear one reply and no more. The engine hears of it only if it is the `last`, or 421."""
        buffer = ReceiveBuffer()
        reader = ReplyReader(Limits())
        octets = b""
        while (reply := reader.read(buffer)) is None:
            octets += (received := self._receive_some([asked]))
            buffer.feed(received)
        _require(not len(buffer), f"one command, and more than one reply: {octets!r}")
        if last or reply.code == 421:
            self.engine.receive_data(octets)
            self._hear([asked])
        return reply

    def _receive_some(self, unanswered: Sequence[str]) -> bytes:
        octets = self._receive()
        _require(
            octets,
            f"the server hung up in the state {self.engine.state.name}, "
            f"and did not answer {', '.join(unanswered)}",
        )
        return octets


def _some_of(words: Sequence[str]) -> st.SearchStrategy[list[str]]:
    # Of nothing at all hypothesis makes no choice.
    return st.lists(st.sampled_from(words), unique=True) if words else st.just([])


_EXAMPLES: Mapping[type[Command], Command] = {
    Ehlo: Ehlo("client.example"),
    Helo: Helo("client.example"),
    Lhlo: Lhlo("client.example"),
    Mail: Mail(NULL_REVERSE_PATH),
    Rcpt: Rcpt(POSTMASTER),
    Data: Data(),
    Rset: Rset(),
    Vrfy: Vrfy("someone"),
    Expn: Expn("list"),
    Help: Help(),
    Noop: Noop(),
}
# Some more often than others, so that most sessions come to content.
_KINDS = (*(kind for kind in _EXAMPLES if kind is not Data), *[Ehlo, Lhlo, Mail, Rcpt] * 4)
_IN_ORDER = (Mail, Rcpt, Data)
_CHUNK: Command = Bdat(0, last=True)
_IN_DOUBT = {
    (State.MAIL, Data),  # some servers take the content for nobody, to drop it.  RFC 2920 3.1
    (State.BDAT, Data),  # nobody knows the state behind it.  RFC 3030 2
}


def _log_in(credentials: tuple[str, str]) -> Auth:
    return Auth("PLAIN", "\0".join(("", *credentials)).encode())  # RFC 4616 2


def _command(kind: type[Command], offered: Capabilities, utf8: bool) -> st.SearchStrategy[Command]:
    """Return commands of a class, as a server with these capabilities understands them.

    `utf8`: whether SMTPUTF8 was said with MAIL.
    """
    if kind is Mail:
        return _mails(offered)
    if kind is Rcpt:
        parameters = _rcpt_parameters if "DSN" in offered else st.just(NO_RCPT_PARAMETERS)
        return st.builds(Rcpt, forward_paths(ascii_only=not utf8), parameters)
    if kind in (Ehlo, Helo, Lhlo):
        return commands(kind)
    return st.just(_EXAMPLES[kind])


@st.composite
def _mails(draw: st.DrawFn, offered: Capabilities) -> Mail:
    # BODY is not 7BIT, for content has other octets, and not BINARYMIME, which forbids DATA.
    drawn = draw(mail_parameters())
    parameters = MailParameters(
        size=draw(st.none() | st.integers(0, 1_000)) if "SIZE" in offered else None,
        body=Body.EIGHT_BIT_MIME if drawn.body and "8BITMIME" in offered else None,
        smtputf8=drawn.smtputf8 and "SMTPUTF8" in offered,
        ret=drawn.ret if "DSN" in offered else None,
        envid=drawn.envid if "DSN" in offered else None,
    )
    return Mail(draw(reverse_paths(ascii_only=not parameters.smtputf8)), parameters)


def _without_utf8(parameters: RcptParameters) -> RcptParameters:
    """Return what any server with DSN understands."""
    recipient = parameters.orcpt
    plain = recipient is not None and recipient.address_type == "rfc822"
    return RcptParameters(parameters.notify, recipient if plain else None)


_rcpt_parameters = rcpt_parameters().map(_without_utf8)


class ServerMachine(_Machine):
    """A server, for a client that is under test.

    It answers as it likes: yes, no, later, or 421, with any text and in pieces. Whatever the client
    says must be legal at that moment, and it must wait for the reply unless it may pipeline.

    `keywords`: what the reply to EHLO or LHLO offers; each session has some of them. Nothing is
    played of STARTTLS and AUTH: do not offer them.
    """

    keywords: Sequence[str] = ("PIPELINING", "8BITMIME", "SIZE 1000000", "CHUNKING", "DSN")

    def __init__(self) -> None:
        super().__init__()
        self._begin()

    def _begin(self) -> None:
        self.connect()
        self.engine = ServerConnection(protocol=self.protocol, trace=self._trace)
        self._event: ServerEvent | None = None  # None: the greeting is due
        self._ended = False
        self._heard = b""
        self._traced = ""  # the last line of the client, as a trace shows it

    @rule(data=st.data(), temper=st.sampled_from([2, 2, 2, 2, 4, 5, 421]))
    def answer(self, data: st.DataObject, temper: int) -> None:
        """A reply to what the client has said last."""
        reply = data.draw(self._replies(temper), label="reply")
        self._send_in_pieces(data, self.engine.send_reply(reply))
        if not self.engine.finished:
            self._listen()

    @invariant()
    def begin_again(self) -> None:
        """Another session, where one is over."""
        if self._ended or self.engine.finished:
            self.disconnect()
            self._begin()

    def _replies(self, temper: int) -> st.SearchStrategy[Reply]:
        """Replies to the event, of this temper: the first digit of a code, or 421."""
        event = self._event
        if temper == 421:
            return replies(st.just(421))
        if temper != 2 or isinstance(event, CommandRefused):
            return replies(st.integers(400, 599).filter(lambda code: code != 421))
        if not isinstance(event, CommandReceived):
            return replies(st.just(220 if event is None else 250))
        match event.command:
            case Ehlo() | Lhlo():
                return _some_of(self.keywords).map(
                    lambda chosen: Reply(250, ("server.example", *chosen))
                )
            case Data():
                return replies(st.just(354))
            case Quit():
                return replies(st.just(221))
            case _:
                return replies(st.integers(200, 299))

    def _listen(self) -> None:
        """Wait for the next thing that wants a reply, or for the end."""
        in_flight = self.engine.unread > 0
        while True:
            event = self.engine.next_event()
            if event is NEED_DATA:
                self._hear(self._receive())
            elif isinstance(event, ConnectionEnded):
                self._ended = True
                return
            elif not isinstance(event, ContentReceived):
                break
        if isinstance(event, Signal):
            return  # LMTP: another reply to the same
        _require(
            in_flight or not isinstance(event, CommandRefused),
            f"the client said what is not legal in the state {self.engine.state.name}: "
            f"{self._last_line()}",
        )
        _require(
            not self.engine.unread or self.engine.capabilities.pipelining,
            f"the client has not waited for the reply to {self._last_line()}",
        )
        self._event = event

    def _hear(self, octets: bytes) -> None:
        self._heard += octets
        if octets:
            self.engine.receive_data(octets)
        else:
            self.engine.receive_eof()

    def _trace(self, speaker: Speaker, line: str) -> None:
        if speaker is Speaker.CLIENT:
            self._traced = line
            note(f"the client says {line}")

    def _last_line(self) -> str:
        """What may be shown of the line that the engine has read last.

        A trace hides each line that is no command. Where the fault lies in what stands behind the
        verb, there is no secret in it.
        """
        read = self._heard[: len(self._heard) - self.engine.unread]
        line = read.removesuffix(b"\n").removesuffix(b"\r").rpartition(b"\n")[2]
        if line.partition(b" ")[0].upper() in _VERBS_WITHOUT_SECRETS:
            return escaped(line.decode("utf-8", "surrogateescape"))
        return self._traced


_VERBS_WITHOUT_SECRETS = (b"EHLO", b"HELO", b"LHLO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET")
