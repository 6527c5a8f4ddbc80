"""Every mechanism, its client against its server."""

import base64
import contextlib
from typing import ClassVar

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    AnyCredentials,
    Challenge,
    ClientMechanism,
    Credentials,
    Mechanism,
    Rejected,
    ServerMechanism,
    Step,
    TokenCredentials,
)
from smtp_proto.sasl.registry import MECHANISMS
from smtp_proto.sasl.saslprep import prepare_identity, prepare_password
from tests.sasl.exchanges import (
    CLIENT_CONTEXT,
    IDENTITIES,
    PASSWORDS,
    SERVER_CONTEXT,
    TOKEN_MECHANISMS,
    TOKENS,
    Wire,
    credentials_for,
    server_of,
    stored,
)

SCRAM = [each for each in MECHANISMS if each.name.startswith("SCRAM-")]
WITH_SECRET = [each for each in MECHANISMS if each.name not in {"EXTERNAL", "ANONYMOUS"}]
WITH_PASSWORD = [each for each in WITH_SECRET if each.name not in TOKEN_MECHANISMS]


def each_of(mechanisms: list[Mechanism]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mechanism", mechanisms, ids=lambda mechanism: mechanism.name)


def draw_account(data: st.DataObject, mechanism: Mechanism) -> tuple[str, str, str]:
    """An identity and a secret that the mechanism can carry, and the identity as it arrives."""
    identity = data.draw(IDENTITIES)
    secret = data.draw(TOKENS if mechanism.name in TOKEN_MECHANISMS else PASSWORDS)
    if mechanism not in SCRAM:
        return identity, secret, identity
    try:
        prepare_password(secret)
        return identity, secret, prepare_identity(identity)
    except SASLError:
        assume(False)
        raise


@each_of(WITH_SECRET)
@given(data=st.data(), early=st.booleans())
def test_the_right_secret_is_accepted(
    mechanism: Mechanism, data: st.DataObject, early: bool
) -> None:
    identity, secret, arriving = draw_account(data, mechanism)
    client = mechanism.client(credentials_for(mechanism.name, identity, secret), CLIENT_CONTEXT)
    wire = Wire({arriving: secret})
    outcome = wire.run(client, server_of(mechanism), early=early)
    assert outcome == Accepted(arriving, arriving)


@each_of(WITH_SECRET)
@given(data=st.data())
def test_a_wrong_secret_is_rejected(mechanism: Mechanism, data: st.DataObject) -> None:
    identity, secret, arriving = draw_account(data, mechanism)
    client = mechanism.client(credentials_for(mechanism.name, identity, secret), CLIENT_CONTEXT)
    assume(secret != "another")
    wire = Wire({arriving: "another"})
    assert wire.run(client, server_of(mechanism)) == WRONG_CREDENTIALS


@each_of(WITH_SECRET)
@settings(max_examples=5)
@given(data=st.data())
def test_an_unknown_name_looks_like_a_wrong_secret(
    mechanism: Mechanism, data: st.DataObject
) -> None:
    identity, secret, arriving = draw_account(data, mechanism)
    assume(secret != "another")
    outcomes: list[tuple[list[type], Rejected | Accepted]] = []
    for secrets in ({arriving: "another"}, {}):
        credentials = credentials_for(mechanism.name, identity, secret)
        wire = Wire(secrets)
        outcome = wire.run(mechanism.client(credentials, CLIENT_CONTEXT), server_of(mechanism))
        outcomes.append(([type(step) for step in wire.steps], outcome))
    assert outcomes[0] == outcomes[1]


@each_of(
    [each for each in WITH_SECRET if each.name not in {"LOGIN", "CRAM-MD5", *TOKEN_MECHANISMS}]
)
@pytest.mark.parametrize("allowed", [True, False])
def test_acting_as_another_is_the_applications_affair(mechanism: Mechanism, allowed: bool) -> None:
    context = SERVER_CONTEXT
    if allowed:
        context = type(context)(
            context.hostname,
            context.nonce,
            channel_bindings=context.channel_bindings,
            proxy_authorization=True,
        )
    credentials = Credentials("kurt", "xipj3plmq", "ursel, =")
    wire = Wire({"kurt": "xipj3plmq"})
    outcome = wire.run(mechanism.client(credentials, CLIENT_CONTEXT), server_of(mechanism, context))
    if allowed:
        assert outcome == Accepted("kurt", "ursel, =")
        # The application was shown whom the client wants to act as before it decided.
        assert any("ursel, =" in repr(step) for step in wire.steps[:-1])
    else:
        assert outcome == Rejected("acting as another identity is not allowed")
    same = Credentials("kurt", "xipj3plmq", "kurt")
    client = mechanism.client(same, CLIENT_CONTEXT)
    assert wire.run(client, server_of(mechanism, context)) == Accepted("kurt", "kurt")


@each_of(WITH_SECRET)
def test_nothing_shows_the_secret(mechanism: Mechanism) -> None:
    canary = "canary-7c1"
    credentials = credentials_for(mechanism.name, "tim", canary)
    client = mechanism.client(credentials, CLIENT_CONTEXT)
    server, wire = server_of(mechanism), Wire({"tim": canary})
    wire.run(client, server)
    shown = repr((credentials, client, server, wire.steps)) + str(credentials)
    assert "tim" in shown
    sent = b" ".join(wire.responses)
    assert (canary.encode() in sent) is mechanism.client.reveals_password
    for secret in (canary, base64.b64encode(canary.encode()).decode(), canary.encode().hex()):
        assert secret not in shown


@each_of(list(MECHANISMS))
@given(first=st.none() | st.binary(max_size=40), responses=st.lists(st.binary(max_size=40)))
def test_no_client_makes_a_server_raise_or_accept(
    mechanism: Mechanism, first: bytes | None, responses: list[bytes]
) -> None:
    server = server_of(mechanism)
    step = server.start(first)
    for response in responses:
        if not isinstance(step, Challenge):
            break
        step = server.respond(response)
    assert not isinstance(step, Accepted)
    if not isinstance(step, Challenge | Rejected):
        for refusal in (False, None):
            outcome = server.answer(refusal)
            # A mechanism for tokens says why before it refuses.
            if isinstance(outcome, Challenge):
                outcome = server.respond(b"")
            assert isinstance(outcome, Rejected)


@each_of(list(MECHANISMS))
@given(challenges=st.lists(st.binary(max_size=40), max_size=5))
def test_a_client_answers_no_more_than_it_has_to_say(
    mechanism: Mechanism, challenges: list[bytes]
) -> None:
    credentials = credentials_for(mechanism.name, "tim", "tanstaaftanstaaf")
    client = mechanism.client(credentials, CLIENT_CONTEXT)
    answered = 0 if client.start() is None else 1
    with contextlib.suppress(SASLError):
        for challenge in challenges:
            client.respond(challenge)
            answered += 1
    assert answered <= 2


@each_of(list(MECHANISMS))
@pytest.mark.parametrize("value", [True, False, None, "", "tanstaaftanstaaf"])
def test_an_answer_to_no_question_is_rejected(mechanism: Mechanism, value: Answer) -> None:
    server = server_of(mechanism)
    assert isinstance(server.answer(value), Rejected)
    server.start(None)
    assert isinstance(server.answer(value), Rejected)


@each_of(WITH_PASSWORD)
@pytest.mark.parametrize(
    "credentials",
    [
        Credentials("", "canary"),
        Credentials("tim", ""),
        Credentials("t\0im", "canary"),
        Credentials("t\rim", "canary"),
        Credentials("t\nim", "canary"),
        Credentials("t\x01im", "canary"),
        Credentials("t\x7fim", "canary"),
        Credentials("t\x85im", "canary"),
        Credentials("t\udc00im", "canary"),
        Credentials("tim", "canary\0"),
        Credentials("tim", "canary\ud800"),
        TokenCredentials("tim", "canary"),
    ],
    ids=repr,
)
def test_credentials_that_no_mechanism_can_carry(
    mechanism: Mechanism, credentials: AnyCredentials
) -> None:
    with pytest.raises(SASLError) as caught:
        mechanism.client(credentials, CLIENT_CONTEXT)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@each_of(list(MECHANISMS))
def test_each_takes_its_own_kind_of_credentials_only(mechanism: Mechanism) -> None:
    own = credentials_for(mechanism.name, "tim", "canary")
    assert mechanism.client(own, CLIENT_CONTEXT).name == mechanism.name
    for name in ("PLAIN", "XOAUTH2", "EXTERNAL", "ANONYMOUS"):
        other = credentials_for(name, "tim", "canary")
        if type(other) is not type(own):
            with pytest.raises(SASLError, match=f"it takes {own.kind}, not {other.kind}"):
                mechanism.client(other, CLIENT_CONTEXT)


# --- Messages that were cut, and calls in any order ----------------------------------------------


class CutClient:
    """A client of which one message is cut on its way, or one of those that it gets."""

    name: ClassVar[str] = "CUT"
    reveals_password: ClassVar[bool] = False

    def __init__(self, client: ClientMechanism, which: int, at: float, *, incoming: bool) -> None:
        self._client = client
        self._left = which
        self._at = at
        self._incoming = incoming
        self.has_cut = False

    def start(self) -> bytes | None:
        first = self._client.start()
        return first if first is None or self._incoming else self._cut(first)

    def respond(self, challenge: bytes) -> bytes:
        if self._incoming:
            return self._client.respond(self._cut(challenge))
        return self._cut(self._client.respond(challenge))

    def finish(self) -> None:
        self._client.finish()

    def _cut(self, message: bytes) -> bytes:
        self._left -= 1
        if self._left or not message:
            return message
        self.has_cut = True
        return message[: int(len(message) * self._at)]


@each_of(WITH_SECRET)
@given(
    data=st.data(),
    which=st.integers(1, 3),
    at=st.floats(0, 1, exclude_max=True),
    incoming=st.booleans(),
)
def test_what_was_cut_lets_nobody_in(
    mechanism: Mechanism, data: st.DataObject, which: int, at: float, incoming: bool
) -> None:
    identity, secret, arriving = draw_account(data, mechanism)
    client = CutClient(
        mechanism.client(credentials_for(mechanism.name, identity, secret), CLIENT_CONTEXT),
        which,
        at,
        incoming=incoming,
    )
    try:
        outcome = Wire({arriving: secret}).run(client, server_of(mechanism))
    except SASLError:
        return
    # What DIGEST-MD5 has at the end of its messages may as well be missing: charset and qop. And
    # the words with which a server asks in LOGIN are any.
    if isinstance(outcome, Accepted) and client.has_cut:
        assert mechanism.name == "DIGEST-MD5" or (mechanism.name == "LOGIN" and incoming)
        assert outcome == Accepted(arriving, arriving)


def call_server(server: ServerMechanism, call: tuple[str, bytes, Answer]) -> Step:
    match call:
        case ("start", octets, _):
            return server.start(octets or None)
        case ("respond", octets, _):
            return server.respond(octets)
        case (_, _, answer):
            return server.answer(answer)


OCTETS = st.binary(max_size=20) | st.sampled_from(
    [
        b"\0tim\0secret",
        b"tim 0123456789abcdef0123456789abcdef",
        b"n,,n=tim,r=nonce",
        b"p=tls-exporter,,n=tim,r=nonce",
        b"n,a=tim,\x01auth=Bearer t\x01\x01",
        b"user=tim\x01auth=Bearer t\x01\x01",
    ]
)
ANSWERS: st.SearchStrategy[Answer] = st.sampled_from(
    [True, False, None, "", "secret", stored("secret"), stored("secret", "SCRAM-SHA-1")]
)
CALLS = st.lists(st.tuples(st.sampled_from(["start", "respond", "answer"]), OCTETS, ANSWERS))


@each_of(list(MECHANISMS))
@given(calls=CALLS)
def test_a_server_in_any_order(
    mechanism: Mechanism, calls: list[tuple[str, bytes, Answer]]
) -> None:
    server = server_of(mechanism)
    asked = said_yes = False
    for call in calls:
        step = call_server(server, call)
        said_yes = said_yes or (asked and call[0] == "answer" and bool(call[2]))
        asked = asked or not isinstance(step, Challenge | Accepted | Rejected)
        # Without the application's consent to a question there is no way in.
        assert said_yes or not isinstance(step, Accepted)


@each_of(list(MECHANISMS))
@given(calls=st.lists(st.tuples(st.sampled_from(["start", "respond", "finish"]), OCTETS)))
def test_a_client_in_any_order(mechanism: Mechanism, calls: list[tuple[str, bytes]]) -> None:
    client = mechanism.client(
        credentials_for(mechanism.name, "tim", "tanstaaftanstaaf"), CLIENT_CONTEXT
    )
    for name, octets in calls:
        with contextlib.suppress(SASLError):
            match name:
                case "start":
                    client.start()
                case "respond":
                    client.respond(octets)
                case _:
                    client.finish()
