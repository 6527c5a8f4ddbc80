"""The server's side of a session: which commands are legal now, and which reply is due.

Knows the order of things, and where a line or content ends and the next command begins.
Must not know what becomes of a message, nor who may send one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from smtp_proto.engine import refusals
from smtp_proto.engine.connection import DEFAULT_LIMITS, Connection
from smtp_proto.engine.errors import LocalProtocolError
from smtp_proto.engine.events import (
    NEED_DATA,
    PAUSED,
    AuthResponseReceived,
    CommandReceived,
    CommandRefused,
    ConnectionEnded,
    ContentEnded,
    ContentReceived,
    ServerEvent,
    Signal,
)
from smtp_proto.engine.table import (
    FAIL,
    FOREIGN,
    LEGAL,
    OK,
    TABLE,
    Move,
    Outcome,
    Protocol,
    State,
    move_of,
    outcome_of,
)
from smtp_proto.engine.trace import (
    Speaker,
    Trace,
    broken_line,
    command_line,
    content_line,
    reply_lines,
)
from smtp_proto.engine.transaction import Content, Transaction
from smtp_proto.wire import (
    Auth,
    AuthResponse,
    BareLineEndings,
    Bdat,
    Capabilities,
    Command,
    CommandError,
    ContentDecoder,
    Data,
    Ehlo,
    Helo,
    Lhlo,
    LimitExceeded,
    Limits,
    Mail,
    OtherCommand,
    Rcpt,
    Reply,
    StartTls,
    parse_command,
)

_NeedData: TypeAlias = Literal[Signal.NEED_DATA]

# When the MAIL of a pipelined group is refused, the rest of it comes all the same: no fault.
# RFC 2920 3.1
_MAY_FOLLOW = frozenset({Move.RCPT, Move.DATA, Move.BDAT, Move.BDAT_LAST})

# Commands that a client has to wait behind, and what is said to one that does not.
_IMPATIENCE: Mapping[type[Command], tuple[str, Reply]] = {
    StartTls: ("clear text behind STARTTLS", refusals.NOT_YET_TLS),  # RFC 3207 4.2
    Auth: ("octets behind AUTH", refusals.NOT_YET_ANSWERED),  # RFC 4954 4, RFC 2920 3.1
}

_OF_A_LOGIN = frozenset({Move.AUTH, Move.AUTH_RESPONSE})
_NO_TRANSACTION = frozenset({State.HELO, State.READY})
_SILENT = frozenset({State.TLS, State.CLOSED})
# In these the client is in the middle of something.
_BUSY = frozenset({State.DATA, State.AUTH, State.TLS})


@dataclass(slots=True)
class _Due:
    """What the next reply answers."""

    move: Move
    command: Command | AuthResponse | None = None
    refused: bool = False
    """Whether only a negative reply will do."""
    replies: int = 1
    """How many are due: in LMTP one for each recipient."""


@dataclass(slots=True)
class _Chunk:
    """The octets behind a BDAT: they are read whatever is thought of them. RFC 3030 2"""

    remaining: int
    wanted: bool
    """Whether they are content; else they are dropped."""
    event: ContentEnded | CommandRefused
    """What is to be said when all of them are there."""
    due: _Due


class ServerConnection(Connection):
    """One session as the server sees it.

    look     state, authenticated, secure, capabilities, recipients_accepted, unread, finished
    feed     receive_data(), receive_eof(), tls_started()
    command  send_reply(): returns octets to write
    poll     next_event()

    It begins with a reply, the greeting. From then on: feed what comes in and poll; each event
    but a piece of content wants a reply, and until then polling gives PAUSED. Pipelined commands
    wait in the buffer.

    Raises LocalProtocolError where you reply what is not legal (nothing has changed), and
    RemoteProtocolError where the client breaks the protocol beyond repair: close.
    """

    __slots__ = (
        "_bare_line_endings",
        "_chunk",
        "_content",
        "_due",
        "_errors",
        "_first_line",
        "_overlong",
        "_protocol",
        "_transaction",
    )

    def __init__(
        self,
        *,
        protocol: Protocol = Protocol.SMTP,
        limits: Limits = DEFAULT_LIMITS,
        secure: bool = False,
        bare_line_endings: BareLineEndings = BareLineEndings.REFUSE,
        trace: Trace | None = None,
    ) -> None:
        """Begin a session on a fresh connection.

        `secure`: TLS was there before the greeting. `bare_line_endings`: what to do with a bare
        CR or LF in content behind DATA. `trace` is told each line, both ways, without secrets and
        content.
        """
        super().__init__(limits, secure=secure, trace=trace)
        self._protocol = protocol
        self._bare_line_endings = bare_line_endings
        self._due: _Due | None = _Due(Move.CONNECT)
        self._transaction = Transaction(limits.message_size)
        self._content: Content | None = None
        self._chunk: _Chunk | None = None
        self._overlong = False  # within a line that is too long to be read
        self._first_line = True
        self._errors = 0

    # --- Look --------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What is offered: what the reply to EHLO or LHLO said. Set it to offer something else."""
        return self._capabilities

    @capabilities.setter
    def capabilities(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities

    @property
    def recipients_accepted(self) -> int:
        """How many recipients the transaction has."""
        return self._transaction.recipients

    # --- Feed --------------------------------------------------------------------------------

    def tls_started(self) -> None:
        """Take note that the TLS handshake is done: call it when the state is TLS.

        All that the client said is forgotten: it has to say EHLO again. RFC 3207 4.2
        """
        super().tls_started()
        self._first_line = True

    # --- Command -----------------------------------------------------------------------------

    def send_reply(self, reply: Reply) -> bytes:
        """Return the octets of the reply to the last event; the state moves with it.

        421 may be said at any time but before the handshake, and ends the session. RFC 5321 3.8

        Raises LocalProtocolError if no reply is due, or not this one: a positive one to what was
        refused, or one that leads nowhere. Raises RemoteProtocolError for 220 to STARTTLS if the
        client has not waited for it.
        """
        if self._state in _SILENT:
            raise LocalProtocolError(f"nothing can be said in the state {self._state.value}")
        due = self._due
        if reply.code == 421:
            self._show_reply(reply, due)
            self._close()
            return reply.encode()
        if due is None:
            raise LocalProtocolError("no reply is due")
        move = due.move if due.replies == 1 else Move.RECIPIENT
        outcome = outcome_of(reply.code)
        state = TABLE.get((self._state, move, outcome))
        if state is None or (due.refused and outcome is not FAIL):
            raise LocalProtocolError(f"{reply.code} is no answer to {due.move.value} here")
        if state is not self._state:
            self._move_to(state, reply)
        self._show_reply(reply, due)
        due.replies -= 1
        if not due.replies:
            self._due = None
        if outcome is not FAIL:
            self._take_note(due.command, outcome, reply)
        elif isinstance(due.command, Auth | AuthResponse):
            # An error, too; if it is one too many, the next command will hear of it.
            self._errors += reply.permanent
        elif self._too_many_errors:
            self._close()
        return reply.encode()

    def _show_reply(self, reply: Reply, due: _Due | None) -> None:
        if self._trace is not None:
            to_auth = due is not None and due.move in _OF_A_LOGIN
            for line in reply_lines(reply, to_auth=to_auth):
                self._trace(Speaker.SERVER, line)

    def _show_command(self, line: bytes) -> None:
        if self._trace is not None:
            self._trace(Speaker.CLIENT, _shown(line))

    def _show_content(self, octets: bytes) -> None:
        if self._trace is not None:
            self._trace(Speaker.CLIENT, content_line(len(octets)))

    def _move_to(self, state: State, reply: Reply) -> None:
        if state is State.TLS:
            self._check_border(reply)
        self._state = state
        if state in _NO_TRANSACTION:
            self._transaction = Transaction(self._limits.message_size)
        elif state is State.CLOSED:
            self._close()

    def _check_border(self, reply: Reply) -> None:
        """Make sure that there is nothing between STARTTLS and TLS."""
        # RFC 3207 4
        if reply.code != 220:
            raise LocalProtocolError(f"the answer to STARTTLS is 220, not {reply.code}")
        # Whoever put it there wants it obeyed as if it came by TLS.  RFC 3207 4.2
        if self.unread:
            raise self._broken("clear text behind STARTTLS", refusals.NOT_YET_TLS)

    def _close(self) -> None:
        super()._close()
        self._due = None
        self._chunk = None
        self._content = None

    def _take_note(
        self, command: Command | AuthResponse | None, outcome: Outcome, reply: Reply
    ) -> None:
        """Do what a reply that is not negative brings about, besides the state."""
        match command:
            case Rcpt():
                self._transaction.recipients += 1
            case Mail():
                self._transaction = Transaction(self._limits.message_size, command)
            case Ehlo() | Lhlo():
                self._capabilities = Capabilities.from_reply(reply)
            case Helo():
                self._capabilities = Capabilities.from_helo(reply)
            case Data():
                self._content = Content(ContentDecoder(self._bare_line_endings), self._transaction)
            case Auth() | AuthResponse():
                self._authenticated = outcome is OK
            case _:
                pass

    # --- Poll --------------------------------------------------------------------------------

    def next_event(self) -> ServerEvent | Signal:
        """Return the next event, NEED_DATA, or PAUSED while it is your turn.

        Raises RemoteProtocolError, from then on at each call, if the client breaks the protocol
        beyond repair or goes away in the middle of something. Any other exception is a bug.
        """
        if self._error is not None:
            raise self._error
        if self._due is not None:
            return PAUSED
        event = self._read()
        while event is None:
            event = self._read()
        if event is not NEED_DATA:
            return event
        if self._input_ended:
            return self._end()
        return PAUSED if self._state is State.TLS else NEED_DATA

    def _end(self) -> ConnectionEnded:
        # To go away without QUIT is bad manners, and no more.  RFC 5321 4.1.1.5
        busy = self._chunk is not None or self._overlong or self.unread
        if busy or self._state in _BUSY:
            raise self._broken(f"the connection was lost in the state {self._state.value}")
        return self._ended()

    def _read(self) -> ServerEvent | _NeedData | None:
        """Read one thing. None: it was there, and is no event."""
        if self._overlong:
            return self._drop_line()
        if self._chunk is not None:
            return self._read_chunk(self._chunk)
        if self._content is not None:
            return self._read_content(self._content)
        return self._read_response() if self._state is State.AUTH else self._read_command()

    def _read_line(self, maximum: int, limit: str) -> bytes | _NeedData | None:
        try:
            line = self._buffer.take_line(maximum, limit)
        except LimitExceeded:
            self._overlong = True
            return None
        return NEED_DATA if line is None else line

    def _drop_line(self) -> CommandRefused | _NeedData:
        """Read to the end of a line that is too long, so that no part of it is a command."""
        if not self._buffer.drop_line():
            return NEED_DATA
        self._overlong = False
        if self._state is State.AUTH:
            return self._refused(Move.AUTH_RESPONSE, refusals.RESPONSE_TOO_LONG)
        return self._refused(Move.OTHER, refusals.LINE_TOO_LONG)

    def _refused(self, move: Move, reply: Reply, *, fault: bool = True) -> CommandRefused:
        """Refuse what came in. A `fault`, what no sane client sends, is counted."""
        self._errors += fault
        self._due = _Due(move, refused=True)
        # RFC 5321 7.8
        return CommandRefused(refusals.TOO_MANY_ERRORS if self._too_many_errors else reply)

    @property
    def _too_many_errors(self) -> bool:
        return self._errors > self._limits.errors

    # --- Commands ----------------------------------------------------------------------------

    def _read_command(self) -> ServerEvent | _NeedData | None:
        line = self._read_line(self._limits.command_line, "command_line")
        if not isinstance(line, bytes):
            return line
        self._show_command(line)
        if self._first_line and line.partition(b" ")[0] in refusals.HTTP_METHODS:
            raise self._broken("HTTP instead of SMTP", refusals.NOT_SMTP)
        self._first_line = False
        if self._too_many_errors:  # with the last login
            return self._refused(Move.OTHER, refusals.TOO_MANY_ERRORS, fault=False)
        try:
            command = parse_command(line)
        except CommandError as error:
            return self._refuse_line(line, error)
        move = move_of(command)
        refusal = self._order_refusal(command, move)
        if isinstance(command, Bdat):
            self._begin_chunk(command, move, refusal)
            return None
        if refusal is not None:
            return self._refused(move, refusal, fault=move not in _MAY_FOLLOW)
        refusal = refusals.of_command(command, self._transaction, self._capabilities, self._limits)
        if refusal is not None:
            return self._refused(move, refusal, fault=False)
        impatience = _IMPATIENCE.get(type(command))
        if impatience is not None and self.unread:
            raise self._broken(*impatience)
        self._due = _Due(move, command)
        return CommandReceived(command)

    def _refuse_line(self, line: bytes, error: CommandError) -> CommandRefused:
        """Refuse what is no command, or end the session where more of that would follow."""
        if refusals.HEADER_FIELD.match(line):
            raise self._broken("a header field instead of a command", refusals.NOT_SMTP) from error
        if line[:4].upper() == b"BDAT":
            # Nobody knows how many octets follow, and that they are no commands.
            raise self._broken(str(error), error.reply) from error
        return self._refused(Move.OTHER, error.reply)

    def _order_refusal(self, command: Command, move: Move) -> Reply | None:
        """Return why `command` is not legal now, whatever its arguments; None if it is."""
        if move in FOREIGN[self._protocol]:
            return refusals.OTHER_PROTOCOL
        if (self._state, move) not in LEGAL or self._excluded(command):
            return refusals.BAD_SEQUENCE
        extension = refusals.EXTENSIONS.get(move)
        offered = extension is None or extension in self._capabilities
        return None if offered else refusals.NOT_OFFERED

    def _excluded(self, command: Command) -> bool:
        """Say what the state does not: whether something that happened excludes `command`."""
        match command:
            case Data():
                return self._transaction.binary  # RFC 3030 3
            case StartTls():
                return self._secure or self._authenticated  # RFC 3207 4.2
            case Auth():
                return self._authenticated  # RFC 4954 4
            case _:
                return False

    # --- Content -----------------------------------------------------------------------------

    def _begin_chunk(self, command: Bdat, move: Move, refusal: Reply | None) -> None:
        """Prepare for the octets behind BDAT."""
        if refusal is not None:
            due = _Due(move, command, refused=True)
            self._chunk = _Chunk(command.size, False, CommandRefused(refusal), due)
            return
        self._transaction.add(command.size)
        too_large = self._transaction.too_large
        event = ContentEnded(refusals.TOO_LARGE if too_large else None, command.last)
        due = _Due(move, command, too_large, self._replies_to_content() if command.last else 1)
        self._chunk = _Chunk(command.size, not too_large, event, due)

    def _read_chunk(self, chunk: _Chunk) -> ServerEvent | _NeedData | None:
        octets = self._buffer.take(chunk.remaining)
        chunk.remaining -= len(octets)
        if octets and chunk.wanted:
            self._show_content(octets)
            return ContentReceived(octets)
        if chunk.remaining:
            return NEED_DATA
        self._chunk = None
        # No recipient, no reply.  RFC 2033 4.3
        last_in_lmtp = self._protocol is Protocol.LMTP and chunk.due.move is Move.BDAT_LAST
        if last_in_lmtp and self._state is State.MAIL:
            self._state = State.READY
            self._transaction = Transaction(self._limits.message_size)
            return None
        self._due = chunk.due
        return chunk.event

    def _read_content(self, content: Content) -> ServerEvent | _NeedData:
        octets = content.read(self._buffer)
        if octets:
            self._show_content(octets)
            return ContentReceived(octets)
        if not content.ended:
            return NEED_DATA
        self._content = None
        if self._trace is not None:
            self._trace(Speaker.CLIENT, ".")
        refusal = refusals.of_content(self._transaction, content.malformed)
        self._due = _Due(Move.CONTENT, None, refusal is not None, self._replies_to_content())
        return ContentEnded(refusal)

    def _replies_to_content(self) -> int:
        # RFC 2033 4.2
        return self._transaction.recipients if self._protocol is Protocol.LMTP else 1

    # --- AUTH --------------------------------------------------------------------------------

    def _read_response(self) -> ServerEvent | _NeedData | None:
        line = self._read_line(self._limits.auth_line, "auth_line")
        if not isinstance(line, bytes):
            return line
        if self._trace is not None:
            self._trace(Speaker.CLIENT, command_line(AuthResponse(None if line == b"*" else b"")))
        try:
            response = AuthResponse.parse(line)
        except CommandError as error:
            return self._refused(Move.AUTH_RESPONSE, error.reply)
        # RFC 4954 4: an exchange that is cancelled has failed.
        self._due = _Due(Move.AUTH_RESPONSE, response, refused=response.data is None)
        return AuthResponseReceived(response.data)


def _shown(line: bytes) -> str:
    """What a trace may show of a line where a command is due."""
    try:
        command = parse_command(line)
    except CommandError:
        return broken_line(len(line))
    # What is not known may be a secret, or content, that has come at the wrong time.
    return broken_line(len(line)) if isinstance(command, OtherCommand) else command_line(command)
