"""XOAUTH2, and OAUTHBEARER of RFC 7628."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    OUT_OF_ORDER,
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    Challenge,
    CheckToken,
    ClientContext,
    ClientMechanism,
    ExplainsRefusal,
    Rejected,
    TokenCredentials,
)
from smtp_proto.sasl.oauthbearer import OAuthBearerClient, OAuthBearerServer
from smtp_proto.sasl.plain import PlainClient
from smtp_proto.sasl.xoauth2 import XOAuth2Client, XOAuth2Server
from tests.sasl.exchanges import IDENTITIES, SERVER_CONTEXT, TOKENS

TOKEN = TokenCredentials("tim@example.org", "canary-7c1")
CLIENTS = pytest.mark.parametrize("make", [XOAuth2Client, OAuthBearerClient])
SERVERS = pytest.mark.parametrize(
    ("make", "message"),
    [
        (XOAuth2Server, b"user=tim@example.org\x01auth=Bearer canary-7c1\x01\x01"),
        (OAuthBearerServer, b"n,a=tim@example.org,\x01auth=Bearer canary-7c1\x01\x01"),
    ],
)


# --- The examples of the RFC ---------------------------------------------------------------------

# RFC 7628 4.1 and 4.3, as they stand there in base64. The one in 4.4 has a header that is none.
MESSAGES = {
    143: (
        "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyI"
        "HZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    ),
    587: (
        "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyI"
        "HZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    ),
}
WITHOUT_TOKEN = (
    "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9AQE="
)
OF_EXAMPLE = TokenCredentials("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")


@pytest.mark.parametrize("port", [143, 587])
def test_the_example_of_the_rfc(port: int) -> None:
    message = base64.b64decode(MESSAGES[port])
    context = ClientContext(hostname="server.example.com", port=port)
    assert OAuthBearerClient(OF_EXAMPLE, context).start() == message
    server = OAuthBearerServer(replace(SERVER_CONTEXT, hostname="server.example.com"))
    assert server.start(message) == CheckToken(OF_EXAMPLE)
    assert server.answer(True) == Accepted("user@example.com", "user@example.com")


def test_who_has_no_token_is_told_what_one_should_be_like() -> None:
    server = OAuthBearerServer(SERVER_CONTEXT)
    step = server.start(base64.b64decode(WITHOUT_TOKEN))
    assert step == Challenge(b'{"status":"invalid_token"}')
    assert server.respond(base64.b64decode("AQ==")) == WRONG_CREDENTIALS


# --- The client ----------------------------------------------------------------------------------


def test_the_message_of_xoauth2() -> None:
    credentials = TokenCredentials("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHR")
    message = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHR\x01\x01"
    assert XOAuth2Client(credentials).start() == message


@pytest.mark.parametrize(
    ("context", "server"),
    [
        (ClientContext(), b""),
        (ClientContext(hostname="mx.example.org"), b"host=mx.example.org\x01"),
        (ClientContext(port=587), b"port=587\x01"),
    ],
)
def test_the_message_of_oauthbearer(context: ClientContext, server: bytes) -> None:
    client = OAuthBearerClient(TokenCredentials("a,b=c", "t"), context)
    assert client.start() == b"n,a=a=2Cb=3Dc,\x01" + server + b"auth=Bearer t\x01\x01"


def test_a_token_may_say_itself_whose_it_is() -> None:
    client = OAuthBearerClient(TokenCredentials("", "t"))
    assert client.start() == b"n,,\x01auth=Bearer t\x01\x01"
    with pytest.raises(SASLError, match="identity"):
        XOAuth2Client(TokenCredentials("", "t"))


@CLIENTS
@pytest.mark.parametrize(
    "credentials",
    [
        TokenCredentials("tim", ""),
        TokenCredentials("tim", "canary\x01auth=x"),
        TokenCredentials("tim", "canary\r\n"),
        TokenCredentials("tim", "can ary"),
        TokenCredentials("tim", "canary\0"),
        TokenCredentials("tim", "canaryä"),
        TokenCredentials("tim", "canary\ud800"),
        TokenCredentials("t\x01im", "canary"),
        TokenCredentials("t\nim", "canary"),
    ],
    ids=repr,
)
def test_no_field_can_be_added(
    make: type[XOAuth2Client | OAuthBearerClient], credentials: TokenCredentials
) -> None:
    with pytest.raises(SASLError) as caught:
        make(credentials)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("hostname", ["mx\x01auth=x", "mx\0", "bücher.example", "mx\ud800"])
def test_the_servers_name_cannot_add_a_field(hostname: str) -> None:
    with pytest.raises(SASLError, match="server's name"):
        OAuthBearerClient(TOKEN, ClientContext(hostname=hostname))


EXPLANATION = b'{"status":"invalid_token","scope":"https://mail.example.com/"}'


@pytest.mark.parametrize(("make", "dummy"), [(XOAuth2Client, b""), (OAuthBearerClient, b"\x01")])
def test_the_servers_explanation_is_kept(
    make: type[XOAuth2Client | OAuthBearerClient], dummy: bytes
) -> None:
    client: ClientMechanism = make(TOKEN)
    client.start()
    assert isinstance(client, ExplainsRefusal)
    assert client.refusal == ""
    client.finish()
    assert client.respond(EXPLANATION) == dummy
    assert client.refusal == EXPLANATION.decode()
    with pytest.raises(SASLError, match=r"success after it refused: .*invalid_token"):
        client.finish()
    with pytest.raises(SASLError, match=f"more than {client.name}"):
        client.respond(EXPLANATION)
    assert client.refusal == EXPLANATION.decode()


def test_most_mechanisms_have_none() -> None:
    assert not isinstance(PlainClient, ExplainsRefusal)


@CLIENTS
@pytest.mark.parametrize(
    ("explanation", "refusal"),
    [
        (b"", "no reason given"),
        (b'{"a":"\x1b]0;x\x07"}\r\n', r'{"a":"\x1b]0;x\x07"}\r\n'),
        (b"\xff\xc3\xa4", r"\xffä"),
        ("\u202e".encode(), r"\u202e"),
        (b"no canary-7c1, no (canary-7c1)", "no (the token), no ((the token))"),
        (b"x" * 12_288, "x" * 1000),
    ],
)
def test_the_explanation_can_be_shown(
    make: type[XOAuth2Client | OAuthBearerClient], explanation: bytes, refusal: str
) -> None:
    client = make(TOKEN)
    client.respond(explanation)
    assert client.refusal == refusal


@CLIENTS
@given(explanation=st.binary(max_size=2000), where=st.integers(0, 2000))
def test_whatever_the_explanation_is(
    make: type[XOAuth2Client | OAuthBearerClient], explanation: bytes, where: int
) -> None:
    client = make(TOKEN)
    client.respond(explanation[:where] + b"canary-7c1" + explanation[where:])
    assert client.refusal.isprintable()
    assert 0 < len(client.refusal) <= 1000
    assert "canary" not in client.refusal


# --- The server ----------------------------------------------------------------------------------


@given(identity=IDENTITIES, token=TOKENS)
def test_what_is_written_is_read_back(identity: str, token: str) -> None:
    credentials = TokenCredentials(identity, token)
    for client, server in (
        (XOAuth2Client(credentials), XOAuth2Server(SERVER_CONTEXT)),
        (OAuthBearerClient(credentials), OAuthBearerServer(SERVER_CONTEXT)),
    ):
        assert server.start(client.start()) == CheckToken(credentials)


@SERVERS
def test_a_refused_token_is_explained(
    make: type[XOAuth2Server | OAuthBearerServer], message: bytes
) -> None:
    for value in (False, None, "", "canary-7c1"):
        for dummy in (b"", b"\x01", message):
            server = make(SERVER_CONTEXT)
            assert server.start(None) == Challenge(b"")
            assert server.respond(message) == CheckToken(TOKEN)
            answer: Answer = value
            assert server.answer(answer) == Challenge(make.explanation)
            assert server.respond(dummy) == WRONG_CREDENTIALS


@SERVERS
def test_the_token_is_hidden(make: type[XOAuth2Server | OAuthBearerServer], message: bytes) -> None:
    step = make(SERVER_CONTEXT).start(message)
    assert repr(step) == (
        "CheckToken(credentials=TokenCredentials(authentication_identity='tim@example.org'))"
    )


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"user=tim\x01auth=Bearer t\x01",
        b"user=tim\x01auth=Bearer t\x01\x01\x01",
        b"user=tim\x01auth=Bearer \x01\x01",
        b"user=tim\x01auth=Bearer t t\x01\x01",
        b"user=tim\x01auth=Basic t\x01\x01",
        b"user=tim\x01\x01",
        b"user=\x01auth=Bearer t\x01\x01",
        b"user=t\nim\x01auth=Bearer t\x01\x01",
        b"user=\xff\x01auth=Bearer t\x01\x01",
        b"auth=Bearer t\x01user=tim\x01\x01",
        b" user=tim\x01auth=Bearer t\x01\x01",
    ],
)
def test_what_is_no_message_of_xoauth2(message: bytes) -> None:
    server = XOAuth2Server(SERVER_CONTEXT)
    step = server.start(message)
    assert isinstance(step, Rejected)
    assert step.malformed
    assert server.answer(True) == OUT_OF_ORDER


@pytest.mark.parametrize(
    "message",
    [
        b"user=tim\x01auth=Bearer t\x01\x01",
        b"USER=tim\x01Auth=bearer t\x01\x01",
    ],
)
def test_the_case_of_letters_is_the_same(message: bytes) -> None:
    step = XOAuth2Server(SERVER_CONTEXT).start(message)
    assert step == CheckToken(TokenCredentials("tim", "t"))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "GS2 header"),
        (b"\x01", "gives up"),
        (b"n,a=tim,", "keys and values"),
        (b"n,a=tim,\x01", "keys and values"),
        (b"n,a=tim,auth=Bearer t\x01\x01", "keys and values"),
        (b"n,a=tim,\x01auth=Bearer t\x01", "keys and values"),
        (b"n,a=tim,\x01auth=Bearer t\x01\x01\x01", "keys and values"),
        (b"n,a=tim,\x01auth\x01\x01", "keys and values"),
        (b"n,a=tim,\x01=t\x01\x01", "keys and values"),
        (b"n,a=tim,\x01a1=t\x01\x01", "keys and values"),
        (b"n,a=tim,\x01auth=Bearer t\0\x01\x01", "keys and values"),
        (b"n,a=tim,\x01auth=Bearer \xff\x01\x01", "keys and values"),
        (b"n,a=tim,\x01auth=Bearer t\x01auth=Bearer u\x01\x01", "there twice"),
        (b"n,a=tim,\x01host=a\x01host=a\x01auth=Bearer t\x01\x01", "there twice"),
        (b"n,,\x01auth=Bearer t\x01\x01", "whom the token is for"),
        (b"n,a=t=im,\x01auth=Bearer t\x01\x01", "escaped"),
        (b"n,a=t\nim,\x01auth=Bearer t\x01\x01", "control"),
        (b"n,user=tim,\x01auth=Bearer t\x01\x01", "GS2 header"),
        (b"p=tls-unique,a=tim,\x01auth=Bearer t\x01\x01", "no channel binding"),
    ],
)
def test_what_is_no_message_of_oauthbearer(message: bytes, why: str) -> None:
    server = OAuthBearerServer(SERVER_CONTEXT)
    step = server.start(message)
    assert isinstance(step, Rejected)
    assert step.malformed
    assert why in step.why
    assert server.answer(True) == OUT_OF_ORDER


@pytest.mark.parametrize(
    "message",
    [
        b"n,a=tim,\x01auth=Bearer t\x01\x01",
        b"y,a=tim,\x01auth=Bearer t\x01\x01",
        b"n,a=tim,\x01auth=BeArEr t\x01\x01",
        b"n,a=tim,\x01auth=Bearer   t \x01\x01",
        b"n,a=tim,\x01port=587\x01auth=Bearer t\x01x=a=b \t\r\n\x01y=\x01\x01",
        b"n,a=tim,\x01host=elsewhere\x01auth=Bearer t\x01\x01",
    ],
)
def test_messages_of_all_sorts(message: bytes) -> None:
    step = OAuthBearerServer(SERVER_CONTEXT).start(message)
    assert step == CheckToken(TokenCredentials("tim", "t"))


@pytest.mark.parametrize(
    "auth", [b"", b"Bearer", b"Bearer ", b"t", b"Basic dDp0", b"Bearer a b", b"OAuth realm=x"]
)
def test_what_is_no_bearer_token_is_explained(auth: bytes) -> None:
    server = OAuthBearerServer(SERVER_CONTEXT)
    step = server.start(b"n,a=tim,\x01auth=" + auth + b"\x01\x01")
    assert step == Challenge(OAuthBearerServer.explanation)
    assert server.answer(True) == OUT_OF_ORDER
    assert server.respond(b"\x01") == WRONG_CREDENTIALS


def test_a_token_for_another_server_is_rejected() -> None:
    context = replace(SERVER_CONTEXT, reached_as=frozenset({"mx.example.org"}))
    for host, meant in ((b"MX.example.org", True), (b"mx.example.com", False), (b"", False)):
        message = b"n,a=tim,\x01host=" + host + b"\x01auth=Bearer t\x01\x01"
        step = OAuthBearerServer(context).start(message)
        assert isinstance(step, CheckToken) is meant
    assert isinstance(
        OAuthBearerServer(context).start(b"n,a=tim,\x01auth=Bearer t\x01\x01"), CheckToken
    )


@SERVERS
@given(position=st.integers(0, 60), octets=st.binary(max_size=3))
def test_no_message_makes_it_raise(
    make: type[XOAuth2Server | OAuthBearerServer], message: bytes, position: int, octets: bytes
) -> None:
    changed = message[:position] + octets + message[position + 1 :]
    assert isinstance(make(SERVER_CONTEXT).start(changed), CheckToken | Rejected | Challenge)
