"""SOCKS5, with no authentication or with user name and password. RFC 1928, RFC 1929

Knows the three steps: method, credentials, request. Must not know who resolves a name where the
proxy does not.

Each step waits for the answer to the one before it: there are proxies that read one step at a
time, and lose what comes together with it.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from smtp_proto.proxy.codec import (
    Exchange,
    Link,
    ProxyCodec,
    Steps,
    encode_credential,
    require_both,
)
from smtp_proto.proxy.endpoint import Endpoint, Host
from smtp_proto.wire import WireError

_VERSION = b"\x05"
_NO_AUTHENTICATION = 0x00
_USERNAME_PASSWORD = 0x02
_NO_ACCEPTABLE_METHODS = 0xFF

_AUTHENTICATION_VERSION = 0x01  # RFC 1929 2
_LONGEST_CREDENTIAL = 255  # octets.  RFC 1929 2

_CONNECT = 0x01
_RESERVED = 0x00
# RFC 1928 5
_IPV4, _DOMAIN_NAME, _IPV6 = 0x01, 0x03, 0x04
_ADDRESS_LENGTHS = {_IPV4: 4, _IPV6: 16}

_SUCCEEDED = 0x00
# RFC 1928 6
_REASONS = {
    1: "general SOCKS server failure",
    2: "connection not allowed by ruleset: the proxy's rules have to allow the destination",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused by the destination: is its port right?",
    6: "TTL expired on the way to the destination",
    7: "command not supported: the proxy does not make connections",
    8: "address type not supported: give the destination in another form, as a name or an address",
}


@dataclass(frozen=True, slots=True)
class Socks5:
    """A SOCKS5 proxy. RFC 1928

    With `resolve_here` it is given addresses only (the scheme socks5), else names, too (socks5h):
    then the DNS here hears nothing of the destination. `username` and `password` are 1 to 255
    octets each, in UTF-8; they go out if the proxy asks for them, in clear (RFC 1929 3). Raises
    WireError for what cannot be a host, a port or one of these.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    resolve_here: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", Endpoint.parse(self.host, self.port).name)
        _encode_authentication(self.username, self.password)

    @property
    def url(self) -> str:
        """The proxy without its credentials, for messages."""
        scheme = "socks5" if self.resolve_here else "socks5h"
        return f"{scheme}://{Endpoint.parse(self.host, self.port)}"

    @property
    def resolves_names(self) -> bool:
        """Whether `codec()` takes a name. If not, resolve it first, to any IP address."""
        return not self.resolve_here

    def codec(self, destination_host: str, destination_port: int) -> ProxyCodec:
        """Return the codec for one connection through the proxy.

        Raises WireError for what cannot be a destination, and with `resolve_here` for a name.
        """
        destination = Endpoint.parse(destination_host, destination_port)
        if self.resolve_here and isinstance(destination.host, str):
            raise WireError(
                "destination",
                f"{destination} has a name, and names are to be resolved here: resolve it first, "
                "or leave it to the proxy (socks5h)",
            )
        authentication = _encode_authentication(self.username, self.password)
        link = Link(f"{self.url}, asked for {destination}")
        return Exchange(link, _converse(link, authentication, destination))


def _converse(link: Link, authentication: bytes, destination: Endpoint) -> Steps[None]:
    yield from _agree_on_method(link, authentication)
    link.send(_encode_request(destination))
    yield from _take_reply(link)


def _agree_on_method(link: Link, authentication: bytes) -> Steps[None]:
    """Offer methods, and log in if the proxy chooses the one for that. RFC 1928 3"""
    methods = (_NO_AUTHENTICATION, _USERNAME_PASSWORD) if authentication else (_NO_AUTHENTICATION,)
    link.send(_VERSION + bytes([len(methods), *methods]))
    yield from link.expect(_VERSION, "SOCKS5")
    _, method = yield from link.take(2)
    if method == _NO_ACCEPTABLE_METHODS:
        advice = (
            "it takes neither user name and password nor none"
            if authentication
            else "it wants to know who asks: give it a user name and a password"
        )
        raise link.refused(f"no acceptable methods (METHOD {method:02X}): {advice}", method)
    if method not in methods:
        raise link.malformed(f"it chooses METHOD {method:02X}, which it was not offered")
    if method == _USERNAME_PASSWORD:
        yield from _log_in(link, authentication)


def _log_in(link: Link, authentication: bytes) -> Steps[None]:
    """Send user name and password. RFC 1929 2"""
    link.send(authentication)
    version, status = yield from link.take(2)
    if version != _AUTHENTICATION_VERSION:
        raise link.malformed(f"it answers the credentials with VER {version:02X} and not 01")
    if status != _SUCCEEDED:
        raise link.refused(
            f"it does not accept the user name and the password (STATUS {status:02X})", status
        )


# VER NMETHODS METHODS, VER ULEN UNAME PLEN PASSWD, VER CMD RSV ATYP DST.ADDR DST.PORT


def _encode_authentication(username: str | None, password: str | None) -> bytes:
    """Return the request for authentication; b"" if there are no credentials. RFC 1929 2"""
    require_both(username, password)
    if username is None or password is None:
        return b""
    return (
        bytes([_AUTHENTICATION_VERSION])
        + _encode_counted("user name", username)
        + _encode_counted("password", password)
    )


def _encode_counted(what: str, text: str) -> bytes:
    octets = encode_credential(what, text)
    if not 1 <= len(octets) <= _LONGEST_CREDENTIAL:
        raise WireError(what, f"SOCKS5 wants 1 to {_LONGEST_CREDENTIAL} octets, not {len(octets)}")
    return bytes([len(octets)]) + octets


def _encode_request(destination: Endpoint) -> bytes:
    """Return the request for a connection. RFC 1928 4"""
    port = destination.port.to_bytes(2, "big")
    return _VERSION + bytes([_CONNECT, _RESERVED]) + _encode_address(destination.host) + port


def _encode_address(host: Host) -> bytes:
    """Return ATYP and DST.ADDR. RFC 1928 5"""
    match host:
        case IPv4Address():
            return bytes([_IPV4]) + host.packed
        case IPv6Address():
            return bytes([_IPV6]) + host.packed
        case name:
            return bytes([_DOMAIN_NAME, len(name)]) + name.encode("ascii")


# VER REP RSV ATYP BND.ADDR BND.PORT


def _take_reply(link: Link) -> Steps[None]:
    """Take the reply to the request off, to its last octet. RFC 1928 6"""
    yield from link.expect(_VERSION, "SOCKS5")
    _, code = yield from link.take(2)
    # The rest of a refusal means nothing, and need not come.
    if code != _SUCCEEDED:
        reason = _REASONS.get(code, "it gives a reason that is not assigned")
        raise link.refused(f"{reason} (REP {code:02X})", code)
    reserved, address_type = yield from link.take(2)
    if reserved != _RESERVED:
        raise link.malformed(f"RSV is {reserved:02X} and not 00")
    # How long the address is, this reply tells, and not the request: it need not be of that kind.
    if address_type == _DOMAIN_NAME:
        (length,) = yield from link.take(1)
    elif address_type in _ADDRESS_LENGTHS:
        length = _ADDRESS_LENGTHS[address_type]
    else:
        raise link.malformed(f"ATYP is {address_type:02X}, which is not assigned")
    yield from link.take(length + 2)
