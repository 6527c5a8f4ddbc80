"""Servers and clients of others, and our own, under the machines of `smtp_proto.testing`.

Know how octets get to each of them and back. Must not know what is said.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP

from smtp_proto.flow import (
    CloseSession,
    Envelope,
    Handler,
    OpenSession,
    OpenSettings,
    Security,
    SendMail,
    Serve,
    ServerSession,
    ServeSettings,
    SMTPError,
)
from smtp_proto.testing import ADDRESS, Clock, FlowPeer
from smtp_proto.testing.clock import perform
from smtp_proto.testing.link import Link
from smtp_proto.testing.strategies import ClientMachine, ServerMachine
from smtp_proto.wire import Limits

_CONTENT = b"Subject: x\r\n\r\n.hello\r\n"
_ENVELOPE = Envelope.of("a@example.org", ["b@example.net", "c@example.net"])

# --- Servers ---------------------------------------------------------------------------------


class Inbox(Handler):
    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        self.last = envelope, content


class OurServer(ClientMachine):
    handler = Inbox
    limits = Limits()
    mechanisms: tuple[str, ...] = ()

    def connect(self) -> None:
        settings = ServeSettings(
            hostname="mx.example.org",
            nonce=lambda: b"sixteen octets..",
            protocol=self.protocol,
            limits=self.limits,
            mechanisms=self.mechanisms,
            allow_cleartext_auth=True,
        )
        self.inbox = self.handler()
        self.stream = FlowPeer(Serve(self.inbox, settings, ADDRESS), Clock())

    def send(self, octets: bytes) -> None:
        self.stream.write(octets)

    def receive(self) -> bytes:
        octets = self.stream.read()
        assert octets is not None, "the server says nothing"
        return octets

    def taken(self) -> tuple[Envelope, bytes]:
        return self.inbox.last

    def disconnect(self) -> None:
        self.stream.close()
        assert self.stream.over


class _Transport(asyncio.Transport):
    """What aiosmtpd writes to."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1025)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Aiosmtpd(ClientMachine):
    """In memory, on a loop of its own."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        super().__init__()

    def connect(self) -> None:
        loop = self.runner.get_loop()
        self.transport = _Transport()
        self.server = SMTP(Sink(), hostname="mx.example.org", ident="x", loop=loop)
        self.server.connection_made(self.transport)

    def send(self, octets: bytes) -> None:
        self.server.data_received(octets)

    def receive(self) -> bytes:
        self.runner.run(self._until_it_speaks())
        octets = bytes(self.transport.written)
        self.transport.written.clear()
        return octets

    async def _until_it_speaks(self) -> None:
        for _ in range(1_000):
            await asyncio.sleep(0)
            if self.transport.written or self.transport.closed:
                return
        raise AssertionError("the server says nothing")

    def disconnect(self) -> None:
        self.server.connection_lost(None)
        self.runner.run(asyncio.sleep(0))

    def teardown(self) -> None:
        super().teardown()
        self.runner.close()


# --- Clients ---------------------------------------------------------------------------------


class OurClient(ServerMachine):
    """Opens a session, sends two messages and says goodbye."""

    def connect(self) -> None:
        self.link = Link(Clock())
        self.acts = self._acts()

    def _acts(self) -> Iterator[float]:
        settings = OpenSettings(
            "mail.example.org",
            25,
            security=Security.NONE,
            local_hostname="client.example",
            protocol=self.protocol,
        )
        with suppress(SMTPError):
            session = yield from perform(OpenSession(settings), self.link.client)
            for _ in range(2):
                with suppress(SMTPError):
                    yield from perform(SendMail(session, _ENVELOPE, _CONTENT), self.link.client)
            yield from perform(CloseSession(session), self.link.client)
        self.link.client.close()

    def send(self, octets: bytes) -> None:
        self.link.server.write(octets)

    def receive(self) -> bytes:
        next(self.acts, None)
        octets = self.link.server.read()
        assert octets is not None, "the client says nothing"
        return octets


class Smtplib(ServerMachine):
    """The standard library's client, in a thread at the other end of a pair of sockets."""

    keywords = ("8BITMIME", "SIZE 1000000", "DSN")

    def connect(self) -> None:
        self.socket, client = socket.socketpair()
        self.socket.settimeout(10.0)
        self.thread = threading.Thread(target=self._deliver, args=[client])
        self.thread.start()

    @staticmethod
    def _deliver(end: socket.socket) -> None:
        with end, suppress(smtplib.SMTPException, OSError):
            client = _SMTP(end)
            client.sendmail("a@example.org", ["b@example.net", "c@example.net"], _CONTENT)
            client.quit()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def receive(self) -> bytes:
        return self.socket.recv(65_536)

    def disconnect(self) -> None:
        self.socket.close()
        self.thread.join()


class _SMTP(smtplib.SMTP):
    """smtplib on a socket that is there."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        super().__init__("mail.example.org", local_hostname="client.example")

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self.end
