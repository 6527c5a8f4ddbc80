"""Settings that make no sense are refused at once, and what handlers raise does not get lost.

Knows the constructors of clients and servers. Must not know what is done with good settings.
"""

import logging
import ssl
from collections.abc import Callable

import pytest

from smtp_adapters.client import Client as BaseClient
from smtp_adapters.server import Server as BaseServer
from smtp_proto.flow import Envelope, Handler, Security, SenderRefused, ServerSession
from smtp_proto.sasl import Credentials, TokenCredentials
from smtp_proto.wire import Mail
from tests.adapters.worlds import World

make_client: Callable[..., BaseClient] = BaseClient
make_server: Callable[..., BaseServer] = BaseServer


@pytest.mark.parametrize(
    ("settings", "kind", "why"),
    [
        ({"security": "starttls"}, TypeError, "Security.STARTTLS"),
        ({"security": "none"}, TypeError, "Security.NONE"),
        ({"security": True}, TypeError, "not a bool"),
        ({"port": "25"}, TypeError, "not a str"),
        ({"port": True}, TypeError, "not a bool"),
        ({"port": 0}, ValueError, "from 1 to 65535"),
        ({"port": 65_536}, ValueError, "from 1 to 65535"),
        ({"auth": "ada:secret"}, TypeError, "a user name and a password"),
        ({"auth": ("ada", "secret", "bob")}, TypeError, "a user name and a password"),
        ({"auth": ("ada", b"secret")}, TypeError, "a user name and a password"),
        ({"mechanisms": "PLAIN"}, TypeError, "not one str"),
        ({"tls": True}, TypeError, "not a bool"),
        ({"tls": "ca.pem"}, TypeError, "not a str"),
    ],
)
def test_clients_that_make_no_sense(
    settings: dict[str, object], kind: type[Exception], why: str
) -> None:
    with pytest.raises(kind, match=why) as refused:
        make_client("mx.example.org", **settings)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "kind", "why"),
    [
        ({"handler": Handler}, TypeError, r"write Handler\(\)"),
        ({"security": "starttls"}, TypeError, "Security.STARTTLS"),
        ({"security": "none"}, TypeError, "Security.NONE"),
        (
            {"security": Security.NONE, "tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)},
            ValueError,
            "contradict",
        ),
        ({"security": Security.IMPLICIT, "tls": "server.pem"}, TypeError, "not a str"),
        ({"port": "25"}, TypeError, "not a str"),
        ({"port": -1}, ValueError, "from 0 to 65535"),
        ({"port": 65_536}, ValueError, "from 0 to 65535"),
        ({"mechanisms": "PLAIN"}, TypeError, "not one str"),
    ],
)
def test_servers_that_make_no_sense(
    settings: dict[str, object], kind: type[Exception], why: str
) -> None:
    with pytest.raises(kind, match=why):
        make_server(**{"handler": Handler(), **settings})


@pytest.mark.parametrize(
    ("port", "security", "expected"),
    [
        (None, Security.STARTTLS, 587),
        (465, Security.IMPLICIT, 465),
        (587, Security.STARTTLS, 587),
        (25, Security.STARTTLS, 25),
    ],
)
def test_the_port_says_when_tls_begins(port: int | None, security: Security, expected: int) -> None:
    settings = make_client("mx.example.org", port)._settings
    assert (settings.security, settings.port) == (security, expected)


def test_what_is_said_goes_before_the_port() -> None:
    settings = make_client("mx.example.org", 465, security=Security.STARTTLS)._settings
    assert settings.security is Security.STARTTLS


@pytest.mark.parametrize("auth", [("ada", "secret"), Credentials("ada", "secret")])
def test_a_pair_is_a_name_and_a_password(auth: object) -> None:
    settings = make_client("mx.example.org", auth=auth)._settings
    assert settings.credentials == Credentials("ada", "secret")


def test_other_credentials_are_taken_as_they_are() -> None:
    token = TokenCredentials("ada", "token")
    assert make_client("mx.example.org", auth=token)._settings.credentials is token


class Failing(Handler):
    def on_mail(self, session: ServerSession, mail: Mail) -> None:
        raise KeyError("a defect")


class Telling(Failing):
    def __init__(self) -> None:
        self.told: list[Exception] = []

    def on_error(self, session: ServerSession, error: Exception) -> None:
        self.told.append(error)


class Hopeless(Failing):
    def on_error(self, session: ServerSession, error: Exception) -> None:
        raise ValueError("one more")


async def fail(world: World, handler: Handler) -> None:
    envelope = Envelope.of("sender@example.org", ["one@example.org"])
    async with world.server(handler) as server:
        client = world.client("127.0.0.1", server.port, security=Security.NONE)
        async with client:
            with pytest.raises(SenderRefused, match="451"):
                await client.send(envelope, b"Subject: x\r\n\r\n")


@pytest.mark.parametrize(("kind", "error"), [(Failing, KeyError), (Hopeless, ValueError)])
async def test_what_no_handler_takes_note_of_is_logged(
    world: World, kind: type[Handler], error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    await fail(world, kind())
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("smtp_adapters.server", logging.ERROR)
    assert "127.0.0.1" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is error
    assert "in on_mail" in caplog.text or "in on_error" in caplog.text


async def test_a_handler_that_takes_note_has_it_for_itself(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Telling()
    await fail(world, handler)
    assert [type(error) for error in handler.told] == [KeyError]
    assert not caplog.records
