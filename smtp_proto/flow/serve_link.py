"""The server's end of the link: replies that wait, and the ways in which a stream ends.

Knows octets. Must not know what they say.
"""

from __future__ import annotations

from smtp_proto.flow.actions import Receive, Send, Timer
from smtp_proto.flow.errors import SMTPTimeout
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.link import Link
from smtp_proto.flow.tls import TLSInfo, TLSLayer
from smtp_proto.wire.buffer import Octets

_FULL = 4_096  # octets of replies that wait, or a bit more


class StreamEnded(Exception):
    """Nobody is there any more: nothing can be sent, nothing will come."""


class TimeIsUp(Exception):
    """The client has not said anything in its time; it may still listen."""


class Interrupted(Exception):
    """The server is shut down, and the client has not begun anything that is worth waiting for."""


class ServerLink:
    """One client's stream. What is written waits until it is flushed, or something is awaited.

    Each method that takes a timer raises StreamEnded or TimeIsUp; once TLS is on, TLSError, too.
    Interrupted comes from `receive`, where whoever carries out the flow says so.
    """

    __slots__ = ("_layer", "_link", "_unsent")

    def __init__(self) -> None:
        self._link = Link()
        self._layer: TLSLayer | None = None
        self._unsent = bytearray()

    @property
    def tls(self) -> TLSInfo | None:
        """What TLS is in force; None: none."""
        return self._layer.info if self._layer is not None else None

    def write(self, data: bytes) -> None:
        """Keep octets to be sent together with others. RFC 2920 3.2"""
        self._unsent += data

    @property
    def full(self) -> bool:
        """Whether so much waits that it is to be flushed, whatever else there is to do."""
        return len(self._unsent) >= _FULL

    def flush(self, timer: Timer) -> Steps[None]:
        """Send what waits."""
        yield from self._send(self._take_unsent(), timer)

    def receive(self, timer: Timer) -> Steps[Octets]:
        """Send what waits, then wait for octets; b"": the client has ended the stream."""
        yield from self.flush(timer)
        link = self._link
        if not link.encrypted:
            return (yield from self._receive(timer))
        clear: Octets = b""
        while not clear and not link.closed:
            data = yield from self._receive(timer)
            if not data:
                raise StreamEnded  # without close_notify: what came may have been cut off
            clear, answer = link.decrypt(data)
            yield from self._send(answer, timer)
        return clear

    def start_tls(self, layer: TLSLayer, timer: Timer) -> Steps[Octets]:
        """Shake hands, and return the clear text that came right behind the handshake.

        Raises TLSError or StreamEnded: the stream is of no use then.
        """
        try:
            yield from self._link.start_tls(layer, timer)
        except SMTPTimeout:
            raise StreamEnded from None
        self._layer = layer
        return self._link.take_pending()

    def finish(self, timer: Timer) -> Steps[None]:
        """Send what waits, and the end of TLS: the last that is sent."""
        yield from self._send(bytes(self._take_unsent()) + self._link.close(), timer)

    def drain(self, timer: Timer) -> Steps[None]:
        """Drop what the client still sends, until it is gone.

        A stream that is closed with octets unread may be torn down before the client has read the
        last reply.
        """
        while (yield from self._receive(timer)):
            pass

    def _take_unsent(self) -> Octets:
        data = bytes(self._unsent)
        self._unsent.clear()
        return self._link.encrypt(data) if data else data

    @staticmethod
    def _send(data: Octets, timer: Timer) -> Steps[None]:
        if not data:
            return
        try:
            yield Send(data, timer)
        except OSError:  # a TimeoutError, too: who does not read will not read the next reply
            raise StreamEnded from None

    @staticmethod
    def _receive(timer: Timer) -> Steps[Octets]:
        try:
            data: Octets = yield Receive(timer)
        except TimeoutError:
            raise TimeIsUp from None
        except InterruptedError:
            raise Interrupted from None
        except OSError:
            raise StreamEnded from None
        return data
