"""Identities and passwords: what is written is read back, and what is not one is refused."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Challenge,
    CheckPassword,
    Credentials,
    ServerContext,
    decode_identity,
    decode_password,
    encode_identity,
    encode_password,
)

Encode = Callable[[str], bytes]
Decode = Callable[[bytes], str]
PAIRS = pytest.mark.parametrize(
    ("encode", "decode"),
    [(encode_identity, decode_identity), (encode_password, decode_password)],
    ids=["identity", "password"],
)


@PAIRS
@given(st.text() | st.text(st.characters(codec=None)))
def test_what_can_be_written_is_read_back(encode: Encode, decode: Decode, text: str) -> None:
    try:
        octets = encode(text)
    except SASLError:
        with pytest.raises(SASLError):
            decode(text.encode(errors="surrogatepass"))
    else:
        assert octets == text.encode()
        assert decode(octets) == text


@PAIRS
@given(st.binary())
def test_what_can_be_read_is_written_back(encode: Encode, decode: Decode, octets: bytes) -> None:
    with contextlib.suppress(SASLError):
        assert encode(decode(octets)) == octets


@PAIRS
def test_no_error_of_a_codec_carries_the_octets_along(encode: Encode, decode: Decode) -> None:
    with pytest.raises(SASLError) as caught:
        decode(b"canary\xff")
    assert caught.value.__context__ is None
    with pytest.raises(SASLError) as caught:
        encode("canary\ud800")
    assert caught.value.__context__ is None


@pytest.mark.parametrize("control", [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))])
def test_identities_have_no_control_characters(control: str) -> None:
    with pytest.raises(SASLError, match="control characters"):
        encode_identity(f"tim{control}")
    with pytest.raises(SASLError, match="control characters"):
        decode_identity(f"{control}tim".encode())


def test_passwords_may_have_control_characters_but_nul() -> None:
    assert decode_password(encode_password("a\tb\n\x01")) == "a\tb\n\x01"
    with pytest.raises(SASLError, match="NUL"):
        encode_password("a\0b")


def test_longest_fields_that_must_be_accepted() -> None:
    assert decode_identity(b"i" * 255) == "i" * 255
    assert decode_password(b"p" * 255) == "p" * 255


def test_a_server_does_not_show_what_its_salts_are_made_from() -> None:
    assert "canary" not in repr(ServerContext("mx.example.org", lambda: b"", salt_key=b"canary"))


def test_the_password_is_hidden() -> None:
    credentials = Credentials("tim", "secret", "ursel")
    assert repr(CheckPassword(credentials)) == (
        "CheckPassword(credentials=Credentials("
        "authentication_identity='tim', authorization_identity='ursel'))"
    )


def test_no_initial_response_differs_from_an_empty_one() -> None:
    assert Challenge(b"") != Challenge(b"\0")


def test_wrong_credentials_are_no_malformed_message() -> None:
    assert WRONG_CREDENTIALS.malformed is False  # RFC 4954 4: 535, and not 501
    assert OUT_OF_ORDER.malformed is True
