"""A server's context: its certificate, and which clients' certificates it trusts.

Knows what a server shows and asks for. Must not know connections.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from smtp_adapters.tls.certificates import first_certificate, key_kind
from smtp_adapters.tls.files import (
    Password,
    Source,
    fresh_context,
    load_certificate,
    trust_file,
)
from smtp_adapters.values import A_PATH, FLAG, PASSWORD, check_types

_PARAMETERS = {
    "certificate_file": A_PATH,
    "key_file": A_PATH.or_none,
    "key_password": PASSWORD.or_none,
    "client_ca_file": A_PATH.or_none,
    "require_client_certificate": FLAG,
}


class ServerContext(ssl.SSLContext):
    """A context that knows which certificate it shows.

    The ssl module does not tell a server, and a login can be bound to it ("tls-server-end-point").
    """

    def __init__(self, _protocol: int) -> None:
        # OpenSSL keeps one certificate for each kind of key; the peer's ciphers decide.
        self._certificates: dict[bytes | None, bytes | None] = {}

    def load_cert_chain(
        self,
        certfile: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        keyfile: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
        password: Password | None = None,
    ) -> None:
        """Load a certificate and its key, and remember the certificate."""
        super().load_cert_chain(certfile, keyfile, password)
        certificate = first_certificate(Path(os.fsdecode(certfile)).read_bytes())
        self._certificates[key_kind(certificate or b"")] = certificate

    @property
    def certificate(self) -> bytes | None:
        """The one that is shown, DER; None: it cannot be told which."""
        return None if len(self._certificates) != 1 else next(iter(self._certificates.values()))


def server_context(
    certificate_file: Source,
    key_file: Source | None = None,
    *,
    key_password: Password | None = None,
    client_ca_file: Source | None = None,
    require_client_certificate: bool = False,
) -> ssl.SSLContext:
    """A context for a server: TLS 1.2 or newer, with this certificate chain (PEM).

    `key_file`: its private key, where it is not in the same file; `key_password`: where it is
    encrypted, as text, octets or a callable that returns either. `client_ca_file`: ask clients for
    a certificate that one of these has issued (PEM), so that they can log in with EXTERNAL;
    `require_client_certificate`: refuse those that have none.

    It can be changed further like any other. It also knows its own certificate, so that logins can
    be bound to it ("tls-server-end-point"); a context that was made elsewhere does not. Raises
    OSError for a file that cannot be read, and ValueError where it does not hold what it should.
    """
    check_types(_PARAMETERS, locals())
    if require_client_certificate and client_ca_file is None:
        raise ValueError("require_client_certificate needs client_ca_file: who issues them?")
    context = fresh_context(ServerContext(ssl.PROTOCOL_TLS_SERVER))
    load_certificate(context, certificate_file, key_file, key_password)
    if client_ca_file is not None:
        trust_file(context, "client_ca_file", client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED if require_client_certificate else ssl.CERT_OPTIONAL
    return context
