"""Sending many messages over one connection, several of them under way at a time.

Knows the order of the messages, and that each has an outcome. Must not know the commands of a
transaction, nor where the messages come from.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow.envelope import Envelope, SendResult
from smtp_proto.flow.errors import CapabilityMissing, ConnectionLost, MessageTooLarge, SMTPError
from smtp_proto.flow.flow import ContentFailed, Flow, Steps
from smtp_proto.flow.mail import UnderWay, fetch_beginning
from smtp_proto.flow.message import Message, transaction_commands
from smtp_proto.flow.session import Session
from smtp_proto.flow.transaction import Transaction, in_words
from smtp_proto.wire import Octets, WireError

Outcome: TypeAlias = SendResult | SMTPError | ValueError
"""What became of one message of many: what sending it alone would have returned, or raised."""

_OF_ONE_MESSAGE = (CapabilityMissing, MessageTooLarge, WireError)  # the others may be sent


class SendMany:
    """Sends one message after the other; where the server allows it, before it has answered.

    Look: `under_way`, `wants_message`.
    Feed: `add()` or `add_error()` where a message is wanted, `end()` where there is none.
    Command: `go_on()`, while messages are under way: a flow to carry out.
    Poll: `next_outcome()`, before each of these.

    The outcomes come in the order of the messages, one for each; a refusal concerns one message
    alone. Where the session ends, each message that was added still has its outcome: that which
    the final reply has told; DeliveryInDoubt if its content was sent whole; and else the error that
    has ended the session, as it was not delivered. No message is sent twice.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._queue = UnderWay(session)
        self._added: deque[Transaction | Outcome] = deque()
        self._coming: tuple[Envelope, Message] | None = None  # behind those, in pieces
        self._no_more = False
        self._end: Exception | None = None
        self._flow: Flow[None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether there is a message whose fate is open: till then the session is in use."""
        return self._coming is not None or self._waits

    @property
    def _waits(self) -> bool:
        return any(map(_is_open, self._added))

    @property
    def wants_message(self) -> bool:
        """Whether another message can be added: those before it have been sent whole."""
        if self._no_more or self._coming is not None or self._end is not None:
            return False
        return not self._added or (_is_open(self._added[-1]) and self._queue.has_room)

    def add(
        self,
        envelope: Envelope,
        content: Octets | None,
        *,
        size: int | None = None,
        eight_bit: bool | None = None,
        smtputf8: bool | None = None,
    ) -> None:
        """Add a message, with the parameters of `SendMail`.

        One that comes in pieces begins when those before it have had their outcomes.
        """
        self._check_wanted()
        try:
            message = Message(content, size, eight_bit, smtputf8)
            if content is None:
                self._coming = envelope, message
            else:
                self._begin(envelope, message)
        except _OF_ONE_MESSAGE as error:
            self.add_error(error)

    def _begin(self, envelope: Envelope, message: Message) -> None:
        """Raises what is wrong with the message."""
        commands = transaction_commands(self.session, envelope, message)
        transaction = Transaction(commands, message, envelope.recipients)
        self._queue.begin(transaction)
        self._added.append(transaction)

    def add_error(self, error: SMTPError | ValueError) -> None:
        """Add a message that cannot even be sent: this is its outcome."""
        self._check_wanted()
        self._added.append(error)

    def _check_wanted(self) -> None:
        if not self.wants_message:
            raise LocalProtocolError("no message is wanted now: those before it come first")

    def end(self) -> None:
        """There is no other message."""
        self._no_more = True

    def go_on(self) -> Flow[None]:
        """A flow that sends what can be sent, until there is an outcome, or a message is wanted.

        It raises no SMTPError: the outcomes tell. It raises what the content of a message raises:
        that message, the first without an outcome, was not delivered, and no other is wanted. The
        session is over if anything had been sent of it.
        """
        self._flow = Flow(self._steps(), self.session.timeouts.total)
        return self._flow

    def next_outcome(self) -> Outcome | None:
        """What became of the next message; None: that is open, or there is none.

        Raises, when all have had theirs and from then on, what has ended the session.
        """
        if self._added and not _is_open(self._added[0]):
            added = self._added.popleft()
            outcome = added.outcome() if isinstance(added, Transaction) else added
            if self.session.journal.wants_events and not isinstance(outcome, ValueError):
                self.session.happened(in_words(outcome))
            return outcome
        if self._end is not None:
            raise self._end
        return None

    def _steps(self) -> Steps[None]:
        session = self.session
        try:
            yield from session.conversation(self._advance(), goes_on=self._queue.waits)
        except SMTPError as error:
            self._lose(error)
        except WireError as error:  # in a piece of content: all before have had their outcomes
            self._added = deque([error])
            self._end = error
        except ContentFailed:  # likewise
            self._added.clear()
            self._coming = None
            self.end()
            raise
        else:
            if not self._waits and not session.usable:
                self._end_with(self._queue.loss or self._lost())

    def _lost(self) -> ConnectionLost:
        closing = self._queue.closing
        if closing is not None:
            return ConnectionLost(f"the server takes no other message: {closing}", reply=closing)
        return ConnectionLost("behind a message that was refused the server takes no other")

    def _advance(self) -> Steps[None]:
        if self._coming is not None and not self._added:
            yield from self._begin_coming(*self._coming)
        while _is_open(self._added[0]) and not self.wants_message:
            yield from self._queue.go_on()

    def _begin_coming(self, envelope: Envelope, message: Message) -> Steps[None]:
        try:
            yield from fetch_beginning(self.session, message)
            self._begin(envelope, message)
        except _OF_ONE_MESSAGE as error:
            self._added.append(error)
        self._coming = None

    def _lose(self, error: SMTPError) -> None:
        """The session is over: settle all messages."""
        if error.phase is None and self._flow is not None:
            error.phase = self._flow.phase
        self._queue.note_last_words()
        self._added = deque(
            added.outcome_of_loss(error) if isinstance(added, Transaction) else added
            for added in self._added
        )
        self._end_with(error)

    def _end_with(self, error: SMTPError) -> None:
        """The session is over, also for the message that was not begun."""
        self._end = error
        if self._coming is not None:
            self._coming = None
            self._added.append(error)


def _is_open(added: Transaction | Outcome) -> bool:
    return isinstance(added, Transaction) and not added.settled
