"""GNU SASL, over GnuTLS, logs in at our servers: each mechanism, and SCRAM bound to the channel.

Knows how gsasl is told, and that it says STARTTLS before EHLO. Must not know how a mechanism works.
"""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from smtp_adapters.tls import server_context
from smtp_proto.flow import Handler, Security, ServerSession
from smtp_proto.sasl import MINIMUM_ITERATIONS, Credentials, ScramSecret
from tests.adapters.worlds import Server, World
from tests.interop.peers import (
    HOST,
    HOSTNAME,
    PASSWORD,
    USER,
    PeerMissing,
    ServerCertificate,
    need,
)

pytestmark = pytest.mark.interop

BOUND = ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS")
UNBOUND = ("SCRAM-SHA-1", "SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN")
PATIENCE = 60.0


class Users(Handler):
    """Has one user."""

    def __init__(self) -> None:
        self.identities: list[str | None] = []

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        password = self.find_password(session, credentials.authentication_identity)
        return credentials.password == password

    def find_password(self, session: ServerSession, authentication_identity: str) -> str | None:
        return PASSWORD if authentication_identity == USER else None

    def find_secret(
        self, session: ServerSession, authentication_identity: str, mechanism: str
    ) -> ScramSecret | None:
        if authentication_identity != USER:
            return None
        salt = b"sixteen octets.."
        return ScramSecret.from_password(
            PASSWORD, salt, mechanism=mechanism, iterations=MINIMUM_ITERATIONS
        )

    def on_disconnect(self, session: ServerSession) -> None:
        self.identities.append(session.authenticated_as)


@pytest.fixture
def users() -> Users:
    return Users()


@contextmanager
def said_ehlo(port: int) -> Iterator[int]:
    """Give a port that leads to another one, where EHLO has been said and answered."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            with (
                suppress(OSError),
                listener.accept()[0] as client,
                socket.create_connection((HOST, port)) as server,
            ):
                replies = server.makefile("rb", buffering=0)
                greeting = replies.readline()
                server.sendall(b"EHLO gsasl.test\r\n")
                while replies.readline()[3:4] == b"-":
                    pass
                client.sendall(greeting)
                there = threading.Thread(target=carry, args=(client, server))
                there.start()
                carry(server, client)
                there.join()

        relay = threading.Thread(target=serve)
        relay.start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        relay.join()


def carry(source: socket.socket, target: socket.socket) -> None:
    """Carry octets until there are no more."""
    with suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
        target.shutdown(socket.SHUT_WR)


def gsasl(port: int, certificate: ServerCertificate, mechanism: str, password: str) -> str:
    """Log in; give all that was said, and what gsasl thinks of it."""
    command = ["gsasl", "--client", "--smtp", "--starttls", f"--x509-ca-file={certificate.ca}"]
    command += [f"--hostname={HOSTNAME}", f"--realm={HOSTNAME}", "--quality-of-protection=qop-auth"]
    command += [f"--authentication-id={USER}", f"--password={password}", f"--mechanism={mechanism}"]
    if mechanism not in BOUND:
        command += ["--no-cb"]
    with said_ehlo(port) as relay:
        done = subprocess.run(
            [*command, f"--connect={HOST}:{relay}"],
            input=b"QUIT\r\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    return f"{done.stdout.decode()}\nends with {done.returncode}"


@pytest.mark.parametrize("mechanism", [*BOUND, *UNBOUND])
async def test_every_mechanism(
    world: World, users: Users, server_certificate: ServerCertificate, mechanism: str
) -> None:
    try:
        need("gsasl")
    except PeerMissing as missing:
        pytest.skip(str(missing))
    tls = server_context(server_certificate.chain, server_certificate.key)
    if mechanism in BOUND:
        # Above it gsasl wants tls-exporter, which Python's TLS cannot give: RFC 9266 2.
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
    make: Callable[..., Server] = world.server
    async with make(
        users,
        security=Security.STARTTLS,
        tls=tls,
        hostname=HOSTNAME,
        mechanisms=[mechanism],
        require_auth=True,
        timeouts=PATIENCE,
    ) as server:
        for password in ("sesame", PASSWORD):
            login = partial(gsasl, server.port, server_certificate, mechanism, password)
            said = await world.in_thread(login)
            assert ("\n235 " in str(said)) is (password == PASSWORD), said
            assert ("\n535 " in str(said)) is (password != PASSWORD), said
    assert users.identities == [None, USER]
