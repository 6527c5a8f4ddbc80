"""Serve: how a handler is asked, and what happens where it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smtp_proto.flow.actions import Ask
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.timeouts import Phase, Timeouts
from smtp_proto.sasl.mechanism import Credentials, TokenCredentials
from smtp_proto.wire.command import Rcpt
from smtp_proto.wire.reply import Reply
from tests.flow.serving import Client, settings

EHLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<ann@example.com>\r\n"
RCPT = b"RCPT TO:<bob@example.org>\r\n"
LOCAL_ERROR = b"451 4.3.0 Local error in processing\r\n"

# Each method, and a session that comes to it.
SESSIONS = {
    "on_connect": b"",
    "on_helo": EHLO,
    "on_auth": EHLO + b"AUTH PLAIN AGEAYg==\r\n",
    "find_password": EHLO
    + b"AUTH CRAM-MD5\r\nYSAwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==\r\n",
    "on_token": EHLO + b"AUTH XOAUTH2 dXNlcj1hbm4BYXV0aD1CZWFyZXIgdG9rAQE=\r\n",
    "on_anonymous": EHLO + b"AUTH ANONYMOUS YW5u\r\n",
    "find_secret": EHLO + b"AUTH SCRAM-SHA-256 biwsbj1hbm4scj1hYmNkZWZnaGlqa2xtbm9w\r\n",
    "find_identity": EHLO + b"AUTH EXTERNAL =\r\n",
    "on_mail": EHLO + MAIL,
    "on_rcpt": EHLO + MAIL + RCPT,
    "on_content": EHLO + MAIL + RCPT + b"BDAT 1 LAST\r\nx",
    "on_message": EHLO + MAIL + RCPT + b"BDAT 1 LAST\r\nx",
    "on_verify": EHLO + b"VRFY bob\r\n",
    "on_expand": EHLO + b"EXPN staff\r\n",
    "on_other": EHLO + b"TURN\r\n",
    "on_reset": EHLO + MAIL + b"RSET\r\n",
    "on_disconnect": EHLO + b"QUIT\r\n",
}
PHASES = {
    "on_connect": Phase.GREETING,
    "on_helo": Phase.EHLO,
    "on_auth": Phase.AUTH,
    "find_password": Phase.AUTH,
    "on_token": Phase.AUTH,
    "on_anonymous": Phase.AUTH,
    "find_secret": Phase.AUTH,
    "find_identity": Phase.AUTH,
    "on_mail": Phase.MAIL,
    "on_rcpt": Phase.RCPT,
    "on_content": Phase.BLOCK,
    "on_message": Phase.FINAL,
    "on_disconnect": Phase.QUIT,
}


def play(client: Client, name: str) -> bytes:
    """Say what makes the server ask, and wait for the challenge where there is one."""
    first, *rest = SESSIONS[name].partition(b"AUTH CRAM-MD5\r\n")
    return b"".join(client.say(part) for part in (first + rest[0], rest[1]) if part)


def client_of(handler: Handler) -> Client:
    return Client(
        handler,
        settings(
            mechanisms=(
                "PLAIN",
                "CRAM-MD5",
                "XOAUTH2",
                "ANONYMOUS",
                "SCRAM-SHA-256",
                "EXTERNAL",
            ),
            allow_cleartext_auth=True,
            timeouts=Timeouts.of(5.0),
        ),
    )


def with_method(name: str, method: Callable[..., object]) -> Handler:
    """A handler of a class that overrides this method only."""
    handler: Handler = type("Overriding", (Handler,), {name: method})()
    return handler


@pytest.mark.parametrize("name", SESSIONS)
def test_each_method_is_asked_once_with_the_session_and_a_timer(name: str) -> None:
    calls: list[tuple[object, ...]] = []

    def method(self: Handler, *arguments: object) -> object:
        calls.append((self, *arguments))
        return name == "on_auth" or None

    handler = with_method(name, method)
    client = client_of(handler)
    play(client, name)
    ((me, session, *_),) = calls
    assert me is handler
    assert isinstance(session, ServerSession)
    (ask,) = client.asks
    assert isinstance(ask, Ask)
    assert ask.name == name
    assert ask.timer.phase is PHASES.get(name, Phase.COMMAND)
    assert ask.timer.seconds == 5.0


@pytest.mark.parametrize("name", SESSIONS)
def test_what_a_method_raises_is_told_and_refuses_its_command_only(name: str) -> None:
    errors: list[Exception] = []
    failure = RuntimeError("a bug")

    def method(*_: object) -> None:
        raise failure

    class Failing(Handler):
        def on_error(self, session: ServerSession, error: Exception) -> None:
            errors.append(error)

    handler = type("Overriding", (Failing,), {name: method})()
    client = client_of(handler)
    said = client.said + play(client, name)
    assert errors == [failure]
    last = said.splitlines(keepends=True)[-1]
    match name:
        case "on_connect":
            assert last == b"421 4.3.0 Local error, closing the connection\r\n"
        case _ if PHASES.get(name) is Phase.AUTH:
            assert last == b"454 4.7.0 Temporary authentication failure\r\n"
        case "on_reset" | "on_disconnect":
            assert last.startswith(b"2")
        case _:
            assert last == LOCAL_ERROR
    if name not in ("on_connect", "on_disconnect"):
        assert client.say(b"NOOP\r\n") == b"250 2.0.0 Ok\r\n"


def test_an_error_handler_that_fails_is_left_alone() -> None:
    class Hopeless(Handler):
        def on_mail(self, session: ServerSession, mail: object) -> None:
            raise RuntimeError("one")

        def on_error(self, session: ServerSession, error: Exception) -> None:
            raise RuntimeError("two")

    client = client_of(Hopeless())
    assert client.say(EHLO + MAIL).endswith(b"\r\n" + LOCAL_ERROR)
    assert client.asked == ["on_mail", "on_error"]


def test_a_method_that_takes_too_long_refuses_its_command() -> None:
    class Slow(Handler):
        def on_mail(self, session: ServerSession, mail: object) -> None:
            raise TimeoutError  # as the adapter tells it

    client = client_of(Slow())
    assert client.say(EHLO + MAIL).endswith(b"\r\n" + LOCAL_ERROR)
    assert client.say(b"NOOP\r\n").startswith(b"250 ")


def test_an_error_at_one_recipient_leaves_the_others() -> None:
    class Shaky(Handler):
        def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> None:
            if str(rcpt.forward_path).startswith("bob"):
                raise RuntimeError("a bug")

    said = client_of(Shaky()).say(
        EHLO + MAIL + RCPT + b"RCPT TO:<cat@example.org>\r\nBDAT 1 LAST\r\nx"
    )
    assert [line[:3] for line in said.splitlines()[-4:]] == [b"250", b"451", b"250", b"250"]


@pytest.mark.parametrize(
    "answer", [True, "250 ok", 250, Reply(354, ("more",)), [Reply(250, ("x",))]]
)
@pytest.mark.parametrize("name", ["on_helo", "on_mail", "on_rcpt", "on_verify", "on_other"])
def test_an_answer_that_is_none_is_an_error(name: str, answer: object) -> None:
    errors: list[Exception] = []

    class Noting(Handler):
        def on_error(self, session: ServerSession, error: Exception) -> None:
            errors.append(error)

    handler = type("Overriding", (Noting,), {name: lambda *_: answer})()
    assert play(client_of(handler), name).endswith(LOCAL_ERROR)
    (error,) = errors
    assert isinstance(error, TypeError)
    shown = "354 more" if isinstance(answer, Reply) else type(answer).__name__
    expected = "a reply, 2xx, 4xx or 5xx, or None"
    assert str(error) == f"{name}(): the answer is to be {expected}, not {shown}"


def test_the_base_class_decides_nothing() -> None:
    handler = Handler()
    session = ServerSession("192.0.2.1")
    assert handler.on_auth(session, Credentials("ann", "secret")) is False
    assert handler.find_password(session, "ann") is None
    assert handler.on_token(session, TokenCredentials("ann", "tok")) is False
    assert handler.on_anonymous(session, "ann") is False
    assert handler.find_secret(session, "ann", "SCRAM-SHA-256") is None
    assert handler.find_identity(session, "ann") is None
    assert handler.on_connect(session) is None
