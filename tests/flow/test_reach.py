"""reach: from settings to a stream that leads to the server, through proxies of each kind.

Knows what each proxy is asked and answers. Must not know how the server is spoken to.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from ipaddress import ip_address
from typing import TypeVar

import pytest
import trustme
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from smtp_proto.flow.actions import Action, Resolve, Send
from smtp_proto.flow.close import CloseSession
from smtp_proto.flow.errors import (
    CertificateError,
    ConnectError,
    ConnectionLost,
    PermanentError,
    ProtocolViolation,
    ProxyError,
    SMTPError,
    SMTPTimeout,
    TLSError,
)
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.timeouts import Phase, Timeouts, TotalTimeout
from smtp_proto.flow.tls import ClientTLSFactory, TLSLayer
from smtp_proto.proxy import (
    HttpConnect,
    OriginalConnection,
    Proxy,
    ProxyHeader,
    Socks4,
    Socks4a,
    Socks5,
    parse_proxy,
)
from smtp_proto.wire import WireError
from tests.flow.scripted import Network, Server, Transcript, play, settings
from tests.flow.stack import Encrypting, Says, Tunnel, serving_as, trusting
from tests.flow.test_tls import within

E = TypeVar("E", bound=SMTPError)

PROXY = "proxy.test"
HOST = "mail.test"
CANARY = "canary-1b9a"
DIRECT = "S: 220 mail.test ESMTP\nC: EHLO [192.0.2.7]\nS: 250 mail.test\n"
HELLO = DIRECT.replace("192.0.2.7", "127.0.0.1")  # no proxy lets the local address be seen
SIZES = st.lists(st.integers(1, 9), max_size=60)

ADDRESS = b"\xc6\x33\x64\x09"  # 198.51.100.9
ADDRESSES = {HOST: ["198.51.100.9", "198.51.100.10"]}
PORT = b"\x00\x19"


@dataclass(frozen=True)
class Kind:
    """A proxy, and the octets of its tunnel to mail.test port 25.

    `exchanges`: what it is asked, and answers. `refusal`: its last answer where it does not make
    the tunnel, with the `code` in it. `resolves`: whether the name is resolved here.
    """

    proxy: Proxy
    exchanges: tuple[tuple[bytes, bytes], ...]
    refusal: bytes
    code: int
    resolves: bool = False

    @property
    def answers(self) -> bytes:
        return b"".join(answer for _, answer in self.exchanges)

    @property
    def tls(self) -> bool:
        return isinstance(self.proxy, HttpConnect) and self.proxy.tls

    def tunnel(self, behind: Server, sizes: Iterable[int] = (), *, glued: bool = False) -> Tunnel:
        return Tunnel(self.exchanges, behind, sizes, glued=glued)

    def refusing(self, refusal: bytes, behind: Server) -> Tunnel:
        """It answers at last in another way."""
        *first, (question, _) = self.exchanges
        return Tunnel([*first, (question, refusal)], behind)


GRANTED = b"\x00\x5a" + bytes(6)
GREETED = (b"\x05\x01\x00", b"\x05\x00")
LOGGED_IN = (
    (b"\x05\x02\x00\x02", b"\x05\x02"),
    (b"\x01\x05alice\x0b" + CANARY.encode(), b"\x01\x00"),
)
SUCCEEDED = b"\x05\x00\x00\x01" + bytes(6)
NAME = bytes([len(HOST)]) + HOST.encode()
ASKED = b"CONNECT mail.test:25 HTTP/1.1\r\nHost: mail.test:25\r\n"
BASIC = b"Proxy-Authorization: Basic YWxpY2U6Y2FuYXJ5LTFiOWE=\r\n"
MADE = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\n"

KINDS = {
    "socks4": Kind(
        Socks4(PROXY, 1080, "alice"),
        ((b"\x04\x01" + PORT + ADDRESS + b"alice\0", GRANTED),),
        b"\x00\x5b" + bytes(6),
        91,
        resolves=True,
    ),
    "socks4a": Kind(
        Socks4a(PROXY, 1080),
        ((b"\x04\x01" + PORT + b"\0\0\0\1\0mail.test\0", GRANTED),),
        b"\x00\x5c" + bytes(6),
        92,
    ),
    "socks5": Kind(
        Socks5(PROXY, 1080, resolve_here=True),
        (GREETED, (b"\x05\x01\x00\x01" + ADDRESS + PORT, SUCCEEDED)),
        b"\x05\x05",
        5,
        resolves=True,
    ),
    "socks5h": Kind(
        Socks5(PROXY, 1080, "alice", CANARY),
        (*LOGGED_IN, (b"\x05\x01\x00\x03" + NAME + PORT, SUCCEEDED)),
        b"\x05\x02",
        2,
    ),
    "http": Kind(
        HttpConnect(PROXY, 8080, "alice", CANARY),
        ((ASKED + BASIC + b"\r\n", MADE),),
        FORBIDDEN,
        403,
    ),
    "https": Kind(
        HttpConnect(PROXY, 8443, "alice", CANARY, tls=True),
        ((ASKED + BASIC + b"\r\n", MADE),),
        FORBIDDEN,
        403,
    ),
}
CLEAR_KINDS = {name: kind for name, kind in KINDS.items() if not kind.tls}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(params=CLEAR_KINDS)
def clear_kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def outer(authority: trustme.CA) -> ssl.SSLContext:
    return serving_as(authority, PROXY)


@pytest.fixture(scope="module")
def inner(authority: trustme.CA) -> ssl.SSLContext:
    return serving_as(authority, HOST)


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ClientTLSFactory:
    return trusting(authority)


@pytest.fixture(scope="module")
def build(outer: ssl.SSLContext) -> Callable[[Kind, Server], Server]:
    """Put TLS around a proxy that has it."""

    def build(kind: Kind, server: Server) -> Server:
        return Encrypting(outer, server) if kind.tls else server

    return build


def fail(error: type[E], opening: OpenSettings, *ends: Server | OSError) -> E:
    network = Network(*ends, addresses=ADDRESSES)
    with pytest.raises(error) as caught:
        play(OpenSession(opening), network)
    network.finish()
    return caught.value


# --- Every kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(), (1,) * 10_000])
def test_each_kind_makes_a_tunnel(
    kind: Kind, build: Callable[[Kind, Server], Server], tls: ClientTLSFactory, sizes: Iterable[int]
) -> None:
    server = Transcript(HELLO)
    network = Network(build(kind, kind.tunnel(server, sizes)), addresses=ADDRESSES)
    session = play(OpenSession(settings(proxies=(kind.proxy,), proxy_tls=tls)), network)
    assert session.usable
    assert session.tls is None, "TLS with the proxy is no TLS with the server"
    assert [(made.host, made.port) for made in network.connects] == [(PROXY, kind.proxy.port)]
    server.finish()
    phases = [timer.phase for timer in network.timers]
    assert phases == [Phase.CONNECT, Phase.PROXY, Phase.GREETING, Phase.EHLO]


def test_only_who_is_told_to_resolves_the_name_here(
    kind: Kind, build: Callable[[Kind, Server], Server], tls: ClientTLSFactory
) -> None:
    network = Network(build(kind, kind.tunnel(Transcript(HELLO))), addresses=ADDRESSES)
    play(OpenSession(settings(proxies=(kind.proxy,), proxy_tls=tls)), network)
    asked = [(action.host, action.ipv4_only) for action in network.resolved]
    assert asked == ([(HOST, isinstance(kind.proxy, Socks4))] if kind.resolves else [])


@pytest.mark.parametrize("name", ["socks4", "socks5"])
@pytest.mark.parametrize("host", ["198.51.100.9", "[2001:db8::9]", "2001:db8::9"])
def test_an_address_is_not_resolved(name: str, host: str) -> None:
    if name == "socks4" and ":" in host:
        error = fail(ProxyError, settings(proxies=(KINDS[name].proxy,), host=host), Says())
        assert "SOCKS4 cannot carry the address" in str(error)
        return
    flow = OpenSession(settings(proxies=(KINDS[name].proxy,), host=host))
    flow.next_action()
    flow.connected()
    assert isinstance(flow.next_action(), Send), "the proxy is spoken to at once"


def test_a_name_is_resolved_in_a_labels() -> None:
    network = Network(Says(), addresses={})
    with pytest.raises(ProxyError):
        play(OpenSession(settings(proxies=(KINDS["socks5"].proxy,), host="bücher.test")), network)
    assert [action.host for action in network.resolved] == ["xn--bcher-kva.test"]


@pytest.mark.parametrize("name", ["socks4", "socks5"])
def test_a_name_that_nobody_knows(name: str) -> None:
    network = Network(Says())
    with pytest.raises(ProxyError, match="mail.test.*Name or service not known") as caught:
        play(OpenSession(settings(proxies=(KINDS[name].proxy,))), network)
    assert caught.value.proxy == KINDS[name].proxy.url
    assert caught.value.code is None


def test_time_runs_out_while_a_name_is_resolved() -> None:
    flow = OpenSession(settings(proxies=(KINDS["socks5"].proxy,), timeouts=Timeouts(proxy=7)))
    flow.next_action()
    flow.connected()
    action = flow.next_action()
    assert isinstance(action, Resolve)
    flow.timed_out(whole=False)
    with pytest.raises(SMTPTimeout, match="after 7 s in phase proxy: nothing had come"):
        flow.next_action()


# --- The tunnel's edge ---------------------------------------------------------------------------


@given(st.sampled_from(sorted(CLEAR_KINDS)), SIZES)
@hypothesis_settings(max_examples=150)
def test_a_greeting_glued_to_the_answer_however_it_is_cut(name: str, sizes: list[int]) -> None:
    kind = KINDS[name]
    server = Transcript(HELLO)
    network = Network(kind.tunnel(server, sizes, glued=True), addresses=ADDRESSES)
    session = play(OpenSession(settings(proxies=(kind.proxy,))), network)
    assert session.greeting is not None
    assert session.greeting.text == "mail.test ESMTP"
    server.finish()


def test_a_greeting_glued_to_the_answer_is_seen_by_auto(clear_kind: Kind) -> None:
    server = Transcript(HELLO)
    network = Network(clear_kind.tunnel(server, glued=True), addresses=ADDRESSES)
    opening = settings(proxies=(clear_kind.proxy,), security=Security.AUTO, allow_cleartext=True)
    with pytest.raises(AssertionError, match="where .* is due"):  # another port, as 25 is not asked
        play(OpenSession(replace(opening, port=2525)), network)
    network = Network(clear_kind.tunnel(server, glued=True), addresses=ADDRESSES)
    assert play(OpenSession(opening), network).usable


def test_clear_text_glued_to_the_answer_where_tls_is_to_begin(
    clear_kind: Kind, tls: ClientTLSFactory
) -> None:
    server = Transcript("S: 220 mail.test ESMTP\n")
    opening = settings(proxies=(clear_kind.proxy,), security=Security.IMPLICIT, tls=tls)
    error = fail(TLSError, opening, clear_kind.tunnel(server, glued=True))
    assert "speaks clear text" in str(error)
    assert not server.sent


def test_tls_with_the_server_through_each_kind(
    kind: Kind,
    build: Callable[[Kind, Server], Server],
    inner: ssl.SSLContext,
    tls: ClientTLSFactory,
) -> None:
    """With an https proxy: TLS in TLS. `Tunnel` sees to it that nothing is said too soon."""
    inside = Transcript(HELLO + "C: QUIT\nS: 221 bye\n")
    secured = Encrypting(inner, inside)
    network = Network(build(kind, kind.tunnel(secured)), addresses=ADDRESSES)
    opening = settings(proxies=(kind.proxy,), security=Security.IMPLICIT, tls=tls, proxy_tls=tls)
    session = play(OpenSession(opening), network)
    assert session.tls is not None
    assert session.tls.server_hostname == HOST
    play(CloseSession(session), network)
    inside.finish()
    assert secured.closed


# --- Chains --------------------------------------------------------------------------------------


def leading_to(kind: Kind, stop: tuple[str, int] | None) -> Kind:
    """The same proxy, asked for another stop."""
    if stop is None:
        return kind
    host, port = stop
    replacements = [
        (NAME + PORT, bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")),
        (
            PORT + b"\0\0\0\1\0mail.test\0",
            port.to_bytes(2, "big") + b"\0\0\0\1\0%b\0" % host.encode(),
        ),
        (b"mail.test:25", b"%b:%d" % (host.encode(), port)),
        (PORT + ADDRESS, port.to_bytes(2, "big") + ADDRESS),
        (ADDRESS + PORT, ADDRESS + port.to_bytes(2, "big")),
    ]
    exchanges = tuple(
        (reduce(lambda octets, pair: octets.replace(*pair), replacements, question), answer)
        for question, answer in kind.exchanges
    )
    return replace(kind, exchanges=exchanges)


@pytest.mark.parametrize("last", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_chains_of_two_and_three(
    first: str,
    last: str,
    build: Callable[[Kind, Server], Server],
    inner: ssl.SSLContext,
    tls: ClientTLSFactory,
) -> None:
    for names in ((first, last), (first, "socks5h", last), (first, "https", last)):
        kinds = [KINDS[name] for name in names]
        stops = [(PROXY, kind.proxy.port) for kind in kinds[1:]]
        inside = Transcript(HELLO)
        server: Server = Encrypting(inner, inside)
        for kind, stop in zip(reversed(kinds), (None, *reversed(stops)), strict=True):
            server = build(kind, leading_to(kind, stop).tunnel(server))
        network = Network(server, addresses={PROXY: ["198.51.100.9"], **ADDRESSES})
        opening = settings(
            proxies=tuple(kind.proxy for kind in kinds),
            security=Security.IMPLICIT,
            tls=tls,
            proxy_tls=tls,
        )
        assert play(OpenSession(opening), network).usable
        inside.finish()
        assert [(made.host, made.port) for made in network.connects] == [
            (PROXY, kinds[0].proxy.port)
        ]
        phases = [timer.phase for timer in network.timers]
        assert phases.count(Phase.PROXY) == len(kinds), "each has its own time"


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_which_proxy_of_a_chain_is_too_slow(silent: int) -> None:
    first, second = KINDS["socks5h"], KINDS["http"]
    last = parse_proxy("socks5h://ada:canary@proxy.test:9")
    server: Server = Says(TimeoutError())
    for kind, stop in [(first, (PROXY, 8080)), (second, (PROXY, 9))][:silent][::-1]:
        server = leading_to(kind, stop).tunnel(server)
    error = fail(SMTPTimeout, settings(proxies=(first.proxy, second.proxy, last)), server)
    slow = [first.proxy.url, second.proxy.url, "socks5h://proxy.test:9"][silent]
    assert str(error).startswith(f"{slow}: timed out after 60 s in phase proxy"), "no password"


def test_which_proxy_of_a_chain_refused() -> None:
    first, second = KINDS["socks5h"], KINDS["http"]
    server = leading_to(first, (PROXY, 8080)).tunnel(second.refusing(FORBIDDEN, Says()))
    error = fail(ProxyError, settings(proxies=(first.proxy, second.proxy)), server)
    assert error.proxy == "http://proxy.test:8080"
    assert error.code == 403


@pytest.mark.parametrize(
    "says", [b"\x05\x00\x05\x05", b"", ConnectionResetError(104, "Connection reset by peer")]
)
def test_which_stop_of_a_chain_cannot_be_reached(says: bytes | OSError) -> None:
    first, second = KINDS["socks5h"], KINDS["socks5"]
    opening = settings(proxies=(first.proxy, second.proxy))
    error = fail(ProxyError, opening, Says(says))
    assert str(error).startswith(f"{first.proxy.url}, asked for proxy.test")
    assert ", the next proxy: " in str(error)
    server = leading_to(first, (PROXY, 1080)).tunnel(Says(says))
    error = fail(ProxyError, opening, server)
    assert str(error).startswith(f"{second.proxy.url}, asked for 198.51.100.9")
    assert ", the server: " in str(error)


# --- What can go wrong ---------------------------------------------------------------------------


def test_a_refusal_has_a_code(
    kind: Kind, build: Callable[[Kind, Server], Server], tls: ClientTLSFactory
) -> None:
    server = build(kind, kind.refusing(kind.refusal, Says()))
    error = fail(ProxyError, settings(proxies=(kind.proxy,), proxy_tls=tls), server)
    assert error.code == kind.code
    assert error.proxy == kind.proxy.url
    assert str(error).startswith(kind.proxy.url)
    assert error.phase is Phase.PROXY


ENDS: dict[str, tuple[bytes | OSError, type[SMTPError]]] = {
    "EOF": (b"", ProxyError),
    "reset": (ConnectionResetError(104, "Connection reset by peer"), ProxyError),
    "time": (TimeoutError(), SMTPTimeout),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_stream_ends_at_each_point(
    kind: Kind, build: Callable[[Kind, Server], Server], tls: ClientTLSFactory, end: str
) -> None:
    last, expected = ENDS[end]
    opening = settings(proxies=(kind.proxy,), proxy_tls=tls)
    for number, (_, answer) in enumerate(kind.exchanges):
        for place in range(len(answer)):
            exchanges = [
                *kind.exchanges[:number],
                (kind.exchanges[number][0], answer[:place]),
            ]
            nowhere = Says(last)
            server = build(kind, Tunnel(exchanges, nowhere))
            error = fail(expected, opening, server)
            assert error.phase is Phase.PROXY
            assert not nowhere.sent, "nothing is said before the tunnel is there"
            if isinstance(error, ProxyError):
                assert error.proxy == kind.proxy.url
                assert error.code is None
            else:
                assert str(error).startswith(f"{kind.proxy.url}: timed out"), "which one it was"


@pytest.mark.parametrize("octets", [b"220 mail.test ESMTP\r\n", b"\x15\x03\x01\x00\x02", b"\xff"])
def test_somebody_else_is_there(clear_kind: Kind, octets: bytes) -> None:
    error = fail(ProxyError, settings(proxies=(clear_kind.proxy,)), Says(octets))
    assert clear_kind.proxy.url in str(error)


class Unwritable(Says):
    """The client's write fails."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, data: bytes) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("broken", "expected"),
    [(BrokenPipeError(32, "Broken pipe"), ProxyError), (TimeoutError(), SMTPTimeout)],
)
def test_the_proxy_cannot_be_written_to(
    clear_kind: Kind, broken: OSError, expected: type[SMTPError]
) -> None:
    error = fail(expected, settings(proxies=(clear_kind.proxy,)), Unwritable(broken))
    assert error.phase is Phase.PROXY


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (ConnectionRefusedError(111, "Connection refused"), ConnectError),
        (OSError("no route"), ConnectError),
        (TimeoutError(), SMTPTimeout),
    ],
)
def test_the_proxy_is_not_there(failure: OSError, expected: type[SMTPError]) -> None:
    error = fail(expected, settings(proxies=(KINDS["socks5h"].proxy,)), failure)
    assert error.phase is Phase.CONNECT
    if expected is ConnectError:
        assert "cannot connect to socks5h://proxy.test:1080: " in str(error), "it is the proxy"
    else:
        assert str(error).startswith("socks5h://proxy.test:1080: timed out after ")


def test_the_server_is_not_there() -> None:
    error = fail(ConnectError, settings(), ConnectionRefusedError(111, "Connection refused"))
    assert str(error) == "cannot connect to mail.test port 25: Connection refused"
    there = settings(unix_path="/run/lmtp")
    error = fail(ConnectError, there, FileNotFoundError(2, "No such file or directory"))
    assert str(error) == "cannot connect to /run/lmtp: No such file or directory"


# --- TLS with the proxy --------------------------------------------------------------------------


def test_the_certificate_of_the_proxy_is_verified(
    authority: trustme.CA, tls: ClientTLSFactory
) -> None:
    kind = KINDS["https"]
    nowhere = Says()
    stranger = Encrypting(serving_as(authority, "other.test"), kind.tunnel(nowhere))
    error = fail(TLSError, settings(proxies=(kind.proxy,), proxy_tls=tls), stranger)
    assert str(error).startswith("https://proxy.test:8443: ")
    assert "another name" in str(error)
    assert not nowhere.sent


def test_an_https_proxy_without_anything_to_make_tls() -> None:
    error = fail(TLSError, settings(proxies=(KINDS["https"].proxy,)), Says())
    assert "https://proxy.test:8443: TLS with proxy.test was asked for" in str(error)


def test_the_trust_in_the_server_is_not_that_in_the_proxy(
    outer: ssl.SSLContext, inner: ssl.SSLContext, tls: ClientTLSFactory
) -> None:
    """Two layers, two factories: neither name nor authority of one does for the other."""
    other = trustme.CA()
    kind = KINDS["https"]
    server = Encrypting(outer, kind.tunnel(Encrypting(inner, Transcript(HELLO))))
    opening = settings(
        proxies=(kind.proxy,), security=Security.IMPLICIT, tls=trusting(other), proxy_tls=tls
    )
    error = fail(TLSError, opening, server)
    assert "certificate is refused for mail.test" in str(error)
    assert "https://" not in str(error)


class Broken:
    """A factory of TLS whose layers say that the certificate is bad."""

    def __call__(self, server_hostname: str) -> TLSLayer:
        raise CertificateError(f"bad certificate of {server_hostname}")


def test_a_bad_certificate_of_a_proxy_keeps_its_kind() -> None:
    error = fail(
        CertificateError, settings(proxies=(KINDS["https"].proxy,), proxy_tls=Broken()), Says()
    )
    assert str(error).startswith("https://proxy.test:8443: bad certificate of proxy.test; ")
    assert "proxy_tls" in str(error)


@pytest.mark.parametrize("whole", [False, True])
def test_time_runs_out_in_the_handshake_with_the_proxy(tls: ClientTLSFactory, whole: bool) -> None:
    timeouts = Timeouts(proxy=7, total=9)
    error = fail(
        SMTPTimeout,
        settings(proxies=(KINDS["https"].proxy,), proxy_tls=tls, timeouts=timeouts),
        Says(b"\x16\x03\x03", TotalTimeout(9) if whole else TimeoutError()),
    )
    assert (error.phase, error.whole, error.received) == (Phase.PROXY, whole, 3)
    assert error.seconds == (9 if whole else 7)
    assert str(error).startswith("https://proxy.test:8443: timed out after ")


@pytest.mark.parametrize("whole", [False, True])
def test_time_runs_out_in_the_tunnel(kind: Kind, whole: bool) -> None:
    if kind.tls or kind.resolves:
        return
    timeouts = Timeouts(proxy=7, total=9)
    error = fail(
        SMTPTimeout,
        settings(proxies=(kind.proxy,), timeouts=timeouts),
        Says(kind.answers[:1], TotalTimeout(9) if whole else TimeoutError()),
    )
    assert (error.phase, error.whole, error.received) == (Phase.PROXY, whole, 1)


# --- Configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "mail.test\r\nEHLO x",
        "mail.test\n",
        "mail test",
        "mail\0test",
        "",
        "a" * 64 + ".test",
        "x." * 130 + "test",
        "0x7f.1",
        "[mail.test]",
        "fe80::1%eth0",
    ],
)
def test_a_host_that_no_proxy_can_be_asked_for(kind: Kind, host: str) -> None:
    with pytest.raises(WireError):
        settings(proxies=(kind.proxy,), host=host)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_that_no_proxy_can_be_asked_for(kind: Kind, port: int) -> None:
    with pytest.raises(WireError):
        settings(proxies=(kind.proxy,), port=port)


# --- The PROXY header ----------------------------------------------------------------------------


ORIGINAL = OriginalConnection(ip_address("203.0.113.5"), 40_000, ip_address("192.0.2.1"), 587)
HEADERS = [
    encode(header)
    for header in (ProxyHeader(), ProxyHeader(ORIGINAL))
    for encode in (ProxyHeader.encode_v1, ProxyHeader.encode_v2)
]


class Headed(Says):
    """Wants a PROXY header, and is then what is behind it."""

    def __init__(self, header: bytes, behind: Server) -> None:
        super().__init__()
        self.header = header
        self.behind = behind

    def write(self, data: bytes) -> None:
        due, self.header = self.header[: len(data)], self.header[len(data) :]
        assert data.startswith(due), f"{data!r} where {due!r} is due"
        if data != due:
            self.behind.write(data[len(due) :])

    def read(self) -> bytes:
        assert not self.header, "who waits before the header is sent waits for ever"
        return self.behind.read()


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("proxied", [False, True])
def test_the_proxy_header_comes_before_tls(
    inner: ssl.SSLContext, tls: ClientTLSFactory, header: bytes, proxied: bool
) -> None:
    inside = Transcript(HELLO if proxied else DIRECT)
    server: Server = Headed(header, Encrypting(inner, inside))
    proxies: tuple[Proxy, ...] = ()
    if proxied:
        server = KINDS["socks5h"].tunnel(server)
        proxies = (KINDS["socks5h"].proxy,)
    opening = settings(proxies=proxies, security=Security.IMPLICIT, tls=tls, proxy_header=header)
    assert play(OpenSession(opening), server).usable
    inside.finish()


def test_the_proxy_header_comes_before_the_greeting() -> None:
    inside = Transcript(DIRECT)
    opening = settings(proxy_header=HEADERS[0])
    assert play(OpenSession(opening), Headed(HEADERS[0], inside)).usable


@pytest.mark.parametrize(
    ("broken", "expected"),
    [(BrokenPipeError(32, "Broken pipe"), ConnectError), (TimeoutError(), SMTPTimeout)],
)
def test_the_proxy_header_cannot_be_written(broken: OSError, expected: type[SMTPError]) -> None:
    error = fail(expected, settings(proxy_header=HEADERS[0]), Unwritable(broken))
    assert error.phase is Phase.CONNECT


GREETED_220, REFUSED_500 = b"220 mail.test\r\n", b"500 what?\r\n"
NOT_EXPECTING: dict[type[SMTPError], tuple[Security, list[bytes]]] = {
    ProtocolViolation: (Security.NONE, [GREETED_220 + REFUSED_500]),
    PermanentError: (Security.NONE, [GREETED_220, REFUSED_500, REFUSED_500]),
    ConnectionLost: (Security.NONE, [GREETED_220]),
    TLSError: (Security.IMPLICIT, [GREETED_220]),
}
"""What comes of a server that takes the PROXY header for something else, and what it says."""


@pytest.mark.parametrize("header", [b"", HEADERS[0]])
@pytest.mark.parametrize("kind", NOT_EXPECTING)
def test_a_proxy_header_that_nobody_expects(
    kind: type[SMTPError], header: bytes, tls: ClientTLSFactory
) -> None:
    security, things = NOT_EXPECTING[kind]
    server = Says(*things)
    opening = settings(security=security, tls=tls, proxy_header=header)
    error = fail(kind, opening, Headed(header, server))
    assert str(error).endswith("; does the server expect the PROXY header?") is bool(header)
    # It may be the header that was refused: the answer to EHLO must not be taken for that to HELO.
    assert (b"HELO" in server.sent) is (kind is PermanentError and not header)


def test_who_shows_a_certificate_expected_the_proxy_header(
    inner: ssl.SSLContext, tls: ClientTLSFactory
) -> None:
    opening = settings(
        security=Security.IMPLICIT, tls=tls, server_hostname="other.test", proxy_header=HEADERS[0]
    )
    error = fail(CertificateError, opening, Headed(HEADERS[0], Encrypting(inner, Says())))
    assert "PROXY" not in str(error)


# --- Secrets -------------------------------------------------------------------------------------


SECRETS = (CANARY, "YWxpY2U6Y2FuYXJ5LTFiOWE=")


def shows_a_secret(root: object) -> Iterator[str]:
    for thing in within(root):
        for text in (repr(thing), str(thing)):
            if any(secret in text for secret in SECRETS):
                yield text


@pytest.mark.parametrize("name", ["socks5h", "http", "https"])
def test_the_password_of_a_proxy_is_shown_nowhere(
    name: str, build: Callable[[Kind, Server], Server], tls: ClientTLSFactory
) -> None:
    kind = KINDS[name]
    opening = settings(proxies=(kind.proxy,), proxy_tls=tls)
    assert CANARY not in repr(opening)
    quoting = b"HTTP/1.1 407 " + BASIC.strip() + b"\r\n" if "http" in name else b"\x05\x09"
    ends: list[Server] = [
        kind.tunnel(Transcript(HELLO)),
        kind.tunnel(Transcript("S: 554 no\nC: QUIT\n")),
        kind.tunnel(Says()),
        kind.refusing(quoting, Says()),
        kind.refusing(b"", Says()),
        kind.refusing(b"?", Says()),
        kind.refusing(b"", Says(TimeoutError())),
        kind.refusing(b"", Says(ConnectionResetError(104, "Connection reset by peer"))),
    ]
    for end in ends:
        actions: list[Action] = []
        flow = OpenSession(opening)
        told: list[object] = []
        try:
            told.append(play(flow, Network(build(kind, end)), seen=actions))
        except SMTPError as error:
            told.append(error)
        told += map(repr, actions)
        assert not list(shows_a_secret(told))
