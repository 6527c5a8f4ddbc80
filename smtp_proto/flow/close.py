"""The end of a session.

QUIT, and the end of TLS. Knows that nothing said here can change the fate of any mail.
"""

from __future__ import annotations

from smtp_proto.flow.errors import SMTPError
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire import Quit


class CloseSession(Flow[None]):
    """Says QUIT, waits a little for the reply, ends TLS; then the stream is to be closed.

    Raises no SMTPError: whether QUIT is answered says nothing about the mail before it (RFC 5321
    4.1.1.10). On a session that is no longer usable it is done at once.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(_close(session), session.timeouts.total, closes=True)


def _close(session: Session) -> Steps[None]:
    session.journal.happened("closing")
    if session.usable:
        yield from farewell(session)


def farewell(session: Session) -> Steps[None]:
    """QUIT and the end of TLS, on a session that is usable."""
    try:
        yield from session.conversation(_quit(session))
    except SMTPError:
        return
    yield from session.send_last(session.timer(Phase.QUIT))


def _quit(session: Session) -> Steps[None]:
    yield from session.request(Quit(), Phase.QUIT)
