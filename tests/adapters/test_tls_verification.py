"""Whom a client believes: the chain and the name, fingerprints, and the user's own check.

Knows certificates of each kind, good and bad. The oracle is OpenSSL: what it says of a chain in a
handshake must be what `check_certificate` is told. Must not know any world.
"""

import contextlib
import datetime as dt
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from smtp_adapters.tls import CertificateCheck, ClientTLS, MemoryTLSLayer, server_factory
from smtp_adapters.tls.explain import certificate_problem
from smtp_adapters.tls.verification import trusted
from smtp_proto.flow import CertificateError, TLSError, TLSLayer
from tests.adapters.handshakes import (
    HOST,
    connected,
    der,
    first_flight,
    pem,
    refusal,
    serving,
    shake_hands,
)

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
FUTURE = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)
OTHER = trustme.CA()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
NAMES = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}


@pytest.fixture(params=VERSIONS, ids=list(NAMES.values()))
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    chosen: ssl.TLSVersion = request.param
    return chosen


@pytest.fixture(params=trustme.KeyType, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> trustme.KeyType:
    chosen: trustme.KeyType = request.param
    return chosen


@dataclass(frozen=True)
class Case:
    """What a server shows, to a client that wants this host, and why it is refused."""

    words: str
    issue: Callable[[trustme.CA], trustme.LeafCert]
    host: str = HOST


def without_intermediate(authority: trustme.CA) -> trustme.LeafCert:
    certificate = authority.create_child_ca().issue_cert(HOST)
    own = certificate.cert_chain_pems[0].bytes()
    return trustme.LeafCert(certificate.private_key_pem.bytes(), own, [])


CASES = {
    "good": Case("", lambda ca: ca.issue_cert(HOST)),
    "good, with an intermediate": Case("", lambda ca: ca.create_child_ca().issue_cert(HOST)),
    "good address": Case("", lambda ca: ca.issue_cert("192.0.2.1"), "192.0.2.1"),
    "good address of IPv6": Case("", lambda ca: ca.issue_cert("2001:db8::1"), "[2001:DB8::1]"),
    "good name in Unicode": Case("", lambda ca: ca.issue_cert("bücher.example"), "bücher.example."),
    "wildcard": Case("", lambda ca: ca.issue_cert("*.example.org")),
    "wrong name": Case("for another name", lambda ca: ca.issue_cert("other.example")),
    "wildcard too short": Case("for another name", lambda ca: ca.issue_cert("*.org")),
    "name for an address": Case(
        "does not have this address", lambda ca: ca.issue_cert(HOST), "192.0.2.1"
    ),
    "address for a name": Case("for another name", lambda ca: ca.issue_cert("192.0.2.1")),
    "name as common name only": Case(
        "for another name", lambda ca: ca.issue_cert("192.0.2.1", common_name=HOST)
    ),
    "expired": Case("has expired", lambda ca: ca.issue_cert(HOST, not_after=PAST)),
    "not yet": Case(
        "not valid yet", lambda ca: ca.issue_cert(HOST, not_before=FUTURE, not_after=FUTURE)
    ),
    "unknown authority": Case("its issuer is not known", lambda _: OTHER.issue_cert(HOST)),
    "no intermediate": Case("its issuer is not known", without_intermediate),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


class Witness:
    """A check that remembers what it was told, and gives one answer."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.told: list[CertificateCheck] = []

    def __call__(self, check: CertificateCheck) -> bool:
        self.told.append(check)
        return self.answer


# --- verified by default ---------------------------------------------------------------------


def test_certificates_and_names_are_verified(
    case: Case, kind: trustme.KeyType, version: ssl.TLSVersion
) -> None:
    authority = trustme.CA(key_type=kind)
    server = serving(case.issue(authority), maximum_version=version)
    client = ClientTLS(ca_data=pem(authority)).factory()(case.host)
    if not case.words:
        shake_hands(client, server)
        assert client.info.version == NAMES[version]
        assert (client.info.verified, client.info.not_verified_because) == (True, "")
        return
    message = refusal(client, server, CertificateError)
    assert message.startswith("the server's certificate is refused for ")
    assert case.words in message
    # The other side is told, and nothing else has left.
    with pytest.raises(TLSError, match="does not accept the certificate of this side"):
        server.handshake()


@pytest.mark.parametrize(
    ("host", "names", "listed"),
    [
        (HOST, ["a.example"], "connect to a name that it has (a.example), or set server_hostname"),
        ("192.0.2.1", ["*.example"], "connect by a name that it has (*.example), or set"),
        (HOST, [f"{each}.example" for each in "abcde"], "d.example, e.example), or"),
        (HOST, [f"{each}.example" for each in "abcdefg"], "d.example, e.example and 2 more), or"),
    ],
)
def test_the_names_that_a_certificate_has_are_told(
    authority: trustme.CA, host: str, names: list[str], listed: str
) -> None:
    client = ClientTLS(ca_data=pem(authority)).factory()(host)
    assert listed in refusal(client, serving(authority.issue_cert(*names)), CertificateError)


def test_a_name_in_a_certificate_is_escaped_and_cut(authority: trustme.CA) -> None:
    mark = "m" * 60 + "." + "m" * 60
    certificate = authority.issue_cert("x" * 32 + ".example", mark)
    hostile = der(certificate).replace(b"x" * 32, b"\x1b[2J\r\n" + b"x" * 26)
    check = CertificateCheck(HOST, (hostile,), "", "", "")
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 62, ""
    listed = certificate_problem(error, check.chain)
    assert r"\x1b[2J\r\nxxx" in listed
    assert mark not in listed
    assert listed.isprintable()
    assert "()" not in certificate_problem(error, ())


def test_check_certificate_is_told_what_openssl_would_have_said(
    case: Case, kind: trustme.KeyType, version: ssl.TLSVersion
) -> None:
    authority = trustme.CA(key_type=kind)
    certificate = case.issue(authority)
    witness = Witness()
    settings = ClientTLS(ca_data=pem(authority), check_certificate=witness, maximum_version=version)
    client, _ = connected(settings.factory()(case.host), serving(certificate))
    (told,) = witness.told
    expected = ""
    if case.words:
        plain = ClientTLS(ca_data=pem(authority)).factory()(case.host)
        expected = refusal(plain, serving(certificate), CertificateError).partition(": ")[2]
    assert told.error == expected
    assert case.words in told.error
    assert told == CertificateCheck(
        host=told.host,
        chain=tuple(der(certificate, each) for each in range(len(certificate.cert_chain_pems))),
        error=expected,
        version=NAMES[version],
        cipher=client.info.cipher,
    )
    assert client.info.peer_certificate_chain == told.chain
    assert client.info.verified is not bool(case.words)
    assert client.info.not_verified_because.endswith(expected)
    assert bool(client.info.not_verified_because) is bool(expected)


def test_a_self_signed_certificate_is_refused_accepted_or_pinned(
    authority: trustme.CA, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    # An authority's own certificate is signed by itself.
    itself = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = tmp_path / "self.pem"
    path.write_bytes(itself.private_key_pem.bytes() + itself.cert_pem.bytes())
    context.load_cert_chain(path)
    context.maximum_version = version
    server = server_factory(context)
    settings = ClientTLS(ca_data=pem(authority))
    message = refusal(settings.factory()(HOST), server(), CertificateError)
    assert "it is self-signed" in message
    witness = Witness()
    client, _ = connected(replace(settings, check_certificate=witness).factory()(HOST), server())
    assert "it is self-signed" in witness.told[0].error
    assert not client.info.verified
    pins = ClientTLS(fingerprints=[witness.told[0].fingerprint])
    client, _ = connected(pins.factory()("whatever.example"), server())
    assert client.info.verified


def test_the_verdict_knows_its_lists_security_level(
    authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    """Level 3 wants 128 bits: the key is too weak for it, with either verification."""
    certificate = authority.issue_cert(HOST, key_type=trustme.KeyType.RSA)
    witness = Witness(answer=False)
    settings = ClientTLS(
        ca_data=pem(authority),
        ciphers="ECDHE+AES256:@SECLEVEL=3",
        check_certificate=witness,
        maximum_version=version,
    )
    assert "weak" in refusal(
        replace(settings, check_certificate=None).factory()(HOST),
        serving(certificate),
        CertificateError,
    )
    verdict = trusted(settings._context(verifies=True))
    shown = CertificateCheck(HOST, (der(certificate),), "", "TLSv1.3", "")
    assert "weak" in verdict(shown)


@given(data=st.data())
def test_what_is_no_chain_has_no_good_verdict(
    authority: trustme.CA, server_certificate: trustme.LeafCert, data: st.DataObject
) -> None:
    """Also not one that is cut, or changed anywhere: the verdict is never good by mistake."""
    whole = der(server_certificate)
    verdict = trusted(ClientTLS(ca_data=pem(authority))._context(verifies=True))
    place = data.draw(st.integers(0, len(whole) - 1))
    chain = data.draw(
        st.sampled_from(
            [
                (),
                (b"",),
                (whole[:place],),
                (whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],),
                (b"", whole),
            ]
        )
    )
    good = CertificateCheck(HOST, (whole,), "", "TLSv1.3", "")
    assert not verdict(good)
    assert verdict(replace(good, chain=chain))


def test_a_long_chain_is_judged_too(authority: trustme.CA) -> None:
    """More than a record holds."""
    whole = der(authority.issue_cert(HOST))
    verdict = trusted(ClientTLS(ca_data=pem(authority))._context(verifies=True))
    check = CertificateCheck(HOST, (whole,) * 60, "", "TLSv1.3", "")
    assert len(b"".join(check.chain)) > 2 * 16_384
    assert not verdict(check)
    assert "another name" in verdict(replace(check, host="other.example"))


def test_what_a_check_is_told_cannot_be_changed() -> None:
    check = CertificateCheck(HOST, (), "", "", "")
    assert not check.fingerprint
    with pytest.raises(FrozenInstanceError):
        check.error = "none"  # type: ignore[misc]


# --- before anything leaves ------------------------------------------------------------------


def raising(_: CertificateCheck) -> bool:
    raise LookupError("no such\r\nserver")


def interrupted(_: CertificateCheck) -> bool:
    raise KeyboardInterrupt


NOT_TRUE: dict[str, Callable[[CertificateCheck], object]] = {
    "False": lambda _: False,
    "None": lambda _: None,
    "1": lambda _: 1,
    "text": lambda _: "yes",
    "error": raising,
    "interrupt": interrupted,
}
Settings = Callable[[trustme.CA, Path], ClientTLS]


@pytest.fixture
def shown_by_the_client(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "client.pem"
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.fixture(params=[*NOT_TRUE, "pin"])
def refusing(
    request: pytest.FixtureRequest, authority: trustme.CA, shown_by_the_client: Path
) -> ClientTLS:
    """Settings that refuse any server, and have a certificate to show."""
    settings = ClientTLS(certificate_file=shown_by_the_client)
    if request.param == "pin":
        return replace(settings, fingerprints=("0" * 64,))
    check = NOT_TRUE[request.param]
    return replace(
        settings,
        ca_data=pem(authority),
        check_certificate=check,  # type: ignore[arg-type]
    )


def asking(authority: trustme.CA, version: ssl.TLSVersion) -> TLSLayer:
    """A server that everybody trusts, and that wants to see a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    return MemoryTLSLayer(context, server_side=True)


REFUSED = pytest.mark.parametrize("behind", [b"", b"\x16\x03\x03\x00\x04oops", b"\x15\x03\x03\x00"])


@REFUSED
@pytest.mark.parametrize("size", [1, 11, 100_000])
def test_nothing_leaves_where_the_server_is_refused(
    authority: trustme.CA,
    refusing: ClientTLS,
    version: ssl.TLSVersion,
    behind: bytes,
    size: int,
) -> None:
    """However the server's octets are cut, and whatever stands behind them."""
    client = refusing.factory()(HOST)
    flight = first_flight(client, asking(authority, version)) + behind
    left = b""
    error: BaseException | None = None
    for start in range(0, len(flight), size):
        client.receive_data(flight[start : start + size])
        try:
            assert not client.handshake()
        except (TLSError, KeyboardInterrupt) as caught:
            error = caught
            break
        finally:
            left += client.data_to_send()
        with pytest.raises(TLSError):
            client.receive_eof()
    assert left == b""
    assert error is not None
    if not behind:
        interrupt = refusing.check_certificate is interrupted
        assert type(error) is (KeyboardInterrupt if interrupt else CertificateError)
    # Who goes on all the same gets no further.
    with pytest.raises(TLSError, match="handshake is not done"):
        client.encrypt(b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n")
    with contextlib.suppress(TLSError, KeyboardInterrupt):
        assert not client.handshake()
    assert client.receive_data(b"") == client.data_to_send() == client.close() == b""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("False", "check_certificate did not return True"),
        ("1", "check_certificate did not return True"),
        ("error", r"check_certificate raised LookupError: no such\r\nserver"),
    ],
)
@pytest.mark.parametrize("good", [True, False])
def test_a_check_that_refuses_says_so(
    authority: trustme.CA, answer: str, words: str, good: bool
) -> None:
    settings = ClientTLS(
        ca_data=pem(authority),
        check_certificate=NOT_TRUE[answer],  # type: ignore[arg-type]
    )
    server = serving(authority.issue_cert(HOST if good else "other.example"))
    message = refusal(settings.factory()(HOST), server, CertificateError)
    assert message.startswith(f"the server's certificate is refused for {HOST}: {words}")
    if answer != "error":
        assert message.endswith("True") is good


@given(cut=st.lists(st.integers(1, 400), min_size=1))
@pytest.mark.parametrize("version", VERSIONS, ids=list(NAMES.values()))
def test_any_cutting_of_a_good_handshake_asks_once(
    authority: trustme.CA,
    server_certificate: trustme.LeafCert,
    version: ssl.TLSVersion,
    cut: list[int],
) -> None:
    witness = Witness()
    settings = ClientTLS(ca_data=pem(authority), check_certificate=witness, maximum_version=version)
    client, server = settings.factory()(HOST), serving(server_certificate)
    done = {client: False, server: False}
    sizes = iter(cut * 4_000)
    for _ in range(4):
        for layer, other in ((client, server), (server, client)):
            done[layer] = done[layer] or layer.handshake()
            octets = layer.data_to_send()
            while octets:
                size = next(sizes)
                other.receive_data(octets[:size])
                octets = octets[size:]
                if not done[other]:
                    done[other] = other.handshake()
    assert done == {client: True, server: True}
    assert len(witness.told) == 1
    assert client.info.verified
    assert server.receive_data(client.encrypt(b"NOOP\r\n")) == b"NOOP\r\n"


# --- fingerprints ----------------------------------------------------------------------------


@pytest.mark.parametrize("write", [str.upper, str.lower])
@pytest.mark.parametrize("colons", [True, False])
def test_a_fingerprint_is_one_however_it_is_written(
    server_certificate: trustme.LeafCert,
    version: ssl.TLSVersion,
    write: Callable[[str], str],
    colons: bool,
) -> None:
    digest = hashlib.sha256(der(server_certificate)).digest()
    pin = write(digest.hex(":") if colons else digest.hex())
    settings = ClientTLS(fingerprints=("0" * 64, pin), maximum_version=version)
    client, _ = connected(settings.factory()("another.example"), serving(server_certificate))
    assert (client.info.verified, client.info.not_verified_because) == (True, "")
    assert client.info.peer_certificate == der(server_certificate)
    assert settings == ClientTLS(fingerprints=["0" * 64, digest.hex()], maximum_version=version)


def test_only_the_servers_own_certificate_counts_for_a_fingerprint(
    authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    certificate = authority.create_child_ca().issue_cert(HOST)
    pin = hashlib.sha256(der(certificate, 1)).hexdigest()
    settings = ClientTLS(fingerprints=(pin,))
    message = refusal(
        settings.factory()(HOST), serving(certificate, maximum_version=version), CertificateError
    )
    assert message.endswith(hashlib.sha256(der(certificate)).hexdigest())


def test_a_fingerprint_that_fits_is_put_before_the_check(
    server_certificate: trustme.LeafCert,
) -> None:
    witness = Witness()
    settings = ClientTLS(check_certificate=witness, fingerprints=("0" * 64,))
    refusal(settings.factory()(HOST), serving(server_certificate), CertificateError)
    assert not witness.told
    other = OTHER.issue_cert("other.example")
    refusal(settings.factory()(HOST), serving(other), CertificateError)
    pin = hashlib.sha256(der(other)).hexdigest()
    client, _ = connected(replace(settings, fingerprints=(pin,)).factory()(HOST), serving(other))
    assert [told.error for told in witness.told] == [""]
    assert client.info.verified
    witness.answer = False
    refusal(
        replace(settings, fingerprints=(pin,)).factory()(HOST), serving(other), CertificateError
    )


def test_fingerprints_go_with_a_context_of_ones_own(
    authority: trustme.CA, server_certificate: trustme.LeafCert
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    pin = hashlib.sha256(der(server_certificate)).hexdigest()
    settings = ClientTLS(context=context, fingerprints=(pin,))
    client, _ = connected(settings.factory()(HOST), serving(server_certificate))
    assert client.info.verified
    refusal(settings.factory()("other.example"), serving(server_certificate), CertificateError)
    settings = ClientTLS(context=context, fingerprints=("0" * 64,))
    refusal(settings.factory()(HOST), serving(server_certificate), CertificateError)


def test_a_server_without_a_certificate_has_no_fingerprint() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.set_ciphers("aNULL:@SECLEVEL=0")

    def settings(*pins: str) -> TLSLayer:
        return ClientTLS(context=context, fingerprints=pins).factory()(HOST)

    client, _ = connected(settings(), MemoryTLSLayer(server, server_side=True))
    assert not client.info.verified
    refusal(settings("0" * 64), MemoryTLSLayer(server, server_side=True), CertificateError)
