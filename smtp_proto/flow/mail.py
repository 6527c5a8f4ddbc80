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
_BEGINNING = 65_536  # octets of content in pieces that are looked at before anything is sent


class SendMail(Flow[SendResult]):
    """Sends one message to the recipients of an envelope.

    `content`: the whole message, or None: then the flow fetches it piece by piece with Content
    actions, 64 KiB before it sends anything. Line ends are made CRLF.

    What the message needs is found out from the content; where it has more than those 64 KiB, from
    these, and BODY=8BITMIME is said wherever it is offered. Else the caller can tell: `eight_bit`,
    whether there are octets above 127; `smtputf8`, whether there are in the header; `size`, how
    many octets there are, which SIZE says unless their line ends are seen to be others than CRLF.

    Of `mail_parameters` of the envelope, `size` counts where no other is known; of `body`, 8BITMIME
    is said wherever it is offered, 7BIT is held to, and BINARYMIME is refused. `smtputf8` is said
    wherever it is offered: where a message came with it, it may have a header in UTF-8 that stands
    behind those 64 KiB, or in a message within it. Where it is not offered, only what is known to
    be ASCII goes out, by its octets, `eight_bit` or 7BIT, with domains as A-labels. RFC 6531 3.2

    One refused recipient does not stop the others. `next_action()` raises SenderRefused,
    RecipientsRefused, ContentRefused, CapabilityMissing or MessageTooLarge, or WireError for what
    cannot be sent, after which the session can be used further; and DeliveryInDoubt,
    ConnectionLost, SMTPTimeout or ProtocolViolation, after which it cannot. Nor can it where
    content is found to be wrong, or its source raises something, when it is being sent already: a
    NUL, or octets above 127 that nothing has announced. Then nothing was delivered.
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
    if message.content is None:
        yield from fetch_beginning(session, message)
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
    behind which the server says nothing more. `loss`: what has ended the session when all were
    settled.
    """

    __slots__ = ("_engine", "_queue", "_session", "_window", "closing", "loss")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._engine = session.engine
        self._window = session.limits.pipelined_commands if session.pipelining else 1
        self._queue: deque[Transaction] = deque()  # the next reply belongs to the first of them
        self.closing: Reply | None = None
        self.loss: SMTPError | None = None

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
            last = yield from _send_pieces(session, transaction.message)
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
                self.loss = yield from _clear_up(session)
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


def fetch_beginning(session: Session, message: Message) -> Steps[None]:
    """Fetch as much of content in pieces as tells what it needs: all of it, if it is small.

    Raises WireError for what cannot be sent.
    """
    pieces: list[bytes] = []
    size = 0
    while size < _BEGINNING:
        piece = yield from _next_piece(session)
        if piece is None:
            message.take_whole(b"".join(pieces))
            return
        pieces.append(piece)
        size += len(piece)
    message.take_beginning(b"".join(pieces))


def _send_pieces(session: Session, message: Message) -> Steps[bytes]:
    """Content that the caller has elsewhere, gathered into blocks; returns what is left to send."""
    gathered = [session.engine.send_content(message.beginning)]
    size = len(message.beginning)
    while True:
        if size >= _GATHERED:
            yield from session.transmit(b"".join(gathered), session.timer(Phase.BLOCK))
            gathered.clear()
            size = 0
        piece = yield from _next_piece(session)
        if piece is None:
            return b"".join(gathered)
        message.check(piece)
        gathered.append(session.engine.send_content(piece))
        size += len(piece)


def _next_piece(session: Session) -> Steps[bytes | None]:
    timer = session.timer(Phase.BLOCK)
    try:
        piece: Octets | None = yield Content(timer)
    except TimeoutError as error:
        raise session.timed_out(timer, error) from error
    return None if piece is None else bytes(piece)  # its owner may put the next one in its place


def _clear_up(session: Session) -> Steps[SMTPError | None]:
    """Bring the server back to where it takes another MAIL.

    Where that fails, the session is no longer usable: no more than that. Returns why.
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
    except SMTPError as error:
        return error
    return None
