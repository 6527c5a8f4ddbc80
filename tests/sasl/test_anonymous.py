"""ANONYMOUS, RFC 4505."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.anonymous import AnonymousClient, AnonymousServer
from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Accepted,
    AnonymousCredentials,
    Answer,
    Challenge,
    CheckAnonymous,
    Rejected,
)
from tests.sasl.exchanges import SERVER_CONTEXT, Wire


def test_the_example_of_the_rfc() -> None:
    """RFC 4505 4, as it stands there in base64."""
    message = base64.b64decode("c2lyaGM=")
    assert AnonymousClient(AnonymousCredentials("sirhc")).start() == message
    server = AnonymousServer(SERVER_CONTEXT)
    assert server.start(None) == Challenge(b"")
    assert server.respond(message) == CheckAnonymous("sirhc")
    assert server.answer(True) == Accepted("anonymous", "anonymous")


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.booleans())
def test_what_the_client_sends_arrives(trace: str, early: bool) -> None:
    try:
        client = AnonymousClient(AnonymousCredentials(trace))
    except SASLError:
        step = AnonymousServer(SERVER_CONTEXT).start(trace.encode())
        assert isinstance(step, Rejected)
        return
    wire = Wire({}, anonymous=True)
    outcome = wire.run(client, AnonymousServer(SERVER_CONTEXT), early=early)
    assert outcome == Accepted("anonymous", "anonymous")
    assert CheckAnonymous(trace) in wire.steps


@pytest.mark.parametrize("trace", ["", "sirhc", "chris@example.org", "jörg €", "x" * 255])
def test_what_may_be_in_a_trace(trace: str) -> None:
    assert AnonymousClient(AnonymousCredentials(trace)).start() == trace.encode()
    assert AnonymousServer(SERVER_CONTEXT).start(trace.encode()) == CheckAnonymous(trace)


@pytest.mark.parametrize("trace", ["x" * 256, "a\0b", "a\nb", "\x1b[2J", "\u202e", "\ud800", "א1"])
def test_what_may_not_be_in_a_trace(trace: str) -> None:
    with pytest.raises(SASLError):
        AnonymousClient(AnonymousCredentials(trace))
    server = AnonymousServer(SERVER_CONTEXT)
    step = server.start(trace.encode(errors="surrogatepass"))
    assert isinstance(step, Rejected)
    assert step.malformed
    assert server.answer(True) == OUT_OF_ORDER


@pytest.mark.parametrize("value", [False, None, "", "anonymous"])
def test_nobody_comes_in_unless_the_application_says_so(value: Answer) -> None:
    server = AnonymousServer(SERVER_CONTEXT)
    server.start(b"sirhc")
    assert server.answer(value) == WRONG_CREDENTIALS


def test_a_server_that_wants_more_is_refused() -> None:
    client = AnonymousClient(AnonymousCredentials())
    with pytest.raises(SASLError, match="more than ANONYMOUS"):
        client.respond(b"")
    client.finish()
