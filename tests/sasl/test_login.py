"""LOGIN, by position of the prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.login import LoginClient, LoginServer
from smtp_proto.sasl.mechanism import (
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    Challenge,
    CheckPassword,
    ClientMechanism,
    Credentials,
    Rejected,
    ServerContext,
)

CONTEXT = ServerContext("mx.example.org", lambda: bytes(16))
PROMPTS = st.binary(max_size=20) | st.sampled_from(
    [b"Username:", b"User Name\0", b"Password:", b"Password\0", b"User?", b"VXNlcm5hbWU6"]
)


@given(PROMPTS, PROMPTS, PROMPTS)
def test_the_prompts_are_answered_by_position(first: bytes, second: bytes, third: bytes) -> None:
    client: ClientMechanism = LoginClient(Credentials("tim", "secret"))
    assert client.start() is None
    assert client.respond(first) == b"tim"
    assert client.respond(second) == b"secret"
    with pytest.raises(SASLError, match="more than LOGIN"):
        client.respond(third)
    client.finish()


def test_success_before_the_password_was_asked_for_is_no_success() -> None:
    client = LoginClient(Credentials("tim", "secret"))
    with pytest.raises(SASLError, match="before it asked"):
        client.finish()
    client.respond(b"Username:")
    with pytest.raises(SASLError, match="before it asked"):
        client.finish()


@pytest.mark.parametrize("other", ["ursel", "ti", "Tim"])
def test_acting_as_another_cannot_be_said(other: str) -> None:
    with pytest.raises(SASLError, match="authorization identity"):
        LoginClient(Credentials("tim", "secret", other))


def test_acting_as_oneself_need_not_be_said() -> None:
    assert LoginClient(Credentials("tim", "secret", "tim")).respond(b"") == b"tim"


def test_the_server_asks_for_both() -> None:
    server = LoginServer(CONTEXT)
    assert server.start(None) == Challenge(b"Username:")
    assert server.respond(b"tim") == Challenge(b"Password:")
    assert server.respond(b"secret") == CheckPassword(Credentials("tim", "secret"))
    assert server.answer(True) == Accepted("tim", "tim")


def test_the_user_name_may_come_with_auth() -> None:
    server = LoginServer(CONTEXT)
    assert server.start(b"tim") == Challenge(b"Password:")
    assert server.respond(b"secret") == CheckPassword(Credentials("tim", "secret"))


@pytest.mark.parametrize("value", [False, None, "", "secret"])
def test_only_true_is_a_yes(value: Answer) -> None:
    server = LoginServer(CONTEXT)
    server.start(b"tim")
    server.respond(b"secret")
    assert server.answer(value) == WRONG_CREDENTIALS


@pytest.mark.parametrize("user_name", [b"", b"t\0im", b"t\rim", b"\xff"])
def test_a_malformed_user_name_is_rejected(user_name: bytes) -> None:
    for step in (LoginServer(CONTEXT).start(user_name), LoginServer(CONTEXT).respond(user_name)):
        assert isinstance(step, Rejected)
        assert step.malformed


@pytest.mark.parametrize("password", [b"", b"secret\0", b"\xff"])
def test_a_malformed_password_is_rejected_and_never_checked(password: bytes) -> None:
    server = LoginServer(CONTEXT)
    server.start(b"tim")
    step = server.respond(password)
    assert isinstance(step, Rejected)
    assert step.malformed
    assert isinstance(server.answer(True), Rejected)
