"""DIGEST-MD5, RFC 2831."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.digest_md5 import DigestMD5Client, DigestMD5Server
from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    Challenge,
    ClientContext,
    ClientMechanism,
    Credentials,
    FetchPassword,
    Rejected,
)
from tests.sasl.exchanges import CLIENT_CONTEXT, SERVER_CONTEXT, Wire

# RFC 2831 4
EXAMPLES = pytest.mark.parametrize(
    ("service", "nonce", "cnonce", "response", "rspauth"),
    [
        (
            "imap",
            b"OA6MG9tEQGm2hh",
            b"OA6MHXh6VqTrRk",
            b"d388dad90d4bbd760a152321f2143af7",
            b"ea40f60335c427b5527b84dbabcdfffd",
        ),
        (
            "acap",
            b"OA9BSXrbuRhWay",
            b"OA9BSuZWMSpW8m",
            b"6084c6db3fede7352c551284490fd0fc",
            b"2f0b3d7c3c2e486600ef710726aa2eae",
        ),
    ],
    ids=["imap", "acap"],
)


def challenge_of_example(nonce: bytes) -> bytes:
    return (
        b'realm="elwood.innosoft.com",nonce="%s",qop="auth",algorithm=md5-sess,charset=utf-8'
        % nonce
    )


def response_of_example(service: str, nonce: bytes, cnonce: bytes, response: bytes) -> bytes:
    return (
        b'charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="%s",nc=00000001,'
        b'cnonce="%s",digest-uri="%s/elwood.innosoft.com",response=%s,qop=auth'
    ) % (nonce, cnonce, service.encode(), response)


@EXAMPLES
def test_the_client_of_the_example(
    service: str, nonce: bytes, cnonce: bytes, response: bytes, rspauth: bytes
) -> None:
    context = ClientContext(nonce=bytes, hostname="elwood.innosoft.com", service=service)
    client = DigestMD5Client(Credentials("chris", "secret"), context)
    client._cnonce = cnonce  # it is not one of those that are made here
    mechanism: ClientMechanism = client
    assert mechanism.start() is None
    assert client.respond(challenge_of_example(nonce)) == response_of_example(
        service, nonce, cnonce, response
    )
    assert client.respond(b"rspauth=" + rspauth) == b""
    client.finish()


@EXAMPLES
def test_the_server_of_the_example(
    service: str, nonce: bytes, cnonce: bytes, response: bytes, rspauth: bytes
) -> None:
    context = replace(SERVER_CONTEXT, hostname="elwood.innosoft.com", service=service)
    server = DigestMD5Server(context)
    server._nonce = nonce  # it is not one of those that are made here
    assert server.start(None) == Challenge(challenge_of_example(nonce))
    message = response_of_example(service, nonce, cnonce, response)
    assert server.respond(message) == FetchPassword("chris")
    assert server.answer("secret") == Challenge(b"rspauth=" + rspauth)
    assert server.respond(b"") == Accepted("chris", "chris")


# --- The client ----------------------------------------------------------------------------------

CHALLENGE = b'realm="mx",nonce="n0nce",qop="auth",algorithm=md5-sess,charset=utf-8'


def client_of(identity: str = "tim", password: str = "canary-7c1") -> DigestMD5Client:
    return DigestMD5Client(Credentials(identity, password), CLIENT_CONTEXT)


def test_what_it_cannot_do_without() -> None:
    credentials = Credentials("tim", "secret")
    with pytest.raises(SASLError, match="random"):
        DigestMD5Client(credentials, replace(CLIENT_CONTEXT, nonce=None))
    with pytest.raises(SASLError, match="server's name"):
        DigestMD5Client(credentials, replace(CLIENT_CONTEXT, hostname=""))


def test_quotes_are_escaped_and_cannot_add_a_directive() -> None:
    client = DigestMD5Client(Credentials('t"i\\m,qop=x', "p", 'u"'), CLIENT_CONTEXT)
    response = client.respond(CHALLENGE.replace(b"n0nce", b'n\\"0\\\\nce'))
    assert rb'username="t\"i\\m,qop=x",' in response
    assert rb'nonce="n\"0\\nce",' in response
    assert response.endswith(rb',authzid="u\""')


@pytest.mark.parametrize(
    "challenge",
    [
        b'nonce="n0nce",algorithm=md5-sess',
        b'  ,, nonce = "n0nce" ,\r\n\talgorithm=MD5-sess,,',
        b"nonce=n0nce,algorithm=md5-sess",
        b'NONCE="n\\0nce",Algorithm="md5-sess"',
        b'nonce="n0nce",algorithm=md5-sess,qop="auth-conf, auth-int,auth",cipher="rc4",maxbuf=1024',
        b'nonce="n0nce",algorithm=md5-sess,opaque="x",opaque="y",domain=z,stale=true',
    ],
)
def test_challenges_of_all_sorts(challenge: bytes) -> None:
    """Without a realm and a charset, the response has none; all of these are the same."""
    cnonce = b"EBESExQVFhcYGRobHB0eHw=="
    # RFC 2831 2.1.2.1, written out
    secret = hashlib.md5(b"tim::canary-7c1").digest()
    key = hashlib.md5(secret + b":n0nce:" + cnonce).hexdigest().encode()
    a2 = hashlib.md5(b"AUTHENTICATE:smtp/mx.example.org").hexdigest().encode()
    digest = hashlib.md5(key + b":n0nce:00000001:" + cnonce + b":auth:" + a2).hexdigest()
    assert client_of().respond(challenge) == (
        b'username="tim",nonce="n0nce",nc=00000001,cnonce="%s",'
        b'digest-uri="smtp/mx.example.org",response=%s,qop=auth'
    ) % (cnonce, digest.encode())


def test_of_several_realms_the_first_is_taken() -> None:
    response = client_of().respond(CHALLENGE + b',realm="other"')
    assert b',realm="mx",' in response
    assert b"other" not in response


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        (b"", "no list of directives"),
        (b",,", "no list of directives"),
        (b"rubbish", "no list of directives"),
        (CHALLENGE + b',x="', "no list of directives"),
        (CHALLENGE + b',x="\\"', "no list of directives"),
        (CHALLENGE + b',x="y"z', "no list of directives"),
        (CHALLENGE + b",x=", "no list of directives"),
        (CHALLENGE + b",x=y z", "no list of directives"),
        (CHALLENGE + b",=y", "no list of directives"),
        (CHALLENGE + b",x=" + b"y" * 2048, "more than 2047 octets"),
        (CHALLENGE.replace(b'nonce="n0nce",', b""), "nonce is not there"),
        (CHALLENGE + b",nonce=again", "nonce is not there, or more than once"),
        (CHALLENGE.replace(b"algorithm=md5-sess,", b""), "algorithm is not there"),
        (CHALLENGE.replace(b"md5-sess", b"md5"), "algorithm is not md5-sess"),
        (CHALLENGE + b",algorithm=md5-sess", "algorithm is not there, or more than once"),
        (CHALLENGE.replace(b"utf-8", b"latin-1"), "charset is not utf-8"),
        (CHALLENGE + b",charset=utf-8", "charset is not there, or more than once"),
        (CHALLENGE.replace(b'"auth"', b'"auth-int,auth-conf"'), "security layer"),
        (CHALLENGE.replace(b'"auth"', b'""'), "security layer"),
        (CHALLENGE + b",qop=auth", "qop is not there, or more than once"),
    ],
)
def test_a_challenge_that_makes_no_sense(challenge: bytes, why: str) -> None:
    client = client_of()
    with pytest.raises(SASLError, match=why) as caught:
        client.respond(challenge)
    assert "canary" not in str(caught.value)
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()


@pytest.mark.parametrize(
    "final",
    [
        b"",
        b"rspauth=",
        b"rspauth=ea40f60335c427b5527b84dbabcdfffd",
        b"response=ea40f60335c427b5527b84dbabcdfffd",
        CHALLENGE,
    ],
)
def test_a_server_that_does_not_prove_itself(final: bytes) -> None:
    client = client_of()
    client.respond(CHALLENGE)
    with pytest.raises(SASLError):
        client.respond(final)
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()


def test_success_before_the_servers_digest_is_no_success() -> None:
    client = client_of()
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()
    client.respond(CHALLENGE)
    with pytest.raises(SASLError, match="before it has proven itself"):
        client.finish()
    client.respond(b"rspauth=" + client._expected)
    client.finish()
    with pytest.raises(SASLError, match="more than DIGEST-MD5"):
        client.respond(b"")


def test_the_password_is_not_kept_longer_than_it_is_needed() -> None:
    client = client_of()
    assert client._password == "canary-7c1"
    client.respond(CHALLENGE)
    assert client._password == ""


@pytest.mark.parametrize(("identity", "password"), [("€", "p"), ("u", "€"), ("€", "€")])
def test_without_a_charset_there_is_latin_1_only(identity: str, password: str) -> None:
    latin = CHALLENGE.replace(b",charset=utf-8", b"")
    with pytest.raises(SASLError, match="ISO 8859-1"):
        client_of(identity, password).respond(latin)
    response = client_of("jörg", "grün").respond(latin)
    assert b'username="j\xf6rg"' in response
    assert b"charset" not in response
    assert 'username="jörg"'.encode() in client_of("jörg", "grün").respond(CHALLENGE)


# --- The server ----------------------------------------------------------------------------------

NONCE = b"AAECAwQFBgcICQoLDA0ODw=="
RESPONSE = (
    b'username="tim",realm="mx.example.org",nonce="%s",nc=00000001,cnonce="c",'
    b'digest-uri="smtp/mx.example.org",response=0123456789abcdef0123456789abcdef' % NONCE
)


def test_the_challenge_has_the_nonce() -> None:
    challenge = Challenge(
        b'realm="mx.example.org",nonce="%s",qop="auth",algorithm=md5-sess,charset=utf-8' % NONCE
    )
    assert DigestMD5Server(SERVER_CONTEXT).start(None) == challenge
    # RFC 2831 2.2.2: who tries to go on with an earlier one begins anew.
    assert DigestMD5Server(SERVER_CONTEXT).start(RESPONSE) == challenge


@pytest.mark.parametrize("name", ["tim", "jörg", "grün €", '"', "\\"])
@pytest.mark.parametrize("password", ["secret", "grün", "€ grün"])
@pytest.mark.parametrize("charset", [True, False])
def test_names_and_passwords_of_either_charset(name: str, password: str, charset: bool) -> None:
    class LatinServer(DigestMD5Server):
        """One that does not offer UTF-8, as an old one."""

        def start(self, _initial_response: bytes | None) -> Challenge:
            step = super().start(None)
            assert isinstance(step, Challenge)
            return Challenge(step.data.replace(b",charset=utf-8", b""))

    server = DigestMD5Server(SERVER_CONTEXT) if charset else LatinServer(SERVER_CONTEXT)
    wire = Wire({name: password})
    if charset or "€" not in name + password:
        assert wire.run(client_of(name, password), server) == Accepted(name, name)
    else:
        with pytest.raises(SASLError, match="ISO 8859-1"):
            wire.run(client_of(name, password), server)


def test_without_a_charset_a_name_is_latin_1() -> None:
    message = RESPONSE.replace(b"tim", b"j\xf6rg")
    assert DigestMD5Server(SERVER_CONTEXT).respond(message) == FetchPassword("jörg")
    step = DigestMD5Server(SERVER_CONTEXT).respond(message + b",charset=utf-8")
    assert isinstance(step, Rejected)
    assert step.malformed


@pytest.mark.parametrize("value", [None, "", False, True, "Secret", "\ud800"])
def test_nothing_but_the_password_is_right(value: Answer) -> None:
    server = DigestMD5Server(SERVER_CONTEXT)
    client = client_of("tim", "secret")
    step = server.start(None)
    assert isinstance(step, Challenge)
    assert server.respond(client.respond(step.data)) == FetchPassword("tim")
    assert server.answer(value) == WRONG_CREDENTIALS
    assert server.respond(b"") == OUT_OF_ORDER


def test_an_empty_password_is_nobodys() -> None:
    # The response of who knows that an identity has no password. RFC 2831 2.1.2.1, written out
    secret = hashlib.md5(b"tim:mx.example.org:").digest()
    key = hashlib.md5(secret + b":%s:c" % NONCE).hexdigest().encode()
    a2 = hashlib.md5(b"AUTHENTICATE:smtp/mx.example.org").hexdigest().encode()
    digest = hashlib.md5(key + b":%s:00000001:c:auth:" % NONCE + a2).hexdigest().encode()
    message = RESPONSE.replace(b"0123456789abcdef0123456789abcdef", digest)
    for value in (None, ""):
        server = DigestMD5Server(SERVER_CONTEXT)
        assert server.respond(message) == FetchPassword("tim")
        assert server.answer(value) == WRONG_CREDENTIALS


def test_the_client_has_nothing_to_say_to_the_digest() -> None:
    server = DigestMD5Server(SERVER_CONTEXT)
    step = server.start(None)
    assert isinstance(step, Challenge)
    server.respond(client_of("tim", "secret").respond(step.data))
    assert isinstance(server.answer("secret"), Challenge)
    step = server.respond(b"x")
    assert isinstance(step, Rejected)
    assert step.malformed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'username="tim",', b""),
        (b'username="tim"', b'username=""'),
        (b'username="tim"', b'username="t\nim"'),
        (b'username="tim"', b'username="tim",username="tom"'),
        (b'realm="mx.example.org",', b""),
        (b'realm="mx.example.org"', b'realm="other"'),
        (b'realm="mx.example.org"', b'realm="mx.example.org",realm="mx.example.org"'),
        (NONCE, b"another"),
        (b"nonce=", b"nonc="),
        (b"nc=00000001,", b""),
        (b"nc=00000001", b"nc=00000002"),
        (b"nc=00000001", b"nc=1"),
        (b'cnonce="c",', b""),
        (b'cnonce="c"', b'cnonce="c",cnonce="c"'),
        (b'cnonce="c"', b'cnonce="c",qop=auth-int'),
        (b'cnonce="c"', b'cnonce="c",charset=latin-1'),
        (b'cnonce="c"', b'cnonce="c",authzid=""'),
        (b'cnonce="c"', b'cnonce="c",authzid="\xff"'),
        (b'cnonce="c"', b'cnonce="c'),
        (b'digest-uri="smtp/mx.example.org",', b""),
        (b'digest-uri="smtp/mx.example.org"', b'digest-uri="imap/mx.example.org"'),
        (b'digest-uri="smtp/mx.example.org"', b'digest-uri="smtp"'),
        (b'digest-uri="smtp/mx.example.org"', b'digest-uri="smtp/"'),
        (b'digest-uri="smtp/mx.example.org"', b'digest-uri="smtp/a/b/c"'),
        (b",response=0123456789abcdef0123456789abcdef", b""),
        (b"tim", b"t" * 4096),
        (RESPONSE, b""),
    ],
)
def test_a_malformed_response_is_rejected(old: bytes, new: bytes) -> None:
    assert DigestMD5Server(SERVER_CONTEXT).respond(RESPONSE) == FetchPassword("tim")
    assert old in RESPONSE
    server = DigestMD5Server(SERVER_CONTEXT)
    step = server.respond(RESPONSE.replace(old, new))
    assert isinstance(step, Rejected)
    assert step.malformed
    assert server.answer("secret") == OUT_OF_ORDER
    assert server.respond(RESPONSE) == OUT_OF_ORDER


@pytest.mark.parametrize(
    ("digest_uri", "meant"),
    [
        (b"smtp/mx.example.org", True),
        (b"SMTP/MX.Example.org", True),
        (b"smtp/mx.example.org/example.org", True),
        (b"smtp/other.example.org", False),
        (b"smtp/mx.example.org.", False),
        (b"smtp/\xff", False),
        (b"lmtp/mx.example.org", False),
    ],
)
def test_a_response_for_another_server_is_rejected(digest_uri: bytes, meant: bool) -> None:
    context = replace(SERVER_CONTEXT, reached_as=frozenset({"mx.example.org", "mail.example.org"}))
    message = RESPONSE.replace(b"smtp/mx.example.org", digest_uri)
    step = DigestMD5Server(context).respond(message)
    if meant:
        assert step == FetchPassword("tim")
    else:
        assert step == Rejected("the response is meant for another server", malformed=True)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_no_message_makes_it_raise(position: int, octets: bytes) -> None:
    message = RESPONSE[:position] + octets + RESPONSE[position + len(octets) :]
    assert isinstance(DigestMD5Server(SERVER_CONTEXT).respond(message), FetchPassword | Rejected)
