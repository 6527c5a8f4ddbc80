"""Stored secrets of SCRAM: made from a password, kept as text."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.scram_secret import HASHES, ITERATIONS, MINIMUM_ITERATIONS, ScramSecret
from tests.sasl.exchanges import stored

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")

# Of the password "pencil", with the salt and count of RFC 7677 3; as PostgreSQL keeps them, too.
TEXT = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def secrets() -> st.SearchStrategy[ScramSecret]:
    def of_size(size: int) -> st.SearchStrategy[ScramSecret]:
        keys = st.binary(min_size=size, max_size=size)
        salts = st.binary(min_size=1, max_size=40)
        return st.builds(ScramSecret, salts, st.integers(1, 9_999_999_999), keys, keys)

    return st.sampled_from([20, 32, 64]).flatmap(of_size)


def test_the_text_of_a_known_password() -> None:
    secret = ScramSecret.from_password("pencil", SALT, iterations=4096)
    assert secret.encode() == TEXT
    assert ScramSecret.parse(TEXT) == secret


@given(secrets())
def test_what_is_written_is_read_back(secret: ScramSecret) -> None:
    text = secret.encode()
    assert text.isascii()
    assert not set(text) & set(" \r\n\t")
    assert ScramSecret.parse(text) == secret


@pytest.mark.parametrize("mechanism", HASHES)
def test_it_knows_its_mechanism(mechanism: str) -> None:
    secret = stored("pencil", mechanism)
    assert secret.mechanism == mechanism
    assert secret.encode().startswith(f"{mechanism}$4096:")


def test_a_password_is_prepared() -> None:
    assert stored("\u2168") == ScramSecret.from_password(
        "IX", stored("\u2168").salt, iterations=MINIMUM_ITERATIONS
    )
    with pytest.raises(SASLError):
        ScramSecret.from_password("pen\ncil", SALT)


def test_by_itself_it_has_the_recommended_iterations() -> None:
    assert ScramSecret.from_password("pencil", SALT).iterations == ITERATIONS == 100_000
    assert MINIMUM_ITERATIONS == 4096


def test_the_keys_are_hidden() -> None:
    secret = ScramSecret.parse(TEXT)
    assert repr(secret) == f"ScramSecret(salt={SALT!r}, iterations=4096)"
    assert str(secret) == repr(secret)


@pytest.mark.parametrize(
    ("salt", "iterations", "stored_key", "server_key", "why"),
    [
        (b"", 4096, bytes(32), bytes(32), "a salt"),
        (b"s", 0, bytes(32), bytes(32), "positive"),
        (b"s", -1, bytes(32), bytes(32), "positive"),
        (b"s", 4096, bytes(32), bytes(20), "keys for one of SCRAM-SHA-512"),
        (b"s", 4096, bytes(16), bytes(16), "keys for one of SCRAM-SHA-512"),
        (b"s", 4096, b"", b"", "keys for one of SCRAM-SHA-512"),
    ],
)
def test_what_is_no_secret_is_not_built(
    salt: bytes, iterations: int, stored_key: bytes, server_key: bytes, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        ScramSecret(salt, iterations, stored_key, server_key)


def test_the_maker_refuses_what_protects_nobody() -> None:
    with pytest.raises(ValueError, match="iterations"):
        ScramSecret.from_password("pencil", SALT, iterations=4095)
    with pytest.raises(ValueError, match="SCRAM-MD5"):
        ScramSecret.from_password("pencil", SALT, mechanism="SCRAM-MD5")
    with pytest.raises(ValueError, match="salt"):
        ScramSecret.from_password("pencil", b"", iterations=4096)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "canary",
        TEXT + "\n",
        TEXT[:-1],
        TEXT.replace("$", ":", 1),
        TEXT.replace("4096", "0"),
        TEXT.replace("4096", "04096"),
        TEXT.replace("4096", "4096x"),
        TEXT.replace("4096", "9" * 5000),
        TEXT.replace("SHA-256", "SHA-1"),
        TEXT.replace("SHA-256", "SHA-3"),
        TEXT.replace("W22", "W2"),
        TEXT.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
        TEXT.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "===="),
        TEXT.replace("WG5d", "W?5d"),
    ],
)
def test_what_is_no_text_of_one(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the reason differs
        ScramSecret.parse(text)
    assert "canary" not in str(caught.value)
    assert "WG5d" not in str(caught.value)
