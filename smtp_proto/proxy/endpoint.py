"""A host and a port: where a proxy listens, and where it is to connect to.

Knows what a host may be called. Must not know any proxy's protocol, nor the DNS.

No address is forbidden here, not even one that only the proxy can reach: who lets strangers name
the destination has to look at it first.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TypeAlias

from smtp_proto.wire import WireError, domain_to_ascii, shown

Host: TypeAlias = IPv4Address | IPv6Address | str

_PORTS = range(1, 65_536)
_LONGEST_NAME = 255  # octets: what SOCKS5 can count.  RFC 1928 5
_BRACKETED = re.compile(r"\[(.*)\]", re.DOTALL)
_NUMBER = re.compile(r"0[Xx][0-9A-Fa-f]*|[0-9]+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host, by its address or by its name in A-labels, and a TCP port.

    Make one with `parse()`. `str()` gives the authority of a URL: "[2001:db8::1]:25".
    """

    host: Host
    port: int

    @classmethod
    def parse(cls, host: str, port: int) -> "Endpoint":
        """Read a host; an IPv6 address may stand in brackets.

        Raises WireError for what is neither a domain nor an IP address, and for any other way to
        write an address.
        """
        check_port(port)
        return cls(_read_host(host), port)

    @property
    def name(self) -> str:
        """The host alone, as one connects to it: an address without brackets."""
        return str(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else self.host
        return f"{host}:{self.port:d}"


def check_port(port: int) -> None:
    """Raises WireError for what is no port to connect to."""
    if port not in _PORTS:
        raise WireError("port", f"{port!r} is not 1 to 65535")


# host = IP-literal / IPv4address / reg-name    RFC 3986 3.2.2


def _read_host(text: str) -> Host:
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed or ":" in text:
        return _read_ipv6_address(bracketed[1] if bracketed else text)
    try:
        return IPv4Address(text)
    except AddressValueError:
        pass
    return _read_name(text)


def _read_ipv6_address(text: str) -> IPv6Address:
    try:
        # A zone means nothing to another host; and `ipaddress` takes anything for one.
        if "%" not in text:
            return IPv6Address(text)
    except AddressValueError:
        pass
    raise WireError("host", f"not an IPv6 address: {shown(text)}")


def _read_name(text: str) -> str:
    """Return a name in A-labels. The dot at the end, of a name that is complete, stays."""
    name = domain_to_ascii(text.removesuffix("."), lenient=True)
    # Many a resolver takes such a name for an address, 0x7f.1 for 127.0.0.1: what was looked at
    # before would not be what is connected to.  RFC 3696 2
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise WireError("host", f"neither a domain nor like 192.0.2.1: {shown(text)}")
    if text.endswith("."):
        name += "."
    if len(name) > _LONGEST_NAME:
        raise WireError("host", f"longer than {_LONGEST_NAME} octets: {shown(text)}")
    return name
