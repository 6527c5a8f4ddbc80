"""Servers in memory, one within the other: TLS, proxies that make tunnels, and plain octets.

Knows the layer of TLS that the adapters bring. Must not know SMTP, nor any proxy's protocol.

Each one is a `scripted.Server` and holds the next one; the innermost is a Transcript, or Says.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator

import trustme

from smtp_adapters.tls import ClientTLS, MemoryTLSLayer
from smtp_proto.flow.actions import Timer
from smtp_proto.flow.errors import TLSError
from smtp_proto.flow.tls import ClientTLSFactory
from tests.flow.scripted import Server

_ALL_AT_ONCE = 1_000_000


def serving_as(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ClientTLSFactory:
    return ClientTLS(ca_data=authority.cert_pem.bytes().decode()).factory()


class Pieces:
    """Octets to be received, so many at a time as `sizes` says, and in the end all at once."""

    def __init__(self, sizes: Iterable[int] = ()) -> None:
        self._sizes: Iterator[int] = iter(sizes)
        self._octets = bytearray()

    def __bool__(self) -> bool:
        return bool(self._octets)

    def put(self, octets: bytes) -> None:
        self._octets += octets

    def take(self) -> bytes:
        piece = bytes(self._octets[: next(self._sizes, _ALL_AT_ONCE)])
        del self._octets[: len(piece)]
        return piece


class Says:
    """Says one thing after the other, then ends the stream; or fails as an OSError among them."""

    def __init__(self, *things: bytes | OSError) -> None:
        self.timers: list[Timer] = []
        self.sent = b""
        self.things = list(things)

    def write(self, data: bytes) -> None:
        self.sent += data

    def read(self) -> bytes:
        match self.things.pop(0) if self.things else b"":
            case OSError() as error:
                raise error
            case octets:
                return octets


class Encrypting:
    """Speaks TLS. `inside`: who speaks within it.

    `at_once`: it speaks together with the end of the handshake. `cut_off`: it ends without
    close_notify. `failure`: what became of TLS, in words; `closed`: the client has said
    close_notify.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        inside: Server,
        sizes: Iterable[int] = (),
        *,
        at_once: bool = False,
        cut_off: bool = False,
    ) -> None:
        self.timers: list[Timer] = []
        self.inside = inside
        self.failure = ""
        self.layer = MemoryTLSLayer(context, server_side=True)
        self._established = False
        self._at_once = at_once
        self._cut_off = cut_off
        self._ended = False
        self._pieces = Pieces(sizes)

    @property
    def closed(self) -> bool:
        return self.layer.closed

    def write(self, data: bytes) -> None:
        try:
            clear = self.layer.receive_data(data)
            if not self._established and self.layer.handshake():
                self._established = True
                clear = self.layer.receive_data(b"")
        except TLSError as error:
            self.failure = str(error)
            clear = b""
        self._pieces.put(self.layer.data_to_send())
        if clear:
            self.inside.write(clear)
        if self._established and self._at_once:
            self._at_once = False
            self._speak()

    def read(self) -> bytes:
        if not self._pieces and not self._ended and not self.failure:
            self._speak()
        return self._pieces.take()

    def _speak(self) -> None:
        octets = self.inside.read()
        self._ended = not octets
        if octets:
            self._pieces.put(self.layer.encrypt(octets))
        elif not self._cut_off:
            self._pieces.put(self.layer.close())


class Tunnel:
    """A proxy: it is asked and answers, once or more, and is then what is behind the tunnel.

    Whatever the client says at another time, or otherwise, fails the test. `glued`: what is behind
    the tunnel is heard together with the last answer.
    """

    def __init__(
        self,
        exchanges: Iterable[tuple[bytes, bytes]],
        behind: Server,
        sizes: Iterable[int] = (),
        *,
        glued: bool = False,
    ) -> None:
        self.timers: list[Timer] = []
        self.behind = behind
        self._exchanges = list(exchanges)
        self._glued = glued
        self._asked = b""
        self._pieces = Pieces(sizes)

    def write(self, data: bytes) -> None:
        assert not self._pieces, f"the client has not heard the answer and says {data!r}"
        if not self._exchanges:
            self.behind.write(data)
            return
        question, answer = self._exchanges[0]
        self._asked += data
        assert question.startswith(self._asked), f"{self._asked!r} where {question!r} is due"
        if self._asked == question:
            del self._exchanges[0]
            self._asked = b""
            self._pieces.put(answer)
            if self._glued and not self._exchanges:
                self._pieces.put(self.behind.read())

    def read(self) -> bytes:
        return self._pieces.take() if self._pieces or self._exchanges else self.behind.read()
