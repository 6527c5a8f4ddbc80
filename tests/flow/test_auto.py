"""AUTO: the ways that it goes, those that it never goes, and what it tells. Time, in each phase.

Knows servers of many manners. Must not know how a layer of TLS is made.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from math import inf
from typing import TypeVar

import pytest
import trustme

from smtp_proto.flow.actions import Connect, Done, Receive, Resolve, Send, Timer
from smtp_proto.flow.errors import (
    Attempt,
    AuthenticationError,
    CertificateError,
    ConnectError,
    ConnectionLost,
    PermanentError,
    ProtocolViolation,
    ProxyError,
    SMTPError,
    SMTPTimeout,
    TLSError,
    TransientError,
)
from smtp_proto.flow.flow import Flow
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase, Timeouts, TotalTimeout
from smtp_proto.flow.tls import TLSLayer
from smtp_proto.proxy import HttpConnect, Socks5
from smtp_proto.sasl import Policy
from tests.flow.scripted import Network, Server, Transcript, play, settings
from tests.flow.stack import Encrypting, Pieces, Says, Tunnel, serving_as, trusting
from tests.flow.test_tls import ALICE, AUTH, EHLO, GO, GREETING, HOST, SECURE, Encrypted

E = TypeVar("E", bound=SMTPError)

IMPLICIT, STARTTLS = Security.IMPLICIT, Security.STARTTLS
PLAIN = GREETING + EHLO + "S: 250-mail.test\nS: 250 HELP\n"
REFUSED = ConnectionRefusedError(111, "Connection refused")
TIMEOUTS = Timeouts(greeting_probe=5, greeting=300, tls=60, total=1000)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def serving(authority: trustme.CA) -> ssl.SSLContext:
    return serving_as(authority, HOST)


@pytest.fixture(scope="module")
def auto(authority: trustme.CA) -> OpenSettings:
    return settings(security=Security.AUTO, port=None, tls=trusting(authority), timeouts=TIMEOUTS)


@dataclass(frozen=True)
class Gone:
    """What AUTO did. `ways`: where it went and what became of it, None: it was greeted."""

    ways: list[tuple[int, Security, type[SMTPError] | None]]
    phases: list[Phase]


def gone(attempts: tuple[Attempt, ...], network: Network) -> Gone:
    ways = [
        (attempt.port, attempt.security, None if attempt.error is None else type(attempt.error))
        for attempt in attempts
    ]
    for attempt in attempts:
        assert attempt.error is None or attempt.error.phase is not None
    return Gone(ways, [timer.phase for timer in network.timers])


def succeed(opening: OpenSettings, *ends: Server | OSError) -> tuple[Session, Gone]:
    network = Network(*ends)
    session = play(OpenSession(opening), network)
    network.finish()
    assert session.usable
    return session, gone(session.attempts, network)


def fail(error: type[E], opening: OpenSettings, *ends: Server | OSError) -> tuple[E, Gone]:
    network = Network(*ends)
    with pytest.raises(error) as caught:
        play(OpenSession(opening), network)
    network.finish()
    assert type(caught.value) is error
    return caught.value, gone(caught.value.attempts, network)


class Implicit(Encrypting):
    """Speaks TLS from the start."""

    def __init__(self, context: ssl.SSLContext, script: str = GREETING + SECURE) -> None:
        super().__init__(context, Transcript(script))


class Upgrading(Encrypted):
    """Speaks clear text until STARTTLS."""

    def __init__(self, context: ssl.SSLContext, script: str = SECURE) -> None:
        super().__init__(context, GO, script)


class Silent:
    """Says nothing until it has let the client's time run out once."""

    def __init__(self, then: Server) -> None:
        self.timers: list[Timer] = []
        self.then = then
        self.silent = True

    def write(self, data: bytes) -> None:
        assert not self.silent, "the client speaks first"
        self.then.write(data)

    def read(self) -> bytes:
        if self.silent:
            self.silent = False
            raise TimeoutError
        return self.then.read()


# --- Without a port: 465, then 587 ---------------------------------------------------------------


def test_465_first(auto: OpenSettings, serving: ssl.SSLContext) -> None:
    session, went = succeed(auto, Implicit(serving))
    assert went.ways == [(465, IMPLICIT, None)]
    assert session.tls is not None
    assert session.settings.port == 465


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (REFUSED, ConnectError),
        (OSError(113, "No route to host"), ConnectError),
        (TimeoutError(), SMTPTimeout),
        (Says(b"220 mail.test ESMTP\r\n"), TLSError),
        (Says(b"HTTP/1.1 400 Bad Request\r\n"), TLSError),
        (Says(), TLSError),
        (Says(ConnectionResetError(104, "Connection reset by peer")), TLSError),
        (Says(TimeoutError()), SMTPTimeout),
    ],
)
def test_587_where_465_does_not_do(
    auto: OpenSettings, serving: ssl.SSLContext, first: Server | OSError, error: type[SMTPError]
) -> None:
    # What a way has left behind must not serve for the next test.
    fresh = Says(*first.things) if isinstance(first, Says) else first
    network = Network(fresh, Upgrading(serving))
    session = play(OpenSession(auto), network)
    network.finish()
    assert gone(session.attempts, network).ways == [(465, IMPLICIT, error), (587, STARTTLS, None)]
    assert [made.port for made in network.connects] == [465, 587]
    assert session.tls is not None
    assert session.settings.port == 587


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("S:EOF\n", ConnectionLost),
        ("S:TIME\n", SMTPTimeout),
        ("S: nonsense\n", ProtocolViolation),
    ],
)
def test_587_where_tls_is_there_and_no_greeting(
    auto: OpenSettings, serving: ssl.SSLContext, script: str, error: type[SMTPError]
) -> None:
    _, went = succeed(auto, Implicit(serving, script), Upgrading(serving))
    assert went.ways == [(465, IMPLICIT, error), (587, STARTTLS, None)]


def test_neither_of_both(auto: OpenSettings) -> None:
    error, went = fail(ConnectError, auto, TimeoutError(), REFUSED)
    assert went.ways == [(465, IMPLICIT, SMTPTimeout), (587, STARTTLS, ConnectError)]
    assert str(error) == (
        "cannot connect to mail.test port 587: Connection refused; before that port 465, implicit: "
        "mail.test port 465: timed out after 60 s in phase connect: nothing had come"
    )


@pytest.mark.parametrize("then", ["", "C: QUIT\n"])
def test_a_refusal_by_465_is_the_answer(
    auto: OpenSettings, serving: ssl.SSLContext, then: str
) -> None:
    code, error = (554, PermanentError) if then else (421, TransientError)
    told, went = fail(error, auto, Implicit(serving, f"S: {code} go away\n{then}"))
    assert went.ways == [(465, IMPLICIT, error)]
    assert "go away" in str(told)


def test_587_through_a_proxy_whose_rules_forbid_465(
    auto: OpenSettings, serving: ssl.SSLContext
) -> None:
    asked = "CONNECT mail.test:{0} HTTP/1.1\r\nHost: mail.test:{0}\r\n\r\n"
    no = Tunnel([(asked.format(465).encode(), b"HTTP/1.1 403 No\r\n\r\n")], Says())
    yes = Tunnel([(asked.format(587).encode(), b"HTTP/1.1 200 Yes\r\n\r\n")], Upgrading(serving))
    proxied = replace(
        auto, proxies=(HttpConnect("proxy.test", 8080),), local_hostname="[192.0.2.7]"
    )
    _, went = succeed(proxied, no, yes)
    assert went.ways == [(465, IMPLICIT, ProxyError), (587, STARTTLS, None)]


# --- Port 465, port 25 ---------------------------------------------------------------------------


def test_465_that_speaks_clear_text(auto: OpenSettings, serving: ssl.SSLContext) -> None:
    opening = replace(auto, port=465)
    session, went = succeed(opening, Says(b"220 mail.test ESMTP\r\n"), Upgrading(serving))
    assert went.ways == [(465, IMPLICIT, TLSError), (465, STARTTLS, None)]
    assert session.tls is not None


@pytest.mark.parametrize(
    ("end", "error"),
    [(REFUSED, ConnectError), (TimeoutError(), SMTPTimeout), (Says(TimeoutError()), SMTPTimeout)],
)
def test_465_that_is_not_there_is_not_tried_again(
    auto: OpenSettings, end: Server | OSError, error: type[SMTPError]
) -> None:
    _, went = fail(error, replace(auto, port=465), end)
    assert went.ways == [(465, IMPLICIT, error)]


def test_port_25_is_never_spoken_to_first(auto: OpenSettings, serving: ssl.SSLContext) -> None:
    opening = replace(auto, port=25)
    _, went = succeed(opening, Upgrading(serving))
    assert went.ways == [(25, STARTTLS, None)]
    assert Phase.GREETING_PROBE not in went.phases
    silent = Says(TimeoutError())
    error, went = fail(SMTPTimeout, opening, silent)
    assert (error.phase, error.seconds) == (Phase.GREETING, 300), "the whole time"
    assert not silent.sent
    assert went.ways == [(25, STARTTLS, SMTPTimeout)]
    assert "before that" not in str(error)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (REFUSED, ConnectError),
        (Says(), ConnectionLost),
        (Says(b"HTTP/1.1 400 Bad Request\r\n"), ProtocolViolation),
    ],
)
def test_port_25_has_one_way(
    auto: OpenSettings, end: Server | OSError, error: type[SMTPError]
) -> None:
    _, went = fail(error, replace(auto, port=25), end)
    assert went.ways == [(25, STARTTLS, error)]


# --- Any other port ------------------------------------------------------------------------------


@pytest.fixture
def other(auto: OpenSettings) -> OpenSettings:
    return replace(auto, port=587)


def test_a_greeting_at_once(other: OpenSettings, serving: ssl.SSLContext) -> None:
    session, went = succeed(other, Upgrading(serving))
    assert went.ways == [(587, STARTTLS, None)]
    assert session.tls is not None
    assert went.phases[:4] == [
        Phase.CONNECT,
        Phase.GREETING_PROBE,
        Phase.EHLO,
        Phase.STARTTLS,
    ], "the greeting was there whole"


def test_a_greeting_in_two_pieces(other: OpenSettings, serving: ssl.SSLContext) -> None:
    server = Upgrading(serving)
    server.before.sizes = iter([4])
    _, went = succeed(other, server)
    assert went.phases[1:3] == [Phase.GREETING_PROBE, Phase.GREETING]


def test_silence_and_then_tls_on_the_same_connection(
    other: OpenSettings, serving: ssl.SSLContext
) -> None:
    session, went = succeed(other, Silent(Implicit(serving)))
    assert went.ways == [(587, STARTTLS, SMTPTimeout), (587, IMPLICIT, None)]
    assert went.phases == [
        Phase.CONNECT,
        Phase.GREETING_PROBE,
        Phase.TLS,
        Phase.GREETING,
        Phase.EHLO,
    ]
    assert session.tls is not None
    error = session.attempts[0].error
    assert isinstance(error, SMTPTimeout)
    assert (error.phase, error.seconds) == (Phase.GREETING_PROBE, 5)


def test_silence_and_then_tls_through_a_proxy(other: OpenSettings, serving: ssl.SSLContext) -> None:
    proxied = replace(other, proxies=(Socks5("proxy.test", 1080),), local_hostname="[192.0.2.7]")
    asked = b"\x05\x01\x00\x03\x09mail.test" + (587).to_bytes(2, "big")
    exchanges = [(b"\x05\x01\x00", b"\x05\x00"), (asked, b"\x05\x00\x00\x01" + bytes(6))]
    session, went = succeed(proxied, Tunnel(exchanges, Silent(Implicit(serving))))
    assert went.phases.count(Phase.PROXY) == 1, "the tunnel serves once more"
    assert session.tls is not None


@pytest.mark.parametrize(
    "late",
    [b"220 mail.test ESMTP\r\n", b"220", b"", b"HTTP/1.1 400 Bad Request\r\n", b"\0\0\0"],
)
def test_a_slow_greeting_gets_its_whole_time_on_a_new_connection(
    other: OpenSettings, serving: ssl.SSLContext, late: bytes
) -> None:
    session, went = succeed(other, Silent(Says(late)), Upgrading(serving))
    assert went.ways == [
        (587, STARTTLS, SMTPTimeout),
        (587, IMPLICIT, TLSError),
        (587, STARTTLS, None),
    ]
    assert went.phases[:6] == [
        Phase.CONNECT,
        Phase.GREETING_PROBE,
        Phase.TLS,
        Phase.CONNECT,
        Phase.GREETING,
        Phase.EHLO,
    ]
    assert session.tls is not None


def test_a_slow_greeting_that_never_comes(other: OpenSettings) -> None:
    error, went = fail(SMTPTimeout, other, Silent(Says(b"220 x\r\n")), Says(TimeoutError()))
    assert (error.phase, error.seconds) == (Phase.GREETING, 300)
    assert [way[2] for way in went.ways] == [SMTPTimeout, TLSError, SMTPTimeout]
    text = str(error)
    assert text.count("before that") == 2, "each way once"
    assert text.index("port 587, starttls: timed out after 5 s") < text.index("587, implicit: ")
    assert "220 x" in text


def test_silence_for_ever(other: OpenSettings) -> None:
    error, went = fail(SMTPTimeout, other, Silent(Says(TimeoutError())))
    assert (error.phase, error.seconds) == (Phase.TLS, 60)
    assert went.ways == [(587, STARTTLS, SMTPTimeout), (587, IMPLICIT, SMTPTimeout)]


def test_who_is_given_up_by_the_system_is_not_silent(other: OpenSettings) -> None:
    given_up = Says(TimeoutError(110, "Connection timed out"))
    error, went = fail(SMTPTimeout, other, given_up)
    assert (error.phase, error.seconds) == (Phase.GREETING_PROBE, None)
    assert went.ways == [(587, STARTTLS, SMTPTimeout)]
    assert not given_up.sent


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (Says(), ConnectionLost),
        (Says(b"220-half"), ConnectionLost),
        (Says(ConnectionResetError(104, "Connection reset by peer")), ConnectionLost),
        (Says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ProtocolViolation),
        (Says(b"\x15\x03\x01\x00\x02\x02\x46"), ConnectionLost),
        (Says(b"SSH-2.0-OpenSSH_9.9\r\n"), ProtocolViolation),
    ],
)
def test_no_greeting_leads_to_tls_on_a_new_connection(
    other: OpenSettings, serving: ssl.SSLContext, end: Says, error: type[SMTPError]
) -> None:
    fresh = Says(*end.things)
    session, went = succeed(other, fresh, Implicit(serving))
    assert went.ways == [(587, STARTTLS, error), (587, IMPLICIT, None)]
    assert session.tls is not None
    assert session.greeting is not None
    assert str(session.greeting) == "220 mail.test", "nothing of the old stream is in it"
    assert not fresh.sent


class EndsOnce(Says):
    """Nobody may ask it for more behind the end."""

    def read(self) -> bytes:
        assert self.things, "the end has been told already"
        return super().read()


def test_the_end_in_place_of_a_greeting_is_heard_once(
    other: OpenSettings, serving: ssl.SSLContext
) -> None:
    session, _ = succeed(other, EndsOnce(b""), Implicit(serving))
    assert "before it said anything" in str(session.attempts[0].error)


def test_half_a_greeting_and_then_silence(other: OpenSettings) -> None:
    error, went = fail(SMTPTimeout, other, Says(b"220-half", TimeoutError()))
    assert went.ways == [(587, STARTTLS, SMTPTimeout)]
    assert (error.phase, error.seconds) == (Phase.GREETING, 300)


def test_a_port_where_nobody_is(other: OpenSettings) -> None:
    _, went = fail(ConnectError, other, REFUSED)
    assert went.ways == [(587, STARTTLS, ConnectError)]


def test_a_greeting_of_554_stops(other: OpenSettings) -> None:
    error, went = fail(PermanentError, other, Transcript("S: 554 no mail here\nC: QUIT\n"))
    assert went.ways == [(587, STARTTLS, PermanentError)]
    assert error.phase is Phase.GREETING


# --- Certificates --------------------------------------------------------------------------------


class Distrusting:
    """A factory of TLS to which no certificate is good enough."""

    def __call__(self, server_hostname: str) -> TLSLayer:
        raise CertificateError(f"the certificate is refused for {server_hostname}")


@pytest.mark.parametrize("port", [None, 465, 587])
def test_a_bad_certificate_stops(auto: OpenSettings, port: int | None) -> None:
    opening = replace(auto, port=port, tls=Distrusting(), allow_cleartext=True)
    server = Silent(Says()) if port == 587 else Says()
    error, went = fail(CertificateError, opening, server)
    assert went.ways[-1] == (port or 465, IMPLICIT, CertificateError)
    assert "refused for mail.test" in str(error)


def test_a_bad_certificate_behind_starttls_stops(other: OpenSettings) -> None:
    error, went = fail(
        CertificateError,
        replace(other, tls=Distrusting(), allow_cleartext=True),
        Transcript(GREETING + EHLO + "S: 250-x\nS: 250 STARTTLS\n"),
    )
    assert went.ways == [(587, STARTTLS, None)], "it was greeted"
    assert error.phase is Phase.EHLO


@pytest.mark.parametrize("port", [None, 465, 587])
def test_a_real_certificate_that_is_bad_stops(auto: OpenSettings, port: int | None) -> None:
    stranger = Implicit(serving_as(trustme.CA(), HOST))
    server = Silent(stranger) if port == 587 else stranger
    error, _ = fail(CertificateError, replace(auto, port=port), server)
    assert "certificate is refused for mail.test" in str(error)
    assert isinstance(stranger.inside, Transcript)
    assert not stranger.inside.sent


# --- STARTTLS that is not to be had --------------------------------------------------------------


@pytest.mark.parametrize("port", [25, 587, 465, None])
def test_no_offer_is_an_error(auto: OpenSettings, port: int | None) -> None:
    before: list[Server | OSError] = []
    if port == 465:
        before.append(Says(b"220 x\r\n"))
    if port is None:
        before.append(REFUSED)
    server = Transcript(PLAIN)
    error, went = fail(TLSError, replace(auto, port=port, credentials=ALICE), *before, server)
    assert "does not offer STARTTLS, which is required" in str(error)
    assert "allow_cleartext=True goes on without" in str(error)
    assert went.ways[-1] == (port or 587, STARTTLS, None)
    assert server.sent == b"EHLO [192.0.2.7]\r\n"
    if before:
        assert "; before that port 465, implicit: " in str(error)


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("reply", ["454 not now", "502 what?", "530 no"])
def test_an_offer_that_is_withdrawn_is_an_error(
    other: OpenSettings, reply: str, allowed: bool
) -> None:
    server = Transcript(GREETING + EHLO + f"S: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS: {reply}\n")
    error, _ = fail(TLSError, replace(other, allow_cleartext=allowed), server)
    server.finish()
    assert reply in str(error)


@pytest.mark.parametrize("allowed", [False, True])
def test_what_is_injected_behind_the_220_is_an_error(other: OpenSettings, allowed: bool) -> None:
    server = Transcript(GO + "S: 250-evil\nS: 250 AUTH LOGIN\n")
    fail(ProtocolViolation, replace(other, allow_cleartext=allowed), server)
    server.finish()


def test_clear_text_where_it_is_allowed_and_nothing_is_offered(other: OpenSettings) -> None:
    session, went = succeed(replace(other, allow_cleartext=True), Transcript(PLAIN))
    assert session.tls is None
    assert went.ways == [(587, STARTTLS, None)]


def test_an_offer_is_taken_where_clear_text_would_be_allowed(
    other: OpenSettings, serving: ssl.SSLContext
) -> None:
    session, _ = succeed(replace(other, allow_cleartext=True), Upgrading(serving))
    assert session.tls is not None


def test_leave_for_clear_text_is_none_for_a_password(other: OpenSettings) -> None:
    server = Transcript(PLAIN.replace("HELP", "AUTH PLAIN LOGIN"))
    opening = replace(other, allow_cleartext=True, credentials=ALICE)
    error, went = fail(AuthenticationError, opening, server)
    server.finish()
    assert went.ways == [(587, STARTTLS, None)]
    assert error.attempts
    both = replace(opening, policy=Policy(allow_cleartext=True))
    session, _ = succeed(
        both, Transcript(PLAIN.replace("HELP", "AUTH PLAIN") + AUTH + "S: 235 ok\n")
    )
    assert session.authenticated


def test_logging_in(other: OpenSettings, serving: ssl.SSLContext) -> None:
    session, _ = succeed(
        replace(other, credentials=ALICE), Upgrading(serving, SECURE + AUTH + "S: 235 ok\n")
    )
    assert session.authenticated
    assert session.settings.credentials is None


def test_a_refused_login_is_not_tried_in_another_way(
    auto: OpenSettings, serving: ssl.SSLContext
) -> None:
    server = Implicit(serving, GREETING + SECURE + AUTH + "S: 535 5.7.8 wrong\n")
    error, went = fail(AuthenticationError, replace(auto, credentials=ALICE), server)
    assert went.ways == [(465, IMPLICIT, None)]
    assert str(error).endswith("535 5.7.8 wrong")


# --- The whole time ------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [None, 25, 465, 587])
@pytest.mark.parametrize("place", range(4))
def test_the_end_of_the_whole_time_stops(auto: OpenSettings, port: int | None, place: int) -> None:
    up = TotalTimeout(1000)
    ends: list[Server | OSError] = [up, Says(up), Says(b"\x16\x03", up), Silent(Says(up))]
    if port != 587 and place == 3:
        return  # nobody else looks whether it is silent
    error, went = fail(SMTPTimeout, replace(auto, port=port), ends[place])
    assert error.whole
    assert error.seconds == 1000
    assert "the limit of the whole operation" in str(error)
    assert went.ways[-1][2] is SMTPTimeout
    assert len(went.ways) == (2 if place == 3 else 1)


# --- A peer that drips, and one that is silent, by the clock -------------------------------------


class Dripping:
    """Gives what another server says octet by octet."""

    def __init__(self, server: Server) -> None:
        self.timers: list[Timer] = []
        self._server = server
        self._pieces = Pieces(iter(lambda: 1, 0))

    def write(self, data: bytes) -> None:
        self._server.write(data)

    def read(self) -> bytes:
        if not self._pieces:
            self._pieces.put(self._server.read())
        return self._pieces.take()


def by_the_clock(
    flow: Flow[Session], server: Server, slow: Phase, seconds: float
) -> tuple[SMTPTimeout, float]:
    """Let each octet take so many seconds in the slow phase. Returns the error, and how long."""
    now = began = 0.0
    timer = Timer(Phase.IDLE, None)
    deadline = inf
    while True:
        try:
            action = flow.next_action()
        except SMTPTimeout as error:
            return error, now - began
        assert not isinstance(action, Done)
        if action.timer is not timer:
            timer, began = action.timer, now
            assert timer.seconds is not None
            assert flow.total is not None
            deadline = min(now + timer.seconds, flow.total)
        late = now + seconds if action.timer.phase is slow else now
        match action:
            case Send(data):
                server.write(bytes(data))
                continue
            case Receive() | Connect() | Resolve() if late >= deadline:
                now = deadline
                flow.timed_out(whole=deadline == flow.total)
            case Connect():
                flow.connected("192.0.2.7")
            case Receive():
                now = late
                flow.receive_data(server.read())
            case _:
                raise AssertionError(action)


SLOW = {
    Phase.PROXY: 11.0,
    Phase.TLS: 12.0,
    Phase.GREETING: 13.0,
    Phase.EHLO: 14.0,
    Phase.STARTTLS: 14.0,
    Phase.AUTH: 15.0,
}
BY_THE_CLOCK = Timeouts(connect=10, proxy=11, tls=12, greeting=13, command=14, auth=15, total=500)


def at_length(auto: OpenSettings, serving: ssl.SSLContext) -> tuple[OpenSettings, Server]:
    """An opening that has every phase."""
    asked = b"\x05\x01\x00\x03\x09mail.test" + (25).to_bytes(2, "big")
    exchanges = [(b"\x05\x01\x00", b"\x05\x00"), (asked, b"\x05\x00\x00\x01" + bytes(6))]
    clear, secure = (text.replace("192.0.2.7", "127.0.0.1") for text in (GO, SECURE))
    server = Tunnel(exchanges, Encrypted(serving, clear, secure + AUTH + "S: 235 2.7.0 welcome\n"))
    proxied = replace(auto, port=25, proxies=(Socks5("proxy.test", 1080),), credentials=ALICE)
    return replace(proxied, timeouts=BY_THE_CLOCK), Dripping(server)


@pytest.mark.parametrize("slow", SLOW)
def test_drip_moves_no_deadline(auto: OpenSettings, serving: ssl.SSLContext, slow: Phase) -> None:
    opening, server = at_length(auto, serving)
    error, took = by_the_clock(OpenSession(opening), server, slow, 2.0)
    assert (error.phase, error.seconds, error.whole) == (slow, SLOW[slow], False)
    assert took == SLOW[slow]
    assert error.received == (SLOW[slow] - 1) // 2
    assert f"after {SLOW[slow]:g} s in phase {slow.value}: {error.received} octets" in str(error)


@pytest.mark.parametrize("slow", [Phase.CONNECT, *SLOW])
def test_silence_ends_at_the_deadline(
    auto: OpenSettings, serving: ssl.SSLContext, slow: Phase
) -> None:
    opening, server = at_length(auto, serving)
    error, took = by_the_clock(OpenSession(opening), server, slow, inf)
    assert (error.phase, error.received, error.whole) == (slow, 0, False)
    assert took == error.seconds == SLOW.get(slow, 10)
    assert str(error).endswith(f"in phase {slow.value}: nothing had come")


@pytest.mark.parametrize("slow", SLOW)
def test_drip_that_eats_the_whole_time(
    auto: OpenSettings, serving: ssl.SSLContext, slow: Phase
) -> None:
    opening, server = at_length(auto, serving)
    opening = replace(opening, timeouts=replace(BY_THE_CLOCK, total=7))
    error, took = by_the_clock(OpenSession(opening), server, slow, 2.0)
    assert (error.phase, error.seconds, error.whole) == (slow, 7, True)
    assert took == 7
    assert error.received == 3
