"""Conversations to play, and a client that takes part in them."""

from __future__ import annotations

from functools import partial

from smtp_proto.flow import (
    CloseSession,
    Envelope,
    Handler,
    OpenSession,
    OpenSettings,
    Security,
    SendMail,
    SendResult,
    Serve,
    ServeSettings,
    Timeouts,
)
from smtp_proto.testing import ADDRESS, Clock, FlowPeer, Stream, carry_out

DELIVERY = """
S: 220 mail.example.org ESMTP
C: EHLO client.example
S: 250-mail.example.org
S: 250 PIPELINING
C: MAIL FROM:<a@example.org>
C: RCPT TO:<b@example.net>
C: DATA
S: 250 Ok
S: 250 Ok
S: 354 Go ahead
C*: .
S: 250 Delivered
C: QUIT
S: 221 Goodbye
"""
"""One message, sent by `deliver()`."""

ENVELOPE = Envelope.of("a@example.org", ["b@example.net"])
CONTENT = b"Subject: x\r\n\r\n.hello\r\n"

open_settings = partial(
    OpenSettings,
    host="mail.example.org",
    port=25,
    security=Security.NONE,
    local_hostname="client.example",
)


def deliver(stream: Stream, settings: OpenSettings | None = None) -> SendResult:
    """Open a session, send one message, say goodbye."""
    session = carry_out(OpenSession(settings or open_settings()), stream)
    result = carry_out(SendMail(session, ENVELOPE, CONTENT), stream)
    carry_out(CloseSession(session), stream)
    return result


class Inbox(Handler):
    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def on_message(self, session: object, envelope: object, content: bytes) -> None:
        self.contents.append(content)


def serving(inbox: Inbox, clock: Clock, timeouts: Timeouts | None = None) -> FlowPeer[None]:
    """Return the client's end of a stream that our server serves."""
    settings = ServeSettings(
        hostname="mail.example.org",
        nonce=lambda: b"sixteen octets..",
        timeouts=timeouts or Timeouts(),
    )
    return FlowPeer(Serve(inbox, settings, ADDRESS), clock)
