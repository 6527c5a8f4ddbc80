"""Every mechanism, from each client to each server: the right secret lets in, no other does."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from smtp_adapters.tls import ClientTLS
from smtp_proto import AuthenticationError, Handler, Login, Security, ServerSession
from smtp_proto.sasl import (
    AnonymousCredentials,
    AnyCredentials,
    Credentials,
    ExternalCredentials,
    Policy,
    ScramSecret,
    Strength,
    TokenCredentials,
)
from tests.adapters.canaries import TOKEN, UNICODE_PASSWORD, WRONG_PASSWORD, WRONG_TOKEN
from tests.adapters.worlds import Client, Server, World

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


# --- Which of them is used -----------------------------------------------------------------------

LOGIN_FIRST = Policy(order=("LOGIN",))
PROOF = Policy(minimum=Strength.PROOF)


@pytest.fixture
def connect(world: World, client_tls: ClientTLS) -> Callable[..., Client]:
    kind: Callable[..., Client] = world.client

    def make(server: Server, **settings: object) -> Client:
        defaults = {"tls": client_tls, "auth": PASSWORDS[0], "timeouts": 20.0}
        return kind("127.0.0.1", server.port, **{**defaults, **settings})

    return make


@pytest.mark.parametrize(
    ("mechanisms", "used", "passed_over"),
    [
        (None, "SCRAM-SHA-256", ("PLAIN", "SCRAM-SHA-256 comes first")),
        (LOGIN_FIRST, "LOGIN", ("SCRAM-SHA-256", "LOGIN comes first")),
        (Policy(frozenset({"LOGIN"})), "LOGIN", ("PLAIN", "the policy does not allow it")),
        (PROOF, "SCRAM-SHA-256", ("PLAIN", "SCRAM-SHA-256 comes first")),
    ],
)
async def test_a_policy_chooses_and_the_client_tells_why(
    world: World,
    connect: Callable[..., Client],
    server_tls: ssl.SSLContext,
    mechanisms: Policy | None,
    used: str,
    passed_over: tuple[str, str],
) -> None:
    async with world.server(
        Users(),
        security=Security.STARTTLS,
        tls=server_tls,
        mechanisms=["PLAIN", "LOGIN", "SCRAM-SHA-256"],
    ) as server:
        async with connect(server, mechanisms=mechanisms) as client:
            login = client.login
        assert client.login is login  # can still be looked at
    assert login is not None
    assert (login.mechanism, login.tried, login.reply.code) == (used, (used,), 235)
    assert passed_over in login.passed_over


async def test_nothing_weaker_than_the_minimum_is_used(
    world: World, connect: Callable[..., Client], server_tls: ssl.SSLContext
) -> None:
    async with world.server(
        Users(), security=Security.STARTTLS, tls=server_tls, mechanisms=["PLAIN", "CRAM-MD5"]
    ) as server:
        client = connect(server, mechanisms=PROOF)
        with pytest.raises(AuthenticationError, match="weaker than the policy's minimum") as caught:
            await client.open()
        report = await client.check_credentials()
    assert caught.value.tried == report.tried == ()
    assert not report


async def test_a_policy_says_itself_what_may_go_over_clear_text(
    world: World, connect: Callable[..., Client]
) -> None:
    clear = {"security": Security.NONE, "tls": None}
    in_clear = Policy(order=("LOGIN",), allow_cleartext=True)
    async with world.server(
        Users(), mechanisms=["PLAIN", "LOGIN"], allow_cleartext_auth=True
    ) as server:
        with pytest.raises(AuthenticationError, match="there is no TLS"):
            await connect(server, mechanisms=LOGIN_FIRST, **clear).open()
        for both in (False, True):
            settings = {**clear, "mechanisms": in_clear, "allow_cleartext_auth": both}
            async with connect(server, **settings) as client:
                assert client.login is not None
                assert client.login.mechanism == "LOGIN"
        with pytest.raises(ValueError, match=r"^allow_cleartext_auth and a Policy whose"):
            connect(server, mechanisms=LOGIN_FIRST, allow_cleartext_auth=True, **clear)


async def test_who_has_not_logged_in_has_no_login(
    world: World, connect: Callable[..., Client], server_tls: ssl.SSLContext
) -> None:
    async with world.server(
        Users(), security=Security.STARTTLS, tls=server_tls, mechanisms=["PLAIN"]
    ) as server:
        client = connect(server, security=Security.MANUAL, auth=None)
        async with client:
            await client.start_tls()
            assert login_of(client) is None
            await client.authenticate(("ann", UNICODE_PASSWORD))
            login = login_of(client)
            assert login is not None
            assert login.mechanism == "PLAIN"
        async with client:
            assert login_of(client) is None


def login_of(client: Client) -> Login | None:
    return client.login
