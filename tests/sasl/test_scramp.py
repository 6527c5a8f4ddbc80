"""SCRAM against scramp, an implementation of others, both ways."""

import hashlib
import stringprep

import pytest
import scramp
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp.core import ScramServer as TheirServer

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    Accepted,
    Challenge,
    ClientContext,
    Credentials,
    FetchSecret,
    Rejected,
    ServerContext,
)
from smtp_proto.sasl.saslprep import prepare_identity
from smtp_proto.sasl.scram import ScramClient, ScramServer
from smtp_proto.sasl.scram_secret import HASHES, ScramSecret
from tests.sasl.exchanges import scram_client, scram_server, stored

BINDING = ("tls-server-end-point", b"\x02" * 32)
NAMES = pytest.mark.parametrize("name", [*HASHES, *(f"{name}-PLUS" for name in HASHES)])

# What both take: scramp keeps out what Unicode 3.2 does not assign.
ASSIGNED = st.characters(codec="utf-8").filter(lambda each: not stringprep.in_table_a1(each))
TEXTS = st.text(ASSIGNED, min_size=1, max_size=20)


def bindings(name: str) -> dict[str, bytes]:
    return dict([BINDING]) if name.endswith("-PLUS") else {}


def client_of(name: str, identity: str, password: str) -> ScramClient:
    context = ClientContext(lambda: bytes(range(16, 32)), channel_bindings=bindings(name))
    return scram_client(name, Credentials(identity, password), context)


def server_of(name: str) -> ScramServer:
    context = ServerContext("mx", lambda: bytes(range(16)), channel_bindings=bindings(name))
    return scram_server(name, context)


def their_server(name: str, identity: str, password: str) -> TheirServer:
    mechanism = scramp.ScramMechanism(name)
    salt = hashlib.sha256(password.encode()).digest()[:16]
    info = mechanism.make_auth_info(password, iteration_count=4096, salt=salt)
    binding = BINDING if name.endswith("-PLUS") else None
    return mechanism.make_server({identity: info}.__getitem__, channel_binding=binding)


def log_in_there(client: ScramClient, server: TheirServer) -> None:
    server.set_client_first(client.start().decode())
    final = client.respond(server.get_server_first().encode())
    server.set_client_final(final.decode())
    assert client.respond(server.get_server_final().encode()) == b""
    client.finish()


@NAMES
@settings(max_examples=30)
@given(identity=TEXTS, password=TEXTS)
def test_our_client_their_server(name: str, identity: str, password: str) -> None:
    try:
        client = client_of(name, identity, password)
        server = their_server(name, prepare_identity(identity), password)
    except (SASLError, scramp.ScramException):
        return
    log_in_there(client, server)


@NAMES
@settings(max_examples=30)
@given(identity=TEXTS, password=TEXTS)
def test_their_client_our_server(name: str, identity: str, password: str) -> None:
    binding = BINDING if name.endswith("-PLUS") else None
    try:
        secret = stored(password, name.removesuffix("-PLUS"))
        identity = prepare_identity(identity)
        client = scramp.ScramClient([name], identity, password, channel_binding=binding)
    except (SASLError, scramp.ScramException):
        return
    server = server_of(name)
    step = server.start(client.get_client_first().encode())
    assert step == FetchSecret(identity, name.removesuffix("-PLUS"))
    step = server.answer(secret)
    assert isinstance(step, Challenge)
    client.set_server_first(step.data.decode())
    step = server.respond(client.get_client_final().encode())
    assert isinstance(step, Challenge)
    client.set_server_final(step.data.decode())
    assert server.respond(b"") == Accepted(identity, identity)


@pytest.mark.parametrize("identity", ["tim", "jörg", "a,b=c", "=2C", "\u2168"])
@pytest.mark.parametrize("password", ["pencil", "grün €", "pass\u00a0word", "\u00bd\u00b4", "צבע"])
def test_both_agree_on_these(identity: str, password: str) -> None:
    prepared = prepare_identity(identity)
    log_in_there(
        client_of("SCRAM-SHA-256", identity, password),
        their_server("SCRAM-SHA-256", prepared, password),
    )


@NAMES
def test_a_wrong_password_is_found_out_on_both_sides(name: str) -> None:
    with pytest.raises(scramp.ScramException):
        log_in_there(client_of(name, "tim", "pencil"), their_server(name, "tim", "another"))
    binding = BINDING if name.endswith("-PLUS") else None
    client = scramp.ScramClient([name], "tim", "pencil", channel_binding=binding)
    server = server_of(name)
    server.start(client.get_client_first().encode())
    step = server.answer(stored("another", name.removesuffix("-PLUS")))
    assert isinstance(step, Challenge)
    client.set_server_first(step.data.decode())
    assert isinstance(server.respond(client.get_client_final().encode()), Rejected)


def test_their_error_is_told() -> None:
    client, server = (
        client_of("SCRAM-SHA-1", "tim", "pencil"),
        their_server("SCRAM-SHA-1", "tim", "x"),
    )
    server.set_client_first(client.start().decode())
    final = client.respond(server.get_server_first().encode())
    with pytest.raises(scramp.ScramException):
        server.set_client_final(final.decode())
    with pytest.raises(SASLError, match="the server gives up: invalid-proof"):
        client.respond(server.get_server_final().encode())


@pytest.mark.parametrize("name", HASHES)
@given(password=TEXTS, salt=st.binary(min_size=12, max_size=20))
@settings(max_examples=30)
def test_secrets_are_the_same(name: str, password: str, salt: bytes) -> None:
    try:
        secret = ScramSecret.from_password(password, salt, mechanism=name, iterations=4096)
        theirs = scramp.ScramMechanism(name).make_auth_info(password, 4096, salt)
    except (SASLError, scramp.ScramException):
        return
    assert (secret.salt, secret.stored_key, secret.server_key, secret.iterations) == theirs
