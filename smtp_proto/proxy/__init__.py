"""Proxies: the codecs that make a tunnel, and the header that tells who is at its other end.

Knows SOCKS4, SOCKS4a, SOCKS5, HTTP CONNECT and the PROXY protocol. Must not know what goes through
the tunnel, nor how a proxy is reached.
"""

from smtp_proto.proxy.codec import ProxyCodec
from smtp_proto.proxy.environment import choose_from_environment
from smtp_proto.proxy.errors import ProxyClosed, ProxyCodecError, ProxyMalformed, ProxyRefused
from smtp_proto.proxy.http_connect import HttpConnect
from smtp_proto.proxy.proxy_protocol import OriginalConnection, ProxyHeader, ProxyHeaderReader
from smtp_proto.proxy.socks4 import Socks4, Socks4a
from smtp_proto.proxy.socks5 import Socks5
from smtp_proto.proxy.url import Proxy, parse_proxy

__all__ = [
    "HttpConnect",
    "OriginalConnection",
    "Proxy",
    "ProxyClosed",
    "ProxyCodec",
    "ProxyCodecError",
    "ProxyHeader",
    "ProxyHeaderReader",
    "ProxyMalformed",
    "ProxyRefused",
    "Socks4",
    "Socks4a",
    "Socks5",
    "choose_from_environment",
    "parse_proxy",
]
