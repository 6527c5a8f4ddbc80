"""The registry: every mechanism is in it once, and says the same on both sides."""

import pkgutil

import pytest

import smtp_proto.sasl
from smtp_proto.sasl.mechanism import MECHANISM_NAME, Credentials, Mechanism, ServerContext
from smtp_proto.sasl.registry import CLIENT_MECHANISMS, MECHANISMS, SERVER_MECHANISMS

NO_MECHANISM = {"errors", "mechanism", "policy", "registry"}


def test_no_file_is_forgotten() -> None:
    files = {module.name for module in pkgutil.iter_modules(smtp_proto.sasl.__path__)}
    registered = {mechanism.client.__module__.rpartition(".")[2] for mechanism in MECHANISMS}
    assert files - NO_MECHANISM == registered


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)
def test_both_sides_say_the_same(mechanism: Mechanism) -> None:
    client, server = mechanism.client, mechanism.server
    assert MECHANISM_NAME.fullmatch(mechanism.name)
    assert server.name == client.name == mechanism.name
    assert server.reveals_password == client.reveals_password
    assert CLIENT_MECHANISMS[mechanism.name] is client
    assert SERVER_MECHANISMS[mechanism.name] is server
    assert client(Credentials("tim", "secret")).name == mechanism.name
    assert server(ServerContext("mx.example.org", lambda: bytes(16))).name == mechanism.name


def test_each_name_is_there_once() -> None:
    assert len(CLIENT_MECHANISMS) == len(SERVER_MECHANISMS) == len(MECHANISMS)
    assert list(CLIENT_MECHANISMS) == ["PLAIN", "LOGIN", "CRAM-MD5"]


@pytest.mark.parametrize("name", ["plain", "PLAIN2", "LOGIN1", "CRAM_MD5", "X-PLAIN", ""])
def test_names_are_matched_exactly(name: str) -> None:
    assert name not in CLIENT_MECHANISMS
    assert name not in SERVER_MECHANISMS
