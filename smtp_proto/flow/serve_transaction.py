"""The server's side of a mail transaction: sender, recipients, content. RFC 5321 3.3

Knows what belongs to one message, and that it is handed over whole or not at all.
Must not know which command is legal now, nor where the content ends: the engine tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import cast

from smtp_proto.engine.table import Protocol
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.handler import ServerSession
from smtp_proto.flow.journal import Journal
from smtp_proto.flow.serve_questions import Questions
from smtp_proto.wire.address import ReversePath
from smtp_proto.wire.command import Mail, Rcpt
from smtp_proto.wire.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS
from smtp_proto.wire.reply import Reply

_SENDER_OK = Reply.build(250, "Sender ok", status="2.1.0")
_RECIPIENT_OK = Reply.build(250, "Recipient ok", status="2.1.5")
_CHUNK_OK = Reply.build(250, "Chunk received", status="2.0.0")
_MESSAGE_OK = Reply.build(250, "Message accepted", status="2.0.0")


class Transactions:
    """The transactions of one client, one after the other.

    What the handler may see of the present one stands in the session.
    """

    __slots__ = ("_content", "_journal", "_protocol", "_questions", "_refusal", "_session")

    def __init__(
        self, protocol: Protocol, session: ServerSession, questions: Questions, journal: Journal
    ) -> None:
        self._protocol = protocol
        self._journal = journal
        self._session = session
        self._questions = questions
        # Not a list of pieces: each of them may be a single octet.  RFC 3030 2
        # Not a bytearray: to make octets of that, all of them are copied.
        self._content = BytesIO()
        self._refusal: Reply | None = None  # of the content: the handler has failed at a piece

    @property
    def under_way(self) -> bool:
        """Whether a sender has been accepted, and nothing has ended the transaction yet."""
        return self._session.reverse_path is not None

    def begin(self, mail: Mail) -> Steps[Reply]:
        """Return the reply to MAIL."""
        reply = (yield from self._questions.reply("on_mail", mail)) or _SENDER_OK
        if reply.positive:
            self._session.reverse_path = mail.reverse_path
            self._session.mail_parameters = mail.parameters
        return reply

    def add(self, rcpt: Rcpt) -> Steps[Reply]:
        """Return the reply to RCPT."""
        smtputf8 = self._session.mail_parameters.smtputf8
        reply = yield from self._questions.reply("on_rcpt", rcpt, smtputf8=smtputf8)
        reply = reply or _RECIPIENT_OK
        if reply.positive:
            self._session.recipients.append(rcpt)
        return reply

    def take(self, data: bytes) -> Steps[None]:
        """Take a piece of the content."""
        if "on_content" not in self._questions:
            self._content.write(data)
        elif self._refusal is None:
            self._refusal = yield from self._questions.tell("on_content", data)

    def end(self, refusal: Reply | None, *, last: bool) -> Steps[Sequence[Reply]]:
        """Return the replies to the content, or to a chunk that is not its `last`.

        `refusal`: what the engine says against it. If there is none, and the handler has not
        failed before, it gets the message, and the transaction is over.
        """
        refusal = refusal or self._refusal
        if refusal is None and last:
            return (yield from self._deliver())
        if refusal is not None:
            self._journal.happened(f"refused content: {refusal}")
        # RFC 2033 4.3
        per_recipient = last and self._protocol is Protocol.LMTP
        count = len(self._session.recipients) if per_recipient else 1
        return (refusal or _CHUNK_OK,) * count

    def _deliver(self) -> Steps[Sequence[Reply]]:
        """Give the handler the message, and return the replies to it."""
        recipients = self._session.recipients
        envelope = _envelope(self._session)
        content = self._content.getvalue()
        size = len(content)
        whom = f"{len(envelope.forward_paths)} recipient(s)"
        self._content = BytesIO()  # not kept a second time while the handler works on it
        per_recipient = self._protocol is Protocol.LMTP
        count = len(envelope.forward_paths) if per_recipient else 1
        replies = yield from self._questions.replies(count, envelope, content)
        replies = replies or (_MESSAGE_OK,) * count
        for reply in replies:
            self._journal.happened(f"a message of {size} octets for {whom}: {reply}")
        self._forget()
        if not per_recipient:
            return replies
        # Who was given twice is twice told.  RFC 2033 4.2
        reply_to = dict(zip(envelope.forward_paths, replies, strict=True))
        return [reply_to[rcpt.forward_path] for rcpt in recipients]

    def give_up(self) -> Steps[None]:
        """Forget the transaction, and let the handler forget it."""
        self._forget()
        yield from self._questions.tell("on_reset")

    def _forget(self) -> None:
        self._session.reverse_path = None
        self._session.mail_parameters = NO_MAIL_PARAMETERS
        self._session.recipients = []
        self._content = BytesIO()
        self._refusal = None


def _envelope(session: ServerSession) -> Envelope:
    return Envelope(
        cast("ReversePath", session.reverse_path),  # there is no content without one
        tuple(dict.fromkeys(rcpt.forward_path for rcpt in session.recipients)),
        session.mail_parameters,
        {
            rcpt.forward_path: rcpt.parameters
            for rcpt in session.recipients
            if rcpt.parameters != NO_RCPT_PARAMETERS
        },
    )
