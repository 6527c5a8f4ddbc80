"""What both roles share: the input side, and how the session comes to its end.

Knows the buffer, TLS's border and the errors of the peer.
Must not know what is read from the buffer.
"""

from smtp_proto.engine.errors import LocalProtocolError, RemoteProtocolError
from smtp_proto.engine.events import ConnectionEnded
from smtp_proto.engine.table import OK, TABLE, Move, State
from smtp_proto.engine.trace import Trace
from smtp_proto.wire import NO_CAPABILITIES, Limits, Octets, ReceiveBuffer, Reply

DEFAULT_LIMITS = Limits()


class Connection:
    """The base of both engines; of no use by itself."""

    __slots__ = (
        "_authenticated",
        "_buffer",
        "_capabilities",
        "_error",
        "_input_ended",
        "_limits",
        "_secure",
        "_state",
        "_trace",
    )

    def __init__(self, limits: Limits, *, secure: bool, trace: Trace | None) -> None:
        self._limits = limits
        self._trace = trace
        self._secure = secure
        self._authenticated = False
        self._capabilities = NO_CAPABILITIES
        self._state = State.GREETING
        self._buffer = ReceiveBuffer()
        self._input_ended = False
        self._error: RemoteProtocolError | None = None

    @property
    def state(self) -> State:
        """What the server holds, as far as the replies tell."""
        return self._state

    @property
    def secure(self) -> bool:
        """Whether TLS protects the connection."""
        return self._secure

    @property
    def authenticated(self) -> bool:
        """Whether an AUTH exchange has succeeded. RFC 4954 4"""
        return self._authenticated

    @property
    def unread(self) -> int:
        """How many octets wait to be read.

        At a server's greeting, and after a command that ends a group, there should be none: a
        policy may refuse a client that cannot wait. RFC 2920 3.1, RFC 5321 4.3.1
        """
        return len(self._buffer)

    @property
    def finished(self) -> bool:
        """Whether the session is over: close the transport."""
        return self._state is State.CLOSED

    def receive_data(self, data: Octets) -> None:
        """Take in what was received. Then call `next_event()` until it gives no event.

        Raises RemoteProtocolError for any octet that comes where the TLS handshake is due: hand
        octets to TLS as soon as the state is TLS. What comes after the end is dropped.
        """
        if self._input_ended:
            raise LocalProtocolError("there is no data behind the end of the input")
        # RFC 3207 4: nothing but the handshake comes now, and never as clear text.
        if self._state is State.TLS and len(data):
            raise self._broken("clear text where the TLS handshake is due")
        if self._state is not State.CLOSED:
            self._buffer.feed(data)

    def receive_eof(self) -> None:
        """Take note that the peer has closed its side. Then call `next_event()` as before."""
        self._input_ended = True

    def tls_started(self) -> None:
        """Take note that the TLS handshake is done: call it when the state is TLS.

        All that was known of the peer is forgotten: the client has to say EHLO again. RFC 3207 4.2
        """
        if self._state is not State.TLS:
            raise LocalProtocolError("TLS starts only after 220 to STARTTLS")
        self._state = TABLE[State.TLS, Move.TLS, OK]
        self._secure = True
        self._capabilities = NO_CAPABILITIES

    def _close(self) -> None:
        """End the session: nothing is read from now on, nothing is legal to send."""
        self._state = State.CLOSED
        self._buffer.clear()

    def _ended(self) -> ConnectionEnded:
        self._close()
        return ConnectionEnded()

    def _broken(self, why: str, reply_hint: Reply | None = None) -> RemoteProtocolError:
        """End the session because of what the peer did; return the error to raise."""
        self._close()
        self._error = RemoteProtocolError(why, reply_hint)
        return self._error
