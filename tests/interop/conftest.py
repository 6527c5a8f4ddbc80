"""The real servers as fixtures, and the three worlds.

Knows when to skip. Must not know how a server is run.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.adapters.conftest import pytest_pyfunc_call, world
from tests.interop.peers import HOST, HOSTNAME, PeerMissing, Postfix, ServerCertificate, postfix

__all__ = ["pytest_pyfunc_call", "world"]  # as they are for the adapters' own tests


@pytest.fixture(scope="session")
def server_certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    """A certificate for the real servers, and the CA that vouches for it."""
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert(HOSTNAME, HOST)
    files = ServerCertificate(folder / "chain.pem", folder / "key.pem", folder / "ca.pem")
    files.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.ca)
    return files


@pytest.fixture(scope="session")
def postfix_server(server_certificate: ServerCertificate) -> Iterator[Postfix]:
    """One Postfix for all tests."""
    try:
        with postfix(server_certificate) as server:
            yield server
    except PeerMissing as missing:
        pytest.skip(str(missing))
