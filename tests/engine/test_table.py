"""The table, walked whole: every product of state, move and outcome has the row it should have."""

from itertools import product

import pytest

from smtp_proto.engine import (
    GROUP_ENDERS,
    LEGAL,
    TABLE,
    Move,
    Outcome,
    Protocol,
    State,
    hoped,
    legal,
    move_of,
    outcome_of,
)
from smtp_proto.engine.table import EXPECTED, FOREIGN
from smtp_proto.wire import Bdat
from tests.engine.sessions import COMMANDS

# All that a reply can do, written down a second time: state, moves, then outcome and state.
ROWS = """
GREETING  CONNECT                             OK HELO  FAIL GREETING
GREETING  QUIT                                OK CLOSED  FAIL CLOSED

HELO      EHLO HELO LHLO                      OK READY  FAIL HELO
HELO      RSET VRFY EXPN HELP NOOP OTHER      OK HELO  FAIL HELO
HELO      QUIT                                OK CLOSED  FAIL CLOSED

READY     EHLO HELO LHLO                      OK READY  FAIL READY
READY     RSET VRFY EXPN HELP NOOP OTHER      OK READY  FAIL READY
READY     QUIT                                OK CLOSED  FAIL CLOSED
READY     MAIL                                OK MAIL  FAIL READY
READY     STARTTLS                            OK TLS  FAIL READY
READY     AUTH                                OK READY  MORE AUTH  FAIL READY

MAIL      EHLO HELO LHLO RSET                 OK READY  FAIL MAIL
MAIL      VRFY EXPN HELP NOOP OTHER           OK MAIL  FAIL MAIL
MAIL      QUIT                                OK CLOSED  FAIL CLOSED
MAIL      RCPT                                OK RCPT  FAIL MAIL
MAIL      DATA                                MORE DATA  FAIL MAIL
MAIL      BDAT                                OK BDAT  FAIL READY
MAIL      BDAT_LAST                           OK READY  FAIL READY

RCPT      EHLO HELO LHLO RSET                 OK READY  FAIL RCPT
RCPT      VRFY EXPN HELP NOOP OTHER RCPT      OK RCPT  FAIL RCPT
RCPT      QUIT                                OK CLOSED  FAIL CLOSED
RCPT      DATA                                MORE DATA  FAIL RCPT
RCPT      BDAT                                OK BDAT  FAIL READY
RCPT      RECIPIENT                           OK RCPT  FAIL RCPT
RCPT      BDAT_LAST                           OK READY  FAIL READY

DATA      RECIPIENT                           OK DATA  FAIL DATA
DATA      CONTENT                             OK READY  FAIL READY

BDAT      EHLO HELO LHLO RSET                 OK READY  FAIL BDAT
BDAT      VRFY EXPN HELP NOOP OTHER           OK BDAT  FAIL BDAT
BDAT      QUIT                                OK CLOSED  FAIL CLOSED
BDAT      BDAT                                OK BDAT  FAIL READY
BDAT      RECIPIENT                           OK BDAT  FAIL BDAT
BDAT      BDAT_LAST                           OK READY  FAIL READY

AUTH      AUTH_RESPONSE                       OK READY  MORE AUTH  FAIL READY
TLS       TLS                                 OK HELO
"""

AWAITING_A_COMMAND = {
    State.GREETING,
    State.HELO,
    State.READY,
    State.MAIL,
    State.RCPT,
    State.BDAT,
}
COMMAND_MOVES = {move_of(command) for command in COMMANDS} | {Move.BDAT, Move.BDAT_LAST}
COMMAND_MOVES -= {Move.AUTH_RESPONSE}

NOT_TO_BE_ASKED_FOR = {
    (State.MAIL, Move.DATA),
    (State.MAIL, Move.BDAT),
    (State.MAIL, Move.BDAT_LAST),
}


def rows() -> dict[tuple[State, Move, Outcome], State]:
    table: dict[tuple[State, Move, Outcome], State] = {}
    for line in filter(None, ROWS.splitlines()):
        state, moves, outcomes = line[:10].strip(), line[10:46].split(), line[46:].split()
        for move, at in product(moves, range(0, len(outcomes), 2)):
            outcome, following = outcomes[at : at + 2]
            table[State[state], Move[move], Outcome[outcome]] = State[following]
    return table


SPECIFIED = rows()
STATES_AND_MOVES = list(product(State, Move))


@pytest.mark.parametrize(("state", "move"), STATES_AND_MOVES)
def test_every_product_has_its_row(state: State, move: Move) -> None:
    for outcome in Outcome:
        row = (state, move, outcome)
        expected = SPECIFIED.get(row)
        any_row = any((state, move, other) in SPECIFIED for other in Outcome)
        if not any_row and outcome is Outcome.FAIL and state in AWAITING_A_COMMAND:
            # 503: nothing changes.
            expected = state if move in COMMAND_MOVES else None
        assert TABLE.get(row) is expected


@pytest.mark.parametrize(("state", "move"), STATES_AND_MOVES)
def test_what_may_be_asked_for_is_what_can_go_well(state: State, move: Move) -> None:
    going_well = SPECIFIED.get((state, move, hoped(move)))
    if (state, move) in NOT_TO_BE_ASKED_FOR:
        assert going_well is not None
        assert not legal(state, move)
    else:
        assert legal(state, move) == (going_well is not None)
        assert LEGAL.get((state, move)) is going_well


@pytest.mark.parametrize(("state", "move"), STATES_AND_MOVES)
def test_what_cannot_go_well_is_expected_to_change_nothing(state: State, move: Move) -> None:
    assert EXPECTED[state, move] is SPECIFIED.get((state, move, hoped(move)), state)


def test_no_transaction_begins_by_a_refusal() -> None:
    transaction = {State.MAIL, State.RCPT, State.DATA, State.BDAT}
    for (state, _, outcome), following in TABLE.items():
        if outcome is Outcome.FAIL and following in transaction:
            assert following is state


def test_recipients_are_never_left_for_another_sender() -> None:
    # Every way from one MAIL to the next leads through READY or HELO, where there is none.
    for (state, move, outcome), following in TABLE.items():
        if move is Move.MAIL and outcome is Outcome.OK:
            assert state is State.READY
            assert following is State.MAIL


def test_every_state_can_be_reached_and_left() -> None:
    reached = set(TABLE.values()) | {State.GREETING}
    left = {state for (state, _, _), following in TABLE.items() if following is not state}
    assert reached == set(State)
    assert left == set(State) - {State.CLOSED}


@pytest.mark.parametrize("code", range(200, 600))
def test_the_first_digit_decides(code: int) -> None:
    outcomes = {"2": Outcome.OK, "3": Outcome.MORE, "4": Outcome.FAIL, "5": Outcome.FAIL}
    assert outcome_of(code) is outcomes[str(code)[0]]


def test_only_data_hopes_for_more() -> None:
    assert {move for move in Move if hoped(move) is not Outcome.OK} == {Move.DATA}
    assert hoped(Move.DATA) is Outcome.MORE


def test_each_command_is_one_move() -> None:
    moves = [move_of(command) for command in COMMANDS]
    assert [move.name for move in moves] == [
        *("HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "RSET", "VRFY", "EXPN", "HELP"),
        *("NOOP", "QUIT", "STARTTLS", "AUTH", "AUTH_RESPONSE", "OTHER"),
    ]
    assert move_of(Bdat(5)) is Move.BDAT
    assert move_of(Bdat(5, last=True)) is Move.BDAT_LAST


def test_what_may_stand_within_a_group() -> None:
    # RFC 2920 3.1 and RFC 3030 2; the rest are no commands.
    within = {Move.RSET, Move.MAIL, Move.RCPT, Move.BDAT, Move.BDAT_LAST}
    no_commands = {Move.RECIPIENT, Move.CONTENT, Move.TLS}
    assert set(Move) - within - no_commands == GROUP_ENDERS


def test_each_protocol_has_its_own_greeting() -> None:
    assert FOREIGN[Protocol.SMTP] == {Move.LHLO}
    assert FOREIGN[Protocol.LMTP] == {Move.EHLO, Move.HELO}
