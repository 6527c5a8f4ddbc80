"""SOCKS5: each step octet by octet, and each answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.proxy import ProxyCodec, ProxyCodecError, ProxyMalformed, ProxyRefused, Socks5
from smtp_proto.wire import WireError
from tests.proxy.exchanges import CANARY, CUTS, GREETING, cut, talk, ways_to_cut

OPEN = Socks5("proxy.test", 1080)
CLOSED = Socks5("proxy.test", 1080, "tim", CANARY)
REPLIED = b"\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x19"
REQUEST = b"\x05\x01\x00\x03\x07mx.test\x00\x19"
LOGIN = b"\x01\x03tim\x0a" + CANARY.encode()


def begun(proxy: Socks5, *answers: bytes) -> ProxyCodec:
    codec = proxy.codec("mx.test", 25)
    codec.start()
    for answer in answers:
        codec.receive_data(answer)
    return codec


def test_one_step_at_a_time() -> None:
    codec = CLOSED.codec("mx.test", 25)
    assert codec.start() == b"\x05\x02\x00\x02"
    assert codec.receive_data(b"\x05") == b""
    assert codec.receive_data(b"\x02") == LOGIN
    assert codec.receive_data(b"\x01") == b""
    assert codec.receive_data(b"\x00") == REQUEST
    assert codec.receive_data(REPLIED[:-1]) == b""
    assert (codec.established, codec.leftover) == (False, b"")
    assert codec.receive_data(REPLIED[-1:] + GREETING) == b""
    assert (codec.established, codec.leftover) == (True, GREETING)


def test_credentials_go_out_only_if_the_proxy_asks_for_them() -> None:
    codec = CLOSED.codec("mx.test", 25)
    assert codec.start() == b"\x05\x02\x00\x02"
    assert codec.receive_data(b"\x05\x00") == REQUEST
    assert codec.receive_data(REPLIED) == b""
    assert codec.established


def test_without_credentials_no_login_is_offered() -> None:
    codec = OPEN.codec("mx.test", 25)
    assert codec.start() == b"\x05\x01\x00"
    with pytest.raises(ProxyMalformed, match="METHOD 02, which it was not offered"):
        codec.receive_data(b"\x05\x02")


@pytest.mark.parametrize("method", [0x01, 0x03, 0x7F, 0x80, 0xFE])
@pytest.mark.parametrize("proxy", [OPEN, CLOSED])
def test_a_method_that_was_not_offered(proxy: Socks5, method: int) -> None:
    with pytest.raises(ProxyMalformed, match=f"METHOD {method:02X}, which it was not offered"):
        begun(proxy, bytes([5, method]))


@pytest.mark.parametrize(("proxy", "advice"), [(OPEN, "give it a user name"), (CLOSED, "nor none")])
def test_no_acceptable_methods(proxy: Socks5, advice: str) -> None:
    with pytest.raises(ProxyRefused, match=advice) as caught:
        begun(proxy, b"\x05\xff")
    assert caught.value.code == 0xFF


@pytest.mark.parametrize("status", [1, 2, 255])
def test_wrong_credentials(status: int) -> None:
    with pytest.raises(ProxyRefused, match=f"STATUS {status:02X}") as caught:
        begun(CLOSED, b"\x05\x02", bytes([1, status]))
    assert caught.value.code == status
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("version", [0, 2, 5, 255])
@pytest.mark.parametrize("status", [0, 1])
def test_a_wrong_version_of_the_answer_to_the_credentials(version: int, status: int) -> None:
    with pytest.raises(ProxyMalformed, match=f"VER {version:02X} and not 01"):
        begun(CLOSED, b"\x05\x02", bytes([version, status]))


@pytest.mark.parametrize("version", [0, 1, 4, 6, 255])
def test_a_wrong_version(version: int) -> None:
    with pytest.raises(ProxyMalformed, match="does not speak SOCKS5"):
        begun(OPEN, bytes([version]))
    with pytest.raises(ProxyMalformed, match="does not speak SOCKS5"):
        begun(OPEN, b"\x05\x00", bytes([version]))


REASONS = [
    (1, "general SOCKS server failure"),
    (2, "not allowed by ruleset"),
    (3, "network unreachable"),
    (4, "host unreachable"),
    (5, "connection refused"),
    (6, "TTL expired"),
    (7, "command not supported"),
    (8, "address type not supported"),
    *((code, "not assigned") for code in (9, 10, 0x5A, 0xFF)),
]


@pytest.mark.parametrize(("code", "reason"), REASONS)
def test_a_refusal_is_told_by_its_second_octet(code: int, reason: str) -> None:
    codec = begun(OPEN, b"\x05\x00", b"\x05")
    with pytest.raises(ProxyRefused, match=rf"{reason}.* \(REP {code:02X}\)") as caught:
        codec.receive_data(bytes([code]))
    assert caught.value.code == code
    assert str(caught.value).startswith("socks5h://proxy.test:1080, asked for mx.test:25: ")


def test_a_refusal_may_have_an_address_of_any_kind() -> None:
    refusal = b"\x05\x00\x05\x05\x00\x03\x09localhost\x00\x19"
    outcomes = {talk(OPEN.codec("192.0.2.1", 25), pieces) for pieces in ways_to_cut(refusal)}
    (outcome,) = outcomes
    assert "connection refused" in str(outcome.error)


@pytest.mark.parametrize("address_type", [0, 2, 5, 255])
def test_an_address_type_that_is_not_assigned(address_type: int) -> None:
    with pytest.raises(ProxyMalformed, match=f"ATYP is {address_type:02X}"):
        begun(OPEN, b"\x05\x00", bytes([5, 0, 0, address_type]))


@pytest.mark.parametrize("reserved", [1, 255])
def test_a_reserved_octet_that_is_not_zero(reserved: int) -> None:
    with pytest.raises(ProxyMalformed, match=f"RSV is {reserved:02X}"):
        begun(OPEN, b"\x05\x00", bytes([5, 0, reserved, 1]))


ADDRESSES = st.one_of(
    st.binary(min_size=4, max_size=4).map(b"\x01".__add__),
    st.binary(min_size=16, max_size=16).map(b"\x04".__add__),
    st.binary(max_size=255).map(lambda name: bytes([3, len(name)]) + name),
)


@given(
    ADDRESSES,
    st.binary(min_size=2, max_size=2),
    st.sampled_from(["mx.test", "::1", "192.0.2.1"]),
    CUTS,
)
def test_the_reply_is_as_long_as_its_own_address_says(
    address: bytes, port: bytes, host: str, places: list[int]
) -> None:
    answer = b"\x05\x00\x05\x00\x00" + address + port
    for behind in (b"", GREETING):
        outcome = talk(OPEN.codec(host, 25), cut(answer + behind, places))
        assert (outcome.established, outcome.leftover) == (True, behind)
    assert not talk(OPEN.codec(host, 25), [answer[:-1]]).established


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("mx.test", b"\x03\x07mx.test"),
        ("ü.test", b"\x03\x0cxn--tda.test"),
        ("a", b"\x03\x01a"),
        ("abc." * 63 + "abc", b"\x03\xff" + b"abc." * 63 + b"abc"),
        ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
        ("::1", b"\x04" + bytes(15) + b"\x01"),
        ("[2001:db8::1]", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
    ],
)
def test_the_request(host: str, address: bytes) -> None:
    codec = OPEN.codec(host, 0x1234)
    codec.start()
    assert codec.receive_data(b"\x05\x00") == b"\x05\x01\x00" + address + b"\x12\x34"


def test_who_resolves_names() -> None:
    here = Socks5("proxy.test", 1080, resolve_here=True)
    assert not here.resolves_names
    assert here.url == "socks5://proxy.test:1080"
    assert OPEN.resolves_names
    assert OPEN.url == "socks5h://proxy.test:1080"
    with pytest.raises(WireError, match="resolve it first"):
        here.codec("mx.test", 25)
    for address in ("192.0.2.1", "::1"):
        assert here.codec(address, 25).start() == b"\x05\x01\x00"


@pytest.mark.parametrize(
    ("username", "password", "what"),
    [
        ("tim", None, "password"),
        (None, CANARY, "user name"),
        ("", CANARY, "user name"),
        ("tim", "", "password"),
        ("t" * 256, CANARY, "user name"),
        ("ü" * 128, CANARY, "user name"),
        ("tim", CANARY + "x" * 246, "password"),
        ("ti\0m", CANARY, "user name"),
        ("ti\r\nm", CANARY, "user name"),
        ("tim", CANARY + "\0", "password"),
        ("tim", CANARY + "\x7f", "password"),
        ("tim", CANARY + "\ud800", "password"),
    ],
    ids=ascii,
)
def test_credentials_that_it_cannot_carry(
    username: str | None, password: str | None, what: str
) -> None:
    with pytest.raises(WireError, match=what) as caught:
        Socks5("proxy.test", 1080, username, password)
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


@given(*[st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)] * 2)
def test_credentials_are_sent_as_they_are(username: str, password: str) -> None:
    codec = Socks5("proxy.test", 1080, username, password).codec("mx.test", 25)
    codec.start()
    login = codec.receive_data(b"\x05\x02")
    assert login[0] == 1
    name_end = 2 + login[1]
    assert login[2:name_end].decode() == username
    assert login[name_end] == len(login) - name_end - 1
    assert login[name_end + 1 :].decode() == password


@given(st.integers(0, 255), st.integers(0, 255))
def test_no_answer_but_the_right_ones_goes_on(version: int, second: int) -> None:
    try:
        codec = begun(OPEN, bytes([version, second]))
    except ProxyCodecError:
        assert (version, second) != (5, 0)
    else:
        assert (version, second) == (5, 0)
        assert not codec.established
