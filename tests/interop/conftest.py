"""The real servers and proxies as fixtures, and the three worlds.

Knows when to start one, and when to skip. Must not know how a peer is run.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

import pytest
import trustme

from tests.adapters.conftest import pytest_pyfunc_call, world
from tests.interop.peers import (
    HOST,
    HOSTNAME,
    POSTFIX,
    PeerMissing,
    Postfix,
    ProxyKind,
    RunningProxy,
    Server,
    ServerCertificate,
    ServerKind,
)

__all__ = ["pytest_pyfunc_call", "world"]  # as they are for the adapters' own tests

T = TypeVar("T")


class Peers:
    """Starts each peer when it is first asked for, and ends all of them with the last test."""

    def __init__(self, certificate: ServerCertificate) -> None:
        self.certificate = certificate
        self._stack = ExitStack()
        self._servers: dict[str, Server] = {}
        self._proxies: dict[str, RunningProxy] = {}
        self._missing: dict[str, str] = {}

    def server(self, kind: ServerKind) -> Server:
        """Give the server, running. Skips the test if it is not installed."""
        return self._running(self._servers, kind.name, kind.start)

    def proxy(self, kind: ProxyKind) -> RunningProxy:
        """Give the proxy, running. Skips the test if it is not installed."""
        return self._running(self._proxies, kind.name, kind.start)

    def end(self) -> None:
        """End all of them."""
        self._stack.close()

    def _running(
        self,
        running: dict[str, T],
        name: str,
        start: Callable[[ServerCertificate], AbstractContextManager[T]],
    ) -> T:
        if name not in running and name not in self._missing:
            try:
                running[name] = self._stack.enter_context(start(self.certificate))
            except PeerMissing as missing:
                self._missing[name] = str(missing)
        if name in self._missing:
            pytest.skip(self._missing[name])
        return running[name]


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Keep what was there before the first test out of the collections that `world` makes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Vouches for the real servers, and to them for who shows a certificate."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_certificate(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> ServerCertificate:
    """A certificate for the real servers, and the CA that vouches for it."""
    folder: Path = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert(HOSTNAME, HOST)
    files = ServerCertificate(folder / "chain.pem", folder / "key.pem", folder / "ca.pem")
    files.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.ca)
    return files


@pytest.fixture(scope="session")
def peers(server_certificate: ServerCertificate) -> Iterator[Peers]:
    """All peers, each started once."""
    peers = Peers(server_certificate)
    try:
        yield peers
    finally:
        peers.end()


@pytest.fixture(scope="session")
def postfix_server(peers: Peers) -> Postfix:
    """The one Postfix of all tests."""
    server = peers.server(POSTFIX)
    assert isinstance(server, Postfix)
    return server
