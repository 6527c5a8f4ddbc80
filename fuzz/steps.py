"""The harness for time: what is eight times as long must not take sixty-four times as many steps.

Knows how to count the lines of Python that are run. Must not know how long they take: what is slow
inside of one line, a regular expression say, is for the option -timeout of libFuzzer.

    letter octets

The letter names a reader; the octets are said over and over, one by one where they can be cut.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import FrameType
from typing import TypeAlias

import fuzz.tree  # noqa: F401 - finds the adapters
from fuzz.engine import natural_reply
from fuzz.sasl import CLIENT_CONTEXT, SERVER_CONTEXT
from fuzz.wire import READERS as VALUES
from smtp_adapters.settings import SettingsError, from_url
from smtp_proto.engine import (
    NEED_DATA,
    PAUSED,
    ClientConnection,
    ConnectionEnded,
    RemoteProtocolError,
    ServerConnection,
    ServerEvent,
    State,
    challenge,
)
from smtp_proto.proxy import (
    HttpConnect,
    ProxyCodecError,
    ProxyHeaderReader,
    choose_from_environment,
    parse_proxy,
)
from smtp_proto.sasl import (
    CLIENT_MECHANISMS,
    SERVER_MECHANISMS,
    Credentials,
    SASLError,
    TokenCredentials,
)
from smtp_proto.wire import (
    BareLineEndings,
    Capabilities,
    CommandError,
    ContentDecoder,
    ContentEncoder,
    Ehlo,
    Limits,
    ReceiveBuffer,
    ReplyReader,
    WireError,
    parse_command,
)

_LONGEST = 32  # octets that are repeated
_FEW, _MANY = 8, 64
_MOST = 3 * _MANY // _FEW  # times as many steps; were they quadratic, it would be 64
_SLACK = 2000

Read: TypeAlias = Callable[[bytes], object]
Trace: TypeAlias = Callable[[FrameType, str, object], "Trace | None"]


def _octets(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def _replies(data: bytes) -> None:
    buffer, reader = ReceiveBuffer(), ReplyReader(Limits())
    for octet in _octets(data):
        buffer.feed(octet)
        while (reply := reader.read(buffer)) is not None:
            challenge(reply)
            Capabilities.from_reply(reply)


def _client(data: bytes) -> None:
    engine = ClientConnection()
    for octet in _octets(b"220 s\r\n" + data):
        engine.receive_data(octet)
        while (event := engine.next_event()) is not NEED_DATA:
            if isinstance(event, ConnectionEnded):
                return
        if engine.can_send(Ehlo("c")):
            engine.send(Ehlo("c"))


def _server(data: bytes) -> None:
    engine = ServerConnection()
    last: ServerEvent | None = None
    for octet in _octets(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n" + data):
        engine.receive_data(octet)
        while (event := engine.next_event()) is not NEED_DATA:
            if event is not PAUSED:
                last = event
            elif engine.state is State.TLS:
                engine.tls_started()
            else:
                engine.send_reply(natural_reply(last))
            if isinstance(event, ConnectionEnded):
                return


def _content(data: bytes) -> None:
    for policy in BareLineEndings:
        buffer, decoder = ReceiveBuffer(), ContentDecoder(policy)
        for octet in _octets(data):
            buffer.feed(octet)
            decoder.decode(buffer)
    encoder = ContentEncoder()
    for octet in _octets(data):
        encoder.encode(octet)
    encoder.end()


def _proxies(data: bytes) -> None:
    codec = HttpConnect("p.example", 80).codec("s.example", 25)
    codec.start()
    for octet in _octets(b"HTTP/1.1 200 Ok\r\n" + data):
        codec.receive_data(octet)


def _header(data: bytes) -> None:
    reader = ProxyHeaderReader()
    for octet in _octets(data):
        reader.receive_data(octet)


def _mechanisms(data: bytes) -> None:
    for client in CLIENT_MECHANISMS.values():
        for credentials in (Credentials("user", "x"), TokenCredentials("user", "x")):
            with suppress(SASLError):
                client(credentials, CLIENT_CONTEXT).respond(data)
    for server in SERVER_MECHANISMS.values():
        server(SERVER_CONTEXT).start(data)


def _values(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for read in VALUES.values():
        with suppress(WireError):
            read(text)


def _urls(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for url in (text, f"http://{text}", f"smtp://s.example?{text}"):
        with suppress(WireError):
            parse_proxy(url)
        with suppress(SettingsError):
            from_url(url)
    choose_from_environment({"no_proxy": text}, "s.example", 25)


READS: Mapping[str, Read] = {
    "c": _client,
    "d": _content,
    "h": _header,
    "l": parse_command,
    "m": _mechanisms,
    "p": _proxies,
    "r": _replies,
    "s": _server,
    "u": _urls,
    "v": _values,
}
"""Each reads octets; its own errors only."""

_REFUSALS = (WireError, CommandError, RemoteProtocolError, ProxyCodecError)


def steps(data: bytes, reads: Mapping[str, Read] = READS) -> None:
    """Count the steps for a few of the octets, and for many."""
    letter, octets = data[:1].decode("latin-1"), data[1 : _LONGEST + 1]
    read = reads.get(letter, _replies)
    few, many = (_count(read, octets * times) for times in (_FEW, _MANY))
    assert many <= _MOST * few + _SLACK, (
        f"{few} steps, and {many} for {_MANY // _FEW} times as much"
    )


def _count(read: Read, data: bytes) -> int:
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Trace:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with suppress(*_REFUSALS):
            read(data)
    finally:
        sys.settrace(before)
    return count
