"""What must not be found in anything that is told.

Knows the forms in which a peer could give a secret back. Must not know whose secret it is, what is
told, nor to whom.
"""

from base64 import b64encode

from smtp_proto.wire.errors import escaped

_PIECE = 8  # characters of a secret in a row that are too many: a peer may cut what it quotes


class Secrets:
    """Secrets that a peer has been told, and may quote."""

    __slots__ = ("_pieces", "_short")

    def __init__(self) -> None:
        self._pieces: set[str] = set()
        self._short: set[str] = set()

    def add(self, text: str) -> None:
        """Hide `text` from now on, in the form that it has on the wire, and where it is escaped."""
        for form in {text, escaped(text)}:
            if 0 < len(form) < _PIECE:
                self._short.add(form)
            self._pieces.update(_pieces_of(form))

    def add_octets(self, octets: bytes) -> None:
        """Hide what is sent in base64, with or without its padding."""
        self.add(b64encode(octets).decode("ascii").rstrip("="))

    def hidden_in(self, text: str) -> str:
        """The text; only "***" if any of the secrets, or a good part of one, is in it."""
        plain = text.replace("\n", "")
        shown = not self._pieces.isdisjoint(_pieces_of(plain)) or any(
            secret in plain for secret in self._short
        )
        return "***" if shown else text


def _pieces_of(text: str) -> set[str]:
    return {text[start : start + _PIECE] for start in range(len(text) - _PIECE + 1)}
