"""One byte stream, and the layers of TLS over it.

Knows octets, clear and encrypted, and how many came while a timer ran.
Must not know what they say, nor whether this is the client's end or the server's.
"""

from __future__ import annotations

from contextlib import suppress

from smtp_proto.flow.actions import Receive, Send, Timer
from smtp_proto.flow.errors import SMTPTimeout, TLSError
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.timeouts import TotalTimeout
from smtp_proto.flow.tls import TLSLayer
from smtp_proto.wire import Octets


class Link:
    """A stream that is open. TLS through a proxy with TLS is two layers, one in the other.

    Look: `encrypted`, `closed`, `heard()`. What cannot be sent or received raises what the flow was
    told of: OSError, or TimeoutError.
    """

    __slots__ = ("_heard", "_layers", "_pending", "_waiting", "encrypted")

    def __init__(self) -> None:
        self.encrypted = False
        """Whether there is any layer."""
        self._layers: list[TLSLayer] = []  # the innermost last
        self._pending: Octets = b""
        self._waiting: Timer | None = None
        self._heard = 0  # octets since the present wait began

    @property
    def closed(self) -> bool:
        """Whether the other end of a layer has ended it: nothing more will come."""
        return any(layer.closed for layer in self._layers)

    def push_back(self, clear: Octets) -> None:
        """Keep what came together with something else: it is to be read next."""
        self._pending = clear

    def take_pending(self) -> Octets:
        """Return what was pushed back, b"" if nothing was."""
        pending, self._pending = self._pending, b""
        return pending

    def encrypt(self, clear: Octets) -> Octets:
        """Turn clear text into what is to be sent. Raises TLSError."""
        return self._encrypt(clear, len(self._layers))

    def decrypt(self, data: Octets) -> tuple[Octets, Octets]:
        """Turn what came into clear text, and what the layers want sent for it. Raises TLSError."""
        to_send: list[Octets] = []
        for depth, layer in enumerate(self._layers):
            data = layer.receive_data(data)
            answer = layer.data_to_send()  # to a key update, say
            if answer:
                to_send.append(self._encrypt(answer, depth))
        return data, b"".join(to_send)

    def send(self, clear: Octets, timer: Timer) -> Steps[None]:
        """Send octets through all layers."""
        yield Send(self.encrypt(clear), timer)

    def receive(self, timer: Timer) -> Steps[Octets]:
        """Wait for clear octets; b"": the stream, or a layer, has ended."""
        if self._pending:
            return self.take_pending()
        while not self.closed:
            data: Octets = yield Receive(timer)
            self.count(data, timer)
            if not data or not self.encrypted:
                return data
            clear, to_send = self.decrypt(data)
            if to_send:
                yield Send(to_send, timer)
            if clear:
                return clear
        return b""

    def start_tls(self, layer: TLSLayer, timer: Timer) -> Steps[None]:
        """Shake hands, and put the layer on top of the others.

        Raises SMTPTimeout, or TLSError, also where the stream ends. Clear text that came right
        behind is pending.
        """
        try:
            yield from self._shake_hands(layer, timer)
        except TLSError as error:
            error.phase = timer.phase
            alert = layer.data_to_send()  # it tells the peer why
            if alert:
                with suppress(OSError):
                    yield from self.send(alert, timer)
            raise
        except TimeoutError as error:
            raise self.timed_out(timer, error) from None
        except OSError as error:
            lost = TLSError(f"the connection was lost in the TLS handshake: {error}")
            lost.phase = timer.phase
            raise lost from error
        self._layers.append(layer)
        self.encrypted = True
        self._pending = layer.receive_data(b"")

    def _shake_hands(self, layer: TLSLayer, timer: Timer) -> Steps[None]:
        early = self.take_pending()
        if early:
            layer.receive_data(early)
        while True:
            complete = layer.handshake()
            outgoing = layer.data_to_send()
            if outgoing:
                yield from self.send(outgoing, timer)
            if complete:
                return
            data = yield from self.receive(timer)
            if not data:
                layer.receive_eof()
            layer.receive_data(data)

    def close(self) -> bytes:
        """The octets that end each layer (close_notify), the innermost first."""
        ends = [
            self._encrypt(layer.close(), depth)
            for depth, layer in reversed(tuple(enumerate(self._layers)))
        ]
        return b"".join(ends)

    def count(self, data: Octets, timer: Timer) -> None:
        """Take note of how much has come while this timer ran."""
        if timer is not self._waiting:
            self._waiting, self._heard = timer, 0
        self._heard += len(data)

    def heard(self, timer: Timer) -> int:
        """How many octets have come while this timer ran."""
        return self._heard if timer is self._waiting else 0

    def timed_out(self, timer: Timer, error: TimeoutError) -> SMTPTimeout:
        """The error for a wait that took too long, or in which the whole operation did."""
        match error:
            case TotalTimeout():
                whole, seconds = True, error.seconds
            case TimeoutError(errno=None):
                whole, seconds = False, timer.seconds
            case _:
                whole, seconds = False, None  # the system gave up, by a limit of its own
        return SMTPTimeout(timer.phase, seconds, self.heard(timer), whole=whole)

    def _encrypt(self, clear: Octets, depth: int) -> Octets:
        """Pass octets through the outermost `depth` layers."""
        for layer in reversed(self._layers[:depth]):
            clear = layer.encrypt(clear)
        return clear
