"""What holds for every codec, whatever its protocol is."""

import copy
import pickle
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.proxy import (
    HttpConnect,
    Proxy,
    ProxyClosed,
    ProxyCodec,
    ProxyCodecError,
    ProxyMalformed,
    ProxyRefused,
    Socks4,
    Socks4a,
    Socks5,
)
from smtp_proto.wire import Octets, WireError
from tests.proxy.exchanges import CANARY, CUTS, GREETING, cut, talk, ways_to_cut

GRANTED = b"\x00\x5a\x00\x19\xc0\x00\x02\x01"
REPLIED = b"\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x19"
ADDRESS = "192.0.2.1"

# A proxy, and the answer with which it makes a tunnel.
TUNNELS: list[tuple[Proxy, bytes]] = [
    (Socks4("proxy.test", 1080), GRANTED),
    (Socks4("proxy.test", 1080, "tim"), GRANTED),
    (Socks4a("proxy.test", 1080), GRANTED),
    (Socks5("proxy.test", 1080), b"\x05\x00" + REPLIED),
    (Socks5("proxy.test", 1080, "tim", CANARY), b"\x05\x00" + REPLIED),
    (Socks5("proxy.test", 1080, "tim", CANARY), b"\x05\x02\x01\x00" + REPLIED),
    (Socks5("proxy.test", 1080), b"\x05\x00\x05\x00\x00\x03\x00\x00\x19"),
    (Socks5("proxy.test", 1080), b"\x05\x00\x05\x00\x00\x03\x01a\x00\x19"),
    (Socks5("proxy.test", 1080), b"\x05\x00\x05\x00\x00\x03\x02\x05\x00\x00\x19"),
    (Socks5("proxy.test", 1080), b"\x05\x00\x05\x00\x00\x03\xff" + b"\n" * 255 + b"\x00\x19"),
    (Socks5("proxy.test", 1080), b"\x05\x00\x05\x00\x00\x04" + b"\xff" * 18),
    (Socks5("proxy.test", 1080, resolve_here=True), b"\x05\x00" + REPLIED),
    (HttpConnect("proxy.test", 80), b"HTTP/1.1 200 OK\r\n\r\n"),
    (HttpConnect("proxy.test", 80), b"HTTP/1.0 200 Connection established\r\nA: b\r\n\r\n"),
    (HttpConnect("proxy.test", 80), b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\n\r\n"),
    (HttpConnect("proxy.test", 80, "tim", CANARY), b"HTTP/1.1 204 \r\nA: b\r\n c\r\n\r\n"),
    (HttpConnect("proxy.test", 443, tls=True), b"HTTP/1.1 200 OK\r\n\r\n"),
]
EACH = pytest.mark.parametrize(("proxy", "answer"), TUNNELS, ids=lambda value: str(value)[:60])
EACH_KIND: list[Proxy] = [
    Socks4("proxy.test", 1080),
    Socks4a("proxy.test", 1080),
    Socks5("proxy.test", 1080, "tim", CANARY),
    Socks5("proxy.test", 1080, resolve_here=True),
    HttpConnect("proxy.test", 80, "tim", CANARY),
]


def begun(proxy: Proxy) -> ProxyCodec:
    codec = proxy.codec(ADDRESS, 25)
    codec.start()
    return codec


def errors_of(codec: ProxyCodec) -> Iterator[ProxyCodecError]:
    """Try all that can still be done."""
    for act in (lambda: codec.receive_data(GREETING), codec.start, codec.receive_eof):
        with pytest.raises(ProxyCodecError) as caught:
            act()
        yield caught.value


@EACH
def test_a_tunnel_however_the_answer_is_cut(proxy: Proxy, answer: bytes) -> None:
    outcomes = {talk(proxy.codec(ADDRESS, 25), pieces) for pieces in ways_to_cut(answer + GREETING)}
    (outcome,) = outcomes
    assert outcome.established
    assert outcome.leftover == GREETING
    assert outcome.error is None


@EACH
@given(places=CUTS, behind=st.binary(max_size=40))
def test_all_that_comes_behind_the_answer_is_kept(
    proxy: Proxy, answer: bytes, places: list[int], behind: bytes
) -> None:
    outcome = talk(proxy.codec(ADDRESS, 25), cut(answer + behind, places))
    assert outcome.established
    assert outcome.leftover == behind


@EACH
def test_no_tunnel_before_the_last_octet_of_the_answer(proxy: Proxy, answer: bytes) -> None:
    codec = begun(proxy)
    for octet in answer:
        assert not codec.established
        assert codec.leftover == b""
        codec.receive_data(bytes([octet]))
    assert codec.established
    assert codec.leftover == b""
    assert codec.receive_data(b"") == b""
    codec.receive_eof()  # this end is that of the tunnel
    assert codec.established


@EACH
def test_an_answer_that_ends_too_early(proxy: Proxy, answer: bytes) -> None:
    for length in range(len(answer)):
        codec = begun(proxy)
        codec.receive_data(answer[:length])
        with pytest.raises(ProxyClosed) as caught:
            codec.receive_eof()
        assert f"{proxy.url}, asked for {ADDRESS}:25: " in str(caught.value)
        assert set(errors_of(codec)) == {caught.value}
        assert not codec.established


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_given(kind: type[Octets]) -> None:
    codec = begun(Socks4("proxy.test", 1080))
    codec.receive_data(kind(GRANTED + GREETING))
    assert codec.leftover == GREETING


@EACH
@given(data=st.data())
def test_an_answer_with_wrong_octets_ends_in_one_way_however_it_is_cut(
    proxy: Proxy, answer: bytes, data: st.DataObject
) -> None:
    broken = bytearray(answer + GREETING)
    for place in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=3)):
        broken[place] = data.draw(st.integers(0, 255))
    whole = talk(proxy.codec(ADDRESS, 25), [bytes(broken)])
    assert talk(proxy.codec(ADDRESS, 25), cut(bytes(broken), data.draw(CUTS))) == whole
    assert talk(proxy.codec(ADDRESS, 25), (bytes([octet]) for octet in broken)) == whole


@given(st.sampled_from(EACH_KIND), st.lists(st.binary(max_size=20), max_size=20))
def test_random_octets_give_documented_errors_only(proxy: Proxy, pieces: list[bytes]) -> None:
    outcome = talk(proxy.codec(ADDRESS, 25), pieces)
    if outcome.error is not None:
        assert outcome.error.isprintable()
        assert outcome.error.startswith(("ProxyRefused ", "ProxyMalformed "))
        assert (outcome.established, outcome.leftover) == (False, b"")


@pytest.mark.parametrize("answer", [b"\x07", b"\x00\x5b", b"\x05\xff", b"HTTP/1.1 407 No\r\n\r\n"])
@pytest.mark.parametrize("proxy", EACH_KIND, ids=str)
def test_after_an_error_it_is_of_no_use(proxy: Proxy, answer: bytes) -> None:
    codec = begun(proxy)
    with pytest.raises(ProxyCodecError) as caught:
        codec.receive_data(answer)
    # Not even a tunnel that comes later is one.
    for _, tunnel in TUNNELS:
        with pytest.raises(ProxyCodecError):
            codec.receive_data(tunnel)
    assert set(errors_of(codec)) == {caught.value}


@pytest.mark.parametrize(
    ("proxy", "answer", "speaker"),
    [
        (Socks4("proxy.test", 1080), b"\x05\xff", "SOCKS5"),
        (Socks4("proxy.test", 1080), b"HTTP/1.1 400 ?\r\n\r\n", "HTTP"),
        (Socks5("proxy.test", 1080), b"\x00\x5b", "SOCKS4"),
        (Socks5("proxy.test", 1080), GREETING, "SMTP"),
        (Socks5("proxy.test", 1080), b"HTTP/1.1 400 ?\r\n\r\n", "HTTP"),
        (HttpConnect("proxy.test", 80), b"\x15\x03\x01", "TLS"),
        (HttpConnect("proxy.test", 80), b"\x05\xff", "SOCKS5"),
        (HttpConnect("proxy.test", 80), GREETING, "SMTP"),
    ],
)
def test_who_speaks_another_protocol_is_told_by_the_first_octet(
    proxy: Proxy, answer: bytes, speaker: str
) -> None:
    codec = begun(proxy)
    with pytest.raises(ProxyMalformed, match=f"; {speaker} begins so"):
        codec.receive_data(answer[:1])


@EACH
def test_nothing_shows_the_password(proxy: Proxy, answer: bytes) -> None:
    codec = proxy.codec(ADDRESS, 25)
    shown = [repr(proxy), str(proxy), proxy.url, repr(codec)]
    codec.start()
    with pytest.raises(ProxyCodecError) as caught:
        codec.receive_data(answer[:1] + b"\xfe" * 9 + b"\r\n")
    shown += [repr(caught.value), str(caught.value), repr(caught.value.args), repr(codec)]
    assert CANARY not in "".join(shown)
    assert "tim" not in proxy.url


@pytest.mark.parametrize(
    "error",
    [
        ProxyRefused("where", "why", 5),
        ProxyMalformed("where", "why"),
        ProxyClosed("where", "why\x1b"),
    ],
)
def test_errors_can_be_copied_and_printed(error: ProxyCodecError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)
        assert str(twin).isprintable()


# --- what all proxies are given

# Hosts that nothing may be sent for, to a proxy or about one.
BAD_HOSTS = [
    "",
    ".",
    " ",
    "a b",
    "mail.test ",
    "mail.test\r\nHost: evil.test",
    *(f"mail{control}.test" for control in "\0\t\n\r\x1f\x7f\x85\u2028\xa0\xad\u200b\ufeff"),
    *(f"mail.test{control}" for control in "\0\t\n\r\x1f\x7f\x85\u2028"),
    "user@mail.test",
    "@mail.test",
    "mail.test/",
    "mail.test/path",
    "mail.test?query",
    "mail.test#fragment",
    "mail.test:25",
    "mail\\.test",
    "mail%2etest",
    "mail..test",
    ".mail.test",
    "mail.test..",
    "-mail.test",
    "a" * 64 + ".test",
    "abc." * 63 + "abcd",
    "abc." * 63 + "abc.",
    "ü" * 60 + "." + "ü" * 60,
    "mail.\uff20test",
    "ma\udc0ail.test",
    # Addresses in disguise.
    "2130706433",
    "0x7f000001",
    "0X7f.1",
    "127.1",
    "0177.0.0.1",
    "192.0.2.256",
    "192.0.2.1.",
    "192.0.2.01",
    "mail.1",
    "mail.0x",
    "[192.0.2.1]",
    "[mail.test]",
    "[]",
    "[::1",
    "::1]",
    "[[::1]]",
    "1:2",
    "::g",
    "::1%eth0",
    "[fe80::1%25eth0]",
    "fe80::1%\r\nQUIT",
    "IPv6:::1",
]


@pytest.mark.parametrize("host", BAD_HOSTS, ids=ascii)
@pytest.mark.parametrize("proxy", EACH_KIND, ids=str)
def test_a_bad_destination_is_refused_before_anything_is_sent(proxy: Proxy, host: str) -> None:
    with pytest.raises(WireError) as caught:
        proxy.codec(host, 25)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("port", [0, -1, 65_536, 1 << 40])
@pytest.mark.parametrize("proxy", EACH_KIND, ids=str)
def test_a_bad_port_is_refused_before_anything_is_sent(proxy: Proxy, port: int) -> None:
    with pytest.raises(WireError, match="port"):
        proxy.codec(ADDRESS, port)


@pytest.mark.parametrize("kind", [Socks4, Socks4a, Socks5, HttpConnect])
@pytest.mark.parametrize("host", BAD_HOSTS, ids=ascii)
def test_a_proxy_has_a_host_and_a_port(
    kind: type[Socks4 | Socks4a | Socks5 | HttpConnect], host: str
) -> None:
    with pytest.raises(WireError):
        kind(host, 1080)
    with pytest.raises(WireError, match="port"):
        kind("proxy.test", 0)


@pytest.mark.parametrize(
    ("host", "name", "authority"),
    [
        ("proxy.test", "proxy.test", "proxy.test"),
        ("proxy.test.", "proxy.test.", "proxy.test."),
        ("my_proxy", "my_proxy", "my_proxy"),
        ("bücher.test", "xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::1]", "2001:db8::1", "[2001:db8::1]"),
        ("2001:db8::1", "2001:db8::1", "[2001:db8::1]"),
        ("abc." * 63 + "abc", "abc." * 63 + "abc", "abc." * 63 + "abc"),
        ("abc." * 63 + "ab.", "abc." * 63 + "ab.", "abc." * 63 + "ab."),
    ],
)
@pytest.mark.parametrize("kind", [Socks4, Socks4a, Socks5, HttpConnect])
def test_a_proxy_is_named_as_one_connects_to_it(
    kind: type[Socks4 | Socks4a | Socks5 | HttpConnect], host: str, name: str, authority: str
) -> None:
    proxy = kind(host, 8080)
    assert proxy.host == name
    assert proxy.url.endswith(f"://{authority}:8080")
