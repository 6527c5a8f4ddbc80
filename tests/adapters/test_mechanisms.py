"""Every mechanism, from each client to each server: the right secret lets in, no other does."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from smtp_adapters.tls import ClientTLS
from smtp_proto import AuthenticationError, Handler, Security, ServerSession
from smtp_proto.sasl import (
    AnonymousCredentials,
    AnyCredentials,
    Credentials,
    ExternalCredentials,
    ScramSecret,
    TokenCredentials,
)
from tests.adapters.canaries import TOKEN, UNICODE_PASSWORD, WRONG_PASSWORD, WRONG_TOKEN
from tests.adapters.worlds import Client, World

SALT = b"sixteen octets.."


class Users(Handler):
    """Knows ann, by password, token, certificate and stored secret, and lets anybody look."""

    def __init__(self) -> None:
        self.identities: list[str | None] = []

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return credentials == Credentials("ann", UNICODE_PASSWORD)

    def find_password(self, session: ServerSession, authentication_identity: str) -> str | None:
        return UNICODE_PASSWORD if authentication_identity == "ann" else None

    def find_secret(
        self, session: ServerSession, authentication_identity: str, mechanism: str
    ) -> ScramSecret | None:
        if authentication_identity != "ann":
            return None
        return ScramSecret.from_password(
            UNICODE_PASSWORD, SALT, mechanism=mechanism, iterations=4096
        )

    def on_token(self, session: ServerSession, credentials: TokenCredentials) -> bool:
        return credentials == TokenCredentials("ann", TOKEN)

    def on_anonymous(self, session: ServerSession, trace: str) -> bool:
        return trace == "ann"

    def find_identity(self, session: ServerSession, authorization_identity: str) -> str | None:
        return "ann" if authorization_identity in ("", "ann") else None

    def on_disconnect(self, session: ServerSession) -> None:
        self.identities.append(session.authenticated_as)


@dataclass(frozen=True)
class Case:
    mechanism: str
    right: AnyCredentials
    wrong: AnyCredentials


PASSWORDS = (Credentials("ann", UNICODE_PASSWORD), Credentials("ann", WRONG_PASSWORD))
TOKENS = (TokenCredentials("ann", TOKEN), TokenCredentials("ann", WRONG_TOKEN))
CASES = [
    *(
        Case(name, *PASSWORDS)
        for name in (
            "PLAIN",
            "LOGIN",
            "CRAM-MD5",
            "DIGEST-MD5",
            "SCRAM-SHA-1",
            "SCRAM-SHA-256",
            "SCRAM-SHA-512",
        )
    ),
    Case("XOAUTH2", *TOKENS),
    Case("OAUTHBEARER", *TOKENS),
    Case("EXTERNAL", ExternalCredentials("ann"), ExternalCredentials("bob")),
    Case("ANONYMOUS", AnonymousCredentials("ann"), AnonymousCredentials("bob")),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.mechanism)
async def test_every_mechanism(
    world: World, server_tls: ssl.SSLContext, client_tls: ClientTLS, case: Case
) -> None:
    users = Users()
    make_client: Callable[..., Client] = world.client
    async with world.server(
        users,
        security=Security.STARTTLS,
        tls=server_tls,
        mechanisms=[case.mechanism],
        timeouts=20.0,
    ) as server:

        def client(credentials: AnyCredentials) -> Client:
            return make_client(
                "127.0.0.1",
                server.port,
                tls=client_tls,
                auth=credentials,
                mechanisms=[case.mechanism],
                timeouts=20.0,
            )

        async with client(case.right) as connected:
            await connected.noop()
        with pytest.raises(AuthenticationError, match=case.mechanism) as caught:
            await client(case.wrong).open()
    assert caught.value.tried == (case.mechanism,)
    assert users.identities[0] in ("ann", "anonymous")
    assert users.identities[1:] == [None]


async def test_the_strongest_is_used_by_itself(
    world: World, server_tls: ssl.SSLContext, client_tls: ClientTLS
) -> None:
    class Asked(Users):
        def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
            raise AssertionError("the password came, though a proof would have done")

    users = Asked()
    make_client: Callable[..., Client] = world.client
    async with (
        world.server(
            users,
            security=Security.STARTTLS,
            tls=server_tls,
            mechanisms=["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"],
            timeouts=20.0,
        ) as server,
        make_client(
            "127.0.0.1", server.port, tls=client_tls, auth=("ann", UNICODE_PASSWORD), timeouts=20.0
        ) as connected,
    ):
        await connected.noop()
    assert users.identities == ["ann"]
