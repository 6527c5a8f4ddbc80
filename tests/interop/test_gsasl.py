"""GNU SASL, over GnuTLS, logs in at our servers: each mechanism, and SCRAM bound to the channel.

Knows what each mechanism needs. Must not know how gsasl is told, nor how a mechanism works.
"""

import ssl
from collections.abc import Callable
from functools import partial

import pytest

from smtp_adapters.tls import server_context
from smtp_proto.flow import Handler, Security, ServerSession
from smtp_proto.sasl import MINIMUM_ITERATIONS, Credentials, ScramSecret
from tests.adapters.worlds import Server, World
from tests.interop.gsasl import BOUND, gsasl
from tests.interop.peers import HOSTNAME, PASSWORD, USER, PeerMissing, ServerCertificate, need

pytestmark = pytest.mark.interop

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
