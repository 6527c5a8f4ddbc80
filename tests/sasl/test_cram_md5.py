"""CRAM-MD5, RFC 2195."""

import base64
import hashlib
import hmac
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.cram_md5 import CramMD5Client, CramMD5Server
from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    Challenge,
    ClientMechanism,
    Credentials,
    FetchPassword,
    Rejected,
    ServerContext,
)

CONTEXT = ServerContext("mx.example.org", lambda: bytes(range(16)))
CHALLENGE = b"<000102030405060708090a0b0c0d0e0f@mx.example.org>"


def response_of(name: str, password: str) -> bytes:
    return CramMD5Client(Credentials(name, password)).respond(CHALLENGE)


# RFC 2195 2 and RFC 4954 4.1, as they stand there in base64.
def test_the_example_of_the_rfc() -> None:
    client: ClientMechanism = CramMD5Client(Credentials("tim", "tanstaaftanstaaf"))
    assert client.start() is None
    challenge = base64.b64decode("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
    assert client.respond(challenge) == base64.b64decode(
        "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
    )
    client.finish()


def test_names_and_passwords_are_utf_8() -> None:
    assert response_of("jörg", "grün").startswith("jörg ".encode())
    server = CramMD5Server(CONTEXT)
    server.start(None)
    assert server.respond(response_of("jörg", "grün")) == FetchPassword("jörg")
    assert server.answer("grün") == Accepted("jörg", "jörg")


@given(st.integers(0, 200))
def test_passwords_longer_than_a_block_of_the_digest(length: int) -> None:
    password = "p" * (length + 1)
    server = CramMD5Server(CONTEXT)
    server.respond(response_of("tim", password))
    assert server.answer(password) == Accepted("tim", "tim")
    assert server.answer(password + "p") == WRONG_CREDENTIALS


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=40))
def test_one_challenge_is_answered_and_no_second(first: bytes, second: bytes) -> None:
    client = CramMD5Client(Credentials("tim", "secret"))
    assert re.fullmatch(rb"tim [0-9a-f]{32}", client.respond(first))
    with pytest.raises(SASLError, match="second challenge"):
        client.respond(second)


def test_an_empty_challenge_is_none() -> None:
    client = CramMD5Client(Credentials("tim", "secret"))
    with pytest.raises(SASLError, match="empty challenge"):
        client.respond(b"")


def test_success_before_the_challenge_is_no_success() -> None:
    with pytest.raises(SASLError, match="before it sent a challenge"):
        CramMD5Client(Credentials("tim", "secret")).finish()


@pytest.mark.parametrize("other", ["ursel", "ti", "Tim"])
def test_acting_as_another_cannot_be_said(other: str) -> None:
    with pytest.raises(SASLError, match="authorization identity"):
        CramMD5Client(Credentials("tim", "secret", other))


def test_the_challenge_is_a_msg_id_and_never_the_same() -> None:
    counter = itertools.count()
    context = ServerContext("mx.example.org", lambda: next(counter).to_bytes(16))
    challenges: set[bytes] = set()
    for _ in range(20):
        step = CramMD5Server(context).start(None)
        assert isinstance(step, Challenge)
        assert re.fullmatch(rb"<[0-9a-f]{32}@mx\.example\.org>", step.data)
        challenges.add(step.data)
    assert len(challenges) == 20


def test_the_nonce_is_in_the_challenge() -> None:
    assert CramMD5Server(CONTEXT).start(None) == Challenge(CHALLENGE)


@pytest.mark.parametrize("initial_response", [b"", b"tim", response_of("tim", "secret")])
def test_the_client_must_not_begin(initial_response: bytes) -> None:
    step = CramMD5Server(CONTEXT).start(initial_response)
    assert step == Rejected("an initial response, where the server begins", malformed=True)


@pytest.mark.parametrize("value", [None, "", False, True, "Secret", "\ud800"])
def test_nothing_but_the_password_is_right(value: Answer) -> None:
    server = CramMD5Server(CONTEXT)
    server.respond(response_of("tim", "secret"))
    assert server.answer(value) == WRONG_CREDENTIALS


def test_an_empty_password_is_nobodys() -> None:
    # The response of who knows that an identity has no password.
    digest = hmac.new(b"", CHALLENGE, hashlib.md5).hexdigest().encode()
    for value in (None, ""):
        server = CramMD5Server(CONTEXT)
        assert server.respond(b"tim " + digest) == FetchPassword("tim")
        assert server.answer(value) == WRONG_CREDENTIALS


def test_a_name_with_blanks_stays_whole() -> None:
    digest = b"b913a602c7eda7a495b4e6e7334d3890"
    name = b"tim " + digest
    assert CramMD5Server(CONTEXT).respond(name + b" " + digest) == FetchPassword(name.decode())


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"tim",
        b"tim ",
        b" b913a602c7eda7a495b4e6e7334d3890",
        b"b913a602c7eda7a495b4e6e7334d3890",
        b"tim b913a602c7eda7a495b4e6e7334d389",
        b"tim b913a602c7eda7a495b4e6e7334d38900",
        b"tim B913A602C7EDA7A495B4E6E7334D3890",
        b"tim b913a602c7eda7a495b4e6e7334d3890\n",
        b"tim b913a602c7eda7a495b4e6e7334d3890 ",
        b"t\nim b913a602c7eda7a495b4e6e7334d3890",
        b"\xff b913a602c7eda7a495b4e6e7334d3890",
    ],
)
def test_a_malformed_response_is_rejected(response: bytes) -> None:
    server = CramMD5Server(CONTEXT)
    step = server.respond(response)
    assert isinstance(step, Rejected)
    assert step.malformed
    assert server.answer("secret") == WRONG_CREDENTIALS
