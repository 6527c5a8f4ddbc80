"""The registry: every mechanism is in it once, and says the same on both sides."""

import pkgutil

import pytest

import smtp_proto.sasl
from smtp_proto.sasl.mechanism import MECHANISM_NAME, Mechanism
from smtp_proto.sasl.registry import CLIENT_MECHANISMS, MECHANISMS, SERVER_MECHANISMS
from tests.sasl.exchanges import CLIENT_CONTEXT, SERVER_CONTEXT, credentials_for

NO_MECHANISM = {
    "errors",
    "gs2",
    "hashes",
    "mechanism",
    "oauth",
    "policy",
    "registry",
    "saslprep",
    "scram_secret",
}


def test_no_file_is_forgotten() -> None:
    files = {module.name for module in pkgutil.iter_modules(smtp_proto.sasl.__path__)}
    registered = {mechanism.client.__module__.rpartition(".")[2] for mechanism in MECHANISMS}
    assert files - NO_MECHANISM == registered


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)
def test_both_sides_say_the_same(mechanism: Mechanism) -> None:
    client, server = mechanism.client, mechanism.server
    assert server is not None
    assert MECHANISM_NAME.fullmatch(mechanism.name)
    assert server.name == client.name == mechanism.name
    assert server.reveals_password == client.reveals_password
    assert CLIENT_MECHANISMS[mechanism.name] is client
    assert SERVER_MECHANISMS[mechanism.name] is server
    credentials = credentials_for(mechanism.name, "tim", "secret")
    assert client(credentials, CLIENT_CONTEXT).name == mechanism.name
    assert server(SERVER_CONTEXT).name == mechanism.name


def test_each_name_is_there_once() -> None:
    assert len(CLIENT_MECHANISMS) == len(SERVER_MECHANISMS) == len(MECHANISMS)
    assert list(CLIENT_MECHANISMS) == [
        "SCRAM-SHA-512-PLUS",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "EXTERNAL",
        "SCRAM-SHA-512",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "OAUTHBEARER",
        "XOAUTH2",
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "DIGEST-MD5",
        "ANONYMOUS",
    ]


@pytest.mark.parametrize("name", ["plain", "PLAIN2", "LOGIN1", "CRAM_MD5", "X-PLAIN", ""])
def test_names_are_matched_exactly(name: str) -> None:
    assert name not in CLIENT_MECHANISMS
    assert name not in SERVER_MECHANISMS
