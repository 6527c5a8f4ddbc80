"""A transport on blocking sockets that is right, and many that are wrong in one point each.

Know sockets and deadlines. Must not know how they are found out.
"""

from __future__ import annotations

import socket
import struct
from math import inf
from time import monotonic

from smtp_proto.flow import Connect, Done, Flow, Receive, Send, Timer


class Transport:
    """Carries out one flow after the other, as docs/transport.md tells."""

    socket: socket.socket

    def __init__(self) -> None:
        self.open: list[socket.socket] = []

    def __call__(self, flow: Flow[str]) -> str:
        self.begin(flow)
        try:
            return self.carry_out(flow)
        finally:
            self.finish()

    def carry_out(self, flow: Flow[str]) -> str:
        while True:
            action = flow.next_action()
            if isinstance(action, Done):
                return action.result
            try:
                match action:
                    case Connect(host, port, timer):
                        flow.connected(self.connect(host, port, self.seconds(timer)))
                    case Send(data, timer):
                        self.send(bytes(data), self.seconds(timer))
                    case Receive(timer):
                        flow.receive_data(self.receive(timer))
                    case _:
                        raise AssertionError(action)
            except OSError as error:
                self.failed(flow, error)

    def begin(self, flow: Flow[str]) -> None:
        self.timer: Timer | None = None
        self.end = inf if flow.total is None else monotonic() + flow.total
        self.moment = inf

    def seconds(self, timer: Timer) -> float | None:
        if timer is not self.timer:
            self.timer = timer
            self.moment = inf if timer.seconds is None else monotonic() + timer.seconds
        left = min(self.moment, self.end) - monotonic()
        if left <= 0:
            raise TimeoutError
        return None if left == inf else left

    def connect(self, host: str, port: int, seconds: float | None) -> str | None:
        self.close()
        self.socket = socket.create_connection((host, port), seconds)
        self.open.append(self.socket)
        return str(self.socket.getsockname()[0])

    def send(self, data: bytes, seconds: float | None) -> None:
        self.socket.settimeout(seconds)
        self.socket.sendall(data)

    def receive(self, timer: Timer) -> bytes:
        self.socket.settimeout(self.seconds(timer))
        return self.socket.recv(65_536)

    def failed(self, flow: Flow[str], error: OSError) -> None:
        if isinstance(error, TimeoutError):
            flow.timed_out(whole=self.end <= self.moment)
        else:
            flow.failed(error)

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        while self.open:
            self.open.pop().close()


class IgnoresTheEnd(Transport):
    def receive(self, timer: Timer) -> bytes:
        while not (data := super().receive(timer)):
            pass
        return data


class WritesOnce(Transport):
    def send(self, data: bytes, seconds: float | None) -> None:
        self.socket.settimeout(seconds)
        self.socket.send(data)


class MovesTheDeadline(Transport):
    def receive(self, timer: Timer) -> bytes:
        self.timer = None
        return super().receive(timer)


class SwallowsErrors(Transport):
    def failed(self, flow: Flow[str], error: OSError) -> None:
        pass


class TakesResetForEnd(Transport):
    def receive(self, timer: Timer) -> bytes:
        try:
            return super().receive(timer)
        except ConnectionResetError:
            return b""


class GivesUpItself(Transport):
    def failed(self, flow: Flow[str], error: OSError) -> None:
        raise error


class LeavesItOpen(Transport):
    def finish(self) -> None:
        pass


class LosesWhatIsUnderWay(Transport):
    def close(self) -> None:
        for each in self.open:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        super().close()


class KeepsTheLastOctet(Transport):
    """It is sent together with what comes next, or when an answer is awaited."""

    kept = b""

    def send(self, data: bytes, seconds: float | None) -> None:
        data, self.kept = self.kept + data[:-1], data[-1:]
        super().send(data, seconds)

    def receive(self, timer: Timer) -> bytes:
        kept, self.kept = self.kept, b""
        super().send(kept, self.seconds(timer))
        return super().receive(timer)

    def close(self) -> None:
        self.kept = b""
        super().close()


class SaysMore(Transport):
    def finish(self) -> None:
        self.socket.sendall(b"QUIT\r\n")
        self.close()


class WaitsForLines(Transport):
    def receive(self, timer: Timer) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            data += super().receive(timer)
        return data


class ReadsOctetsOnce(Transport):
    def receive(self, timer: Timer) -> bytes:
        return super().receive(timer)[:1_000]


class StopsAtTheEnd(Transport):
    def receive(self, timer: Timer) -> bytes:
        data = super().receive(timer)
        if not data:
            self.socket.shutdown(socket.SHUT_WR)
        return data


class NoDeadlines(Transport):
    def seconds(self, timer: Timer) -> float | None:
        return None


class NoDeadlineForWrites(Transport):
    def send(self, data: bytes, seconds: float | None) -> None:
        super().send(data, None)


class ComparesTimers(Transport):
    def seconds(self, timer: Timer) -> float | None:
        return super().seconds(
            self.timer if self.timer is not None and timer == self.timer else timer
        )


class NoneIsNow(Transport):
    def seconds(self, timer: Timer) -> float | None:
        return 0.01 if timer.seconds is None else super().seconds(timer)


class IgnoresTotal(Transport):
    def begin(self, flow: Flow[str]) -> None:
        super().begin(flow)
        self.end = inf


class HidesTotal(Transport):
    def failed(self, flow: Flow[str], error: OSError) -> None:
        flow.failed(error)


class KeepsTheFirstStream(Transport):
    def connect(self, host: str, port: int, seconds: float | None) -> str | None:
        self.socket = socket.create_connection((host, port), seconds)
        self.open.append(self.socket)
        return None


class TellsThePort(Transport):
    def connect(self, host: str, port: int, seconds: float | None) -> str | None:
        super().connect(host, port, seconds)
        return str(self.socket.getsockname())


class NeverConnects(Transport):
    def connect(self, host: str, port: int, seconds: float | None) -> str | None:
        return None


class WrapsErrors(Transport):
    def __call__(self, flow: Flow[str]) -> str:
        try:
            return super().__call__(flow)
        except Exception as error:
            raise RuntimeError("it failed") from error
