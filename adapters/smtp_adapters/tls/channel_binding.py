"""What a login can be bound to: data that only the two ends of this TLS connection share.

Knows RFC 5929 and RFC 9266. Must not know what SASL does with it.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping

from smtp_adapters.tls.certificates import signature_hash

# In which versions a type that the ssl module may have says something that can be relied on.
_VERSIONS = {
    "tls-unique": ("TLSv1", "TLSv1.1", "TLSv1.2"),  # RFC 9266 1
    "tls-exporter": ("TLSv1.3",),  # before that it wants what cannot be seen.  RFC 9266 2
}


def channel_bindings(tls: ssl.SSLObject, server_certificate: bytes | None) -> Mapping[str, bytes]:
    """All that there is, by type.

    `server_certificate`: the server's own, DER; None where it is not known.
    """
    found = {
        kind: data
        for kind, versions in _VERSIONS.items()
        if kind in ssl.CHANNEL_BINDING_TYPES
        and tls.version() in versions
        # A resumed session may be another's: then its Finished is no proof.  RFC 7677 4
        and not tls.session_reused
        and (data := tls.get_channel_binding(kind))
    }
    end_point = server_end_point(server_certificate or b"")
    return found | ({} if end_point is None else {"tls-server-end-point": end_point})


def server_end_point(certificate: bytes) -> bytes | None:
    """The data of "tls-server-end-point"; None where it is not defined.  RFC 5929 4.1."""
    name = signature_hash(certificate)
    if name in {"md5", "sha1"}:
        name = "sha256"
    return None if name is None else hashlib.new(name, certificate).digest()
