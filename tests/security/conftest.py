"""What the tests of attacks share: real servers where these are installed."""

from tests.interop.conftest import peers, server_certificate

__all__ = ["peers", "server_certificate"]
