"""What is asked of a server's certificate where OpenSSL itself does not ask.

Knows fingerprints, the user's own check, and how to get OpenSSL's verdict on a chain at any time.
Must not know connections: it is given what was shown.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from smtp_adapters.tls.certificates import fingerprint
from smtp_adapters.tls.explain import certificate_problem
from smtp_adapters.values import as_tuple
from smtp_proto.flow import CertificateError
from smtp_proto.wire import shown

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class CertificateCheck:
    """What `check_certificate` is asked about, before anything of ours is sent."""

    host: str
    """The name that was asked for, or the address."""
    chain: tuple[bytes, ...] = field(repr=False)
    """What the server showed, its own certificate first, DER; empty if nothing."""
    error: str
    """Why it would be refused, for people; "" if the verification succeeded."""
    version: str
    """As OpenSSL names it: "TLSv1.3"."""
    cipher: str

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the server's own certificate, in hex; "" if it showed none."""
        return fingerprint(self.chain[0]) if self.chain else ""


Verification = Callable[[CertificateCheck], str]
"""Returns why the certificate is not verified, "" if it is. Raises CertificateError: refused."""


def fingerprints(given: Iterable[str]) -> tuple[str, ...]:
    """Fingerprints as they are compared. Raises ValueError for what is no SHA-256, or is none."""
    if isinstance(given, str):
        raise TypeError("fingerprints is a tuple of texts, not a text")
    texts = as_tuple("fingerprints", given, str, "SHA-256 in hex, as str")
    return tuple(_fingerprint(text) for text in texts)


def _fingerprint(text: str) -> str:
    digits = text.replace(":", "").lower()
    if len(digits) != 64 or not _HEX.issuperset(digits):
        raise ValueError(
            f"fingerprints: {shown(text)!r}: a SHA-256 has 64 hex digits, with or without colons "
            f"(see `openssl x509 -noout -fingerprint -sha256`), and this has {len(digits)} "
            "characters"
        )
    return digits


def pinned(allowed: tuple[str, ...]) -> Verification:
    """The server's own certificate has one of these fingerprints. Nothing else counts."""

    def verify(check: CertificateCheck) -> str:
        if check.fingerprint not in allowed:
            raise refused(
                check.host, f"its fingerprint is none of those allowed: {check.fingerprint}"
            )
        return ""

    return verify


def trusted(context: ssl.SSLContext) -> Verification:
    """What OpenSSL says, by this context, which verifies. It refuses nothing by itself."""
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(_SUITES))

    def verify(check: CertificateCheck) -> str:
        verdicts = [_verdict(context, check, suite) for suite in _SUITES.values()]
        return "" if "" in verdicts else verdicts[0]

    return verify


def asked(question: Callable[[CertificateCheck], bool], first: Verification) -> Verification:
    """The user's check decides, and is told what came out `first`."""

    def verify(check: CertificateCheck) -> str:
        problem = first(check)
        try:
            answer = question(replace(check, error=problem))
        except Exception as error:
            said = f"{type(error).__name__}: {shown(str(error))}"
            raise refused(check.host, f"check_certificate raised {said}") from error
        if answer is not True:
            because = f": {problem}" if problem else ""
            raise refused(check.host, f"check_certificate did not return True{because}")
        return problem and f"check_certificate accepted it, and yet: {problem}"

    return verify


def refused(host: str | None, why: str, peer: str = "server") -> CertificateError:
    """The error for a certificate that is not accepted."""
    name = f" for {host}" if host else ""
    return CertificateError(f"the {peer}'s certificate is refused{name}: {why}")


# --- OpenSSL's verdict -----------------------------------------------------------------------
#
# The ssl module verifies in a handshake only, and ends it where that fails. So the chain is shown
# once more, in a handshake in memory that never goes further: in TLS 1.2 a server's first messages
# need no key. Each suite is for one kind of key; the name is OpenSSL's, the octets are the wire's.

_SUITES = {
    "ECDHE-RSA-AES256-GCM-SHA384": b"\xc0\x30",  # RFC 5289 3.2
    "ECDHE-ECDSA-AES256-GCM-SHA384": b"\xc0\x2c",
}
_SERVER_HELLO, _CERTIFICATE, _SERVER_HELLO_DONE = 2, 11, 14  # RFC 5246 7.4
_HANDSHAKE = b"\x16\x03\x03"  # the type of a record, and TLS 1.2.  RFC 5246 6.2.1
_RECORD = 16_384  # octets in a record at most.  RFC 5246 6.2.1
_NO_RENEGOTIATION_BEFORE = b"\xff\x01\x00\x01\x00"  # RFC 5746 3.2


def _verdict(context: ssl.SSLContext, check: CertificateCheck, suite: bytes) -> str:
    """Why OpenSSL refuses this chain for this host; "" where it wants to go on."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=check.host)
    # ServerHelloDone comes too early. Who complains of that has accepted the certificates before.
    incoming.write(_flight(check.chain, suite))
    reason = "no complaint"
    try:
        tls.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return certificate_problem(error, check.chain)
    except ssl.SSLError as error:
        reason = error.reason or str(error)
    return "" if reason == "UNEXPECTED_MESSAGE" else f"it cannot be verified: {shown(reason)}"


def _flight(chain: tuple[bytes, ...], suite: bytes) -> bytes:
    """What a server says in TLS 1.2 up to its certificates, and then ServerHelloDone, in records.

    ServerHello: version, random, session_id, cipher_suite, compression_method, extensions.
    Certificate: all certificates in one list.
    """  # RFC 5246 7.4.1.3 and 7.4.2
    extensions = _vector(2, _NO_RENEGOTIATION_BEFORE)
    hello = b"\x03\x03" + bytes(32) + _vector(1, b"") + suite + b"\x00" + extensions
    certificates = _vector(3, b"".join(_vector(3, certificate) for certificate in chain))
    octets = (
        _message(_SERVER_HELLO, hello)
        + _message(_CERTIFICATE, certificates)
        + _message(_SERVER_HELLO_DONE, b"")
    )
    return b"".join(
        _HANDSHAKE + _vector(2, octets[start : start + _RECORD])
        for start in range(0, len(octets), _RECORD)
    )


def _message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _vector(3, body)  # RFC 5246 7.4


def _vector(size: int, octets: bytes) -> bytes:
    """Octets behind their length.  RFC 5246 4.3."""
    return len(octets).to_bytes(size, "big") + octets
