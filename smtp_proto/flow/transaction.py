"""One message on its way: what was sent of it, what the server has said, and what follows.

Knows which reply tells what about a message. Must not know how octets are sent, nor that there may
be other messages on the same way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from smtp_proto.engine import EndOfContent, Request
from smtp_proto.flow.envelope import SendResult
from smtp_proto.flow.errors import (
    ConnectionLost,
    DeliveryInDoubt,
    ReplyError,
    SMTPError,
    content_refused,
    recipients_refused,
    sender_refused,
)
from smtp_proto.flow.message import Message
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire import Bdat, Command, Data, ForwardPath, Mail, Rcpt, Reply, Rset

_PHASES: dict[type[Command], Phase] = {
    Rset: Phase.COMMAND,
    Mail: Phase.MAIL,
    Rcpt: Phase.RCPT,
    Data: Phase.DATA,
}


class Transaction:
    """A mail transaction (RFC 5321 3.3).

    `commands`: all that come before the content, or carry it; `sent` and `answered`: how many of
    them are. `content_sent`: whether all of the content is out, to its end. `settled`: whether its
    fate is known, and no reply to come belongs to it.
    """

    __slots__ = (
        "_not_answered",
        "_undelivered",
        "accepted",
        "answered",
        "closing",
        "commands",
        "content_sent",
        "delivered",
        "final",
        "go_ahead",
        "message",
        "recipients",
        "refused",
        "sender",
        "sent",
        "settled",
    )

    def __init__(
        self, commands: Sequence[Command], message: Message, recipients: Sequence[str]
    ) -> None:
        self.commands = commands
        self.message = message
        self.recipients = recipients
        self.sent = 0
        self.answered = 0
        self.content_sent = False
        self.settled = False
        self.sender: Reply | None = None
        self.accepted: dict[str, Reply] = {}
        self.refused: dict[str, Reply] = {}
        self.go_ahead: Reply | None = None  # to DATA
        self.final: Reply | None = None
        self.closing: Reply | None = None  # the server takes no message behind it
        self.delivered: dict[str, Reply] = {}  # LMTP: the final reply for each recipient
        self._not_answered = iter(recipients)
        self._undelivered: deque[str] | None = None  # LMTP: they wait for theirs

    # --- What the server says ----------------------------------------------------------------

    def note(self, replies: Sequence[tuple[Request, Reply]]) -> None:
        """Take note of replies to this message's commands, and to its content."""
        self.answered += len(replies)
        for request, reply in replies:
            if reply.code >= 400 and _is_the_end(request, reply):
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
                case _:  # RSET, or 421 that answers nothing
                    pass
        if self.closing is not None or self.complete:
            self.settled = True
        elif not self.content_sent and self.answered >= self.sent:
            self.settled = not self.unsent and not self.awaits_content

    def close(self, reply: Reply) -> None:
        """Nothing is sent behind this reply, to whatever it was. RFC 5321 3.8"""
        self.closing = reply
        self.settled = True

    def _note_final(self, recipient: ForwardPath | None, reply: Reply) -> None:
        self.final = reply
        if reply.positive:
            self.content_sent = True  # whatever became of the last write: the server has it all
        if recipient is not None:  # RFC 2033 4.2
            if self._undelivered is None:
                self._undelivered = deque(self.accepted)
            outcome = self.delivered if reply.positive else self.refused
            outcome[self._undelivered.popleft()] = reply
            if self.closing is not None:
                self.refused.update(dict.fromkeys(self._undelivered, self.closing))
                self._undelivered.clear()

    # --- What follows ------------------------------------------------------------------------

    @property
    def hopeless(self) -> bool:
        """Whether nothing that could still be sent makes a delivery of it."""
        return (
            self.closing is not None
            or (self.sender is not None and not self.sender.positive)
            or len(self.refused) == len(self.recipients)
        )

    @property
    def awaits_content(self) -> bool:
        """Whether the server has said 354, and the content is to be sent."""
        return (
            self.go_ahead is not None
            and self.go_ahead.code < 400
            and not self.content_sent
            and not self.hopeless
        )

    @property
    def unsent(self) -> bool:
        """Whether commands are still to be sent."""
        return self.sent < len(self.commands) and not self.hopeless

    @property
    def complete(self) -> bool:
        """Whether the server has said what became of the message, for each recipient."""
        return self.final is not None and not self._undelivered

    @property
    def in_doubt(self) -> bool:
        """Whether the message may have been delivered though nobody has said so."""
        return self.content_sent and not self.hopeless

    @property
    def phase(self) -> Phase:
        """What its next reply is about."""
        # Where the content goes out too, the server may look at it before it answers at all.
        if self.content_sent or self.answered >= len(self.commands):
            return Phase.FINAL
        return _PHASES[type(self.commands[self.answered])]

    def outcome(self) -> SendResult | SMTPError:
        """What became of the message, once it is settled."""
        return self._result() or self._refusal()

    def outcome_of_loss(self, error: SMTPError) -> SendResult | SMTPError:
        """What became of the message where `error` has ended the session."""
        if self.complete:
            return self.outcome()
        if not self.in_doubt:
            return error
        doubt = DeliveryInDoubt(
            f"the content was sent whole, but nobody knows whether it was taken: {error}",
            accepted=self.delivered,
            refused=self.refused,
        )
        doubt.phase = error.phase
        doubt.__cause__ = error
        return doubt

    def _result(self) -> SendResult | None:
        """The result, if the message was delivered to anybody."""
        if self.final is not None:
            if self.delivered:
                return SendResult(self.delivered, self.refused, self.final)
            if self.final.positive and self.accepted:
                return SendResult(self.accepted, self.refused, self.final)
        return None

    def _refusal(self) -> SMTPError:
        """Why the message was not delivered, by the first thing that stood in its way."""
        if self.sender is not None and not self.sender.positive:
            return sender_refused(Phase.MAIL, self.sender)
        if len(self.refused) == len(self.recipients):
            return recipients_refused(self.refused, self.accepted)
        if self.final is not None:
            return content_refused(Phase.FINAL, "the content", self.final)
        if self.go_ahead is not None:
            return content_refused(Phase.DATA, "DATA", self.go_ahead)
        return ConnectionLost(f"the server takes no message: {self.closing}", reply=self.closing)


def _is_the_end(request: Request, reply: Reply) -> bool:
    """Whether the server takes nothing behind this refusal."""
    # RFC 5321 4.1.1.5: RSET must be accepted, or what is left of the message before?
    return reply.code == 421 or isinstance(request, Rset)


def in_words(outcome: SendResult | SMTPError) -> str:
    """What a journal is told of a message."""
    match outcome:
        case SendResult():
            refused = f", refused for {len(outcome.refused)}" if outcome.refused else ""
            accepted = f"accepted for {len(outcome.accepted)} recipient(s)"
            return f"{accepted}{refused}: {outcome.reply}"
        case ReplyError():
            return f"refused: {outcome}"
        case DeliveryInDoubt():
            return f"in doubt: {outcome}"
        case _:
            return f"not sent: {outcome}"
