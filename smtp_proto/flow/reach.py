"""From settings to a stream that leads to the server: connecting, and the proxies on the way.

Knows hosts, ports and tunnels. Must not know SMTP, nor how the server will be spoken to.
"""

from __future__ import annotations

from typing import NamedTuple

from smtp_proto.flow.actions import Connect, Resolve, Timer
from smtp_proto.flow.errors import ConnectError, ProxyError, SMTPTimeout, TLSError
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.journal import QUIET, Journal
from smtp_proto.flow.link import Link
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.timeouts import Phase
from smtp_proto.proxy import HttpConnect, Proxy, ProxyCodec, ProxyCodecError, ProxyRefused, Socks4
from smtp_proto.proxy.endpoint import Endpoint
from smtp_proto.wire import WireError, escaped


class _Stop(NamedTuple):
    """Where the stream leads next."""

    host: str
    port: int
    what: str
    """What is there, for messages."""


def reach(
    settings: OpenSettings, port: int, journal: Journal = QUIET
) -> Steps[tuple[Link, str | None]]:
    """Open the stream to the server; returns it, and its local IP address if it has one.

    Raises ConnectError, ProxyError, TLSError (towards a proxy) or SMTPTimeout.
    """
    link = Link()
    first, *others = (
        *(_Stop(proxy.host, proxy.port, "the next proxy") for proxy in settings.proxies),
        _Stop(settings.host, port, "the server"),
    )
    local_address = yield from _connect(link, settings, first)
    journal.happened(f"connected to {_shown(settings, first)} from {local_address or 'here'}")
    for proxy, stop in zip(settings.proxies, others, strict=True):
        yield from _go_through(link, settings, proxy, stop)
        journal.happened(f"through {proxy.url} to {stop.host} port {stop.port}")
    if settings.proxy_header:
        yield from _announce(link, settings)
    # Behind a proxy the server would learn what it has no other way to know: an address of a
    # network that may be private, and that is not the one it is connected to.
    return link, None if settings.proxies else local_address


def _connect(link: Link, settings: OpenSettings, stop: _Stop) -> Steps[str | None]:
    timer = Timer(Phase.CONNECT, settings.timeouts.connect)
    connect = Connect(stop.host, stop.port, timer, settings.local_address, settings.unix_path)
    try:
        local_address: str | None = yield connect
    except TimeoutError as error:
        raise _at(_shown(settings, stop), link.timed_out(timer, error)) from None
    except OSError as error:
        where = _shown(settings, stop)
        raise ConnectError(f"cannot connect to {where}: {error.strerror or error}") from error
    return local_address


def _shown(settings: OpenSettings, stop: _Stop) -> str:
    if settings.proxies:
        return settings.proxies[0].url
    return settings.unix_path or f"{stop.host} port {stop.port}"


def _go_through(link: Link, settings: OpenSettings, proxy: Proxy, stop: _Stop) -> Steps[None]:
    """Have a proxy make the tunnel to the next stop."""
    host = stop.host
    timer = Timer(Phase.PROXY, settings.timeouts.proxy)
    try:
        if isinstance(proxy, HttpConnect) and proxy.tls:
            yield from link.start_tls(settings.proxy_tls(proxy.host), timer)
        if not proxy.resolves_names:
            host = yield from _find_address(host, stop.port, isinstance(proxy, Socks4), timer)
        yield from _converse(link, proxy.codec(host, stop.port), timer)
    except SMTPTimeout as error:
        raise _at(proxy.url, error) from None
    except TimeoutError as error:
        raise _at(proxy.url, link.timed_out(timer, error)) from None
    except ProxyCodecError as error:
        code = error.code if isinstance(error, ProxyRefused) else None
        why = escaped(f"{error.where}, {stop.what}: {error.why}")
        raise ProxyError(why, proxy=proxy.url, code=code) from error
    except (OSError, WireError) as error:
        why = f"{proxy.url}, asked for {host}, {stop.what}: {error}"
        raise ProxyError(why, proxy=proxy.url) from error
    except TLSError as error:
        advice = "proxy_tls says whom to trust there, and one that speaks clear text is http://"
        error.args = (f"{proxy.url}: {error}; that is the proxy, not the server: {advice}",)
        raise


def _at(where: str, error: SMTPTimeout) -> SMTPTimeout:
    """The error, which says where: there may be more than one proxy."""
    error.args = (f"{where}: {error}",)
    return error


def _find_address(host: str, port: int, ipv4_only: bool, timer: Timer) -> Steps[str]:
    destination = Endpoint.parse(host, port)
    if not isinstance(destination.host, str):
        return destination.name
    addresses: tuple[str, ...] = yield Resolve(destination.name, ipv4_only, timer)
    return addresses[0]


def _converse(link: Link, codec: ProxyCodec, timer: Timer) -> Steps[None]:
    to_send = codec.start()
    while True:
        if to_send:
            yield from link.send(to_send, timer)
        if codec.established:
            break
        data = yield from link.receive(timer)
        if not data:
            codec.receive_eof()
        to_send = codec.receive_data(data)
    link.push_back(codec.leftover)  # the server's first octets


def _announce(link: Link, settings: OpenSettings) -> Steps[None]:
    """Send the PROXY header: before all else, TLS included."""
    timer = Timer(Phase.CONNECT, settings.timeouts.connect)
    try:
        yield from link.send(settings.proxy_header, timer)
    except TimeoutError as error:
        raise link.timed_out(timer, error) from None
    except OSError as error:
        raise ConnectError(f"the connection was lost sending the PROXY header: {error}") from error
