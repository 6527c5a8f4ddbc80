"""The client's side of one connection.

The engine, the TLS layer over it, and how octets go to and fro.

Knows how to send, how to wait for a reply, and what each failure means to the caller. Knows no
order of commands: that is in the flows.
"""

from __future__ import annotations

from typing import TypeVar

from smtp_proto.engine import (
    NEED_DATA,
    ClientConnection,
    Protocol,
    RemoteProtocolError,
    ReplyReceived,
    State,
)
from smtp_proto.flow.actions import Receive, Send, Timer
from smtp_proto.flow.errors import (
    CapabilityMissing,
    ConnectionLost,
    MessageTooLarge,
    ProtocolViolation,
    RecipientsRefused,
    ReplyError,
    SMTPError,
    SMTPTimeout,
    TLSError,
)
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.timeouts import Phase, Timeouts
from smtp_proto.flow.tls import TLSInfo, TLSLayer
from smtp_proto.wire import (
    AuthResponse,
    Capabilities,
    Command,
    Limits,
    Octets,
    Reply,
    WireError,
)

T = TypeVar("T")

# After these the session stands where it stood before: the server has said no, or nothing was sent.
_REFUSALS = (ReplyError, RecipientsRefused, CapabilityMissing, MessageTooLarge, WireError)


class Session:
    """A greeted connection to a server, as `OpenSession` returns it and the other flows use it.

    Look: `usable`, `greeting`, `capabilities`, `tls`, `authenticated`. All else is for flows.
    """

    def __init__(
        self,
        *,
        protocol: Protocol,
        timeouts: Timeouts,
        limits: Limits,
        pipelining: bool,
        chunking: bool,
        implicit_tls: bool,
    ) -> None:
        self.engine = ClientConnection(
            protocol=protocol, limits=limits, pipelining=pipelining, secure=implicit_tls
        )
        self.protocol = protocol
        self.timeouts = timeouts
        self._seconds = {phase: timeouts.seconds(phase) for phase in Phase}
        self.limits = limits
        self.chunking = chunking
        self._pipelining_wanted = pipelining
        self.greeting: Reply | None = None
        """The server's greeting, once it has come."""
        self._layer: TLSLayer | None = None
        self._in_step = False
        self._ended = False
        self._waiting: Timer | None = None
        self._heard = 0  # octets since the present wait began
        self.last_words: list[ReplyReceived] = []
        """What the server had said before a send failed."""

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
        return self._pipelining_wanted and self.engine.capabilities.pipelining

    @property
    def tls(self) -> TLSInfo | None:
        """What TLS is in force; None on a clear connection."""
        return self._layer.info if self._layer is not None else None

    @property
    def authenticated(self) -> bool:
        """Whether AUTH has succeeded."""
        return self.engine.authenticated

    def conversation(self, steps: Steps[T]) -> Steps[T]:
        """The steps of one flow.

        Whatever ends them but success or a refusal leaves the session unusable, also when they are
        abandoned.
        """
        if not self.usable:
            raise ConnectionLost("this session is over, or in use: open another one")
        self._in_step = False
        try:
            result = yield from steps
        except _REFUSALS:
            self._in_step = True
            raise
        self._in_step = True
        return result

    def opened(self) -> None:
        """The session has been opened whole: other flows may use it."""
        self._in_step = True

    def timer(self, phase: Phase) -> Timer:
        """A new wait in this phase."""
        return Timer(phase, self._seconds[phase])

    def transmit(self, data: Octets, timer: Timer) -> Steps[None]:
        """Send octets, through TLS where it is on.

        Raises ConnectionLost, with the server's last words if it said any, or SMTPTimeout.
        """
        if self._layer is not None:
            data = self._layer.encrypt(data)
        try:
            yield Send(data, timer)
        except TimeoutError:
            raise self.timed_out(timer) from None
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

    def receive(self, timer: Timer) -> Steps[None]:
        """Wait once for octets and give them to the engine.

        Raises ConnectionLost, SMTPTimeout or TLSError.
        """
        try:
            data: Octets = yield Receive(timer)
        except TimeoutError:
            raise self.timed_out(timer) from None
        except OSError as error:
            raise ConnectionLost(
                f"the connection was lost in phase {timer.phase.value}: {error}"
            ) from error
        self._count(data, timer)
        ended = not data
        layer = self._layer
        if layer is not None and data:
            data = layer.receive_data(data)
            ended = layer.closed
            yield from self.send_if_possible(layer.data_to_send(), timer)  # a key update, say
        if data:
            self.engine.receive_data(data)
        if ended:
            self._ended = True
            self.engine.receive_eof()

    def next_reply(self, timer: Timer) -> Steps[ReplyReceived]:
        """Wait for the next reply. Raises what `receive` raises, and ProtocolViolation."""
        engine = self.engine
        while True:
            event = self.poll(timer) if engine.unread or self._ended else None
            if event is not None:
                return event
            yield from self.receive(timer)

    def poll(self, timer: Timer) -> ReplyReceived | None:
        """The next reply if it is there.

        None: more input is wanted. Raises ProtocolViolation or ConnectionLost.
        """
        try:
            event = self.engine.next_event()
        except RemoteProtocolError as error:
            raise self._broken(str(error), timer.phase) from error
        if event is NEED_DATA:
            return None
        if isinstance(event, ReplyReceived):
            return event
        raise self._broken("the server closed the connection", timer.phase)

    def request(self, command: Command | AuthResponse, phase: Phase) -> Steps[Reply]:
        """Send one command and wait for its reply, whatever it says."""
        timer = self.timer(phase)
        yield from self.transmit(self.engine.send(command), timer)
        event = yield from self.next_reply(timer)
        return event.reply

    def start_tls(self, layer: TLSLayer) -> Steps[None]:
        """Shake hands over the open stream. Raises TLSError or SMTPTimeout."""
        timer = self.timer(Phase.TLS)
        try:
            yield from self._shake_hands(layer, timer)
        except TimeoutError:
            raise self.timed_out(timer) from None
        except OSError as error:
            raise TLSError(f"the connection was lost in the TLS handshake: {error}") from error
        self._layer = layer
        if self.engine.state is State.TLS:
            self.engine.tls_started()
        early = layer.receive_data(b"")
        if early:
            self.engine.receive_data(early)

    def _shake_hands(self, layer: TLSLayer, timer: Timer) -> Steps[None]:
        while True:
            try:
                complete = layer.handshake()
            except TLSError:
                yield from self.send_if_possible(layer.data_to_send(), timer)  # the alert: why
                raise
            outgoing = layer.data_to_send()
            if outgoing:
                yield Send(outgoing, timer)
            if complete:
                return
            data: Octets = yield Receive(timer)
            self._count(data, timer)
            if not data:
                raise TLSError(
                    "the server closed the connection in the TLS handshake: "
                    "does it speak TLS on this port, and a version that is allowed here?"
                )
            layer.receive_data(data)

    def end_tls(self) -> bytes:
        """The octets that end TLS (close_notify); b"" on a clear connection."""
        return self._layer.close() if self._layer is not None else b""

    def send_if_possible(self, data: Octets, timer: Timer) -> Steps[None]:
        """Send octets that nothing depends on.

        A failure is not worth an error over the one that is being told.
        """
        if data:
            try:
                yield Send(data, timer)
            except OSError:
                return

    def _hear_last_words(self) -> Steps[None]:
        """Take one look at what the server had said before a send failed."""
        timer = self.timer(Phase.LAST_WORDS)
        try:
            while True:
                event = yield from self.next_reply(timer)
                self.last_words.append(event)
        except SMTPError:
            return

    def _count(self, data: Octets, timer: Timer) -> None:
        """Take note of how much has come while this timer ran."""
        if timer is not self._waiting:
            self._waiting, self._heard = timer, 0
        self._heard += len(data)

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

    def timed_out(self, timer: Timer) -> SMTPTimeout:
        """The error for a wait that took too long."""
        heard = self._heard if timer is self._waiting else 0
        return SMTPTimeout(timer.phase, timer.seconds, heard)
