"""Every mechanism, its client against its server."""

import base64
import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    WRONG_CREDENTIALS,
    Accepted,
    Answer,
    Challenge,
    CheckPassword,
    ClientMechanism,
    Credentials,
    FetchPassword,
    Mechanism,
    Rejected,
    ServerContext,
    ServerMechanism,
    Step,
)
from smtp_proto.sasl.registry import MECHANISMS

CONTEXT = ServerContext("mx.example.org", lambda: bytes(range(16)))
EACH = pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)

# All of Unicode but the control characters and lone surrogates; blanks and non-ASCII among them.
IDENTITIES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
PASSWORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80
)


class Wire:
    """Carries an exchange and keeps what went over it."""

    def __init__(self) -> None:
        self.responses: list[bytes] = []
        self.steps: list[Step] = []

    def run(
        self,
        client: ClientMechanism,
        server: ServerMechanism,
        passwords: Mapping[str, str],
        *,
        early: bool = True,
    ) -> Accepted | Rejected:
        """Play an application that knows `passwords`; `early`: AUTH has the initial response."""
        held_back = client.start()
        if early and held_back is not None:
            self.responses.append(held_back)
            step, held_back = server.start(held_back), None
        else:
            step = server.start(None)
        while True:
            self.steps.append(step)
            match step:
                case Challenge(data):
                    if held_back is None:
                        response = client.respond(data)
                    else:
                        assert data == b""
                        response, held_back = held_back, None
                    self.responses.append(response)
                    step = server.respond(response)
                case CheckPassword(credentials):
                    name = credentials.authentication_identity
                    step = server.answer(passwords.get(name) == credentials.password)
                case FetchPassword(name):
                    step = server.answer(passwords.get(name))
                case Accepted():
                    client.finish()
                    return step
                case Rejected():
                    return step


@EACH
@given(identity=IDENTITIES, password=PASSWORDS, early=st.booleans())
def test_the_right_password_is_accepted(
    mechanism: Mechanism, identity: str, password: str, early: bool
) -> None:
    client = mechanism.client(Credentials(identity, password))
    outcome = Wire().run(client, mechanism.server(CONTEXT), {identity: password}, early=early)
    assert outcome == Accepted(identity, identity)


@EACH
@given(identity=IDENTITIES, password=PASSWORDS, right=PASSWORDS, known=st.booleans())
def test_a_wrong_password_and_an_unknown_name_look_the_same(
    mechanism: Mechanism, identity: str, password: str, right: str, known: bool
) -> None:
    client = mechanism.client(Credentials(identity, password))
    passwords = {identity: right + "x"} if known else {}
    if right + "x" != password:
        assert Wire().run(client, mechanism.server(CONTEXT), passwords) == WRONG_CREDENTIALS


@EACH
def test_nothing_shows_the_password(mechanism: Mechanism) -> None:
    canary = "canary-7c1"
    credentials = Credentials("tim", canary)
    client, server, wire = mechanism.client(credentials), mechanism.server(CONTEXT), Wire()
    wire.run(client, server, {"tim": canary})
    shown = repr((credentials, client, server, wire.steps))
    assert "tim" in shown
    sent = b" ".join(wire.responses)
    assert (canary.encode() in sent) is mechanism.client.reveals_password
    for secret in (canary, base64.b64encode(canary.encode()).decode(), canary.encode().hex()):
        assert secret not in shown


@EACH
@given(first=st.none() | st.binary(max_size=40), responses=st.lists(st.binary(max_size=40)))
def test_no_client_makes_a_server_raise_or_accept(
    mechanism: Mechanism, first: bytes | None, responses: list[bytes]
) -> None:
    server = mechanism.server(CONTEXT)
    step = server.start(first)
    for response in responses:
        if not isinstance(step, Challenge):
            break
        step = server.respond(response)
    assert not isinstance(step, Accepted)
    if isinstance(step, CheckPassword | FetchPassword):
        assert server.answer(False) == server.answer(None) == WRONG_CREDENTIALS


@EACH
@given(challenges=st.lists(st.binary(max_size=40), max_size=5))
def test_a_client_answers_no_more_than_it_has_to_say(
    mechanism: Mechanism, challenges: list[bytes]
) -> None:
    client = mechanism.client(Credentials("tim", "tanstaaftanstaaf"))
    answered = 0 if client.start() is None else 1
    with contextlib.suppress(SASLError):
        for challenge in challenges:
            client.respond(challenge)
            answered += 1
    assert answered <= 2


@EACH
@pytest.mark.parametrize("value", [True, False, None, "", "tanstaaftanstaaf"])
def test_an_answer_to_no_question_is_rejected(mechanism: Mechanism, value: Answer) -> None:
    server = mechanism.server(CONTEXT)
    assert isinstance(server.answer(value), Rejected)
    server.start(None)
    assert isinstance(server.answer(value), Rejected)


@EACH
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
    ],
    ids=repr,
)
def test_credentials_that_no_mechanism_can_carry(
    mechanism: Mechanism, credentials: Credentials
) -> None:
    with pytest.raises(SASLError) as caught:
        mechanism.client(credentials)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
