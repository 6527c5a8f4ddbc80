"""The requests that a client has sent and no reply has answered. RFC 2920

Knows their queue, and the two states of which one is known and the other hoped for.
Must not know what a request says, nor what a reply brings about but the next state.

`state` is confirmed: it moves with the replies. `projected` is what it will be if all that is
outstanding goes well: it moves when something is sent, and what is legal to send depends on it.
Without pipelining one request is outstanding at most, and nothing else differs.
"""

from collections import deque

from smtp_proto.engine.connection import Connection
from smtp_proto.engine.events import Greeting, Request
from smtp_proto.engine.table import EXPECTED, Move, State
from smtp_proto.engine.trace import Trace
from smtp_proto.wire import Limits, ReplyReader

_CONTENT = frozenset({Move.CONTENT, Move.RECIPIENT, Move.BDAT, Move.BDAT_LAST})


class Pipeline(Connection):
    """The base of the client's engine; of no use by itself."""

    __slots__ = (
        "_early",
        "_pipelining",
        "_projected",
        "_queue",
        "_reader",
        "_sendable",
        "_unclear",
    )

    def __init__(self, limits: Limits, *, secure: bool, trace: Trace | None) -> None:
        super().__init__(limits, secure=secure, trace=trace)
        self._reader = ReplyReader(limits)
        # Oldest first. The connection itself is a request: the greeting answers it.
        self._queue: deque[tuple[Request, Move]] = deque([(Greeting.GREETING, Move.CONNECT)])
        self._projected: State | None = None  # None: to be computed
        self._pipelining = False
        self._sendable = True
        self._early = False  # octets were there before anything asked for them
        self._unclear = False  # a BDAT has failed, and nobody knows what it has left behind

    @property
    def projected(self) -> State:
        """What the state will be if all that is outstanding goes well."""
        if self._projected is None:
            state = self._state if self._sendable else State.CLOSED
            for _, move in self._queue:
                state = EXPECTED[state, move]
            self._projected = state
        return self._projected

    @property
    def outstanding(self) -> int:
        """How many replies are still to come."""
        return len(self._queue)

    @property
    def pipelining(self) -> bool:
        """Whether several requests may be outstanding: it is wanted, and offered. RFC 2920"""
        return self._pipelining

    @property
    def idle(self) -> bool:
        """Whether no reply is to come and no transaction is open: MAIL may begin one."""
        ready = self._state is State.READY and self._sendable
        return ready and not self._queue and not self._unclear

    def tls_started(self) -> None:
        """Take note that the TLS handshake is done: call it when the state is TLS.

        The server's name and capabilities are forgotten: say EHLO again. RFC 3207 4.2
        """
        super().tls_started()
        self._projected = None
        self._pipelining = False

    def send_failed(self) -> None:
        """Take note that the transport could not write: nothing is legal to send from now on.

        What the server said before is still read: feed it, or the end, and poll.
        """
        self._sendable = False
        self._projected = None

    def _remains_obstacle(self, move: Move) -> str | None:
        """Return why `move` would meet what is left of another message; None if it would not.

        If the end of the last transaction is still outstanding, or was a BDAT that failed, the
        server may have it open: it would refuse the next MAIL, add the next recipients to the
        old ones and take the next content for them all. RSET in front makes sure that none are
        left.
        """
        for _, outstanding in reversed(self._queue):
            if outstanding is Move.RSET:
                return None
            if outstanding in _CONTENT:
                return f"{move.value} behind content that was not answered needs RSET in front"
        # RFC 3030 2
        return f"{move.value} behind a failed BDAT needs RSET in front" if self._unclear else None

    def _ask(self, request: Request, move: Move) -> None:
        """Take note of a legal request that is being sent."""
        self._projected = EXPECTED[self._projected or self.projected, move]
        if not self._queue:
            self._early = self._heard_early()
        self._queue.append((request, move))

    def _heard_early(self) -> bool:
        """Whether octets are there that no request has asked for."""
        return len(self._buffer) > 0 or self._reader.partial

    def _close(self) -> None:
        super()._close()
        self._queue.clear()
        self._reader.reset()
        self._projected = None
