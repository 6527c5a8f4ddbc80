"""NTLM, GSSAPI and GSS-SPNEGO, against the servers that pyspnego and Kerberos have."""

import logging
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import spnego
from hypothesis import given
from hypothesis import strategies as st
from spnego.channel_bindings import GssChannelBindings

from smtp_adapters import spnego as ours
from smtp_proto.sasl import (
    AnyCredentials,
    ClientContext,
    ClientMechanism,
    Credentials,
    KerberosCredentials,
    Mechanism,
    Policy,
    SASLError,
    Strength,
    TokenCredentials,
    choose,
)

TIM = Credentials("tim", "tanstaaf")
CONTEXT = ClientContext(hostname="mx.example.org")
END_POINT = {"tls-server-end-point": b"\x02" * 32}
BINDINGS = GssChannelBindings(application_data=b"tls-server-end-point:" + b"\x02" * 32)


class GSSAPIOverNTLM(ours.GSSAPIClient):
    """GSSAPI with tokens that need nobody else. What wraps and unwraps is as real."""

    protocol: ClassVar[str] = "ntlm"
    __slots__ = ()


@pytest.fixture(autouse=True, scope="module")
def _users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    users = tmp_path_factory.mktemp("ntlm") / "users"
    users.write_text(":tim:tanstaaf\nEXAMPLE:tim:other\n:pässwörd@example.org:pässwörd\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NTLM_USER_FILE", str(users))
        yield


class Refused(Exception):
    """What the server would say with 535."""


@dataclass
class Server:
    """Accepts tokens; then, with an offer of security layers, does as RFC 4752 3.2 has it."""

    protocol: str
    offer: bytes | None = None
    bindings: GssChannelBindings | None = None
    acts_as: str = ""
    received: list[bytes] = field(default_factory=list[bytes])

    def run(self, client: ClientMechanism) -> str | None:
        """Return who the client is. Raises Refused, or what the client raises."""
        context = spnego.server(
            hostname="mx.example.org",
            service="smtp",
            protocol=self.protocol,
            channel_bindings=self.bindings,
        )
        response = client.start()
        while not context.complete:
            assert response is not None
            self.received.append(response)
            try:
                challenge = context.step(response)
            except Exception as error:
                raise Refused from error
            if challenge is not None:
                response = client.respond(challenge)
        if self.offer is not None:
            answer = client.respond(context.wrap(self.offer, encrypt=False).data)
            choice = context.unwrap(answer).data
            assert choice[:4] == b"\x01\0\0\0"
            self.acts_as = choice[4:].decode()
        client.finish()
        return context.client_principal


# --- NTLM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "principal"),
    [
        (TIM, "tim"),
        (Credentials("tim", "tanstaaf", "tim"), "tim"),
        (Credentials("TIM", "tanstaaf"), "TIM"),
        (Credentials("EXAMPLE\\tim", "other"), "EXAMPLE\\tim"),
        (Credentials("pässwörd@example.org", "pässwörd"), "pässwörd@example.org"),
    ],
)
@pytest.mark.parametrize(
    ("make", "protocol"), [(ours.NTLM, "ntlm"), (ours.GSS_SPNEGO, "negotiate")]
)
def test_the_right_password(
    make: Mechanism, protocol: str, credentials: Credentials, principal: str
) -> None:
    assert Server(protocol).run(make.client(credentials, CONTEXT)) == principal


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials("tim", "tanstaaF"),
        Credentials("EXAMPLE\\tim", "tanstaaf"),
        Credentials("t", "t"),
    ],
)
@pytest.mark.parametrize(
    ("make", "protocol"), [(ours.NTLM, "ntlm"), (ours.GSS_SPNEGO, "negotiate")]
)
def test_a_wrong_password(make: Mechanism, protocol: str, credentials: Credentials) -> None:
    with pytest.raises(Refused):
        Server(protocol).run(make.client(credentials, CONTEXT))


@pytest.mark.parametrize(
    ("make", "protocol"), [(ours.NTLM, "ntlm"), (ours.GSS_SPNEGO, "negotiate")]
)
def test_the_tokens_are_bound_to_tls(make: Mechanism, protocol: str) -> None:
    for seen, right in [(END_POINT, True), ({"tls-server-end-point": b"\x03" * 32}, False)]:
        client = make.client(TIM, replace(CONTEXT, channel_bindings=seen))
        if right:
            assert Server(protocol, bindings=BINDINGS).run(client) == "tim"
        else:
            with pytest.raises(Refused):
                Server(protocol, bindings=BINDINGS).run(client)


# --- GSSAPI --------------------------------------------------------------------------------------


@pytest.mark.parametrize("authzid", ["", "ursel", "pässwörd"])
@pytest.mark.parametrize(
    "offer",
    [
        b"\x01\0\0\0",
        b"\x07\0\xff\xff",
        b"\x81\0\0\0",
        b"\x01\xff\xff\xff",  # not as it has to be, and yet seen
    ],
)
def test_the_security_layer_is_none(offer: bytes, authzid: str) -> None:
    server = Server("ntlm", offer)
    client = GSSAPIOverNTLM(replace(TIM, authorization_identity=authzid), CONTEXT)
    assert server.run(client) == "tim"
    assert server.acts_as == authzid
    with pytest.raises(SASLError, match="more than GSSAPI has to say"):
        client.respond(b"")


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (b"", "not four octets"),
        (b"\x01\0\0", "not four octets"),
        (b"\x01\0\0\0\0", "not four octets"),
        (b"\0\0\0\0", "wants a security layer"),
        (b"\x06\0\xff\xff", "wants a security layer"),
    ],
)
def test_there_is_no_other_layer(offer: bytes, why: str) -> None:
    client = GSSAPIOverNTLM(TIM, CONTEXT)
    with pytest.raises(SASLError, match=why):
        Server("ntlm", offer).run(client)
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()


def test_a_success_without_the_offer_proves_nothing() -> None:
    with pytest.raises(SASLError, match="before it has proven itself"):
        Server("ntlm").run(GSSAPIOverNTLM(TIM, CONTEXT))


def test_gssapi_binds_to_nothing() -> None:
    """RFC 4752 5: a server that wanted it would find nothing."""
    client = GSSAPIOverNTLM(TIM, replace(CONTEXT, channel_bindings=END_POINT))
    with pytest.raises(Refused):
        Server("ntlm", bindings=BINDINGS).run(client)


# --- Servers that lie ----------------------------------------------------------------------------

MAKE: list[Callable[[AnyCredentials, ClientContext], ClientMechanism]] = [
    ours.NTLMClient,
    GSSAPIOverNTLM,
    ours.GSSSpnegoClient,
]
EACH = pytest.mark.parametrize("make", MAKE)


def challenge_for(client: ClientMechanism) -> bytes:
    protocol = "negotiate" if client.name == "GSS-SPNEGO" else "ntlm"
    challenge = spnego.server(protocol=protocol).step(client.start())
    assert challenge is not None
    return challenge


@EACH
@given(challenges=st.lists(st.binary(max_size=200), max_size=4))
def test_whatever_a_server_says(
    make: Callable[[AnyCredentials, ClientContext], ClientMechanism], challenges: list[bytes]
) -> None:
    client = make(TIM, CONTEXT)
    with suppress(SASLError):
        for challenge in challenges:
            client.respond(challenge)
    with suppress(SASLError):
        client.finish()


@EACH
@given(data=st.data())
def test_a_challenge_that_somebody_changed(
    make: Callable[[AnyCredentials, ClientContext], ClientMechanism], data: st.DataObject
) -> None:
    client = make(TIM, CONTEXT)
    challenge = bytearray(challenge_for(client))
    for _ in range(data.draw(st.integers(0, 3))):
        challenge[data.draw(st.integers(0, len(challenge) - 1))] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, len(challenge)))
    extra = data.draw(st.binary(max_size=20))
    with suppress(SASLError):
        client.respond(bytes(challenge[:start]) + extra)
        client.respond(extra)
        client.respond(extra)
    with suppress(SASLError):
        client.finish()


@EACH
def test_a_success_out_of_turn(
    make: Callable[[AnyCredentials, ClientContext], ClientMechanism],
) -> None:
    client = make(TIM, CONTEXT)
    with pytest.raises(SASLError, match="the server reports success before"):
        client.finish()
    client.start()
    with pytest.raises(SASLError, match="the server reports success before"):
        client.finish()


def test_ntlm_says_no_more() -> None:
    client = ours.NTLMClient(TIM, CONTEXT)
    Server("ntlm").run(client)
    with pytest.raises(SASLError, match="more than NTLM has to say"):
        client.respond(b"")


# --- Secrets -------------------------------------------------------------------------------------


@EACH
def test_nothing_is_logged_and_nothing_is_kept(
    make: Callable[[AnyCredentials, ClientContext], ClientMechanism],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make(Credentials("tim", "canary-7c1"), CONTEXT)
    assert caplog.records == []
    challenge = challenge_for(client)
    assert caplog.records != []  # whoever else uses pyspnego sees what it logs
    caplog.clear()
    client.respond(challenge)
    with pytest.raises(SASLError) as caught:
        make(Credentials("tim", "canary-7c1"), CONTEXT).respond(b"rubbish")
    assert caplog.records == []
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert "canary" not in repr(client)


# --- The choice ----------------------------------------------------------------------------------

OFFERED = ("NTLM", "GSSAPI", "GSS-SPNEGO")


def allow(*names: str) -> Policy:
    return Policy(frozenset(names))


def reasons(
    credentials: AnyCredentials, policy: Policy, *, context: ClientContext = CONTEXT
) -> str:
    choice = choose(policy, OFFERED, credentials, True, context=context, mechanisms=ours.MECHANISMS)
    assert choice.mechanism is None
    return "; ".join(f"{name}: {why}" for name, why in choice.passed_over)


def test_ntlm_is_used_by_name_only() -> None:
    by_name = "it is used only where the policy allows it by name"
    told = reasons(TIM, Policy())
    assert f"NTLM: {by_name}" in told
    assert f"GSS-SPNEGO: {by_name}" in told
    for secure in (True, False):
        choice = choose(
            allow("NTLM"), OFFERED, TIM, secure, context=CONTEXT, mechanisms=ours.MECHANISMS
        )
        assert choice.mechanism is not None
        assert choice.mechanism.name == "NTLM"
    assert "weaker than the policy's minimum" in reasons(
        TIM, Policy(frozenset({"NTLM"}), minimum=Strength.PROOF)
    )


@pytest.mark.parametrize(
    ("name", "credentials", "why"),
    [
        ("NTLM", KerberosCredentials(), "it takes a password, not Kerberos tickets"),
        ("NTLM", TokenCredentials("tim", "t"), "it takes a password, not a token"),
        ("NTLM", Credentials("tim", "t", "ursel"), "cannot carry an authorization identity"),
        ("NTLM", Credentials("", "t"), "an identity is empty"),
        ("NTLM", Credentials("tim", "\ud800"), "the password is empty, or has"),
        ("GSSAPI", TokenCredentials("tim", "t"), "a password or Kerberos tickets, not a token"),
        ("GSSAPI", KerberosCredentials("\n"), "an identity is empty"),
        ("GSS-SPNEGO", Credentials("tim", "t", "ursel"), "carry an authorization identity"),
        ("GSS-SPNEGO", KerberosCredentials("ursel"), "carry an authorization identity"),
    ],
)
def test_what_it_cannot_be_used_with(name: str, credentials: AnyCredentials, why: str) -> None:
    assert why in reasons(credentials, allow(name))


def test_the_servers_name_is_needed() -> None:
    told = reasons(TIM, allow(*OFFERED), context=ClientContext())
    assert told.count("it needs the server's name, and has none") == 3


def test_tickets_are_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be the first user of the file, with NTLM."""
    monkeypatch.setenv("KRB5CCNAME", "FILE:/nowhere/at/all")
    assert "there are Kerberos tickets only" in reasons(KerberosCredentials(), allow("GSS-SPNEGO"))


def test_without_tickets_kerberos_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", "FILE:/nowhere/at/all")
    told = reasons(KerberosCredentials(), allow("GSSAPI"))
    assert "GSSAPI: " in told
    assert "ImportError" not in told
    assert told.isprintable()


# --- Kerberos ------------------------------------------------------------------------------------

_REALM = """
[libdefaults]
  default_realm = EXAMPLE.ORG
  dns_lookup_kdc = false
  dns_canonicalize_hostname = false
[realms]
  EXAMPLE.ORG = {{
    kdc = 127.0.0.1:{port}
    kdc_listen = 127.0.0.1:{port}
    database_name = {folder}/principal
    key_stash_file = {folder}/stash
  }}
"""
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local")


@pytest.fixture(scope="module")
def _kerberos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Realm of its own, in which this process is tim and has the key of the server."""
    pytest.importorskip("gssapi")
    kdc, util, admin = (
        shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin") for name in _PROGRAMS
    )
    if kdc is None or util is None or admin is None:
        pytest.skip(f"{', '.join(_PROGRAMS)} are not all here")
    folder = tmp_path_factory.mktemp("kerberos")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        realm = _REALM.format(port=free.getsockname()[1], folder=folder)
    (folder / "realm").write_text(realm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", str(folder / "realm"))
        patch.setenv("KRB5_KDC_PROFILE", str(folder / "realm"))
        patch.setenv("KRB5_KTNAME", str(folder / "keytab"))
        patch.setenv("KRB5_CLIENT_KTNAME", str(folder / "client"))
        patch.setenv("KRB5CCNAME", f"FILE:{folder}/tickets")
        patch.setenv("KRB5RCACHENAME", "none:")
        for command in (
            [util, "create", "-s", "-P", "master"],
            [admin, "-q", "addprinc -pw tanstaaf tim"],
            [admin, "-q", "addprinc -randkey smtp/mx.example.org"],
            [admin, "-q", f"ktadd -k {folder}/keytab smtp/mx.example.org"],
            # With a key of its own for the client there are tickets when they are asked for.
            [admin, "-q", f"ktadd -norandkey -k {folder}/client tim"],
        ):
            subprocess.run(command, check=True, capture_output=True)
        running = subprocess.Popen([kdc, "-n"], stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
        with running:
            assert running.stdout is not None
            try:
                assert any(b"starting" in line for line in running.stdout)
                yield
            finally:
                running.terminate()


KERBEROS = pytest.mark.parametrize(
    ("make", "protocol", "offer"),
    [
        (ours.GSSAPI, "kerberos", b"\x01\0\0\0"),
        (ours.GSS_SPNEGO, "negotiate", b"\x01\0\0\0"),
        (ours.GSS_SPNEGO, "negotiate", None),
    ],
)


@pytest.mark.usefixtures("_kerberos")
@KERBEROS
@pytest.mark.parametrize(
    "credentials", [KerberosCredentials(), TIM, Credentials("tim@EXAMPLE.ORG", "tanstaaf")]
)
def test_kerberos(
    make: Mechanism, protocol: str, offer: bytes | None, credentials: AnyCredentials
) -> None:
    context = replace(CONTEXT, channel_bindings=END_POINT)
    server = Server(protocol, offer)
    assert server.run(make.client(credentials, context)) == "tim@EXAMPLE.ORG"


@pytest.mark.usefixtures("_kerberos")
def test_kerberos_for_somebody_else() -> None:
    server = Server("kerberos", b"\x01\0\0\0")
    server.run(ours.GSSAPIClient(KerberosCredentials("ursel"), CONTEXT))
    assert server.acts_as == "ursel"


@pytest.mark.usefixtures("_kerberos")
@pytest.mark.parametrize(
    ("credentials", "hostname", "why"),
    [
        (
            KerberosCredentials(),
            "other.example.org",
            "smtp/other.example.org@EXAMPLE.ORG not found",
        ),
        (Credentials("tim", "canary-7c1"), "mx.example.org", "GSSAPI: "),
        (Credentials("nobody", "canary-7c1"), "mx.example.org", "not found in Kerberos database"),
    ],
)
def test_what_kerberos_refuses(credentials: AnyCredentials, hostname: str, why: str) -> None:
    told = reasons(credentials, allow("GSSAPI"), context=ClientContext(hostname=hostname))
    assert why in told
    assert "canary" not in told


@pytest.mark.usefixtures("_kerberos")
@given(challenges=st.lists(st.binary(max_size=200), max_size=4))
def test_whatever_a_server_of_kerberos_says(challenges: list[bytes]) -> None:
    client = ours.GSSAPIClient(KerberosCredentials(), CONTEXT)
    with suppress(SASLError):
        for challenge in challenges:
            client.respond(challenge)
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()
