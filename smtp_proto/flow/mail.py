"""Sending one message.

MAIL, RCPT and DATA in as few flights as the server allows, then the content.

Knows the order, what the message needs of the server, and what each refusal means. Knows no header
fields, but where they end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from smtp_proto.engine import EndOfContent, Request, State
from smtp_proto.flow.actions import Content
from smtp_proto.flow.envelope import Envelope, SendResult
from smtp_proto.flow.errors import (
    ConnectionLost,
    DeliveryInDoubt,
    RecipientsRefused,
    ReplyError,
    SMTPError,
    content_refused,
    sender_refused,
)
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.message import Message, transaction_commands
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire import (
    Bdat,
    Command,
    Data,
    ForwardPath,
    Mail,
    Octets,
    Rcpt,
    Reply,
    Rset,
)

_BLOCK = 131_072  # octets in one Send: many enough for speed, few enough for a deadline each
_GATHERED = 65_536  # octets of small pieces that make one Send

_PHASES: dict[type[Command], Phase] = {
    Mail: Phase.MAIL,
    Rcpt: Phase.RCPT,
    Data: Phase.DATA,
    Bdat: Phase.FINAL,
}


class SendMail(Flow[SendResult]):
    """Sends one message to the recipients of an envelope.

    `content`: the whole message, or None: then the flow fetches it piece by piece with Content
    actions. Line ends are made CRLF. `size`: its octets, where the content comes in pieces and the
    size is known. `eight_bit`: whether it has octets above 127, and `smtputf8`: whether its header
    has; None: found out from the content, and where that comes in pieces BODY=8BITMIME is said
    wherever the server knows it.

    One refused recipient does not stop the others. `next_action()` raises SenderRefused,
    RecipientsRefused, ContentRefused, CapabilityMissing or MessageTooLarge, after which the session
    can be used further; and DeliveryInDoubt, ConnectionLost, SMTPTimeout or ProtocolViolation,
    after which it cannot.
    """

    def __init__(
        self,
        session: Session,
        envelope: Envelope,
        content: Octets | None,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        smtputf8: bool | None = None,
    ) -> None:
        message = Message(content, size, eight_bit, smtputf8)
        steps = _send(session, envelope, message)
        if session.journal.wants_events:
            steps = _told(session, steps)
        super().__init__(session.conversation(steps), session.timeouts.total)


class _Said:
    """What the server has said in this transaction, and what follows from it."""

    __slots__ = (
        "_not_answered",
        "accepted",
        "closing",
        "content_sent",
        "delivered",
        "final",
        "go_ahead",
        "recipients",
        "refused",
        "sender",
        "undelivered",
    )

    def __init__(self, recipients: Sequence[str]) -> None:
        self.recipients = recipients
        self._not_answered = iter(recipients)
        self.sender: Reply | None = None
        self.accepted: dict[str, Reply] = {}
        self.refused: dict[str, Reply] = {}
        self.go_ahead: Reply | None = None  # to DATA
        self.final: Reply | None = None
        self.closing: Reply | None = None  # 421, whatever it answered
        self.content_sent = False
        self.delivered: dict[str, Reply] = {}  # LMTP: the final reply for each recipient
        self.undelivered: deque[str] | None = None  # LMTP: they wait for theirs

    def note(self, replies: Iterable[tuple[Request, Reply]]) -> None:
        for request, reply in replies:
            if reply.code == 421:
                self.closing = reply
            match request:
                case Rcpt():
                    outcome = self.accepted if reply.code < 300 else self.refused
                    outcome[next(self._not_answered)] = reply
                case Mail():
                    self.sender = reply
                case Data():
                    self.go_ahead = reply
                case Bdat():
                    self._note_final(None, reply)
                case EndOfContent():
                    self._note_final(request.recipient, reply)
                case _:  # 421 that answers nothing
                    pass

    def _note_final(self, recipient: ForwardPath | None, reply: Reply) -> None:
        self.final = reply
        if reply.positive:
            self.content_sent = True  # whatever became of the last write: the server has it all
        if recipient is not None:  # RFC 2033 4.2
            if self.undelivered is None:
                self.undelivered = deque(self.accepted)
            outcome = self.delivered if reply.positive else self.refused
            outcome[self.undelivered.popleft()] = reply
            if self.closing is not None:
                self.refused.update(dict.fromkeys(self.undelivered, self.closing))
                self.undelivered.clear()

    @property
    def hopeless(self) -> bool:
        """Whether nothing that could still be sent makes a delivery of it."""
        return (
            self.closing is not None
            or (self.sender is not None and not self.sender.positive)
            or len(self.refused) == len(self.recipients)
        )

    @property
    def complete(self) -> bool:
        """Whether the server has said what became of the message, for each recipient."""
        return self.final is not None and not self.undelivered

    @property
    def in_doubt(self) -> bool:
        """Whether the message may have been delivered though nobody has said so."""
        return self.content_sent and not self.hopeless

    def result(self) -> SendResult | None:
        """The result, if the message was delivered to anybody."""
        if self.final is not None:
            if self.delivered:
                return SendResult(self.delivered, self.refused, self.final)
            if self.final.positive and self.accepted:
                return SendResult(self.accepted, self.refused, self.final)
        return None

    def refusal(self) -> SMTPError:
        """Why the message was not delivered, by the first thing that stood in its way."""
        if self.sender is not None and not self.sender.positive:
            return sender_refused(Phase.MAIL, self.sender)
        if len(self.refused) == len(self.recipients):
            return RecipientsRefused(Phase.RCPT, self.refused)
        if self.final is not None:
            return content_refused(Phase.FINAL, "the content", self.final)
        if self.go_ahead is not None:
            return content_refused(Phase.DATA, "DATA", self.go_ahead)
        return ConnectionLost(f"the server ended the session: {self.closing}", reply=self.closing)


def _told(session: Session, steps: Steps[SendResult]) -> Steps[SendResult]:
    """The same steps; what became of the message is told to the journal."""
    journal = session.journal
    try:
        result = yield from steps
    except (ReplyError, RecipientsRefused) as error:
        journal.happened(f"refused: {error}")
        raise
    except DeliveryInDoubt as error:
        journal.happened(f"in doubt: {error}")
        raise
    except SMTPError as error:
        journal.happened(f"not sent: {error}")
        raise
    refused = f", refused for {len(result.refused)}" if result.refused else ""
    journal.happened(f"accepted for {len(result.accepted)} recipient(s){refused}: {result.reply}")
    return result


def _send(session: Session, envelope: Envelope, message: Message) -> Steps[SendResult]:
    commands = transaction_commands(session, envelope, message)
    said = _Said(envelope.recipients)
    try:
        yield from _send_commands(session, commands, message, said)
        if session.engine.state is State.DATA and not said.hopeless:
            yield from _send_content(session, message, said)
            yield from _read_final_replies(session, said)
    except SMTPError as error:
        said.note((event.command, event.reply) for event in session.last_words)
        if said.in_doubt and not said.complete:
            doubt = DeliveryInDoubt(
                f"the content was sent whole, but nobody knows whether it was taken: {error}",
                accepted=said.delivered,
                refused=said.refused,
            )
            doubt.phase = error.phase
            raise doubt from error
        if not said.complete:
            raise
    result = said.result()
    if result is not None:
        return result
    yield from _clear_up(session)
    raise said.refusal()


def _send_commands(
    session: Session, commands: Sequence[Command], message: Message, said: _Said
) -> Steps[None]:
    """The commands, as many in a flight as may be (RFC 2920 3.1), until each is answered."""
    engine = session.engine
    window = session.limits.pipelined_commands if session.pipelining else 1
    sent = answered = 0
    while True:
        outstanding = sent - answered
        # What is still outstanding at the end of the session brings its error about, below.
        over = said.hopeless or (outstanding and engine.finished)
        batch = () if over else commands[sent : sent + window - outstanding]
        if not batch and (not outstanding or said.closing is not None):
            return
        with_content = bool(batch) and isinstance(batch[-1], Bdat)
        # Where the content goes out too, the server may look at it before it answers at all.
        final = with_content or said.content_sent
        timer = session.timer(Phase.FINAL if final else _PHASES[type(commands[answered])])
        if batch:
            if with_content:
                octets = engine.send_group(batch[:-1])
                octets += engine.send_chunk(message.content or b"", last=True)
            else:
                octets = engine.send_group(batch)
            yield from session.transmit(octets, timer)
            sent += len(batch)
            said.content_sent = with_content
        replies = yield from session.next_replies(timer)
        said.note(replies)
        answered += len(replies)


def _send_content(session: Session, message: Message, said: _Said) -> Steps[None]:
    """The content after 354, to its end."""
    engine = session.engine
    content = message.content
    if content is None:
        yield from _send_pieces(session, message)
        last = b""
    else:
        start = 0
        while len(content) - start > _BLOCK:
            octets = engine.send_content(memoryview(content)[start : start + _BLOCK])
            yield from session.transmit(octets, session.timer(Phase.BLOCK))
            start += _BLOCK
        last = engine.send_content(memoryview(content)[start:] if start else content)
    yield from session.transmit(last + engine.end_content(), session.timer(Phase.BLOCK))
    said.content_sent = True


def _send_pieces(session: Session, message: Message) -> Steps[None]:
    """Content that the caller has elsewhere, gathered into blocks."""
    gathered: list[bytes] = []
    size = 0
    while True:
        timer = session.timer(Phase.BLOCK)
        try:
            piece: Octets | None = yield Content(timer)
        except TimeoutError as error:
            raise session.timed_out(timer, error) from error
        if piece is not None:
            message.check(piece)
            gathered.append(session.engine.send_content(piece))
            size += len(piece)
        if gathered and (piece is None or size >= _GATHERED):
            yield from session.transmit(b"".join(gathered), session.timer(Phase.BLOCK))
            gathered.clear()
            size = 0
        if piece is None:
            return


def _read_final_replies(session: Session, said: _Said) -> Steps[None]:
    """The reply to the content; in LMTP one for each accepted recipient."""
    engine = session.engine
    while engine.outstanding:
        timer = session.timer(Phase.FINAL)
        replies = yield from session.next_replies(timer)
        said.note(replies)
        if not said.complete and not engine.outstanding:
            session.poll(timer)  # it raises if the next one was no reply to this


def _clear_up(session: Session) -> Steps[None]:
    """Bring the server back to where it takes another MAIL.

    Where that fails, the session is no longer usable: no more than that.
    """
    engine = session.engine
    try:
        if engine.state is State.DATA:
            # RFC 2920 3.1: 354 with no recipient is answered with nothing but the dot
            yield from session.transmit(engine.end_content(), session.timer(Phase.BLOCK))
            while engine.outstanding:
                yield from session.next_reply(session.timer(Phase.FINAL))
        elif engine.can_send(Rset()) and not session.ready_for_mail:
            yield from session.request(Rset(), Phase.COMMAND)  # RFC 3030 2, after BDAT
    except SMTPError:
        return
