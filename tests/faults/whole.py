"""What comes of each talk where nothing goes wrong, and how long it is on the wire.

Knows the talks. Must not know what breaks them.
"""

from __future__ import annotations

from functools import cache
from math import inf

from smtp_proto.testing import ScriptedPeer
from smtp_proto.wire import Octets
from tests.faults.kit import KITS, Wire, clock_of_sockets
from tests.faults.talks import TALKS, Reference, Talk, take_part


@cache
def reference(name: str) -> Reference:
    """What comes of a talk, and how long it is on the wire; the same in each world."""
    talk = TALKS[name]
    kit, found = KITS[0], list[Reference]()

    async def main() -> None:
        peer = talk.peer(clock=clock_of_sockets)
        wire = Watched(peer)
        outcome = await take_part(talk, kit.client(wire, **talk.settings))
        peer.finish()
        found.append(wire.reference(outcome, talk))

    kit.run(main)
    return found[0]


class Watched(Wire):
    """Notes what had been heard and read at each write."""

    def __init__(self, peer: ScriptedPeer) -> None:
        super().__init__(peer)
        self._peer = peer
        self._notes: list[tuple[int, int, int, bytes]] = []

    def write(self, data: Octets) -> None:
        before, read = self.written, self.read_so_far
        super().write(data)
        self._notes.append((before, self.written, read, bytes(self._peer.heard)))

    def reference(self, outcome: object, talk: Talk) -> Reference:
        assert talk.content in self._peer.heard
        written, _, read, _ = next(note for note in self._notes if note[3].endswith(b"QUIT\r\n"))
        sent = next(after for _, after, _, heard in self._notes if talk.content in heard)
        return Reference(outcome, read, sent if talk.content else inf, written)
