"""Proxy URLs: what they say, and what they may not say."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.proxy import HttpConnect, Proxy, Socks4, Socks4a, Socks5, parse_proxy
from smtp_proto.wire import WireError
from tests.proxy.exchanges import CANARY

CASES: list[tuple[str, Proxy]] = [
    ("socks4://p", Socks4("p", 1080)),
    ("socks4://tim@p:1", Socks4("p", 1, "tim")),
    ("socks4a://p", Socks4a("p", 1080)),
    ("socks4a://t%20m@p:65535/", Socks4a("p", 65535, "t m")),
    ("socks5://p", Socks5("p", 1080, resolve_here=True)),
    ("socks5://tim:pass@p:1", Socks5("p", 1, "tim", "pass", resolve_here=True)),
    ("socks5h://p/", Socks5("p", 1080)),
    ("socks5h://@p", Socks5("p", 1080)),
    ("socks5h://tim:pass@[::1]:1", Socks5("::1", 1, "tim", "pass")),
    ("socks5h://[2001:db8::1]", Socks5("2001:db8::1", 1080)),
    ("http://p", HttpConnect("p", 80)),
    ("http://tim:pass@p:3128", HttpConnect("p", 3128, "tim", "pass")),
    ("http://token:@p", HttpConnect("p", 80, "token", "")),
    ("http://tim:a:b@p", HttpConnect("p", 80, "tim", "a:b")),
    ("http://jörg:%C3%BC%25%40%2F%3a@p", HttpConnect("p", 80, "jörg", "ü%@/:")),
    ("https://p", HttpConnect("p", 443, tls=True)),
    ("https://tim:pass@192.0.2.1:1/", HttpConnect("192.0.2.1", 1, "tim", "pass", tls=True)),
    ("HTTPS://P.Test", HttpConnect("P.Test", 443, tls=True)),
    ("http://bücher.test", HttpConnect("xn--bcher-kva.test", 80)),
    ("http://my_proxy:00080", HttpConnect("my_proxy", 80)),
]


@pytest.mark.parametrize(("url", "proxy"), CASES)
def test_a_url(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(("url", "proxy"), CASES)
def test_the_url_of_a_proxy_has_no_credentials_and_else_all(url: str, proxy: Proxy) -> None:
    again = parse_proxy(proxy.url)
    assert "@" not in proxy.url
    assert (type(again), again.host, again.port) == (type(proxy), proxy.host, proxy.port)
    assert again.url == proxy.url
    assert again.resolves_names == proxy.resolves_names
    if "@" not in url:
        assert again == proxy


SCHEMES = "not one of socks4, socks4a, socks5, socks5h, http, https"
PATH = "a path, a query or a fragment"
HOST = "not host:port"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", SCHEMES),
        ("p", SCHEMES),
        ("p:3128", SCHEMES),
        ("http:p", SCHEMES),
        ("http:/p", SCHEMES),
        ("http://", SCHEMES),
        ("//p", SCHEMES),
        ("://p", SCHEMES),
        ("socks://p", SCHEMES),
        ("socks6://p", SCHEMES),
        ("ftp://p", SCHEMES),
        (" http://p", SCHEMES),
        ("http ://p", SCHEMES),
        (f"{CANARY}://p", SCHEMES),
        (f"tim:{CANARY}@p:3128", SCHEMES),
        ("http://p/path", PATH),
        ("http://p//", PATH),
        ("http://p?query", PATH),
        ("http://p/?query", PATH),
        ("http://p#fragment", PATH),
        (f"http://tim:{CANARY}/x@p", PATH),
        (f"http://tim:{CANARY}?x@p", PATH),
        (f"http://tim:{CANARY}#x@p", PATH),
        ("http:///", HOST),
        ("http://:80", HOST),
        ("http://p:", HOST),
        ("http://p:http", HOST),
        ("http://p:-1", HOST),
        ("http://p:+1", HOST),
        ("http://p:1 ", HOST),
        ("http://p:٨٠", HOST),
        ("http://p:123456", HOST),
        ("http://::1", HOST),
        ("http://::1:80", HOST),
        ("http://[::1", HOST),
        ("http://[::1]80", HOST),
        ("http://p[::1]", HOST),
        (f"http://tim:{CANARY}@", HOST),
        (f"http://tim:{CANARY}", HOST),
        (f"http://tim:{CANARY}@p:80:80", HOST),
        ("http://p:0", "port: 0 is not"),
        ("http://p:65536", "port: 65536 is not"),
        ("http://[p]", "not an IPv6 address"),
        ("http://[]", "not an IPv6 address"),
        ("http://p q", "Domain"),
        ("http://p\r\n", "Domain"),
        ("http://p\n.test", "Domain"),
        ("http://p%2etest", "Domain"),
        ("http://p\\q", "Domain"),
        ("http://0x7f.1", "neither a domain"),
        (f"http://t@m:{CANARY}@p", "%40"),
        (f"http://tim:{CANARY}@@p", "%40"),
        (f"http://tim:{CANARY}%@p", "%25"),
        (f"http://tim:{CANARY}%4@p", "%25"),
        (f"http://tim:{CANARY}%4g@p", "%25"),
        (f"http://%zz:{CANARY}@p", "%25"),
        ("http://tim@p", "password: it is missing"),
        ("socks5://tim@p", "password: it is missing"),
        ("socks5://tim:@p", "1 to 255"),
        (f"socks5h://:{CANARY}@p", "1 to 255"),
        (f"socks4://tim:{CANARY}@p", "SOCKS4 has no password"),
        ("socks4a://tim:@p", "SOCKS4 has no password"),
        (f"http://ti%3am:{CANARY}@p", "none with a colon"),
        *(
            (f"{scheme}://tim:{CANARY}{octet}@p", "control characters")
            for scheme in ("socks5", "socks5h", "http", "https")
            for octet in (
                "%0d",
                "%0A",
                "%00",
                "%7F",
                "%C2%85",
                "%ff",
                "%ED%A0%80",
                "\r\n",
                "\ud800",
            )
        ),
        *(
            (f"{scheme}://a{octet}b@p", "control characters")
            for scheme in ("socks4", "socks4a")
            for octet in ("%0d", "%0a", "%00", "\n")
        ),
    ],
    ids=ascii,
)
def test_what_is_no_proxy(url: str, why: str) -> None:
    with pytest.raises(WireError, match=why) as caught:
        parse_proxy(url)
    assert str(caught.value).isprintable()
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


@given(st.text(max_size=40), st.sampled_from(["", "http://", "socks5h://", "socks4://a@"]))
def test_any_text_is_a_proxy_or_a_wire_error(text: str, start: str) -> None:
    with contextlib.suppress(WireError):
        proxy = parse_proxy(start + text)
        assert proxy.codec("192.0.2.1", 25).start()
        assert parse_proxy(proxy.url).host == proxy.host


@given(*[st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)] * 2)
def test_credentials_are_read_as_they_were_written(username: str, password: str) -> None:
    def quoted(text: str) -> str:
        return "".join(f"%{octet:02X}" for octet in text.encode())

    url = f"socks5h://{quoted(username)}:{quoted(password)}@p"
    assert parse_proxy(url) == Socks5("p", 1080, username, password)
