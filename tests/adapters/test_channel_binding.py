"""SCRAM-*-PLUS over real TLS, from client to server; and somebody between the two.

Knows TLS and sockets. Must not know what SCRAM says.
"""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from smtp_adapters.tls import ClientTLS, server_context
from smtp_proto import AuthenticationError, Handler, Security, ServerSession
from smtp_proto.sasl import Credentials, ScramSecret
from tests.adapters.canaries import PASSWORD, found_in, told_by
from tests.adapters.handshakes import pem
from tests.adapters.worlds import Client, World

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
MECHANISMS = ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS")
PATIENCE = 20.0


class Users(Handler):
    def __init__(self) -> None:
        self.identities: list[str | None] = []

    def find_secret(
        self, session: ServerSession, authentication_identity: str, mechanism: str
    ) -> ScramSecret | None:
        return ScramSecret.from_password(
            PASSWORD, b"sixteen octets..", mechanism=mechanism, iterations=4096
        )

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        raise AssertionError("the password came, though a proof would have done")

    def on_disconnect(self, session: ServerSession) -> None:
        self.identities.append(session.authenticated_as)


@pytest.fixture
def users() -> Users:
    return Users()


def trusting(authority: trustme.CA, version: str) -> ClientTLS:
    limit = VERSIONS[version]
    return ClientTLS(ca_data=pem(authority), minimum_version=limit, maximum_version=limit)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("security", [Security.IMPLICIT, Security.STARTTLS])
async def test_both_ends_of_a_connection_agree(
    world: World,
    authority: trustme.CA,
    certificate_file: Path,
    users: Users,
    security: Security,
    version: str,
    mechanism: str,
) -> None:
    make_client: Callable[..., Client] = world.client
    async with world.server(
        users,
        security=security,
        tls=server_context(certificate_file),
        mechanisms=[mechanism, mechanism.removesuffix("-PLUS")],
        timeouts=PATIENCE,
    ) as server:
        client = make_client(
            "127.0.0.1",
            server.port,
            security=security,
            tls=trusting(authority, version),
            auth=("ann", PASSWORD),
            timeouts=PATIENCE,
        )
        report = await client.check_credentials()
    assert report
    assert report.tried == (mechanism,)
    assert report.tls is not None
    assert report.tls.version == version
    bindings = {"TLSv1.2": {"tls-unique", "tls-server-end-point"}}
    assert bindings.get(version, {"tls-server-end-point"}) <= set(report.tls.channel_bindings)
    assert users.identities == ["ann"]


@contextmanager
def man_in_the_middle(port: int, certificate: Path, version: ssl.TLSVersion) -> Iterator[int]:
    """Ends the client's TLS, and begins another one with the server; hands all else on."""
    inwards = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inwards.load_cert_chain(certificate)
    outwards = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outwards.check_hostname = False
    outwards.verify_mode = ssl.CERT_NONE
    outwards.minimum_version = outwards.maximum_version = version

    def hand_on(client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        # In one thread: OpenSSL does not let two use one connection at the same time.
        to = {client: server, server: client}
        for each in to:
            each.setblocking(False)
        while True:
            for source in select.select(list(to), [], [], PATIENCE)[0]:
                with suppress(ssl.SSLWantReadError):
                    while data := source.recv(65_536):
                        to[source].settimeout(PATIENCE)
                        to[source].sendall(data)
                        to[source].setblocking(False)
                    return

    def serve(listener: socket.socket) -> None:
        with ExitStack() as stack:
            connection = stack.enter_context(listener.accept()[0])
            connection.settimeout(PATIENCE)
            client = stack.enter_context(inwards.wrap_socket(connection, server_side=True))
            onwards = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            server = stack.enter_context(outwards.wrap_socket(onwards))
            with suppress(OSError):
                hand_on(client, server)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


@pytest.mark.parametrize("mechanisms", [["SCRAM-SHA-256-PLUS"], None], ids=["PLUS", "any"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_somebody_in_between_is_found_out(
    world: World,
    authority: trustme.CA,
    certificate_file: Path,
    users: Users,
    tmp_path: Path,
    version: str,
    mechanisms: list[str] | None,
) -> None:
    """Also with a certificate that the client trusts."""
    theirs = tmp_path / "theirs.pem"
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(theirs)
    make_client: Callable[..., Client] = world.client
    async with world.server(
        users,
        security=Security.IMPLICIT,
        tls=server_context(certificate_file),
        mechanisms=["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"],
        timeouts=PATIENCE,
    ) as server:
        with man_in_the_middle(server.port, theirs, VERSIONS[version]) as port:
            client = make_client(
                "127.0.0.1",
                port,
                security=Security.IMPLICIT,
                tls=trusting(authority, version),
                auth=("ann", PASSWORD),
                mechanisms=mechanisms,
                timeouts=PATIENCE,
            )
            with pytest.raises(AuthenticationError, match="SCRAM-SHA-256-PLUS failed") as caught:
                await client.open()
    assert caught.value.reply is not None
    assert caught.value.reply.code == 535
    assert caught.value.tried == ("SCRAM-SHA-256-PLUS",)  # and nothing weaker after it
    assert not found_in(told_by(caught.value))
    assert users.identities == [None]
