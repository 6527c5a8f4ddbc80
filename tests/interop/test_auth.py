"""Each mechanism of each real server, over TLS, by our clients of all worlds.

Knows what each server offers. Must not know how a mechanism works.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme

from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import AuthenticationError, CredentialReport, Security
from smtp_proto.sasl import AnyCredentials, Credentials, ExternalCredentials, TokenCredentials
from tests.adapters.worlds import Client, World
from tests.interop.conftest import Peers
from tests.interop.peers import (
    DOVECOT_SUBMISSION,
    EXIM,
    HOST,
    HOSTNAME,
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

ADDRESS = f"{USER}@{HOSTNAME}"


def right(kind: ServerKind, mechanism: str) -> AnyCredentials:
    if mechanism in kind.token_mechanisms:
        return TokenCredentials(USER, oauth_token(USER))
    if mechanism in kind.certificate_mechanisms:
        return ExternalCredentials(ADDRESS)
    return Credentials(USER, PASSWORD)


def wrong(kind: ServerKind, mechanism: str) -> AnyCredentials:
    if mechanism in kind.token_mechanisms:
        return TokenCredentials(USER, oauth_token(USER, key=b"stolen key of another issuer"))
    if mechanism in kind.certificate_mechanisms:
        return ExternalCredentials(f"bob@{HOSTNAME}")
    return Credentials(USER, "sesame")


LOGINS = [
    pytest.param(kind, mode, mechanism, id=f"{kind.name}-{mode.value}-{mechanism}")
    for kind in SERVERS
    for mode in (Mode.STARTTLS, Mode.IMPLICIT)
    if mode in kind.modes
    for mechanism in sorted(kind.all_mechanisms)
]

Check = Callable[..., CredentialReport]


def certificate_of(authority: trustme.CA, folder: Path) -> Path:
    """Have a certificate for `ADDRESS` issued; give the file with it and its key."""
    file = folder / "client.pem"
    authority.issue_cert(ADDRESS).private_key_and_cert_chain_pem.write_to_path(file)
    return file


@pytest.fixture
def server(kind: ServerKind, peers: Peers) -> Iterator[Server]:
    """The server; if the test fails, its log is shown."""
    server = peers.server(kind)
    before = len(server.log())
    yield server
    print(server.log()[before:])  # noqa: T201


async def check(
    world: World,
    peers: Peers,
    server: Server,
    mode: Mode,
    certificate: Path | None = None,
    **settings: object,
) -> CredentialReport:
    make: Callable[..., Client] = world.client
    client = make(
        HOST,
        server.ports[mode],
        security=Security(mode.value),
        tls=ClientTLS(ca_file=peers.certificate.ca, certificate_file=certificate),
        timeouts=60.0,
        **settings,
    )
    return await client.check_credentials()


@pytest.mark.parametrize(("kind", "mode", "mechanism"), LOGINS)
async def test_every_mechanism(
    world: World,
    peers: Peers,
    authority: trustme.CA,
    tmp_path: Path,
    kind: ServerKind,
    server: Server,
    mode: Mode,
    mechanism: str,
) -> None:
    certificate = None
    if mechanism in kind.certificate_mechanisms:
        certificate = certificate_of(authority, tmp_path)
    log_in = partial(check, world, peers, server, mode, certificate, mechanisms=[mechanism])
    report = await log_in(auth=right(kind, mechanism))
    assert report, report.error
    assert report.tried == (mechanism,)
    assert report.tls is not None
    assert report.tls.verified
    report = await log_in(auth=wrong(kind, mechanism))
    assert not report
    assert isinstance(report.error, AuthenticationError)
    assert report.tried == (mechanism,)
    assert "sesame" not in str(report.error)


@pytest.mark.parametrize(
    "kind", [kind for kind in SERVERS if kind.certificate_mechanisms], ids=lambda kind: kind.name
)
async def test_a_certificate_that_anybody_could_have_issued(
    world: World, peers: Peers, kind: ServerKind, server: Server, tmp_path: Path
) -> None:
    certificate = certificate_of(trustme.CA(), tmp_path)
    for mechanism in kind.certificate_mechanisms:
        own = {"auth": right(kind, mechanism), "mechanisms": [mechanism]}
        report = await check(world, peers, server, Mode.STARTTLS, certificate, **own)
        assert not report
        assert report.tried == ()
        assert mechanism not in report.offered


@pytest.mark.parametrize("kind", [POSTFIX, EXIM, DOVECOT_SUBMISSION], ids=lambda kind: kind.name)
async def test_no_server_here_binds_channels(world: World, peers: Peers, server: Server) -> None:
    """Where one begins to, the test that needs it can be written."""
    report = await check(world, peers, server, Mode.STARTTLS)
    assert report.offered
    assert not [name for name in report.offered if name.endswith("-PLUS")]
