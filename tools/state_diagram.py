"""Draws the engine's state table for the docs: `python -m tools.state_diagram [--check]`.

Knows Markdown and Mermaid. Must not know SMTP: whatever it shows, it has from the table.
"""

import sys
from collections.abc import Mapping, Sequence
from enum import Enum

from smtp_proto.engine.table import TABLE, Move, Outcome, State, legal
from tools.page import ROOT, keep_fresh

PAGE = ROOT / "docs" / "states.md"

OPENING = """\
# The states of a session

Made from the table in `smtp_proto/engine/table.py` by `make docs`; `make check` tells when it is
stale. A state is what the server holds. It is left by a move, a command mostly, together with the
first digit of the reply to it.

## The way through

What a client may ask for, where it leads to another state. Besides, 421 closes the session
anywhere.

"""

ORDERLY = """
## What may be asked for

Each move that is legal in a state, and the state after each answer.

"""

HASTY = """
## What may be heard besides

What a client has pipelined before it knew that an earlier command fails, answered by a server that
takes it all the same. Any other command out of order is refused (4yz, 5yz), which changes nothing.

"""


def page() -> str:
    """Write the whole page."""
    moves = sorted({(state, move) for state, move, _ in TABLE}, key=lambda row: in_order(*row))
    orderly = [row for row in moves if legal(*row)]
    hasty = [row for row in moves if not legal(*row) and not merely_refused(*row)]
    parts = (OPENING, diagram(), ORDERLY, table(orderly), HASTY, table(hasty))
    return "".join(parts)


def merely_refused(state: State, move: Move) -> bool:
    """Whether no answer to the move changes the state."""
    return all(
        TABLE.get((state, move, outcome), state) is state for outcome in (Outcome.OK, Outcome.MORE)
    )


def diagram() -> str:
    """Draw the legal moves that lead to another state."""
    arrows: dict[tuple[State, State], dict[Move, list[Outcome]]] = {}
    for state, move, outcome in sorted(TABLE, key=lambda row: in_order(*row)):
        following = TABLE[state, move, outcome]
        if legal(state, move) and following is not state:
            arrow = arrows.setdefault((state, following), {})
            arrow.setdefault(move, []).append(outcome)
    lines = [
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {State.GREETING.name}",
        *(
            f"    {state.name} --> {following.name} : {label(arrow)}"
            for (state, following), arrow in arrows.items()
        ),
        f"    {State.CLOSED.name} --> [*]",
        "```",
    ]
    return "\n".join(lines) + "\n"


def label(arrow: Mapping[Move, Sequence[Outcome]]) -> str:
    """Name the moves of one arrow, those with the same outcomes together."""
    alike: dict[str, list[str]] = {}
    for move, outcomes in arrow.items():
        answers = ", ".join(outcome.value for outcome in outcomes)
        alike.setdefault(answers, []).append(move.value)
    return "<br/>".join(f"{', '.join(moves)} ({answers})" for answers, moves in alike.items())


def table(rows: Sequence[tuple[State, Move]]) -> str:
    """List moves, each with the state after each answer; those of the same effect together."""
    alike: dict[tuple[State, str], list[str]] = {}
    for state, move in rows:
        after = (TABLE.get((state, move, outcome)) for outcome in Outcome)
        effect = " | ".join(following.name if following else "" for following in after)
        alike.setdefault((state, effect), []).append(move.value)
    lines = [
        f"| state | moves | {' | '.join(outcome.value for outcome in Outcome)} |",
        f"|---|---|{'---|' * len(Outcome)}",
        *(
            f"| {state.name} | {', '.join(moves)} | {effect} |"
            for (state, effect), moves in alike.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def in_order(*members: Enum) -> list[int]:
    """Give the places of members in their enumerations, to sort by."""
    return [list(type(member)).index(member) for member in members]


if __name__ == "__main__":
    sys.exit(keep_fresh(PAGE, page, "Draw the engine's state table."))
