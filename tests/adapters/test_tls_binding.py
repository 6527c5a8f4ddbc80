"""What a login is bound to: both ends say the same, and what is not safe is not there.

Knows certificates with each kind of signature; the oracle for their hash is `cryptography`. Must
not know any world.
"""

import base64
import datetime as dt
import hashlib
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from smtp_adapters.tls import ClientTLS, MemoryTLSLayer, server_context, server_factory
from smtp_adapters.tls.certificates import (
    first_certificate,
    key_kind,
    shown_chain,
    signature_hash,
)
from smtp_adapters.tls.channel_binding import channel_bindings, server_end_point
from smtp_proto.flow import TLSLayer
from tests.adapters.handshakes import HOST, connected, der, pem, serving

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def pair(authority: trustme.CA, context: ssl.SSLContext, version: str) -> tuple[TLSLayer, TLSLayer]:
    settings = ClientTLS(ca_data=pem(authority), maximum_version=VERSIONS[version])
    return connected(settings.factory()(HOST), server_factory(context)())


# --- both ends -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ends_have_the_same_bindings(
    authority: trustme.CA, certificate_file: Path, version: str
) -> None:
    certificate = first_certificate(certificate_file.read_bytes())
    assert certificate is not None
    client, server = pair(authority, server_context(certificate_file), version)
    bindings = client.info.channel_bindings
    assert bindings == server.info.channel_bindings
    assert bindings["tls-server-end-point"] == hashlib.sha256(certificate).digest()
    # In TLS 1.3 it means nothing.  RFC 9266 1
    assert ("tls-unique" in bindings) is (version == "TLSv1.2")
    assert len(set(bindings.values())) == len(bindings)
    again, _ = pair(authority, server_context(certificate_file), version)
    unique = {kind for kind in bindings if again.info.channel_bindings[kind] != bindings[kind]}
    assert unique == set(bindings) - {"tls-server-end-point"}


def test_what_is_known_is_found_out_once(authority: trustme.CA, certificate_file: Path) -> None:
    client, server = pair(authority, server_context(certificate_file), "TLSv1.3")
    assert client.info is client.info
    assert server.info is server.info


def test_a_resumed_session_is_not_bound_by_its_finished(
    authority: trustme.CA, certificate_file: Path
) -> None:
    """Two connections could have the same: RFC 7677 4."""
    context = ssl.create_default_context(cadata=pem(authority))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = server_context(certificate_file)
    session: ssl.SSLSession | None = None
    for resumed in (False, True):
        client = MemoryTLSLayer(context, server_side=False, server_hostname=HOST)
        if session is not None:
            client._object.session = session
        connected(client, layer := server_factory(server)())
        session = client._object.session
        assert client._object.session_reused is resumed
        for side in (client, layer):
            assert ("tls-unique" in side.info.channel_bindings) is not resumed
            assert "tls-server-end-point" in side.info.channel_bindings


class Exporting(ssl.SSLObject):
    """An object of an interpreter that has "tls-exporter"."""

    def __init__(self, version: str) -> None:
        self._version = version

    def version(self) -> str:
        return self._version

    @property
    def session_reused(self) -> bool:
        return False

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes:
        return cb_type.encode()


@pytest.mark.parametrize(
    ("version", "kind"), [("TLSv1.2", "tls-unique"), ("TLSv1.3", "tls-exporter")]
)
def test_what_the_interpreter_can_do_is_used(
    monkeypatch: pytest.MonkeyPatch, version: str, kind: str
) -> None:
    monkeypatch.setattr(ssl, "CHANNEL_BINDING_TYPES", ["tls-unique", "tls-exporter"])
    tls = Exporting(version)
    assert channel_bindings(tls, None) == {kind: kind.encode()}
    monkeypatch.setattr(ssl, "CHANNEL_BINDING_TYPES", [])
    assert channel_bindings(tls, None) == {}


# --- the server's own certificate ------------------------------------------------------------


def test_a_server_knows_the_certificate_that_it_was_given_last(
    authority: trustme.CA, certificate_file: Path, tmp_path: Path
) -> None:
    context = server_context(certificate_file)
    renewed = authority.issue_cert(HOST)
    renewed.private_key_and_cert_chain_pem.write_to_path(tmp_path / "new.pem")
    context.load_cert_chain(tmp_path / "new.pem")
    client, server = pair(authority, context, "TLSv1.3")
    assert client.info.peer_certificate == der(renewed)
    assert client.info.channel_bindings == server.info.channel_bindings


def test_a_server_with_two_kinds_of_certificate_says_nothing_of_either(
    authority: trustme.CA, certificate_file: Path, tmp_path: Path
) -> None:
    context = server_context(certificate_file)
    other = authority.issue_cert(HOST, key_type=trustme.KeyType.RSA)
    other.private_key_and_cert_chain_pem.write_to_path(tmp_path / "rsa.pem")
    context.load_cert_chain(tmp_path / "rsa.pem")
    client, server = pair(authority, context, "TLSv1.3")
    assert "tls-server-end-point" in client.info.channel_bindings
    assert "tls-server-end-point" not in server.info.channel_bindings


def test_a_server_whose_callback_chose_another_context_knows_that_ones_certificate(
    authority: trustme.CA, certificate_file: Path, tmp_path: Path
) -> None:
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(tmp_path / "b.pem")
    first, second = server_context(certificate_file), server_context(tmp_path / "b.pem")

    def choose(chosen: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        chosen.context = second

    first.sni_callback = choose
    client, server = pair(authority, first, "TLSv1.3")
    assert client.info.channel_bindings == server.info.channel_bindings
    assert client.info.peer_certificate == first_certificate((tmp_path / "b.pem").read_bytes())


def test_a_servers_context_that_was_made_elsewhere_has_no_end_point(
    client_tls: ClientTLS, server_certificate: trustme.LeafCert
) -> None:
    client, server = connected(client_tls.factory()(HOST), serving(server_certificate))
    assert "tls-server-end-point" in client.info.channel_bindings
    assert server.info.channel_bindings == {}


@pytest.mark.parametrize(
    "text",
    [b"", b"nothing", b"-----BEGIN CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE-----"],
)
def test_what_is_no_plain_certificate_is_not_taken_for_one(text: bytes) -> None:
    assert first_certificate(text) is None


def test_the_first_certificate_is_the_servers_own(certificate_file: Path) -> None:
    whole = certificate_file.read_bytes()
    own = first_certificate(whole)
    assert own is not None
    assert first_certificate(whole + pem(trustme.CA()).encode()) == own
    assert first_certificate(whole.replace(b"\n", b"\r\n")) == own
    body = base64.b64encode(own)
    other = b"-----BEGIN TRUSTED CERTIFICATE-----\n" + body + b"\n-----END TRUSTED CERTIFICATE-----"
    assert first_certificate(other + b"\n" + whole) is None


# --- the hash of a certificate's signature ---------------------------------------------------

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
HASHES: list[hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = [
    hashes.SHA224(),
    hashes.SHA256(),
    hashes.SHA384(),
    hashes.SHA512(),
]
PSS = [padding.PSS(padding.MGF1(each), each.digest_size) for each in HASHES]


def signed(
    key: rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey,
    algorithm: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None,
    pss: padding.PSS | None = None,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        not_valid_after=dt.datetime(2090, 1, 1, tzinfo=dt.UTC),
    )
    return builder.sign(key, algorithm, rsa_padding=pss)


@pytest.mark.parametrize(
    "certificate",
    [
        *(signed(RSA, each) for each in HASHES),
        *(signed(EC, each) for each in HASHES),
        *(signed(RSA, each, pss) for each, pss in zip(HASHES, PSS, strict=True)),
        signed(ed25519.Ed25519PrivateKey.generate(), None),
        signed(ed448.Ed448PrivateKey.generate(), None),
    ],
    ids=lambda certificate: certificate.signature_algorithm_oid._name,
)
def test_the_hash_is_that_of_the_signature(certificate: x509.Certificate) -> None:
    octets = certificate.public_bytes(Encoding.DER)
    algorithm = certificate.signature_hash_algorithm
    assert signature_hash(octets) == (algorithm and algorithm.name)
    assert server_end_point(octets) == (algorithm and certificate.fingerprint(algorithm))


def element(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    assert len(body) < 0x80
    return bytes([tag, len(body)]) + body


def sequence(*contents: bytes) -> bytes:
    return element(0x30, *contents)


def identifier(hexadecimal: str, *parameters: bytes) -> bytes:
    return sequence(element(0x06, bytes.fromhex(hexadecimal)), *parameters)


NULL = element(0x05)
MD5_RSA, SHA1_RSA = "2a864886f70d010104", "2a864886f70d010105"
SHA1_ECDSA, SHA1_DSA = "2a8648ce3d0401", "2a8648ce380403"
SHA1, SHA256, SHA512 = "2b0e03021a", "608648016503040201", "608648016503040203"
RSA_PSS, MGF1, ED25519 = "2a864886f70d01010a", "2a864886f70d010108", "2b6570"


def pss(message: str | None = None, mask: str | None = None) -> bytes:
    first = b"" if message is None else element(0xA0, identifier(message, NULL))
    second = b"" if mask is None else element(0xA1, identifier(MGF1, identifier(mask, NULL)))
    return identifier(RSA_PSS, sequence(first, second, element(0xA2, element(0x02, b"\x20"))))


@pytest.mark.parametrize(
    ("algorithm", "name", "used"),
    [
        (identifier(MD5_RSA, NULL), "md5", "sha256"),
        (identifier(SHA1_RSA, NULL), "sha1", "sha256"),
        (identifier(SHA1_ECDSA), "sha1", "sha256"),
        (identifier(SHA1_DSA), "sha1", "sha256"),
        (pss(), "sha1", "sha256"),
        (identifier(RSA_PSS, sequence()), "sha1", "sha256"),
        (pss(SHA1, SHA1), "sha1", "sha256"),
        (pss(SHA512, SHA512), "sha512", "sha512"),
        (pss(SHA512, SHA256), None, None),
        (pss(SHA256), None, None),
        (pss(None, SHA256), None, None),
        (pss(ED25519, ED25519), None, None),
        (identifier(RSA_PSS), None, None),
        (identifier(ED25519), None, None),
        (identifier("2a0304"), None, None),
        (sequence(), None, None),
    ],
)
def test_old_hashes_become_sha_256_and_two_hashes_none(
    algorithm: bytes, name: str | None, used: str | None
) -> None:
    certificate = sequence(sequence(), algorithm, element(0x03, b"\x00signature"))
    assert signature_hash(certificate) == name
    expected = None if used is None else hashlib.new(used, certificate).digest()
    assert server_end_point(certificate) == expected


@given(octets=st.binary(max_size=200) | st.builds(sequence, st.binary(max_size=100)))
def test_any_octets_are_read_without_harm(octets: bytes) -> None:
    assert signature_hash(octets) in {None, "md5", "sha1", "sha224", "sha256", "sha384", "sha512"}
    assert (key_kind(octets) or b"") in octets


def test_a_certificate_that_is_cut_has_no_hash(server_certificate: trustme.LeafCert) -> None:
    whole = der(server_certificate)
    assert signature_hash(whole)
    assert key_kind(whole)
    for length in range(len(whole)):
        assert signature_hash(whole[:length]) is None
        assert key_kind(whole[:length]) is None


def test_keys_of_one_kind_have_one_name() -> None:
    kinds = [
        key_kind(signed(key, algorithm).public_bytes(Encoding.DER))
        for key, algorithm in (
            (RSA, HASHES[1]),
            (rsa.generate_private_key(65537, 2048), HASHES[2]),
            (EC, HASHES[1]),
            (ec.generate_private_key(ec.SECP384R1()), HASHES[2]),
            (ed25519.Ed25519PrivateKey.generate(), None),
        )
    ]
    assert kinds[0] == kinds[1]
    assert kinds[2] == kinds[3]
    assert len(set(kinds)) == 3


# --- the chain, by whichever interface -------------------------------------------------------


class Certificate:
    """As CPython's private ones."""

    def public_bytes(self, encoding: int, /) -> bytes:
        assert encoding == 2
        return b"DER"


class Private:
    def __init__(self, chain: list[Certificate] | None) -> None:
        self.chain = chain

    def get_unverified_chain(self) -> list[Certificate] | None:
        return self.chain


class Object(ssl.SSLObject):
    """As before Python 3.13."""

    def __init__(self, private: object) -> None:
        self._sslobj = private

    get_unverified_chain = None


class Public(Object):
    """As from Python 3.13 on."""

    def get_unverified_chain(self) -> list[bytes]:  # type: ignore[override]
        return [b"one", b"two"]


@pytest.mark.parametrize(
    ("tls", "chain"),
    [
        (Public(None), (b"one", b"two")),
        (Object(Private([Certificate(), Certificate()])), (b"DER", b"DER")),
        (Object(Private(None)), ()),
        (Object(None), ()),
    ],
)
def test_the_chain_is_read_where_the_interpreter_tells_it(
    tls: ssl.SSLObject, chain: tuple[bytes, ...]
) -> None:
    assert shown_chain(tls) == chain
