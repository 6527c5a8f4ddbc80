"""OpenSettings: what goes together, and what does not.

Knows values. Must not know how a session is opened with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

import pytest

from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security, Way, ways
from smtp_proto.flow.serve_settings import ServeSettings
from smtp_proto.proxy import OriginalConnection, ProxyHeader, Socks5
from smtp_proto.sasl import Credentials, Policy
from smtp_proto.wire import WireError

PROXY = Socks5("proxy.test", 1080, "alice", "canary-77aa")
ORIGINAL = OriginalConnection(ip_address("203.0.113.5"), 40_000, ip_address("192.0.2.1"), 587)


def test_a_host_is_all_it_takes() -> None:
    settings = OpenSettings("mail.test")
    assert settings.security is Security.AUTO
    assert settings.port is None
    assert settings.requires_tls


@pytest.mark.parametrize("security", Security)
def test_what_requires_tls(security: Security) -> None:
    required = {Security.IMPLICIT, Security.STARTTLS, Security.AUTO}
    assert OpenSettings("mail.test", security=security).requires_tls is (security in required)


def test_auto_requires_tls_unless_it_is_told_otherwise() -> None:
    assert not OpenSettings("mail.test", allow_cleartext=True).requires_tls


@pytest.mark.parametrize("security", [mode for mode in Security if mode is not Security.AUTO])
def test_leave_for_clear_text_is_for_auto(security: Security) -> None:
    with pytest.raises(
        ValueError, match=f"allow_cleartext is for security 'auto'; '{security.value}'"
    ):
        OpenSettings("mail.test", security=security, allow_cleartext=True)


@pytest.mark.parametrize("security", ["starttls", "none", None, True, object()])
def test_the_name_of_a_mode_is_no_mode(security: object) -> None:
    serving = partial(ServeSettings, hostname="mail.test", nonce=bytes)
    makes: tuple[Callable[..., object], ...] = (partial(OpenSettings, "mail.test"), serving)
    for make in makes:
        with pytest.raises(TypeError, match=r"security is one of Security\.NONE"):
            make(security=security)


def test_a_word_for_no_is_no_flag() -> None:
    makes: list[tuple[str, Callable[..., object]]] = [
        ("allow_cleartext", partial(OpenSettings, "mail.test")),
        ("allow_cleartext", Policy),
        ("allow_cleartext_auth", partial(ServeSettings, hostname="mail.test", nonce=bytes)),
        ("require_auth", partial(ServeSettings, hostname="mail.test", nonce=bytes)),
    ]
    for name, make in makes:
        for value in ("no", 1, None):
            with pytest.raises(TypeError, match=f"{name} is True or False"):
                make(**{name: value})


@pytest.mark.parametrize("host", ["", "two words", "a\r\nb", "a\0b", "mail.test\x1b"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(WireError, match="host: neither a name nor an IP address") as caught:
        OpenSettings(host)
    assert "\\\\" not in str(caught.value), "escaped once"


@pytest.mark.parametrize("port", [0, -1, 65_536, "25", 2.5])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(WireError, match="port: .* is not 1 to 65535"):
        OpenSettings("mail.test", port)


@pytest.mark.parametrize("name", ["tls", "proxy_tls"])
def test_a_factory_that_is_none(name: str) -> None:
    make: Callable[..., object] = OpenSettings
    with pytest.raises(TypeError, match=f"^{name} is a callable that makes the TLS layer"):
        make("mail.test", **{name: object()})
    with pytest.raises(TypeError, match="host is a name or an IP address as str, not a bytes"):
        make(b"mail.test")


@pytest.mark.parametrize("name", ["", "two words", "a\r\nQUIT"])
def test_a_name_for_ehlo_that_is_none(name: str) -> None:
    with pytest.raises(WireError):
        OpenSettings("mail.test", local_hostname=name)


@pytest.mark.parametrize("host", ["mail.test\r\nX: y", "mail test", "", "a." * 200, "0x7f.1"])
def test_a_host_is_looked_at_where_a_proxy_is_told_of_it(host: str) -> None:
    with pytest.raises(WireError):
        OpenSettings(host, proxies=(PROXY,))


@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_a_port_is_looked_at_where_a_proxy_is_told_of_it(port: int) -> None:
    with pytest.raises(WireError):
        OpenSettings("mail.test", port, proxies=(PROXY,))


@pytest.mark.parametrize("port", [None, 1, 65_535])
def test_a_port_that_is_one(port: int | None) -> None:
    assert OpenSettings("mail.test", port, proxies=(PROXY,)).port == port


@pytest.mark.parametrize("header", [ProxyHeader(), ProxyHeader(ORIGINAL)])
def test_a_proxy_header_of_either_version(header: ProxyHeader) -> None:
    for octets in (header.encode_v1(), header.encode_v2()):
        assert OpenSettings("mail.test", proxy_header=octets).proxy_header == octets


@pytest.mark.parametrize(
    "octets",
    [
        b"PROXY",
        b"PROXY TCP4\r\n",
        b"EHLO mail.test\r\n",
        ProxyHeader(ORIGINAL).encode_v2()[:-1],
        ProxyHeader(ORIGINAL).encode_v1().rstrip(),
    ],
)
def test_a_proxy_header_that_is_none(octets: bytes) -> None:
    with pytest.raises(ValueError, match="proxy_header: make it with ProxyHeader"):
        OpenSettings("mail.test", proxy_header=octets)


@pytest.mark.parametrize("more", [b"MAIL FROM:<>\r\n", b"\0", ProxyHeader().encode_v1()])
def test_nothing_is_smuggled_behind_a_proxy_header(more: bytes) -> None:
    for octets in (ProxyHeader(ORIGINAL).encode_v1(), ProxyHeader(ORIGINAL).encode_v2()):
        with pytest.raises(ValueError, match="something behind the header"):
            OpenSettings("mail.test", proxy_header=octets + more)


def test_no_proxy_leads_to_a_unix_socket() -> None:
    with pytest.raises(ValueError, match="no proxy leads"):
        OpenSettings("localhost", 25, Security.NONE, unix_path="/run/lmtp", proxies=(PROXY,))


def test_a_unix_socket_has_no_port_to_guess_by() -> None:
    with pytest.raises(ValueError, match="say which security"):
        OpenSettings("localhost", unix_path="/run/lmtp")
    for port, security in ((None, Security.NONE), (587, Security.AUTO), (None, Security.MANUAL)):
        OpenSettings("localhost", port, security, unix_path="/run/lmtp")


def test_no_secret_is_shown() -> None:
    settings = OpenSettings(
        "mail.test", proxies=(PROXY,), credentials=Credentials("alice", "canary-77aa")
    )
    assert "canary" not in repr(settings)
    assert replace(settings, credentials=None).credentials is None


def test_a_repr_can_be_read() -> None:
    assert "mail.test" in repr(OpenSettings("mail.test"))
    assert "SCRAM" not in repr(OpenSettings("mail.test"))


# --- The ways of AUTO ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (None, (Way(465, Security.IMPLICIT), Way(587, Security.STARTTLS))),
        (465, (Way(465, Security.IMPLICIT), Way(465, Security.STARTTLS))),
        (25, (Way(25, Security.STARTTLS),)),
        (587, (Way(587, Security.STARTTLS, probe=True), Way(587, Security.IMPLICIT))),
        (2525, (Way(2525, Security.STARTTLS, probe=True), Way(2525, Security.IMPLICIT))),
    ],
)
def test_the_ways(port: int | None, expected: tuple[Way, ...]) -> None:
    assert ways(port) == expected
