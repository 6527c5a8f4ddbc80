"""How a server's questions get to its handler, and what comes back.

Knows the handler's methods, how long each may take, and what each may answer.
Must not know what follows from an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, assert_never, cast

from smtp_proto.flow.actions import Ask, Timer
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.flow import Steps
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.serve_utf8 import as_permitted
from smtp_proto.flow.timeouts import Phase, Timeouts
from smtp_proto.sasl.mechanism import (
    Answer,
    CheckAnonymous,
    CheckPassword,
    CheckToken,
    FetchIdentity,
    FetchPassword,
    FetchSecret,
    Question,
)
from smtp_proto.sasl.registry import MECHANISMS
from smtp_proto.sasl.scram_secret import ScramSecret
from smtp_proto.wire.reply import Reply

T = TypeVar("T")


_PHASES: Mapping[str, Phase] = {
    "on_connect": Phase.GREETING,
    "on_helo": Phase.EHLO,
    "on_auth": Phase.AUTH,
    "on_token": Phase.AUTH,
    "on_anonymous": Phase.AUTH,
    "find_password": Phase.AUTH,
    "find_secret": Phase.AUTH,
    "find_identity": Phase.AUTH,
    "on_mail": Phase.MAIL,
    "on_rcpt": Phase.RCPT,
    "on_content": Phase.BLOCK,
    "on_message": Phase.FINAL,
    "on_verify": Phase.COMMAND,
    "on_expand": Phase.COMMAND,
    "on_other": Phase.COMMAND,
    "on_reset": Phase.COMMAND,
    "on_disconnect": Phase.QUIT,
    "on_error": Phase.COMMAND,
}
"""The handler's methods, and what is being done while they are asked."""

_METHODS: Mapping[type[Question], str] = {
    CheckPassword: "on_auth",
    CheckToken: "on_token",
    CheckAnonymous: "on_anonymous",
    FetchPassword: "find_password",
    FetchSecret: "find_secret",
    FetchIdentity: "find_identity",
}
"""Who answers what a mechanism has to know."""


def overridden(handler: Handler) -> frozenset[str]:
    """The names of the methods that a handler has of its own."""
    return frozenset(
        name
        for name in _PHASES
        if getattr(getattr(handler, name), "__func__", None) is not getattr(Handler, name)
    )


def check_logins(handler: Handler, mechanisms: Iterable[str]) -> None:
    """Raises ValueError for a mechanism that nobody could log in with: nothing answers for it."""
    offered = frozenset(mechanisms)
    for mechanism in MECHANISMS:
        if mechanism.name not in offered or mechanism.asks is None:
            continue
        method = _METHODS[mechanism.asks]
        if method not in overridden(handler):
            raise ValueError(
                f"mechanisms: {mechanism.name} needs {method}() in the handler, and "
                f"{type(handler).__name__} does not have it"
            )


_LOCAL_ERROR = Reply.build(451, "Local error in processing", status="4.3.0")
_NO_SERVICE = Reply.build(421, "Local error, closing the connection", status="4.3.0")
_NO_LOGIN = Reply.build(454, "Temporary authentication failure", status="4.7.0")

_FAILURES: Mapping[str, Reply] = {
    "on_connect": _NO_SERVICE,  # RFC 5321 4.3.2
    **{name: _NO_LOGIN for name, phase in _PHASES.items() if phase is Phase.AUTH},  # RFC 4954 6
}
"""What stands in for an answer, where that is not just a local error."""


class Questions:
    """One client's handler. Methods that it does not override are not asked.

    Where the handler raises, or answers what is no answer, `on_error` is told, or who set up the
    server if there is none, and a negative reply stands in for the answer.
    """

    __slots__ = ("_handler", "_overridden", "_report_error", "_session", "_timeouts")

    def __init__(
        self,
        handler: Handler,
        session: ServerSession,
        timeouts: Timeouts,
        report_error: Callable[[ServerSession, Exception], None],
    ) -> None:
        self._handler = handler
        self._report_error = report_error
        self._session = session
        self._timeouts = timeouts
        self._overridden = overridden(handler)

    def __contains__(self, name: str) -> bool:
        """Whether the handler has a method of its own of this name."""
        return name in self._overridden

    def tell(self, name: str, *arguments: object) -> Steps[Reply | None]:
        """Call a method that answers nothing. Return None, unless that failed."""
        if name not in self._overridden:
            return None
        return (yield from self._ask(name, _nothing, arguments))

    def reply(self, name: str, *arguments: object, smtputf8: bool = False) -> Steps[Reply | None]:
        """Return the reply, positive or negative; None: the handler leaves it to the server.

        `smtputf8`: whether the client has said so for it.
        """
        if name not in self._overridden:
            return None
        reply = yield from self._ask(name, _reply, arguments)
        if reply is None or name == "on_other":  # what an extension says is its own affair
            return reply
        return as_permitted(name, reply, smtputf8=smtputf8)

    def replies(self, count: int, envelope: Envelope, content: bytes) -> Steps[Sequence[Reply]]:
        """Return so many replies to a message; none: the handler leaves them to the server."""
        if "on_message" not in self._overridden:
            return ()

        def read(name: str, answer: object) -> Sequence[Reply]:
            return _replies(name, answer, count)

        answer = yield from self._ask("on_message", read, (envelope, content))
        replies = (answer,) * count if isinstance(answer, Reply) else answer
        return [as_permitted("on_message", reply, smtputf8=False) for reply in replies]

    def about_login(self, question: Question) -> Steps[Answer | Reply]:
        """Return the answer to what a mechanism wants to know, or a reply that refuses."""
        match question:
            case CheckPassword(credentials):
                return (yield from self._verdict("on_auth", credentials))
            case CheckToken(credentials):
                return (yield from self._verdict("on_token", credentials))
            case CheckAnonymous(trace):
                return (yield from self._verdict("on_anonymous", trace))
            case FetchPassword(identity):
                return (yield from self._find("find_password", str, identity))
            case FetchSecret(identity, mechanism):
                return (yield from self._find("find_secret", ScramSecret, identity, mechanism))
            case FetchIdentity(identity):
                return (yield from self._find("find_identity", str, identity))
            case _:
                assert_never(question)

    def _verdict(self, name: str, argument: object) -> Steps[bool | Reply]:
        if name not in self._overridden:
            return False
        verdict = yield from self._ask(name, _verdict, (argument,))
        if isinstance(verdict, bool):
            return verdict
        return as_permitted(name, verdict, smtputf8=False)

    def _find(self, name: str, kind: type[T], *arguments: object) -> Steps[T | Reply | None]:
        if name not in self._overridden:
            return None

        def read(name: str, answer: object) -> T | None:
            if answer is None or isinstance(answer, kind):
                return answer
            raise _wrong(name, f"a {kind.__name__}, or None", answer)

        return (yield from self._ask(name, read, arguments))

    def _ask(
        self,
        name: str,
        read: Callable[[str, object], T],
        arguments: tuple[object, ...],
    ) -> Steps[T | Reply]:
        function: Callable[..., object] = getattr(self._handler, name)
        phase = _PHASES[name]
        timer = Timer(phase, self._timeouts.seconds(phase))
        try:
            return read(name, (yield Ask(name, function, (self._session, *arguments), timer)))
        except Exception as error:  # noqa: BLE001 - whatever the application raises
            if name == "on_error" or "on_error" not in self._overridden:
                self._report_error(self._session, error)
            else:
                yield from self.tell("on_error", error)
            return _FAILURES.get(name, _LOCAL_ERROR)


# --- What an answer may be -----------------------------------------------------------------------


def _nothing(_name: str, _answer: object) -> None:
    return None


def _reply(name: str, answer: object) -> Reply | None:
    if answer is None or (isinstance(answer, Reply) and not answer.intermediate):
        return answer
    raise _wrong(name, "a reply, 2xx, 4xx or 5xx, or None", answer)


def _replies(name: str, answer: object, count: int) -> Sequence[Reply]:
    if not isinstance(answer, list | tuple):
        reply = _reply(name, answer)
        return () if reply is None else (reply,) * count
    members = cast("Sequence[object]", answer)
    replies = [reply for each in members if (reply := _reply(name, each)) is not None]
    if len(replies) != count:
        raise ValueError(
            f"{name}(): {count} replies are due, not {len(replies)}: one for each recipient"
        )
    return replies


def _verdict(name: str, answer: object) -> bool | Reply:
    if isinstance(answer, bool):
        return answer
    reply = _reply(name, answer)
    if reply is None or reply.positive:
        raise _wrong(name, "True, False, or a reply, 4xx or 5xx", answer)
    return reply


def _wrong(name: str, expected: str, answer: object) -> TypeError:
    # Nothing else of it is shown: it may be a password after all.
    shown = str(answer) if isinstance(answer, Reply) else type(answer).__name__
    return TypeError(f"{name}(): the answer is to be {expected}, not {shown}")
