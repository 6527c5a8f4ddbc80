"""How long each phase may take.

Knows the phases and their seconds; knows no clock: whoever carries out an action measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import Enum


class Phase(Enum):
    """What a flow is doing. The value is the name that errors and logs show."""

    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "tls"
    GREETING_PROBE = "greeting_probe"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BLOCK = "block"
    FINAL = "final"
    COMMAND = "command"
    LAST_WORDS = "last words"
    QUIT = "quit"
    IDLE = "idle"

    __hash__ = object.__hash__  # by identity, which equality is: much faster than by name


_GREETING_PROBE = 5.0  # seconds


class Expired(TimeoutError):
    """The time of an action is up, by its own timer."""


class TotalTimeout(Expired):
    """The time of the whole operation is up: `seconds`."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__("the time of the whole operation is up")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase.

    None: no limit. Each is counted from the moment the wait begins, whatever drips in meanwhile.
    """

    connect: float | None = 60.0  # for each address of the host
    proxy: float | None = 60.0  # one proxy, to the tunnel that it makes
    tls: float | None = 60.0  # one handshake
    greeting_probe: float | None = (
        _GREETING_PROBE  # AUTO: then a server that is silent may want TLS
    )
    greeting: float | None = 300.0  # RFC 5321 4.5.3.2.1
    command: float | None = 300.0  # EHLO, STARTTLS, RSET, VRFY and the like, each
    mail: float | None = 300.0  # RFC 5321 4.5.3.2.2
    rcpt: float | None = 300.0  # RFC 5321 4.5.3.2.3
    data: float | None = 120.0  # RFC 5321 4.5.3.2.4
    block: float | None = 180.0  # RFC 5321 4.5.3.2.5
    final: float | None = 600.0  # RFC 5321 4.5.3.2.6
    auth: float | None = 300.0  # RFC 4954 4: each step of the exchange
    quit: float | None = 10.0  # the mail is delivered by then: no reason to wait long
    last_words: float | None = 1.0  # one look at what the server said before a send failed
    idle: float | None = 300.0  # server: for the next command, RFC 5321 4.5.3.2.7
    total: float | None = None  # a whole operation: open, send, close

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds: object = getattr(self, field.name)
            if seconds is None:
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise TypeError(
                    f"timeout {field.name}: seconds as a number, or None, not {seconds!r}"
                )
            if not (seconds > 0 and math.isfinite(seconds)):
                raise ValueError(f"timeout {field.name}: seconds above 0, or None, not {seconds!r}")

    @classmethod
    def of(cls, seconds: float) -> Timeouts:
        """The same number of seconds for every phase, and for the whole of each operation.

        AUTO waits for a greeting a quarter of that at most, so that there is time for what it does
        then.
        """
        each = {field.name: seconds for field in fields(cls)}
        checked = cls(**each)
        return replace(checked, greeting_probe=min(seconds / 4, _GREETING_PROBE))

    def seconds(self, phase: Phase) -> float | None:
        """The limit of one wait in this phase, in seconds."""
        match phase:
            case Phase.EHLO | Phase.STARTTLS | Phase.COMMAND:
                return self.command
            case Phase.LAST_WORDS:
                return self.last_words
            case _:
                seconds: float | None = getattr(self, phase.value)
                return seconds
