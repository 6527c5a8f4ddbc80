"""A server's whole session with one client, from the greeting to the end. RFC 5321 3, 4

Knows in which order things happen, and which of them a reply waits for.
Must not know what is offered to whom, nor what becomes of a message.

How a connection ends:

    the client      says QUIT: 221; or goes away without a word
    the server      is tired of waiting (421), of errors (421), of the handler's own 421, or of
                    a client that breaks the protocol, or it is shut down (421): one last reply,
                    then a short while for the client to read it
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import assert_never, cast

from smtp_proto.engine.errors import RemoteProtocolError
from smtp_proto.engine.events import (
    AuthResponseReceived,
    CommandReceived,
    CommandRefused,
    ConnectionEnded,
    ContentEnded,
    ContentReceived,
    ServerEvent,
    Signal,
)
from smtp_proto.engine.server import ServerConnection
from smtp_proto.engine.table import Protocol, State
from smtp_proto.engine.trace import command_line
from smtp_proto.flow.actions import Receive, Timer
from smtp_proto.flow.errors import TLSError
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.journal import QUIET, Journal
from smtp_proto.flow.security import Security
from smtp_proto.flow.serve_link import Interrupted, ServerLink, StreamEnded, TimeIsUp
from smtp_proto.flow.serve_login import Login
from smtp_proto.flow.serve_questions import Questions
from smtp_proto.flow.serve_settings import ServeSettings
from smtp_proto.flow.serve_transaction import Transactions
from smtp_proto.flow.timeouts import Phase
from smtp_proto.flow.tls import ServerTLSFactory
from smtp_proto.sasl.mechanism import ServerContext
from smtp_proto.sasl.registry import SERVER_MECHANISMS
from smtp_proto.wire.capabilities import Capabilities
from smtp_proto.wire.command import (
    Auth,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    OtherCommand,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
)
from smtp_proto.wire.errors import shown
from smtp_proto.wire.reply import Reply

__all__ = ["Serve", "ServeSettings"]

_OK = Reply.build(250, "Ok", status="2.0.0")

_REPLIES: Mapping[type[Command], Reply] = {
    Data: Reply.build(354, "End the content with <CRLF>.<CRLF>"),
    Rset: _OK,
    Noop: _OK,
    Help: Reply.build(214, "The commands are those of RFC 5321", status="2.0.0"),
    StartTls: Reply.build(220, "Ready to start TLS", status="2.0.0"),
    Quit: Reply.build(221, "Goodbye", status="2.0.0"),
}
"""To the commands that nobody has to be asked about."""

_MAY_EXIST = Reply.build(252, "Cannot verify, but will try to deliver", status="2.0.0")
_NO_LISTS = Reply.build(502, "Lists are not expanded", status="5.5.1")
_UNKNOWN_COMMAND = Reply.build(500, "Command not recognized", status="5.5.1")
_TOO_SLOW = Reply.build(421, "Timeout, closing the connection", status="4.4.2")
_SHUTTING_DOWN = Reply.build(421, "Shutting down, closing the connection", status="4.3.2")

# Their replies wait for others; that to QUIT waits for the end of TLS.  RFC 2920 3.2
_COLLECTED = frozenset({Rset, Mail, Rcpt, Quit})

_PHASES = {State.AUTH: Phase.AUTH, State.DATA: Phase.BLOCK, State.BDAT: Phase.BLOCK}
_FOR_A_LINE = frozenset({Phase.IDLE, Phase.AUTH})  # and not for content
_WITHOUT_TRANSACTION = frozenset({State.HELO, State.READY})

_BLOCK = 65_536  # octets: who sends as many in one wait is alive, and gets a new one


class Serve(Flow[None]):
    """Serves one client over a stream that is open. `peer` says who it is, for the handler.

    `journal` is told what happens. It never asks to connect and raises no SMTPError: whatever the
    client does, the flow ends with Done, and the stream is to be closed then.
    """

    def __init__(
        self, handler: Handler, settings: ServeSettings, peer: str, journal: Journal = QUIET
    ) -> None:
        self._conversation = _Conversation(handler, settings, peer, journal)
        super().__init__(self._conversation.steps(), settings.timeouts.total, closes=True)

    @property
    def awaits_command(self) -> bool:
        """Whether it waits for a command or a step of AUTH, and not for content or a handshake."""
        return type(self.action) is Receive and self.action.timer.phase in _FOR_A_LINE

    def shut_down(self) -> None:
        """From now on say 421, in place of waiting for a command, and end. RFC 5321 3.8

        What it has been given is answered before, and content that is coming is received. A wait
        that has begun is yours: where the flow `awaits_command`, call `failed(InterruptedError())`.
        """
        self._conversation.shutting_down = True


class _HangUp(Exception):
    """The server ends the session with this reply, 421."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class _Conversation:
    """What `Serve` does."""

    def __init__(
        self, handler: Handler, settings: ServeSettings, peer: str, journal: Journal
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._session = ServerSession(peer)
        self._questions = Questions(
            handler, self._session, settings.timeouts, settings.report_error
        )
        self._engine = ServerConnection(
            protocol=settings.protocol,
            limits=settings.limits,
            secure=settings.security is Security.IMPLICIT,
            bare_line_endings=settings.bare_line_endings,
            trace=journal.line if journal.wants_lines else None,
        )
        self._link = ServerLink()
        self._login = Login(
            {name: SERVER_MECHANISMS[name] for name in settings.mechanisms},
            ServerContext(settings.hostname, settings.nonce, salt_key=settings.salt_key),
            self._session,
            self._questions,
            journal,
            allow_cleartext=settings.allow_cleartext_auth,
        )
        self._transactions = Transactions(
            settings.protocol, self._session, self._questions, journal
        )
        self._wait: Timer | None = None
        self._heard = 0  # octets since the wait began
        self._in_content = False
        self.shutting_down = False

    # --- From beginning to end ---------------------------------------------------------------

    def steps(self) -> Steps[None]:
        self._journal.happened("connected")
        if self._settings.security is Security.IMPLICIT:
            try:
                yield from self._shake_hands()
            except (StreamEnded, TLSError) as error:
                why = str(error) or "the client went away"
                self._journal.happened(f"no TLS: {why}")
                return
        farewell = yield from self._serve()
        if farewell is not None:
            yield from self._hang_up(farewell)
        self._journal.happened("disconnected" if farewell is None else f"hung up: {farewell}")
        yield from self._questions.tell("on_disconnect")

    def _serve(self) -> Steps[Reply | None]:
        """Serve the client until the end; return the last words that are still to be said."""
        try:
            yield from self._greet()
            yield from self._converse()
            yield from self._link.finish(self._timer(Phase.QUIT))
        except TimeIsUp:
            return _TOO_SLOW  # RFC 5321 4.5.3.2.7
        except Interrupted:
            return _SHUTTING_DOWN  # RFC 5321 3.8
        except _HangUp as hang_up:
            return hang_up.reply
        except RemoteProtocolError as error:
            return error.reply_hint
        except TLSError as error:
            self._journal.happened(f"TLS failed: {error}")
        except StreamEnded:
            pass
        return None

    def _hang_up(self, farewell: Reply) -> Steps[None]:
        # The engine has nothing to do with it any more.
        self._link.write(farewell.encode())
        with suppress(StreamEnded, TimeIsUp, TLSError):
            yield from self._link.finish(self._timer(Phase.QUIT))
            yield from self._link.drain(self._timer(Phase.LAST_WORDS))

    def _greet(self) -> Steps[None]:
        refusal = yield from self._questions.reply("on_connect")
        if refusal is None or refusal.positive:
            protocol = "ESMTP" if self._settings.protocol is Protocol.SMTP else "LMTP"
            self._reply(Reply(220, (f"{self._settings.hostname} {protocol}",)))
        else:
            self._reply(refusal)  # RFC 5321 3.1

    def _converse(self) -> Steps[None]:
        """Answer one event after the other, until the session is over."""
        engine = self._engine
        while not engine.finished:
            event = engine.next_event()
            if isinstance(event, Signal):
                yield from self._receive()
                continue
            self._end_wait(event)
            yield from self._handle(event)
            # Whatever has ended it: RSET, EHLO, a refusal.
            if self._transactions.under_way and engine.state in _WITHOUT_TRANSACTION:
                yield from self._transactions.give_up()
            # However much has come at once, the next action is near: others want their turn.
            if self._link.full:
                yield from self._link.flush(self._waiting())

    # --- Waiting -----------------------------------------------------------------------------

    def _receive(self) -> Steps[None]:
        if self.shutting_down and self._phase() in _FOR_A_LINE:
            raise Interrupted
        data = yield from self._link.receive(self._waiting())
        if not data:
            self._engine.receive_eof()
            return
        self._engine.receive_data(data)
        self._heard += len(data)
        if self._heard >= _BLOCK:
            self._wait = None

    def _waiting(self) -> Timer:
        """Return the timer of the present wait: a new one for each command and each block."""
        if self._wait is None:
            self._wait = self._timer(self._phase())
            self._heard = 0
        return self._wait

    def _end_wait(self, event: ServerEvent) -> None:
        """Begin a new wait behind each event, but not behind each piece of the content."""
        was_in_content = self._in_content
        self._in_content = isinstance(event, ContentReceived)
        if not (was_in_content and self._in_content):
            self._wait = None

    def _phase(self) -> Phase:
        if self._in_content:
            return Phase.BLOCK
        return _PHASES.get(self._engine.state, Phase.IDLE)

    def _timer(self, phase: Phase) -> Timer:
        return Timer(phase, self._settings.timeouts.seconds(phase))

    # --- Replies -----------------------------------------------------------------------------

    def _reply(self, reply: Reply) -> None:
        """Have a reply sent when its group is done. RFC 2920 3.2"""
        if reply.code == 421:
            raise _HangUp(reply)
        self._link.write(self._engine.send_reply(reply))

    # --- Events ------------------------------------------------------------------------------

    def _handle(self, event: ServerEvent) -> Steps[None]:
        engine = self._engine
        match event:
            case CommandReceived(command):
                refusal = self._settings.refusal(
                    command, secure=engine.secure, authenticated=engine.authenticated
                )
                reply = refusal or (yield from self._answer(command))
                self._reply(reply)
                self._tell_refusal(reply, command)
                if type(command) not in _COLLECTED:
                    yield from self._follow(command, reply)
            case CommandRefused(reply):
                self._reply(reply)
                self._tell_refusal(reply)
            case ContentReceived(data):
                yield from self._transactions.take(data)
            case ContentEnded(refusal, last):
                if last:
                    # The handler may take its time: let the client know by then what it waits for.
                    yield from self._link.flush(self._timer(self._phase()))
                for reply in (yield from self._transactions.end(refusal, last=last)):
                    self._reply(reply)
            case AuthResponseReceived(data):
                self._reply((yield from self._login.respond(data)))
            case ConnectionEnded():
                pass  # the engine is finished
            case _:
                assert_never(event)

    def _tell_refusal(self, reply: Reply, command: Command | None = None) -> None:
        """Tell the journal of a command that is refused; None: it is not known which."""
        if reply.code < 400 or not self._journal.wants_events:
            return
        if command is None or isinstance(command, Mail | Rcpt | Data):
            what = "a command" if command is None else shown(command_line(command))
            self._journal.happened(f"refused {what}: {shown(str(reply))}")

    def _answer(self, command: Command) -> Steps[Reply]:
        """Return the reply to a command that is legal and may be obeyed."""
        match command:
            case Rcpt():
                return (yield from self._transactions.add(command))
            case Mail():
                return (yield from self._transactions.begin(command))
            case Ehlo() | Lhlo() | Helo():
                return (yield from self._hello(command))
            case Auth():
                return (yield from self._login.begin(command))
            case Vrfy():
                reply = yield from self._questions.reply(
                    "on_verify", command.string, smtputf8=command.smtputf8
                )
                return reply or _MAY_EXIST
            case Expn():
                reply = yield from self._questions.reply(
                    "on_expand", command.string, smtputf8=command.smtputf8
                )
                return reply or _NO_LISTS
            case OtherCommand():
                reply = yield from self._questions.reply("on_other", command)
                return reply or _UNKNOWN_COMMAND
            case _:
                return _REPLIES[type(command)]

    def _follow(self, command: Command, reply: Reply) -> Steps[None]:
        """Do what is due after a reply that ends a group."""
        # RFC 2920 3.2
        yield from self._link.flush(self._waiting())
        if isinstance(command, StartTls):
            yield from self._shake_hands()
        elif isinstance(command, Ehlo | Lhlo) and reply.positive:
            # Let AUTH come here also where no mechanism may be used now: to be told why not.
            self._engine.capabilities = self._capabilities(self._settings.mechanisms)

    def _hello(self, command: Ehlo | Lhlo | Helo) -> Steps[Reply]:
        refusal = yield from self._questions.reply("on_helo", command.domain)
        if refusal is not None and not refusal.positive:
            return refusal
        self._session.helo = command.domain
        if isinstance(command, Helo):
            return Reply(250, (self._settings.hostname,))
        # Where TLS has to come first, there is no login to offer yet.
        too_early = self._settings.security is Security.STARTTLS and not self._engine.secure
        return Reply(250, self._capabilities(() if too_early else self._login.offered).lines())

    def _capabilities(self, mechanisms: tuple[str, ...]) -> Capabilities:
        offered = self._settings.capabilities(mechanisms, secure=self._engine.secure)
        if "on_expand" not in self._questions:
            return offered
        return replace(offered, keywords={**offered.keywords, "EXPN": ()})  # RFC 5321 3.5.2

    def _shake_hands(self) -> Steps[None]:
        """Start TLS; all that the client said before is forgotten. RFC 3207 4.2"""
        factory = cast("ServerTLSFactory", self._settings.tls)  # the settings see to it
        early = yield from self._link.start_tls(factory(), self._timer(Phase.TLS))
        self._session.tls = self._link.tls
        self._journal.happened(f"TLS: {self._session.tls}")
        self._session.helo = None
        if self._engine.state is State.TLS:
            self._engine.tls_started()
        self._engine.receive_data(early)
