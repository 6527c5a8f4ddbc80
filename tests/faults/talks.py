"""What a client does in one go, what its server says to it, and what the truth is in each case.

Knows transcripts, and how much of each was read and written. Must not know any world.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trustme

from smtp_adapters.tls import ClientTLS, server_factory
from smtp_proto.engine import Protocol
from smtp_proto.flow import (
    CredentialReport,
    DeliveryInDoubt,
    Envelope,
    ProtocolViolation,
    Security,
    SendResult,
    SMTPError,
    SMTPTimeout,
    TLSLayer,
)
from smtp_proto.testing import Clock, Fault, ScriptedPeer
from tests.adapters.worlds import Client
from tests.faults.kit import MOMENT

TWO = Envelope.of("a@example.org", ["b@example.net", "c@example.net"])
BODY = b"Subject: x\r\n\r\n.hello\r\n"
DOTTED = b"Subject: x\r\n\r\n..hello\r\n.\r\n"
LONG_LINE = b"x" * 65_536 + b"\r\n"
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


@dataclass(frozen=True)
class Talk:
    """A client's doings behind `open()`. `opening`: what is said in that, `script`: behind it.

    `opens`: whether there is an open() at all. `content`: the last that a message's content
    consists of; b"": no mail is sent. `partial`: whether each recipient has a fate of its own.
    """

    opening: str
    script: str
    act: Callable[[Client], Awaitable[object]]
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    content: bytes = b""
    opens: bool = True
    partial: bool = False

    @property
    def decisive(self) -> str:
        """All that is said until the outcome is known."""
        return self.opening + self.script

    @property
    def transcript(self) -> str:
        return self.decisive + "C: QUIT\nS: 221 2.0.0 Goodbye\n"

    @property
    def secure(self) -> bool:
        return "<tls>" in self.transcript

    def peer(self, *faults: tuple[int, Fault], clock: Clock) -> ScriptedPeer:
        return ScriptedPeer(
            self.transcript, tls=SERVER_TLS, clock=clock, delay=MOMENT, faults=faults
        )


def said(transcript: str) -> int:
    """How many octets the server says in it."""
    lines = [line.strip() for line in transcript.splitlines()]
    return sum(len(line) - 3 + 2 for line in lines if line.startswith("S: "))


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

_IN_CLEAR: dict[str, object] = {"security": Security.NONE, "local_hostname": "client.example"}
_BY_TLS: dict[str, object] = {
    **_IN_CLEAR,
    "security": Security.STARTTLS,
    "tls": CLIENT_TLS,
    "auth": AUTH,
}


async def _nothing(client: Client) -> object:
    return client.capabilities


async def _send(client: Client) -> object:
    return await client.send(TWO, BODY)


async def _send_pieces(client: Client) -> object:
    return await client.send(TWO, [BODY[:11], BODY[11:12], BODY[12:]])


async def _send_many_pieces(client: Client) -> object:
    return await client.send(TWO, [LONG_LINE, BODY])


async def _ask(client: Client) -> object:
    return [await client.reset(), await client.noop(), await client.verify("ann")]


async def _by_hand(client: Client) -> object:
    await client.start_tls()
    await client.authenticate(AUTH)
    return client.tls is not None


async def _check(client: Client) -> object:
    return await client.check_credentials()


TALKS = {
    "open": Talk(_SECURE, "", _nothing, _BY_TLS),
    "chunk": Talk(
        _HELLO.format(offers="CHUNKING"),
        _TRANSACTION + "C: BDAT 22 LAST\nC: Subject: x\nC:\nC: .hello\n" + _OK * 4,
        _send,
        _IN_CLEAR,
        BODY,
    ),
    "pieces": Talk(_HELLO.format(offers="8BITMIME"), _DATA + _OK, _send_pieces, _IN_CLEAR, DOTTED),
    "one refused": Talk(
        _HELLO.format(offers="ENHANCEDSTATUSCODES"),
        _TRANSACTION + "C: DATA\n" + _OK + _NO + _OK + _GO + _CONTENT + _OK,
        _send,
        _IN_CLEAR,
        DOTTED,
    ),
    "one by one": Talk(
        _CLEAR.format(offers="8BITMIME"),
        "C: MAIL *\n" + _OK + ("C: RCPT *\n" + _OK) * 2 + "C: DATA\n" + _GO + _CONTENT + _OK,
        _send,
        _IN_CLEAR,
        DOTTED,
    ),
    "LMTP": Talk(
        _HELLO.format(offers="8BITMIME").replace("EHLO", "LHLO"),
        _DATA + _OK + _NO,
        _send,
        {**_IN_CLEAR, "protocol": Protocol.LMTP},
        DOTTED,
        partial=True,
    ),
    "secure": Talk(_SECURE, _DATA + _OK, _send, _BY_TLS, DOTTED),
    "commands": Talk(
        _CLEAR.format(offers="VRFY"),
        "C: RSET\n" + _OK + "C: NOOP\n" + _OK + "C: VRFY ann\nS: 252 2.1.5 Maybe\n",
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
}
MANY_PIECES = Talk(
    _HELLO.format(offers="8BITMIME"),
    _DATA.replace("org>\n", "org> BODY=8BITMIME\n").replace("C: Sub", f"C: {'x' * 65_536}\nC: Sub")
    + _OK,
    _send_many_pieces,
    _IN_CLEAR,
    DOTTED,
)
"""Content of which not all is fetched before anything is sent; too long to be cut at each octet."""
SECURE = [name for name, talk in TALKS.items() if talk.secure]
CLEAR = [name for name, talk in TALKS.items() if not talk.secure]


async def take_part(talk: Talk, client: Client) -> object:
    """Do it all; return the result or the error. An error that is not documented is raised."""
    outcome: object
    try:
        if talk.opens:
            await client.open()
        outcome = await talk.act(client)
    except SMTPError as error:
        outcome = error
    # Whether it is answered says nothing about what was before it.
    await client.quit()
    assert not client.is_open
    if isinstance(outcome, CredentialReport):
        assert outcome.authenticated is (outcome.error is None)
        return outcome.error or True
    return outcome


@dataclass(frozen=True)
class Reference:
    """The talk where nothing goes wrong.

    `read`: octets until the outcome was known; `written`: likewise; `content_written`: until all
    of the content was out.
    """

    outcome: object
    read: int
    content_written: float
    written: int


def as_told(outcome: object) -> object:
    """An outcome, such that two of them are equal if they say the same."""
    if isinstance(outcome, SendResult):
        return outcome.accepted, outcome.refused, outcome.reply
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
    if not isinstance(outcome, SMTPError):
        if talk.partial and fault is Fault.CLOSING:
            assert isinstance(outcome, SendResult)
            assert list(outcome.accepted) == ["b@example.net"]
            return
        assert known is not False, "it was not known yet"
        assert as_told(outcome) == as_told(reference.outcome)
        return
    assert known is not True, "it was known"
    if not talk.content:
        assert not isinstance(outcome, DeliveryInDoubt)
    elif fault is Fault.CLOSING:
        # The server has said that it has not, unless it said so within a line of another reply.
        if isinstance(outcome, DeliveryInDoubt):
            assert isinstance(outcome.__cause__, ProtocolViolation)
    else:
        assert isinstance(outcome, DeliveryInDoubt) is content_written


def cause_of(error: BaseException) -> BaseException:
    """What has begun it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def assert_in_time(outcome: object, took: float, fault: Fault) -> None:
    """Where a peer falls silent, one limit is waited for: the one that the error names."""
    if fault is Fault.DRIP:
        return
    if not isinstance(outcome, SMTPError):
        assert took < 11.0  # a farewell
        return
    error = outcome.__cause__ if isinstance(outcome, DeliveryInDoubt) else outcome
    if fault in (Fault.SILENCE, Fault.STALL):
        assert isinstance(error, SMTPTimeout), repr(outcome)
        assert error.seconds is not None
        assert -0.001 < took - error.seconds < 1.0
    else:
        assert took < 1.0
