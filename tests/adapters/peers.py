"""Peers that do as a script says, right or wrong: a server and a client on plain sockets.

Know sockets and threads. Must not know the code that is tested.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

_PATIENCE = 20.0  # seconds until a test that hangs has failed


class Conversation:
    """One end of a stream."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        if connection.family == socket.AF_INET:
            # What has been said is there: it does not wait for the other end to acknowledge more.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._received = b""

    def say(self, *lines: str) -> None:
        self.send("".join(f"{line}\r\n" for line in lines).encode())

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def hear(self, *beginnings: str) -> str:
        """One line for each beginning, which it must have; returns the last one."""
        line = ""
        for beginning in beginnings:
            while b"\r\n" not in self._received:
                data = self._connection.recv(65_536)
                assert data, f"the stream has ended where {beginning!r} was to come"
                self._received += data
            octets, _, self._received = self._received.partition(b"\r\n")
            line = octets.decode()
            assert line.startswith(beginning), f"{line!r} where {beginning!r} was to come"
        return line

    def hear_all(self) -> bytes:
        """Everything until the other end closes."""
        with suppress(ConnectionError):  # closed in a hurry
            while data := self._connection.recv(65_536):
                self._received += data
        return self._received

    def hear_octets(self, count: int) -> bytes:
        """So many, whatever they are."""
        heard = bytearray()
        while len(heard) < count:
            heard += self._connection.recv(65_536)
        return bytes(heard)

    def drip(self, text: bytes) -> None:
        """Say one octet after the other, over and over, until the other end closes."""
        self._connection.settimeout(0.01)
        while True:
            for octet in text:
                self._connection.sendall(bytes([octet]))
                with suppress(TimeoutError):
                    if not self._connection.recv(1):
                        return

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._connection = context.wrap_socket(self._connection, server_side=True)

    def say_no_more(self) -> None:
        """End our side of the stream; the other one stays open, under TLS without a word."""
        socket.socket.shutdown(self._connection, socket.SHUT_WR)

    def reset(self) -> None:
        """Close without telling anybody: the other end cannot go on."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def close(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


Script: TypeAlias = Callable[[Conversation], object]


@contextmanager
def server(script: Script, path: Path | None = None) -> Iterator[int]:
    """A server for one client on the port that is returned; with a path, on a Unix socket there.

    Its script may end in a lost stream.
    """
    with _listener(path) as listener:
        listener.settimeout(_PATIENCE)
        failures: list[Exception] = []
        thread = threading.Thread(target=_serve, args=(listener, script, failures))
        thread.start()
        try:
            yield 0 if path is not None else listener.getsockname()[1]
        finally:
            thread.join()
        if failures:
            raise failures[0]


def _listener(path: Path | None) -> socket.socket:
    if path is None:
        return socket.create_server(("127.0.0.1", 0))
    return socket.create_server(str(path), family=socket.AF_UNIX)


def _serve(listener: socket.socket, script: Script, failures: list[Exception]) -> None:
    try:
        connection, _ = listener.accept()
        conversation = Conversation(connection)
        try:
            script(conversation)
        finally:
            conversation.close()
    except (ConnectionError, ssl.SSLError):
        pass  # the client has had enough
    except Exception as error:  # noqa: BLE001 - the test has to hear of it
        failures.append(error)


@contextmanager
def client(port: int) -> Iterator[Conversation]:
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as connection:
        yield Conversation(connection)
