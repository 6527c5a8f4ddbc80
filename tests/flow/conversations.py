"""Whole conversations about one message, and what the truth is at each octet of them.

Knows transcripts. Must not know how a flow finds its way through them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from smtp_proto.engine import Protocol
from smtp_proto.flow.envelope import Envelope, SendResult
from smtp_proto.flow.errors import (
    ConnectionLost,
    ContentRefused,
    DeliveryInDoubt,
    RecipientsRefused,
    SenderRefused,
    SMTPError,
)
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.session import Session
from tests.flow.scripted import CLEAR, Server, Transcript, play, settings

S = TypeVar("S", bound=Transcript)

BODY = b"Subject: x\r\n\r\nhello\r\n"
TWO = Envelope.of("a@example.org", ["b@example.net", "c@example.net"])

_GREETING = """
S: 220-mail.test ESMTP
S: 220 at your service
C: EHLO [192.0.2.7]
S: 250-mail.test
"""
_FROM = "C: MAIL FROM:<a@example.org>\n"
_TO_B = "C: RCPT TO:<b@example.net>\n"
_TO_C = "C: RCPT TO:<c@example.net>\n"
_DATA = "C: DATA\n"
_CONTENT = "C: Subject: x\nC:\nC: hello\n"
_END = _CONTENT + "C: .\n"
_GROUP = _FROM + _TO_B + _TO_C + _DATA
_CHUNK = _FROM + _TO_B + _TO_C + "C: BDAT 21 LAST\n" + _CONTENT

_OK = "S: 250 2.0.0 Ok\n"
_AND_SO_ON = "S: 250-2.0.0 Ok\nS: 250-2.0.0 and\nS: 250 2.0.0 so on\n"
_NO = "S: 550 5.7.1 No\n"
_LATER = "S: 451-4.3.0 Not now\nS: 451 4.3.0 later\n"
_GO = "S: 354 Go ahead\n"
_CLOSING = "S: 421 4.3.2 Closing\n"
_RESET = "C: RSET\n" + _OK


def _one_by_one(*replies: str) -> str:
    commands = (_FROM, _TO_B, _TO_C, _DATA, _END)
    return "".join(command + reply for command, reply in zip(commands, replies, strict=False))


@dataclass(frozen=True)
class Conversation:
    """One message, from the greeting to where its fate is known and the session is free again.

    `script`: what is said once the session is open. `outcome`: what becomes of the message;
    `decisive`: how many replies of the script it takes to know that. `usable`: whether the session
    is, in the end. `pieces`: what the content comes in; None: whole.
    """

    offers: tuple[str, ...]
    script: str
    outcome: type[SendResult | SMTPError]
    decisive: int
    usable: bool = True
    opening: OpenSettings = CLEAR
    pieces: tuple[bytes, ...] | None = None

    @property
    def hello(self) -> str:
        *more, last = self.offers
        hello = _GREETING + "".join(f"S: 250-{word}\n" for word in more) + f"S: 250 {last}\n"
        return hello.replace("EHLO", "LHLO") if self.opening.protocol is Protocol.LMTP else hello

    @property
    def text(self) -> str:
        return self.hello + self.script

    @property
    def replies(self) -> list[tuple[int, str, int]]:
        """Of each reply in the script: the octets up to its end, what it answers, its code."""
        lines = [line.strip() for line in self.script.splitlines()]
        asked = [line[3:7] for line in lines if re.match(r"C: ([A-Z]{4}|\.$)", line)]
        replies: list[tuple[int, str, int]] = []
        octets = 0
        for line in lines:
            if line.startswith("S: "):
                octets += len(line[3:]) + 2
                if line[6] == " ":
                    # In LMTP there are several to the end of the content.
                    request = asked.pop(0) if asked else "."
                    replies.append((octets, request, int(line[3:6])))
        return replies

    @property
    def octets(self) -> int:
        """What the server says in the script."""
        return self.replies[-1][0]

    def open(self, server: S) -> tuple[Session, S]:
        """Have the session opened."""
        session = play(OpenSession(self.opening), server)
        server.flights = 0
        return session, server

    def send(self, session: Session, server: Server) -> SendResult:
        """Have the message sent; raises what that raises."""
        pieces = self.pieces or ()
        return play(SendMail(session, TWO, None if pieces else BODY), server, pieces)

    def outcome_of(self, session: Session, server: Server) -> SendResult | SMTPError:
        """What becomes of the message. An error that is not documented is raised."""
        try:
            return self.send(session, server)
        except SMTPError as error:
            return error

    def truth(self, sent: bytes, octets: int) -> type[SendResult | SMTPError] | None:
        """What has to come out, by what was sent and how much was heard; None: it was not sent."""
        heard = [(request, code) for end, request, code in self.replies if end <= octets]
        if len(heard) >= self.decisive:
            return self.outcome
        refused = [request for request, code in heard if code >= 400]
        hopeless = "MAIL" in refused or refused.count("RCPT") == len(TWO.forward_paths)
        all_sent = BODY if "BDAT" in self.script else BODY + b".\r\n"
        return DeliveryInDoubt if all_sent in sent and not hopeless else None


_PIPELINING = ("ENHANCEDSTATUSCODES", "PIPELINING")
_CHUNKING = ("CHUNKING", "PIPELINING")
_PLAIN = ("HELP",)
_OVER_LMTP = settings(protocol=Protocol.LMTP)


def _pipelined(
    replies: str, outcome: type[SendResult | SMTPError], decisive: int, *, usable: bool = True
) -> Conversation:
    return Conversation(_PIPELINING, _GROUP + replies, outcome, decisive, usable)


def _alone(
    replies: Iterable[str], then: str, outcome: type[SendResult | SMTPError], decisive: int
) -> Conversation:
    return Conversation(_PLAIN, _one_by_one(*replies) + then, outcome, decisive)


def _chunked(
    replies: str, outcome: type[SendResult | SMTPError], decisive: int, *, usable: bool = True
) -> Conversation:
    return Conversation(_CHUNKING, _CHUNK + replies, outcome, decisive, usable)


def _lmtp(
    replies: str, outcome: type[SendResult | SMTPError], decisive: int, *, usable: bool = True
) -> Conversation:
    script = _GROUP + replies
    return Conversation(_PIPELINING, script, outcome, decisive, usable, _OVER_LMTP)


_BOTH_ACCEPTED = _OK + _OK + _OK + _GO + _END

CONVERSATIONS = {
    "all accepted": _pipelined(_BOTH_ACCEPTED + _OK, SendResult, 5),
    "long replies": _pipelined(
        _AND_SO_ON * 3 + "S: 354-Go\nS: 354 on\n" + _END + _AND_SO_ON, SendResult, 5
    ),
    "one recipient refused": _pipelined(_OK + _NO + _OK + _GO + _END + _OK, SendResult, 5),
    "all recipients refused": _pipelined(_OK + _NO + _LATER + _NO + _RESET, RecipientsRefused, 4),
    "354 for nobody": _pipelined(_OK + _NO + _NO + _GO + "C: .\n" + _NO, RecipientsRefused, 4),
    "sender refused": _pipelined(_LATER + _NO + _NO + _NO, SenderRefused, 4),
    "DATA refused": _pipelined(_OK + _OK + _OK + _LATER + _RESET, ContentRefused, 4),
    "content refused": _pipelined(_BOTH_ACCEPTED + _LATER, ContentRefused, 5),
    "421 to the content": _pipelined(_BOTH_ACCEPTED + _CLOSING, ContentRefused, 5, usable=False),
    "421 to RCPT": _pipelined(_OK + _CLOSING, ConnectionLost, 2, usable=False),
    "alone: all accepted": _alone((_OK, _OK, _OK, _GO, _OK), "", SendResult, 5),
    "alone: one recipient refused": _alone((_OK, _OK, _NO, _GO, _OK), "", SendResult, 5),
    "alone: all recipients refused": _alone((_OK, _NO, _NO), _RESET, RecipientsRefused, 3),
    "alone: sender refused": _alone((_LATER,), "", SenderRefused, 1),
    "alone: DATA refused": _alone((_OK, _OK, _OK, _NO), _RESET, ContentRefused, 4),
    "alone: 421 to RCPT": Conversation(
        _PLAIN, _one_by_one(_OK, _CLOSING), ConnectionLost, 2, usable=False
    ),
    "alone: 421 to DATA": Conversation(
        _PLAIN, _one_by_one(_OK, _OK, _NO, _CLOSING), ContentRefused, 4, usable=False
    ),
    "alone: content refused": _alone((_OK, _OK, _OK, _GO, _NO), "", ContentRefused, 5),
    "pieces: accepted": Conversation(
        _PIPELINING, _GROUP + _BOTH_ACCEPTED + _OK, SendResult, 5, pieces=(BODY[:11], BODY[11:])
    ),
    "chunk: accepted": _chunked(_OK + _OK + _OK + _AND_SO_ON, SendResult, 4),
    "chunk: one recipient refused": _chunked(_OK + _NO + _OK + _OK, SendResult, 4),
    "chunk: all recipients refused": _chunked(_OK + _NO + _NO + _NO + _RESET, RecipientsRefused, 4),
    "chunk: for nobody": _chunked(_OK + _NO + _NO + _OK, RecipientsRefused, 4),
    "chunk: sender refused": _chunked(_NO + _NO + _NO + _NO + _RESET, SenderRefused, 4),
    "chunk: content refused": _chunked(_OK + _OK + _OK + _LATER + _RESET, ContentRefused, 4),
    "chunk: 421 to RCPT": _chunked(_OK + _CLOSING, ConnectionLost, 2, usable=False),
    "LMTP: both have it": _lmtp(_BOTH_ACCEPTED + _OK + _OK, SendResult, 6),
    "LMTP: one has it": _lmtp(_BOTH_ACCEPTED + _OK + _LATER, SendResult, 6),
    "LMTP: the other one has it": _lmtp(_BOTH_ACCEPTED + _NO + _OK, SendResult, 6),
    "LMTP: neither has it": _lmtp(_BOTH_ACCEPTED + _NO + _LATER, RecipientsRefused, 6),
    "LMTP: 421 to the second": _lmtp(_BOTH_ACCEPTED + _OK + _CLOSING, SendResult, 6, usable=False),
    "LMTP: one recipient": _lmtp(_OK + _NO + _OK + _GO + _END + _OK, SendResult, 5),
}
"""By what happens in them."""
