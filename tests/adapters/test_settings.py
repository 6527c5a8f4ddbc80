"""Settings that make no sense are refused at once, and what handlers raise does not get lost.

Knows the constructors of clients and servers. Must not know what is done with good settings.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from smtp_adapters.client import Client as BaseClient
from smtp_adapters.server import Server as BaseServer
from smtp_adapters.socket import SMTPClient
from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import Envelope, Handler, Security, SenderRefused, ServerSession
from smtp_proto.flow.tls import no_tls
from smtp_proto.proxy import parse_proxy
from smtp_proto.sasl import Credentials, TokenCredentials
from smtp_proto.sasl.mechanism import Mechanism, Strength
from smtp_proto.sasl.plain import PLAIN
from smtp_proto.sasl.registry import MECHANISMS
from smtp_proto.wire import Mail
from tests.adapters.worlds import World

make_client: Callable[..., BaseClient] = SMTPClient
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
        ({"host": 5}, TypeError, "not an int"),
        ({"host": b"mx.example.org"}, TypeError, "not a bytes"),
        ({"allow_cleartext": "no"}, TypeError, "allow_cleartext is True or False"),
        ({"allow_cleartext_auth": 0}, TypeError, "allow_cleartext_auth is True or False"),
        (
            {"allow_cleartext": True, "security": Security.STARTTLS},
            ValueError,
            "allow_cleartext is for security 'auto'",
        ),
        ({"proxy": 5}, TypeError, "not an int"),
        ({"proxy": ["socks5://proxy.example", 5]}, TypeError, "not an int"),
        ({"proxy": b"socks5://user:secret@proxy.example"}, TypeError, "not a bytes"),
        ({"proxy": "socks6://user:secret@proxy.example"}, ValueError, "not one of socks4"),
        ({"proxy": "socks5h://a:1, HTTP://b"}, ValueError, "proxy: several URLs in one text: give"),
        ({"proxy_tls": ClientTLS()}, ValueError, "there is none"),
        ({"proxy": "http://p.example", "proxy_tls": ClientTLS()}, ValueError, "there is none"),
        ({"proxy": "https://p.example", "proxy_tls": "ca.pem"}, TypeError, "proxy_tls is"),
        ({"proxy_header": "PROXY UNKNOWN\r\n"}, TypeError, "proxy_header is bytes"),
        ({"proxy_header": b"PROXY"}, ValueError, "proxy_header"),
        ({"local_address": 5}, TypeError, "local_address is"),
        ({"local_address": ("127.0.0.1", "25")}, TypeError, "local_address is"),
        ({"local_address": ("127.0.0.1", 65_536)}, ValueError, "from 0 to 65535"),
        ({"local_address": "localhost"}, ValueError, "local_address: 'localhost' is no IP address"),
        ({"own_mechanisms": ["PLAIN"]}, TypeError, "own_mechanisms"),
        ({"host": Path("/run/lmtp")}, ValueError, "say which security"),
        (
            {"host": Path("/run/lmtp"), "security": Security.NONE, "local_address": "127.0.0.1"},
            ValueError,
            "local_address",
        ),
        (
            {"host": Path("/run/lmtp"), "security": Security.NONE, "proxy": "http://p.example"},
            ValueError,
            "no proxy leads",
        ),
        (
            {"host": Path("/run/lmtp"), "security": Security.NONE, "stream": 5},
            ValueError,
            "contradict",
        ),
    ],
)
def test_clients_that_make_no_sense(
    settings: dict[str, object], kind: type[Exception], why: str
) -> None:
    with pytest.raises(kind, match=why) as refused:
        make_client(**{"host": "mx.example.org", **settings})
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
        (None, Security.AUTO, None),
        (2525, Security.AUTO, 2525),
        (None, Security.STARTTLS, 587),
        (None, Security.IMPLICIT, 465),
        (None, Security.MANUAL, 587),
        (None, Security.NONE, 25),
        (None, Security.OPPORTUNISTIC, 25),
        (465, Security.STARTTLS, 465),
    ],
)
def test_the_port_goes_with_security(
    port: int | None, security: Security, expected: int | None
) -> None:
    settings = make_client("mx.example.org", port, security=security)._settings
    assert (settings.security, settings.port) == (security, expected)


def test_tls_is_required_unless_somebody_says_otherwise() -> None:
    settings = make_client("mx.example.org")._settings
    assert settings.security is Security.AUTO
    assert settings.requires_tls


def test_proxies_may_be_written_in_several_ways() -> None:
    near, far = parse_proxy("socks5://near.example"), parse_proxy("https://far.example")
    for given, expected in (
        (None, ()),
        ((), ()),
        ("socks5://near.example", (near,)),
        (near, (near,)),
        ([near, "https://far.example"], (near, far)),
    ):
        settings = make_client("mx.example.org", proxy=given)._settings
        assert settings.proxies == expected
        assert (settings.proxy_tls is no_tls) is (far not in expected)
    assert make_client("mx.example.org", proxy=far, proxy_tls=ClientTLS())._settings.proxies


def test_env_is_what_the_environment_names_when_the_client_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("smtp_proxy", "all_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert make_client("mx.example.org", proxy="env")._settings.proxies == ()
    monkeypatch.setenv("smtp_proxy", "socks5://proxy.example")
    monkeypatch.setenv("no_proxy", "other.example,mx.example.org:25")
    proxy = (parse_proxy("socks5://proxy.example"),)
    assert make_client("mx.example.org")._settings.proxies == ()
    assert make_client("mx.example.org", proxy="env")._settings.proxies == proxy
    settings = make_client("mx.example.org", 587, proxy="env", proxy_tls=ClientTLS())._settings
    assert settings.proxies == proxy
    assert make_client("mx.example.org", 25, proxy="env")._settings.proxies == ()
    assert make_client("other.example", proxy="env")._settings.proxies == ()
    unix = make_client(Path("/run/lmtp"), security=Security.NONE, proxy="env")._settings
    assert (unix.unix_path, unix.proxies) == ("/run/lmtp", ())


def test_own_mechanisms_stand_before_the_others() -> None:
    own = Mechanism(PLAIN.client, None, Strength.BOUND)
    settings = make_client("mx.example.org", own_mechanisms=[own])._settings
    assert settings.mechanisms == (own, *MECHANISMS)


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
    (record,) = (each for each in caplog.records if each.name == "smtp_adapters.server")
    assert record.levelno == logging.ERROR
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
    assert not [each for each in caplog.records if each.name.startswith("smtp_adapters")]
