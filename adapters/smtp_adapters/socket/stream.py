"""A connection on a socket, as the loop wants it: connect, send, receive, close.

Knows sockets and the clock. Must not know what goes to and fro.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from math import ceil, inf
from selectors import EVENT_READ, EVENT_WRITE
from time import monotonic

from smtp_adapters.reach import (
    Address,
    TimeIsUp,
    bind,
    closed_here,
    connect_error,
    own_address,
    unix_address,
)
from smtp_proto.flow import Connect, Timer
from smtp_proto.wire import Octets

if sys.platform == "win32":
    from selectors import SelectSelector as Selector
else:
    from selectors import PollSelector as Selector

RECEIVE = 65_536  # octets taken from the socket at a time
LONGEST_WAIT = 86_400.0  # seconds: poll() counts them in milliseconds, 24 days at most

Wait = Callable[[float | None], list[tuple[int, int]]]
"""Waits so many seconds, None: without limit; returns where something has come: descriptors first.
"""


def _arrivals(*connections: socket.socket) -> Wait:
    """How to wait for octets, or the end of the stream, on sockets that stay the same."""
    if sys.platform == "win32":
        selector = Selector()
        for each in connections:
            selector.register(each, EVENT_READ)
        return lambda seconds: [(key.fd, events) for key, events in selector.select(seconds)]
    poll = select.poll()
    for each in connections:
        poll.register(each, select.POLLIN)
    return lambda seconds: poll.poll(None if seconds is None else ceil(seconds * 1000))


def deadline_of(timer: Timer, end: float) -> float:
    """When a wait that begins now is over; `end`: when the whole flow is."""
    return end if timer.seconds is None else min(end, monotonic() + timer.seconds)


def seconds_until(deadline: float) -> float | None:
    """What is left of the time; None: there is no limit. Raises TimeIsUp where nothing is.

    It is LONGEST_WAIT at most: who has waited for so long asks again.
    """
    if deadline == inf:
        return None
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeIsUp
    return min(seconds, LONGEST_WAIT)


class Stream:
    """A connection, on a socket that does not block. Whatever is behind its deadline is TimeIsUp.

    One thread uses it; another one may close it.
    """

    __slots__ = ("_socket", "_wait")

    def __init__(self, connection: socket.socket | None = None) -> None:
        self._socket = connection
        if connection is not None:
            self._begin(connection)

    def connect(self, action: Connect, end: float) -> str | None:
        """Open a connection to where the action says; returns the IP address of our end.

        A host's addresses are tried one after the other, in the order of RFC 6724, each with the
        timer's seconds. Looking the host up cannot be interrupted. Raises OSError, which says what
        became of each.
        """
        self.close()
        if action.unix_path is not None:
            addresses: list[Address] = [unix_address(action.unix_path)]
        else:
            addresses = [*socket.getaddrinfo(action.host, action.port, type=socket.SOCK_STREAM)]
        failures: list[OSError] = []
        for address in addresses:
            try:
                return self._try(address, action, deadline_of(action.timer, end))
            except OSError as error:
                self.close()
                failures.append(error)
        if all(isinstance(failure, TimeIsUp) for failure in failures):
            raise TimeIsUp
        raise connect_error(failures)

    def _try(self, address: Address, action: Connect, deadline: float) -> str | None:
        family, kind, protocol, _, where = address
        self._socket = connection = socket.socket(family, kind, protocol)
        bind(connection, address, action.local_address)
        connection.settimeout(seconds_until(deadline))  # no system tries it for LONGEST_WAIT
        try:
            connection.connect(where)
        except TimeoutError as error:
            if error.errno is None:  # it is ours, not the system's
                raise TimeIsUp("timed out") from None
            raise
        self._begin(connection)
        return own_address(connection.getsockname())

    def _begin(self, connection: socket.socket) -> None:
        """Make a socket that is connected ready for the other verbs."""
        connection.setblocking(False)
        _send_at_once(connection)
        self._wait = _arrivals(connection)

    def interrupt_by(self, bell: socket.socket, may: Callable[[], bool]) -> None:
        """Have each wait for octets that `may` end by InterruptedError when `bell` can be read."""
        connection, number = self._connection(), bell.fileno()
        alone, either = _arrivals(connection), _arrivals(connection, bell)

        def wait(seconds: float | None) -> list[tuple[int, int]]:
            if not may():
                return alone(seconds)
            arrived = either(seconds)
            if any(each == number for each, _ in arrived):
                raise InterruptedError
            return arrived

        self._wait = wait

    def send(self, data: Octets, deadline: float) -> None:
        """Write all of `data`."""
        connection = self._connection()
        try:
            sent = connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            _send_rest(connection, memoryview(data)[sent:], deadline)

    def receive(self, deadline: float) -> bytes:
        """Wait for octets; b"": the peer has ended the stream."""
        connection = self._connection()
        while True:
            self._wait(seconds_until(deadline))
            try:
                return connection.recv(RECEIVE)
            except BlockingIOError:
                pass  # it was a signal, a false alarm, or the longest wait

    def overheard(self) -> bytes | None:
        """What has come though nobody waited for it; b"": the stream has ended; None: nothing."""
        connection = self._socket
        if connection is None:
            return None
        try:
            return connection.recv(RECEIVE) if self._wait(0) else None
        except BlockingIOError:
            return None
        except OSError:
            return b""  # it has been cut

    def close(self) -> None:
        """End the connection at once, also under another thread that waits for it."""
        connection = self._socket
        if connection is not None:
            with suppress(OSError):  # it may have ended by itself
                connection.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                connection.close()
            self._socket = None

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise closed_here()
        return self._socket


def _send_rest(connection: socket.socket, rest: memoryview, deadline: float) -> None:
    with Selector() as departures:
        departures.register(connection, EVENT_WRITE)
        while rest:
            departures.select(seconds_until(deadline))
            with suppress(BlockingIOError):  # it was a signal, a false alarm, or the longest wait
                rest = rest[connection.send(rest) :]


def _send_at_once(connection: socket.socket) -> None:
    """Without it, a small piece may wait until the peer has acknowledged the one before."""
    with suppress(OSError):  # it may have ended already, or be a Unix socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
