"""What comes of each talk where nothing goes wrong, and how long it is on the wire.

Knows the talks. Must not know what breaks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import inf

from smtp_proto.testing import ScriptedPeer
from smtp_proto.wire import Octets
from tests.adapters.worlds import Client
from tests.faults.kit import KITS, Wire, clock_of_sockets
from tests.faults.talks import Reference, Talk, as_told, said, take_part


@cache
def references(talk: Talk) -> tuple[Reference, ...]:
    """What comes of a talk, and how long it is on the wire; the same in each world."""
    kit, found = KITS[0], list[Reference]()

    async def main() -> None:
        peer = talk.peer(clock=clock_of_sockets)
        wire = Watched(peer)
        outcomes = await take_part(talk, kit.client(wire, **talk.settings))
        peer.finish()
        found.extend(wire.references(outcomes, talk))

    kit.run(main)
    return tuple(found)


async def assert_goes_well(talk: Talk, client: Client) -> None:
    """Take part where nothing goes wrong."""
    outcomes = await take_part(talk, client)
    told = [as_told(each.outcome) for each in references(talk)]
    assert [as_told(outcome) for outcome in outcomes] == told


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

    def references(self, outcomes: list[object], talk: Talk) -> Iterator[Reference]:
        whole = next(read for *_, read, heard in self._notes if heard.endswith(b"QUIT\r\n"))
        says = list(map(said, talk.decisive))
        for outcome, content, until in zip(outcomes, talk.contents, says, strict=True):
            read = whole - (says[-1] - until)  # more than one message is sent in clear only
            written = next(before for before, _, reads, _ in self._notes if reads >= read)
            sent = next(after for _, after, _, heard in self._notes if content in heard)
            yield Reference(outcome, until, read, written, sent if content else inf)
