"""XOAUTH2, and OAUTHBEARER of RFC 7628."""

import base64
import json
from collections.abc import Mapping
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
    TokenSource,
)
from smtp_proto.sasl.oauthbearer import OAuthBearerClient, OAuthBearerServer
from smtp_proto.sasl.plain import PlainClient
from smtp_proto.sasl.xoauth2 import XOAuth2Client, XOAuth2Server
from smtp_proto.wire.errors import escaped
from tests.sasl.exchanges import IDENTITIES, SERVER_CONTEXT, TOKENS

TOKEN = TokenCredentials("tim@example.org", "canary-7c1")
WITHOUT_BACKSLASH = st.text(st.characters(exclude_characters="\\"))
CLIENTS = pytest.mark.parametrize("make", [XOAuth2Client, OAuthBearerClient])
SERVERS = pytest.mark.parametrize(
    ("make", "message"),
    [
        (XOAuth2Server, b"user=tim@example.org\x01auth=Bearer canary-7c1\x01\x01"),
        (OAuthBearerServer, b"n,a=tim@example.org,\x01auth=Bearer canary-7c1\x01\x01"),
    ],
)


# --- The examples of the RFC ---------------------------------------------------------------------

# RFC 7628 4.1, 4.3 and 4.4, as they stand there in base64. What the client of 4.4 says has a header
# that is none.
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


# RFC 7628 4.3, 4.4
@pytest.mark.parametrize(
    ("explanation", "fields", "readable"),
    [
        (
            (
                "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJleGFtcGxlX3Njb3BlIiwib3BlbmlkLWNvbm"
                "ZpZ3VyYXRpb24iOiJodHRwczovL2V4YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0"
                "aW9uIn0="
            ),
            {
                "status": "invalid_token",
                "scope": "example_scope",
                "openid-configuration": "https://example.com/.well-known/openid-configuration",
            },
            (
                '{"status":"invalid_token","scope":"example_scope","openid-configuration":'
                '"https://example.com/.well-known/openid-configuration"}'
            ),
        ),
        (
            (
                "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NoZW1lcyI6ImJlYXJlciBtYWMiLCJzY29wZSI6Imh0dH"
                "BzOi8vbWFpbC5leGFtcGxlLmNvbS8ifQ=="
            ),
            {"status": "invalid_token", "scope": "https://mail.example.com/"},
            (
                '{"status":"invalid_token","schemes":"bearer mac",'
                '"scope":"https://mail.example.com/"}'
            ),
        ),
    ],
)
def test_the_refusals_of_the_rfc(
    explanation: str, fields: Mapping[str, str], readable: str
) -> None:
    client = OAuthBearerClient(OF_EXAMPLE)
    client.start()
    assert client.respond(base64.b64decode(explanation)) == base64.b64decode("AQ==")
    assert client.refusal_fields == fields
    assert client.refusal == readable


# RFC 7628 4.2
def test_another_scheme_is_no_bearer_token() -> None:
    message = (
        "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9ZXhhbXBsZS5jb20BcG9ydD0xNDMBYXV0aD1PQXV0aCByZWFsbT0iRX"
        "hhbXBsZSIsb2F1dGhfY29uc3VtZXJfa2V5PSI5ZGpkajgyaDQ4ZGpzOWQyIixvYXV0aF90b2tlbj0ia2trOWQ3ZGgz"
        "azM5c2p2NyIsb2F1dGhfc2lnbmF0dXJlX21ldGhvZD0iSE1BQy1TSEExIixvYXV0aF90aW1lc3RhbXA9IjEzNzEzMT"
        "IwMSIsb2F1dGhfbm9uY2U9IjdkOGYzZTRhIixvYXV0aF9zaWduYXR1cmU9IlRtOTBJR0VnY21WaGJDQnphV2R1WVhS"
        "MWNtVSUzRCIBAQ=="
    )
    server = OAuthBearerServer(SERVER_CONTEXT)
    assert server.start(base64.b64decode(message)) == Challenge(OAuthBearerServer.explanation)


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
    assert client.refusal_fields == {}
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
        (b"no\r\n", "no"),
        (b"\xff\xc3\xa4", "\ufffdä"),
        (b"no canary-7c1, no (canary-7c1)", "no (the token), no ((the token))"),
        (b"x" * 12_288, "x" * 1000),
        (b"[" * 12_288, "[" * 1000),
        (b"1" * 12_288, "1" * 1000),
        (b'["status"]', '["status"]'),
        (rb'"\u0063anary-7c1"', '"(the token)"'),
        (b'{"status":"401"', '{"status":"401"'),
        (b'{"status":401,"scope":null,"other":["x"]}', '{"status":401,"scope":null,"other":["x"]}'),
        (b'{"x":1E999}', '{"x":Infinity}'),
        (rb'{"a":"\u0063anary-7c1"}', '{"a":"(the token)"}'),
        (rb'{"a":"\ud800\u001b"}', r'{"a":"\ud800\u001b"}'),
        (rb'{"a":"f\u00fcr"}', '{"a":"für"}'),
    ],
)
def test_the_explanation_can_be_shown(
    make: type[XOAuth2Client | OAuthBearerClient], explanation: bytes, refusal: str
) -> None:
    client = make(TOKEN)
    client.respond(explanation)
    assert client.refusal == refusal
    assert client.refusal_fields == {}


ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in TOKEN.token)
NOT_SHOWN = "not shown: the token may be hidden in it"


@CLIENTS
@pytest.mark.parametrize(
    "explanation",
    [
        f'{{"status":"{ESCAPED}",}}',
        f'{{"status":"{ESCAPED}","n":{"9" * 5000}}}',
        f'{{"status":"{ESCAPED}","n":{"[" * 200_000}{"]" * 200_000}}}',
        f'{{"status":"{ESCAPED}"',
        ESCAPED,
        json.dumps({"status": ESCAPED}),
        json.dumps({ESCAPED: json.dumps(ESCAPED)}),
        "\0".join(TOKEN.token),
        "\u200b".join(TOKEN.token),
        "\x1b]0;x\x07",
        "\u202ex",
    ],
)
def test_a_token_that_may_be_hidden_is_not_shown(
    make: type[XOAuth2Client | OAuthBearerClient], explanation: str
) -> None:
    for encoding in ("utf-8", "utf-16-le", "utf-16"):
        client = make(TOKEN)
        client.respond(explanation.encode(encoding))
        assert client.refusal == NOT_SHOWN
        assert set(client.refusal_fields.values()) <= {NOT_SHOWN}


@CLIENTS
def test_the_fields_of_a_refusal_can_be_shown(
    make: type[XOAuth2Client | OAuthBearerClient],
) -> None:
    client = make(TOKEN)
    assert client.refusal_fields == {}
    client.respond(
        b'{"status":"\\u001b[2J","scope":"%s","openid-configuration":"canary-\\u0037c1","error":"x"}'
        % (b"x" * 5000)
    )
    assert client.refusal_fields == {
        "status": r"\x1b[2J",
        "scope": "x" * 1000,
        "openid-configuration": "(the token)",
    }


def test_depth_is_no_trouble() -> None:
    for depth in (*range(1, 3000, 7), *range(900, 1000), 6000):
        client = OAuthBearerClient(TOKEN)
        client.respond(b'{"status":"401","more":' + b"[" * depth + b"]" * depth + b"}")
        assert client.refusal.startswith('{"status":"401","more":[')
        assert client.refusal_fields in ({"status": "401"}, {})


def test_a_token_can_be_hidden_by_what_json_escapes() -> None:
    client = OAuthBearerClient(TokenCredentials("tim", 'can"ary\\/'))
    client.respond(rb'{"status":"can\"ary\\\/","can\"ary\\/":1}')
    assert client.refusal == '{"status":"(the token)","(the token)":1}'
    assert client.refusal_fields == {"status": "(the token)"}


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


@CLIENTS
@given(
    refusal=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | WITHOUT_BACKSLASH,
        lambda inner: st.lists(inner) | st.dictionaries(WITHOUT_BACKSLASH, inner),
    ),
    status=WITHOUT_BACKSLASH,
    scope=WITHOUT_BACKSLASH | st.integers(),
)
def test_whatever_the_fields_are(
    make: type[XOAuth2Client | OAuthBearerClient],
    refusal: object,
    status: str,
    scope: str | int,
) -> None:
    client = make(TOKEN)
    client.respond(json.dumps({"status": status, "scope": scope, "more": refusal}).encode())
    assert client.refusal.startswith('{"status":"')
    assert set(client.refusal_fields) == {"status", *(["scope"] if isinstance(scope, str) else [])}
    assert client.refusal_fields["status"] == escaped(status)
    for shown in (client.refusal, *client.refusal_fields.values()):
        assert shown.isprintable()
        assert len(shown) <= 1000


# --- A source of tokens --------------------------------------------------------------------------


@CLIENTS
def test_a_source_of_tokens_is_not_asked_here(
    make: type[XOAuth2Client | OAuthBearerClient],
) -> None:
    def fetch() -> str:
        raise AssertionError("it is for others to ask")

    client = make(TokenSource("tim", fetch))
    with pytest.raises(SASLError, match="has to be fetched first"):
        client.start()
    with pytest.raises(SASLError, match="more than"):
        client.respond(b"{}")
    assert client.refusal == ""
    with pytest.raises(SASLError, match="control characters"):
        make(TokenSource("t\x01im", fetch))
    assert "fetch" not in repr(TokenSource("tim", fetch))


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


@pytest.mark.parametrize("make", [XOAuth2Server, OAuthBearerServer])
def test_what_explains_a_refusal_is_json(make: type[XOAuth2Server | OAuthBearerServer]) -> None:
    fields = json.loads(make.explanation)
    assert fields["status"] in {"401", "invalid_token"}  # RFC 7628 3.2.2
