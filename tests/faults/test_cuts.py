"""The connection breaks behind each octet, in either direction: the truth is told in every world.

Knows what the truth is. Must not know how a flow finds its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

import pytest

from smtp_proto.flow import ConnectError, SMTPError
from smtp_proto.testing import DRIP_SECONDS, Clock, Fault
from tests.adapters.worlds import Client
from tests.faults.kit import Kit, Wire, case_clock
from tests.faults.talks import (
    TALKS,
    Reference,
    Talk,
    assert_in_time,
    judge,
    said,
    take_part,
)
from tests.faults.whole import reference

LONGEST = 600.0  # seconds of any wait: `Timeouts.final`
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


async def play(kit: Kit, talk: Talk, case: Case) -> tuple[Client, Wire, object, float]:
    """Take part in the talk; return what came of it, and how long it took."""
    wire = case.wire(talk, case_clock(kit))
    client = kit.client(wire, **talk.settings)
    begin = kit.now()
    outcome = await take_part(talk, client)
    return client, wire, outcome, kit.now() - begin


def known(talk: Talk, case: Case, whole: Reference) -> bool | None:
    """Whether all that tells the outcome has been read by the time of the break."""
    if case.says is None:
        read = case.reads >= whole.read and case.writes >= whole.written
    elif case.fault is Fault.SPLIT:
        return True
    elif case.fault is Fault.DRIP:
        left = said(talk.decisive) - case.says
        return True if left <= 0 else (None if left * DRIP_SECONDS <= LONGEST else False)
    else:
        read = case.says >= said(talk.decisive)
    return None if read and case.fault is Fault.RESET else read


async def check(kit: Kit, name: str, case: Case, *, again: bool) -> None:
    talk, whole, tasks = TALKS[name], reference(name), kit.tasks()
    client, wire, outcome, took = await play(kit, talk, case)
    judge(
        talk,
        outcome,
        whole,
        fault=case.fault,
        known=known(talk, case, whole),
        content_written=wire.written >= whole.content_written,
    )
    assert wire.closed or wire.lost
    assert took < LONGEST * talk.transcript.count("S: ")
    assert_in_time(outcome, took, case.fault)
    await kit.settled()
    assert kit.tasks() == tasks
    if again:
        with pytest.raises(ConnectError, match="has been used"):
            await client.open()
        second = Wire(talk.peer(clock=case_clock(kit)))
        kit.prepare(client, second)
        assert not isinstance(await take_part(talk, client), SMTPError)
        assert second.closed or second.lost


def cases(name: str, step: int) -> Iterator[Case]:
    """Everything that can happen, behind each `step`th octet, and at each end."""
    whole, talk = reference(name), TALKS[name]

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
    lines = [line for line in talk.transcript.splitlines() if line.startswith("S: ")]
    return [said("\n".join(lines[:count])) for count in range(len(lines) + 1)]


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
    step = 131 if TALKS[name].secure else 13
    run(kit, name, cases(name, step), again_each=5)


@pytest.mark.slow
@pytest.mark.parametrize("name", TALKS)
def test_the_truth_behind_each_octet(kit: Kit, name: str) -> None:
    run(kit, name, cases(name, 1), again_each=20)
