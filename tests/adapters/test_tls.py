"""The layer in memory: octets through it, its end, and what its errors say to people.

Knows two layers back to back. Must not know any world.
"""

import ssl
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from smtp_adapters.tls import (
    ClientTLS,
    MemoryTLSLayer,
    server_context,
    server_factory,
    server_name,
)
from smtp_proto.flow import CertificateError, ClientTLSFactory, TLSError, TLSLayer
from smtp_proto.wire import WireError
from tests.adapters.handshakes import HOST, connected, refusal, serving


@pytest.fixture
def factory(client_tls: ClientTLS) -> ClientTLSFactory:
    return client_tls.factory()


@pytest.fixture
def server(server_tls: ssl.SSLContext) -> TLSLayer:
    return server_factory(server_tls)()


@pytest.fixture
def pair(factory: ClientTLSFactory, server: TLSLayer) -> tuple[TLSLayer, TLSLayer]:
    return connected(factory(HOST), server)


# --- octets ----------------------------------------------------------------------------------


def test_octets_come_through_both_ways(pair: tuple[TLSLayer, TLSLayer]) -> None:
    client, server = pair
    assert server.receive_data(client.encrypt(b"EHLO client.example\r\n")) == (
        b"EHLO client.example\r\n"
    )
    assert client.receive_data(server.encrypt(memoryview(b"250 ok\r\n"))) == b"250 ok\r\n"
    assert client.encrypt(b"") == b""


@given(pieces=st.lists(st.binary(max_size=40_000), max_size=5), cut=st.integers(1, 9_000))
def test_any_cutting_of_the_cipher_text_gives_the_same_clear_text(
    server_tls: ssl.SSLContext, client_tls: ClientTLS, pieces: list[bytes], cut: int
) -> None:
    client, server = connected(client_tls.factory()(HOST), server_factory(server_tls)())
    cipher_text = b"".join(client.encrypt(bytearray(piece)) for piece in pieces)
    clear_text = b"".join(
        server.receive_data(memoryview(cipher_text)[start : start + cut])
        for start in range(0, len(cipher_text), cut)
    )
    assert clear_text == b"".join(pieces)


def test_clear_text_behind_the_last_flight_is_not_lost(
    factory: ClientTLSFactory, server: TLSLayer
) -> None:
    client = factory(HOST)
    client.handshake()
    server.receive_data(client.data_to_send())
    server.handshake()
    client.receive_data(server.data_to_send())
    assert client.handshake()
    # The client's last flight and its first words travel together, as do the server's answers.
    server.receive_data(client.data_to_send() + client.encrypt(b"EHLO"))
    assert server.handshake()
    assert server.receive_data(b"") == b"EHLO"


def test_nothing_is_readable_before_the_handshake_is_done(factory: ClientTLSFactory) -> None:
    client = factory(HOST)
    assert not client.handshake()
    assert client.data_to_send()
    assert client.data_to_send() == b""
    assert client.receive_data(b"") == b""


# --- the end ---------------------------------------------------------------------------------


def test_close_notify_is_an_end_in_order(pair: tuple[TLSLayer, TLSLayer]) -> None:
    client, server = pair
    last = server.encrypt(b"221 bye\r\n") + server.close()
    assert client.receive_data(last[:-1]) == b"221 bye\r\n"
    before = client.closed
    assert client.receive_data(last[-1:]) == b""
    assert (before, client.closed) == (False, True)
    client.receive_eof()
    assert client.receive_data(b"\x00 what follows is ignored") == b""
    server.receive_data(client.close())
    assert server.closed


def test_an_end_without_close_notify_is_an_error(pair: tuple[TLSLayer, TLSLayer]) -> None:
    client, server = pair
    client.receive_data(server.encrypt(b"250 cu"))
    with pytest.raises(TLSError, match=r"the server closed .* may have been cut off"):
        client.receive_eof()
    with pytest.raises(TLSError, match="the client closed"):
        server.receive_eof()


def test_an_end_within_the_handshake_is_an_error(factory: ClientTLSFactory) -> None:
    client = factory(HOST)
    client.handshake()
    with pytest.raises(TLSError, match="in the TLS handshake"):
        client.receive_eof()


def test_nothing_can_be_sent_behind_our_own_close_notify(pair: tuple[TLSLayer, TLSLayer]) -> None:
    client, _ = pair
    assert client.close()
    with pytest.raises(TLSError, match="TLS cannot send"):
        client.encrypt(b"NOOP\r\n")


def test_close_never_raises(factory: ClientTLSFactory, pair: tuple[TLSLayer, TLSLayer]) -> None:
    untouched = factory(HOST)
    untouched.close()
    begun = factory(HOST)
    begun.handshake()
    begun.close()
    broken, _ = pair
    with pytest.raises(TLSError):
        broken.receive_data(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    broken.close()
    broken.close()


def test_a_record_that_was_changed_is_an_error(pair: tuple[TLSLayer, TLSLayer]) -> None:
    client, server = pair
    record = bytearray(client.encrypt(b"MAIL FROM:<a@example.org>\r\n"))
    record[-1] ^= 1
    with pytest.raises(TLSError, match="TLS broke"):
        server.receive_data(record)


# --- what is known ---------------------------------------------------------------------------


def test_info_says_what_was_agreed(
    pair: tuple[TLSLayer, TLSLayer], server_certificate: trustme.LeafCert
) -> None:
    client, server = pair
    info = client.info
    assert (info.version, info.server_hostname, info.verified) == ("TLSv1.3", HOST, True)
    assert info.cipher.startswith("TLS_")
    pem = server_certificate.cert_chain_pems[0].bytes().decode()
    assert info.peer_certificate == ssl.PEM_cert_to_DER_cert(pem)
    assert (server.info.server_hostname, server.info.verified) == (None, False)
    assert server.info.peer_certificate is None


# --- errors for people -----------------------------------------------------------------------


@pytest.mark.parametrize("older", ["client", "server"])
def test_versions_without_overlap_say_so(
    authority: trustme.CA, server_certificate: trustme.LeafCert, older: str
) -> None:
    limits = {"client": "minimum_version", "server": "minimum_version", older: "maximum_version"}
    versions = {
        "minimum_version": ssl.TLSVersion.TLSv1_3,
        "maximum_version": ssl.TLSVersion.TLSv1_2,
    }
    context = ssl.create_default_context()
    authority.configure_trust(context)
    setattr(context, limits["client"], versions[limits["client"]])
    server = serving(server_certificate, **{limits["server"]: versions[limits["server"]]})
    client = ClientTLS(context=context).factory()(HOST)
    assert "no version of TLS that both sides allow" in refusal(client, server)
    # The other side, which gets the alert, says the same.
    with pytest.raises(TLSError, match="no version of TLS that both sides allow"):
        client.handshake()


def test_no_common_cipher_says_so(
    factory: ClientTLSFactory, server_certificate: trustme.LeafCert
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_certificate.configure_cert(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK")
    server = MemoryTLSLayer(context, server_side=True)
    assert "no cipher that both sides allow" in refusal(factory(HOST), server)


def test_a_missing_client_certificate_says_so(
    factory: ClientTLSFactory, server_certificate: trustme.LeafCert
) -> None:
    server = serving(server_certificate, verify_mode=ssl.CERT_REQUIRED)
    assert "the client has to show a certificate" in refusal(factory(HOST), server)


def test_a_refused_certificate_is_told_to_the_server(
    factory: ClientTLSFactory, authority: trustme.CA
) -> None:
    client, server = factory(HOST), serving(authority.issue_cert("other.example"))
    refusal(client, server, CertificateError)
    with pytest.raises(TLSError, match="does not accept the certificate of this side"):
        server.handshake()


def test_a_server_that_speaks_clear_text_is_told_apart(factory: ClientTLSFactory) -> None:
    client = factory(HOST)
    client.handshake()
    with pytest.raises(TLSError, match=r"\(220 mx \\x1b\[2J ESMTP\).* Security.STARTTLS"):
        client.receive_data(b"220 mx \x1b[2J ESMTP\r\n")


def test_a_client_that_speaks_clear_text_is_told_apart_and_not_quoted(server: TLSLayer) -> None:
    with pytest.raises(TLSError, match="the client speaks clear text") as caught:
        server.receive_data(b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n")
    assert "AUTH" not in str(caught.value)


def test_rubbish_is_an_error_with_the_reason_that_openssl_gives(factory: ClientTLSFactory) -> None:
    client = factory(HOST)
    client.handshake()
    client.receive_data(b"\x16\x03\x03\x00\x04abcd")
    with pytest.raises(TLSError, match="the TLS handshake failed: "):
        client.handshake()


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx.example.org", "mx.example.org"),
        ("mx.example.org.", "mx.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("my_service", "my_service"),
        ("192.0.2.1", "192.0.2.1"),
        ("[192.0.2.1]", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[IPv6:2001:DB8::1]", "2001:db8::1"),
    ],
)
def test_server_name(host: str, name: str) -> None:
    assert server_name(host) == name


@pytest.mark.parametrize("host", ["", ".", "a..b", "a b", "a\r\nb", "x" * 64, "faß.example"])
def test_what_is_no_host_has_no_server_name(host: str) -> None:
    with pytest.raises(WireError):
        server_name(host)


def test_server_context_takes_both_in_one_file_or_in_two(
    client_tls: ClientTLS,
    certificate_file: Path,
    server_certificate: trustme.LeafCert,
    tmp_path: Path,
) -> None:
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    server_certificate.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(pem.bytes() for pem in server_certificate.cert_chain_pems))
    for context in (server_context(certificate_file), server_context(chain, key)):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        connected(client_tls.factory()(HOST), server_factory(context)())
