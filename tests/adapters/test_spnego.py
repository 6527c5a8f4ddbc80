"""NTLM, GSSAPI and GSS-SPNEGO, against the servers that pyspnego has.

Knows what both sides say. Must not need Kerberos: tests/interop/test_kerberos.py does.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
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
from tests.adapters.spnego_server import Refused, SpnegoServer

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
    nowhere = users.with_name("krb5.conf")
    nowhere.write_text("[libdefaults]\n  dns_lookup_kdc = false\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NTLM_USER_FILE", str(users))
        # Where Kerberos is installed, nobody is asked for tickets, and there are none.
        patch.setenv("KRB5_CONFIG", str(nowhere))
        patch.setenv("KRB5CCNAME", f"FILE:{nowhere}.tickets")
        yield


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
    assert SpnegoServer(protocol).run(make.client(credentials, CONTEXT)) == principal


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
        SpnegoServer(protocol).run(make.client(credentials, CONTEXT))


@pytest.mark.parametrize(
    ("make", "protocol"), [(ours.NTLM, "ntlm"), (ours.GSS_SPNEGO, "negotiate")]
)
def test_the_tokens_are_bound_to_tls(make: Mechanism, protocol: str) -> None:
    for seen, right in [(END_POINT, True), ({"tls-server-end-point": b"\x03" * 32}, False)]:
        client = make.client(TIM, replace(CONTEXT, channel_bindings=seen))
        if right:
            assert SpnegoServer(protocol, bindings=BINDINGS).run(client) == "tim"
        else:
            with pytest.raises(Refused):
                SpnegoServer(protocol, bindings=BINDINGS).run(client)


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
    server = SpnegoServer("ntlm", offer)
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
        SpnegoServer("ntlm", offer).run(client)
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()


def test_a_success_without_the_offer_proves_nothing() -> None:
    with pytest.raises(SASLError, match="before it has proven itself"):
        SpnegoServer("ntlm").run(GSSAPIOverNTLM(TIM, CONTEXT))


def test_gssapi_binds_to_nothing() -> None:
    """RFC 4752 5: a server that wanted it would find nothing."""
    client = GSSAPIOverNTLM(TIM, replace(CONTEXT, channel_bindings=END_POINT))
    with pytest.raises(Refused):
        SpnegoServer("ntlm", bindings=BINDINGS).run(client)


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
    SpnegoServer("ntlm").run(client)
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


def test_tickets_are_no_password() -> None:
    """Else it would be the first user of the file, with NTLM."""
    assert "there are Kerberos tickets only" in reasons(KerberosCredentials(), allow("GSS-SPNEGO"))


def test_without_tickets_kerberos_is_passed_over() -> None:
    told = reasons(KerberosCredentials(), allow("GSSAPI"))
    assert "GSSAPI: " in told
    assert "ImportError" not in told
    assert told.isprintable()
