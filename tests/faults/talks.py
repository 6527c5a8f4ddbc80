"""What a client does in one go, what its server says to it, and what the truth is in each case.

Knows transcripts, and how much of each was read and written. Must not know any world.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf

import trustme

from smtp_adapters.tls import ClientTLS, server_factory
from smtp_proto.engine import Protocol
from smtp_proto.flow import (
    CredentialReport,
    DeliveryInDoubt,
    Envelope,
    ProtocolViolation,
    ReplyError,
    Security,
    SendResult,
    SMTPError,
    SMTPTimeout,
    Timeouts,
    TLSLayer,
)
from smtp_proto.testing import Clock, Fault, ScriptedPeer
from tests.adapters.worlds import Client
from tests.faults.kit import MOMENT

TWO = Envelope.of("a@example.org", ["b@example.net", "c@example.net"])
ONE = Envelope.of("a@example.org", "d@example.net")
NOBODY = Envelope.of("a@example.org", "nobody@example.net")
BODY = b"Subject: x\r\n\r\n.hello\r\n"
DOTTED = b"Subject: x\r\n\r\n..hello\r\n.\r\n"
DOTTED_YES = b"Subject: yes\r\n.\r\n"
LONG_LINE = b"x" * 65_536 + b"\r\n"
MANY = [(TWO, BODY), (NOBODY, b"Subject: no\n"), (ONE, b"Subject: yes\n")]
CHUNKS = [(TWO, BODY), (ONE, b"1\n"), (ONE, b"22\n")]
AUTH = ("ann", "secret")

_AUTHORITY = trustme.CA()
# An RSA signature has always as many octets: so a cut means the same in each handshake.
_LEAF = _AUTHORITY.issue_cert("mx.example.org", key_type=trustme.KeyType.RSA)
CLIENT_TLS = ClientTLS(ca_data=_AUTHORITY.cert_pem.bytes().decode())


def _server_layers() -> Callable[[], TLSLayer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _LEAF.configure_cert(context)
    return server_factory(context)


SERVER_TLS = _server_layers()


TOLD = "# told\n"


@dataclass(frozen=True, eq=False)
class Talk:
    """A client's doings behind `open()`. `opening`: what is said in that, `script`: behind it.

    `opens`: whether there is an open() at all. `contents`: the last that each message's content
    consists of; b"": no mail is sent. Each has an outcome; in `script`, TOLD stands behind that of
    each but the last. `partial`: whether each recipient has a fate of its own. `waits`: seconds
    that may go by before the client does anything.
    """

    opening: str
    script: str
    act: Callable[[Client], AsyncIterator[object]]
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    contents: tuple[bytes, ...] = (b"",)
    opens: bool = True
    partial: bool = False
    waits: float = 0.0

    @property
    def decisive(self) -> list[str]:
        """All that is said until the outcome is known: that of each message."""
        return list(accumulate((self.opening + self.script).split(TOLD)))

    @property
    def transcript(self) -> str:
        return self.opening + self.script + "C: QUIT\nS: 221 2.0.0 Goodbye\n"

    @property
    def secure(self) -> bool:
        return "<tls>" in self.transcript

    def peer(self, *faults: tuple[int, Fault], clock: Clock) -> ScriptedPeer:
        kind = Patient if self.waits else ScriptedPeer
        return kind(self.transcript, tls=SERVER_TLS, clock=clock, delay=MOMENT, faults=faults)


class Patient(ScriptedPeer):
    """Lets the client wait for what will not come."""

    def read(self, maximum: int = 65_536) -> bytes | None:
        return None if self.arrives == inf else super().read(maximum)


def said(transcript: str) -> int:
    """How many octets the server says in it."""
    return sum(map(len, lines_said(transcript)))


def lines_said(transcript: str) -> list[str]:
    """What the server says in it."""
    lines = [line.strip() for line in transcript.splitlines()]
    return [f"{line[3:]}\r\n" for line in lines if line.startswith("S:")]


_CLEAR = """
S: 220-mx.example.org ESMTP
S: 220 at your service
C: EHLO client.example
S: 250-mx.example.org
S: 250-HELP
S: 250 {offers}
"""
_HELLO = _CLEAR.replace("S: 250 {offers}", "S: 250-PIPELINING\nS: 250 {offers}")
_STARTTLS = """
C: STARTTLS
S: 220 2.0.0 Go ahead
<tls>
C: EHLO client.example
S: 250-mx.example.org
S: 250-PIPELINING
S: 250 AUTH PLAIN
"""
_LOGIN = """
C: AUTH PLAIN *
S: 235 2.7.0 Welcome
"""
_SECURE = _CLEAR.format(offers="STARTTLS") + _STARTTLS + _LOGIN
_FROM_THE_START = "<tls>" + _HELLO.format(offers="AUTH PLAIN") + _LOGIN
_TUNNEL = """
C: CONNECT mx.example.org:587 HTTP/1.1
C: Host: mx.example.org:587
C: Proxy-Authorization: Basic *
C:
S: HTTP/1.1 200 Connection established
S: Via: 1.1 proxy.example
S:
"""
_TRANSACTION = """
C: MAIL FROM:<a@example.org>
C: RCPT TO:<b@example.net>
C: RCPT TO:<c@example.net>
"""
_OK = "S: 250 2.0.0 Ok\n"
_NO = "S: 550-5.1.1 No such\nS: 550 5.1.1 user\n"
_GO = "S: 354 Go ahead\n"
_CONTENT = "C: Subject: x\nC:\nC: ..hello\nC: .\n"
_DATA = _TRANSACTION + "C: DATA\n" + _OK * 3 + _GO + _CONTENT
_TO_ONE = "C: MAIL FROM:<a@example.org>\nC: RCPT TO:<d@example.net>\n"
_MANY = f"""
{_DATA}
C: RSET
C: MAIL FROM:<a@example.org>
C: RCPT TO:<nobody@example.net>
C: DATA
{_OK}
{TOLD}
{_OK * 2}
{_NO}
S: 554 5.5.1 To whom?
{TOLD}
C: RSET
{_OK}
{_TO_ONE}
C: DATA
{_OK * 2}
{_GO}
C: Subject: yes
C: .
{_OK}
"""
_CHUNKS = f"""
{_TRANSACTION}
C: BDAT 22 LAST
C: Subject: x
C:
C: .hello
C: RSET
{_TO_ONE}
C: BDAT 3 LAST
C: 1
C: RSET
{_TO_ONE}
C: BDAT 4 LAST
C: 22
{_OK * 4}
{TOLD}
{_OK * 4}
{TOLD}
{_OK * 4}
"""

_IN_CLEAR: dict[str, object] = {"security": Security.NONE, "local_hostname": "client.example"}
_BY_TLS: dict[str, object] = {
    **_IN_CLEAR,
    "security": Security.STARTTLS,
    "tls": CLIENT_TLS,
    "auth": AUTH,
}


async def _nothing(client: Client) -> AsyncIterator[object]:
    yield client.capabilities


async def _send(client: Client) -> AsyncIterator[object]:
    yield await client.send(TWO, BODY)


async def _send_pieces(client: Client) -> AsyncIterator[object]:
    yield await client.send(TWO, [BODY[:11], BODY[11:12], BODY[12:]])


async def _send_many_pieces(client: Client) -> AsyncIterator[object]:
    yield await client.send(TWO, [LONG_LINE, BODY])


def _send_many(client: Client) -> AsyncIterator[object]:
    return client.send_many(MANY)


def _send_chunks(client: Client) -> AsyncIterator[object]:
    return client.send_many(CHUNKS)


async def _ask(client: Client) -> AsyncIterator[object]:
    yield [
        await client.reset(),
        await client.noop(),
        await client.verify("ann"),
        await client.expand("staff"),
    ]


async def _by_hand(client: Client) -> AsyncIterator[object]:
    await client.start_tls()
    await client.authenticate(AUTH)
    yield client.tls is not None


async def _check(client: Client) -> AsyncIterator[object]:
    yield await client.check_credentials()


TALKS = {
    "open": Talk(_SECURE, "", _nothing, _BY_TLS),
    "chunk": Talk(
        _HELLO.format(offers="CHUNKING"),
        _TRANSACTION + "C: BDAT 22 LAST\nC: Subject: x\nC:\nC: .hello\n" + _OK * 4,
        _send,
        _IN_CLEAR,
        (BODY,),
    ),
    "pieces": Talk(
        _HELLO.format(offers="8BITMIME"), _DATA + _OK, _send_pieces, _IN_CLEAR, (DOTTED,)
    ),
    "one refused": Talk(
        _HELLO.format(offers="ENHANCEDSTATUSCODES"),
        _TRANSACTION + "C: DATA\n" + _OK + _NO + _OK + _GO + _CONTENT + _OK,
        _send,
        _IN_CLEAR,
        (DOTTED,),
    ),
    "one by one": Talk(
        _CLEAR.format(offers="8BITMIME"),
        "C: MAIL *\n" + _OK + ("C: RCPT *\n" + _OK) * 2 + "C: DATA\n" + _GO + _CONTENT + _OK,
        _send,
        _IN_CLEAR,
        (DOTTED,),
    ),
    "LMTP": Talk(
        _HELLO.format(offers="8BITMIME").replace("EHLO", "LHLO"),
        _DATA + _OK + _NO,
        _send,
        {**_IN_CLEAR, "protocol": Protocol.LMTP},
        (DOTTED,),
        partial=True,
    ),
    "secure": Talk(_SECURE, _DATA + _OK, _send, _BY_TLS, (DOTTED,)),
    "commands": Talk(
        _CLEAR.format(offers="EXPN"),
        "C: RSET\n" + _OK + "C: NOOP\n" + _OK + "C: VRFY ann\nS: 252 2.1.5 Maybe\n"
        "C: EXPN staff\nS: 250-2.1.5 <ann@example.org>\nS: 250 2.1.5 <bob@example.org>\n",
        _ask,
        _IN_CLEAR,
    ),
    "by hand": Talk(
        _CLEAR.format(offers="STARTTLS"),
        _STARTTLS + _LOGIN,
        _by_hand,
        {**_BY_TLS, "security": Security.MANUAL, "auth": None},
    ),
    "check": Talk(_SECURE, "", _check, _BY_TLS, opens=False),
    "many": Talk(
        _HELLO.format(offers="8BITMIME"),
        _MANY,
        _send_many,
        _IN_CLEAR,
        (DOTTED, b"", DOTTED_YES),
    ),
    "many chunks": Talk(
        _HELLO.format(offers="CHUNKING"),
        _CHUNKS,
        _send_chunks,
        _IN_CLEAR,
        (BODY, b"BDAT 3 LAST\r\n1\r\n", b"BDAT 4 LAST\r\n22\r\n"),
    ),
    "proxy": Talk(
        _TUNNEL + _HELLO.format(offers="8BITMIME"),
        _DATA + _OK,
        _send,
        {**_IN_CLEAR, "port": 587, "proxy": "http://ann:secret@proxy.example"},
        (DOTTED,),
    ),
    "IMPLICIT": Talk(
        _FROM_THE_START,
        _DATA + _OK,
        _send,
        {**_BY_TLS, "security": Security.IMPLICIT},
        (DOTTED,),
    ),
    "AUTO": Talk(
        _FROM_THE_START,  # the server waits for that, and the client for a greeting
        "",
        _nothing,
        {
            **_BY_TLS,
            "security": Security.AUTO,
            "port": 2525,
            "timeouts": Timeouts(greeting_probe=0.01),
        },
        waits=0.01,
    ),
}
MANY_PIECES = Talk(
    _HELLO.format(offers="8BITMIME"),
    _DATA.replace("org>\n", "org> BODY=8BITMIME\n").replace("C: Sub", f"C: {'x' * 65_536}\nC: Sub")
    + _OK,
    _send_many_pieces,
    _IN_CLEAR,
    (DOTTED,),
)
"""Content of which not all is fetched before anything is sent; too long to be cut at each octet."""
SECURE = [name for name, talk in TALKS.items() if talk.secure]
CLEAR = [name for name, talk in TALKS.items() if not talk.secure]


async def take_part(talk: Talk, client: Client) -> list[object]:
    """Do it all; return the results or the errors. An error that is not documented is raised."""
    outcomes: list[object] = []
    try:
        if talk.opens:
            await client.open()
        async for outcome in talk.act(client):
            outcomes += [_checked(outcome) if isinstance(outcome, CredentialReport) else outcome]
    except SMTPError as error:
        outcomes += [error] * (len(talk.contents) - len(outcomes))  # what it got in the way of
    # Whether it is answered says nothing about what was before it.
    await client.quit()
    assert not client.is_open
    assert len(outcomes) == len(talk.contents)
    return outcomes


def _checked(report: CredentialReport) -> object:
    assert report.authenticated is (report.error is None)
    return report.error or True


@dataclass(frozen=True)
class Reference:
    """What came of a talk, or of one of its messages, where nothing went wrong.

    `says`: octets that the server says in clear until the outcome is known; `read`: octets on the
    wire until then; `written`: likewise; `content_written`: until all of the content was out.
    """

    outcome: object
    says: int
    read: int
    written: int
    content_written: float


def as_told(outcome: object) -> object:
    """An outcome, such that two of them are equal if they say the same."""
    match outcome:
        case SendResult():
            return outcome.accepted, outcome.refused, outcome.reply
        case ReplyError():
            return type(outcome), str(outcome)
        case _:
            return outcome


def judge(
    talk: Talk,
    outcome: object,
    reference: Reference,
    *,
    fault: Fault,
    known: bool | None,
    content_written: bool,
) -> None:
    """Say if that is the truth. `known`: whether all had been read that tells; None: perhaps."""
    if isinstance(reference.outcome, SMTPError):  # a refusal; nothing is ever sent
        assert isinstance(outcome, SMTPError)
        assert not isinstance(outcome, DeliveryInDoubt)
        assert known is not True or as_told(outcome) == as_told(reference.outcome)
        return
    if not isinstance(outcome, SMTPError):
        if talk.partial and fault is Fault.CLOSING:
            assert isinstance(outcome, SendResult)
            assert list(outcome.accepted) == ["b@example.net"]
            return
        assert known is not False, "it was not known yet"
        assert as_told(outcome) == as_told(reference.outcome)
        return
    assert known is not True, "it was known"
    if content_written and fault is Fault.CLOSING:
        # The server has said that it has not, unless it said so within a line of another reply.
        if isinstance(outcome, DeliveryInDoubt):
            assert isinstance(outcome.__cause__, ProtocolViolation)
    else:
        assert isinstance(outcome, DeliveryInDoubt) is content_written


def causes_of(error: SMTPError) -> list[BaseException]:
    """What has begun it: what stood in each way, where more than one was tried."""
    tried = [attempt.error for attempt in error.attempts if attempt.error is not None]
    return [cause_of(each) for each in (*tried, error)]


def cause_of(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def assert_in_time(talk: Talk, outcome: object, took: float, fault: Fault) -> None:
    """Where a peer falls silent, one limit is waited for: the one that the error names."""
    if fault is Fault.DRIP:
        return
    if not isinstance(outcome, SMTPError):
        assert took < talk.waits + 11.0  # a farewell
        return
    error = outcome.__cause__ if isinstance(outcome, DeliveryInDoubt) else outcome
    if fault in (Fault.SILENCE, Fault.STALL):
        assert isinstance(error, SMTPTimeout), repr(outcome)
        assert error.seconds is not None
        assert -0.001 < took - talk.waits - error.seconds < 1.0
    else:
        assert took < talk.waits + 1.0
