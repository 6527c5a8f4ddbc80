"""Flows of one command and its reply. Knows which commands they are; knows no mail transaction."""

from __future__ import annotations

from smtp_proto.flow.errors import CapabilityMissing, reply_error
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.session import Session
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire import Command, Expn, Help, Noop, Reply, Rset, Vrfy
from smtp_proto.wire.errors import kind_of


class SimpleCommand(Flow[Reply]):
    """Sends one command and returns the reply.

    A negative one is raised as TransientError or PermanentError.
    """

    def __init__(self, session: Session, command: Command) -> None:
        steps = session.conversation(_ask(session, command))
        super().__init__(steps, session.timeouts.total)


def noop(session: Session) -> Flow[Reply]:
    """NOOP (RFC 5321 4.1.1.9): is the server still there?"""
    return SimpleCommand(session, Noop())


def reset(session: Session) -> Flow[Reply]:
    """RSET (RFC 5321 4.1.1.5): forget the mail transaction."""
    return SimpleCommand(session, Rset())


def verify(session: Session, string: str) -> Flow[Reply]:
    """VRFY (RFC 5321 4.1.1.6).

    Is this a user or mailbox? 252 is a usual, positive, non-committal answer (RFC 5321 3.5.3).
    """
    _check_text("string", string)
    return SimpleCommand(session, Vrfy(string, smtputf8=_needs_utf8(session, string)))


def expand(session: Session, string: str) -> Flow[Reply]:
    """EXPN (RFC 5321 4.1.1.7): who is on this list?"""
    _check_text("string", string)
    return SimpleCommand(session, Expn(string, smtputf8=_needs_utf8(session, string)))


def help_(session: Session, topic: str = "") -> Flow[Reply]:
    """HELP (RFC 5321 4.1.1.8)."""
    _check_text("topic", topic)
    return SimpleCommand(session, Help(topic))


def _check_text(name: str, text: object) -> None:
    """Look at what a caller gave. Raises TypeError."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is text, as str, not {kind_of(text)}")


def _needs_utf8(session: Session, string: str) -> bool:
    """Whether SMTPUTF8 is to be said. Raises CapabilityMissing where it is not offered."""
    if string.isascii():
        return False
    if not session.capabilities.smtputf8:  # RFC 6531 3.7.4.2
        raise CapabilityMissing(
            "the string is not ASCII and the server does not offer SMTPUTF8", capability="SMTPUTF8"
        )
    return True


def _ask(session: Session, command: Command) -> Steps[Reply]:
    reply = yield from session.request(command, Phase.COMMAND)
    if not reply.positive:
        raise reply_error(Phase.COMMAND, command.encode().split()[0].decode("ascii"), reply)
    return reply
