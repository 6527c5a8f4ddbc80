"""A client in memory: it drives `Serve`, and shows what the server says and asks.

Knows the actions of a server's flow, and TLS in memory. Must not know SMTP.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from smtp_proto.flow.actions import Action, Ask, Done, Receive, Send, Timer
from smtp_proto.flow.handler import Handler
from smtp_proto.flow.journal import QUIET, Journal
from smtp_proto.flow.serve import Serve, ServeSettings
from smtp_proto.flow.timeouts import Phase
from smtp_proto.flow.tls import TLSLayer

HOSTNAME = "mx.example.org"
NONCE = b"sixteen octets.."


settings = partial(ServeSettings, hostname=HOSTNAME, nonce=lambda: NONCE)


class Client:
    """One client of one server.

    `sends`: the octets of each Send, as the client reads them. `asks`: what the handler was asked.
    `timers`: each timer once, in order.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        served: ServeSettings | None = None,
        *,
        layer: TLSLayer | None = None,
        journal: Journal = QUIET,
    ) -> None:
        self.flow = Serve(handler or Handler(), served or settings(), "192.0.2.1", journal)
        self.layer = layer
        self.sends: list[bytes] = []
        self.asks: list[Ask] = []
        self.timers: list[Timer] = []
        self.closed = False
        self.reset = False
        self.action = self._next()

    def _next(self) -> Action | Done[None]:
        """Carry out what needs no client, and return what does: Receive or Done."""
        while True:
            action = self.flow.next_action()
            if isinstance(action, Done):
                assert action == Done(None, close=True)
                self.closed = True
                return action
            if not self.timers or self.timers[-1] is not action.timer:
                self.timers.append(action.timer)
            match action:
                case Send(data) if self.reset:
                    self.flow.failed(ConnectionResetError())
                case Send(data):
                    self.sends.append(self._clear(bytes(data)))
                case Ask(_, function, arguments):
                    self.asks.append(action)
                    self._ask(function, arguments)
                case Receive():
                    return action
                case _:
                    raise AssertionError(f"a server never asks for {action}")

    def _ask(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            answer = function(*arguments)
        except Exception as error:  # noqa: BLE001 - as every adapter does
            self.flow.failed(error)
        else:
            self.flow.answer(answer)

    def _clear(self, data: bytes) -> bytes:
        return data if self.layer is None else self.layer.receive_data(data)

    @property
    def asked(self) -> list[str]:
        """The names of the handler's methods that were called, and are not yet read."""
        names = [ask.name for ask in self.asks]
        self.asks.clear()
        return names

    @property
    def said(self) -> bytes:
        """All that the server has said and the client has not read."""
        said = b"".join(self.sends)
        self.sends.clear()
        return said

    @property
    def phase(self) -> Phase | None:
        return self.flow.phase

    def say(self, data: bytes) -> bytes:
        """Send octets and return what the server says to them."""
        return self.send(data if self.layer is None else self.layer.encrypt(data))

    def send(self, data: bytes) -> bytes:
        """As `say`, past TLS."""
        assert isinstance(self.action, Receive), self.action
        self.flow.receive_data(data)
        self.action = self._next()
        return self.said

    def end(self) -> bytes:
        """Close the stream."""
        self.flow.receive_eof()
        self.action = self._next()
        return self.said

    def fail(self, error: Exception) -> bytes:
        """Let the wait for the client fail."""
        self.flow.failed(error)
        self.action = self._next()
        return self.said

    def start_tls(self, layer: TLSLayer) -> bytes:
        """Shake hands, and return what the server says right behind that."""
        while not layer.handshake():
            layer.receive_data(self.send(layer.data_to_send()))
        self.layer = layer
        return self.send(layer.data_to_send())
