"""A journal that keeps what a flow tells of itself, so that it can be looked at.

Knows what may be in a log: one line that any terminal can take, and no secret. Must not know any
flow.
"""

from fuzz.leaks import SECRETS, said
from smtp_proto.engine import Speaker


class Notes:
    """What was told, line by line."""

    wants_events = True
    wants_lines = True

    def __init__(self) -> None:
        self.told: list[str] = []

    def line(self, speaker: Speaker, text: str) -> None:
        """Keep a line that was said."""
        self.told.append(f"{speaker}: {text}")

    def happened(self, what: str) -> None:
        """Keep what happened."""
        self.told.append(what)

    def login_failed(self, mechanism: str, identity: str, why: str) -> None:
        """Keep whose login failed."""
        self.told.append(f"{mechanism} {identity}: {why}")

    def assert_fit_for_a_log(self, heard: bytes) -> None:
        """Each line is printable, and has no secret that was not `heard` from the peer."""
        known = said(heard)
        for line in self.told:
            assert line.isprintable(), line
            found = said(line.encode(), SECRETS)
            assert not set(found) - set(known), f"{found} in {line}"
