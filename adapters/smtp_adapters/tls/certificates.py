"""Certificates as octets (DER): which were shown, and the little that they are asked for.

Knows where X.509 keeps its algorithms. Must not know whom to trust.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import NamedTuple, Protocol


def _oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER as DER has it: seven bits in an octet, the first two numbers in one."""
    first, second, *rest = (int(number) for number in dotted.split("."))
    octets = bytearray((40 * first + second,))
    for number in rest:
        shifts = range((max(number.bit_length(), 1) - 1) // 7 * 7, -1, -7)
        octets += bytes(number >> shift & 0x7F | (0x80 if shift else 0) for shift in shifts)
    return bytes(octets)


_RSA, _ECDSA, _NIST = "1.2.840.113549.1.1", "1.2.840.10045.4", "2.16.840.1.101.3.4"

# The hash in the algorithm of a signature, or in a hash's own.
_HASHES = {
    _oid(dotted): name
    for dotted, name in (
        (f"{_RSA}.4", "md5"),  # with RSA: RFC 8017 A.2.4
        (f"{_RSA}.5", "sha1"),
        (f"{_RSA}.14", "sha224"),
        (f"{_RSA}.11", "sha256"),
        (f"{_RSA}.12", "sha384"),
        (f"{_RSA}.13", "sha512"),
        ("1.2.840.10040.4.3", "sha1"),  # with DSA: RFC 5758 3.1
        (f"{_NIST}.3.1", "sha224"),
        (f"{_NIST}.3.2", "sha256"),
        (f"{_ECDSA}.1", "sha1"),  # with ECDSA: RFC 5758 3.2
        (f"{_ECDSA}.3.1", "sha224"),
        (f"{_ECDSA}.3.2", "sha256"),
        (f"{_ECDSA}.3.3", "sha384"),
        (f"{_ECDSA}.3.4", "sha512"),
        ("1.3.14.3.2.26", "sha1"),  # alone: RFC 8017 B.1
        (f"{_NIST}.2.4", "sha224"),
        (f"{_NIST}.2.1", "sha256"),
        (f"{_NIST}.2.2", "sha384"),
        (f"{_NIST}.2.3", "sha512"),
    )
}
_RSASSA_PSS = _oid(f"{_RSA}.10")  # RFC 8017 A.2.3

_SUBJECT_ALT_NAME = _oid("2.5.29.17")  # RFC 5280 4.2.1.6

# Tags of DER
_CONTEXT_0, _CONTEXT_1 = 0xA0, 0xA1  # [0] and [1], made of others
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_UTC_TIME = 0x17

_PEM = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----.*?-----END \1-----", re.DOTALL
)


class _Certificate(Protocol):
    """What CPython's private objects for certificates can do."""

    def public_bytes(self, encoding: int, /) -> bytes: ...


_DER = 2  # its name for the encoding


def shown_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """What the peer has shown so far, its own certificate first, DER.

    Empty: nothing yet, nothing at all, or the interpreter does not tell.
    """
    public: Callable[[], Sequence[bytes]] | None = getattr(tls, "get_unverified_chain", None)
    if public is not None:  # from Python 3.13 on
        return tuple(public())
    private: Callable[[], Sequence[_Certificate] | None] | None = getattr(
        getattr(tls, "_sslobj", None), "get_unverified_chain", None
    )
    chain = (private and private()) or ()
    return tuple(certificate.public_bytes(_DER) for certificate in chain)


def has_certificate(pem: bytes) -> bool:
    """Whether a PEM file has a certificate, whole or broken, among whatever else."""
    return _PEM.search(pem) is not None


def first_certificate(pem: bytes) -> bytes | None:
    """The first certificate of a PEM file, DER: the one that a server shows as its own.

    None: there is none, or it is written in OpenSSL's own way, with more than the certificate.
    """
    found = _PEM.search(pem)
    if found is None or found[1] != b"CERTIFICATE":
        return None
    return ssl.PEM_cert_to_DER_cert(found[0].decode("ascii"))


def fingerprint(certificate: bytes) -> str:
    """Its SHA-256, in lower-case hex without colons."""
    return hashlib.sha256(certificate).hexdigest()


def signature_hash(certificate: bytes) -> str | None:
    """Which hash its signature uses, as hashlib names it; None: none, several, or unknown.

    Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }
    """  # RFC 5280 4.1
    try:
        algorithm = _elements(_elements(certificate)[0].contents)[1]
        return _hash_of(_elements(algorithm.contents))
    except (ValueError, IndexError):
        return None


def key_kind(certificate: bytes) -> bytes | None:
    """The OID of its public key's algorithm, DER; None where it cannot be read.

    TBSCertificate ::= SEQUENCE { [0] version OPTIONAL, serialNumber, signature, issuer, validity,
    subject, subjectPublicKeyInfo, ... }
    """  # RFC 5280 4.1
    try:
        key = _to_be_signed(certificate)[5]
        return _elements(_elements(key.contents)[0].contents)[0].contents
    except (ValueError, IndexError):
        return None


def expiry(certificate: bytes) -> datetime | None:
    """Until when it is valid; None where that cannot be read.

    Validity ::= SEQUENCE { notBefore, notAfter }
    """  # RFC 5280 4.1.2.5
    try:
        _, end = _elements(_to_be_signed(certificate)[3].contents)
        text = end.contents.decode("ascii")
        if end.tag == _UTC_TIME:
            # RFC 5280 4.1.2.5.1
            text = ("19" if text >= "50" else "20") + text
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (ValueError, IndexError):
        return None


def names(certificate: bytes) -> tuple[str, ...]:
    """The domains and the IP addresses that it is for; empty where they cannot be read.

    Extension ::= SEQUENCE { extnID, critical DEFAULT FALSE, extnValue }
    """  # RFC 5280 4.2.1.6
    try:
        *_, extensions = _to_be_signed(certificate)
        for extension in _elements(_elements(extensions.contents)[0].contents):
            identifier, *_, value = _elements(extension.contents)
            if identifier.contents == _SUBJECT_ALT_NAME:
                return tuple(_shown_names(_elements(_elements(value.contents)[0].contents)))
    except (ValueError, IndexError):
        pass
    return ()


def _shown_names(names: Iterable[_Element]) -> Iterator[str]:
    """GeneralName ::= CHOICE { ..., [2] dNSName, ..., [7] iPAddress, ... }."""  # RFC 5280 4.2.1.6
    for name in names:
        if name.tag == _DNS_NAME:
            yield name.contents.decode("ascii")
        elif name.tag == _IP_ADDRESS:
            yield str(ip_address(name.contents))


def _to_be_signed(certificate: bytes) -> list[_Element]:
    """TBSCertificate, without its version."""  # RFC 5280 4.1
    fields = _elements(_elements(_elements(certificate)[0].contents)[0].contents)
    return [field for field in fields if field.tag != _CONTEXT_0]


class _Element(NamedTuple):
    """One element of DER: its tag, and its contents."""

    tag: int
    contents: bytes


def _elements(der: bytes) -> list[_Element]:
    """The elements that stand one behind the other. Raises ValueError for what is cut off."""
    found: list[_Element] = []
    at = 0
    while at < len(der):
        tag, length, at = der[at], int.from_bytes(der[at + 1 : at + 2], "big"), at + 2
        if length & 0x80:  # the length of the length
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        found.append(_Element(tag, der[at : at + length]))
        at += length
    if at > len(der):
        raise ValueError("the last element is longer than what there is of it")
    return found


def _hash_of(algorithm: list[_Element]) -> str | None:
    """AlgorithmIdentifier ::= SEQUENCE { algorithm, parameters OPTIONAL }."""  # RFC 5280 4.1.1.2
    name, *parameters = algorithm
    if name.contents != _RSASSA_PSS:
        return _HASHES.get(name.contents)
    return _hash_of_pss(dict(_elements(parameters[0].contents)))


def _hash_of_pss(parameters: dict[int, bytes]) -> str | None:
    """RSASSA-PSS-params ::= SEQUENCE { [0] hashAlgorithm, [1] maskGenAlgorithm, ... }.

    Both stand for SHA-1 where they are left out. With two hashes there is no answer.
    """  # RFC 8017 A.2.3
    message: str | None = "sha1"
    mask: str | None = "sha1"
    if _CONTEXT_0 in parameters:
        message = _hash_of(_elements(_elements(parameters[_CONTEXT_0])[0].contents))
    if _CONTEXT_1 in parameters:
        generator = _elements(_elements(parameters[_CONTEXT_1])[0].contents)
        mask = _hash_of(_elements(generator[1].contents))
    return message if message == mask else None
