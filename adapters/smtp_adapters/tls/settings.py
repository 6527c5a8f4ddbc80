"""How a client makes its TLS connections.

Knows the settings, and which of them contradict each other. Must not know connections.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

from smtp_adapters.tls.files import (
    Password,
    Source,
    fresh_context,
    load_certificate,
    trust_data,
    trust_directory,
    trust_file,
)
from smtp_adapters.tls.layer import MemoryTLSLayer
from smtp_adapters.tls.names import server_name
from smtp_adapters.tls.negotiation import limit
from smtp_adapters.tls.verification import (
    CertificateCheck,
    Verification,
    asked,
    fingerprints,
    pinned,
    trusted,
)
from smtp_adapters.values import (
    A_PATH,
    CALLABLE,
    PASSWORD,
    TEXT,
    TEXT_OR_OCTETS,
    Takes,
    check_types,
    naming,
)
from smtp_proto.flow import ClientTLSFactory

_VERSION = Takes("an ssl.TLSVersion, as ssl.TLSVersion.TLSv1_3", (ssl.TLSVersion,))
_PARAMETERS = {
    "context": Takes("an ssl.SSLContext", (ssl.SSLContext,)).or_none,
    "ca_file": A_PATH.or_none,
    "ca_directory": A_PATH.or_none,
    "ca_data": TEXT_OR_OCTETS.or_none,
    "certificate_file": A_PATH.or_none,
    "key_file": A_PATH.or_none,
    "key_password": PASSWORD.or_none,
    "server_hostname": TEXT.or_none,
    "check_certificate": CALLABLE.or_none,
    "minimum_version": _VERSION,
    "maximum_version": _VERSION.or_none,
    "ciphers": TEXT.or_none,
}

_BESIDE_A_CONTEXT = {"context", "server_hostname", "fingerprints"}


@dataclass(frozen=True, slots=True)
class ClientTLS:
    """How a client makes its TLS connections: verified, as the system's own trust store says.

    `ca_file`, `ca_directory`, `ca_data`: trust these certificates instead of the system's: a PEM
    file, a directory with hashed names (`openssl rehash`), PEM or DER. `certificate_file`,
    `key_file`, `key_password`: show this certificate (PEM, with its chain) to servers that ask; the
    key may be in the same file; the password is text, octets, or a callable that returns either.

    `server_hostname`: send and verify this name instead of the host's. `fingerprints`: the server's
    own certificate must have one of these SHA-256 (hex, colons or not); that takes the place of
    trust and name. `check_certificate`: is called with a `CertificateCheck` before anything is
    sent, and lets the handshake go on by returning True, even if the verification has failed;
    anything else is a CertificateError. It must not block.

    `minimum_version`, `maximum_version`: refuse older and newer ones. `ciphers`: for TLS 1.2 as
    `openssl ciphers` takes it; names of TLS 1.3 where the interpreter can choose them.

    `context`: a context of your own for all that; it is used as it is and never changed, so that
    only `server_hostname` and `fingerprints` go with it, the latter besides what it verifies.

    Raises ValueError for what contradicts itself, and for what this OpenSSL cannot do; TypeError
    for what is of another type.
    """

    context: ssl.SSLContext | None = None
    ca_file: Source | None = None
    ca_directory: Source | None = None
    ca_data: str | bytes | None = field(default=None, repr=False)
    certificate_file: Source | None = None
    key_file: Source | None = None
    key_password: Password | None = field(default=None, repr=False)
    server_hostname: str | None = None
    fingerprints: Sequence[str] = ()
    check_certificate: Callable[[CertificateCheck], bool] | None = None
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum_version: ssl.TLSVersion | None = None
    ciphers: str | None = None

    def __post_init__(self) -> None:
        check_types(_PARAMETERS, {name: getattr(self, name) for name in _PARAMETERS})
        object.__setattr__(self, "fingerprints", fingerprints(self.fingerprints))
        self._check_combinations()
        if self.server_hostname is not None:
            with naming("server_hostname"):
                server_name(self.server_hostname)
        self._limited(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def factory(self) -> ClientTLSFactory:
        """Make what OpenSession takes: one layer of TLS for each call.

        Files are read here. Raises OSError for a file that cannot be read, and ValueError where it
        does not hold what it should; both name the setting and the file.
        """
        verification = self._verification()
        context = self.context or self._context(verifies=verification is None)
        if self.certificate_file is not None:
            load_certificate(context, self.certificate_file, self.key_file, self.key_password)

        def layer(server_hostname: str) -> MemoryTLSLayer:
            return MemoryTLSLayer(
                context,
                server_side=False,
                server_hostname=server_hostname,
                verification=verification,
            )

        return layer

    def _check_combinations(self) -> None:
        given = {each.name for each in fields(self) if getattr(self, each.name) != each.default}
        alone = sorted(given - _BESIDE_A_CONTEXT)
        if self.context is not None and alone:
            raise ValueError(
                f"a context of your own is never changed: set {', '.join(alone)} in it yourself"
            )
        trust = sorted(given & {"ca_file", "ca_directory", "ca_data"})
        if self.fingerprints and trust:
            raise ValueError(
                f"fingerprints take the place of {', '.join(trust)}: give one or the other"
            )
        of_certificate = sorted(given & {"key_file", "key_password"})
        if self.certificate_file is None and of_certificate:
            raise ValueError(f"{', '.join(of_certificate)}: where is its certificate_file?")

    def _verification(self) -> Verification | None:
        """What is asked besides OpenSSL, or in its place."""
        if self.fingerprints:
            first = pinned(tuple(self.fingerprints))
        elif self.check_certificate is not None:
            first = trusted(self._context(verifies=True))
        else:
            return None
        return first if self.check_certificate is None else asked(self.check_certificate, first)

    def _context(self, *, verifies: bool) -> ssl.SSLContext:
        context = fresh_context(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        if verifies:
            self._load_trust(context)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return self._limited(context)

    def _load_trust(self, context: ssl.SSLContext) -> None:
        if self.ca_file is not None:
            trust_file(context, "ca_file", self.ca_file)
        if self.ca_directory is not None:
            trust_directory(context, "ca_directory", self.ca_directory)
        if self.ca_data is not None:
            trust_data(context, "ca_data", self.ca_data)
        if self.ca_file is self.ca_directory is self.ca_data is None:
            context.load_default_certs()

    def _limited(self, context: ssl.SSLContext) -> ssl.SSLContext:
        limit(context, self.minimum_version, self.maximum_version, self.ciphers)
        return context
