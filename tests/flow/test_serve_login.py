"""Serve: AUTH with each mechanism, and what must come before what."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import partial
from typing import cast

import pytest

from smtp_proto.engine.trace import Speaker
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.security import Security
from smtp_proto.flow.serve import ServeSettings
from smtp_proto.flow.serve_questions import check_logins
from smtp_proto.flow.timeouts import Phase
from smtp_proto.flow.tls import ServerTLSFactory
from smtp_proto.sasl.mechanism import Credentials, TokenCredentials
from smtp_proto.wire.limits import Limits
from smtp_proto.wire.reply import Reply
from tests.flow.serving import Client, settings

EHLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<ann@example.com>\r\n"
PASSWORD = "an open secret"

OK = b"235 2.7.0 Authentication succeeded\r\n"
WRONG = b"535 5.7.8 Authentication credentials invalid\r\n"
MALFORMED = b"501 5.7.0 That is no response of this mechanism\r\n"
CANCELLED = b"501 5.7.0 Authentication cancelled\r\n"
TEMPORARY = b"454 4.7.0 Temporary authentication failure\r\n"
TOO_MANY = b"421 4.7.0 Too many failed logins\r\n"


EVERY = ("PLAIN", "LOGIN", "CRAM-MD5")
passwords = partial(settings, mechanisms=EVERY, allow_cleartext_auth=True)


class Users(Handler):
    """Knows ann and her password."""

    def __init__(self) -> None:
        self.identities: list[str | None] = []

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool | Reply:
        return credentials == Credentials("ann", PASSWORD)

    def find_password(self, session: ServerSession, authentication_identity: str) -> str | None:
        return {"ann": PASSWORD}.get(authentication_identity)

    def on_mail(self, session: ServerSession, mail: object) -> None:
        self.identities.append(session.authenticated_as)


def encoded(data: bytes) -> bytes:
    return b64encode(data) + b"\r\n"


def plain(password: str = PASSWORD, identity: str = "ann", authorization: str = "") -> bytes:
    return encoded(f"{authorization}\0{identity}\0{password}".encode())


def challenge(said: bytes) -> bytes:
    assert said.startswith(b"334 ")
    assert said.endswith(b"\r\n")
    return b64decode(said[4:-2], validate=True)


def ready(handler: Handler | None = None, served: ServeSettings | None = None) -> Client:
    """A client that has said EHLO."""
    client = Client(handler or Users(), served or passwords())
    client.sends.clear()
    client.say(EHLO)
    client.asks.clear()
    client.timers.clear()
    return client


def log_in(client: Client, mechanism: str, password: str) -> bytes:
    """Go through a whole exchange; return the last reply."""
    match mechanism:
        case "PLAIN":
            return client.say(b"AUTH PLAIN " + plain(password))
        case "LOGIN":
            assert challenge(client.say(b"AUTH LOGIN\r\n")) == b"Username:"
            assert challenge(client.say(encoded(b"ann"))) == b"Password:"
            return client.say(encoded(password.encode()))
        case "CRAM-MD5":
            nonce = challenge(client.say(b"AUTH CRAM-MD5\r\n"))
            digest = hmac.new(password.encode(), nonce, "md5").hexdigest()
            return client.say(encoded(f"ann {digest}".encode()))
        case _:
            raise AssertionError(mechanism)


# --- Exchanges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_the_right_password(mechanism: str) -> None:
    handler = Users()
    client = ready(handler)
    assert log_in(client, mechanism, PASSWORD) == OK
    client.say(MAIL)
    assert handler.identities == ["ann"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_the_wrong_password(mechanism: str) -> None:
    handler = Users()
    client = ready(handler)
    assert log_in(client, mechanism, "a guess") == WRONG
    client.say(MAIL + b"RSET\r\n")
    assert handler.identities == [None]
    assert log_in(client, mechanism, PASSWORD) == OK


def test_each_step_has_a_timer_of_its_own() -> None:
    client = ready()
    log_in(client, "LOGIN", PASSWORD)
    assert [timer.phase for timer in client.timers] == 3 * [Phase.AUTH] + [Phase.IDLE]


def test_plain_in_two_steps() -> None:
    client = ready()
    assert client.say(b"AUTH PLAIN\r\n") == b"334 \r\n"
    assert client.say(plain()) == OK


def test_who_wants_to_act_for_another_is_refused_unasked() -> None:
    client = ready()
    assert client.say(b"AUTH PLAIN " + plain(authorization="root")) == WRONG
    assert client.asked == []
    assert client.say(b"AUTH PLAIN " + plain(authorization="ann")) == WRONG  # as the handler says
    assert client.asked == ["on_auth"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_nobody_can_log_in_unless_the_handler_says_so(mechanism: str) -> None:
    assert log_in(ready(Handler()), mechanism, PASSWORD) == WRONG


def test_cancelling() -> None:
    client = ready()
    client.say(b"AUTH LOGIN\r\n")
    assert client.say(b"*\r\n") == CANCELLED
    assert log_in(client, "PLAIN", PASSWORD) == OK


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"AUTH PLAIN =\r\n", MALFORMED),
        (b"AUTH PLAIN " + encoded(b"ann\0secret"), MALFORMED),
        (b"AUTH CRAM-MD5 " + encoded(b"ann"), MALFORMED),
        (b"AUTH SCRAM-SHA-256\r\n", b"504 5.5.4 Authentication mechanism not supported\r\n"),
    ],
)
def test_what_is_no_exchange(command: bytes, reply: bytes) -> None:
    client = ready()
    assert client.say(command) == reply
    assert client.asked == []


def test_a_response_that_is_no_base64() -> None:
    client = ready()
    client.say(b"AUTH LOGIN\r\n")
    assert client.say(b"ann!\r\n").startswith(b"501 5.5.2 ")
    assert client.say(b"YW5u\r\n").startswith(b"500 ")  # not a response any more


def test_one_login_is_enough() -> None:
    client = ready()
    log_in(client, "PLAIN", PASSWORD)
    assert client.say(b"AUTH LOGIN\r\n").startswith(b"503 ")


def test_the_end_of_the_stream_in_an_exchange() -> None:
    client = ready()
    client.say(b"AUTH LOGIN\r\n")
    client.end()
    assert client.closed


# --- Failures ------------------------------------------------------------------------------------


def test_the_fourth_guess_is_not_heard() -> None:
    client = ready()
    for guess in ("1", "2", "3"):
        assert log_in(client, "PLAIN", guess) == WRONG
    client.asks.clear()
    assert log_in(client, "PLAIN", PASSWORD) == TOO_MANY
    assert client.asked == []
    client.end()
    assert client.closed


def test_malformed_responses_are_failures_and_cancelling_is_none() -> None:
    client = ready()
    for _ in range(5):
        client.say(b"AUTH LOGIN\r\n")
        client.say(b"*\r\n")
    for _ in range(3):
        assert client.say(b"AUTH PLAIN =\r\n") == MALFORMED
    assert client.say(b"AUTH PLAIN =\r\n") == TOO_MANY


class Tokens(Handler):
    """Knows the right token."""

    def on_token(self, session: ServerSession, credentials: TokenCredentials) -> bool:
        return credentials.token == "right"


def show_token(client: Client, mechanism: str, token: str) -> bytes:
    header = {"OAUTHBEARER": "n,a=ann,", "XOAUTH2": "user=ann"}[mechanism]
    message = f"{header}\1auth=Bearer {token}\1\1"
    return client.say(f"AUTH {mechanism} ".encode() + encoded(message.encode()))


@pytest.mark.parametrize("answer", [b"\r\n", b"*\r\n", b"!\r\n", b"A" * 20_000 + b"\r\n"])
@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_wrong_token_is_a_guess_whatever_is_said_to_the_explanation(
    mechanism: str, answer: bytes
) -> None:
    told = Told()
    client = Client(Tokens(), passwords(mechanisms=(mechanism,)), journal=told)
    client.say(EHLO)
    for number in (1, 2, 3):
        assert challenge(show_token(client, mechanism, "wrong"))
        # Now, for a client may go away.
        assert told.failures == [(mechanism, "ann", "the credentials are wrong")] * number
        assert client.say(answer).startswith(b"5")
    assert len(told.failures) == 3
    client.asks.clear()
    assert show_token(client, mechanism, "right") == TOO_MANY
    assert client.asked == []


def test_the_next_exchange_may_succeed_or_be_cancelled() -> None:
    told = Told()
    client = Client(Tokens(), passwords(mechanisms=("XOAUTH2",)), journal=told)
    client.say(EHLO)
    show_token(client, "XOAUTH2", "wrong")
    assert client.say(b"*\r\n") == CANCELLED
    client.say(b"AUTH XOAUTH2\r\n")
    assert client.say(b"*\r\n") == CANCELLED
    assert [why for _, _, why in told.failures] == [
        "the credentials are wrong",
        "the client has cancelled it",
    ]
    assert show_token(client, "XOAUTH2", "right") == OK


def test_who_cancels_again_and_again_is_hung_up_on() -> None:
    client = ready()
    for _ in range(11):
        assert client.say(b"AUTH LOGIN\r\n").startswith(b"334 ")
        assert client.say(b"*\r\n").startswith(b"501 ")
    assert client.say(b"AUTH LOGIN\r\n").startswith(b"421 4.7.0 ")


def test_the_failures_of_the_server_do_not_count_against_the_client() -> None:
    class Broken(Users):
        def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
            raise OSError("no database")

        def find_password(self, session: ServerSession, authentication_identity: str) -> str:
            raise OSError("no database")

    client = ready(Broken())
    for _ in range(4):
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            assert log_in(client, mechanism, PASSWORD) == TEMPORARY


def test_the_handler_refuses_for_a_reason_of_its_own() -> None:
    class Strict(Handler):
        def on_auth(self, session: ServerSession, credentials: Credentials) -> Reply:
            return Reply(534, ("5.7.9 too weak",))

    client = ready(Strict())
    for _ in range(3):
        assert log_in(client, "PLAIN", PASSWORD) == b"534 5.7.9 too weak\r\n"
    assert log_in(client, "PLAIN", PASSWORD) == TOO_MANY


@pytest.mark.parametrize("nonsense", [None, 1, Reply(235, ("ok",)), PASSWORD])
def test_nonsense_is_no_consent(nonsense: object) -> None:
    errors: list[Exception] = []

    class Careless(Handler):
        def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
            return cast("bool", nonsense)

        def find_password(self, session: ServerSession, authentication_identity: str) -> str:
            return cast("str", PASSWORD.encode())

        def on_error(self, session: ServerSession, error: Exception) -> None:
            errors.append(error)

    client = ready(Careless())
    assert log_in(client, "PLAIN", PASSWORD) == TEMPORARY
    assert log_in(client, "CRAM-MD5", PASSWORD) == TEMPORARY
    assert [type(error) for error in errors] == [TypeError, TypeError]
    assert PASSWORD not in f"{errors}"


def test_no_password_in_what_is_asked() -> None:
    client = ready()
    log_in(client, "PLAIN", PASSWORD)
    assert len(client.asks) == 1
    assert PASSWORD not in repr(client.asks)


# --- What comes first ----------------------------------------------------------------------------


def auth_offered(said: bytes) -> bytes | None:
    lines = [line[4:] for line in said.splitlines() if line[4:].startswith(b"AUTH")]
    return lines[0] if lines else None


def test_what_is_offered_depends_on_the_connection() -> None:
    clear = Client(None, settings(mechanisms=EVERY)).say(EHLO)
    assert auth_offered(clear) == b"AUTH CRAM-MD5"
    brave = Client(None, settings(mechanisms=EVERY, allow_cleartext_auth=True)).say(EHLO)
    assert auth_offered(brave) == b"AUTH PLAIN LOGIN CRAM-MD5"
    assert auth_offered(Client(None, settings(mechanisms=("PLAIN",))).say(EHLO)) is None
    assert auth_offered(Client(None, settings()).say(EHLO)) is None


@pytest.mark.parametrize("mechanism", [b"PLAIN", b"LOGIN"])
def test_no_password_is_asked_for_on_a_clear_connection(mechanism: bytes) -> None:
    client = ready(None, settings(mechanisms=("PLAIN", "LOGIN")))
    refusal = b"538 5.7.11 Encryption required for this mechanism\r\n"
    assert client.say(b"AUTH " + mechanism + b"\r\n") == refusal
    assert client.say(b"AUTH " + mechanism + b" " + plain()) == refusal
    assert client.asked == []


def test_without_mechanisms_there_is_no_auth() -> None:
    assert ready(None, settings()).say(b"AUTH PLAIN\r\n").startswith(b"502 ")


def test_mail_is_taken_only_after_auth_if_the_settings_say_so() -> None:
    client = ready(None, passwords(require_auth=True))
    refusal = b"530 5.7.0 Authentication required\r\n"
    for command in (MAIL, b"VRFY ann\r\n", b"EXPN ann\r\n", b"HELP\r\n", b"TURN\r\n"):
        assert client.say(command) == refusal
    for command in (EHLO, b"HELO client.example\r\n", b"NOOP\r\n", b"RSET\r\n"):
        assert client.say(command).startswith(b"250")
    client.say(EHLO)
    assert log_in(client, "PLAIN", PASSWORD) == OK
    assert client.say(MAIL) == b"250 2.1.0 Sender ok\r\n"


def test_a_pipelined_group_before_auth_is_refused_and_not_counted() -> None:
    client = ready(None, passwords(require_auth=True, limits=Limits(errors=1)))
    said = client.say(MAIL + 20 * b"RCPT TO:<bob@example.org>\r\n" + b"DATA\r\n")
    assert [line[:3] for line in said.splitlines()] == [b"530"] + 21 * [b"503"]


# --- Settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (
            partial(settings, mechanisms=("PLAIN", "NTLM")),
            "no such mechanisms: NTLM; there are ",
        ),
        (partial(settings, require_auth=True), "require_auth needs mechanisms"),
        (partial(settings, security=Security.IMPLICIT), "security 'implicit' needs tls"),
        (partial(settings, security=Security.STARTTLS), "security 'starttls' needs tls"),
        (partial(settings, security=Security.OPPORTUNISTIC), "security 'opportunistic' needs tls"),
    ],
)
def test_settings_that_do_not_go_together(make: Callable[[], ServeSettings], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


def test_a_server_needs_a_name() -> None:
    with pytest.raises(ValueError, match="omain"):
        ServeSettings(hostname="two words", nonce=lambda: b"")


# --- What is offered, and told -------------------------------------------------------------------


def test_no_login_is_offered_before_the_tls_that_is_required() -> None:
    served = settings(
        security=Security.STARTTLS, tls=cast("ServerTLSFactory", object), mechanisms=EVERY
    )
    assert b"AUTH" not in Client(Users(), served).say(EHLO)


def test_require_auth_needs_a_mechanism_that_can_be_used() -> None:
    with pytest.raises(ValueError, match="nobody could log in"):
        settings(mechanisms=("PLAIN", "SCRAM-SHA-1-PLUS"), require_auth=True)
    settings(mechanisms=("PLAIN", "CRAM-MD5"), require_auth=True)
    settings(mechanisms=("PLAIN",), require_auth=True, allow_cleartext_auth=True)


@pytest.mark.parametrize("mode", [Security.AUTO, Security.MANUAL])
def test_modes_of_clients_are_none_of_a_server(mode: Security) -> None:
    with pytest.raises(ValueError, match="is for clients"):
        settings(security=mode)


@pytest.mark.parametrize(
    ("mechanism", "method"),
    [
        ("PLAIN", "on_auth"),
        ("XOAUTH2", "on_token"),
        ("ANONYMOUS", "on_anonymous"),
        ("CRAM-MD5", "find_password"),
        ("SCRAM-SHA-256", "find_secret"),
        ("EXTERNAL", "find_identity"),
    ],
)
def test_somebody_has_to_answer_for_a_mechanism(mechanism: str, method: str) -> None:
    with pytest.raises(ValueError, match=f"{mechanism} needs {method}"):
        check_logins(Handler(), [mechanism])
    check_logins(Users(), EVERY)


class Told:
    """A journal that is kept in memory."""

    wants_events = True
    wants_lines = False

    def __init__(self) -> None:
        self.failures: list[tuple[str, str, str]] = []

    def line(self, speaker: Speaker, text: str) -> None:
        raise AssertionError(text)

    def happened(self, what: str) -> None:
        pass

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        self.failures.append((mechanism, identity, why))


def told_by(*lines: bytes) -> list[tuple[str, str, str]]:
    told = Told()
    client = Client(Users(), passwords(), journal=told)
    for line in (EHLO, *lines):
        client.say(line)
    return told.failures


def test_who_fails_to_log_in_is_told_as_it_was_given() -> None:
    name = '\u202e"' + "x" * 200
    assert told_by(b"AUTH PLAIN " + plain("wrong", name)) == [
        ("PLAIN", name, "the credentials are wrong")
    ]


def test_who_only_looks_at_a_challenge_is_told_too() -> None:
    assert told_by(b"AUTH CRAM-MD5\r\n", b"*\r\n") == [
        ("CRAM-MD5", "", "the client has cancelled it")
    ]


def test_the_words_of_a_handler_are_not_told() -> None:
    class Chatty(Users):
        def on_auth(self, session: ServerSession, credentials: Credentials) -> Reply:
            return Reply.build(535, f"{credentials.password} is wrong")

    told = Told()
    client = Client(Chatty(), passwords(), journal=told)
    client.say(EHLO)
    client.say(b"AUTH PLAIN " + plain("canary"))
    assert told.failures == [("PLAIN", "ann", "the answer was 535")]
