"""Each mechanism of each real server, over TLS, by our clients of all worlds.

Knows what each server offers. Must not know how a mechanism works.
"""

from collections.abc import Callable, Iterator

import pytest

from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import AuthenticationError, CredentialReport, Security
from smtp_proto.sasl import AnyCredentials, Credentials, TokenCredentials
from tests.adapters.worlds import Client, World
from tests.interop.conftest import Peers
from tests.interop.peers import (
    DOVECOT_SUBMISSION,
    EXIM,
    HOST,
    PASSWORD,
    POSTFIX,
    SERVERS,
    USER,
    Mode,
    Server,
    ServerKind,
    oauth_token,
)

pytestmark = pytest.mark.interop


def right(kind: ServerKind, mechanism: str) -> AnyCredentials:
    if mechanism in kind.token_mechanisms:
        return TokenCredentials(USER, oauth_token(USER))
    return Credentials(USER, PASSWORD)


def wrong(kind: ServerKind, mechanism: str) -> AnyCredentials:
    if mechanism in kind.token_mechanisms:
        return TokenCredentials(USER, oauth_token(USER, key=b"stolen key of another issuer"))
    return Credentials(USER, "sesame")


LOGINS = [
    pytest.param(kind, mode, mechanism, id=f"{kind.name}-{mode.value}-{mechanism}")
    for kind in SERVERS
    for mode in (Mode.STARTTLS, Mode.IMPLICIT)
    if mode in kind.modes
    for mechanism in sorted(kind.mechanisms | kind.token_mechanisms)
]

Check = Callable[..., CredentialReport]


@pytest.fixture
def server(kind: ServerKind, peers: Peers) -> Iterator[Server]:
    """The server; if the test fails, its log is shown."""
    server = peers.server(kind)
    before = len(server.log())
    yield server
    print(server.log()[before:])  # noqa: T201


async def check(
    world: World, peers: Peers, server: Server, mode: Mode, **settings: object
) -> CredentialReport:
    make: Callable[..., Client] = world.client
    client = make(
        HOST,
        server.ports[mode],
        security=Security(mode.value),
        tls=ClientTLS(ca_file=peers.certificate.ca),
        timeouts=60.0,
        **settings,
    )
    return await client.check_credentials()


@pytest.mark.parametrize(("kind", "mode", "mechanism"), LOGINS)
async def test_every_mechanism(
    world: World, peers: Peers, kind: ServerKind, server: Server, mode: Mode, mechanism: str
) -> None:
    report = await check(
        world, peers, server, mode, auth=right(kind, mechanism), mechanisms=[mechanism]
    )
    assert report, report.error
    assert report.tried == (mechanism,)
    assert report.tls is not None
    assert report.tls.verified
    refused = wrong(kind, mechanism)
    report = await check(world, peers, server, mode, auth=refused, mechanisms=[mechanism])
    assert not report
    assert isinstance(report.error, AuthenticationError)
    assert report.tried == (mechanism,)
    assert "sesame" not in str(report.error)


@pytest.mark.parametrize("kind", [POSTFIX, EXIM, DOVECOT_SUBMISSION], ids=lambda kind: kind.name)
async def test_no_server_here_binds_channels(world: World, peers: Peers, server: Server) -> None:
    """Where one begins to, the test that needs it can be written."""
    report = await check(world, peers, server, Mode.STARTTLS)
    assert report.offered
    assert not [name for name in report.offered if name.endswith("-PLUS")]
