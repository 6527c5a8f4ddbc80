"""Where the journals of connections are written: into a trace, and into the log.

Knows loggers, files and the clock. Must not know SMTP. What is told has no secret in it; what
goes on from here has no character that a terminal or a log could take for something else.

The logger `smtp_proto` has on INFO what happened in each connection, on DEBUG each line that was
said, and a warning where a trace has failed. `smtp_proto.logins` has each failed login as a
warning.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from errno import ELOOP
from itertools import count
from logging import DEBUG, INFO, WARNING, Logger, NullHandler, getLogger
from os import PathLike, fspath
from threading import Lock
from typing import TypeAlias

from smtp_adapters.values import naming
from smtp_proto.engine.trace import Speaker
from smtp_proto.wire import escaped
from smtp_proto.wire.errors import kind_of

logger = getLogger("smtp_proto")
logger.addHandler(NullHandler())  # without a set-up for logging, nothing is printed
login_logger = getLogger("smtp_proto.logins")

_LONGEST_IDENTITY = 80  # characters: a log is not to grow as somebody likes
_MOST_PEERS = 10_000  # that failed logins are counted for: who comes back after so many is new
_NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class TraceLine:
    """A line of a session. `str()` has all of it on one line."""

    time: datetime
    """In UTC."""
    connection: str
    """Which one: "client-3" is the third connection of this process, a client's."""
    speaker: Speaker
    text: str
    """Without secrets and content, and without any control character."""

    def __str__(self) -> str:
        time = self.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"{time} {self.connection} {self.speaker.value}: {self.text}"


TraceTarget: TypeAlias = Callable[[TraceLine], object] | Logger | str | PathLike[str]
"""Who gets each line: a callable, a logger (on DEBUG), or the path of a file to append to.

Where that raises an Exception, a warning tells so, and the connection goes on without it.
"""


def trace_to(target: TraceTarget) -> Callable[[TraceLine], object]:
    """The callable that is meant. Raises OSError for a file that cannot be written, or TypeError.

    A file is made for its owner alone to read, and a symbolic link in its place is not followed,
    where the system can do that. It is opened anew for each line, so that it may be taken away at
    any time.
    """
    if isinstance(target, Logger):
        return lambda line: target.debug("%s", line)
    if isinstance(target, str | PathLike):
        path: str = fspath(target)
        with naming("trace"):
            _append(path, b"")
        return lambda line: _append(path, f"{line}\n".encode())
    if callable(target):
        return target
    raise TypeError(f"trace is a callable, a logger or a path, not {kind_of(target)}")


# Others who may write to the folder must not say to which of our files the lines go.
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
_LINKS = frozenset({"/dev/stdout", "/dev/stderr"})  # the system's own


def _append(path: str, octets: bytes) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        descriptor = os.open(path, flags if path in _LINKS else flags | _NO_LINK, 0o600)
    except OSError as error:
        if error.errno == ELOOP:
            raise OSError(ELOOP, "it is a symbolic link, which is not followed", path) from None
        raise
    try:
        os.write(descriptor, octets)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class FailedLogins:
    """How often a login has failed for each peer, by its address. Threads may share it."""

    _counts: OrderedDict[str, int] = field(default_factory=OrderedDict[str, int])
    _lock: Lock = field(default_factory=Lock)

    def add(self, peer: str) -> int:
        """One more; returns how many there have been."""
        with self._lock:
            number = self._counts.pop(peer, 0) + 1
            self._counts[peer] = number  # the latest stands last
            if len(self._counts) > _MOST_PEERS:
                self._counts.popitem(last=False)
        return number


class ConnectionJournal:
    """One connection's journal: a `smtp_proto.flow.journal.Journal`."""

    __slots__ = ("_failed_logins", "_name", "_peer", "_trace", "wants_events", "wants_lines")

    def __init__(
        self,
        role: str,
        peer: str,
        failed_logins: FailedLogins,
        trace: Callable[[TraceLine], object] | None,
    ) -> None:
        self._name = f"{role}-{next(_NUMBERS)}"
        self._peer = escaped(peer)  # it may be a path, which has any character
        self._failed_logins = failed_logins
        self._trace = trace
        self.wants_events = logger.isEnabledFor(INFO)
        self.wants_lines = trace is not None or logger.isEnabledFor(DEBUG)

    def line(self, speaker: Speaker, text: str) -> None:
        """A line was said."""
        if self._trace is not None:
            try:
                self._trace(TraceLine(datetime.now(UTC), self._name, speaker, text))
            except Exception as error:  # noqa: BLE001 - no message is to be in doubt for that
                self._trace = None
                why = escaped(f"{type(error).__name__}: {error}")
                log(logger, WARNING, "%s %s: no more trace: %s", self._name, self._peer, why)
        log(logger, DEBUG, "%s %s: %s", self._name, speaker.value, text)

    def happened(self, what: str) -> None:
        """Something worth a line has happened."""
        log(logger, INFO, "%s %s: %s", self._name, self._peer, escaped(what))

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        """A login has failed."""
        log(
            login_logger,
            WARNING,
            "%s %s: failed login %d of this peer, as %s with %s: %s",
            self._name,
            self._peer,
            self._failed_logins.add(self._peer),
            _quoted(identity),
            mechanism,
            escaped(why),
        )


def log(
    to: Logger, level: int, text: str, *arguments: object, error: BaseException | None = None
) -> None:
    """Log it, whatever a handler of theirs raises: no message is to be in doubt for that."""
    with suppress(Exception):
        to.log(level, text, *arguments, exc_info=error, stacklevel=2)


def _quoted(identity: str) -> str:
    """A form that can be read in one way only. What is left out shows behind the quotes."""
    start = identity[:_LONGEST_IDENTITY].replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped(start)}"' + "..." * (len(identity) > _LONGEST_IDENTITY)
