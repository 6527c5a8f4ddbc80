"""What must not be found in anything that is told of a login.

Knows the secrets of one exchange, and the forms in which a server could give them back. Must not
know what is told, nor to whom.
"""

from __future__ import annotations

from base64 import b64encode

from smtp_proto.sasl import AnyCredentials, Credentials, TokenCredentials
from smtp_proto.wire import Reply

_PIECE = 8  # characters of a secret in a row that are too many: a server may cut what it quotes

_KNOWN = 100  # replies that need not be looked through again


class Secrets:
    """The secrets of an exchange; its responses are among them."""

    __slots__ = ("_known", "_pieces", "_short")

    def __init__(self, credentials: AnyCredentials | None) -> None:
        self._pieces: set[str] = set()
        self._short: set[str] = set()
        self._known: dict[Reply, Reply] = {}  # a server says the same again and again
        match credentials:
            case Credentials():
                self._add(credentials.password)
                self.add(credentials.password.encode(errors="surrogatepass"))
            case TokenCredentials():
                self._add(credentials.token)
                self.add(credentials.token.encode(errors="surrogatepass"))
            case _:
                pass

    def add(self, octets: bytes | None) -> None:
        """A response that is sent is a secret, in the form that it has on the wire."""
        if octets:
            self._add(b64encode(octets).decode("ascii").rstrip("="))

    def _add(self, text: str) -> None:
        self._known.clear()
        if len(text) < _PIECE:
            self._short.add(text)
        self._pieces.update(_pieces_of(text))

    def hidden_in(self, text: str) -> str:
        """The text; only "***" if any of the secrets, or a good part of one, is in it."""
        plain = text.replace("\n", "")
        shown = not self._pieces.isdisjoint(_pieces_of(plain)) or any(
            secret in plain for secret in self._short if secret
        )
        return "***" if shown else text

    def reply_without(self, reply: Reply) -> Reply:
        """The reply, without its text if that quotes a secret."""
        without = self._known.get(reply)
        if without is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            without = self._known[reply] = self._look_through(reply)
        return without

    def _look_through(self, reply: Reply) -> Reply:
        if self.hidden_in(reply.text) == reply.text:
            return reply
        status = reply.enhanced_status
        return Reply.build(reply.code, "***", status=None if status is None else str(status))


def _pieces_of(text: str) -> set[str]:
    return {text[start : start + _PIECE] for start in range(len(text) - _PIECE + 1)}
