"""The connection breaks behind each octet, in either direction: the truth is told in every world.

Knows what the truth is. Must not know how a flow finds its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import inf

import pytest

from smtp_proto.flow import ConnectError
from smtp_proto.testing import DRIP_SECONDS, Clock, Fault
from tests.adapters.worlds import Client
from tests.faults.kit import KITS, Kit, Wire, case_clock
from tests.faults.talks import (
    TALKS,
    Reference,
    Talk,
    assert_in_time,
    judge,
    lines_said,
    said,
    take_part,
)
from tests.faults.whole import assert_goes_well, references

LONGEST = 600.0  # seconds of any wait: `Timeouts.final`
BY_FLOWS_ALONE = ["many", "many chunks", "proxy", "IMPLICIT", "AUTO"]
"""Talks of which no world knows more than of the others: they are cut at each octet in one."""

BREAKS = [Fault.DROP, Fault.RESET, Fault.SILENCE, Fault.STALL]


@dataclass(frozen=True)
class Case:
    """A talk, and what breaks it: `reads` or `writes` octets on the wire, or `says` in clear."""

    fault: Fault
    reads: float = inf
    writes: float = inf
    says: int | None = None

    def wire(self, talk: Talk, clock: Clock) -> Wire:
        faults = () if self.says is None else ((self.says, self.fault),)
        return Wire(
            talk.peer(*faults, clock=clock),
            reads=self.reads,
            writes=self.writes,
            fault=self.fault,
        )


async def play(kit: Kit, talk: Talk, case: Case) -> tuple[Client, Wire, list[object], float]:
    """Take part in the talk; return what came of it, and how long it took."""
    wire = case.wire(talk, case_clock(kit))
    client = kit.client(wire, **talk.settings)
    begin = kit.now()
    outcomes = await take_part(talk, client)
    return client, wire, outcomes, kit.now() - begin


def known(case: Case, whole: Reference) -> bool | None:
    """Whether all that tells the outcome has been read by the time of the break."""
    if case.says is None:
        read = case.reads >= whole.read and case.writes >= whole.written
    elif case.fault is Fault.SPLIT:
        return True
    elif case.fault is Fault.DRIP:
        left = whole.says - case.says
        return True if left <= 0 else (None if left * DRIP_SECONDS <= LONGEST else False)
    else:
        read = case.says >= whole.says
    return None if read and case.fault is Fault.RESET else read


async def check(kit: Kit, name: str, case: Case, *, again: bool) -> None:
    talk, tasks = TALKS[name], kit.tasks()
    client, wire, outcomes, took = await play(kit, talk, case)
    for outcome, whole in zip(outcomes, references(talk), strict=True):
        judge(
            talk,
            outcome,
            whole,
            fault=case.fault,
            known=known(case, whole),
            content_written=wire.written >= whole.content_written,
        )
    assert wire.closed or wire.lost
    assert took < LONGEST * talk.transcript.count("S:")
    assert_in_time(talk, outcomes[-1], took, case.fault)
    await kit.settled()
    assert kit.tasks() == tasks
    if again:
        with pytest.raises(ConnectError, match="has been used"):
            await client.open()
        second = Wire(talk.peer(clock=case_clock(kit)))
        kit.prepare(client, second)
        await assert_goes_well(talk, client)
        assert second.closed or second.lost


def cases(name: str, step: int) -> Iterator[Case]:
    """Everything that can happen, behind each `step`th octet, and at each end."""
    talk = TALKS[name]
    whole = references(talk)[-1]

    def places(octets: float, shift: int) -> Iterable[int]:
        return sorted({*range(shift % step, int(octets), step), int(octets)})

    for shift, fault in enumerate(BREAKS):
        if fault is not Fault.STALL:
            yield from (Case(fault, reads=at) for at in places(whole.read, shift))
        if fault is not Fault.SILENCE:
            yield from (Case(fault, writes=at) for at in places(whole.written, shift))
    octets = said(talk.transcript)
    for shift, fault in enumerate(Fault):
        # Only where a line begins, a server says 421.
        chosen = beginnings(talk) if fault is Fault.CLOSING else places(octets, shift)
        yield from (Case(fault, says=at) for at in chosen)


def beginnings(talk: Talk) -> list[int]:
    """Where each line of the server's begins, and where the last one ends."""
    return list(accumulate(map(len, lines_said(talk.transcript)), initial=0))


def run(kit: Kit, name: str, chosen: Iterable[Case], *, again_each: int) -> None:
    async def main() -> None:
        for number, case in enumerate(chosen):
            try:
                await check(kit, name, case, again=number % again_each == 0)
            except (AssertionError, Exception) as error:
                error.add_note(f"{name}: {case}")
                raise

    kit.run(main)


@pytest.mark.parametrize("name", TALKS)
def test_the_truth_wherever_the_connection_breaks(kit: Kit, name: str) -> None:
    step = 131 if TALKS[name].secure else 29 if name in BY_FLOWS_ALONE else 13
    run(kit, name, cases(name, step), again_each=5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TALKS if name not in BY_FLOWS_ALONE])
def test_the_truth_behind_each_octet(kit: Kit, name: str) -> None:
    run(kit, name, cases(name, 1), again_each=20)


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_FLOWS_ALONE)
@pytest.mark.parametrize("kit", KITS[:1], indirect=True, ids=["socket"])
def test_the_truth_of_flows_behind_each_octet(kit: Kit, name: str) -> None:
    """Within TLS behind some: a record counts when it is whole, and has more octets than that."""
    run(kit, name, cases(name, 13 if TALKS[name].secure else 1), again_each=20)
