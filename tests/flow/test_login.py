"""Logging in: what follows from a refusal, where tokens come from, what a report has of it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from email.message import Message
from subprocess import CalledProcessError
from typing import TypeVar
from urllib.error import HTTPError

import pytest

from smtp_proto.engine import LocalProtocolError
from smtp_proto.engine.trace import Speaker
from smtp_proto.flow.actions import Ask, Connect, Done, Receive, Send
from smtp_proto.flow.by_hand import authenticate
from smtp_proto.flow.check import CheckCredentials, CredentialReport
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.errors import (
    AuthenticationError,
    ConnectError,
    ProtocolViolation,
    ReplyError,
    SenderRefused,
    SMTPError,
    SMTPTimeout,
)
from smtp_proto.flow.flow import Flow
from smtp_proto.flow.journal import QUIET, Journal
from smtp_proto.flow.login import identity_of
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.secrets import LoginSecrets
from smtp_proto.flow.security import Security
from smtp_proto.flow.simple import noop
from smtp_proto.flow.timeouts import Expired, Phase
from smtp_proto.sasl import (
    AnonymousCredentials,
    AnyCredentials,
    Credentials,
    ExternalCredentials,
    KerberosCredentials,
    Policy,
    TokenCredentials,
    TokenSource,
)
from smtp_proto.wire import Reply
from smtp_proto.wire.errors import escaped
from tests.flow.scripted import Transcript, play, settings

T = TypeVar("T")

ALICE = Credentials("alice", "s3cret")
CLEAR = Policy(allow_cleartext=True)
EHLO = "S: 220 mail.test\nC: EHLO [192.0.2.7]\nS: 250-mail.test\nS: 250 AUTH "
PLAIN = "C: AUTH PLAIN AGFsaWNlAHMzY3JldA==\n"
LOGIN = "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: czNjcmV0\n"
QUIT = "C: QUIT\nS: 221 bye\n"


class Notes:
    """A journal that is kept in memory."""

    wants_events = True
    wants_lines = True

    def __init__(self) -> None:
        self.events: list[str] = []
        self.failures: list[tuple[str, str, str]] = []
        self.lines: list[str] = []

    def line(self, speaker: Speaker, text: str) -> None:
        self.lines.append(f"{speaker.value}: {text}")

    def happened(self, what: str) -> None:
        self.events.append(what)

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        self.failures.append((mechanism, identity, why))


def carry_out(flow: Flow[T], script: str, tokens: Iterable[object] = ()) -> T:
    """Play a transcript, and answer each question with the next of `tokens`; one may be raised."""
    server = Transcript(script)
    remaining = iter(tokens)
    while True:
        action = flow.next_action()
        match action:
            case Done(result):
                server.finish()
                return result
            case Connect():
                flow.connected("192.0.2.7")
            case Send(data):
                try:
                    server.write(bytes(data))
                except OSError as error:
                    flow.failed(error)
            case Receive():
                flow.receive_data(server.read())
            case Ask():
                assert action.name == "token"
                assert action.timer.phase is Phase.AUTH
                token = next(remaining)
                if isinstance(token, Exception):
                    flow.failed(token)
                else:
                    flow.answer(token)
            case _:
                raise AssertionError(action)


def opening(
    credentials: AnyCredentials | None, policy: Policy = CLEAR, journal: Journal = QUIET
) -> OpenSession:
    return OpenSession(settings(credentials=credentials, policy=policy), journal)


# --- Another mechanism ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [500, 501, 504, 534, 538])
def test_a_mechanism_that_the_server_cannot_do_is_passed_over(code: int) -> None:
    notes = Notes()
    script = f"{EHLO}PLAIN LOGIN\n{PLAIN}S: {code} 5.5.4 not now\n{LOGIN}S: 235 ok\n"
    session = carry_out(opening(ALICE, journal=notes), script)
    assert session.authenticated
    assert session.login is not None
    assert session.login.mechanism == "LOGIN"
    assert session.login.tried == ("PLAIN", "LOGIN")
    assert session.login.passed_over == (("PLAIN", f"the server answered {code} 5.5.4 not now"),)
    assert session.login.reply.code == 235
    assert notes.failures == [("PLAIN", "alice", f"{code} 5.5.4 not now")]
    assert notes.events[-1] == "logged in as alice with LOGIN"


@pytest.mark.parametrize("code", [250, 421, 432, 454, 530, 535, 550])
def test_no_other_mechanism_after_any_other_reply(code: int) -> None:
    with pytest.raises(AuthenticationError) as caught:
        carry_out(opening(ALICE), f"{EHLO}PLAIN LOGIN\n{PLAIN}S: {code} no\n")
    assert caught.value.tried == ("PLAIN",)
    assert caught.value.reply is not None
    assert caught.value.reply.code == code
    assert caught.value.offered == ("PLAIN", "LOGIN")
    assert caught.value.allowed is None


def test_no_mechanism_is_tried_twice() -> None:
    script = f"{EHLO}PLAIN LOGIN\n{PLAIN}S: 504 no\nC: AUTH LOGIN\nS: 504 nor that\n"
    policy = Policy(frozenset({"PLAIN", "LOGIN"}), allow_cleartext=True)
    with pytest.raises(AuthenticationError, match="no mechanism for logging in is left") as caught:
        carry_out(opening(ALICE, policy), script)
    assert caught.value.tried == ("PLAIN", "LOGIN")
    assert caught.value.allowed == frozenset({"PLAIN", "LOGIN"})
    assert caught.value.reply is not None
    assert caught.value.reply.text == "nor that"
    assert dict(caught.value.passed_over) == {
        "PLAIN": "the server answered 504 no",
        "LOGIN": "the server answered 504 nor that",
    }


def test_501_to_a_response_is_about_the_response() -> None:
    script = f"{EHLO}LOGIN PLAIN\n{LOGIN}S: 501 5.5.2 what?\n"
    policy = Policy(order=("LOGIN",), allow_cleartext=True)
    with pytest.raises(AuthenticationError) as caught:
        carry_out(opening(ALICE, policy), script)
    assert caught.value.tried == ("LOGIN",)


def test_opportunistic_never_logs_in_over_clear_text() -> None:
    settled = settings(security=Security.OPPORTUNISTIC, credentials=ALICE, nonce=lambda: b"n" * 16)
    with pytest.raises(AuthenticationError, match="never logs in over clear text") as caught:
        carry_out(OpenSession(settled), f"{EHLO}SCRAM-SHA-256 CRAM-MD5 PLAIN\n")
    assert caught.value.offered == ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN")


# --- What a server quotes -------------------------------------------------------------------------

LONG = Credentials("alice", "correct horse battery staple")
LONG_PLAIN = b64encode(b"\0alice\0correct horse battery staple").decode()


@pytest.mark.parametrize(
    "quoted",
    [
        "correct horse battery staple",
        "cut: correct ho",
        LONG_PLAIN,
        LONG_PLAIN.rstrip("="),
        f"cut: {LONG_PLAIN[20:32]}",
        b64encode(LONG.password.encode()).decode(),
    ],
)
@pytest.mark.parametrize("code", [535, 421])
def test_no_part_of_a_secret_comes_back(quoted: str, code: int) -> None:
    notes = Notes()
    script = f"{EHLO}PLAIN\nC: AUTH PLAIN {LONG_PLAIN}\nS: {code} {quoted}\n"
    with pytest.raises(AuthenticationError) as caught:
        carry_out(opening(LONG, journal=notes), script)
    told = f"{caught.value!r} {caught.value} {vars(caught.value)} {notes.failures}"
    assert quoted not in told
    assert caught.value.reply is not None
    assert caught.value.reply.code == code


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("geheim\u00a0wort", "geheim wort"),
        ("\u2168geheim\u00ad!", "IXgeheim!"),
        ("\u2168\u00ad!", "IX!"),
        ("fam\U0001f468\u200d\U0001f469ily", "fam\U0001f468\u200d\U0001f469ily"),
    ],
)
@pytest.mark.parametrize("said", ["S: 550 no {}\n", "S: no {}\n"])
def test_a_secret_is_known_in_each_form_that_it_has(
    password: str, prepared: str, said: str
) -> None:
    plain = b64encode(f"\0alice\0{password}".encode()).decode()
    for quoted in (password, prepared):
        notes = Notes()
        session = carry_out(
            opening(Credentials("alice", password), journal=notes),
            f"{EHLO}PLAIN\nC: AUTH PLAIN {plain}\nS: 235 ok\n",
        )
        with pytest.raises(SMTPError) as caught:
            carry_out(noop(session), "C: NOOP\n" + said.format(quoted))
        told = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {notes.lines[4:]}"
        for form in (password, prepared):
            assert form not in told
            assert escaped(form) not in told


def test_what_quotes_nothing_is_told() -> None:
    script = f"{EHLO}PLAIN\nC: AUTH PLAIN {LONG_PLAIN}\nS: 535 5.7.8 see https://example.org\n"
    with pytest.raises(AuthenticationError, match="see https://example.org"):
        carry_out(opening(LONG), script)


def test_the_answer_to_a_cancellation_is_not_told() -> None:
    script = f"{EHLO}PLAIN\nC: AUTH PLAIN {LONG_PLAIN}\nS: 334 \nC: *\nS: {LONG_PLAIN}\n"
    with pytest.raises(ProtocolViolation) as caught:
        carry_out(opening(LONG), script)
    error: BaseException | None = caught.value
    while error is not None:
        assert LONG_PLAIN[:12] not in str(error)
        error = error.__cause__ or error.__context__


def test_last_words_do_not_quote() -> None:
    script = (
        f"{EHLO}LOGIN\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC:BREAK\nS: 421 YWxpY2VhbGljZQ\nS:EOF\n"
    )
    alice = Credentials("alicealice", "s3cret")
    with pytest.raises(AuthenticationError) as caught:
        carry_out(opening(alice), script)
    assert "YWxpY2VhbGljZQ" not in f"{caught.value} {vars(caught.value)}"
    assert isinstance(caught.value.__cause__, BrokenPipeError)


# --- Tokens ---------------------------------------------------------------------------------------


def unused() -> str:
    raise AssertionError("a flow calls nothing by itself")


SOURCE = TokenSource("alice", unused)


def xoauth2(token: str) -> str:
    return b64encode(f"user=alice\x01auth=Bearer {token}\x01\x01".encode()).decode()


def offered(token: str, answer: str) -> str:
    return f"C: AUTH XOAUTH2 {xoauth2(token)}\nS: {answer}\n"


def test_a_token_is_asked_for() -> None:
    session = carry_out(opening(SOURCE), f"{EHLO}XOAUTH2\n{offered('t1', '235 ok')}", ["t1"])
    assert session.authenticated
    assert session.settings.credentials is None


def test_a_token_that_was_refused_is_fetched_anew_once() -> None:
    script = f"{EHLO}XOAUTH2\n{offered('old', '535 expired')}{offered('new', '235 ok')}"
    session = carry_out(opening(SOURCE), script, ["old", "new"])
    assert session.login is not None
    assert session.login.tried == ("XOAUTH2", "XOAUTH2")


def test_two_tokens_are_enough() -> None:
    script = f"{EHLO}XOAUTH2\n{offered('a', '535 expired')}{offered('b', '535 expired')}"
    with pytest.raises(AuthenticationError):
        carry_out(opening(SOURCE), script, ["a", "b", "c"])


def test_the_same_token_is_not_sent_again() -> None:
    script = f"{EHLO}XOAUTH2\n{offered('a', '535 expired')}"
    with pytest.raises(AuthenticationError, match="its source gives no other"):
        carry_out(opening(SOURCE), script, ["a", "a"])


def test_a_token_is_not_fetched_anew_for_a_passing_trouble() -> None:
    with pytest.raises(AuthenticationError):
        carry_out(opening(SOURCE), f"{EHLO}XOAUTH2\n{offered('a', '454 later')}", ["a"])


def test_no_token_is_asked_for_where_it_would_be_of_no_use() -> None:
    with pytest.raises(AuthenticationError, match="no mechanism"):
        carry_out(opening(SOURCE), f"{EHLO}PLAIN\n")


def test_a_source_that_raises() -> None:
    with pytest.raises(AuthenticationError, match="its source raised KeyError") as caught:
        carry_out(opening(SOURCE), f"{EHLO}XOAUTH2\n", [KeyError("canary")])
    assert isinstance(caught.value.__cause__, KeyError)
    assert "canary" not in str(caught.value)


def test_a_source_that_takes_too_long() -> None:
    with pytest.raises(SMTPTimeout) as caught:
        carry_out(opening(SOURCE), f"{EHLO}XOAUTH2\n", [Expired()])
    assert caught.value.phase is Phase.AUTH


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TimeoutError("canary"), "raised TimeoutError$"),
        (
            FileNotFoundError(2, "canary", "/run/token"),
            r"FileNotFoundError \(errno 2, file /run/tok",
        ),
        (PermissionError(13, "canary", b"/run/canary"), r"PermissionError \(errno 13\)$"),
        (
            CalledProcessError(3, ["fetch", "canary"], "canary"),
            r"CalledProcessError \(exit code 3\)$",
        ),
        (
            HTTPError("https://canary.example", 401, "canary", Message(), None),
            r"HTTPError \(code 401\)$",
        ),
    ],
)
def test_what_is_told_of_a_source_that_raises(error: Exception, why: str) -> None:
    with pytest.raises(AuthenticationError, match=why) as caught:
        carry_out(opening(SOURCE), f"{EHLO}XOAUTH2\n", [error])
    assert caught.value.__cause__ is error
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("token", [b"octets", None, 7])
def test_a_source_that_gives_no_text(token: object) -> None:
    with pytest.raises(AuthenticationError, match="a token is a str"):
        carry_out(opening(SOURCE), f"{EHLO}XOAUTH2\n", [token])


def test_what_the_server_explains_is_in_the_error() -> None:
    refusal = b64encode(b'{"status":"401","schemes":"bearer","scope":"mail\\u001b[2J"}').decode()
    script = f"{EHLO}XOAUTH2\n{offered('a', f'334 {refusal}')}C: \nS: 535 5.7.8 no\n"
    with pytest.raises(AuthenticationError) as caught:
        carry_out(opening(TokenCredentials("alice", "a")), script)
    assert caught.value.explanation_fields["status"] == "401"
    assert "401" in caught.value.explanation
    assert caught.value.explanation in str(caught.value)
    assert "\x1b" not in str(caught.value) + str(caught.value.explanation_fields)


# --- By hand --------------------------------------------------------------------------------------


def test_another_try_after_a_refusal() -> None:
    script = f"{EHLO}PLAIN\n"
    server = Transcript(
        script + "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 no\n" + PLAIN + "S: 235 ok\n"
    )
    session = play(
        OpenSession(settings(security=Security.MANUAL, credentials=ALICE, policy=CLEAR)), server
    )
    with pytest.raises(AuthenticationError):
        play(authenticate(session, Credentials("alice", "wrong")), server)
    assert session.usable
    play(authenticate(session), server)
    assert session.authenticated
    with pytest.raises(LocalProtocolError, match="authenticated already"):
        authenticate(session)
    server.finish()


def test_authenticate_needs_credentials() -> None:
    session = play(OpenSession(settings(security=Security.MANUAL)), Transcript(f"{EHLO}PLAIN\n"))
    with pytest.raises(LocalProtocolError, match="no credentials"):
        authenticate(session)


# --- The report -----------------------------------------------------------------------------------


def checked(script: str, credentials: AnyCredentials | None = ALICE) -> CredentialReport:
    return carry_out(CheckCredentials(settings(credentials=credentials, policy=CLEAR)), script)


def test_a_report_of_success() -> None:
    report = checked(f"{EHLO}CRAM-MD5 PLAIN\n{PLAIN}S: 235 2.7.0 welcome\n{QUIT}")
    assert report
    assert report.authenticated
    assert (report.host, report.port) == ("mail.test", 25)
    assert report.greeting is not None
    assert report.offered == ("CRAM-MD5", "PLAIN")
    assert report.tried == ("PLAIN",)
    assert [name for name, _ in report.passed_over] == ["CRAM-MD5"]
    assert report.reply is not None
    assert report.reply.code == 235
    assert report.error is None
    assert str(report) == "logged in at mail.test port 25 with PLAIN"
    assert report.phase is None
    assert report.tls is None
    assert report.capabilities_before_tls is None
    assert report.attempts == ()


def test_a_report_of_wrong_credentials() -> None:
    report = checked(f"{EHLO}PLAIN\n{PLAIN}S: 535 5.7.8 no\n")
    assert not report
    assert report.reply is not None
    assert report.reply.code == 535
    assert isinstance(report.error, AuthenticationError)
    assert report.phase is Phase.AUTH
    assert str(report).startswith("not logged in at mail.test port 25: logging in with PLAIN")
    assert report.tried == ("PLAIN",)
    assert report.offered == ("PLAIN",)


def test_a_report_of_a_server_that_does_not_want_us() -> None:
    report = checked("S: 554 go away\nC: QUIT\n")
    assert not report
    assert isinstance(report.error, ReplyError)
    assert report.phase is Phase.GREETING
    assert report.greeting is not None
    assert report.reply is None
    assert report.offered == ()


def test_a_report_without_credentials() -> None:
    report = checked(f"{EHLO}PLAIN\n{QUIT}", None)
    assert not report
    assert str(report) == "mail.test port 25 was reached, and there was nobody to log in"
    assert report.error is None
    assert report.offered == ("PLAIN",)


def test_a_report_of_nobody_there() -> None:
    flow = CheckCredentials(settings(credentials=ALICE))
    assert isinstance(flow.next_action(), Connect)
    flow.failed(ConnectionRefusedError(111, "Connection refused"))
    done = flow.next_action()
    assert isinstance(done, Done)
    assert done.close
    assert isinstance(done.result.error, ConnectError)
    assert done.result.capabilities is None
    assert not done.result


def test_no_report_where_nothing_happens_by_itself() -> None:
    with pytest.raises(ValueError, match="manual"):
        CheckCredentials(settings(security=Security.MANUAL))


# --- The journal ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "identity"),
    [
        (ALICE, "alice"),
        (TokenCredentials("al\x1bice", "t"), "al\x1bice"),
        (SOURCE, "alice"),
        (AnonymousCredentials("x"), "anonymous"),
        (ExternalCredentials("al\nice"), "al\nice"),
        (KerberosCredentials(), ""),
    ],
)
def test_as_whom(credentials: AnyCredentials, identity: str) -> None:
    assert identity_of(credentials) == identity


def test_what_a_client_tells() -> None:
    notes = Notes()
    carry_out(opening(ALICE, journal=notes), f"{EHLO}PLAIN\n{PLAIN}S: 235 ok\n")
    assert notes.events == [
        "connected to mail.test port 25 from 192.0.2.7",
        "logged in as alice with PLAIN",
    ]
    assert notes.failures == []


def test_what_a_server_quotes_later_is_not_told_either() -> None:
    notes = Notes()
    session = carry_out(opening(ALICE, journal=notes), f"{EHLO}PLAIN\n{PLAIN}S: 235 ok\n")
    reply = carry_out(noop(session), "C: NOOP\nS: 250-so it was\nS: 250 s3cret\n")
    assert str(reply) == "250 ***"
    assert notes.lines[-3:] == ["C: NOOP", "S: 250-so it was", "S: ***"]
    with pytest.raises(ReplyError) as caught:
        carry_out(noop(session), "C: NOOP\nS: 550 5.7.1 no s3cret\n")
    assert str(caught.value.reply) == "550 5.7.1 ***"
    script = "C: MAIL FROM:<a@b.example>\nS: 250 ok\nC: RCPT TO:<c@d.example>\nS: 250 ok\n"
    mail = SendMail(session, Envelope.of("a@b.example", "c@d.example"), b"x\r\n")
    end = "C: DATA\nS: 354 go\nC: x\nC: .\nS: 250 s3cret\n"
    assert str(carry_out(mail, script + end).reply) == "250 ***"
    refused = SendMail(session, Envelope.of("a@b.example", "c@d.example"), b"x\r\n")
    with pytest.raises(SenderRefused) as refusal:
        carry_out(refused, "C: MAIL FROM:<a@b.example>\nS: 550 s3cret\n")
    assert "s3cret" not in str(refusal.value)
    assert "s3cret" not in "".join(notes.events)
    assert notes.events[-2] == "accepted for 1 recipient(s): 250 ***"


@pytest.mark.parametrize(
    "said",
    [
        "S: {password}",
        "S: 999 {password}",
        "S: 550 \0{password}",
        "S: 250-{password}\nS: 350 {password}",
        "S: 250-Ok\nS: 250*{password}",
        "S: AUTH PLAIN {plain}",
        "S: {password}\nS:EOF",
    ],
)
@pytest.mark.parametrize("password", ["s3cret-password", "тайное-слово", "p\\x1b\\x41\\'s3cret"])
def test_a_violation_later_does_not_tell_the_secret_either(said: str, password: str) -> None:
    plain = b64encode(f"\0alice\0{password}".encode()).decode()
    notes = Notes()
    session = carry_out(
        opening(Credentials("alice", password), journal=notes),
        f"{EHLO}PLAIN\nC: AUTH PLAIN {plain}\nS: 235 ok\n",
    )
    mail = SendMail(session, Envelope.of("a@b.example", "c@d.example"), b"x\r\n")
    with pytest.raises(ProtocolViolation) as caught:
        carry_out(
            mail,
            "C: MAIL FROM:<a@b.example>\n" + said.format(plain=plain, password=password) + "\n",
        )
    told = "".join(notes.events + notes.lines[4:])
    chain: BaseException | None = caught.value
    assert caught.value.__context__ is None
    while chain is not None:
        told += str(chain) + repr(chain)
        chain = chain.__context__
    assert "s3cret" not in told
    assert password not in told
    assert escaped(password) not in told
    assert plain[-12:] not in told


def test_however_much_a_server_says_each_reply_is_looked_through() -> None:
    session = carry_out(opening(ALICE), f"{EHLO}PLAIN\n{PLAIN}S: 235 ok\n")
    for said in [*range(250), *range(250)]:
        for text in (f"{said}", f"{said} s3cret"):
            reply = carry_out(noop(session), f"C: NOOP\nS: 250 {text}\n")
            assert reply.text == ("***" if "s3cret" in text else text)


def test_what_was_no_secret_may_become_one() -> None:
    secrets, reply = LoginSecrets(ALICE), Reply.build(250, "bm8tc2VjcmV0")
    assert secrets.reply_without(reply) is reply
    secrets.add_octets(b"no-secret")
    assert secrets.reply_without(reply).text == "***"


def test_a_violation_that_tells_no_secret_is_told() -> None:
    session = carry_out(opening(ALICE), f"{EHLO}PLAIN\n{PLAIN}S: 235 ok\n")
    with pytest.raises(ProtocolViolation, match="wonderful") as caught:
        carry_out(noop(session), "C: NOOP\nS: wonderful\n")
    assert caught.value.__cause__ is not None


def test_the_quiet_journal_takes_all() -> None:
    QUIET.happened("x")
    QUIET.line(Speaker.CLIENT, "x")
    QUIET.login_failed("PLAIN", "alice", "no")
    assert not QUIET.wants_events
    assert not QUIET.wants_lines
