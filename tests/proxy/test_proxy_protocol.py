"""The PROXY header: one table drives writer and reader, whole and cut; nothing else gets in."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.proxy import (
    OriginalConnection,
    ProxyClosed,
    ProxyCodecError,
    ProxyHeader,
    ProxyHeaderReader,
    ProxyMalformed,
)
from smtp_proto.wire import Octets, WireError
from tests.proxy.exchanges import CUTS, cut, ways_to_cut

EHLO = b"EHLO client.test\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def told(source: str, source_port: int, destination: str, destination_port: int) -> ProxyHeader:
    return ProxyHeader(
        OriginalConnection(
            ip_address(source), source_port, ip_address(destination), destination_port
        )
    )


IPV4 = told("192.0.2.1", 56324, "192.0.2.2", 25)
IPV4_V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\n"
IPV4_BLOCK = b"\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x00\x19"
IPV6 = told("2001:db8::1", 0, "2001:db8::2", 65535)
IPV6_V1 = b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n"
IPV6_BLOCK = (
    b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x20\x01\x0d\xb8" + bytes(11) + b"\x02\0\0\xff\xff"
)
NOTHING = ProxyHeader()


def v2(version_and_command: int, family: int, block: bytes) -> bytes:
    start = SIGNATURE + bytes([version_and_command, family])
    return start + len(block).to_bytes(2, "big") + block


# Written and read: each is the other, turned round.
CASES = [
    (IPV4, IPV4_V1, v2(0x21, 0x11, IPV4_BLOCK)),
    (IPV6, IPV6_V1, v2(0x21, 0x21, IPV6_BLOCK)),
    (NOTHING, b"PROXY UNKNOWN\r\n", v2(0x20, 0x00, b"")),
]

LONG_IPV6 = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

# Read only: what is written differs.
READ_CASES = [
    (b"PROXY UNKNOWN " + LONG_IPV6 + b" " + LONG_IPV6 + b" 65535 65535\r\n", NOTHING),
    (b"PROXY UNKNOWN whatever it is\x1b\xff\r\n", NOTHING),
    (b"PROXY TCP6 " + LONG_IPV6.upper() + b" ::1 1 2\r\n", told(LONG_IPV6.decode(), 1, "::1", 2)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", told("::ffff:c000:201", 1, "::1", 2)),
    # TLVs, and what looks like some.
    (v2(0x21, 0x11, IPV4_BLOCK + b"\x04\x00\x01x"), IPV4),
    (v2(0x21, 0x21, IPV6_BLOCK + b"\xff"), IPV6),
    (v2(0x21, 0x11, IPV4_BLOCK + bytes(4096 - 16 - 12)), IPV4),
    # Of LOCAL the block is dropped, and the family with it.
    (v2(0x20, 0x11, IPV4_BLOCK), NOTHING),
    (v2(0x20, 0xFF, b"\r\n"), NOTHING),
    # Families and protocols that are no TCP/IP.
    *((v2(0x21, family, bytes(216)), NOTHING) for family in (0x00, 0x01, 0x10, 0x12, 0x22)),
    *((v2(0x21, family, bytes(216)), NOTHING) for family in (0x20, 0x30, 0x31, 0x32, 0x02)),
    (v2(0x21, 0x00, b""), NOTHING),
]

BROKEN = [
    EHLO,
    b"\r\nEHLO",
    b"\x16\x03\x01",
    b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b" PROXY UNKNOWN\r\n",
    b"PROXY\r\n",
    b"PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    b"PROXY TCP4 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP6 ::1%lo ::1 1 2\r\n",
    b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
    b"PROXY TCP6 :: :::1 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1_0 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 999999\r\n",
    "PROXY TCP4 192.0.2.1 192.0.2.2 ١ 2\r\n".encode(),
    # Only CRLF ends the line, and not beyond 107 octets.
    b"PROXY UNKNOWN\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nEHLO a\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
    b"PROXY UNKNOWN a\rb\r\n",
    b"PROXY UNKNOWN a\0b\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 93,
    v2(0x21, 0x11, IPV4_BLOCK)[:-1].replace(b"QUIT", b"quit"),
    # Versions and commands.
    *(v2(octet, 0x11, IPV4_BLOCK) for octet in (0x00, 0x11, 0x1F, 0x22, 0x2F, 0x31, 0xFF)),
    # Families and protocols.
    *(v2(0x21, octet, bytes(216)) for octet in (0x03, 0x13, 0x1F, 0x33, 0x40, 0x41, 0xFF)),
    v2(0x21, 0x11, IPV4_BLOCK[:-1]),
    v2(0x21, 0x11, b""),
    v2(0x21, 0x21, IPV6_BLOCK[:-1]),
    v2(0x21, 0x11, IPV4_BLOCK + bytes(4096 - 16 - 11)),
    v2(0x20, 0x00, bytes(65_535)),
]

PORTS = st.integers(0, 65_535)
HEADERS = st.one_of(
    st.just(NOTHING),
    *(
        st.builds(
            ProxyHeader,
            st.builds(OriginalConnection, st.ip_addresses(v=v), PORTS, st.ip_addresses(v=v), PORTS),
        )
        for v in (4, 6)
    ),
)


def read(pieces: Iterable[bytes]) -> tuple[ProxyHeader | None, bytes] | str:
    reader = ProxyHeaderReader()
    try:
        for piece in pieces:
            reader.receive_data(piece)
    except ProxyCodecError as error:
        assert reader.header is None
        assert reader.leftover == b""
        return f"{type(error).__name__} {error}"
    return reader.header, reader.leftover


# --- Reading and writing


@pytest.mark.parametrize(("header", "version_1", "version_2"), CASES)
def test_writing(header: ProxyHeader, version_1: bytes, version_2: bytes) -> None:
    assert header.encode_v1() == version_1
    assert header.encode_v2() == version_2


@pytest.mark.parametrize(
    ("header", "data"),
    [
        *((header, version_1) for header, version_1, _ in CASES),
        *((header, version_2) for header, _, version_2 in CASES),
        *((header, data) for data, header in READ_CASES if len(data) < 1000),
    ],
)
def test_reading_however_it_is_cut(header: ProxyHeader, data: bytes) -> None:
    assert [read(pieces) for pieces in ways_to_cut(data)] == [(header, b"")] * (len(data) + 1)
    for pieces in ways_to_cut(data + EHLO):
        assert read(pieces) == (header, EHLO)


@pytest.mark.parametrize(("data", "header"), READ_CASES)
def test_reading(data: bytes, header: ProxyHeader) -> None:
    assert read([data + EHLO]) == (header, EHLO)
    assert read([data[:-1]]) == (None, b"")


@given(HEADERS, st.booleans(), st.binary(max_size=40), CUTS)
def test_what_is_written_is_read(
    header: ProxyHeader, binary: bool, behind: bytes, places: list[int]
) -> None:
    data = header.encode_v2() if binary else header.encode_v1()
    assert len(data) <= 107
    assert read(cut(data + behind, places)) == (header, behind)


@pytest.mark.parametrize("data", BROKEN)
def test_what_is_no_header(data: bytes) -> None:
    (outcome,) = {read(pieces) for pieces in ways_to_cut(data[:300])}
    if len(data) <= 300:
        assert isinstance(outcome, str)
        assert outcome.startswith("ProxyMalformed PROXY header: ")
        assert outcome.isprintable()
    else:
        assert str(read([data])).startswith("ProxyMalformed PROXY header: ")


@pytest.mark.parametrize("data", [b"E", b"\rE", b"PE", b"PROXY_", SIGNATURE + b"\x22\0\0\0"])
def test_what_is_no_header_is_told_at_once(data: bytes) -> None:
    reader = ProxyHeaderReader()
    reader.receive_data(data[:-1] if data[0] != 13 or len(data) < 13 else data[:15])
    with pytest.raises(ProxyMalformed):
        reader.receive_data(data[-1:])


def test_a_header_too_long_is_not_waited_for() -> None:
    reader = ProxyHeaderReader()
    with pytest.raises(ProxyMalformed, match="longer than 4096 octets"):
        reader.receive_data(SIGNATURE + b"\x20\x00\xff\xff")
    reader = ProxyHeaderReader()
    reader.receive_data(b"PROXY UNKNOWN " + b"x" * 92)
    with pytest.raises(ProxyMalformed, match="longer than 107 octets"):
        reader.receive_data(b"x")


@pytest.mark.parametrize("data", [IPV4_V1, v2(0x21, 0x21, IPV6_BLOCK + b"TLV")])
def test_a_header_that_ends_too_early(data: bytes) -> None:
    for length in range(len(data)):
        reader = ProxyHeaderReader()
        reader.receive_data(data[:length])
        for _ in range(2):
            with pytest.raises(ProxyClosed):
                reader.receive_eof()
        with pytest.raises(ProxyClosed):
            reader.receive_data(data[length:])
        assert reader.header is None
    reader = ProxyHeaderReader()
    reader.receive_data(data)
    reader.receive_eof()
    assert reader.header is not None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_given(kind: type[Octets]) -> None:
    reader = ProxyHeaderReader()
    reader.receive_data(kind(IPV4_V1 + EHLO[:4]))
    reader.receive_data(kind(EHLO[4:]))
    assert (reader.header, reader.leftover) == (IPV4, EHLO)


@given(
    st.sampled_from([b"", b"P", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"]),
    st.lists(st.binary(max_size=30), max_size=10),
)
def test_random_octets_give_documented_errors_only(start: bytes, pieces: list[bytes]) -> None:
    whole = read([start, b"".join(pieces)])
    assert read([start, *pieces]) == whole
    if isinstance(whole, str):
        assert whole.startswith("ProxyMalformed")
        assert whole.isprintable()


# --- Values

ONE, TWO = IPv4Address("192.0.2.1"), IPv6Address("::1")


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (ONE, TWO),
        (TWO, ONE),
        (IPv6Address("fe80::1%eth0"), TWO),
        (TWO, IPv6Address("fe80::1%\r\nQUIT")),
    ],
)
def test_two_addresses_of_one_family(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address
) -> None:
    with pytest.raises(WireError, match="one family"):
        OriginalConnection(source, 1, destination, 2)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_ports(port: int) -> None:
    with pytest.raises(WireError, match="port"):
        OriginalConnection(ONE, port, ONE, 25)
    with pytest.raises(WireError, match="port"):
        OriginalConnection(ONE, 25, ONE, port)
