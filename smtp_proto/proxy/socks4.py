"""SOCKS4, and SOCKS4a, which takes names, too.

Knows the request and its answer. Must not know who resolves a name where the proxy does not.

There is no RFC. The pages that define them call the fields VN, CD, DSTPORT, DSTIP and USERID.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import ClassVar

from smtp_proto.proxy.codec import Exchange, Link, ProxyCodec, Steps, encode_credential
from smtp_proto.proxy.endpoint import Endpoint
from smtp_proto.wire import WireError

_VERSION = b"\x04"
_REPLY_VERSION = b"\x00"
_CONNECT = b"\x01"
_NUL = b"\0"

# An address of these says to a SOCKS4a proxy that a name follows; no host has one.
_NOT_AN_ADDRESS = IPv4Network("0.0.0.0/24")
_A_NAME_FOLLOWS = IPv4Address("0.0.0.1")

_LONGEST_USER_ID = 255  # octets: nobody says how many there may be, and more are not a name

_GRANTED = 90
_REASONS = {
    91: "request rejected or failed: the destination is not there, or the rules do not allow it",
    92: "request rejected: the proxy finds no identd on this machine",
    93: "request rejected: identd on this machine names another user id",
}


@dataclass(frozen=True, slots=True)
class _Server:
    """What a proxy of either kind is."""

    host: str
    port: int
    user_id: str = ""

    _scheme: ClassVar[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", Endpoint.parse(self.host, self.port).name)
        _encode_user_id(self.user_id)

    @property
    def url(self) -> str:
        """The proxy without its user id, for messages."""
        return f"{self._scheme}://{Endpoint.parse(self.host, self.port)}"

    def _exchange(self, destination: Endpoint, address: IPv4Address, name: str) -> ProxyCodec:
        request = _encode_request(destination.port, address, self.user_id, name)
        link = Link(f"{self.url}, asked for {destination}")
        return Exchange(link, _converse(link, request))


@dataclass(frozen=True, slots=True)
class Socks4(_Server):
    """A SOCKS4 proxy. It connects to IPv4 addresses only.

    `user_id` is a name without a password; "" if the proxy wants none. Raises WireError for what
    cannot be a host, a port or a user id.
    """

    _scheme: ClassVar[str] = "socks4"
    resolves_names: ClassVar[bool] = False
    """Whether `codec()` takes a name. It does not: resolve it first, to an IPv4 address."""

    def codec(self, destination_host: str, destination_port: int) -> ProxyCodec:
        """Return the codec for one connection. Raises WireError for all but IPv4 addresses."""
        destination = Endpoint.parse(destination_host, destination_port)
        if isinstance(destination.host, str):
            raise WireError(
                "destination", f"SOCKS4 takes no names: resolve {destination}, or use SOCKS4a"
            )
        return self._exchange(destination, _checked_address(destination), "")


@dataclass(frozen=True, slots=True)
class Socks4a(_Server):
    """A SOCKS4a proxy. It connects to names and to IPv4 addresses.

    `user_id` is a name without a password; "" if the proxy wants none. Raises WireError for what
    cannot be a host, a port or a user id.
    """

    _scheme: ClassVar[str] = "socks4a"
    resolves_names: ClassVar[bool] = True
    """Whether `codec()` takes a name. It does."""

    def codec(self, destination_host: str, destination_port: int) -> ProxyCodec:
        """Return the codec for one connection. Raises WireError for an IPv6 address."""
        destination = Endpoint.parse(destination_host, destination_port)
        if isinstance(destination.host, str):
            return self._exchange(destination, _A_NAME_FOLLOWS, destination.host)
        return self._exchange(destination, _checked_address(destination), "")


def _checked_address(destination: Endpoint) -> IPv4Address:
    address = destination.host
    if isinstance(address, IPv4Address) and address not in _NOT_AN_ADDRESS:
        return address
    raise WireError(
        "destination",
        f"SOCKS4 cannot carry the address in {destination}: use an IPv4 address, or SOCKS5",
    )


def _converse(link: Link, request: bytes) -> Steps[None]:
    link.send(request)
    yield from link.expect(_REPLY_VERSION, "SOCKS4")
    _, code = yield from link.take(2)
    # The rest of a refusal means nothing, and need not come.
    if code != _GRANTED:
        reason = _REASONS.get(code, "request rejected with a code that nobody has defined")
        raise link.refused(f"{reason} (CD {code})", code)
    yield from link.take(6)  # DSTPORT and DSTIP, which mean something to BIND only


# VN CD DSTPORT DSTIP USERID NULL, and for a name: HOSTNAME NULL


def _encode_request(port: int, address: IPv4Address, user_id: str, name: str) -> bytes:
    request = _VERSION + _CONNECT + port.to_bytes(2, "big") + address.packed
    request += _encode_user_id(user_id) + _NUL
    return request + name.encode("ascii") + _NUL if name else request


def _encode_user_id(user_id: str) -> bytes:
    octets = encode_credential("user id", user_id)
    if len(octets) > _LONGEST_USER_ID:
        raise WireError("user id", f"it is longer than {_LONGEST_USER_ID} octets")
    return octets
