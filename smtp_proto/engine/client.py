"""The client's side of a session: what is legal to send now, and which reply answers what.

Knows the order of things, and what the extensions and LMTP make of it.
Must not know what anybody wants to send, nor when, nor over what.
"""

from collections.abc import Iterable
from typing import Literal

from smtp_proto.engine.connection import DEFAULT_LIMITS
from smtp_proto.engine.errors import LocalProtocolError, RemoteProtocolError
from smtp_proto.engine.events import (
    NEED_DATA,
    ClientEvent,
    ConnectionEnded,
    EndOfContent,
    ReplyReceived,
    Request,
    Signal,
    Unsolicited,
)
from smtp_proto.engine.pipeline import Pipeline
from smtp_proto.engine.table import (
    EXPECTED,
    FAIL,
    FOREIGN,
    GROUP_ENDERS,
    LEGAL,
    MORE,
    MOVES,
    OK,
    OUTCOMES,
    TABLE,
    Move,
    Outcome,
    Protocol,
    State,
    move_of,
)
from smtp_proto.engine.trace import Speaker, Trace, command_line, content_line, reply_lines
from smtp_proto.wire import (
    Auth,
    AuthResponse,
    Bdat,
    Body,
    Capabilities,
    Command,
    ContentEncoder,
    Data,
    Ehlo,
    ForwardPath,
    Helo,
    Lhlo,
    Limits,
    LineEndings,
    Mail,
    Octets,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    WireError,
)

_CONTENT_END = EndOfContent()

# Looked at for each recipient: in Python 3.11 an attribute of an Enum is slow to find.
_RCPT = Move.RCPT
_CONTENT = Move.CONTENT
_DATA = State.DATA


def _accepts(request: Request, reply: Reply) -> bool:
    """Say whether a recipient is accepted, in one line."""
    return isinstance(request, Rcpt) and reply.positive and len(reply.lines) == 1


class ClientConnection(Pipeline):
    """One session as the client sees it.

    look     state, projected, capabilities, outstanding, pipelining, authenticated, secure,
             finished, can_send()
    feed     receive_data(), receive_eof(), tls_started(), send_failed()
    command  send(), send_group(), send_content(), end_content(), send_chunk(): each returns octets
             to write
    poll     next_event(), next_replies()

    Write all that the commands return, in order; feed all that comes in, then poll until there
    is no event. The first event answers the connection itself: the greeting.

    Raises LocalProtocolError where you ask for what is not legal (nothing has changed), and
    RemoteProtocolError where the server breaks the protocol (nothing goes on: close).
    """

    __slots__ = (
        "_accepted",
        "_binary",
        "_encoder",
        "_line_endings",
        "_pipelining_wanted",
        "_protocol",
        "_rounds",
    )

    def __init__(
        self,
        *,
        protocol: Protocol = Protocol.SMTP,
        limits: Limits = DEFAULT_LIMITS,
        pipelining: bool = True,
        secure: bool = False,
        line_endings: LineEndings = LineEndings.NORMALISE,
        trace: Trace | None = None,
    ) -> None:
        """Begin a session on a fresh connection.

        `pipelining`: use it where it is offered. `secure`: TLS was there before the greeting.
        `line_endings`: what to do with a bare CR or LF in content behind DATA. `trace` is told
        each line, both ways, without secrets and content.
        """
        super().__init__(limits, secure=secure, trace=trace)
        self._protocol = protocol
        self._line_endings = line_endings
        self._pipelining_wanted = pipelining
        self._rounds = 0  # challenges in this AUTH exchange
        self._binary = False  # the last MAIL announced BINARYMIME
        self._accepted: list[ForwardPath] = []  # in this transaction
        self._encoder: ContentEncoder | None = None

    # --- Look --------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers, by its last reply to EHLO, HELO or LHLO."""
        return self._capabilities

    def can_send(self, command: Command | AuthResponse) -> bool:
        """Say whether `command` is legal now. Of a chunk, `Bdat` says only if it is the last."""
        return self._obstacle(command, move_of(command), self.projected) is None

    # --- Command -----------------------------------------------------------------------------

    def send(self, command: Command | AuthResponse) -> bytes:
        """Return the octets of `command`; its reply will come as an event.

        Raises LocalProtocolError if it is not legal now. For BDAT there is `send_chunk()`.
        """
        return self.send_group((command,))

    def send_group(self, commands: Iterable[Command | AuthResponse]) -> bytes:
        """Return the octets of commands that go out together, as `send()` would one by one.

        Raises LocalProtocolError if one of them is not legal in its place: then none is sent.
        """
        commands = tuple(commands)  # they are looked at twice
        queue = self._queue
        outstanding, binary, state = len(queue), self._binary, self.projected
        lines: list[bytes] = []
        legal_again: Move | None = None  # where it has led, it leads once more
        try:
            for command in commands:
                move = MOVES.get(type(command))
                if move is None:
                    raise LocalProtocolError(  # noqa: TRY301 - the others are to be taken back
                        f"it takes a command, like Quit(), and not a {type(command).__name__}; "
                        "for BDAT there is send_chunk()"
                    )
                if move is not legal_again:
                    obstacle = self._obstacle(command, move, state)
                    if obstacle is not None:
                        raise LocalProtocolError(obstacle)  # noqa: TRY301
                    state = EXPECTED[state, move]
                    # Of recipients there may be a thousand.
                    legal_again = move if move is _RCPT and self._pipelining else None
                    if isinstance(command, Mail):
                        self._binary = command.parameters.body is Body.BINARY_MIME
                lines.append(command.encode())
                queue.append((command, move))
        except BaseException:
            self._binary = binary
            while len(queue) > outstanding:
                queue.pop()
            raise
        if lines and not outstanding:
            self._early = self._heard_early()
        self._projected = state
        self._show(commands)
        return b"".join(lines)

    def _show(self, commands: Iterable[Command | AuthResponse]) -> None:
        if self._trace is not None:
            for command in commands:
                self._trace(Speaker.CLIENT, command_line(command))

    def send_content(self, data: Octets) -> bytes:
        """Return the octets of the next piece of the content; there may be none.

        Legal once DATA was answered by 354, if any recipient was accepted; if none was, call
        `end_content()` at once. RFC 2920 3.1

        Raises WireError for a bare CR or LF if these are to be refused: the message cannot be
        ended any more, so close the connection.
        """
        if self._encoder is None:
            raise LocalProtocolError("content is legal only behind 354, and for a recipient")
        if self._trace is not None:
            self._trace(Speaker.CLIENT, content_line(memoryview(data).nbytes))
        return self._encoder.encode(data)

    def end_content(self) -> bytes:
        """Return the end of the content. Its reply, in LMTP its replies, will come as events.

        Raises WireError like `send_content()`.
        """
        if self._state is not _DATA or self._queue or not self._sendable:
            raise LocalProtocolError("the content ends only behind 354, and once")
        octets = ContentEncoder().end() if self._encoder is None else self._encoder.end()
        self._encoder = None
        self._ask_for_each_recipient(_CONTENT_END, Move.CONTENT)
        if self._trace is not None:
            self._trace(Speaker.CLIENT, ".")
        return octets

    def send_chunk(self, data: Octets, last: bool = False) -> bytes:
        """Return a BDAT command with its octets, which go out as they are. RFC 3030 2

        Its reply will come as an event, in LMTP a reply for each recipient if it is the `last`.
        Raises LocalProtocolError if it is not legal now.
        """
        chunk = Bdat(memoryview(data).nbytes, last)
        move = move_of(chunk)
        obstacle = self._obstacle(chunk, move, self.projected)
        if obstacle is not None:
            raise LocalProtocolError(obstacle)
        octets = b"".join((chunk.encode(), data))
        if last:
            self._ask_for_each_recipient(chunk, move)
        else:
            self._ask(chunk, move)
        if self._trace is not None:
            self._trace(Speaker.CLIENT, command_line(chunk))
            self._trace(Speaker.CLIENT, content_line(chunk.size))
        return octets

    def _ask_for_each_recipient(self, request: Request, move: Move) -> None:
        """Take note of the end of the content. In LMTP that is one for each recipient."""
        # RFC 2033 4.2
        recipients = self._accepted if self._protocol is Protocol.LMTP else []
        for recipient in recipients[:-1]:
            self._ask(EndOfContent(recipient), Move.RECIPIENT)
        self._ask(EndOfContent(recipients[-1]) if recipients else request, move)

    # --- What is legal -----------------------------------------------------------------------

    def _obstacle(self, command: Command | AuthResponse, move: Move, state: State) -> str | None:
        """Return why `command` is not legal behind all that leads to `state`; None if it is."""
        queue = self._queue
        if queue and (not self._pipelining or queue[-1][1] in GROUP_ENDERS):
            last = queue[-1][1]
            awaited = "greeting" if last is Move.CONNECT else f"reply to {last.value}"
            return f"{move.value}: wait for the {awaited}"
        if (state, move) not in LEGAL:
            return f"{move.value} is not legal in the state {state.value}"
        # Of RCPT the table knows all.
        if move is _RCPT:
            return None
        match command:
            case Mail():
                return self._remains_obstacle(move)
            case Bdat():
                return self._chunk_obstacle(command)
            case Data() if self._binary:
                # RFC 3030 3
                return "DATA: content announced as BINARYMIME goes by BDAT"
            case StartTls() if self._secure:
                # RFC 3207 4.2
                return "STARTTLS: TLS is there"
            case StartTls() | Auth() if self._authenticated:
                # Once is enough, and not in clear text with TLS to come.  RFC 4954 4
                return f"{move.value}: authenticated already"
            case _ if move in FOREIGN[self._protocol]:
                return f"{move.value} is no command of {self._protocol.value}"
            case _:
                return None

    def _chunk_obstacle(self, chunk: Bdat) -> str | None:
        # RFC 3030 2
        if not self._capabilities.chunking:
            return "BDAT: the server does not offer CHUNKING"
        # How many replies come is certain only when all recipients are.  RFC 2033 4.3
        if chunk.last and self._protocol is Protocol.LMTP:
            if self._queue:
                return "BDAT LAST: in LMTP wait for all replies first"
            if not self._accepted:
                return "BDAT LAST: no recipient was accepted; send RSET"
        return None

    # --- Feed --------------------------------------------------------------------------------

    def send_failed(self) -> None:
        """Take note that the transport could not write: nothing is legal to send from now on.

        What the server said before is still read: feed it, or the end, and poll.
        """
        super().send_failed()
        self._encoder = None

    # --- Poll --------------------------------------------------------------------------------

    def next_event(self) -> ClientEvent | Literal[Signal.NEED_DATA]:
        """Return the next reply with the request that it answers, ConnectionEnded, or NEED_DATA.

        Raises RemoteProtocolError, from then on at each call, if the server breaks the protocol
        or has closed the connection before its time. Any other exception is a bug.
        """
        if self._error is not None:
            raise self._error
        try:
            reply = self._reader.read(self._buffer)
        except WireError as error:
            raise self._broken(str(error)) from error
        if reply is not None:
            return ReplyReceived(self._answered(reply), reply)
        return self._end() if self._input_ended else NEED_DATA

    def next_replies(self) -> list[tuple[Request, Reply]]:
        """Return all replies that are there, each with the outstanding request that it answers.

        They are what `next_event()` would return one by one; there may be none. Whatever else is
        there, and the error that they may end in, is still to come from `next_event()`.
        """
        queue, add, maximum = self._queue, self._reader.add, self._limits.reply_line
        replies: list[tuple[Request, Reply]] = []
        usual: bytes | None = None  # what this server says to a recipient that it accepts
        reply: Reply | None = None
        try:
            # A reply has one line at least: none is taken that answers nothing.
            while queue and (lines := self._buffer.take_lines(len(queue), maximum, "reply_line")):
                for line in lines:
                    request = queue[0][0]
                    if line == usual and reply is not None and isinstance(request, Rcpt):
                        # The state stays as it is, and there may be a thousand of them.
                        queue.popleft()
                        self._accepted.append(request.forward_path)
                        replies.append((request, reply))
                    else:
                        reply = add(line)
                        if reply is None:
                            continue
                        replies.append((self._answered(reply), reply))
                        usual = line if self._trace is None and _accepts(request, reply) else None
                    if not queue:
                        return replies
        except WireError as error:
            self._broken(str(error)).__cause__ = error
        except RemoteProtocolError:
            pass  # it is kept
        return replies

    def _answered(self, reply: Reply) -> Request:
        """Let a reply have its effect; return what it answers."""
        queue = self._queue
        if self._trace is not None:
            to_auth = bool(queue) and isinstance(queue[0][0], Auth | AuthResponse)
            for line in reply_lines(reply, to_auth=to_auth):
                self._trace(Speaker.SERVER, line)
        code = reply.code
        if code == 421:
            return self._answered_at_last(Unsolicited.UNSOLICITED)
        outcome = OUTCOMES[code // 100]
        if self._early or not queue:
            return self._answered_early(reply, outcome)
        request, move = queue.popleft()
        state = TABLE.get((self._state, move, outcome))
        if state is None:
            raise self._broken(f"{code} to {move.value} in the state {self._state.value}")
        if isinstance(request, Rcpt):
            if outcome is OK:
                self._accepted.append(request.forward_path)
        elif move is not _CONTENT:
            self._take_note(request, outcome, reply)
        self._state = state
        if outcome is not OK:
            self._projected = None
        return request

    def _answered_at_last(self, if_unasked: Request) -> Request:
        """Take a reply after which there is no other."""
        request = self._queue[0][0] if self._queue else if_unasked
        self._close()
        return request

    def _answered_early(self, reply: Reply, outcome: Outcome) -> Request:
        """Take a reply that was there before anything asked for it.

        A server may refuse the content before it has all of it; that the message was delivered
        it cannot say before.
        """
        if self._state is State.DATA and outcome is FAIL:
            return self._answered_at_last(_CONTENT_END)
        raise self._broken(f"{reply.code} in answer to nothing")

    def _end(self) -> ConnectionEnded:
        if len(self._buffer) or self._reader.partial:
            raise self._broken("the stream ended within a reply")
        refused = self._state is State.GREETING and not self._queue
        leaving = [move for _, move in self._queue] == [Move.QUIT]
        if refused or leaving or self._state is State.CLOSED:
            return self._ended()
        count = len(self._queue)
        replies = f"{count} reply" if count == 1 else f"{count or 'no'} replies"
        raise self._broken(
            f"the stream ended in the state {self._state.value}, with {replies} outstanding"
        )

    def _close(self) -> None:
        super()._close()
        self._encoder = None

    # --- What a reply brings about, besides the state ----------------------------------------

    def _take_note(self, request: Request, outcome: Outcome, reply: Reply) -> None:
        match request:
            case Mail() if outcome is OK:
                self._accepted = []
            case Data() if outcome is MORE:
                self._begin_content()
            case Bdat():
                self._unclear = outcome is FAIL
            case Rset():
                self._reset_answered(outcome)
            case Ehlo() | Lhlo() if outcome is OK:
                self._identified(Capabilities.from_reply(reply))
            case Helo() if outcome is OK:
                self._identified(Capabilities.from_helo(reply))
            case StartTls() if outcome is OK:
                self._check_border(reply)
            case Auth() | AuthResponse():
                self._authentication_answered(request, outcome)
            case Quit():
                self._close()
            case _:
                pass

    def _reset_answered(self, outcome: Outcome) -> None:
        if outcome is OK:
            self._unclear = False
        elif self._queue:
            # It must be accepted, and the next message is on its way.  RFC 5321 4.1.1.5
            raise self._broken("RSET refused, with commands behind it")

    def _begin_content(self) -> None:
        if self._accepted:
            self._encoder = ContentEncoder(self._line_endings)
        elif self._protocol is Protocol.LMTP:
            # How many replies would come is anybody's guess.  RFC 2033 4.2
            raise self._broken("DATA accepted without a recipient")

    def _identified(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._pipelining = self._pipelining_wanted and capabilities.pipelining
        self._unclear = False

    def _check_border(self, reply: Reply) -> None:
        """Make sure that there is nothing between STARTTLS and TLS."""
        # RFC 3207 4
        if reply.code != 220:
            raise self._broken(f"{reply.code} to STARTTLS")
        # Whoever put it there wants it read as if it came by TLS.  RFC 3207 4.2
        if len(self._buffer):
            raise self._broken("clear text behind the reply to STARTTLS")

    def _authentication_answered(self, request: Auth | AuthResponse, outcome: Outcome) -> None:
        if isinstance(request, Auth):
            self._rounds = 0
        elif request.data is None and outcome is not FAIL:
            # RFC 4954 4
            raise self._broken("AUTH goes on though it was cancelled")
        if outcome is MORE:
            self._rounds += 1
            if self._rounds > self._limits.auth_rounds:
                raise self._broken(f"more than {self._limits.auth_rounds} challenges to AUTH")
        self._authenticated = outcome is OK
