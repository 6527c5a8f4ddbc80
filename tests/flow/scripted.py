"""A server made of a transcript, and the loop that drives a client's flow against it in memory.

Knows the actions of a client's flow. Must not know SMTP.

A transcript has lines "C: ..." (what the client must send) and "S: ..." (what the server says),
both without their CRLF. "C: ..." is any one line. "S:EOF" ends the stream, "S:TIME" lets the time
run out, "S:BREAK" breaks the connection, and "C:BREAK" makes the client's next write fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar, cast

from smtp_proto.flow.actions import (
    Action,
    Ask,
    Connect,
    Content,
    Done,
    Receive,
    Resolve,
    Send,
    Timer,
)
from smtp_proto.flow.flow import Flow
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.open_settings import OpenSettings
from smtp_proto.flow.security import Security
from smtp_proto.flow.session import Session
from smtp_proto.flow.tls import TLSLayer
from smtp_proto.wire import Octets

T = TypeVar("T")

ENDS = ("EOF", "TIME", "BREAK")
_ALL_AT_ONCE = 1_000_000


def never_begun(server_hostname: str) -> TLSLayer:
    """Stand in for a TLS layer where the server does not let it come to that."""
    return cast("TLSLayer", server_hostname)


settings = partial(OpenSettings, host="mail.test", port=25, security=Security.NONE, tls=never_begun)
CLEAR = settings()


class Server(Protocol):
    """The other end of the stream. `timers`: those that the client's actions had, in order."""

    timers: list[Timer]

    def write(self, data: bytes) -> None:
        """Take what the client sends. Raises OSError where that fails."""
        ...

    def read(self) -> bytes:
        """Give what the client receives, b"" at the end. Raises OSError."""
        ...


class Network:
    """What the client's connections lead to, one after the other; an OSError: to nothing.

    `addresses`: what names resolve to. `connects` and `resolved`: what was asked for.
    """

    def __init__(
        self, *ends: Server | OSError, addresses: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.ends = list(ends)
        self.addresses = addresses or {}
        self.connects: list[Connect] = []
        self.resolved: list[Resolve] = []
        self.timers: list[Timer] = []
        self._end: Server | None = None

    def connect(self, action: Connect) -> None:
        """Go to the next end. Nothing of the one before is heard any more."""
        self.connects.append(action)
        assert self.ends, f"one connection too many: {action}"
        self._end = None
        match self.ends.pop(0):
            case OSError() as error:
                raise error
            case end:
                self._end = end

    def resolve(self, action: Resolve) -> Sequence[str]:
        """Return the addresses of a name."""
        self.resolved.append(action)
        if action.host not in self.addresses:
            raise OSError(-2, "Name or service not known")
        return self.addresses[action.host]

    def write(self, data: bytes) -> None:
        assert self._end is not None
        self._end.write(data)

    def read(self) -> bytes:
        assert self._end is not None
        return self._end.read()

    def finish(self) -> None:
        """All connections were made."""
        assert not self.ends, f"left over: {self.ends}"


class Transcript:
    """Plays the server.

    `sent`: what the client has written, `flights` in how many pieces, `unread` that part of it
    which the transcript has not come to. `said`: how many octets the client has received; `sizes`:
    how many at a time, and in the end all at once.
    """

    def __init__(self, text: str, sizes: Iterable[int] = ()) -> None:
        self.lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
        self.sizes = iter(sizes)
        self.sent = b""
        self.flights = 0
        self.unread = b""
        self.outgoing = bytearray()
        self.said = 0
        self.timers: list[Timer] = []
        self.last: int | None = None
        self._end = "EOF"
        self._unwritable: tuple[int, OSError] | None = None

    def end_after(self, octets: int, end: str) -> None:
        """Say no more than so many octets from now on, then end as one of ENDS says."""
        self.last = self.said + octets
        self._end = end

    def fail_flight(self, number: int, error: OSError, then: str) -> None:
        """Do not let the client write its flight of this number, and say no more, but end."""
        self._unwritable = (number, error)
        self._end = then

    def write(self, data: bytes) -> None:
        if self._unwritable is not None and self._unwritable[0] == self.flights:
            self.last = self.said
            raise self._unwritable[1]
        if self.lines and self.lines[0] == "C:BREAK":
            del self.lines[0]
            raise BrokenPipeError(32, "Broken pipe")
        self.unread += data
        self.sent += data
        self.flights += 1

    def read(self) -> bytes:
        if self.said == self.last:
            return end(self._end)
        if not self.outgoing:
            self._hear()
            if self.lines and (last := self.lines[0].removeprefix("S:")) in ENDS:
                del self.lines[0]
                return end(last)
            self._speak()
        assert self.outgoing, f"the client waits; left: {self.lines}, unread: {self.unread!r}"
        size = next(self.sizes, _ALL_AT_ONCE)
        if self.last is not None:
            size = min(size, self.last - self.said)
        data = bytes(self.outgoing[:size])
        del self.outgoing[:size]
        self.said += len(data)
        return data

    def finish(self) -> None:
        """The whole transcript has been played, and the client has said no more."""
        self._hear()
        assert not self.lines, f"left over: {self.lines}"
        assert not self.unread, f"the client went on: {self.unread!r}"

    def _hear(self) -> None:
        while self.lines and self.lines[0].startswith("C:") and self.lines[0] != "C:BREAK":
            line, line_end, rest = self.unread.partition(b"\r\n")
            expected = self.lines.pop(0)[2:].lstrip().encode()
            assert line_end, f"expected {expected!r}, got {line!r} and no line end"
            assert expected in (line, b"..."), f"expected {expected!r}, got {line!r}"
            self.unread = rest

    def _speak(self) -> None:
        while self.lines and self.lines[0].startswith("S: "):
            self.outgoing += self.lines.pop(0)[3:].encode() + b"\r\n"


def end(how: str) -> bytes:
    """What a client receives at the end."""
    match how:
        case "EOF":
            return b""
        case "TIME":
            raise TimeoutError
        case _:
            raise ConnectionResetError(104, "Connection reset by peer")


def play(
    flow: Flow[T],
    server: Server,
    pieces: Iterable[Octets] = (),
    seen: list[Action] | None = None,
) -> T:
    """Drive the flow to its end; raises what it raises. `seen` gets each action.

    A flow that connects more than once, or has names resolved, needs a Network.
    """
    remaining: Iterator[Octets] = iter(pieces)
    while True:
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        if seen is not None:
            seen.append(action)
        if not server.timers or server.timers[-1] is not action.timer:
            server.timers.append(action.timer)
        try:
            match action:
                case Connect():
                    if isinstance(server, Network):
                        server.connect(action)
                    flow.connected("192.0.2.7")
                case Resolve():
                    assert isinstance(server, Network), "nobody knows a name"
                    flow.resolved(server.resolve(action))
                case Send(data):
                    server.write(bytes(data))
                case Receive():
                    flow.receive_data(server.read())
                case Content():
                    flow.content(next(remaining, None))
                case Ask():
                    raise AssertionError("a client asks nothing")
        except OSError as error:
            flow.failed(error)


def opened(hello: str, rest: str = "", opening: OpenSettings = CLEAR) -> tuple[Session, Transcript]:
    """A session that was opened by the first part of a transcript; the rest is still to come."""
    server = Transcript(hello + rest)
    session = play(OpenSession(opening), server)
    server.flights = 0
    return session, server
