"""What breaks the protocol, and who broke it.

Knows the two sides. Must not know what either was doing.

    ProtocolError
        LocalProtocolError      you did: nothing has changed, nothing was written
        RemoteProtocolError     the peer did: the connection is of no use any more

A negative reply is neither: it is an event like any other.
"""

from smtp_proto.wire import Reply


class ProtocolError(Exception):
    """Somebody broke the protocol."""


class LocalProtocolError(ProtocolError):
    """You asked for what is not legal now. Nothing has changed: do something else instead."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol, or ended the connection in the middle of something.

    The connection is closed for the engine. Close the transport; a server may write
    `reply_hint` first, if there is one.
    """

    def __init__(self, message: str, reply_hint: Reply | None = None) -> None:
        super().__init__(message)
        self.reply_hint = reply_hint
