"""The settings of TLS: what is wrong with them is said when they are made, and which one it is.

Knows files, good and bad, and OpenSSL's cipher lists. Must not know any world.
"""

import errno
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from smtp_adapters.tls import ClientTLS, server_context, server_factory
from smtp_proto.flow import CertificateError
from smtp_proto.wire import WireError
from tests.adapters.handshakes import (
    HOST,
    connected,
    der,
    pem,
    refusal,
    serving,
    shake_hands,
)

SECRET = "open sesame"
BROKEN_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
BROKEN_KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def files(authority: trustme.CA, server_certificate: trustme.LeafCert, tmp_path: Path) -> Path:
    """A directory with certificates and keys, good and bad."""
    own = server_certificate
    key = load_pem_private_key(own.private_key_pem.bytes(), None)
    contents = {
        "ca.pem": pem(authority).encode(),
        "chain.pem": b"".join(each.bytes() for each in own.cert_chain_pems),
        "key.pem": own.private_key_pem.bytes(),
        "both.pem": own.private_key_and_cert_chain_pem.bytes(),
        "other key.pem": authority.issue_cert(HOST).private_key_pem.bytes(),
        "empty.pem": b"nothing",
        "broken.pem": BROKEN_CERTIFICATE.encode(),
        "broken key.pem": BROKEN_KEY.encode(),
        "encrypted.pem": key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode())
        ),
        "old encrypted.pem": key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(SECRET.encode())
        ),
    }
    for name, octets in contents.items():
        (tmp_path / name).write_bytes(octets)
    (tmp_path / "unhashed").mkdir()
    (tmp_path / "unhashed" / "ca.pem").write_bytes(contents["ca.pem"])
    return tmp_path


def in_files(files: Path, settings: dict[str, object]) -> dict[str, object]:
    """Settings whose names of files stand in this directory."""
    return {
        name: files / value if isinstance(value, str) and name.endswith(("file", "ory")) else value
        for name, value in settings.items()
    }


def making(**settings: object) -> None:
    """Make a client's or a server's context from settings of any kind."""
    maker: Callable[..., object] = server_context if settings.pop("server", False) else ClientTLS
    made = maker(**settings)
    if isinstance(made, ClientTLS):
        made.factory()


# --- trust -----------------------------------------------------------------------------------


def test_each_way_to_give_an_authority_is_trusted_and_nothing_else(
    authority: trustme.CA, server_certificate: trustme.LeafCert, files: Path
) -> None:
    hashed = files / "hashed"
    hashed.mkdir()
    (hashed / "ca.pem").write_text(pem(authority))
    subprocess.run(["openssl", "rehash", hashed], check=True)
    ways = [
        ClientTLS(ca_file=files / "ca.pem"),
        ClientTLS(ca_file=str(files / "ca.pem")),
        ClientTLS(ca_directory=hashed),
        ClientTLS(ca_data=pem(authority)),
        ClientTLS(ca_data=f"# für uns\n{pem(authority)}".encode()),
        ClientTLS(ca_data=ssl.PEM_cert_to_DER_cert(pem(authority))),
        ClientTLS(ca_data=pem(trustme.CA()), ca_file=files / "ca.pem"),
    ]
    stranger = trustme.CA().issue_cert(HOST)
    for settings in ways:
        client, _ = connected(settings.factory()(HOST), serving(server_certificate))
        assert client.info.verified
        refusal(settings.factory()(HOST), serving(stranger), CertificateError)


def test_the_systems_authorities_are_trusted_by_default_only(
    files: Path, server_certificate: trustme.LeafCert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files / "ca.pem"))
    client, _ = connected(ClientTLS().factory()(HOST), serving(server_certificate))
    assert client.info.verified
    other = ClientTLS(ca_data=pem(trustme.CA()))
    refusal(other.factory()(HOST), serving(server_certificate), CertificateError)


def test_a_context_is_made_like_the_ssl_modules_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    model = ssl.create_default_context()
    server_model = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    client = ClientTLS()._context(verifies=True)
    server = server_context(files / "both.pem")
    for context, default in ((client, model), (server, server_model)):
        assert context.verify_mode == default.verify_mode
        assert context.check_hostname == default.check_hostname
        assert context.verify_flags == default.verify_flags
        assert context.keylog_filename == default.keylog_filename
        assert context.options == default.options | ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.get_ciphers() == default.get_ciphers()


# --- files that do not hold what they should -------------------------------------------------


BAD_FILES: list[tuple[dict[str, object], str]] = [
    ({"ca_file": "empty.pem"}, "ca_file {}/empty.pem: there is no certificate in it"),
    ({"ca_file": "key.pem"}, "ca_file {}/key.pem: there is no certificate in it"),
    ({"ca_file": "broken.pem"}, "ca_file {}/broken.pem: a certificate in it is damaged"),
    (
        {"ca_directory": "unhashed"},
        "ca_directory {}/unhashed: there is no certificate under a hashed name .* rehash",
    ),
    ({"ca_data": ""}, "ca_data: no certificate"),
    ({"ca_data": b""}, "ca_data: no certificate"),
    ({"ca_data": "nothing"}, "ca_data: no certificate"),
    ({"ca_data": b"nothing"}, "ca_data: no certificate"),
    ({"ca_data": "ä"}, "ca_data: no certificate"),
    ({"ca_data": BROKEN_CERTIFICATE}, "ca_data: no certificate"),
    ({"ca_data": BROKEN_CERTIFICATE.encode()}, "ca_data: no certificate"),
    ({"certificate_file": "key.pem"}, "certificate_file {}/key.pem: .* no certificate in it"),
    (
        {"certificate_file": "chain.pem"},
        "certificate_file {}/chain.pem: there is no private key in it .* as key_file",
    ),
    (
        {"certificate_file": "chain.pem", "key_file": "empty.pem"},
        "key_file {}/empty.pem: there is no private key in it",
    ),
    (
        {"certificate_file": "chain.pem", "key_file": "other key.pem"},
        "key_file {}/other key.pem: its private key is not that of the certificate in {}/chain.pem",
    ),
    (
        {"certificate_file": "chain.pem", "key_file": "broken key.pem"},
        "key_file {}/broken key.pem: a certificate or key is damaged",
    ),
    (
        {"certificate_file": "broken.pem", "key_file": "key.pem"},
        "key_file {}/key.pem: a certificate or key is damaged",
    ),
    (
        {"certificate_file": "chain.pem", "key_file": "encrypted.pem"},
        "key_file {}/encrypted.pem: the private key is encrypted: give its key_password",
    ),
    (
        {"certificate_file": "chain.pem", "key_file": "old encrypted.pem"},
        "key_file {}/old encrypted.pem: the private key is encrypted: give its key_password",
    ),
    (
        {
            "certificate_file": "chain.pem",
            "key_file": "encrypted.pem",
            "key_password": "wrong secret",
        },
        "key_file {}/encrypted.pem: its private key cannot be decrypted: is key_password right",
    ),
]
# A server has certificates of its own in the same way, and one setting for trust.
BAD_FILES_OF_SERVERS: list[tuple[dict[str, object], str]] = [
    *(case for case in BAD_FILES if "certificate_file" in case[0]),
    *(
        (
            {"certificate_file": "both.pem", "client_ca_file": case[0]["ca_file"]},
            f"client_{case[1]}",
        )
        for case in BAD_FILES
        if "ca_file" in case[0]
    ),
]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        *BAD_FILES,
        *(({"server": True, **settings}, words) for settings, words in BAD_FILES_OF_SERVERS),
    ],
)
def test_a_bad_file_is_named_with_its_setting(
    files: Path, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words.replace("{}", re.escape(str(files)))) as caught:
        making(**in_files(files, settings))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "number"), [("none.pem", errno.ENOENT), ("directory", errno.EISDIR)]
)
@pytest.mark.parametrize(
    ("setting", "beside"),
    [
        ("ca_file", {}),
        ("certificate_file", {}),
        ("key_file", {"certificate_file": "chain.pem"}),
        ("certificate_file", {"server": True}),
        ("key_file", {"server": True, "certificate_file": "chain.pem"}),
        ("client_ca_file", {"server": True, "certificate_file": "both.pem"}),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_setting(
    files: Path, path: str, number: int, setting: str, beside: dict[str, object]
) -> None:
    (files / "directory").mkdir()
    with pytest.raises(OSError, match=f"{setting} cannot be read") as caught:
        making(**in_files(files, {setting: path, **beside}))
    assert (caught.value.errno, caught.value.filename) == (number, str(files / path))
    assert str(files / path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "error"), [("none", FileNotFoundError), ("ca.pem", NotADirectoryError)]
)
def test_a_directory_that_cannot_be_read_is_named(
    files: Path, path: str, error: type[OSError]
) -> None:
    with pytest.raises(error, match="ca_directory cannot be read") as caught:
        ClientTLS(ca_directory=files / path).factory()
    assert caught.value.filename == str(files / path)


# --- our own certificate ---------------------------------------------------------------------


@pytest.mark.parametrize("key_file", ["encrypted.pem", "old encrypted.pem"])
@pytest.mark.parametrize("password", [SECRET, SECRET.encode(), lambda: SECRET])
def test_an_encrypted_key_is_opened(
    authority: trustme.CA,
    server_certificate: trustme.LeafCert,
    files: Path,
    key_file: str,
    password: str | bytes | Callable[[], str],
) -> None:
    server = server_context(
        files / "chain.pem",
        files / key_file,
        key_password=password,
        client_ca_file=files / "ca.pem",
        require_client_certificate=True,
    )
    settings = ClientTLS(
        ca_data=pem(authority),
        certificate_file=files / "chain.pem",
        key_file=files / key_file,
        key_password=password,
    )
    _, layer = connected(settings.factory()(HOST), server_factory(server)())
    assert layer.info.peer_certificate == der(server_certificate)
    assert SECRET not in repr(settings)
    assert "password" not in repr(settings)


def test_openssl_never_asks_on_the_terminal(files: Path) -> None:
    """It would open the terminal itself, where there is one: here it is a new one."""
    pty = pytest.importorskip("pty")
    program = (
        "from smtp_adapters.tls import ClientTLS\n"
        f"ClientTLS(certificate_file={str(files / 'chain.pem')!r}, "
        f"key_file={str(files / 'encrypted.pem')!r}).factory()\n"
    )
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - another process
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        os.execve(sys.executable, [sys.executable, "-c", program], environment)
    said = b""
    while True:
        try:
            octets = os.read(terminal, 65_536)
        except OSError:  # the other end has closed it
            break
        if not octets:
            break
        said += octets
        assert b"pass phrase" not in said
    os.close(terminal)
    os.waitpid(child, 0)
    assert b"give its key_password" in said


def test_what_a_password_callable_raises_comes_through(files: Path) -> None:
    def locked() -> str:
        raise LookupError("the vault is locked")

    settings = ClientTLS(
        certificate_file=files / "chain.pem", key_file=files / "encrypted.pem", key_password=locked
    )
    with pytest.raises(LookupError, match="vault"):
        settings.factory()


# --- the server asks for a certificate -------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("require", [True, False])
@pytest.mark.parametrize("shows", ["good", "unknown", "none"])
def test_a_server_knows_its_client(
    authority: trustme.CA, files: Path, version: str, require: bool, shows: str
) -> None:
    context = server_context(
        files / "both.pem", client_ca_file=files / "ca.pem", require_client_certificate=require
    )
    issuer = {"good": authority, "unknown": trustme.CA()}
    certificate = issuer[shows].issue_cert("client@example.org") if shows in issuer else None
    path = files / "client.pem"
    if certificate is not None:
        certificate.private_key_and_cert_chain_pem.write_to_path(path)
    settings = ClientTLS(
        ca_data=pem(authority),
        certificate_file=None if certificate is None else path,
        maximum_version=ssl.TLSVersion[version],
    )
    client, server = settings.factory()(HOST), server_factory(context)()
    if shows == "unknown":
        message = refusal(client, server, CertificateError)
        assert message.startswith("the client's certificate is refused: its issuer is not known")
        return
    if shows == "none" and require:
        assert "the client has to show a certificate" in refusal(client, server)
        return
    shake_hands(client, server)
    assert server.info.verified is (certificate is not None)
    assert server.info.peer_certificate == (certificate and der(certificate))
    assert bool(server.info.peer_certificate_chain) is (certificate is not None)
    assert server.info.not_verified_because == (
        "" if certificate else "the client showed no certificate"
    )


def test_a_server_that_does_not_ask_says_so(authority: trustme.CA, files: Path) -> None:
    layer = server_factory(server_context(files / "both.pem"))()
    _, server = connected(ClientTLS(ca_data=pem(authority)).factory()(HOST), layer)
    assert not server.info.verified
    assert "not asked for" in server.info.not_verified_because


# --- settings that contradict each other -----------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"context": True, "ca_file": "ca.pem"}, "set ca_file in it yourself"),
        ({"context": True, "ca_data": "x", "ciphers": "AES"}, "set ca_data, ciphers in it"),
        ({"context": True, "minimum_version": ssl.TLSVersion.TLSv1_3}, "set minimum_version in it"),
        ({"context": True, "check_certificate": bool}, "set check_certificate in it yourself"),
        ({"fingerprints": ["0" * 64], "ca_data": "x"}, "fingerprints take the place of ca_data"),
        ({"key_file": "key.pem"}, "key_file: where is its certificate_file"),
        ({"key_password": "secret"}, "key_password: where is its certificate_file"),
        ({"server": True, "certificate_file": "x", "require_client_certificate": True}, "who issu"),
        ({"fingerprints": ["0" * 40]}, "has 64 hex digits, .* has 40 characters"),
        ({"fingerprints": ["0" * 63 + "g"]}, "64 hex digits"),
        ({"fingerprints": ["0" * 63 + "٠"]}, "64 hex digits"),
        ({"fingerprints": [""]}, "64 hex digits"),
        ({"fingerprints": ["0" * 64, "\x1b[2J"]}, re.escape("'\\\\x1b[2J'")),
    ],
)
def test_settings_that_contradict_each_other_are_refused_when_configured(
    settings: dict[str, object], words: str
) -> None:
    if "context" in settings:
        settings = settings | {"context": ssl.create_default_context()}
    with pytest.raises(ValueError, match=words) as caught:
        server_context(**settings) if settings.pop("server", None) else ClientTLS(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_settings_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="fingerprints is a tuple"):
        ClientTLS(fingerprints="0" * 64)
    with pytest.raises(WireError):
        ClientTLS(server_hostname="two words")


def test_settings_are_equal_and_have_one_hash_by_what_they_say() -> None:
    pins = ("AB:" * 31 + "AB", "0" * 64)
    first, second = ClientTLS(fingerprints=list(pins)), ClientTLS(fingerprints=pins)
    assert (first, hash(first)) == (second, hash(second))
    assert first != replace(first, fingerprints=())


# --- versions and ciphers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "version"),
    [
        ({}, "TLSv1.3"),
        ({"maximum_version": ssl.TLSVersion.TLSv1_2}, "TLSv1.2"),
        ({"minimum_version": ssl.TLSVersion.TLSv1_3}, "TLSv1.3"),
        (
            {
                "minimum_version": ssl.TLSVersion.TLSv1,
                "maximum_version": ssl.TLSVersion.TLSv1_1,
                "ciphers": "DEFAULT:@SECLEVEL=0",
            },
            "TLSv1.1",
        ),
    ],
)
@pytest.mark.parametrize("verification", [None, lambda _: True])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_versions_are_limited(
    authority: trustme.CA,
    server_certificate: trustme.LeafCert,
    settings: dict[str, object],
    version: str,
    verification: Callable[[object], bool] | None,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_certificate.configure_cert(context)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    told: list[str] = []

    def check(shown: object) -> bool:
        told.append(getattr(shown, "version", ""))
        return verification is not None

    client_tls = ClientTLS(
        ca_data=pem(authority),
        check_certificate=None if verification is None else check,
        **settings,  # type: ignore[arg-type]
    )
    client, _ = connected(client_tls.factory()(HOST), server_factory(context)())
    assert client.info.version == version
    assert client.info.verified
    assert told == ([] if verification is None else [version])


def test_an_older_server_is_refused_by_default(
    authority: trustme.CA, server_certificate: trustme.LeafCert
) -> None:
    strict = ClientTLS(ca_data=pem(authority), minimum_version=ssl.TLSVersion.TLSv1_3)
    server = serving(server_certificate, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert "no version of TLS that both sides allow" in refusal(strict.factory()(HOST), server)
    # And without a setting, whatever this OpenSSL could do besides.
    assert ClientTLS()._context(verifies=True).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"minimum_version": ssl.TLSVersion.SSLv3}, "minimum_version SSLv3: .* cannot do it"),
        (
            {"minimum_version": ssl.TLSVersion.SSLv3, "ciphers": "DEFAULT:@SECLEVEL=0"},
            "minimum_version SSLv3: .* NO_PROTOCOLS_AVAILABLE",
        ),
        ({"minimum_version": ssl.TLSVersion.TLSv1}, "minimum_version TLSv1: .*@SECLEVEL=0"),
        ({"minimum_version": ssl.TLSVersion.TLSv1_1}, "minimum_version TLSv1_1: .*@SECLEVEL=0"),
        (
            {"minimum_version": ssl.TLSVersion.TLSv1_1, "ciphers": "DEFAULT:@SECLEVEL=1"},
            "minimum_version TLSv1_1: .*@SECLEVEL=0",
        ),
        (
            {"minimum_version": ssl.TLSVersion.TLSv1, "ciphers": "AESGCM:@SECLEVEL=0"},
            "minimum_version TLSv1: .* NO_CIPHERS_AVAILABLE",
        ),
        (
            {
                "minimum_version": ssl.TLSVersion.TLSv1_3,
                "maximum_version": ssl.TLSVersion.TLSv1_2,
            },
            "minimum_version TLSv1_3 is above maximum_version TLSv1_2",
        ),
        ({"maximum_version": ssl.TLSVersion.TLSv1_1}, "above maximum_version TLSv1_1"),
        ({"minimum_version": ssl.TLSVersion.MINIMUM_SUPPORTED}, "name a version"),
        ({"maximum_version": ssl.TLSVersion.MAXIMUM_SUPPORTED}, "name a version"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_version_that_cannot_be_is_refused_when_configured(
    settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        ClientTLS(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def offered(settings: ClientTLS) -> set[str]:
    """The names of the ciphers that a list leaves, without those of TLS 1.3."""
    ciphers = settings._context(verifies=True).get_ciphers()
    return {cipher["name"] for cipher in ciphers if not cipher["name"].startswith("TLS_")}


@pytest.mark.parametrize(
    ("ciphers", "names"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256", {"ECDHE-RSA-AES128-GCM-SHA256"}),
        (
            "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256",
            {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
        ),
        (
            "ECDHE+AESGCM+AES256, !ECDSA ; +SHA384 -RC4 @STRENGTH",
            {"ECDHE-RSA-AES256-GCM-SHA384"},
        ),
        ("AES128-SHA:@SECLEVEL=1", {"AES128-SHA"}),
    ],
)
def test_ciphers_are_chosen(ciphers: str, names: set[str]) -> None:
    assert offered(ClientTLS(ciphers=ciphers)) == names


def test_a_cipher_that_was_chosen_is_used(authority: trustme.CA) -> None:
    name = "ECDHE-ECDSA-CHACHA20-POLY1305"
    certificate = authority.issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    settings = ClientTLS(
        ca_data=pem(authority), ciphers=name, maximum_version=ssl.TLSVersion.TLSv1_2
    )
    client, _ = connected(settings.factory()(HOST), serving(certificate))
    assert client.info.cipher == name


@pytest.mark.parametrize(
    "ciphers",
    ["DEFAULT", "ALL", "HIGH:!aNULL:!EXPORT:!RC4:!3DES:!kRSA", "ALL:@SECLEVEL=0"],
)
def test_no_list_lets_a_server_in_without_a_certificate_or_encryption(ciphers: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("aNULL:eNULL:@SECLEVEL=0")
    unsafe = {cipher["name"] for cipher in context.get_ciphers()} - {
        cipher["name"] for cipher in ssl.create_default_context().get_ciphers()
    }
    assert unsafe
    names = offered(ClientTLS(ciphers=ciphers))
    assert names
    assert not names & unsafe


@pytest.mark.parametrize(
    ("ciphers", "lacking"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA265", "ECDHE-RSA-AES128-GCM-SHA265"),
        ("AES128-SHA:nonsense:AES256-SHA:rubbish", "nonsense, rubbish"),
        ("DEFAULT:!aNUL", "!aNUL"),
        ("DEFAULT:-rubbish", "-rubbish"),
        ("DEFAULT:+rubbish", "+rubbish"),
        ("AES128-SHA:DEFAULT", "DEFAULT"),
        ("ECDH+nonsense:AES128-SHA", "ECDH+nonsense"),
        ("AES128-SHA:@SECLEVEL=9", "@SECLEVEL=9"),
        ("AES128-SHA:@rubbish", "@rubbish"),
        ("AES128-SHA:RC4", "RC4"),
        ("AES128-SHA:PSK", "PSK"),
        ("AES128-SHA:aNULL", "aNULL"),
        ("AES128-SHA:ADH-AES128-SHA256:@SECLEVEL=0", "ADH-AES128-SHA256"),
        ("AES128-SHA:NULL-SHA256:@SECLEVEL=0", "NULL-SHA256"),
        ("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA:@SECLEVEL=3", "AES128-SHA"),
        ("AES128-SHA:\x00", "\x00"),
        ("AES128-SHA:ä", "ä"),
    ],
)
def test_what_openssl_would_pass_over_in_silence_is_named(ciphers: str, lacking: str) -> None:
    with pytest.raises(ValueError, match=f"^ciphers: {re.escape(lacking)}: ") as caught:
        ClientTLS(ciphers=ciphers)
    assert ssl.OPENSSL_VERSION in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ciphers": ""}, "ciphers is empty"),
        ({"ciphers": " : "}, "ciphers is empty"),
        ({"ciphers": "!AES"}, "no cipher is left"),
        ({"ciphers": "AES:!AES"}, "no cipher is left"),
        (
            {"ciphers": "AES", "minimum_version": ssl.TLSVersion.TLSv1_3},
            "AES: for TLS 1.2, which is below the minimum",
        ),
        (
            {
                "ciphers": "TLS_AES_128_GCM_SHA256",
                "maximum_version": ssl.TLSVersion.TLSv1_2,
            },
            "TLS_AES_128_GCM_SHA256: for TLS 1.3, which is above the maximum",
        ),
    ],
)
def test_a_list_without_effect_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ClientTLS(**settings)  # type: ignore[arg-type]


@pytest.mark.skipif(hasattr(ssl.SSLContext, "set_ciphersuites"), reason="this Python can")
def test_suites_of_tls_1_3_are_refused_where_they_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="this Python cannot choose") as caught:
        ClientTLS(ciphers="TLS_AES_256_GCM_SHA384:ECDHE+AESGCM")
    assert "TLS_AES_256_GCM_SHA384:" in str(caught.value)


def test_suites_of_tls_1_3_are_chosen_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an interpreter that can."""
    chosen: list[str] = []

    def set_ciphersuites(_: ssl.SSLContext, ciphersuites: str, /) -> None:
        if "AES" not in ciphersuites:
            raise ssl.SSLError("no cipher match")
        chosen.append(ciphersuites)

    monkeypatch.setattr(ssl.SSLContext, "set_ciphersuites", set_ciphersuites, raising=False)
    ClientTLS(ciphers="TLS_AES_256_GCM_SHA384:ECDHE+AESGCM:TLS_AES_128_GCM_SHA256")
    assert chosen == ["TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"]
    ClientTLS(ciphers="TLS_AES_128_GCM_SHA256", minimum_version=ssl.TLSVersion.TLSv1_3)
    with pytest.raises(ValueError, match="TLS_RUBBISH: .* does not have all of them"):
        ClientTLS(ciphers="TLS_RUBBISH")


# --- a context of one's own ------------------------------------------------------------------


def state(context: ssl.SSLContext) -> dict[str, object]:
    """All that can be read of a context."""
    return {
        name: value
        for name in dir(context)
        if not name.startswith("__") and not callable(value := getattr(context, name))
    } | {"ciphers": context.get_ciphers(), "ca": context.get_ca_certs(binary_form=True)}


def test_a_context_of_ones_own_is_used_as_it_is(
    authority: trustme.CA, server_certificate: trustme.LeafCert
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    before = state(context)
    settings = ClientTLS(context=context, server_hostname="other", fingerprints=("0" * 64,))
    refusal(settings.factory()(HOST), serving(server_certificate), CertificateError)
    client, _ = connected(ClientTLS(context=context).factory()(HOST), serving(server_certificate))
    assert client.info.version == "TLSv1.2"
    assert state(context) == before


@pytest.mark.parametrize(
    ("changes", "verified", "words"),
    [
        ({}, True, ""),
        ({"check_hostname": False}, False, "does not verify the name"),
        ({"check_hostname": False, "verify_mode": ssl.CERT_NONE}, False, "does not verify"),
        ({"verify_mode": ssl.CERT_OPTIONAL}, True, ""),
    ],
)
def test_what_a_context_of_ones_own_verifies_is_told(
    authority: trustme.CA,
    server_certificate: trustme.LeafCert,
    changes: dict[str, object],
    verified: bool,
    words: str,
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    for name, value in changes.items():
        setattr(context, name, value)
    client, _ = connected(ClientTLS(context=context).factory()(HOST), serving(server_certificate))
    assert client.info.verified is verified
    assert words in client.info.not_verified_because
    assert bool(client.info.not_verified_because) is not verified
