"""From settings to a stream that leads to the server: connecting, and the proxies on the way.

Knows hosts, ports and tunnels. Must not know SMTP, nor how the server will be spoken to.
"""

from __future__ import annotations

from ipaddress import ip_address

from smtp_proto.flow.actions import Connect, Resolve, Timer
from smtp_proto.flow.errors import ConnectError, ProxyError, TLSError
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.link import Link
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.timeouts import Phase
from smtp_proto.proxy import HttpConnect, Proxy, ProxyCodec, ProxyCodecError, ProxyRefused, Socks4
from smtp_proto.wire import WireError


def reach(settings: OpenSettings, port: int) -> Steps[tuple[Link, str | None]]:
    """Open the stream to the server; returns it, and its local IP address if it has one.

    Raises ConnectError, ProxyError, TLSError (towards a proxy) or SMTPTimeout.
    """
    link = Link()
    stops = [(proxy.host, proxy.port) for proxy in settings.proxies]
    stops.append((settings.host, port))
    local_address = yield from _connect(link, settings, *stops[0])
    for proxy, (host, port_there) in zip(settings.proxies, stops[1:], strict=True):
        yield from _go_through(link, settings, proxy, host, port_there)
    if settings.proxy_header:
        yield from _announce(link, settings)
    return link, local_address


def _connect(link: Link, settings: OpenSettings, host: str, port: int) -> Steps[str | None]:
    timer = Timer(Phase.CONNECT, settings.timeouts.connect)
    path = settings.unix_path
    where = f"{host} port {port}" if path is None else path
    try:
        local_address: str | None = yield Connect(host, port, timer, settings.local_address, path)
    except TimeoutError as error:
        raise link.timed_out(timer, error) from None
    except OSError as error:
        raise ConnectError(f"cannot connect to {where}: {error.strerror or error}") from error
    return local_address


def _go_through(
    link: Link, settings: OpenSettings, proxy: Proxy, host: str, port: int
) -> Steps[None]:
    """Have a proxy make the tunnel to the next stop."""
    timer = Timer(Phase.PROXY, settings.timeouts.proxy)
    try:
        if isinstance(proxy, HttpConnect) and proxy.tls:
            yield from link.start_tls(settings.proxy_tls(proxy.host), timer)
        if not proxy.resolves_names and not _is_address(host):
            addresses: tuple[str, ...] = yield Resolve(host, isinstance(proxy, Socks4), timer)
            host = addresses[0]
        yield from _converse(link, proxy.codec(host, port), timer)
    except TimeoutError as error:
        raise link.timed_out(timer, error) from None
    except ProxyCodecError as error:
        code = error.code if isinstance(error, ProxyRefused) else None
        raise ProxyError(str(error), proxy=proxy.url, code=code) from error
    except (OSError, WireError) as error:
        raise ProxyError(f"{proxy.url}, asked for {host}: {error}", proxy=proxy.url) from error
    except TLSError as error:
        error.args = (f"{proxy.url}: {error}",)
        raise


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


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
