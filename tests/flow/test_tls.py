"""The client flows over real TLS, in memory: what may cross its border, and what its end means.

Knows the ssl module. Must not know how a layer is made.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import repeat
from types import TracebackType
from typing import TypeVar

import pytest
import trustme

from smtp_adapters.tls import ClientTLS
from smtp_proto.flow.actions import Action, Done, Receive, Send, Timer
from smtp_proto.flow.close import CloseSession
from smtp_proto.flow.envelope import Envelope, SendResult
from smtp_proto.flow.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryInDoubt,
    PermanentError,
    ProtocolViolation,
    SenderRefused,
    SMTPError,
    SMTPTimeout,
    TLSError,
)
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.session import Session
from smtp_proto.flow.simple import noop
from smtp_proto.flow.timeouts import Phase
from smtp_proto.sasl import Credentials
from smtp_proto.wire import MailParameters
from tests.flow.conversations import CONVERSATIONS, Conversation
from tests.flow.scripted import ENDS, Server, Transcript, play, settings

E = TypeVar("E", bound=SMTPError)

HOST = "mail.test"
GREETING = "S: 220 mail.test\n"
EHLO = "C: EHLO [192.0.2.7]\n"
CLEAR = GREETING + EHLO + "S: 250-mail.test\nS: 250-X-CLEAR\nS: 250 STARTTLS\nC: STARTTLS\n"
GO = CLEAR + "S: 220 2.0.0 Go ahead\n"
SECURE = EHLO + "S: 250-mail.test\nS: 250-X-SECURE\nS: 250 AUTH PLAIN\n"
HANDSHAKE = b"(handshake)"
CANARY = "canary-5d41402a"
ALICE = Credentials("alice", CANARY)


class Encrypted:
    """A server that plays one transcript in clear, then one under TLS.

    `in_order`: it says close_notify before the stream ends. `sizes`: how many octets of cipher text
    the client receives at a time. `alert`: why the client broke the handshake off. `closed`: it has
    said close_notify.
    """

    def __init__(
        self, context: ssl.SSLContext, before: str, inside: str, *, in_order: bool = False
    ) -> None:
        self.timers: list[Timer] = []
        self.before = Transcript(before)
        self.inside = Transcript(inside)
        self.in_order = in_order
        self.sizes: Iterator[int] = iter(())
        self.alert = ""
        self.closed = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._established = False
        self._cipher_text = bytearray()

    def write(self, data: bytes) -> None:
        if self.before.lines:
            self.before.write(data)
            return
        self._incoming.write(data)
        try:
            if not self._established:
                self._tls.do_handshake()
                self._established = True
            while clear_text := self._tls.read(65_536):
                self.inside.write(clear_text)
            self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        except ssl.SSLError as error:
            self.alert = error.reason or ""
            self.inside = Transcript("S:EOF")

    def read(self) -> bytes:
        if self.before.lines:
            return self.before.read()
        if not self._cipher_text:
            self._cipher_text += self._outgoing.read()
            if not self._cipher_text or self._speaks_unasked:
                self._cipher_text += self._encrypted(self.inside.read())
        data = bytes(self._cipher_text[: next(self.sizes, len(self._cipher_text))])
        del self._cipher_text[: len(data)]
        return data

    @property
    def _speaks_unasked(self) -> bool:
        return (
            self._established and bool(self.inside.lines) and self.inside.lines[0].startswith("S: ")
        )

    def _encrypted(self, clear_text: bytes) -> bytes:
        if clear_text:
            self._tls.write(clear_text)
        last = not clear_text or self.inside.lines == ["S:EOF"]
        if last and self.in_order:
            with suppress(ssl.SSLError):  # the client's close_notify is still to come
                self._tls.unwrap()
        return self._outgoing.read()

    def finish(self) -> None:
        self.before.finish()
        self.inside.finish()


class Deaf(Transcript):
    """Knows no TLS: a handshake is a line like others, and the answer to it is in clear."""

    def write(self, data: bytes) -> None:
        super().write(HANDSHAKE + b"\r\n" if data.startswith(b"\x16\x03") else data)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def serving(authority: trustme.CA) -> ssl.SSLContext:
    return serving_as(authority, HOST)


def serving_as(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def starttls(authority: trustme.CA) -> OpenSettings:
    tls = ClientTLS(ca_data=authority.cert_pem.bytes().decode()).factory()
    return settings(security=Security.STARTTLS, tls=tls)


@pytest.fixture(scope="module")
def implicit(starttls: OpenSettings) -> OpenSettings:
    return settings(security=Security.IMPLICIT, tls=starttls.tls)


def fail(error: type[E], opening: OpenSettings, server: Server) -> E:
    with pytest.raises(error) as caught:
        play(OpenSession(opening), server)
    return caught.value


# --- How TLS begins ------------------------------------------------------------------------------


def test_implicit_tls_before_anything_else(implicit: OpenSettings, serving: ssl.SSLContext) -> None:
    server = Encrypted(serving, "", GREETING + SECURE)
    session = play(OpenSession(implicit), server)
    server.finish()
    assert session.tls is not None
    assert session.tls.verified
    assert session.tls.server_hostname == HOST
    assert session.usable
    assert [timer.phase for timer in server.timers] == [
        Phase.CONNECT,
        Phase.TLS,
        Phase.GREETING,
        Phase.EHLO,
    ]


def test_starttls_and_a_second_ehlo(starttls: OpenSettings, serving: ssl.SSLContext) -> None:
    server = Encrypted(serving, GO, SECURE)
    session = play(OpenSession(starttls), server)
    server.finish()
    assert session.tls is not None
    assert "X-SECURE" in session.capabilities
    assert "X-CLEAR" not in session.capabilities, "what was said in clear is forgotten"


def test_opportunistic_tls(starttls: OpenSettings, serving: ssl.SSLContext) -> None:
    opening = settings(security=Security.OPPORTUNISTIC, tls=starttls.tls)
    session = play(OpenSession(opening), Encrypted(serving, GO, SECURE))
    assert session.tls is not None


def test_nothing_is_said_in_clear_but_ehlo_and_starttls(
    starttls: OpenSettings, serving: ssl.SSLContext
) -> None:
    server = Encrypted(serving, GO, SECURE)
    play(OpenSession(starttls), server)
    assert server.before.sent == b"EHLO [192.0.2.7]\r\nSTARTTLS\r\n"


NO_EHLO = "C: EHLO [192.0.2.7]\nS: 502 what?\n"
HELO = "C: HELO [192.0.2.7]\nS: 250 mail.test\n"


@pytest.mark.parametrize("security", [Security.IMPLICIT, Security.AUTO])
def test_helo_will_do_under_tls_from_the_start(
    implicit: OpenSettings, serving: ssl.SSLContext, security: Security
) -> None:
    opening = replace(implicit, security=security, port=465)
    server = Encrypted(serving, "", GREETING + NO_EHLO + HELO)
    assert play(OpenSession(opening), server).usable
    server.finish()


def test_helo_will_not_do_behind_starttls(starttls: OpenSettings, serving: ssl.SSLContext) -> None:
    with pytest.raises(PermanentError, match="EHLO was refused"):
        play(OpenSession(starttls), Encrypted(serving, GO, NO_EHLO))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_greeting_right_behind_the_handshake(
    implicit: OpenSettings, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    context = serving_as(authority, HOST)
    context.maximum_version = context.minimum_version = version
    assert play(OpenSession(implicit), Encrypted(context, "", GREETING + SECURE)).usable


def test_nothing_may_be_said_behind_the_handshake_after_starttls(
    starttls: OpenSettings, authority: trustme.CA
) -> None:
    context = serving_as(authority, HOST)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # here the server's part of it comes last
    unasked = "S: 250-mail.test\nS: 250 AUTH LOGIN\n"
    error = fail(ProtocolViolation, starttls, Encrypted(context, GO, unasked + SECURE))
    assert error.phase is Phase.EHLO


def test_the_second_ehlo_refused(starttls: OpenSettings, serving: ssl.SSLContext) -> None:
    fail(PermanentError, starttls, Encrypted(serving, GO, EHLO + "S: 502 what?\n"))


def test_drip_in_the_handshake_moves_no_deadline(
    implicit: OpenSettings, serving: ssl.SSLContext
) -> None:
    server = Encrypted(serving, "", GREETING + SECURE)
    server.sizes = repeat(1)
    play(OpenSession(implicit), server)
    phases = [timer.phase for timer in server.timers]
    assert phases == [Phase.CONNECT, Phase.TLS, Phase.GREETING, Phase.EHLO]


# --- What comes where the handshake is due -------------------------------------------------------


@pytest.mark.parametrize(
    "injected",
    [
        "S: 250-mx.evil\nS: 250 AUTH LOGIN\n",
        "S: 235 ok\n",
        "S: 250-x\nS: 250 AUTH PLAIN\nS: 235 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nS: 250 ok\n",
    ],
)
def test_clear_text_behind_the_220(starttls: OpenSettings, injected: str) -> None:
    server = Deaf(GO + injected)
    fail(ProtocolViolation, starttls, server)
    assert HANDSHAKE not in server.sent, "in the same segment: no handshake is begun"
    server = Deaf(GO + f"C: {HANDSHAKE.decode()}\n" + injected)
    fail(TLSError, starttls, server)
    assert server.sent.count(b"EHLO") == 1, "in the next segment"


FRAGMENTS = [b"2", b"250-SMTPUTF8 INJECTED-MARKER ", b"\r\n", b"\0", b"\x16", b"\x16\x03\x01\0\x01"]


class Segments:
    """Says one thing after the other, whatever it hears, and then no more."""

    def __init__(self, *segments: bytes) -> None:
        self.timers: list[Timer] = []
        self.sent: list[bytes] = []
        self.segments = iter(segments)

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def read(self) -> bytes:
        return next(self.segments, b"")


@pytest.mark.parametrize("fragment", FRAGMENTS)
@pytest.mark.parametrize("later", [False, True])
def test_a_fragment_behind_the_220(starttls: OpenSettings, fragment: bytes, later: bool) -> None:
    go_ahead = b"220 2.0.0 Go ahead\r\n"
    behind = (go_ahead, fragment) if later else (go_ahead + fragment,)
    server = Segments(b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", *behind)
    fail(TLSError if later else ProtocolViolation, starttls, server)
    assert server.sent[:2] == [b"EHLO [192.0.2.7]\r\n", b"STARTTLS\r\n"]
    assert all(data[0] in (0x15, 0x16) for data in server.sent[2:]), "handshakes and alerts alone"
    assert bool(server.sent[2:]) is later


class Unwritable(Segments):
    """Hears nothing but EHLO."""

    def write(self, data: bytes) -> None:
        if self.sent:
            raise BrokenPipeError(32, "Broken pipe")
        super().write(data)


def test_clear_text_behind_a_220_to_what_could_not_be_written(starttls: OpenSettings) -> None:
    ehlo = b"250-x\r\n250 STARTTLS\r\n"
    server = Unwritable(b"220 x\r\n", ehlo, b"220 Go ahead\r\n", b"250 INJECTED\r\n")
    error = fail(ConnectionLost, starttls, server)
    assert isinstance(error.__cause__, BrokenPipeError)


@pytest.mark.parametrize(
    ("after", "error"), [("S:EOF", TLSError), ("S:BREAK", TLSError), ("S:TIME", SMTPTimeout)]
)
@pytest.mark.parametrize("before", ["", GO])
def test_the_connection_ends_in_the_handshake(
    starttls: OpenSettings, implicit: OpenSettings, before: str, after: str, error: type[SMTPError]
) -> None:
    server = Deaf(before + f"C: {HANDSHAKE.decode()}\n{after}\n")
    fail(error, starttls if before else implicit, server)
    server.finish()


@pytest.mark.parametrize("before", ["", GO])
def test_the_handshake_cannot_be_written(
    starttls: OpenSettings, implicit: OpenSettings, before: str
) -> None:
    server = Deaf(before + "C:BREAK\nS: 554 nobody listens to this\n")
    error = fail(TLSError, starttls if before else implicit, server)
    assert "nobody listens" not in str(error)


def test_time_runs_out_in_the_middle_of_the_handshake(implicit: OpenSettings) -> None:
    flow = OpenSession(implicit)
    flow.next_action()
    flow.connected()
    assert isinstance(flow.next_action(), Send)
    assert isinstance(flow.next_action(), Receive)
    flow.receive_data(b"\x16\x03\x03")
    assert isinstance(flow.next_action(), Receive)
    flow.failed(TimeoutError())
    with pytest.raises(SMTPTimeout, match=r"in phase tls: 3 octets had come"):
        flow.next_action()


# --- Certificates --------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", GO])
def test_an_unknown_authority_is_refused_and_told_so(
    starttls: OpenSettings, implicit: OpenSettings, before: str
) -> None:
    server = Encrypted(serving_as(trustme.CA(), HOST), before, GREETING + SECURE)
    error = fail(TLSError, starttls if before else implicit, server)
    assert "certificate is refused for mail.test" in str(error)
    assert "UNKNOWN_CA" in server.alert
    assert not server.inside.sent


def test_another_name_is_refused_and_told_so(implicit: OpenSettings, authority: trustme.CA) -> None:
    server = Encrypted(serving_as(authority, "other.test"), "", GREETING + SECURE)
    fail(TLSError, implicit, server)
    assert "ALERT" in server.alert
    assert not server.inside.sent


def test_a_name_to_verify_of_ones_own(implicit: OpenSettings, authority: trustme.CA) -> None:
    server = Encrypted(serving_as(authority, "other.test"), "", GREETING + SECURE)
    assert play(OpenSession(replace(implicit, server_hostname="other.test")), server).usable


def test_the_server_wants_a_certificate(implicit: OpenSettings, authority: trustme.CA) -> None:
    context = serving_as(authority, HOST)
    context.verify_mode = ssl.CERT_REQUIRED
    error = fail(TLSError, implicit, Encrypted(context, "", GREETING + SECURE))
    assert "certificate" in str(error)


# --- AUTH, and its secrets -----------------------------------------------------------------------


def quoted(credentials: Credentials) -> str:
    message = f"\0{credentials.authentication_identity}\0{credentials.password}"
    return b64encode(message.encode()).decode()


AUTH = f"C: AUTH PLAIN {quoted(ALICE)}\n"


def logging_in(opening: OpenSettings) -> OpenSettings:
    return replace(opening, credentials=ALICE)


def test_auth_comes_after_tls(starttls: OpenSettings, serving: ssl.SSLContext) -> None:
    before = GO.replace("S: 250-X-CLEAR", "S: 250-AUTH LOGIN")
    server = Encrypted(serving, before, SECURE + AUTH + "S: 235 Welcome\n")
    session = play(OpenSession(logging_in(starttls)), server)
    server.finish()
    assert session.authenticated
    assert b"AUTH" not in server.before.sent


def test_auth_that_is_offered_in_clear_alone_is_not_used(
    starttls: OpenSettings, serving: ssl.SSLContext
) -> None:
    before = GO.replace("S: 250-X-CLEAR", "S: 250-AUTH PLAIN")
    server = Encrypted(serving, before, EHLO + "S: 250 mail.test\n")
    error = fail(AuthenticationError, logging_in(starttls), server)
    assert "offers no AUTH" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        "S: 235 Welcome\n",
        "S: 535 5.7.8 Wrong\n",
        f"S: 500-5.5.1 What is\nS: 500 5.5.1 AUTH PLAIN {quoted(ALICE)}?\n",
        "S: 421 Bye\n",
        "S: nonsense\n",
        "S: 334 !!!\nC: *\nS: 501 5.7.0 Cancelled\n",
        "S: 334 abcd\nC: *\nS:EOF\n",
        "S: 334 !!!\nC: *\nS: 235 Welcome all the same\n",
        "S:EOF\n",
        "S:TIME\n",
        "S:BREAK\n",
    ],
)
def test_the_password_is_shown_nowhere(
    starttls: OpenSettings, serving: ssl.SSLContext, answer: str
) -> None:
    actions: list[Action] = []
    opening = logging_in(starttls)
    flow = OpenSession(opening)
    shown: list[object] = [repr(opening), flow, actions]
    try:
        shown.append(play(flow, Encrypted(serving, GO, SECURE + AUTH + answer), seen=actions))
    except SMTPError as error:
        shown.append(error)
    secrets = (CANARY, b64encode(CANARY.encode()).decode().rstrip("="), quoted(ALICE))
    for thing in within(shown):
        for text in (repr(thing), str(thing)):
            assert not any(secret in text for secret in secrets)


def within(root: object) -> Iterator[object]:
    """All that can be reached from here by items, attributes and causes, but code and frames."""
    seen: dict[int, object] = {}
    stack = [root]
    while stack:
        thing = stack.pop()
        if id(thing) in seen or callable(thing) or isinstance(thing, TracebackType):
            continue
        seen[id(thing)] = thing
        yield thing
        if isinstance(thing, Mapping):
            stack += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset | deque):
            stack += thing
        elif isinstance(thing, BaseException):
            stack += [thing.__cause__, thing.__context__, thing.args]
        stack += getattr(thing, "__dict__", {}).values()
        for kind in type(thing).__mro__:
            slots = [name for name in getattr(kind, "__slots__", ()) if hasattr(thing, name)]
            stack += [getattr(thing, name) for name in slots]


# --- How TLS ends --------------------------------------------------------------------------------


def begin(conversation: Conversation, implicit: OpenSettings, server: Encrypted) -> Session:
    """Open the session of a conversation, under TLS."""
    opening = replace(conversation.opening, security=Security.IMPLICIT, tls=implicit.tls)
    return play(OpenSession(opening), server)


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ["all accepted", "chunk: accepted", "LMTP: one has it"])
def test_the_truth_under_tls_wherever_the_connection_ends(
    implicit: OpenSettings, serving: ssl.SSLContext, name: str, end: str, in_order: bool
) -> None:
    conversation = CONVERSATIONS[name]
    not_sent = SMTPTimeout if end == "TIME" else ConnectionLost
    for octets in range(0, conversation.octets, 7):
        server = Encrypted(serving, "", conversation.text, in_order=in_order)
        session = begin(conversation, implicit, server)
        server.inside.end_after(octets, end)
        outcome = conversation.outcome_of(session, server)
        truth = conversation.truth(server.inside.sent, octets) or not_sent
        assert isinstance(outcome, truth), f"after {octets} octets"
        assert not session.usable


def send(
    implicit: OpenSettings, serving: ssl.SSLContext, *, final: str, in_order: bool = False
) -> tuple[SendResult | SMTPError, Session]:
    """Send a message; `final` is what the server says to the content."""
    conversation = CONVERSATIONS["all accepted"]
    script = conversation.text.removesuffix("S: 250 2.0.0 Ok\n") + final
    server = Encrypted(serving, "", script, in_order=in_order)
    session = begin(conversation, implicit, server)
    return conversation.outcome_of(session, server), session


def test_the_end_without_close_notify_in_a_final_reply(
    implicit: OpenSettings, serving: ssl.SSLContext
) -> None:
    outcome, session = send(implicit, serving, final="S: 250-2.0.0 Ok\nS:EOF\n")
    assert isinstance(outcome, DeliveryInDoubt)
    assert isinstance(outcome.__cause__, ConnectionLost)
    assert not session.usable


def test_the_end_without_close_notify_behind_a_final_reply(
    implicit: OpenSettings, serving: ssl.SSLContext
) -> None:
    outcome, _ = send(implicit, serving, final="S: 250 2.0.0 Ok\nS:EOF\n")
    assert isinstance(outcome, SendResult)


def test_close_notify_together_with_the_final_reply(
    implicit: OpenSettings, serving: ssl.SSLContext
) -> None:
    outcome, session = send(implicit, serving, final="S: 250 2.0.0 Ok\nS:EOF\n", in_order=True)
    assert isinstance(outcome, SendResult)
    assert not session.usable, "the server has said that it is gone"
    with pytest.raises(ConnectionLost):
        noop(session).next_action()


class Garbling(Encrypted):
    """Answers with a record that makes no sense once it has heard `garbled`."""

    garbled = b""

    def read(self) -> bytes:
        if self.garbled and self.garbled in self.inside.sent:
            return b"\x17\x03\x03\x00\x20" + bytes(32)
        return super().read()


def test_a_broken_record_in_the_place_of_the_final_reply(
    implicit: OpenSettings, serving: ssl.SSLContext
) -> None:
    conversation = CONVERSATIONS["all accepted"]
    server = Garbling(serving, "", conversation.text)
    session = begin(conversation, implicit, server)
    server.garbled = b"\r\n.\r\n"
    outcome = conversation.outcome_of(session, server)
    assert isinstance(outcome, DeliveryInDoubt)
    assert isinstance(outcome.__cause__, TLSError)
    assert not session.usable


def test_requiretls_is_asked_for_under_tls(implicit: OpenSettings, serving: ssl.SSLContext) -> None:
    envelope = Envelope.of(
        "a@example.org", "b@example.net", mail_parameters=MailParameters(require_tls=True)
    )
    refused = "C: MAIL FROM:<a@example.org> REQUIRETLS\nS: 550 No\n"
    script = GREETING + SECURE.replace("X-SECURE", "REQUIRETLS") + refused
    server = Encrypted(serving, "", script)
    session = play(OpenSession(implicit), server)
    with pytest.raises(SenderRefused):
        play(SendMail(session, envelope, b"x"), server)
    server.finish()


# --- CloseSession --------------------------------------------------------------------------------

QUIT = GREETING + SECURE + "C: QUIT\n"


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("reply", ["S: 221 Bye\n", "S: 500 What?\n"])
def test_closing_says_close_notify(
    implicit: OpenSettings, serving: ssl.SSLContext, reply: str, in_order: bool
) -> None:
    ending = "S:EOF\n" if in_order else ""
    server = Encrypted(serving, "", QUIT + reply + ending, in_order=in_order)
    session = play(OpenSession(implicit), server)
    play(CloseSession(session), server)
    assert server.closed
    assert not session.usable


def test_a_close_notify_that_cannot_be_sent_is_no_error(
    implicit: OpenSettings, serving: ssl.SSLContext
) -> None:
    server = Encrypted(serving, "", QUIT + "S: 221 Bye\n")
    session = play(OpenSession(implicit), server)
    flow = CloseSession(session)
    while not isinstance(action := flow.next_action(), Done):
        match action:
            case Send() if session.engine.finished:
                flow.failed(BrokenPipeError(32, "Broken pipe"))
            case Send(data):
                server.write(bytes(data))
            case _:
                flow.receive_data(server.read())
    assert action.close
    assert not server.closed


@pytest.mark.parametrize("answer", ["S:EOF\n", "S:TIME\n", "S:BREAK\n", "S: nonsense\n"])
def test_closing_never_fails_under_tls(
    implicit: OpenSettings, serving: ssl.SSLContext, answer: str
) -> None:
    server = Encrypted(serving, "", QUIT + answer)
    session = play(OpenSession(implicit), server)
    play(CloseSession(session), server)
    assert not session.usable
