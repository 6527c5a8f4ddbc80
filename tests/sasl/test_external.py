"""EXTERNAL, RFC 4422 A."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.external import ExternalClient, ExternalServer
from smtp_proto.sasl.mechanism import (
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    Challenge,
    ExternalCredentials,
    FetchIdentity,
    Rejected,
)
from tests.sasl.exchanges import IDENTITIES, SERVER_CONTEXT, Wire

PROXY_CONTEXT = replace(SERVER_CONTEXT, proxy_authorization=True)
FRED = "fred@example.com"


def test_the_example_without_an_authorization_identity() -> None:
    """RFC 4422 A.2: the server asks with an empty challenge, the client says nothing."""
    server = ExternalServer(SERVER_CONTEXT)
    assert server.start(None) == Challenge(b"")
    assert ExternalClient(ExternalCredentials()).start() == b""
    assert server.respond(b"") == FetchIdentity("")
    assert server.answer(FRED) == Accepted(FRED, FRED)


def test_the_example_with_an_authorization_identity() -> None:
    """RFC 4422 A.2: it may not be assumed."""
    assert ExternalClient(ExternalCredentials(FRED)).start() == FRED.encode()
    server = ExternalServer(SERVER_CONTEXT)
    assert server.start(FRED.encode()) == FetchIdentity(FRED)
    assert server.answer("tim") == Rejected("acting as another identity is not allowed")
    proxy = ExternalServer(PROXY_CONTEXT)
    assert proxy.start(FRED.encode()) == FetchIdentity(FRED)
    assert proxy.answer("tim") == Accepted("tim", FRED)


@given(identity=IDENTITIES, wanted=st.just("") | IDENTITIES, early=st.booleans())
def test_the_client_is_who_the_server_knows(identity: str, wanted: str, early: bool) -> None:
    client = ExternalClient(ExternalCredentials(wanted))
    wire = Wire({}, external=identity)
    outcome = wire.run(client, ExternalServer(PROXY_CONTEXT), early=early)
    assert outcome == Accepted(identity, wanted or identity)


@pytest.mark.parametrize("value", [None, "", True, False])
def test_who_is_not_known_is_nobody(value: Answer) -> None:
    server = ExternalServer(SERVER_CONTEXT)
    assert server.answer(FRED) == OUT_OF_ORDER
    server.start(b"")
    assert server.answer(value) == WRONG_CREDENTIALS


@pytest.mark.parametrize("message", [b"\0", b"fr\ned", b"\xff", b"\xed\xa0\x80"])
def test_a_malformed_identity_is_rejected(message: bytes) -> None:
    server = ExternalServer(PROXY_CONTEXT)
    step = server.start(message)
    assert isinstance(step, Rejected)
    assert step.malformed
    assert server.answer(FRED) == OUT_OF_ORDER


@pytest.mark.parametrize("identity", ["\0", "fr\ned", "\udc00"])
def test_what_is_no_identity_is_not_sent(identity: str) -> None:
    with pytest.raises(SASLError, match="identity"):
        ExternalClient(ExternalCredentials(identity))


def test_a_server_that_wants_more_is_refused() -> None:
    client = ExternalClient(ExternalCredentials())
    with pytest.raises(SASLError, match="more than EXTERNAL"):
        client.respond(b"")
    client.finish()
