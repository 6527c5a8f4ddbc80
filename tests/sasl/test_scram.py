"""SCRAM, RFC 5802 and 7677."""

import base64
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    Challenge,
    ClientContext,
    Credentials,
    FetchSecret,
    Rejected,
    ServerContext,
    Step,
)
from smtp_proto.sasl.scram import ScramClient, ScramServer
from smtp_proto.sasl.scram_secret import HASHES, ITERATIONS, ScramSecret
from tests.sasl.exchanges import (
    BINDINGS,
    CLIENT_CONTEXT,
    SERVER_CONTEXT,
    Wire,
    scram_client,
    scram_server,
    stored,
)

PENCIL = Credentials("user", "pencil")


# --- The examples of the RFCs --------------------------------------------------------------------

# RFC 5802 5, RFC 7677 3
EXAMPLES = pytest.mark.parametrize(
    ("name", "client_first", "server_first", "client_final", "server_final"),
    [
        (
            "SCRAM-SHA-1",
            b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (
            "SCRAM-SHA-256",
            b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            (
                b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
            ),
            (
                b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            ),
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ],
)


@EXAMPLES
def test_the_client_of_the_example(
    name: str, client_first: bytes, server_first: bytes, client_final: bytes, server_final: bytes
) -> None:
    nonce = base64.b64decode(client_first.partition(b"r=")[2])
    client = scram_client(name, PENCIL, ClientContext(nonce=lambda: nonce))
    assert client.start() == client_first
    assert client.respond(server_first) == client_final
    assert client.respond(server_final) == b""
    client.finish()


@EXAMPLES
def test_the_server_of_the_example(
    name: str, client_first: bytes, server_first: bytes, client_final: bytes, server_final: bytes
) -> None:
    client_nonce = client_first.partition(b"r=")[2]
    nonce, salt, iterations = (part[2:] for part in server_first.split(b","))
    server = scram_server(name, ServerContext("mx.example.org", bytes))
    server._nonce = nonce.removeprefix(client_nonce)  # it is not one of those that are made here
    assert server.start(None) == Challenge(b"")
    assert server.respond(client_first) == FetchSecret("user", name)
    secret = ScramSecret.from_password(
        "pencil", base64.b64decode(salt), mechanism=name, iterations=int(iterations)
    )
    assert server.answer(secret) == Challenge(server_first)
    assert server.respond(client_final) == Challenge(server_final)
    assert server.respond(b"") == Accepted("user", "user")


# --- Names and passwords -------------------------------------------------------------------------


def test_names_are_prepared_and_escaped() -> None:
    client = scram_client("SCRAM-SHA-256", Credentials("\u2168,=", "p", "a,b"), NO_BINDING)
    assert client.start() == b"n,a=a=2Cb,n=IX=2C=3D,r=EBESExQVFhcYGRobHB0eHw=="
    server = scram_server("SCRAM-SHA-256", replace(SERVER_CONTEXT, proxy_authorization=True))
    assert server.start(client.start()) == FetchSecret("IX,=", "SCRAM-SHA-256", "a,b")


@pytest.mark.parametrize("password", ["pass\u00a0word", "pass word", "pass\u00ad word"])
def test_passwords_that_sasl_prep_makes_the_same_are_the_same(password: str) -> None:
    client = scram_client("SCRAM-SHA-256", Credentials("tim", password), CLIENT_CONTEXT)
    outcome = Wire({"tim": "pass word"}).run(client, scram_server("SCRAM-SHA-256", SERVER_CONTEXT))
    assert outcome == Accepted("tim", "tim")


@pytest.mark.parametrize("password", ["pencil\u0627", "pencil\ue000", "\u00ad"], ids=ascii)
def test_what_sasl_prep_refuses_is_refused_before_anything_is_sent(password: str) -> None:
    with pytest.raises(SASLError) as caught:
        scram_client("SCRAM-SHA-256", Credentials("tim", password), CLIENT_CONTEXT)
    assert "pencil" not in str(caught.value)


def test_a_client_without_a_nonce_is_not_built() -> None:
    with pytest.raises(SASLError, match="random"):
        scram_client("SCRAM-SHA-256", PENCIL, NO_CLIENT_CONTEXT)


# --- Channel binding -----------------------------------------------------------------------------

NO_BINDING = replace(CLIENT_CONTEXT, channel_bindings={})
BOTH = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"})
ONE = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-1-PLUS"})


@pytest.mark.parametrize(
    ("name", "offered", "bindings", "header"),
    [
        ("SCRAM-SHA-256", BOTH, {}, b"n,,"),
        ("SCRAM-SHA-256", ONE, {}, b"n,,"),
        ("SCRAM-SHA-256", None, {}, b"n,,"),
        # It could, and by choice it does not.
        ("SCRAM-SHA-256", BOTH, BINDINGS, b"n,,"),
        ("SCRAM-SHA-256", None, BINDINGS, b"n,,"),
        # It could, and the server does not seem to.
        ("SCRAM-SHA-256", ONE, BINDINGS, b"y,,"),
        # A binding of a type that is not known here is none.
        ("SCRAM-SHA-256", ONE, {"tls-unique-for-telnet": b"\1"}, b"n,,"),
        ("SCRAM-SHA-256", ONE, {"tls-unique": b""}, b"n,,"),
        ("SCRAM-SHA-256-PLUS", BOTH, BINDINGS, b"p=tls-exporter,,"),
        ("SCRAM-SHA-256-PLUS", None, BINDINGS, b"p=tls-exporter,,"),
        (
            "SCRAM-SHA-256-PLUS",
            BOTH,
            {"tls-unique": b"\3", "tls-server-end-point": b"\2"},
            b"p=tls-server-end-point,,",
        ),
        ("SCRAM-SHA-256-PLUS", BOTH, {"tls-unique": b"\3"}, b"p=tls-unique,,"),
    ],
)
def test_what_the_client_says_of_channel_binding(
    name: str, offered: frozenset[str] | None, bindings: Mapping[str, bytes], header: bytes
) -> None:
    context = replace(CLIENT_CONTEXT, channel_bindings=bindings, offered=offered)
    assert scram_client(name, PENCIL, context).start().startswith(header + b"n=user,")


def test_a_plus_form_is_not_built_without_a_binding() -> None:
    with pytest.raises(SASLError, match="channel binding"):
        scram_client("SCRAM-SHA-1-PLUS", PENCIL, NO_BINDING)


@pytest.mark.parametrize("kind", ["tls-exporter", "tls-server-end-point", "tls-unique"])
@pytest.mark.parametrize("same", [True, False])
def test_only_one_tls_connection_will_do(kind: str, same: bool) -> None:
    client = scram_client(
        "SCRAM-SHA-256-PLUS", PENCIL, replace(CLIENT_CONTEXT, channel_bindings={kind: b"this"})
    )
    data = b"this" if same else b"that"
    context = replace(SERVER_CONTEXT, channel_bindings={kind: data, "other": b"this"})
    outcome = Wire({"user": "pencil"}).run(client, scram_server("SCRAM-SHA-256-PLUS", context))
    if same:
        assert outcome == Accepted("user", "user")
    else:
        why = "the client is not at the other end of this TLS connection"
        assert outcome == Rejected(why)


HIDDEN = Rejected("somebody hid from the client that channel binding is offered")
REST = b"n=user,r=nonce"


@pytest.mark.parametrize(
    ("name", "flag", "offered", "bindings", "outcome"),
    [
        ("SCRAM-SHA-256", b"n", BOTH, BINDINGS, FetchSecret),
        ("SCRAM-SHA-256", b"y", BOTH, BINDINGS, HIDDEN),
        ("SCRAM-SHA-256", b"y", None, BINDINGS, HIDDEN),
        # With another hash it was offered.
        ("SCRAM-SHA-256", b"y", ONE, BINDINGS, HIDDEN),
        ("SCRAM-SHA-256", b"y", frozenset({"SCRAM-SHA-256", "X-PLUS"}), BINDINGS, FetchSecret),
        ("SCRAM-SHA-256", b"y", frozenset({"SCRAM-SHA-256"}), BINDINGS, FetchSecret),
        ("SCRAM-SHA-256", b"y", None, {"tls-unique": b""}, FetchSecret),
        ("SCRAM-SHA-256", b"y", None, {}, FetchSecret),
        ("SCRAM-SHA-256", b"p=tls-exporter", BOTH, BINDINGS, "not of it"),
        ("SCRAM-SHA-256-PLUS", b"n", BOTH, BINDINGS, "not of it"),
        ("SCRAM-SHA-256-PLUS", b"y", BOTH, BINDINGS, "not of it"),
        ("SCRAM-SHA-256-PLUS", b"p=tls-exporter", BOTH, BINDINGS, FetchSecret),
        ("SCRAM-SHA-256-PLUS", b"p=tls-unique", BOTH, BINDINGS, "no channel binding tls-unique"),
        ("SCRAM-SHA-256-PLUS", b"p=tls-exporter", BOTH, {}, "no channel binding tls-exporter"),
        ("SCRAM-SHA-256-PLUS", b"p=tls-unique", BOTH, {"tls-unique": b""}, "no channel binding"),
    ],
)
def test_what_the_server_makes_of_it(
    name: str,
    flag: bytes,
    offered: frozenset[str] | None,
    bindings: Mapping[str, bytes],
    outcome: type | Rejected | str,
) -> None:
    context = replace(SERVER_CONTEXT, channel_bindings=bindings, offered=offered)
    step = scram_server(name, context).start(flag + b",," + REST)
    if isinstance(outcome, str):
        assert isinstance(step, Rejected)
        assert outcome in step.why
    elif isinstance(outcome, Rejected):
        assert step == outcome
    else:
        assert isinstance(step, outcome)


def test_a_downgrade_of_channel_binding_is_noticed() -> None:
    """Somebody takes the -PLUS form off the list; the client and the server can both do it."""
    offered = frozenset({"SCRAM-SHA-256"})
    client = scram_client("SCRAM-SHA-256", PENCIL, replace(CLIENT_CONTEXT, offered=offered))
    server = scram_server("SCRAM-SHA-256", replace(SERVER_CONTEXT, offered=BOTH))
    assert Wire({"user": "pencil"}).run(client, server) == HIDDEN


def test_the_flag_cannot_be_changed_on_its_way() -> None:
    client = scram_client("SCRAM-SHA-256", PENCIL, replace(CLIENT_CONTEXT, offered=ONE))
    server = scram_server("SCRAM-SHA-256", SERVER_CONTEXT)
    assert isinstance(server.start(client.start().replace(b"y,,", b"n,,")), FetchSecret)
    challenge = server.answer(stored("pencil"))
    assert isinstance(challenge, Challenge)
    assert isinstance(server.respond(client.respond(challenge.data)), Rejected)


# --- Servers that lie ----------------------------------------------------------------------------

NONCE = b"EBESExQVFhcYGRobHB0eHw=="
SERVER_FIRST = b"r=" + NONCE + b"more,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def client_of(name: str = "SCRAM-SHA-256") -> ScramClient:
    client = scram_client(name, Credentials("tim", "canary-7c1"), CLIENT_CONTEXT)
    client.start()
    return client


def refused(client: ScramClient, challenge: bytes, why: str) -> None:
    """The client refuses the challenge, says why, and does not believe in a success either."""
    with pytest.raises(SASLError, match=why) as caught:
        client.respond(challenge)
    assert "canary" not in str(caught.value)
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()


def changed(old: bytes, new: bytes) -> bytes:
    assert old in SERVER_FIRST
    return SERVER_FIRST.replace(old, new)


ORDER = "r=,s=,i= are due, in this order"


@pytest.mark.parametrize(
    ("server_first", "why"),
    [
        (b"", "no attribute"),
        (b"=", "no attribute"),
        (b"rubbish \x1b]0;", r"no attribute of SCRAM: rubbish \\x1b\]0;"),
        (changed(NONCE, b"somebodyelses"), "somebody else's nonce"),
        (changed(NONCE, NONCE[:-1]), "somebody else's nonce"),
        (changed(NONCE, NONCE.lower()), "somebody else's nonce"),
        (changed(NONCE + b"more", b"more" + NONCE), "somebody else's nonce"),
        (changed(b"more", b""), "adds nothing"),
        (changed(b"more", b"\xc3\xa4"), "not printable"),
        (changed(b"more", b" "), "not printable"),
        (changed(b"more", b"\x7f"), "not printable"),
        (changed(b"r=" + NONCE + b"more", b"r="), "no attribute"),
        (changed(b"i=4096", b"i=0"), "not a positive number: 0"),
        (changed(b"i=4096", b"i=1"), "wants 1 iterations; from 4096 to 600000"),
        (changed(b"i=4096", b"i=4095"), "wants 4095 iterations"),
        (changed(b"i=4096", b"i=1000001"), "wants 1000001 iterations"),
        (changed(b"i=4096", b"i=1000000000"), "wants 1000000000 iterations"),
        (changed(b"i=4096", b"i=" + b"9" * 10_000), "not a positive number"),
        (changed(b"i=4096", b"i=4096x"), "not a positive number: 4096x"),
        (changed(b"i=4096", b"i=04096"), "not a positive number"),
        (changed(b"i=4096", b"i=-4096"), "not a positive number"),
        (changed(b"i=4096", b"i=+4096"), "not a positive number"),
        (changed(b"i=4096", b"i=4_096"), "not a positive number"),
        (changed(b"i=4096", b"i=4096\n"), "not a positive number"),
        (changed(b"i=4096", "i=٤٠٩٦".encode()), "not a positive number"),
        (changed(b"i=4096", b"i="), "no attribute"),
        (changed(b",i=4096", b""), ORDER),
        (changed(b"W22ZaJ0SNY7soEsUEjb6gQ==", b""), "no attribute"),
        (changed(b"W22ZaJ0SNY7soEsUEjb6gQ==", b"===="), "the salt is not base64"),
        (changed(b"gQ==", b"gQ="), "the salt is not base64"),
        (changed(b"gQ==", b"gQ"), "the salt is not base64"),
        (changed(b"gQ==", b"gR=="), "the salt is not base64"),
        (changed(b"W22Z", b"W2-_"), "the salt is not base64"),
        (changed(b"W22Z", b"W2 2Z"), "the salt is not base64"),
        (changed(b"s=W22ZaJ0SNY7soEsUEjb6gQ==,", b""), ORDER),
        (b"m=ext," + SERVER_FIRST, "extension"),
        (SERVER_FIRST + b",m=ext", "extension"),
        (changed(b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", b"i=4096,s=W22ZaJ0SNY7s"), ORDER),
        (b"s=W22ZaJ0SNY7s,r=" + NONCE + b"more,i=4096", ORDER),
        (b"x=1," + SERVER_FIRST, ORDER),
        (SERVER_FIRST + b",r=again", ORDER),
        (SERVER_FIRST + b",i=4097", ORDER),
        (SERVER_FIRST + b",", "no attribute"),
        (SERVER_FIRST + b",x", "no attribute"),
        (SERVER_FIRST + b",x=", "no attribute"),
        (SERVER_FIRST.upper(), ORDER),
        (b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", ORDER),
        (b"e=other-error", "the server gives up: other-error"),
        (b"e=\x1b[2J" + b"x" * 1000, r"the server gives up: \\x1b\[2Jxxx.*\.\.\.$"),
    ],
)
def test_a_server_that_lies_in_its_first_message(server_first: bytes, why: str) -> None:
    refused(client_of(), server_first, why)


@pytest.mark.parametrize("extension", [b",x=1", b",x=1,y=a=b", b",q=\xc3\xa4"])
def test_extensions_are_ignored(extension: bytes) -> None:
    assert client_of().respond(SERVER_FIRST + extension).startswith(b"c=biws,r=" + NONCE)


@pytest.mark.parametrize(
    ("iterations", "accepted"), [(99, False), (100, True), (200, True), (201, False)]
)
def test_the_range_of_iterations_can_be_set(iterations: int, accepted: bool) -> None:
    context = replace(CLIENT_CONTEXT, iterations=range(100, 201))
    client = scram_client("SCRAM-SHA-256", PENCIL, context)
    challenge = changed(b"i=4096", b"i=%d" % iterations)
    if accepted:
        client.respond(challenge)
    else:
        refused(client, challenge, f"wants {iterations} iterations; from 100 to 200 are allowed")


SIGNATURE = b"SIGNATURE"  # stands in for v= as it has to be


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (b"", "no attribute"),
        (b"v=", "no attribute"),
        (b"v=AAAA", "signature is wrong"),
        (b"v=" + base64.b64encode(bytes(32)), "signature is wrong"),
        (SIGNATURE + b"=", "signature is not base64"),
        (SIGNATURE + b"AAAA", "signature is not base64"),
        (b"v=x," + SIGNATURE, "v= are due"),
        (b"x=1," + SIGNATURE, "v= are due"),
        (b"m=1," + SIGNATURE, "extension"),
        (SIGNATURE + b",m=1", "extension"),
        (b"e=other-error," + SIGNATURE, "the server gives up: other-error"),
        (SIGNATURE + b",e=other-error", "v= are due"),
        (b"e=invalid-proof", "the server gives up: invalid-proof"),
        (SERVER_FIRST, "v= are due"),
    ],
)
def test_a_server_that_lies_in_its_final_message(lie: bytes, why: str) -> None:
    client = client_of()
    client.respond(SERVER_FIRST)
    right = b"v=" + base64.b64encode(client._signature)
    refused(client, lie.replace(SIGNATURE, right), why)


@pytest.mark.parametrize("length", range(46))
def test_a_signature_that_is_cut_is_none(length: int) -> None:
    client = client_of()
    client.respond(SERVER_FIRST)
    right = b"v=" + base64.b64encode(client._signature)
    assert len(right) == 46
    refused(client, right[:length], "no attribute|signature is")


@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize("bit", [0, 1, 77, 159])
def test_no_bit_of_the_signature_may_differ(name: str, bit: int) -> None:
    client = client_of(name)
    client.respond(SERVER_FIRST)
    signature = int.from_bytes(client._signature) ^ (1 << bit)
    wrong = signature.to_bytes(len(client._signature))
    refused(client, b"v=" + base64.b64encode(wrong), "does not know the password")


def test_a_server_that_does_not_know_the_password() -> None:
    client = client_of()
    server = scram_server("SCRAM-SHA-256", SERVER_CONTEXT)
    server.start(client.start())
    challenge = server.answer(stored("another"))
    assert isinstance(challenge, Challenge)
    client.respond(challenge.data)
    refused(client, b"v=" + base64.b64encode(bytes(32)), "does not know the password")


def test_success_before_the_signature_is_no_success() -> None:
    client = client_of()
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()
    client.respond(SERVER_FIRST)
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()
    client.respond(b"v=" + base64.b64encode(client._signature) + b",x=1")
    client.finish()


def test_the_password_is_not_kept_longer_than_it_is_needed() -> None:
    client = client_of()
    assert client._password == "canary-7c1"
    client.respond(SERVER_FIRST)
    assert client._password == ""


@pytest.mark.parametrize("challenge", [b"", SERVER_FIRST, b"v=AAAA"])
def test_a_server_that_wants_more_is_refused(challenge: bytes) -> None:
    client = client_of()
    client.respond(SERVER_FIRST)
    client.respond(b"v=" + base64.b64encode(client._signature))
    with pytest.raises(SASLError, match="more than SCRAM"):
        client.respond(challenge)


@settings(max_examples=300)
@given(st.data())
def test_no_other_octets_will_do(data: st.DataObject) -> None:
    """Of the server's first message nothing can be changed without the signature's being wrong."""
    position = data.draw(st.integers(0, len(SERVER_FIRST) - 1))
    octet = data.draw(st.integers(0, 255))
    mutated = SERVER_FIRST[:position] + bytes([octet]) + SERVER_FIRST[position + 1 :]
    honest, client = client_of(), client_of()
    honest.respond(SERVER_FIRST)
    try:
        client.respond(mutated)
        client.respond(b"v=" + base64.b64encode(honest._signature))
        client.finish()
    except SASLError:
        assert mutated != SERVER_FIRST
    else:
        assert mutated == SERVER_FIRST


# --- Clients that lie ----------------------------------------------------------------------------

NONCES = b"client" + base64.b64encode(bytes(range(16)))


def server_first(password: str = "pencil", header: bytes = b"n,,") -> tuple[ScramServer, bytes]:
    server = scram_server("SCRAM-SHA-256", SERVER_CONTEXT)
    assert server.start(header + b"n=user,r=client") == FetchSecret("user", "SCRAM-SHA-256")
    step = server.answer(stored(password))
    assert isinstance(step, Challenge)
    assert step.data.startswith(b"r=" + NONCES + b",s=")
    return server, step.data


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "GS2 header"),
        (b"x,,n=user,r=client", "GS2 header"),
        (b"n=user,r=client", "GS2 header"),
        (b"n,a==,n=user,r=client", "escaped"),
        (b"n,,", "no attribute"),
        (b"n,,n=user", "n=,r= are due"),
        (b"n,,r=client,n=user", "n=,r= are due"),
        (b"n,,n=user,r=client,r=again", "n=,r= are due"),
        (b"n,,n=,r=client", "no attribute"),
        (b"n,,n=user,r=", "no attribute"),
        (b"n,,n=us=er,r=client", "escaped"),
        (b"n,,n=us=2cer,r=client", "escaped"),
        (b"n,,n=us\xffer,r=client", "UTF-8"),
        (b"n,,n=us\ner,r=client", "control characters"),
        (b"n,,n=\xc2\xad,r=client", "the identity is empty"),
        (b"n,,n=\xee\x80\x80,r=client", "prohibits"),
        (b"n,a=\xc2\xad,n=user,r=client", "the identity is empty"),
        (b"n,,n=user,r=cli ent", "not printable"),
        (b"n,,n=user,r=cli\x00ent", "no attribute"),
        (b"n,,m=ext,n=user,r=client", "extension"),
        (b"n,,n=user,r=client,m=ext", "extension"),
    ],
)
def test_a_malformed_first_message_is_rejected(message: bytes, why: str) -> None:
    server = scram_server("SCRAM-SHA-256", SERVER_CONTEXT)
    step = server.start(message)
    assert isinstance(step, Rejected)
    assert step.malformed
    assert why in step.why
    assert server.answer(stored("pencil")) == OUT_OF_ORDER
    assert server.respond(message) == OUT_OF_ORDER


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "no attribute"),
        (b"c=biws,r=" + NONCES, "no attribute"),
        (b"c=biws,p=AAAA", "c=,r= are due"),
        (b"r=" + NONCES + b",c=biws,p=AAAA", "c=,r= are due"),
        (b"c=biws,r=" + NONCES + b"x,p=AAAA", "another nonce"),
        (b"c=biws,r=client,p=AAAA", "another nonce"),
        (b"c=biws,r=" + NONCES + b",m=1,p=AAAA", "extension"),
        (b"c=biws,r=" + NONCES + b",p=AAA", "the proof is not base64"),
        (b"c=biws,r=" + NONCES + b",p=", "the proof is not as long"),
        (b"c=biws,r=" + NONCES + b",p=AAAA", "the proof is not as long"),
        (b"c=biws,r=" + NONCES + b",p=" + base64.b64encode(bytes(33)), "not as long"),
        (b"c=biws,r=" + NONCES + b",p=AAAA,x=1", "the proof is not base64"),
    ],
)
def test_a_malformed_final_message_is_rejected(message: bytes, why: str) -> None:
    server, _ = server_first()
    step = server.respond(message)
    assert isinstance(step, Rejected)
    assert step.malformed
    assert why in step.why
    assert server.respond(b"") == OUT_OF_ORDER


@pytest.mark.parametrize("binding", [b"biw", b"eSws", b"biwsAQ==", b"cD10bHMtdW5pcXVlLCw="])
def test_the_header_must_be_repeated_as_it_was(binding: bytes) -> None:
    server, _ = server_first()
    step = server.respond(b"c=" + binding + b",r=" + NONCES + b",p=" + base64.b64encode(bytes(32)))
    assert step == Rejected("the client is not at the other end of this TLS connection")


@pytest.mark.parametrize(
    "value", [None, "", "pencil", True, False, stored("other"), stored("pencil", "SCRAM-SHA-1")]
)
def test_nothing_but_the_secret_is_right(value: Answer) -> None:
    context = replace(CLIENT_CONTEXT, iterations=range(1, ITERATIONS + 1))
    client = scram_client("SCRAM-SHA-256", PENCIL, context)
    server = scram_server("SCRAM-SHA-256", SERVER_CONTEXT)
    server.start(client.start())
    challenge = server.answer(value)
    assert isinstance(challenge, Challenge)
    step = server.respond(client.respond(challenge.data))
    if value == stored("pencil", "SCRAM-SHA-1"):
        assert step == Rejected("the stored secret is for SCRAM-SHA-1")
    else:
        assert step == WRONG_CREDENTIALS
    assert server.respond(b"") == OUT_OF_ORDER


def test_the_client_has_nothing_to_say_to_the_signature() -> None:
    client = scram_client("SCRAM-SHA-256", PENCIL, CLIENT_CONTEXT)
    server = scram_server("SCRAM-SHA-256", SERVER_CONTEXT)
    server.start(client.start())
    challenge = server.answer(stored("pencil"))
    assert isinstance(challenge, Challenge)
    assert isinstance(server.respond(client.respond(challenge.data)), Challenge)
    step = server.respond(b"x")
    assert isinstance(step, Rejected)
    assert step.malformed
    assert server.respond(b"") == OUT_OF_ORDER


def test_a_secret_is_asked_for_once() -> None:
    server, _ = server_first()
    assert server.answer(stored("another")) == OUT_OF_ORDER


# --- Identities that do not exist ----------------------------------------------------------------


def decoy(identity: str, context: ServerContext, name: str = "SCRAM-SHA-256") -> tuple[bytes, ...]:
    server = scram_server(name, context)
    server.start(b"n,,n=" + identity.encode() + b",r=client")
    step: Step = server.answer(None)
    assert isinstance(step, Challenge)
    nonce, salt, iterations = step.data.split(b",")
    assert nonce == b"r=" + NONCES
    assert len(base64.b64decode(salt[2:])) == 16
    assert iterations == b"i=%d" % ITERATIONS
    return salt, iterations


def test_who_does_not_exist_has_a_salt_that_stays() -> None:
    assert decoy("tim", SERVER_CONTEXT) == decoy("tim", SERVER_CONTEXT)
    assert decoy("\u2168", SERVER_CONTEXT) == decoy("IX", SERVER_CONTEXT)
    others = {
        decoy("tim", SERVER_CONTEXT),
        decoy("tom", SERVER_CONTEXT),
        decoy("tim", SERVER_CONTEXT, "SCRAM-SHA-1"),
        decoy("tim", replace(SERVER_CONTEXT, salt_key=b"other")),
    }
    assert len(others) == 4


def test_without_a_key_the_salt_cannot_be_foreseen() -> None:
    context = ServerContext(SERVER_CONTEXT.hostname, SERVER_CONTEXT.nonce)
    again = replace(context, nonce=iter([bytes(range(16)), bytes(16)]).__next__)
    assert decoy("tim", context) != decoy("tim", again)
