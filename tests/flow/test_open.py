"""OpenSession, the flows of one command, and CloseSession, against transcripts.

Knows what is said in clear text. Must not know how TLS is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from typing import TypeVar, cast

import pytest

from smtp_proto.engine import LocalProtocolError, Protocol
from smtp_proto.flow.actions import Connect, Done, Receive, Send, Timer
from smtp_proto.flow.close import CloseSession
from smtp_proto.flow.errors import (
    AuthenticationError,
    CapabilityMissing,
    ConnectError,
    ConnectionLost,
    PermanentError,
    ProtocolViolation,
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
from smtp_proto.flow.simple import expand, help_, noop, reset, verify
from smtp_proto.flow.timeouts import Phase, Timeouts
from smtp_proto.flow.tls import no_tls
from smtp_proto.proxy import Socks5
from smtp_proto.sasl import AnonymousCredentials, Credentials, Policy, TokenCredentials
from smtp_proto.wire import Limits, Reply, WireError
from tests.flow.scripted import CLEAR, Transcript, opened, play, settings

E = TypeVar("E", bound=SMTPError)

GREETING = "S: 220 mail.test ESMTP\n"
EHLO = GREETING + "C: EHLO [192.0.2.7]\n"
READY = EHLO + "S: 250-mail.test\nS: 250 HELP\n"
ALICE = Credentials("alice", "s3cret")
CLEARTEXT = Policy(allow_cleartext=True)
LOGGING_IN = settings(credentials=ALICE, policy=CLEARTEXT)


def open_session(script: str, opening: OpenSettings = CLEAR) -> tuple[Session, Transcript]:
    session, server = opened(script, opening=opening)
    server.finish()
    return session, server


def fail(error: type[E], script: str, opening: OpenSettings = CLEAR) -> E:
    server = Transcript(script)
    with pytest.raises(error) as caught:
        play(OpenSession(opening), server)
    server.finish()
    return caught.value


def test_a_plain_session() -> None:
    session, server = open_session(READY)
    assert session.usable
    assert session.greeting is not None
    assert session.greeting.text == "mail.test ESMTP"
    assert "HELP" in session.capabilities
    assert session.tls is None
    assert not session.authenticated
    assert [timer.phase for timer in server.timers] == [
        Phase.CONNECT,
        Phase.GREETING,
        Phase.EHLO,
    ]


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_session_cut_anywhere(cut: int) -> None:
    server = Transcript(READY, repeat(cut))
    assert play(OpenSession(CLEAR), server).usable


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("192.0.2.7", "[192.0.2.7]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        (None, "[127.0.0.1]"),
    ],
)
def test_the_name_is_the_literal_of_the_local_address(address: str | None, literal: str) -> None:
    flow = OpenSession(CLEAR)
    assert isinstance(flow.next_action(), Connect)
    flow.connected(address)
    flow.next_action()
    flow.receive_data(b"220 x\r\n")
    action = flow.next_action()
    assert isinstance(action, Send)
    assert bytes(action.data) == f"EHLO {literal}\r\n".encode()


def test_behind_a_proxy_the_local_address_is_not_told() -> None:
    flow = OpenSession(settings(proxies=(Socks5("proxy.test", 1080),)))
    said = b""
    answers = [b"\x05\x00", b"\x05\x00\x00\x01" + bytes(6) + b"220 x\r\n"]
    while b"EHLO" not in said:
        match flow.next_action():
            case Connect():
                flow.connected("192.0.2.7")
            case Send(data):
                said += bytes(data)
            case Receive():
                flow.receive_data(answers.pop(0))
            case action:
                raise AssertionError(action)
    assert said.endswith(b"EHLO [127.0.0.1]\r\n")


def test_a_name_of_ones_own() -> None:
    hello = READY.replace("[192.0.2.7]", "client.example")
    open_session(hello, settings(local_hostname="client.example"))


@pytest.mark.parametrize("code", [500, 501, 502, 504, 550])
def test_helo_for_servers_that_refuse_ehlo(code: int) -> None:
    session, _ = open_session(EHLO + f"S: {code} what?\nC: HELO [192.0.2.7]\nS: 250 mail.test\n")
    assert session.usable
    assert not session.capabilities.keywords


@pytest.mark.parametrize("name", ["", "two words", "a\r\nQUIT", "ü.example", "[192.0.2]"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(WireError):
        settings(local_hostname=name)


def test_helo_refused_too() -> None:
    fail(PermanentError, EHLO + "S: 502 what?\nC: HELO [192.0.2.7]\nS: 550 no\n")


def test_ehlo_refused_for_now_is_no_reason_for_helo() -> None:
    fail(TransientError, EHLO + "S: 451 later\n")


def test_no_helo_where_starttls_is_required() -> None:
    fail(PermanentError, EHLO + "S: 502 what?\n", settings(security=Security.STARTTLS))


def test_no_helo_where_credentials_are_to_be_sent() -> None:
    fail(PermanentError, EHLO + "S: 502 what?\n", settings(credentials=ALICE))


def test_lhlo() -> None:
    session, _ = open_session(READY.replace("EHLO", "LHLO"), settings(protocol=Protocol.LMTP))
    assert session.usable


def test_lhlo_refused() -> None:
    fail(
        PermanentError,
        EHLO.replace("EHLO", "LHLO") + "S: 500 no\n",
        settings(protocol=Protocol.LMTP),
    )


def test_a_refused_greeting_is_answered_by_quit() -> None:
    error = fail(PermanentError, "S: 554 go away\nC: QUIT\n")
    assert "go away" in str(error)
    assert error.phase is Phase.GREETING


def test_a_greeting_of_421_is_the_end() -> None:
    fail(TransientError, "S: 421 too busy\n")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("S:TIME\n", SMTPTimeout),
        ("S:EOF\n", ConnectionLost),
        ("S:BREAK\n", ConnectionLost),
        ("S: HTTP/1.1 400 Bad Request\n", ProtocolViolation),
        (EHLO + "S:TIME\n", SMTPTimeout),
        (EHLO + "S:EOF\n", ConnectionLost),
        (EHLO + "S:BREAK\n", ConnectionLost),
        (EHLO + "S: 250-mail.test\nS: 251 HELP\n", ProtocolViolation),
        (GREETING + "C:BREAK\nS:TIME\n", ConnectionLost),
    ],
)
def test_what_can_go_wrong_while_opening(script: str, error: type[SMTPError]) -> None:
    fail(error, script)


def test_a_timeout_says_how_much_had_come() -> None:
    flow = OpenSession(settings(timeouts=Timeouts(greeting=3)))
    flow.next_action()
    flow.connected()
    first = flow.next_action()
    assert isinstance(first, Receive)
    flow.receive_data(b"220-")
    second = flow.next_action()
    assert isinstance(second, Receive)
    assert second.timer is first.timer, "what drips in does not move the deadline"
    flow.receive_data(b"mail")
    flow.next_action()
    assert first.timer.seconds == 3
    flow.failed(TimeoutError())
    with pytest.raises(
        SMTPTimeout, match=r"after 3 s in phase greeting: 8 octets had come"
    ) as caught:
        flow.next_action()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.received == 8


def test_connecting_fails() -> None:
    for failure, error in (
        (ConnectionRefusedError(111, "Connection refused"), ConnectError),
        (TimeoutError(), SMTPTimeout),
    ):
        flow = OpenSession(CLEAR)
        flow.next_action()
        flow.failed(failure)
        with pytest.raises(error, match=r"mail\.test port 25|in phase connect") as caught:
            flow.next_action()
        assert caught.value.phase is Phase.CONNECT


# --- STARTTLS -------------------------------------------------------------------------------------


def test_starttls_not_offered() -> None:
    error = fail(TLSError, READY, settings(security=Security.STARTTLS))
    assert "does not offer STARTTLS" in str(error)
    assert error.phase is Phase.EHLO


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.OPPORTUNISTIC])
@pytest.mark.parametrize("reply", ["454 not now", "502 what?", "530 no", "554 no"])
def test_starttls_refused(security: Security, reply: str) -> None:
    fail(
        TLSError,
        EHLO + f"S: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS: {reply}\n",
        settings(security=security),
    )


@pytest.mark.parametrize("reply", ["250 ok", "221 bye", "354 go"])
def test_starttls_answered_by_anything_but_220(reply: str) -> None:
    fail(
        ProtocolViolation,
        EHLO + f"S: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS: {reply}\n",
        settings(security=Security.STARTTLS),
    )


@pytest.mark.parametrize("injected", ["S: 250-mx.evil\nS: 250 AUTH LOGIN\n", "S: 235 ok\n"])
def test_a_reply_behind_the_220_ends_it(injected: str) -> None:
    fail(
        ProtocolViolation,
        EHLO + "S: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n" + injected,
        settings(security=Security.STARTTLS),
    )


def test_starttls_is_not_used_where_it_is_not_wanted() -> None:
    session, _ = open_session(EHLO + "S: 250-x\nS: 250 STARTTLS\n")
    assert session.tls is None


def test_opportunistic_goes_on_in_clear_where_nothing_is_offered() -> None:
    session, _ = open_session(READY, settings(security=Security.OPPORTUNISTIC))
    assert session.tls is None


def test_tls_without_anything_to_make_it() -> None:
    fail(
        TLSError,
        EHLO + "S: 250-x\nS: 250 STARTTLS\n",  # not even asked for: it would have to be done
        settings(security=Security.STARTTLS, tls=no_tls),
    )


# --- AUTH -----------------------------------------------------------------------------------------

AUTH = EHLO + "S: 250-x\nS: 250 AUTH PLAIN LOGIN CRAM-MD5\n"
PLAIN = "C: AUTH PLAIN AGFsaWNlAHMzY3JldA==\n"


def test_auth_plain() -> None:
    session, _ = open_session(AUTH + PLAIN + "S: 235 ok\n", LOGGING_IN)
    assert session.authenticated


def test_auth_login() -> None:
    policy = Policy(allowed=frozenset({"LOGIN"}), allow_cleartext=True)
    session, _ = open_session(
        AUTH
        + "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\n"
        + "S: 334 UGFzc3dvcmQ6\nC: czNjcmV0\nS: 235 ok\n",
        settings(credentials=ALICE, policy=policy),
    )
    assert session.authenticated


def test_no_password_on_a_clear_connection() -> None:
    error = fail(AuthenticationError, AUTH, settings(credentials=ALICE))
    assert dict(error.passed_over).keys() == {"PLAIN", "LOGIN", "CRAM-MD5"}
    assert error.offered == ("PLAIN", "LOGIN", "CRAM-MD5")


def test_opportunistic_never_sends_a_password_in_clear() -> None:
    fail(
        AuthenticationError,
        AUTH,
        settings(credentials=ALICE, policy=CLEARTEXT, security=Security.OPPORTUNISTIC),
    )


def test_auth_not_offered() -> None:
    fail(AuthenticationError, READY, LOGGING_IN)


@pytest.mark.parametrize("end", ["S: 535 5.7.8 wrong\n", "S: 454 later\n", "S:EOF\n"])
def test_auth_refused(end: str) -> None:
    error = fail(AuthenticationError, AUTH + PLAIN + end, LOGGING_IN)
    assert error.tried == ("PLAIN",)
    assert error.phase is Phase.AUTH
    assert "s3cret" not in repr(error) + str(error)


@pytest.mark.parametrize("challenge", ["!!!", "YWJj"])
def test_a_challenge_that_makes_no_sense_is_cancelled(challenge: str) -> None:
    fail(
        AuthenticationError,
        AUTH + PLAIN + f"S: 334 {challenge}\nC: *\nS: 501 cancelled\n",
        LOGGING_IN,
    )


def test_a_long_initial_response_goes_in_two_steps() -> None:
    secret = "x" * 500
    server = Transcript(AUTH + "C: AUTH PLAIN\nS: 334 \nC: ...\nS: 235 ok\n")
    session = play(
        OpenSession(settings(credentials=Credentials("alice", secret), policy=CLEARTEXT)), server
    )
    assert session.authenticated
    assert len(server.sent) > 600


def test_a_long_initial_response_is_the_answer_to_an_empty_challenge_alone() -> None:
    secret = "x" * 500
    server = Transcript(AUTH + "C: AUTH PLAIN\nS: 334 YWJj\nC: *\nS: 501 cancelled\n")
    opening = settings(credentials=Credentials("alice", secret), policy=CLEARTEXT)
    with pytest.raises(AuthenticationError):
        play(OpenSession(opening), server)
    server.finish()


def test_a_long_initial_response_is_given_once() -> None:
    script = AUTH + "C: AUTH PLAIN\nS: 334 \nC: ...\nS: 334 \nC: *\nS: 501 cancelled\n"
    secret = Credentials("alice", "x" * 500)
    fail(AuthenticationError, script, settings(credentials=secret, policy=CLEARTEXT))


def test_a_challenge_may_be_what_was_answered_before() -> None:
    script = AUTH.replace("PLAIN LOGIN", "LOGIN") + "C: AUTH LOGIN\n"
    for prompt, answer in (("VXNlcm5hbWU6", "UGFzc3dvcmQ6"), ("UGFzc3dvcmQ6", "czNjcmV0")):
        script += f"S: 334 {prompt}\nC: {answer}\n"
    odd_name = settings(credentials=Credentials("Password:", "s3cret"), policy=CLEARTEXT)
    session, _ = open_session(script + "S: 235 ok\n", odd_name)
    assert session.authenticated


def test_success_before_the_password_was_asked_for_is_none() -> None:
    script = AUTH.replace("PLAIN LOGIN", "LOGIN") + "C: AUTH LOGIN\nS: 235 ok\n"
    fail(AuthenticationError, script, LOGGING_IN)


def test_challenges_are_counted() -> None:
    limited = replace(LOGGING_IN, limits=Limits(auth_rounds=1))
    script = (
        AUTH.replace("PLAIN LOGIN", "LOGIN") + "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\n"
    )
    fail(ProtocolViolation, script + "S: 334 UGFzc3dvcmQ6\n", limited)


@pytest.mark.parametrize(
    "lines",
    [
        ["500 5.5.2 What is AGFsaWNlAHMzY3JldA==?"],
        ["500 5.5.2 What is AGFsaWNlAHMzY3JldA?"],
        ["421 AGFsaWNlAHMzY3JldA=="],
        ["535 bad password s3cret"],
        ["535-5.7.8 AGFsaWNl", "535 5.7.8 AHMzY3JldA=="],
    ],
)
def test_a_server_that_quotes_the_secret_is_not_quoted(lines: list[str]) -> None:
    offer = AUTH.replace(" LOGIN CRAM-MD5", "")
    script = offer + PLAIN + "".join(f"S: {line}\n" for line in lines)
    error = fail(AuthenticationError, script, LOGGING_IN)
    assert error.reply is not None
    assert error.reply.code == int(lines[0][:3])
    assert error.reply.text == "***"
    for secret in ("s3cret", "AGFsaWNl", "AHMzY3JldA"):
        assert secret not in str(error) + repr(error.reply) + repr(error.passed_over)


def test_a_token_that_is_quoted_is_not_shown() -> None:
    script = EHLO + "S: 250-x\nS: 250 AUTH XOAUTH2\nC: ...\nS: 535 tok.en is no good\n"
    opening = settings(credentials=TokenCredentials("alice", "tok.en"), policy=CLEARTEXT)
    error = fail(AuthenticationError, script, opening)
    assert "tok.en" not in str(error)


@pytest.mark.parametrize("code", [220, 250, 299])
def test_only_235_is_success(code: int) -> None:
    fail(AuthenticationError, AUTH + PLAIN + f"S: {code} come in\n", LOGGING_IN)


def test_success_before_any_credentials_is_none() -> None:
    opening = settings(credentials=Credentials("alice", 500 * "x"), policy=CLEARTEXT)
    fail(AuthenticationError, AUTH + "C: AUTH PLAIN\nS: 235 come in\n", opening)


def test_anonymous_has_no_secret_to_hide() -> None:
    script = EHLO + "S: 250-x\nS: 250 AUTH ANONYMOUS\nC: ...\nS: 535 nobody comes in\n"
    policy = Policy(allowed=frozenset({"ANONYMOUS"}), allow_cleartext=True)
    opening = settings(credentials=AnonymousCredentials("alice"), policy=policy)
    assert "nobody comes in" in str(fail(AuthenticationError, script, opening))


# --- One command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (noop, "NOOP"),
        (reset, "RSET"),
        (help_, "HELP"),
        (lambda session: help_(session, "MAIL"), "HELP MAIL"),
        (lambda session: verify(session, "alice"), "VRFY alice"),
        (lambda session: expand(session, "staff"), "EXPN staff"),
    ],
)
def test_one_command(make: Callable[[Session], Flow[Reply]], line: str) -> None:
    server = Transcript(
        READY + f"C: {line}\nS: 250 yes\nC: {line}\nS: 502 no\nC: {line}\nS: 450 later\n"
    )
    session = play(OpenSession(CLEAR), server)
    assert str(play(make(session), server)) == "250 yes"
    with pytest.raises(PermanentError):
        play(make(session), server)
    with pytest.raises(TransientError):
        play(make(session), server)
    server.finish()
    assert session.usable


def test_a_flow_in_use_or_given_up_locks_the_session() -> None:
    server = Transcript(READY)
    session = play(OpenSession(CLEAR), server)
    first = noop(session)
    first.next_action()
    assert not session.usable
    with pytest.raises(ConnectionLost):
        noop(session).next_action()
    first.timed_out(whole=False)
    with pytest.raises(SMTPTimeout):
        first.next_action()
    session.hear(b"250 late\r\n")
    assert not session.usable
    with pytest.raises(ConnectionLost):
        noop(session).next_action()


# --- The end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", ["S: 221 bye\n", "S:EOF\n", "S:TIME\n", "S:BREAK\n", "S: 500 what?\n", "S: nonsense\n"]
)
def test_closing_never_fails(end: str) -> None:
    server = Transcript(READY + "C: QUIT\n" + end)
    session = play(OpenSession(CLEAR), server)
    flow = CloseSession(session)
    play(flow, server)
    server.finish()
    assert flow.action == Done(None, close=True)
    assert not session.usable


def test_closing_what_is_not_usable_says_nothing() -> None:
    server = Transcript(READY)
    session = play(OpenSession(CLEAR), server)
    noop(session).next_action()
    play(CloseSession(session), server)
    server.finish()


# --- The outside of a flow ------------------------------------------------------------------------


def test_wrong_answers_are_refused_and_change_nothing() -> None:
    flow = OpenSession(CLEAR)
    with pytest.raises(LocalProtocolError):
        flow.failed(OSError())
    with pytest.raises(LocalProtocolError):
        flow.connected()
    before = flow.phase
    flow.next_action()
    assert (before, flow.phase) == (None, Phase.CONNECT)
    for wrong in (
        flow.receive_eof,
        lambda: flow.receive_data(b"x"),
        lambda: flow.content(b""),
        lambda: flow.answer(1),
        flow.next_action,
    ):
        with pytest.raises(LocalProtocolError):
            wrong()
    flow.connected()
    with pytest.raises(LocalProtocolError):
        flow.connected()
    assert isinstance(flow.next_action(), Receive)
    flow.receive_eof()
    with pytest.raises(ConnectionLost):
        flow.next_action()


def test_the_total_is_the_flows() -> None:
    assert OpenSession(settings(timeouts=Timeouts.of(7))).total == 7
    assert OpenSession(CLEAR).total is None


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_timeouts_must_be_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout connect"):
        Timeouts(connect=seconds)


@pytest.mark.parametrize("seconds", [True, "3"])
def test_timeouts_must_be_numbers(seconds: object) -> None:
    with pytest.raises(TypeError, match="timeout quit"):
        Timeouts(quit=cast("float", seconds))


def test_every_phase_has_its_seconds() -> None:
    five = dict.fromkeys(Phase, 5.0) | {Phase.GREETING_PROBE: 1.25}
    assert {phase: Timeouts.of(5).seconds(phase) for phase in Phase} == five
    assert Timeouts.of(100).greeting_probe == Timeouts().greeting_probe == 5
    assert Timeouts().seconds(Phase.FINAL) == 600
    assert Timeouts().seconds(Phase.EHLO) == Timeouts().command


def test_default_ports() -> None:
    assert {mode: mode.default_port for mode in Security} == {
        Security.NONE: 25,
        Security.OPPORTUNISTIC: 25,
        Security.STARTTLS: 587,
        Security.IMPLICIT: 465,
        Security.MANUAL: 587,
        Security.AUTO: None,
    }


@pytest.mark.parametrize("make", [verify, expand])
def test_a_string_that_is_not_ascii_needs_smtputf8(
    make: Callable[[Session, str], Flow[Reply]],
) -> None:
    server = Transcript(READY)
    session = play(OpenSession(settings()), server)
    with pytest.raises(CapabilityMissing, match="SMTPUTF8"):
        make(session, "ännchen")
    assert session.usable
    server = Transcript(READY.replace("HELP", "SMTPUTF8") + "C: ...\nS: 252 perhaps\n")
    session = play(OpenSession(settings()), server)
    assert play(make(session, "ännchen"), server).code == 252
    assert server.sent.endswith("ännchen SMTPUTF8\r\n".encode())


def test_nothing_of_a_violation_in_the_login_is_told() -> None:
    canary = "AGFsaWNlAHMzY3JldA=="
    script = AUTH + PLAIN + f"S: AUTH PLAIN {canary}\n"
    error = fail(ProtocolViolation, script, LOGGING_IN)
    assert error.phase is Phase.AUTH
    chain: BaseException | None = error
    while chain is not None:
        assert canary not in str(chain) + repr(chain)
        chain = chain.__context__


def test_a_flow_that_is_over_says_so() -> None:
    server = Transcript(READY)
    flow = OpenSession(settings())
    play(flow, server)
    with pytest.raises(LocalProtocolError, match="over"):
        flow.next_action()
    failed = OpenSession(settings())
    with pytest.raises(ConnectionLost):
        play(failed, Transcript("S:EOF"))
    with pytest.raises(LocalProtocolError, match="over"):
        failed.next_action()


def test_what_is_sent_is_not_shown() -> None:
    assert "secret" not in repr(Send(b"secret", Timer(Phase.AUTH, 1.0)))
