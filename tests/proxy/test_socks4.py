"""SOCKS4 and SOCKS4a: the request octet by octet, and each answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.proxy import ProxyMalformed, ProxyRefused, Socks4, Socks4a
from smtp_proto.wire import WireError
from tests.proxy.exchanges import GREETING, talk

GRANTED = b"\x00\x5a\x00\x19\xc0\x00\x02\x01"


@pytest.mark.parametrize(
    ("proxy", "host", "request_octets"),
    [
        (Socks4("p", 1), "192.0.2.1", b"\x04\x01\x02\x4b\xc0\x00\x02\x01\x00"),
        (Socks4("p", 1, "tim"), "192.0.2.1", b"\x04\x01\x02\x4b\xc0\x00\x02\x01tim\x00"),
        (Socks4("p", 1, "jörg"), "192.0.2.1", b"\x04\x01\x02\x4b\xc0\x00\x02\x01j\xc3\xb6rg\x00"),
        (Socks4a("p", 1, "tim"), "192.0.2.1", b"\x04\x01\x02\x4b\xc0\x00\x02\x01tim\x00"),
        (Socks4a("p", 1), "mx.test", b"\x04\x01\x02\x4b\x00\x00\x00\x01\x00mx.test\x00"),
        (
            Socks4a("p", 1, "tim"),
            "ü.test",
            b"\x04\x01\x02\x4b\x00\x00\x00\x01tim\x00xn--tda.test\0",
        ),
    ],
)
def test_the_request(proxy: Socks4 | Socks4a, host: str, request_octets: bytes) -> None:
    codec = proxy.codec(host, 587)
    assert codec.start() == request_octets
    assert codec.receive_data(GRANTED) == b""
    assert codec.established


def test_who_resolves_names() -> None:
    assert not Socks4("p", 1).resolves_names
    assert Socks4a("p", 1).resolves_names
    assert Socks4("proxy.test", 1, "tim").url == "socks4://proxy.test:1"
    assert Socks4a("proxy.test", 1, "tim").url == "socks4a://proxy.test:1"


def test_names_are_never_sent_where_they_are_to_be_resolved_here() -> None:
    with pytest.raises(WireError, match=r"resolve mx\.test:25, or use SOCKS4a"):
        Socks4("p", 1).codec("mx.test", 25)


# An address with three zeros in front says that a name follows: the proxy would wait for it.
@pytest.mark.parametrize("host", ["::1", "[2001:db8::1]", "0.0.0.0", "0.0.0.1", "0.0.0.255"])
@pytest.mark.parametrize("kind", [Socks4, Socks4a])
def test_addresses_that_it_cannot_carry(kind: type[Socks4 | Socks4a], host: str) -> None:
    with pytest.raises(WireError, match="SOCKS4 cannot carry"):
        kind("p", 1).codec(host, 25)


@pytest.mark.parametrize("kind", [Socks4, Socks4a])
@pytest.mark.parametrize(
    "user_id", ["a\0b", "\0", "a\r\nb", "a\x85b", "a\udc00b", "a" * 256, "ü" * 128], ids=ascii
)
def test_user_ids_that_it_cannot_carry(kind: type[Socks4 | Socks4a], user_id: str) -> None:
    with pytest.raises(WireError, match="user id") as caught:
        kind("p", 1, user_id)
    assert caught.value.__context__ is None
    assert kind("p", 1, "ü" * 127 + "a").user_id == "ü" * 127 + "a"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (91, "rejected or failed.*CD 91"),
        (92, "identd.*CD 92"),
        (93, "another user id.*CD 93"),
        (0, "CD 0"),
        (89, "CD 89"),
        (94, "nobody has defined.*CD 94"),
        (255, "CD 255"),
    ],
)
def test_a_refusal_is_told_by_its_second_octet(code: int, reason: str) -> None:
    codec = Socks4("p", 1).codec("192.0.2.1", 25)
    codec.start()
    codec.receive_data(b"\x00")
    with pytest.raises(ProxyRefused, match=reason) as caught:
        codec.receive_data(bytes([code]))
    assert caught.value.code == code
    assert str(caught.value).startswith("socks4://p:1, asked for 192.0.2.1:25: ")


@given(st.integers(0, 255), st.binary(max_size=30))
def test_only_the_one_code_grants(code: int, rest: bytes) -> None:
    outcome = talk(Socks4("p", 1).codec("192.0.2.1", 25), [bytes([0, code]) + rest])
    assert outcome.established == (code == 90 and len(rest) >= 6)
    assert (outcome.error is None) == (code == 90)


@pytest.mark.parametrize("version", [1, 4, 5, 255])
def test_a_wrong_version(version: int) -> None:
    codec = Socks4("p", 1).codec("192.0.2.1", 25)
    codec.start()
    with pytest.raises(ProxyMalformed, match="does not speak SOCKS4"):
        codec.receive_data(bytes([version]))


@given(st.binary(min_size=6, max_size=6))
def test_port_and_address_of_the_answer_mean_nothing(garbage: bytes) -> None:
    outcome = talk(Socks4("p", 1).codec("192.0.2.1", 25), [b"\x00\x5a" + garbage + GREETING])
    assert (outcome.established, outcome.leftover) == (True, GREETING)
