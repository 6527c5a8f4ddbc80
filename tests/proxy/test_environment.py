"""The proxy of the environment: which variable counts, and who is excepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.proxy import (
    HttpConnect,
    Proxy,
    Socks4,
    Socks5,
    choose_from_environment,
)
from smtp_proto.wire import WireError
from tests.proxy.exchanges import CANARY

ORDER = ["smtp_proxy", "SMTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"]


def choose(environment: dict[str, str], host: str = "mx.test", port: int = 25) -> Proxy | None:
    return choose_from_environment(environment, host, port)


def excepted(no_proxy: str, host: str, port: int = 25) -> bool:
    return choose({"all_proxy": "socks5h://p", "no_proxy": no_proxy}, host, port) is None


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_that_is_not_empty_counts(first: int) -> None:
    environment = dict.fromkeys(ORDER[:first], "")
    environment |= {name: f"socks5h://{name}" for name in reversed(ORDER[first:])}
    assert choose(environment) == Socks5(ORDER[first], 1080)


@pytest.mark.parametrize(
    "environment", [{}, dict.fromkeys(ORDER, ""), {"http_proxy": "http://p", "HTTP_PROXY": "p"}]
)
def test_there_may_be_none(environment: dict[str, str]) -> None:
    assert choose(environment) is None


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("http://tim:pass@p:3128/", HttpConnect("p", 3128, "tim", "pass")),
        ("socks4://p", Socks4("p", 1080)),
        ("p:3128", HttpConnect("p", 3128)),
        ("tim:pass@p:3128", HttpConnect("p", 3128, "tim", "pass")),
        ("p", HttpConnect("p", 80)),
    ],
)
def test_a_value(value: str, proxy: Proxy) -> None:
    assert choose({"https_proxy": value}) == proxy


@pytest.mark.parametrize(
    "value", [f"socks://{CANARY}", f"tim:{CANARY}@", f"http://tim:{CANARY}@p/x", " ", "%"]
)
def test_a_value_that_is_no_proxy(value: str) -> None:
    with pytest.raises(WireError, match=r"^ALL_PROXY: ") as caught:
        choose({"ALL_PROXY": value})
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("environment", [{}, {"no_proxy": "*"}])
@pytest.mark.parametrize(("host", "port"), [("mx.test", 0), ("mx test", 25), ("127.1", 25)])
def test_what_is_no_destination(environment: dict[str, str], host: str, port: int) -> None:
    with pytest.raises(WireError):
        choose(environment, host, port)


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("*", "mx.test"),
        ("a, *", "192.0.2.1"),
        ("test", "mx.test"),
        ("mx.test", "mx.test"),
        ("MX.Test", "mx.tEST"),
        ("mx.test", "mx.test."),
        ("mx.test.", "mx.test"),
        ("mx.test", "a.mx.test"),
        (".mx.test", "mx.test"),
        (".mx.test", "a.b.mx.test"),
        ("*.mx.test", "a.mx.test"),
        ("a,mx.test", "mx.test"),
        ("a mx.test\tb", "mx.test"),
        (",, mx.test ,", "mx.test"),
        ("localhost", "localhost"),
        ("my_host", "my_host"),
        ("bücher.test", "mx.xn--bcher-kva.test"),
        ("xn--bcher-kva.test", "bücher.test"),
        ("mx.test:25", "mx.test"),
        ("mx.test:26 mx.test:25", "mx.test"),
        ("*.test:25", "mx.test"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:25", "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.255"),
        ("192.0.2.9/24", "192.0.2.1"),
        ("0.0.0.0/0", "192.0.2.1"),
        ("::1", "::1"),
        ("::1", "[::1]"),
        ("[::1]", "::1"),
        ("[::1]:25", "::1"),
        ("2001:db8::/32", "2001:db8:ffff::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
    ],
)
def test_excepted(no_proxy: str, host: str) -> None:
    assert excepted(no_proxy, host)


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", "mx.test"),
        (",", "mx.test"),
        (".", "mx.test"),
        ("*.", "mx.test"),
        ("mx.test", "amx.test"),
        ("mx.test", "test"),
        ("mx.test", "mx.test.evil"),
        ("x.test", "mx.test"),
        ("*x.test", "x.test"),
        ("m*.test", "mx.test"),
        ("mx.test:26", "mx.test"),
        ("mx.test:2", "mx.test"),
        ("mx.test:", "mx.test"),
        ("mx.test:" + "9" * 5000, "mx.test"),
        (":25", "mx.test"),
        ("*:25x", "mx.test"),
        ("mx.test/24", "mx.test"),
        ("mx test.", "a.mx.tes"),
        ("0.0.0.0/0", "mx.test"),
        ("::/0", "mx.test"),
        ("192.0.2.1", "192.0.2.10"),
        ("192.0.2", "192.0.2.1"),
        ("192.0.2.1:26", "192.0.2.1"),
        ("192.0.2.0/33", "192.0.2.1"),
        ("192.0.2.0/x", "192.0.2.1"),
        ("2.1", "192.0.2.1"),
        ("0.0.0.0/0", "::1"),
        ("::/0", "192.0.2.1"),
        ("[::1]:26", "::1"),
        ("::2", "::1"),
        ("2001:db8::/129", "2001:db8::1"),
    ],
    ids=lambda text: str(text)[:40],
)
def test_not_excepted(no_proxy: str, host: str) -> None:
    assert not excepted(no_proxy, host)


def test_small_letters_come_first() -> None:
    both = {"no_proxy": "a", "NO_PROXY": "mx.test", "all_proxy": "p"}
    assert choose(both) is not None
    assert choose(both | {"no_proxy": ""}) is None


@given(st.text(max_size=40), st.sampled_from(["mx.test", "192.0.2.1", "::1"]))
def test_any_text_may_stand_in_no_proxy(no_proxy: str, host: str) -> None:
    alone = [member for member in no_proxy.replace(",", " ").split() if member]
    assert excepted(no_proxy, host) == any(excepted(member, host) for member in alone)


def test_nothing_is_read_that_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ORDER:
        monkeypatch.setenv(name, "socks5h://p")
    assert choose({}) is None
