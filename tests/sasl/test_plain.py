"""PLAIN, RFC 4616."""

import pytest

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    Challenge,
    CheckPassword,
    Credentials,
    Rejected,
    ServerContext,
)
from smtp_proto.sasl.plain import PlainClient, PlainServer

CONTEXT = ServerContext("mx.example.org", lambda: bytes(16))
PROXY_CONTEXT = ServerContext("mx.example.org", lambda: bytes(16), proxy_authorization=True)


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        (Credentials("tim", "tanstaaftanstaaf"), b"\0tim\0tanstaaftanstaaf"),  # RFC 4616 4
        (Credentials("Kurt", "xipj3plmq", "Ursel"), b"Ursel\0Kurt\0xipj3plmq"),  # RFC 4616 4
        (Credentials("test", "1234", "test"), b"test\0test\x001234"),  # RFC 4954 4.1
        (Credentials("jörg", "grün €"), "\0jörg\0grün €".encode()),
    ],
)
def test_the_message(credentials: Credentials, message: bytes) -> None:
    assert PlainClient(credentials).start() == message
    server = PlainServer(PROXY_CONTEXT)
    assert server.start(message) == CheckPassword(credentials)


def test_a_server_that_wants_more_is_refused() -> None:
    client = PlainClient(Credentials("tim", "tanstaaftanstaaf"))
    client.start()
    with pytest.raises(SASLError, match="more than PLAIN"):
        client.respond(b"")


def test_without_an_initial_response_the_server_asks_with_an_empty_challenge() -> None:
    server = PlainServer(CONTEXT)
    assert server.start(None) == Challenge(b"")
    assert server.respond(b"\0tim\0secret") == CheckPassword(Credentials("tim", "secret"))
    assert server.answer(True) == Accepted("tim", "tim")


@pytest.mark.parametrize("value", [False, None, "", "secret"])
def test_only_true_is_a_yes(value: Answer) -> None:
    server = PlainServer(CONTEXT)
    server.start(b"\0tim\0secret")
    assert server.answer(value) == WRONG_CREDENTIALS


def test_acting_as_another_is_rejected_unless_the_application_decides_on_it() -> None:
    message = b"ursel\0kurt\0secret"
    rejected = PlainServer(CONTEXT).start(message)
    assert rejected == Rejected("acting as another identity is not allowed")
    server = PlainServer(PROXY_CONTEXT)
    assert server.start(message) == CheckPassword(Credentials("kurt", "secret", "ursel"))
    assert server.answer(True) == Accepted("kurt", "ursel")


def test_acting_as_oneself_is_no_wish() -> None:
    server = PlainServer(CONTEXT)
    assert server.start(b"tim\0tim\0secret") == CheckPassword(Credentials("tim", "secret", "tim"))
    assert server.answer(True) == Accepted("tim", "tim")


MALFORMED = {
    b"",
    b"tim",
    b"tim\0secret",
    b"\0tim\0secret\0",
    b"\0tim\0sec\0ret",
    b"\0\0tim\0secret",
    b"\0\0secret",
    b"ursel\0\0secret",
    b"\0tim\0",
    b"\0\0",
    b"\0t\nim\0secret",
    b"u\x1brsel\0tim\0secret",
    b"\0tim\0\xff",
    b"\0\xed\xa0\x80\0secret",
    b"\xc0\x80\0tim\0secret",
}


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("message", sorted(MALFORMED), ids=repr)
def test_a_malformed_message_is_rejected_and_never_checked(message: bytes, asked: bool) -> None:
    server = PlainServer(PROXY_CONTEXT)
    if asked:
        server.start(None)
    step = server.respond(message) if asked else server.start(message)
    assert isinstance(step, Rejected)
    assert step.malformed
    assert "secret" not in step.why
    assert isinstance(server.answer(True), Rejected)
