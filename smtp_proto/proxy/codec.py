"""What a codec is, and what all codecs are made of.

Knows how octets come in, cut anywhere, and go out. Must not know any proxy's protocol.

    codec = proxy.codec(destination_host, destination_port)
    send(codec.start())
    while not codec.established:
        send(codec.receive_data(receive()))     or, at the end of the input, codec.receive_eof()
    the first octets of the tunnel: codec.leftover

A codec is a generator that reads from top to bottom as its protocol does. It gets a `Link`, says
`link.send(...)`, and waits with `yield from link.take(...)`; an `Exchange` drives it.
"""

import re
from collections.abc import Generator
from typing import Generic, Protocol, TypeAlias, TypeVar

from smtp_proto.proxy.errors import ProxyClosed, ProxyCodecError, ProxyMalformed, ProxyRefused
from smtp_proto.wire import Octets, ReceiveBuffer, WireError, shown

T = TypeVar("T")


class ProxyCodec(Protocol):
    """One conversation with a proxy, from the open connection to the tunnel.

    look     established, leftover
    feed     start(), receive_data(), receive_eof()

    However the proxy's octets are cut, the outcome is the same. After an error it is of no use:
    each further call raises that error again.
    """

    @property
    def established(self) -> bool:
        """Whether the tunnel is there. Nothing of what goes through it may be sent before."""
        ...

    @property
    def leftover(self) -> bytes:
        """What came behind the proxy's answer: the first octets from the other end of the tunnel.

        A server that speaks first may well be heard together with the proxy. Empty as long as
        there is no tunnel.
        """
        ...

    def start(self) -> bytes:
        """Return the octets to send first. Call it once, when the connection is open."""
        ...

    def receive_data(self, data: Octets, /) -> bytes:
        """Take in what the proxy sent; return the octets to send next, b"" if there are none.

        Once the tunnel is there, `data` is added to `leftover`. Raises ProxyCodecError.
        """
        ...

    def receive_eof(self) -> None:
        """Take note that the proxy has closed its side: raises ProxyClosed.

        Once the tunnel is there it raises nothing: the end is that of the tunnel.
        """
        ...


# --- The inside of a codec -----------------------------------------------------------------------

Steps: TypeAlias = Generator[None, None, T]
"""Runs until it is over, and yields whenever it has to wait for more octets."""

_CRLF = b"\r\n"
_NEVER_IN_A_LINE = re.compile(rb"[\r\0]")

# What a stranger's first octet tells of his protocol.
_SPEAKERS = {
    b"\x00": "SOCKS4",
    b"\x05": "SOCKS5",
    b"\x15": "TLS",
    b"2": "SMTP",
    b"H": "HTTP",
}


class Link:
    """What a codec has of the connection.

    command  send()
    poll     expect(), peek(), take(), take_line(): `yield from` them, and they wait for what is
             not there yet
    fail     refused(), malformed(): they return the error to raise
    """

    __slots__ = ("_where", "received", "to_send")

    def __init__(self, where: str) -> None:
        self._where = where
        self.received = ReceiveBuffer()
        self.to_send = bytearray()

    def send(self, octets: bytes) -> None:
        """Send `octets` when the codec next waits."""
        self.to_send += octets

    def expect(self, start: bytes, protocol: str) -> Steps[None]:
        """Wait for `start` and leave it where it is. Raises at the first octet that differs."""
        while (received := self.received.peek(len(start))) != start:
            if not start.startswith(received):
                raise self._stranger(start, received, protocol)
            yield

    def peek(self, count: int) -> Steps[bytes]:
        """Return the next `count` octets, and leave them where they are."""
        while len(self.received) < count:
            yield
        return self.received.peek(count)

    def take(self, count: int) -> Steps[bytes]:
        """Take `count` octets off and return them."""
        yield from self.peek(count)
        return self.received.take(count)

    def take_line(self, maximum: int, too_long: str) -> Steps[bytes]:
        """Take one line off and return it without its CRLF.

        Raises ProxyMalformed(`too_long`) if it has more than `maximum` octets with its CRLF, and
        for a bare CR or LF: where a line ends decides where the tunnel begins, so that there must
        be one way only to read it.
        """
        searched = 0
        while (end := self.received.find(b"\n", searched)) < 0 and len(self.received) < maximum:
            searched = len(self.received)
            yield
        if not 0 <= end < maximum:
            raise self.malformed(too_long)
        line = self.received.take(end + 1)
        text = line.removesuffix(_CRLF)
        if text == line or _NEVER_IN_A_LINE.search(text):
            raise self.malformed("a line has NUL or a bare CR, or ends in a bare LF")
        return text

    def refused(self, why: str, code: int) -> ProxyRefused:
        """Return the error for a proxy that says no."""
        return ProxyRefused(self._where, why, code)

    def malformed(self, why: str) -> ProxyMalformed:
        """Return the error for what the protocol does not have."""
        return ProxyMalformed(self._where, why)

    def closed(self) -> ProxyClosed:
        """Return the error for a connection that ends too early."""
        return ProxyClosed(
            self._where,
            "the connection ended too early: whoever is there refuses without a word, or speaks "
            "another protocol",
        )

    def _stranger(self, start: bytes, received: bytes, protocol: str) -> ProxyMalformed:
        common = 0
        while received[common] == start[common]:
            common += 1
        wrong = received[: common + 1]
        speaker = _SPEAKERS.get(wrong)
        hint = (
            f"; {speaker} begins so: is it the right port, and the right kind?" if speaker else ""
        )
        return self.malformed(
            f'it does not speak {protocol}, but begins with "{shown(wrong)}"{hint}'
        )


class Exchange(Generic[T]):
    """Drives a codec's steps: the outside that `ProxyCodec` describes."""

    __slots__ = ("_error", "_established", "_link", "_result", "_steps")

    def __init__(self, link: Link, steps: Steps[T]) -> None:
        self._link = link
        self._steps = steps
        self._established = False
        self._result: T | None = None
        self._error: ProxyCodecError | None = None

    @property
    def established(self) -> bool:
        """Whether the steps have come to their end."""
        return self._established

    @property
    def leftover(self) -> bytes:
        """What came behind the last answer; empty as long as that is not whole."""
        received = self._link.received
        return received.peek(len(received)) if self._established else b""

    @property
    def result(self) -> T | None:
        """What the steps have returned; None as long as they have not."""
        return self._result

    def start(self) -> bytes:
        """Return the octets to send first."""
        return self._go_on()

    def receive_data(self, data: Octets) -> bytes:
        """Take in octets; return those to send next. Raises ProxyCodecError."""
        if self._error is None:
            self._link.received.feed(data)
        return self._go_on()

    def receive_eof(self) -> None:
        """Raise ProxyClosed, unless the steps have come to their end."""
        if self._error is None and not self._established:
            self._error = self._link.closed()
        if self._error is not None:
            raise self._error

    def _go_on(self) -> bytes:
        if self._error is not None:
            raise self._error
        if not self._established:
            try:
                next(self._steps)
            except StopIteration as stop:
                self._established, self._result = True, stop.value
            except ProxyCodecError as error:
                self._error = error
                raise
        to_send = bytes(self._link.to_send)
        self._link.to_send.clear()
        return to_send


# --- Credentials ---------------------------------------------------------------------------------

# C0, DEL, C1, and lone surrogates, which no UTF-8 has. Looking for them first means that no codec
# error is raised, which would carry the secret along.
_NOT_IN_A_CREDENTIAL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def encode_credential(what: str, text: str) -> bytes:
    """Return `text` as UTF-8. Raises WireError, which names `what` and never shows `text`."""
    if _NOT_IN_A_CREDENTIAL.search(text):
        raise WireError(what, "it has control characters or lone surrogates")
    return text.encode()


def require_both(username: str | None, password: str | None) -> None:
    """Raise WireError if one of the two is there without the other."""
    if password is None and username is not None:
        raise WireError("password", 'it is missing; give "" if it is empty')
    if username is None and password is not None:
        raise WireError("user name", 'it is missing; give "" if it is empty')
