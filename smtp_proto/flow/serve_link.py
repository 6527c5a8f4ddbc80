"""The server's end of the stream: replies that wait, TLS, and the ways in which a stream ends.

Knows octets, clear and encrypted. Must not know what they say.
"""

from __future__ import annotations

from smtp_proto.flow.actions import Receive, Send, Timer
from smtp_proto.flow.errors import TLSError
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.tls import TLSInfo, TLSLayer
from smtp_proto.wire.buffer import Octets


class StreamEnded(Exception):
    """Nobody is there any more: nothing can be sent, nothing will come."""


class TimeIsUp(Exception):
    """The client has not said anything in its time; it may still listen."""


class Link:
    """One client's stream. What is written waits until it is flushed, or something is awaited.

    Each method that takes a timer raises StreamEnded or TimeIsUp; once TLS is on, TLSError, too.
    """

    __slots__ = ("_layer", "_unsent")

    def __init__(self) -> None:
        self._layer: TLSLayer | None = None
        self._unsent: list[bytes] = []

    @property
    def tls(self) -> TLSInfo | None:
        """What TLS is in force; None: none."""
        return self._layer.info if self._layer is not None else None

    def write(self, data: bytes) -> None:
        """Keep octets to be sent together with others. RFC 2920 3.2"""
        self._unsent.append(data)

    def flush(self, timer: Timer) -> Steps[None]:
        """Send what waits."""
        yield from self._send(self._take_unsent(), timer)

    def receive(self, timer: Timer) -> Steps[Octets]:
        """Send what waits, then wait for octets; b"": the client has ended the stream."""
        yield from self.flush(timer)
        layer = self._layer
        if layer is None:
            return (yield from self._receive(timer))
        clear = b""
        while not clear and not layer.closed:
            data = yield from self._receive(timer)
            if not data:
                raise StreamEnded  # without close_notify: what came may have been cut off
            clear = layer.receive_data(data)
            yield from self._send(layer.data_to_send(), timer)
        return clear

    def start_tls(self, layer: TLSLayer, timer: Timer) -> Steps[bytes]:
        """Shake hands, and return the clear text that came right behind the handshake.

        Raises TLSError or StreamEnded: the stream is of no use then.
        """
        try:
            while not layer.handshake():
                yield from self._send(layer.data_to_send(), timer)
                data = yield from self._receive(timer)
                if not data:
                    raise StreamEnded
                layer.receive_data(data)
        except TLSError:
            yield from self._send(layer.data_to_send(), timer)  # the alert: why
            raise
        except TimeIsUp:
            raise StreamEnded from None
        yield from self._send(layer.data_to_send(), timer)
        self._layer = layer
        return layer.receive_data(b"")

    def finish(self, timer: Timer) -> Steps[None]:
        """Send what waits, and the end of TLS: the last that is sent."""
        data = self._take_unsent()
        if self._layer is not None:
            data += self._layer.close()
        yield from self._send(data, timer)

    def drain(self, timer: Timer) -> Steps[None]:
        """Drop what the client still sends, until it is gone.

        A stream that is closed with octets unread may be torn down before the client has read the
        last reply.
        """
        while (yield from self._receive(timer)):
            pass

    def _take_unsent(self) -> bytes:
        data = b"".join(self._unsent)
        self._unsent.clear()
        return self._layer.encrypt(data) if data and self._layer is not None else data

    @staticmethod
    def _send(data: bytes, timer: Timer) -> Steps[None]:
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
        except OSError:
            raise StreamEnded from None
        return data
