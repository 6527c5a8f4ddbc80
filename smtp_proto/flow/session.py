"""The client's side of one connection.

The engine, the link under it, and how octets go to and fro.

Knows how to send, how to wait for a reply, and what each failure means to the caller. Knows no
order of commands: that is in the flows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from smtp_proto.engine import (
    NEED_DATA,
    ClientConnection,
    ClientEvent,
    RemoteProtocolError,
    ReplyReceived,
    Request,
    Signal,
)
from smtp_proto.engine.trace import Speaker
from smtp_proto.flow.actions import Receive, Send, Timer
from smtp_proto.flow.errors import (
    Attempt,
    AuthenticationError,
    CapabilityMissing,
    ConnectionLost,
    MessageTooLarge,
    ProtocolViolation,
    ReplyError,
    SMTPError,
    in_phase,
)
from smtp_proto.flow.flow import ContentFailed, Steps
from smtp_proto.flow.journal import QUIET, Journal
from smtp_proto.flow.link import Link
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.secrets import LoginSecrets
from smtp_proto.flow.timeouts import Phase
from smtp_proto.flow.tls import TLSInfo, TLSLayer
from smtp_proto.wire import (
    AuthResponse,
    Capabilities,
    Command,
    Octets,
    Reply,
    WireError,
)

T = TypeVar("T")

# After these the session stands where it stood before: the server has said no, or nothing was sent.
_REFUSALS = (ReplyError, CapabilityMissing, MessageTooLarge, WireError)


@dataclass(frozen=True, slots=True)
class Login:
    """How a session was logged in."""

    mechanism: str
    tried: tuple[str, ...]
    """The mechanisms that were used, the one that led to success last."""
    passed_over: tuple[tuple[str, str], ...]
    """The others that the server offers or the policy names, each with the reason."""
    reply: Reply
    """To the login that succeeded."""


class Session:
    """A greeted connection to a server, as `OpenSession` returns it and the other flows use it.

    Look: `usable`, `greeting`, `capabilities`, `capabilities_before_tls`, `tls`, `authenticated`,
    `login`, `attempts`, `settings`. All else is for flows.
    """

    def __init__(
        self,
        settings: OpenSettings,
        link: Link,
        layer: TLSLayer | None = None,
        journal: Journal = QUIET,
    ) -> None:
        self.settings = settings
        """What it was opened with."""
        self.journal = journal
        self.attempts: tuple[Attempt, ...] = ()
        """The ways that AUTO went; in other modes none."""
        self.greeting: Reply | None = None
        """The server's greeting, once it has come."""
        self.capabilities_before_tls: Capabilities | None = None
        """What the server offered in clear text, before TLS; None where there was no such time."""
        self.login: Login | None = None
        """How it was logged in; None: it is not."""
        self.engine = ClientConnection(
            protocol=settings.protocol,
            limits=settings.limits,
            pipelining=settings.pipelining,
            secure=layer is not None,
            trace=self._trace if journal.wants_lines else None,
        )
        self.secrets: LoginSecrets | None = None
        """Those of the last login: what a server says later may quote them, too."""
        self.protocol = settings.protocol
        self.timeouts = settings.timeouts
        self._seconds = {phase: settings.timeouts.seconds(phase) for phase in Phase}
        self.limits = settings.limits
        self.chunking = settings.chunking
        self.name = settings.local_hostname or ""
        """What EHLO says."""
        self._link = link
        self._layer = layer
        self._in_step = False
        self._ended = False
        self._overheard: list[Octets] = []
        self.last_words: list[ReplyReceived] = []
        """What the server had said before a send failed."""

    def _trace(self, speaker: Speaker, line: str) -> None:
        self.journal.line(speaker, self._hidden(line) if speaker is Speaker.SERVER else line)

    def happened(self, what: str) -> None:
        """Tell the journal, but no secret that the server quotes."""
        self.journal.happened(self._hidden(what))

    @property
    def usable(self) -> bool:
        """Whether another flow may begin.

        False while one is under way, and for good after anything but success and refusal.
        """
        return self._in_step and not self._ended and self.ready_for_mail

    @property
    def ready_for_mail(self) -> bool:
        """Whether nothing is left of a mail transaction, and the next one could begin."""
        return self.engine.idle

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers, as the last EHLO reply says."""
        return self.engine.capabilities

    @property
    def pipelining(self) -> bool:
        """Whether more than one command may be in flight (RFC 2920): wanted and offered."""
        return self.engine.pipelining

    @property
    def tls(self) -> TLSInfo | None:
        """What TLS is in force; None on a clear connection."""
        return self._layer.info if self._layer is not None else None

    @property
    def authenticated(self) -> bool:
        """Whether AUTH has succeeded."""
        return self.engine.authenticated

    @property
    def over(self) -> bool:
        """Whether the server says nothing more, but what has come already."""
        return self._ended or self.engine.finished

    @property
    def in_step(self) -> bool:
        """Whether all flows so far have come to their end, and it is not the session's."""
        return self._in_step and not self.over

    def conversation(self, steps: Steps[T], *, goes_on: bool = False) -> Steps[T]:
        """The steps of one flow; `goes_on`: they go on where the flow before has left off.

        Whatever ends them but success or a refusal leaves the session unusable, also when they are
        abandoned.
        """
        if not (self.in_step if goes_on else self.usable):
            raise ConnectionLost("this session is over, or in use: open another one")
        self._in_step = False
        if not goes_on and (self._overheard or self.engine.unread):
            yield from self._take_in_overheard()
        try:
            result = yield from steps
        except _REFUSALS:
            self._in_step = True
            raise
        except ContentFailed:
            self._in_step = self.ready_for_mail  # then nothing of it was sent
            raise
        except AuthenticationError as error:
            # Nothing was said, or the server has said no: another login may do better.
            self._in_step = not error.tried or (error.reply is not None and error.reply.code >= 400)
            raise
        self._in_step = True
        return result

    def hear(self, data: Octets) -> None:
        """Take in what has come though no flow was under way; b"": the stream has ended.

        The next flow tells what it means, and sends nothing where it is the end of the session: so
        no message is given to a server that has gone already.
        """
        self._overheard.append(data)

    def _take_in_overheard(self) -> Steps[None]:
        """Raises ConnectionLost where the server has ended the session, or ProtocolViolation."""
        timer = self.timer(Phase.IDLE)
        for data in self._overheard:
            yield from self._take_in(data, timer)
        self._overheard.clear()
        event = self.poll(timer)
        if event is not None:
            lost = ConnectionLost(
                f"the server had ended the session: {event.reply}", reply=event.reply
            )
            raise in_phase(timer.phase, lost)

    def opened(self) -> None:
        """The session has been opened whole: other flows may use it."""
        self._in_step = True

    def timed_out(self, timer: Timer, error: TimeoutError) -> SMTPError:
        """The error for a wait that took too long."""
        return self._link.timed_out(timer, error)

    def timer(self, phase: Phase) -> Timer:
        """A new wait in this phase."""
        return Timer(phase, self._seconds[phase])

    def transmit(self, data: Octets, timer: Timer) -> Steps[None]:
        """Send octets, through TLS where it is on.

        Raises ConnectionLost, with the server's last words if it said any, or SMTPTimeout.
        """
        if self._link.encrypted:
            data = self._link.encrypt(data)
        try:
            yield Send(data, timer)
        except TimeoutError as error:
            raise self._link.timed_out(timer, error) from None
        except OSError as error:
            self.engine.send_failed()
            yield from self._hear_last_words()
            replies = [event.reply for event in self.last_words if event.reply.code >= 400]
            reply = replies[-1] if replies else None
            said = f"; the server's last words: {reply}" if reply is not None else ""
            lost = ConnectionLost(
                f"the connection was lost sending in phase {timer.phase.value}: {error}{said}",
                reply=reply,
            )
            lost.phase = timer.phase
            raise lost from error

    def _receive_until(self, read: Callable[[Timer], T | None], timer: Timer) -> Steps[T]:
        """Give the engine what comes, until something can be read from it.

        Raises ConnectionLost, SMTPTimeout or TLSError, and what `read` raises.
        """
        link = self._link
        while (found := read(timer)) is None:
            try:
                data: Octets = yield Receive(timer)
            except TimeoutError as error:
                raise link.timed_out(timer, error) from None
            except OSError as error:
                lost = ConnectionLost(
                    f"the connection was lost in phase {timer.phase.value}: {error}"
                )
                raise in_phase(timer.phase, lost) from error
            link.count(data, timer)
            if data and not link.encrypted:
                self.engine.receive_data(data)
            else:
                yield from self._take_in(data, timer)
        return found

    def _take_in(self, data: Octets, timer: Timer) -> Steps[None]:
        """Give the engine what came, through TLS where it is on; b"": the stream has ended."""
        link = self._link
        ended = not data
        if data and link.encrypted:
            data, answer = link.decrypt(data)
            ended = link.closed
            yield from self._send_if_possible(answer, timer)
        if data:
            self.engine.receive_data(data)
        if ended:
            self._ended = True
            self.engine.receive_eof()

    def next_reply(self, timer: Timer) -> Steps[ReplyReceived]:
        """Wait for the next reply.

        Raises ConnectionLost, SMTPTimeout, TLSError or ProtocolViolation.
        """
        return self._receive_until(self.poll, timer)

    def next_replies(self, timer: Timer) -> Steps[list[tuple[Request, Reply]]]:
        """Wait for the next reply, and take all that came with it, as far as they are awaited.

        Raises what `next_reply` raises.
        """
        return self._receive_until(self._poll_all, timer)

    def _poll_all(self, timer: Timer) -> list[tuple[Request, Reply]] | None:
        """All replies that are there and awaited; None: more input is wanted."""
        replies = self.engine.next_replies()
        if replies:
            if self.secrets is not None:
                return [(request, self._without_secrets(reply)) for request, reply in replies]
            return replies
        if self._ended or self.engine.finished:
            self.poll(timer)  # all replies are taken: it raises if this was the end
        return None

    def poll(self, timer: Timer) -> ReplyReceived | None:
        """The next reply if it is there.

        None: more input is wanted. Raises ProtocolViolation or ConnectionLost.
        """
        try:
            event: ClientEvent | Signal | RemoteProtocolError = self.engine.next_event()
        except RemoteProtocolError as error:
            event = error
        if event is NEED_DATA:
            return None
        if isinstance(event, ReplyReceived):
            return ReplyReceived(event.command, self._without_secrets(event.reply))
        if not isinstance(event, RemoteProtocolError):
            raise self._broken("the server closed the connection", timer.phase)
        why = self._hidden(str(event))
        # An error that quotes a secret is not even kept as the cause of another.
        raise self._broken(why, timer.phase) from (event if why == str(event) else None)

    def _hidden(self, text: str) -> str:
        return text if self.secrets is None else self.secrets.hidden_in(text)

    def _without_secrets(self, reply: Reply) -> Reply:
        """A reply is shown to people, as a result or as an error: it must not quote a secret.

        But a challenge is for a mechanism.
        """
        if self.secrets is None or reply.intermediate:
            return reply
        return self.secrets.reply_without(reply)

    def request(self, command: Command | AuthResponse, phase: Phase) -> Steps[Reply]:
        """Send one command and wait for its reply, whatever it says."""
        timer = self.timer(phase)
        yield from self.transmit(self.engine.send(command), timer)
        event = yield from self.next_reply(timer)
        return event.reply

    def start_tls(self, layer: TLSLayer) -> Steps[None]:
        """Shake hands over the open stream. Raises TLSError or SMTPTimeout."""
        yield from self._link.start_tls(layer, self.timer(Phase.TLS))
        self._layer = layer
        self.journal.happened(f"TLS by STARTTLS: {layer.info}")
        self.engine.tls_started()
        self.hear_pending()

    def hear_pending(self) -> None:
        """Give the engine what has come together with the end of a handshake, or of a tunnel."""
        pending = self._link.take_pending()
        if pending:
            self.engine.receive_data(pending)

    def send_if_possible(self, clear: Octets, timer: Timer) -> Steps[None]:
        """Send octets that nothing depends on."""
        yield from self._send_if_possible(self._link.encrypt(clear) if clear else clear, timer)

    def send_last(self, timer: Timer) -> Steps[None]:
        """End TLS, if there is any: the last that is sent."""
        yield from self._send_if_possible(self._link.close(), timer)

    @staticmethod
    def _send_if_possible(data: Octets, timer: Timer) -> Steps[None]:
        """A failure is not worth an error over the one that is being told."""
        if data:
            with suppress(OSError):
                yield Send(data, timer)

    def _hear_last_words(self) -> Steps[None]:
        """Take one look at what the server had said before a send failed."""
        timer = self.timer(Phase.LAST_WORDS)
        try:
            while True:
                event = yield from self.next_reply(timer)
                self.last_words.append(event)
        except (SMTPError, RemoteProtocolError):  # clear text behind 220 to STARTTLS
            return

    def _broken(self, why: str, phase: Phase) -> SMTPError:
        if self._ended:
            error: SMTPError = ConnectionLost(
                f"the connection was lost in phase {phase.value}: {why}"
            )
        else:
            error = ProtocolViolation(
                f"the server broke the protocol in phase {phase.value}: {why}"
            )
        error.phase = phase
        return error
