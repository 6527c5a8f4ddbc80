"""TLS in memory: the layer that the flows put over a byte stream, and the settings to make it.

Knows the ssl module, and what its errors mean to people. Must not know SMTP, nor how octets travel:
there is no socket here.
"""

from smtp_adapters.tls.layer import MemoryTLSLayer, server_factory
from smtp_adapters.tls.names import server_name
from smtp_adapters.tls.server import server_context
from smtp_adapters.tls.settings import ClientTLS
from smtp_adapters.tls.verification import CertificateCheck

__all__ = [
    "CertificateCheck",
    "ClientTLS",
    "MemoryTLSLayer",
    "server_context",
    "server_factory",
    "server_name",
]
