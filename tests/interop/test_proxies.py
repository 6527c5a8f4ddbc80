"""Our clients of the three worlds, and proxies of others on the way to a server.

Knows how each proxy refuses. Must not know how a proxy is run, nor what it is sent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from smtp_adapters.tls import ClientTLS
from smtp_proto.engine import Protocol
from smtp_proto.flow import Envelope, ProxyError, Security
from smtp_proto.proxy import OriginalConnection, ProxyHeader
from tests.adapters.worlds import Client, World
from tests.interop.conftest import Peers
from tests.interop.peers import (
    DANTE,
    DANTE_WITH_LOGIN,
    DOVECOT_LMTP,
    EXIM,
    HOST,
    HOSTNAME,
    MICROSOCKS,
    MICROSOCKS_WITH_LOGIN,
    PASSWORD,
    POSTFIX,
    PROXIES,
    SQUID,
    SSH,
    TINYPROXY,
    TINYPROXY_WITH_LOGIN,
    USER,
    Mode,
    ProxyKind,
    ServerKind,
    address,
    free_ports,
)

pytestmark = pytest.mark.interop

SENDER = f"sender@{HOSTNAME}"
CONTENT = b"Subject: hello\r\n\r\nGood morning.\r\n"
RESOLVE_THERE = ("socks4a", "socks5h", "http", "https")


@dataclass(frozen=True)
class Hop:
    """A proxy, and the protocol to speak with it."""

    kind: ProxyKind
    scheme: str

    def __str__(self) -> str:
        return f"{self.kind.name} {self.scheme}"

    @property
    def host(self) -> str:
        """What to call this machine: by its name where the proxy resolves names."""
        return "localhost" if self.scheme in RESOLVE_THERE else HOST


HOPS = [Hop(kind, scheme) for kind in PROXIES for scheme in kind.schemes]
CHAINS = [
    (Hop(DANTE, "socks5"), Hop(TINYPROXY, "http")),
    (Hop(TINYPROXY_WITH_LOGIN, "http"), Hop(MICROSOCKS_WITH_LOGIN, "socks5h")),
    (Hop(SQUID, "https"), Hop(SSH, "socks4a")),
    (Hop(DANTE, "socks4"), Hop(SQUID, "https")),
    (Hop(SQUID, "https"), Hop(SQUID, "https")),
    (Hop(SSH, "socks5h"), Hop(SQUID, "https"), Hop(DANTE_WITH_LOGIN, "socks5h")),
    (Hop(MICROSOCKS, "socks5"), Hop(DANTE, "socks4"), Hop(TINYPROXY_WITH_LOGIN, "http")),
]
# Those that say nothing, and close, when a destination does not answer.
SILENT = {SSH.name}

Connect = Callable[..., Client]

every_proxy = pytest.mark.parametrize("hop", HOPS, ids=str)


@pytest.fixture
def connect(world: World, peers: Peers) -> Connect:
    """Make a client for a server that is reached through proxies."""
    kind: Callable[..., Client] = world.client

    def make(hops: Sequence[Hop], password: str = PASSWORD, **settings: object) -> Client:
        server = peers.server(POSTFIX)
        trusted = ClientTLS(ca_file=peers.certificate.ca, server_hostname=HOST)
        defaults = {
            "host": hops[-1].host,
            "port": server.ports[Mode.STARTTLS],
            "security": Security.STARTTLS,
            "tls": trusted,
            "auth": (USER, PASSWORD),
            "proxy": [peers.proxy(hop.kind).url(hop.scheme, password) for hop in hops],
            "proxy_tls": trusted if any(hop.scheme == "https" for hop in hops) else None,
            "timeouts": 60.0,
        }
        return kind(**{**defaults, **settings})

    return make


# --- through them ------------------------------------------------------------------------------


@every_proxy
async def test_a_message(connect: Connect, peers: Peers, hop: Hop) -> None:
    recipient = address("box")
    async with connect([hop]) as client:
        assert client.tls is not None
        await client.send(Envelope.of(SENDER, recipient), CONTENT)
    assert peers.server(POSTFIX).delivery(recipient).content == CONTENT


@every_proxy
@pytest.mark.parametrize("mode", [Mode.CLEAR, Mode.IMPLICIT])
async def test_the_other_modes(connect: Connect, peers: Peers, hop: Hop, mode: Mode) -> None:
    """The server speaks first, or the client does."""
    clear = {"tls": None, "auth": None} if mode is Mode.CLEAR else {}
    port = peers.server(POSTFIX).ports[mode]
    async with connect([hop], port=port, security=Security(mode.value), **clear) as client:
        assert (client.tls is None) is bool(clear)
        assert (await client.noop()).code == 250


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: " > ".join(map(str, chain)))
async def test_chains(connect: Connect, peers: Peers, chain: Sequence[Hop]) -> None:
    recipient = address("box")
    async with connect(chain) as client:
        await client.send(Envelope.of(SENDER, recipient), CONTENT)
    assert peers.server(POSTFIX).delivery(recipient).content == CONTENT


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hop", [hop for hop in HOPS if hop.kind.wants_login], ids=str)
async def test_a_wrong_password(connect: Connect, peers: Peers, hop: Hop) -> None:
    client = connect([hop], "sesame")
    with pytest.raises(ProxyError, match="user name and the password") as caught:
        await client.open()
    proxy = peers.proxy(hop.kind)
    assert caught.value.proxy == f"{hop.scheme}://{HOST}:{proxy.ports[hop.scheme]}"
    assert caught.value.code is not None
    assert "sesame" not in str(caught.value)
    assert not client.is_open


@every_proxy
async def test_a_destination_where_nobody_listens(connect: Connect, hop: Hop) -> None:
    (port,) = free_ports(1)
    client = connect([hop], port=port)
    with pytest.raises(ProxyError) as caught:
        await client.open()
    assert (caught.value.code is None) is (hop.kind.name in SILENT)
    assert not client.is_open


@pytest.mark.parametrize("hop", [Hop(DANTE, "socks5"), Hop(TINYPROXY, "http")], ids=str)
async def test_the_second_proxy_is_not_there(connect: Connect, peers: Peers, hop: Hop) -> None:
    (port,) = free_ports(1)
    first = peers.proxy(hop.kind).url(hop.scheme)
    client = connect([hop], proxy=[first, f"socks5://{HOST}:{port}"])
    with pytest.raises(ProxyError) as caught:
        await client.open()
    assert caught.value.proxy == first


@pytest.mark.parametrize(
    "hop", [Hop(SSH, "socks4a"), Hop(MICROSOCKS, "socks5"), Hop(TINYPROXY, "http")], ids=str
)
async def test_a_server_where_a_proxy_should_be(connect: Connect, peers: Peers, hop: Hop) -> None:
    port = peers.server(POSTFIX).ports[Mode.CLEAR]
    client = connect([hop], proxy=f"{hop.scheme}://{HOST}:{port}")
    with pytest.raises(ProxyError, match="SMTP begins so"):
        await client.open()


# --- the PROXY header --------------------------------------------------------------------------

ANNOUNCED = {
    "IPv4": OriginalConnection(ip_address("192.0.2.7"), 4711, ip_address("192.0.2.1"), 25),
    "IPv6": OriginalConnection(ip_address("2001:db8::7"), 4711, ip_address("2001:db8::1"), 25),
}


@pytest.mark.parametrize("kind", [POSTFIX, EXIM, DOVECOT_LMTP], ids=lambda kind: kind.name)
@pytest.mark.parametrize("family", ANNOUNCED)
@pytest.mark.parametrize("version", [1, 2])
async def test_the_server_learns_where_the_client_is(
    world: World, peers: Peers, kind: ServerKind, family: str, version: int
) -> None:
    server = peers.server(kind)
    assert server.proxied_port is not None
    header = ProxyHeader(ANNOUNCED[family])
    recipient = address("box")
    async with world.client(
        HOST,
        server.proxied_port,
        security=Security.NONE,
        proxy_header=header.encode_v1() if version == 1 else header.encode_v2(),
        protocol=Protocol.LMTP if kind.lmtp else Protocol.SMTP,
        timeouts=60.0,
    ) as client:
        await client.send(Envelope.of(SENDER, recipient), CONTENT)
    delivery = server.delivery(recipient)
    assert str(ANNOUNCED[family].source) in delivery.trace.lower()


async def test_the_header_goes_through_the_tunnel(connect: Connect, peers: Peers) -> None:
    """First the proxy that we use, then the one that we say we are."""
    server = peers.server(POSTFIX)
    recipient = address("box")
    async with connect(
        [Hop(TINYPROXY, "http")],
        port=server.proxied_port,
        proxy_header=ProxyHeader(ANNOUNCED["IPv4"]).encode_v2(),
    ) as client:
        await client.send(Envelope.of(SENDER, recipient), CONTENT)
    assert "192.0.2.7" in server.delivery(recipient).trace
