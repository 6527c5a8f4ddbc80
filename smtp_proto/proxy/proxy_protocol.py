"""The PROXY protocol: who connected to a proxy, told to the server behind it. proxy-protocol.txt

Knows the header, version 1 and version 2, both sides. Must not know which peers are proxies.

A server reads a header from peers that it knows to be proxies, and then always: whoever else may
send one chooses his address himself. Whether there is a header must never be guessed.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct

from smtp_proto.proxy.codec import Exchange, Link, Steps
from smtp_proto.wire import Octets, WireError, shown

_NAME = "the PROXY protocol"
_PORTS = range(65_536)

_V1_START = b"PROXY "
_V1_LONGEST = 107  # octets with CRLF
_V1_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: .*)?|"
    rb"(TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))"
)

_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_START = Struct("!12sBBH")  # signature, version and command, family and protocol, length
_V2_LONGEST = 4096  # octets: the whole header is to fit into one segment
_V2_LOCAL = 0x20
_V2_PROXY = 0x21
_V2_UNSPEC, _V2_TCP4, _V2_TCP6 = 0x00, 0x11, 0x21
_V2_FAMILIES = range(4)  # UNSPEC, INET, INET6, UNIX
_V2_PROTOCOLS = range(3)  # UNSPEC, STREAM, DGRAM
# Source and destination address, source and destination port.
_V2_LAYOUTS = {_V2_TCP4: Struct("!4s4sHH"), _V2_TCP6: Struct("!16s16sHH")}


@dataclass(frozen=True, slots=True)
class OriginalConnection:
    """The connection that a proxy took, and for which it made this one.

    From `source`, the client, to `destination`, the proxy's own end. Raises WireError unless both
    are addresses of one family, without a zone, and the ports are 0 to 65535.
    """

    source: IPv4Address | IPv6Address
    source_port: int
    destination: IPv4Address | IPv6Address
    destination_port: int

    def __post_init__(self) -> None:
        match self.source, self.destination:
            case IPv4Address(), IPv4Address():
                pass
            case IPv6Address(scope_id=None), IPv6Address(scope_id=None):
                pass
            case _:
                raise WireError(
                    "PROXY header", "source and destination are not two addresses of one family"
                )
        if self.source_port not in _PORTS or self.destination_port not in _PORTS:
            raise WireError("PROXY header", "a port is not 0 to 65535")


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a proxy tells of a connection, before anything else goes over it.

    `original` is None where there is nothing to tell: the proxy connects on its own behalf, as
    for a health check, or for a client that is no TCP/IP. Take the ends of the real connection
    then: they are the proxy's, so grant nothing for them that you would not grant anybody.
    """

    original: OriginalConnection | None = None

    def encode_v1(self) -> bytes:
        """Return the header as version 1, a line of text."""
        return _encode_v1(self.original)

    def encode_v2(self) -> bytes:
        """Return the header as version 2, which is binary."""
        return _encode_v2(self.original)


class ProxyHeaderReader:
    """Reads the header, of either version, that a proxy's connection begins with.

    look     header, leftover
    feed     receive_data(), receive_eof()

    However the octets are cut, the outcome is the same. After an error it is of no use: each
    further call raises that error again.
    """

    __slots__ = ("_exchange",)

    def __init__(self) -> None:
        link = Link("PROXY header")
        self._exchange = Exchange(link, _take_header(link))

    @property
    def header(self) -> ProxyHeader | None:
        """The header; None as long as it is not whole."""
        return self._exchange.result

    @property
    def leftover(self) -> bytes:
        """What came behind the header: the first octets of the client."""
        return self._exchange.leftover

    def receive_data(self, data: Octets) -> None:
        """Take in what came. Raises ProxyMalformed: close the connection then, without a word.

        Once the header is whole, `data` is added to `leftover`.
        """
        self._exchange.receive_data(data)

    def receive_eof(self) -> None:
        """Take note of the end of the input: raises ProxyClosed unless the header is whole."""
        self._exchange.receive_eof()


def _take_header(link: Link) -> Steps[ProxyHeader]:
    start = yield from link.peek(1)
    if _V1_START.startswith(start):
        return ProxyHeader((yield from _take_v1(link)))
    return ProxyHeader((yield from _take_v2(link)))


# Version 1: "PROXY" SP protocol SP source SP destination SP source-port SP destination-port CRLF


def _encode_v1(original: OriginalConnection | None) -> bytes:
    if original is None:
        return b"PROXY UNKNOWN\r\n"
    return (
        f"PROXY TCP{original.source.version} {original.source} {original.destination} "
        f"{original.source_port:d} {original.destination_port:d}\r\n"
    ).encode("ascii")


def _take_v1(link: Link) -> Steps[OriginalConnection | None]:
    yield from link.expect(_V1_START, _NAME)
    line = yield from link.take_line(_V1_LONGEST, f"its line is longer than {_V1_LONGEST} octets")
    match = _V1_LINE.fullmatch(line)
    if match is None:
        raise link.malformed(f'neither TCP4, TCP6 nor UNKNOWN as they are to be: "{shown(line)}"')
    if match[1] is None:
        return None
    _, source, destination, source_port, destination_port = (
        field.decode("ascii") for field in match.groups()
    )
    address = IPv4Address if match[1] == b"TCP4" else IPv6Address
    try:
        return OriginalConnection(
            address(source), int(source_port), address(destination), int(destination_port)
        )
    except ValueError as error:
        raise link.malformed(str(error)) from None


# Version 2: signature, version and command, family and protocol, length, addresses, TLVs


def _encode_v2(original: OriginalConnection | None) -> bytes:
    if original is None:
        return _V2_START.pack(_V2_SIGNATURE, _V2_LOCAL, _V2_UNSPEC, 0)
    family = _V2_TCP4 if original.source.version == 4 else _V2_TCP6
    layout = _V2_LAYOUTS[family]
    return _V2_START.pack(_V2_SIGNATURE, _V2_PROXY, family, layout.size) + layout.pack(
        original.source.packed,
        original.destination.packed,
        original.source_port,
        original.destination_port,
    )


def _take_v2(link: Link) -> Steps[OriginalConnection | None]:
    yield from link.expect(_V2_SIGNATURE, _NAME)
    start = yield from link.take(_V2_START.size)
    _, version_and_command, family, length = _V2_START.unpack(start)
    if version_and_command not in (_V2_LOCAL, _V2_PROXY):
        raise link.malformed(f"octet 13 is {version_and_command:02X} and not 20 or 21")
    if _V2_START.size + length > _V2_LONGEST:
        raise link.malformed(f"it is longer than {_V2_LONGEST} octets")
    # The TLVs at its end are dropped: nothing here needs them.
    block = yield from link.take(length)
    # Of a LOCAL connection not even the family is looked at.
    return None if version_and_command == _V2_LOCAL else _decode_v2(link, family, block)


def _decode_v2(link: Link, family: int, block: bytes) -> OriginalConnection | None:
    if family >> 4 not in _V2_FAMILIES or family & 0x0F not in _V2_PROTOCOLS:
        raise link.malformed(f"octet 14 is {family:02X}: no such family, or no such protocol")
    layout = _V2_LAYOUTS.get(family)
    if layout is None:
        return None
    if len(block) < layout.size:
        raise link.malformed(f"it has {len(block)} octets of addresses and not {layout.size}")
    source, destination, source_port, destination_port = layout.unpack_from(block)
    return OriginalConnection(
        ip_address(source), source_port, ip_address(destination), destination_port
    )
