"""Plays exchanges: a client against a server, with an application that knows some secrets.

Knows how the two talk. Must not know any one mechanism, but for what its credentials look like.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from hypothesis import strategies as st

from smtp_proto.sasl.mechanism import (
    Accepted,
    AnonymousCredentials,
    Answer,
    AnyCredentials,
    Challenge,
    CheckAnonymous,
    CheckPassword,
    CheckToken,
    ClientContext,
    ClientMechanism,
    Credentials,
    ExternalCredentials,
    FetchIdentity,
    FetchPassword,
    FetchSecret,
    Mechanism,
    Question,
    Rejected,
    ServerContext,
    ServerMechanism,
    Step,
    TokenCredentials,
)
from smtp_proto.sasl.registry import CLIENT_MECHANISMS, SERVER_MECHANISMS
from smtp_proto.sasl.scram import ScramClient, ScramServer
from smtp_proto.sasl.scram_secret import MINIMUM_ITERATIONS, ScramSecret

BINDINGS = {"tls-exporter": b"\x01" * 32, "tls-server-end-point": b"\x02" * 32}
CLIENT_CONTEXT = ClientContext(
    nonce=lambda: bytes(range(16, 32)), hostname="mx.example.org", channel_bindings=BINDINGS
)
SERVER_CONTEXT = ServerContext(
    "mx.example.org", lambda: bytes(range(16)), channel_bindings=BINDINGS, salt_key=b"key"
)

# All of Unicode but the control characters and lone surrogates; blanks and non-ASCII among them.
IDENTITIES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
PASSWORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80
)
TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=80)

TOKEN_MECHANISMS = ("OAUTHBEARER", "XOAUTH2")

CredentialsOf: TypeAlias = Callable[[str, str], AnyCredentials]
_CREDENTIALS: Mapping[str, CredentialsOf] = {
    **dict.fromkeys(TOKEN_MECHANISMS, TokenCredentials),
    "EXTERNAL": lambda identity, _: ExternalCredentials(identity),
    "ANONYMOUS": lambda identity, _: AnonymousCredentials(identity),
}


def credentials_for(name: str, identity: str, secret: str) -> AnyCredentials:
    return _CREDENTIALS.get(name, Credentials)(identity, secret)


def server_of(mechanism: Mechanism, context: ServerContext = SERVER_CONTEXT) -> ServerMechanism:
    assert mechanism.server is not None
    return mechanism.server(context)


def scram_client(name: str, credentials: Credentials, context: ClientContext) -> ScramClient:
    made = CLIENT_MECHANISMS[name](credentials, context)
    assert isinstance(made, ScramClient)
    return made


def scram_server(name: str, context: ServerContext) -> ScramServer:
    made = SERVER_MECHANISMS[name](context)
    assert isinstance(made, ScramServer)
    return made


def stored(password: str, mechanism: str = "SCRAM-SHA-256") -> ScramSecret:
    salt = hashlib.sha256(password.encode()).digest()[:16]
    return ScramSecret.from_password(
        password, salt, mechanism=mechanism, iterations=MINIMUM_ITERATIONS
    )


@dataclass
class Wire:
    """Carries an exchange, answers the server's questions, and keeps what went over it."""

    secrets: Mapping[str, str]
    """The passwords or tokens, by identity."""
    external: str | None = None
    """Who the client is by other means."""
    anonymous: bool = False
    responses: list[bytes] = field(default_factory=list[bytes])
    steps: list[Step] = field(default_factory=list[Step])

    def run(
        self, client: ClientMechanism, server: ServerMechanism, *, early: bool = True
    ) -> Accepted | Rejected:
        """`early`: AUTH has the initial response. Where the server accepts, the client does."""
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
                case Accepted():
                    client.finish()
                    return step
                case Rejected():
                    return step
                case _:
                    step = server.answer(self._answer(step))

    def _answer(self, question: Question) -> Answer:
        match question:
            case CheckPassword(Credentials(identity, secret)):
                return self.secrets.get(identity) == secret
            case CheckToken(TokenCredentials(identity, secret)):
                return self.secrets.get(identity) == secret
            case FetchPassword(identity):
                return self.secrets.get(identity)
            case FetchSecret(identity, mechanism):
                password = self.secrets.get(identity)
                return None if password is None else stored(password, mechanism)
            case FetchIdentity():
                return self.external
            case CheckAnonymous():
                return self.anonymous
            case _:
                assert_never(question)
