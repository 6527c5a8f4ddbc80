"""What is legal when, and what it leads to: the order of SMTP as one table. RFC 5321 4.1.4

Everything that moves the state of a session stands here.
Must not know which of the two roles asks.

A state is what the server holds. The server is in it; the client follows it by the replies. A
state is left by a move, which is a command mostly, together with the outcome of that move, which
is the first digit of the reply:

    (State, Move, Outcome) -> State

The table has rows of three kinds, and no reply may come that has no row:

    orderly     what a client may ask for, with each answer to it
    hasty       what a client has sent before it knew that an earlier command fails, answered by
                a server that does not mind: legal to hear, not to ask for
    refused     every command out of order may be refused, and nothing changes: that is what
                503 means

Besides, 421 closes the session in any state and in answer to anything. RFC 5321 3.8
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TypeAlias

from smtp_proto.wire import (
    Auth,
    AuthResponse,
    Bdat,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    OtherCommand,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
)


class Protocol(Enum):
    """SMTP, or its relative for local delivery: one reply for each recipient. RFC 2033"""

    # All four enumerations are looked up for each command: by identity, which is fast.
    __hash__ = object.__hash__

    SMTP = "SMTP"
    LMTP = "LMTP"


class State(Enum):
    """What the server holds."""

    __hash__ = object.__hash__

    GREETING = "GREETING"
    """Connected. No greeting yet, or one that refuses: then only QUIT is left."""
    HELO = "HELO"
    """Greeted; the client has not said who it is."""
    READY = "READY"
    """No transaction."""
    MAIL = "MAIL"
    """A transaction with a sender and no recipient."""
    RCPT = "RCPT"
    """A transaction with a recipient."""
    DATA = "DATA"
    """The content is awaited: 354 was said."""
    BDAT = "BDAT"
    """A chunk of the content is there, the last one is not."""
    AUTH = "AUTH"
    """A response to a challenge is awaited: 334 was said."""
    TLS = "TLS"
    """The TLS handshake is awaited: 220 was said to STARTTLS."""
    CLOSED = "CLOSED"
    """Over."""


class Move(Enum):
    """What moves the state."""

    __hash__ = object.__hash__

    CONNECT = "CONNECT"
    """The connection; the greeting answers it."""
    HELO = "HELO"
    EHLO = "EHLO"
    LHLO = "LHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    RECIPIENT = "RECIPIENT"
    """LMTP: the end of the content, for one recipient of several; more replies follow."""
    CONTENT = "CONTENT"
    """The end of the content."""
    BDAT = "BDAT"
    BDAT_LAST = "BDAT LAST"
    RSET = "RSET"
    VRFY = "VRFY"
    EXPN = "EXPN"
    HELP = "HELP"
    NOOP = "NOOP"
    QUIT = "QUIT"
    STARTTLS = "STARTTLS"
    TLS = "TLS"
    """The end of the TLS handshake."""
    AUTH = "AUTH"
    AUTH_RESPONSE = "AUTH response"
    OTHER = "OTHER"
    """A command of an extension that this package does not know."""


class Outcome(Enum):
    """What a reply says by its first digit. RFC 5321 4.2.1"""

    __hash__ = object.__hash__

    OK = "2yz"
    MORE = "3yz"
    FAIL = "4yz, 5yz"


OK, MORE, FAIL = Outcome

OUTCOMES: Mapping[int, Outcome] = {2: OK, 3: MORE, 4: FAIL, 5: FAIL}
"""By the first digit alone: codes that nobody has heard of work, too. RFC 5321 4.3.2"""


def outcome_of(code: int) -> Outcome:
    """Return what a reply code, 200 to 599, says."""
    return OUTCOMES[code // 100]


def hoped(move: Move) -> Outcome:
    """Return the outcome that lets a transaction go on."""
    return MORE if move is Move.DATA else OK


# --- The rows --------------------------------------------------------------------------------

_Rows: TypeAlias = Mapping[State, Mapping[Move, Mapping[Outcome, State]]]


def _always(state: State) -> Mapping[Outcome, State]:
    return {OK: state, FAIL: state}


def _anytime(state: State, after_reset: State) -> Mapping[Move, Mapping[Outcome, State]]:
    """Return what can be said in each state in which the server awaits a command."""
    return {
        # It ends a transaction, too.  RFC 5321 4.1.4
        Move.EHLO: {OK: State.READY, FAIL: state},
        Move.HELO: {OK: State.READY, FAIL: state},
        Move.LHLO: {OK: State.READY, FAIL: state},
        Move.RSET: {OK: after_reset, FAIL: state},
        Move.VRFY: _always(state),
        Move.EXPN: _always(state),
        Move.HELP: _always(state),
        Move.NOOP: _always(state),
        Move.OTHER: _always(state),
        Move.QUIT: _always(State.CLOSED),
    }


_ORDERLY: _Rows = {
    State.GREETING: {
        # Refused, the connection stays open until QUIT.  RFC 5321 3.1
        Move.CONNECT: {OK: State.HELO, FAIL: State.GREETING},
        Move.QUIT: _always(State.CLOSED),
    },
    State.HELO: _anytime(State.HELO, State.HELO),
    State.READY: {
        **_anytime(State.READY, State.READY),
        Move.MAIL: {OK: State.MAIL, FAIL: State.READY},
        Move.STARTTLS: {OK: State.TLS, FAIL: State.READY},
        Move.AUTH: {OK: State.READY, MORE: State.AUTH, FAIL: State.READY},
    },
    State.MAIL: {
        **_anytime(State.MAIL, State.READY),
        Move.RCPT: {OK: State.RCPT, FAIL: State.MAIL},
    },
    State.RCPT: {
        **_anytime(State.RCPT, State.READY),
        Move.RCPT: _always(State.RCPT),
        Move.DATA: {MORE: State.DATA, FAIL: State.RCPT},
        Move.BDAT: {OK: State.BDAT, FAIL: State.READY},
        Move.RECIPIENT: _always(State.RCPT),
        Move.BDAT_LAST: _always(State.READY),
    },
    State.DATA: {
        Move.RECIPIENT: _always(State.DATA),
        Move.CONTENT: _always(State.READY),
    },
    State.BDAT: {
        **_anytime(State.BDAT, State.READY),
        Move.BDAT: {OK: State.BDAT, FAIL: State.READY},
        Move.RECIPIENT: _always(State.BDAT),
        Move.BDAT_LAST: _always(State.READY),
    },
    State.AUTH: {
        Move.AUTH_RESPONSE: {OK: State.READY, MORE: State.AUTH, FAIL: State.READY},
    },
    State.TLS: {
        # All that was said before is forgotten.  RFC 3207 4.2
        Move.TLS: {OK: State.HELO},
    },
    State.CLOSED: {},
}

_HASTY: _Rows = {
    State.MAIL: {
        # The recipients were all refused: some servers take the content, to drop it.
        # RFC 2920 3.1
        Move.DATA: {MORE: State.DATA, FAIL: State.MAIL},
        Move.BDAT: {OK: State.BDAT, FAIL: State.READY},
        Move.BDAT_LAST: _always(State.READY),
    },
}

# In the other states the server awaits no command.
_REFUSING = (State.GREETING, State.HELO, State.READY, State.MAIL, State.RCPT, State.BDAT)
_NO_COMMANDS = frozenset({Move.CONNECT, Move.RECIPIENT, Move.CONTENT, Move.TLS, Move.AUTH_RESPONSE})

_REFUSED: _Rows = {
    # RFC 5321 4.1.4
    state: {move: {FAIL: state} for move in Move if move not in _NO_COMMANDS}
    for state in _REFUSING
}


def _flat(rows: _Rows) -> Iterator[tuple[tuple[State, Move, Outcome], State]]:
    for state, moves in rows.items():
        for move, outcomes in moves.items():
            for outcome, following in outcomes.items():
                yield (state, move, outcome), following


TABLE: Mapping[tuple[State, Move, Outcome], State] = dict(
    row for rows in (_REFUSED, _HASTY, _ORDERLY) for row in _flat(rows)
)
"""All rows. A later kind overrides an earlier one: what is orderly is never merely refused."""

LEGAL: Mapping[tuple[State, Move], State] = {
    (state, move): following
    for (state, move, outcome), following in _flat(_ORDERLY)
    if outcome is hoped(move)
}
"""What may be asked for, and where it leads if all goes well."""


def legal(state: State, move: Move) -> bool:
    """Say whether `move` may be asked for in `state`."""
    return (state, move) in LEGAL


EXPECTED: Mapping[tuple[State, Move], State] = {
    (state, move): TABLE.get((state, move, hoped(move)), state) for state in State for move in Move
}
"""Where each move leads if all goes well; if it cannot go well, it is refused."""


# --- What the RFCs say of single moves -------------------------------------------------------

GROUP_ENDERS = frozenset(
    {
        Move.CONNECT,
        # RFC 2920 3.1
        Move.EHLO,
        Move.HELO,
        Move.DATA,
        Move.VRFY,
        Move.EXPN,
        Move.NOOP,
        Move.QUIT,
        # "... unless otherwise specified by the extensions"; RFC 3030 2 does so for BDAT.
        Move.LHLO,
        Move.STARTTLS,
        Move.AUTH,
        Move.AUTH_RESPONSE,
        Move.HELP,
        Move.OTHER,
    }
)
"""What must be answered before the client goes on, though the server takes pipelining."""

FOREIGN: Mapping[Protocol, frozenset[Move]] = {
    Protocol.SMTP: frozenset({Move.LHLO}),
    Protocol.LMTP: frozenset({Move.EHLO, Move.HELO}),  # RFC 2033 4.1
}
"""Commands of the other protocol, so that each side notices when they do not speak the same."""

# --- Commands --------------------------------------------------------------------------------

MOVES: Mapping[type[Command | AuthResponse], Move] = {
    Helo: Move.HELO,
    Ehlo: Move.EHLO,
    Lhlo: Move.LHLO,
    Mail: Move.MAIL,
    Rcpt: Move.RCPT,
    Data: Move.DATA,
    Rset: Move.RSET,
    Vrfy: Move.VRFY,
    Expn: Move.EXPN,
    Help: Move.HELP,
    Noop: Move.NOOP,
    Quit: Move.QUIT,
    StartTls: Move.STARTTLS,
    Auth: Move.AUTH,
    AuthResponse: Move.AUTH_RESPONSE,
    OtherCommand: Move.OTHER,
}
"""The move of each command but BDAT, which is two: a chunk, and the last chunk."""


def move_of(command: Command | AuthResponse) -> Move:
    """Return the move that a command is."""
    if isinstance(command, Bdat):
        return Move.BDAT_LAST if command.last else Move.BDAT
    return MOVES[type(command)]
