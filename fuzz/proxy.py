"""Harnesses for proxies: their codecs, the PROXY header, their URLs and the environment.

Knows what a tunnel may never lose, and what an error may never show. Must not know any proxy's
protocol.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from fuzz.leaks import PROXY_PASSWORD, assert_hidden, with_causes
from fuzz.script import Cut, Script, the_same_however_cut
from fuzz.wire import assert_says_why
from smtp_proto.proxy import (
    HttpConnect,
    Proxy,
    ProxyCodec,
    ProxyCodecError,
    ProxyHeader,
    ProxyHeaderReader,
    ProxyRefused,
    Socks4,
    Socks4a,
    Socks5,
    choose_from_environment,
    parse_proxy,
)
from smtp_proto.wire import WireError

_MOST_SENT = 1024  # octets, whatever the proxy says
_LONGEST_HEADER = 4096
_BEHIND = b"EHLO c.example\r\n"

# --- Codecs ----------------------------------------------------------------------------------

_PROXIES: Mapping[str, Proxy] = {
    "4": Socks4("p.example", 1080, "id"),
    "f": Socks4a("p.example", 1080, "id"),
    "5": Socks5("p.example", 1080),
    "s": Socks5("p.example", 1080, "id", PROXY_PASSWORD),
    "h": HttpConnect("p.example", 80),
    "H": HttpConnect("p.example", 80, "id", PROXY_PASSWORD),
}


def proxy_codecs(
    data: bytes, make: Callable[[Proxy], ProxyCodec] = lambda proxy: proxy.codec("192.0.2.1", 25)
) -> None:
    """Tell a codec what a proxy may say; what stands behind the answer must not be lost.

    Options: 4 for SOCKS4, f for SOCKS4a, 5 for SOCKS5, s with a password, h for HTTP, H with a
    password; none of them: each in turn.
    """
    script = Script.read(data)
    heard = b"".join(turn.octets for turn in script.turns)
    named = [_PROXIES[letter] for letter in script.options if letter in _PROXIES]
    for proxy in named[:1] or _PROXIES.values():

        def tell(cut: Cut, proxy: Proxy = proxy) -> tuple[object, ...]:
            return _converse(make(proxy), cut(heard), heard)

        the_same_however_cut(data, tell)


def _converse(codec: ProxyCodec, pieces: Iterable[bytes], heard: bytes) -> tuple[object, ...]:
    """Return what was sent, what the tunnel begins with, and what went wrong."""
    sent = codec.start()
    error: ProxyCodecError | None = None
    try:
        for piece in pieces:
            before = codec.established
            answer = codec.receive_data(piece)
            assert not (before and answer), "something else goes into the tunnel"
            sent += answer
        codec.receive_eof()
    except ProxyCodecError as raised:
        error = raised
        assert_says_why(error)
        assert_hidden(with_causes(error), heard)
        assert _raises_again(codec, error)
    assert codec.established == (error is None)
    assert heard.endswith(codec.leftover)
    assert len(sent) <= _MOST_SENT
    code = error.code if isinstance(error, ProxyRefused) else None
    # What a proxy answers before it is asked may end a conversation sooner, no more than that.
    return sent if error is None else b"", codec.leftover, type(error), str(error), code


def _raises_again(codec: ProxyCodec, error: ProxyCodecError) -> bool:
    try:
        codec.receive_data(b"x")
    except ProxyCodecError as again:
        return again is error
    return False


# --- The PROXY header ------------------------------------------------------------------------


def proxy_header(data: bytes, reader: Callable[[], ProxyHeaderReader] = ProxyHeaderReader) -> None:
    """The octets are what a proxy says to the server behind it."""

    def tell(cut: Cut) -> tuple[ProxyHeader | None, bytes, str]:
        return _read_header(reader(), cut(data))

    header, leftover, error = the_same_however_cut(data, tell)
    assert (header is None) == bool(error)
    if header is None:
        assert not leftover
        return
    assert 0 < len(data) - len(leftover) <= _LONGEST_HEADER
    assert data.endswith(leftover)
    for written in (data.removesuffix(leftover), header.encode_v1(), header.encode_v2()):
        assert _read_header(reader(), [written + _BEHIND]) == (header, _BEHIND, "")


def _read_header(
    reader: ProxyHeaderReader, pieces: Iterable[bytes]
) -> tuple[ProxyHeader | None, bytes, str]:
    try:
        for piece in pieces:
            reader.receive_data(piece)
        reader.receive_eof()
    except ProxyCodecError as error:
        assert_says_why(error)
        assert reader.header is None
        return None, reader.leftover, str(error)
    return reader.header, reader.leftover, ""


# --- URLs and the environment ----------------------------------------------------------------


def proxy_values(data: bytes, parse: Callable[[str], Proxy] = parse_proxy) -> None:
    """The octets are a URL; two lines are what stands before and behind user and password.

    More lines are variables of the environment, name=value.
    """
    text = data.decode("utf-8", "surrogateescape")
    before, _, rest = text.partition("\n")
    behind, _, variables = rest.partition("\n")
    _read_url(before, parse, data)
    _read_url(f"{before}://id:{PROXY_PASSWORD}@{behind}", parse, data)
    _read_url(f"{before}://id:{PROXY_PASSWORD}{behind}", parse, data)
    environment = dict(_pairs(variables))
    environment.setdefault("all_proxy", f"{before}://id:{PROXY_PASSWORD}@{behind}")
    for host in ("s.example", "192.0.2.1", "2001:db8::1", before):
        try:
            choose_from_environment(environment, host, 25)
        except WireError as error:
            assert_says_why(error)
            assert_hidden(with_causes(error), data)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        name, _, value = line.partition("=")
        yield name, value


def _read_url(url: str, parse: Callable[[str], Proxy], data: bytes) -> None:
    try:
        proxy = parse(url)
    except WireError as error:
        assert_says_why(error)
        assert_hidden(with_causes(error), data)
        return
    assert_hidden([proxy.url], data)
    again = parse(proxy.url)
    assert again.url == proxy.url
    assert (type(again), again.host, again.port) == (type(proxy), proxy.host, proxy.port)
    assert again.resolves_names == proxy.resolves_names
    for host in ("s.example", "192.0.2.1", "2001:db8::1"):
        try:
            codec = proxy.codec(host, 25)
        except WireError as error:
            assert_says_why(error)
        else:
            assert 0 < len(codec.start()) <= 4 * len(url) + _MOST_SENT
