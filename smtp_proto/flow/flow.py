"""The outside of every flow.

What comes next, and what came of it. Knows no SMTP; the order of things is in the generator it
drives.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow.actions import Action, Ask, Connect, Content, Done, Receive, Resolve, Send
from smtp_proto.flow.errors import SMTPError
from smtp_proto.flow.timeouts import Expired, Phase, TotalTimeout
from smtp_proto.wire import Octets

T = TypeVar("T")


class ContentFailed(BaseException):
    """What a flow's steps are told where the caller's own content has raised something.

    Not what: no step may take it for something that has befallen the connection.
    """


# What is sent in depends on the action that was yielded. No type can say that; `Flow` checks it.
Steps: TypeAlias = Generator[Action, Any, T]
"""The inside of a flow: yields actions, is sent what came of each, returns the result."""


class Flow(Generic[T]):
    """A conversation without I/O.

    Look: `phase`, `total`, `action`.
    Poll: `next_action()`; carry out what it returns, feed what came of it, and ask again until it
    returns `Done`.
    Feed: after Connect `connected()`; after Resolve `resolved()`; after Send nothing; after Receive
    `receive_data()` or `receive_eof()`; after Content `content()`; after Ask `answer()`; after any
    of them `failed()` where it could not be done, `timed_out()` where it took too long.
    """

    __slots__ = ("_answered", "_closes", "_failure", "_input", "_over", "_steps", "action", "total")

    def __init__(
        self, steps: Steps[T], total: float | None = None, *, closes: bool = False
    ) -> None:
        self._steps = steps
        self._input: object = None
        self._failure: Exception | None = None
        self._closes = closes
        self._answered = True
        self._over = False
        self.action: Action | Done[T] | None = None
        """What was asked for last."""
        self.total = total
        """Seconds that the whole flow may take, from the first action on; None: no limit."""

    @property
    def phase(self) -> Phase | None:
        """What the flow is doing; None before the first action and after the last."""
        match self.action:
            case None | Done():
                return None
            case action:
                return action.timer.phase

    def next_action(self) -> Action | Done[T]:
        """What to do next.

        Raises an SMTPError where the flow has failed, and what the caller's own content has raised:
        it is over then, as after Done. Raises LocalProtocolError where the last action was not
        answered, or the flow is over.
        """
        if not self._answered:
            raise LocalProtocolError(f"{type(self.action).__name__} has not been answered yet")
        if self._over:
            raise LocalProtocolError("this flow is over: make another one")
        self._over = True  # unless it goes on
        failure = self._failure
        if failure is not None:
            self._failure = None
            if type(self.action) is Content and not isinstance(failure, Expired):
                with suppress(ContentFailed):
                    self._steps.throw(ContentFailed())
                raise failure
        try:
            if failure is None:
                action = self._steps.send(self._input)
            else:
                action = self._steps.throw(failure)
        except StopIteration as stop:
            self.action = done = Done(stop.value, self._closes)
            return done
        except SMTPError as error:
            if error.phase is None:
                error.phase = self.phase
            raise
        self._over = False
        self._input = None
        self._answered = type(action) is Send
        self.action = action
        return action

    def connected(self, local_address: str | None = None) -> None:
        """The byte stream is open.

        `local_address`: its own end's IP address as text, where it has one.
        """
        self._feed(Connect, local_address)

    def resolved(self, addresses: Sequence[str]) -> None:
        """These are the host's IP addresses as text, at least one, the best first."""
        self._feed(Resolve, tuple(addresses))

    def receive_data(self, data: Octets) -> None:
        """These octets came; b"" is the end of the stream, as from a socket."""
        self._feed(Receive, data)

    def receive_eof(self) -> None:
        """The stream has ended."""
        self._feed(Receive, b"")

    def content(self, piece: Octets | None) -> None:
        """The next piece of the message; None: that was all."""
        self._feed(Content, piece)

    def answer(self, value: object) -> None:
        """What the application says to an Ask."""
        self._feed(Ask, value)

    def failed(self, error: Exception) -> None:
        """The action could not be carried out.

        An OSError, or a TimeoutError when its time was up. After Content and Ask, whatever the
        caller's own code has raised, a TimeoutError, too: their time being up is for `timed_out()`.
        """
        if self.action is None or isinstance(self.action, Done):
            raise LocalProtocolError("nothing was asked for")
        self._failure = error
        self._answered = True

    def timed_out(self, *, whole: bool) -> None:
        """The action's time was up; `whole`: that of the whole flow, `total`, was."""
        self.failed(TotalTimeout(self.total) if whole else Expired("the time is up"))

    def _feed(self, expected: type[Action], value: object) -> None:
        if self._answered or type(self.action) is not expected:
            raise LocalProtocolError(
                f"an answer to {expected.__name__} where {type(self.action).__name__} was asked for"
            )
        self._input = value
        self._answered = True
