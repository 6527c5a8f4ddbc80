"""Builds of Python that lack a hash: what needs it is passed over, and the rest goes on."""

import hashlib
import os
import subprocess
import sys

import pytest

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.hashes import hmac_md5, is_available, md5, require_hash
from smtp_proto.sasl.mechanism import Challenge, Credentials
from smtp_proto.sasl.policy import Policy, choose
from smtp_proto.sasl.registry import CLIENT_MECHANISMS
from smtp_proto.sasl.scram_secret import ScramSecret
from tests.sasl.exchanges import CLIENT_CONTEXT, SERVER_CONTEXT, scram_client, scram_server, stored

TIM = Credentials("tim", "canary-7c1")
CHANGED_BY_RULES = """
import hashlib, sys
forbidden, new = sys.argv[1], hashlib.new
def refusing(name, *arguments, **options):
    if name == forbidden:
        raise ValueError("disabled for FIPS")
    return new(name, *arguments, **options)
hashlib.new = refusing
delattr(hashlib, forbidden)
from smtp_proto.sasl import CLIENT_MECHANISMS, SERVER_MECHANISMS
print(*sorted(CLIENT_MECHANISMS.keys() - SERVER_MECHANISMS.keys()))
"""


def forbid(monkeypatch: pytest.MonkeyPatch, hash_: str) -> None:
    def refusing(name: str, data: bytes = b"", *, usedforsecurity: bool = True) -> object:
        if name == hash_:
            raise ValueError("disabled for FIPS")
        return new(name, data, usedforsecurity=usedforsecurity)

    new = hashlib.new
    monkeypatch.setattr(hashlib, "new", refusing)


@pytest.mark.parametrize(
    ("hash_", "names"),
    [
        ("md5", "CRAM-MD5 DIGEST-MD5"),
        ("sha1", "SCRAM-SHA-1 SCRAM-SHA-1-PLUS"),
        ("sha512", "SCRAM-SHA-512 SCRAM-SHA-512-PLUS"),
    ],
)
def test_a_server_does_not_have_what_cannot_work(hash_: str, names: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CHANGED_BY_RULES, hash_],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == names


@pytest.mark.parametrize(
    ("hash_", "offered"),
    [("md5", ("CRAM-MD5", "DIGEST-MD5")), ("sha1", ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"))],
)
def test_a_client_passes_it_over(
    monkeypatch: pytest.MonkeyPatch, hash_: str, offered: tuple[str, ...]
) -> None:
    forbid(monkeypatch, hash_)
    assert is_available(hash_) is False
    assert is_available("sha256") is True
    choice = choose(Policy(frozenset(offered)), offered, TIM, True, context=CLIENT_CONTEXT)
    assert choice.mechanism is None
    why = f"it needs {hash_.upper()}, which this Python does not have"
    assert dict(choice.passed_over) == dict.fromkeys(offered, why)
    for name in offered:
        with pytest.raises(SASLError, match=why):
            CLIENT_MECHANISMS[name](TIM, CLIENT_CONTEXT)


def test_rules_for_the_salt_are_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_arguments: object) -> bytes:
        raise ValueError("[digital envelope routines] invalid salt length")

    client = scram_client("SCRAM-SHA-256", TIM, CLIENT_CONTEXT)
    server = scram_server("SCRAM-SHA-256", SERVER_CONTEXT)
    server.start(client.start())
    challenge = server.answer(stored("canary-7c1"))
    assert isinstance(challenge, Challenge)
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", refusing)
    with pytest.raises(SASLError, match="refuses to hash a password for SCRAM-SHA-256") as caught:
        client.respond(challenge.data)
    assert "canary" not in str(caught.value)
    with pytest.raises(SASLError, match="refuses to hash"):
        ScramSecret.from_password("canary-7c1", b"salt")


def test_what_is_there_is_as_it_has_to_be() -> None:
    require_hash("md5")
    # RFC 1321 A.5 and RFC 2104, its first example
    assert md5(b"abc").hex() == "900150983cd24fb0d6963f7d28e17f72"
    assert hmac_md5(b"\x0b" * 16, b"Hi There").hex() == "9294727a3638bb1c13f48ef8158bfc9d"
