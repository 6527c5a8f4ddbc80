"""GNU SASL as a client that logs in and does no more.

Knows how gsasl is told, and that it says STARTTLS before EHLO. Must not know how a mechanism works.
"""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.interop.peers import HOST, HOSTNAME, USER, ServerCertificate

BOUND = ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS")
_PATIENCE = 60.0  # seconds


def gsasl(port: int, certificate: ServerCertificate, mechanism: str, password: str) -> str:
    """Log in; give all that was said, and what gsasl thinks of it."""
    command = ["gsasl", "--client", "--smtp", "--starttls", f"--x509-ca-file={certificate.ca}"]
    command += [f"--hostname={HOSTNAME}", f"--realm={HOSTNAME}", "--quality-of-protection=qop-auth"]
    command += [f"--authentication-id={USER}", f"--password={password}", f"--mechanism={mechanism}"]
    if mechanism not in BOUND:
        command += ["--no-cb"]
    with _said_ehlo(port) as relay:
        done = subprocess.run(
            [*command, f"--connect={HOST}:{relay}"],
            input=b"QUIT\r\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE,
            check=False,
        )
    return f"{done.stdout.decode()}\nends with {done.returncode}"


@contextmanager
def _said_ehlo(port: int) -> Iterator[int]:
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
                there = threading.Thread(target=_carry, args=(client, server))
                there.start()
                _carry(server, client)
                there.join()

        relay = threading.Thread(target=serve)
        relay.start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        relay.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    """Carry octets until there are no more."""
    with suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
        target.shutdown(socket.SHUT_WR)
