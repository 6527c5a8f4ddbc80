"""What is told of a connection, to whoever keeps a log of it.

Knows what is worth telling. Must not know where it is written, nor the time. No secret is told.
"""

from __future__ import annotations

from typing import Protocol

from smtp_proto.engine.trace import Speaker


class Journal(Protocol):
    """Told of one connection, while it happens. What it raises ends the connection."""

    @property
    def wants_events(self) -> bool:
        """Whether anybody reads what happened: where not, what costs time need not be told."""
        ...

    @property
    def wants_lines(self) -> bool:
        """Whether to tell each line; looked at once, when the connection begins."""
        ...

    def line(self, speaker: Speaker, text: str) -> None:
        """A line was said, in either direction; secrets and content are left out."""
        ...

    def happened(self, what: str) -> None:
        """Something worth a line in a log: connected, TLS, logged in, accepted, refused."""
        ...

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        """A login failed.

        `identity`: as whom somebody wanted to log in, as far as it is known. It is as it was
        given: any character may be in it, and any number of them.
        """
        ...


class _Quiet:
    """Writes nothing."""

    wants_events = False
    wants_lines = False

    def line(self, speaker: Speaker, text: str) -> None:
        """Forget it."""

    def happened(self, what: str) -> None:
        """Forget it."""

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        """Forget it."""


QUIET: Journal = _Quiet()
