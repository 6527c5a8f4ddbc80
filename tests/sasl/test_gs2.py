"""The GS2 header, RFC 5801 and 5802."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.gs2 import GS2Header, decode_saslname, encode_saslname
from tests.sasl.exchanges import IDENTITIES

FLAGS = st.sampled_from(["n", "y", "p=tls-unique", "p=tls-server-end-point", "p=tls-exporter"])


@given(FLAGS, st.just("") | IDENTITIES, st.binary())
def test_what_is_written_is_read_back(flag: str, authzid: str, rest: bytes) -> None:
    header = GS2Header(flag, authzid)
    assert GS2Header.split(header.encode() + rest) == (header, rest)


@given(st.binary() | st.from_regex(rb"(n|y|p=[a-z.-]*),(a=[^,]*)?,.*", fullmatch=True))
def test_what_is_read_is_written_back(message: bytes) -> None:
    try:
        header, rest = GS2Header.split(message)
    except SASLError:
        return
    assert header.encode() + rest == message


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("user", b"user"),
        ("a,b=c", b"a=2Cb=3Dc"),
        ("=2C", b"=3D2C"),
        ("=3D", b"=3D3D"),
        (",", b"=2C"),
        ("jörg €", "jörg €".encode()),
    ],
)
def test_names_are_escaped(name: str, escaped: bytes) -> None:
    assert encode_saslname(name) == escaped
    assert decode_saslname(escaped) == name


@pytest.mark.parametrize(
    "escaped", [b"", b"=", b"a=", b"=2c", b"=3d", b"=2", b"=41", b"a,b", b"\xff", b"\n", b"a\0b"]
)
def test_what_is_no_name(escaped: bytes) -> None:
    with pytest.raises(SASLError):
        decode_saslname(escaped)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,",
        b"x,,",
        b"N,,",
        b"nn,,",
        b"p,,",
        b"p=,,",
        b"p=tls unique,,",
        b"n,a=,",
        b"n,a=a=b,",
        b"n,b=user,",
        b"n,user=someuser@example.com,",  # as an example in RFC 7628 4.4 has it
        b" n,,",
    ],
)
def test_what_is_no_header(message: bytes) -> None:
    with pytest.raises(SASLError):
        GS2Header.split(message)


def test_the_binding_type() -> None:
    assert GS2Header("p=tls-unique").binding_type == "tls-unique"
    assert GS2Header("n").binding_type == GS2Header("y").binding_type == ""
