"""Sending messages: MAIL, RCPT and DATA in as few flights as the server allows, then the content.

Knows the order, and how much may be under way at a time. Knows no header fields, but where they
end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from smtp_proto.engine import Request, State
from smtp_proto.flow.actions import Content, Timer
from smtp_proto.flow.envelope import Envelope, SendResult, check_envelope
from smtp_proto.flow.errors import SMTPError
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.message import Message, transaction_commands
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase
from smtp_proto.flow.transaction import Transaction, in_words
from smtp_proto.wire import Bdat, Octets, Reply, Rset

_BLOCK = 131_072  # octets in one Send: many enough for speed, few enough for a deadline each
_GATHERED = 65_536  # octets of small pieces that make one Send


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
        check_envelope(envelope)
        message = Message(content, size, eight_bit, smtputf8)
        steps = _send(session, envelope, message)
        if session.journal.wants_events:
            steps = _told(session, steps)
        super().__init__(session.conversation(steps), session.timeouts.total)


def _told(session: Session, steps: Steps[SendResult]) -> Steps[SendResult]:
    """The same steps; what became of the message is told to the journal."""
    try:
        result = yield from steps
    except SMTPError as error:
        session.happened(in_words(error))
        raise
    session.happened(in_words(result))
    return result


def _send(session: Session, envelope: Envelope, message: Message) -> Steps[SendResult]:
    commands = transaction_commands(session, envelope, message)
    transaction = Transaction(commands, message, envelope.recipients)
    under_way = UnderWay(session)
    under_way.begin(transaction)
    try:
        while not transaction.settled:
            yield from under_way.go_on()
        outcome = transaction.outcome()
    except SMTPError as error:
        under_way.note_last_words()
        outcome = transaction.outcome_of_loss(error)
    if isinstance(outcome, SMTPError):
        raise outcome
    return outcome


class UnderWay:
    """The transactions on a session that are not settled, oldest first.

    All of them but the newest have been sent whole, and wait for replies. `closing`: the reply
    behind which the server says nothing more.
    """

    __slots__ = ("_engine", "_queue", "_session", "_window", "closing")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._engine = session.engine
        self._window = session.limits.pipelined_commands if session.pipelining else 1
        self._queue: deque[Transaction] = deque()  # the next reply belongs to the first of them
        self.closing: Reply | None = None

    @property
    def waits(self) -> bool:
        """Whether something was sent that is not settled."""
        return any(each.sent > 0 and not each.settled for each in self._queue)

    @property
    def has_room(self) -> bool:
        """Whether another transaction may begin behind the newest.

        That is once it has been sent whole, where few enough replies are outstanding that the next
        group goes out in one piece, mostly.
        """
        chunks = [transaction.commands[-1] for transaction in self._queue]
        return (
            self._session.pipelining
            and self._queue[-1].content_sent
            and self._engine.outstanding <= self._window // 2
            and sum(chunk.size for chunk in chunks if isinstance(chunk, Bdat))
            < self._session.limits.pipelined_octets
        )

    def begin(self, transaction: Transaction) -> None:
        """Let another transaction begin, where nothing is under way, or there is room."""
        if self._queue and self._queue[-1].settled:
            self._queue.clear()
        if self._queue:
            # RFC 2920 3.1: with the content in front in one group, and nothing left of it
            transaction.commands = [Rset(), *transaction.commands]
        self._queue.append(transaction)

    def go_on(self) -> Steps[None]:
        """Send what can be sent of the newest; unless that was the last of it, wait for replies."""
        newest = self._queue[-1]
        if newest.content_sent:
            return self._hear()
        if newest.awaits_content:
            return self._send_content(newest)
        return self._send_commands(newest)

    def note_last_words(self) -> None:
        """Take note of what the server had said before a send failed."""
        self._note([(event.command, event.reply) for event in self._session.last_words])

    def _send_commands(self, transaction: Transaction) -> Steps[None]:
        """As many commands in a flight as may be. RFC 2920 3.1"""
        session, engine = self._session, self._engine
        room = self._window - engine.outstanding
        # What is still outstanding at the end of the session brings its error about, below.
        if room <= 0 or engine.finished or not transaction.unsent:
            yield from self._hear()
            return
        batch = transaction.commands[transaction.sent : transaction.sent + room]
        if isinstance(batch[-1], Bdat):
            octets = engine.send_group(batch[:-1])
            octets += engine.send_chunk(transaction.message.content or b"", last=True)
            yield from session.transmit(octets, session.timer(Phase.FINAL))
            transaction.content_sent = True
            transaction.sent += len(batch)
        else:
            timer = self._timer()
            yield from session.transmit(engine.send_group(batch), timer)
            transaction.sent += len(batch)
            yield from self._hear(timer)

    def _send_content(self, transaction: Transaction) -> Steps[None]:
        """The content after 354, to its end."""
        session, content = self._session, transaction.message.content
        if content is None:
            yield from _send_pieces(session, transaction.message)
            last = b""
        else:
            start = 0
            while len(content) - start > _BLOCK:
                octets = self._engine.send_content(memoryview(content)[start : start + _BLOCK])
                yield from session.transmit(octets, session.timer(Phase.BLOCK))
                start += _BLOCK
            last = self._engine.send_content(memoryview(content)[start:] if start else content)
        yield from session.transmit(last + self._engine.end_content(), session.timer(Phase.BLOCK))
        transaction.content_sent = True

    def _hear(self, timer: Timer | None = None) -> Steps[None]:
        """Wait for replies; where the last of them leaves something behind, clear up."""
        session, queue = self._session, self._queue
        if timer is None:
            timer = self._timer()
        replies = yield from session.next_replies(timer)
        self._note(replies)
        if queue[-1].settled:
            if self.closing is None and not session.ready_for_mail:
                yield from _clear_up(session)
        elif session.over:
            session.poll(timer)  # it raises if the last was no answer to all
            self._close(replies[-1][1])

    def _timer(self) -> Timer:
        """A new wait, for what is answered next."""
        queue = self._queue
        if len(queue) > 1 and queue[0].settled:
            queue.popleft()
        return self._session.timer(queue[0].phase)

    def _note(self, replies: Sequence[tuple[Request, Reply]]) -> None:
        """Give each transaction the replies that are its own."""
        queue, start = self._queue, 0
        if len(queue) > 1:
            for place, (request, _) in enumerate(replies):
                if len(queue) > 1 and request is queue[1].commands[0]:
                    queue.popleft().note(replies[start:place])
                    start = place
        queue[0].note(replies[start:] if start else replies)
        if queue[0].closing is not None:
            self._close(queue[0].closing)

    def _close(self, reply: Reply) -> None:
        self.closing = reply
        for transaction in self._queue:
            transaction.close(reply)


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
        elif engine.can_send(Rset()):
            yield from session.request(Rset(), Phase.COMMAND)  # RFC 3030 2, after BDAT
    except SMTPError:
        return
