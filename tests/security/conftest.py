"""What the tests of attacks share: real servers where these are installed."""

from tests.interop.conftest import authority, peers, server_certificate

__all__ = ["authority", "peers", "server_certificate"]
