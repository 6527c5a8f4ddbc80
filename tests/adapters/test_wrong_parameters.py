"""What is given wrongly: each error names the parameter and what it takes, and shows no secret."""

import inspect
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import fields
from email.message import EmailMessage
from io import StringIO
from pathlib import Path

import pytest
import trustme

from smtp_adapters.content import source
from smtp_adapters.socket import SMTPClient, SMTPServer
from smtp_adapters.tls import ClientTLS, server_context
from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow import Envelope, Handler, Security, Timeouts
from smtp_proto.wire import NULL_REVERSE_PATH, Limits, Mailbox
from tests.adapters.worlds import World

Make = Callable[..., object]

CANARY = "Canary7"


class Thing:
    """What no parameter takes."""

    def __repr__(self) -> str:
        return CANARY


# What no parameter of any kind takes.
THINGS: tuple[object, ...] = (Thing(), 1j, [Thing()], {1: Thing()})
# And what is wrong but for some.
OTHERS: tuple[object, ...] = (None, "", "no such", b"no such", -1, 0, 1.5, True)

# By the names of the parameters: which of OTHERS they take, or cannot tell to be wrong.
TAKES: Mapping[str, tuple[object, ...]] = {
    # of SMTPClient and SMTPServer
    "port": (None, 0),
    "tls": (None,),
    "auth": (None,),
    "proxy": (None,),
    "proxy_tls": (None,),
    "proxy_header": (None,),
    "local_address": (None,),
    "stream": (None,),
    "timeouts": (None, 1.5),
    "local_hostname": (None,),
    "limits": (None,),
    "pipelining": (True,),
    "chunking": (True,),
    "allow_cleartext": (True,),
    "allow_cleartext_auth": (True,),
    "mechanisms": (None,),
    "trace": (None, "no such"),
    "hostname": (None,),
    "salt_key": (None, b"no such"),
    # of TLS
    "context": (None,),
    "ca_file": (None, "", "no such"),
    "ca_directory": (None, "", "no such"),
    "ca_data": (None, "", "no such", b"no such"),
    "certificate_file": (None, "", "no such"),
    "key_file": (None,),
    "key_password": (None, "", "no such", b"no such"),
    "client_ca_file": (None,),
    "server_hostname": (None,),
    "check_certificate": (None,),
    "maximum_version": (None,),
    "ciphers": (None,),
    "require_client_certificate": (),
    # of envelopes
    "sender": ("",),
    **{field.name: (None, 1.5) for field in fields(Timeouts)},
    "message_size": (0,),
}
# What is not told before anybody listens, and then by the system.
NOT_LOOKED_AT = [
    ("SMTPServer", "host", "no such"),
    ("Envelope", "rcpt_parameters", THINGS[-1]),  # a look at each recipient would take its time
]
# What is said of addresses has the words of the RFC.
WORDS = {
    "sender": "reverse-path",
    "recipients": "forward-path",
    "forward_paths": "forward-paths",
}


def client(**given: object) -> object:
    if "stream" in given:
        given["security"] = Security.NONE
    make: Make = SMTPClient
    return make(**{"host": "h", **given})


def server(**given: object) -> object:
    make: Make = SMTPServer
    return make(**{"handler": Handler(), **given})


def envelope(**given: object) -> object:
    make: Make = Envelope
    paths = (Mailbox.parse("a@example.org"),)
    return make(**{"reverse_path": NULL_REVERSE_PATH, "forward_paths": paths, **given})


def envelope_of(**given: object) -> object:
    make: Make = Envelope.of
    return make(**{"sender": "", "recipients": "a@example.org", **given})


def tls(**given: object) -> object:
    make: Make = ClientTLS
    return make(**given)


def timeouts(**given: object) -> object:
    make: Make = Timeouts
    return make(**given)


def limits(**given: object) -> object:
    make: Make = Limits
    return make(**given)


def context(pem: Path) -> Make:
    def make(**given: object) -> object:
        build: Make = server_context
        return build(**{"certificate_file": pem, **given})

    return make


def cases(kind: Make, make: Make) -> Iterator[tuple[Make, str, object]]:
    for name in inspect.signature(kind).parameters:
        for value in (*THINGS, *OTHERS):
            allowed = [(type(each), each) for each in TAKES.get(name, ())]
            if (type(value), value) not in allowed:
                yield make, name, value


MADE: tuple[tuple[Make, Make], ...] = (
    (SMTPClient, client),
    (SMTPServer, server),
    (ClientTLS, tls),
    (Timeouts, timeouts),
    (Limits, limits),
    (Envelope, envelope),
    (Envelope.of, envelope_of),
)
ALL = [
    (kind.__name__, *case)
    for kind, make in MADE
    for case in cases(kind, make)
    if not any(entry == (kind.__name__, *case[1:]) for entry in NOT_LOOKED_AT)
]


def check(make: Make, name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError, OSError)) as refused:
        make(**{name: value})
    said = str(refused.value)
    assert name in said or WORDS.get(name, name) in said
    assert "\n" not in said
    assert CANARY not in said or name in {
        field.name for field in (*fields(Timeouts), *fields(Limits))
    }


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [case[1:] for case in ALL],
    ids=[
        f"{kind}-{name}-{type(value).__name__}-{n}" for n, (kind, _, name, value) in enumerate(ALL)
    ],
)
def test_an_error_names_the_parameter(make: Make, name: str, value: object) -> None:
    check(make, name, value)


def test_an_error_names_the_parameter_of_a_context(tmp_path: Path, authority: trustme.CA) -> None:
    pem = tmp_path / "server.pem"
    authority.issue_cert("example.org").private_key_and_cert_chain_pem.write_to_path(pem)
    make = context(pem)
    assert isinstance(make(), ssl.SSLContext)
    for _, name, value in cases(server_context, make):
        if name != "certificate_file" or value != "":
            check(make, name, value)


@pytest.mark.parametrize(
    ("make", "given", "why"),
    [
        (tls, {"minimum_version": "1.3"}, "minimum_version is an ssl.TLSVersion, as ssl.TLSVersi"),
        (client, {"local_address": "eth0"}, "local_address: 'eth0' is no IP address, as 192.0.2.1"),
        (client, {"local_address": ("::1", 70_000)}, "local_address: port 70000: a port is a num"),
        (client, {"timeouts": "5"}, "timeouts is seconds as a number, or a Timeouts, or None, no"),
        (client, {"timeouts": -1}, "timeouts: seconds above 0, or None, not -1"),
        (client, {"timeouts": float("nan")}, "timeouts: seconds above 0, or None, not nan"),
        (client, {"local_hostname": "a b"}, "local_hostname: Domain: not 1 to 63 letters, digits"),
        (client, {"host": "a b"}, "host: Domain: "),
        (client, {"limits": {"reply_line": 5}}, "limits is a Limits, or None, not a dict"),
        (client, {"pipelining": 0}, "pipelining is True or False, not an int"),
        (client, {"mechanisms": 5}, "mechanisms is a sequence of names of SASL mechanisms, as str"),
        (
            client,
            {"mechanisms": [5]},
            "mechanisms is a sequence of names of SASL mechanisms, as str, a",
        ),
        (client, {"own_mechanisms": ["PLAIN"]}, "own_mechanisms is a sequence of values of smtp_"),
        (server, {"handler": object()}, "handler is an instance of a class of yours, of Handler"),
        (server, {"max_connections": None}, "max_connections is a number, as int, not None"),
        (server, {"salt_key": ""}, "salt_key is bytes, or None, not a str"),
        (server, {"host": ""}, "host is empty: give an address, as 127.0.0.1; 0.0.0.0 or :: is an"),
        (limits, {"errors": "5"}, "the limit errors is an int, not '5'"),
        (
            envelope_of,
            {"recipients": [5]},
            "recipients: it takes addresses as str, not a list of i",
        ),
        (envelope_of, {"sender": None}, "sender: it takes an address as str"),
        (envelope, {"forward_paths": ("a@b",)}, "forward_paths: it takes Mailbox values, not a t"),
    ],
)
def test_it_says_what_is_wanted(make: Make, given: dict[str, object], why: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        make(**given)
    assert str(refused.value).startswith(why)


def test_what_a_proxy_is_to_be_trusted_by_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name, kind in (("ca.pem", ValueError), ("none", FileNotFoundError)):
        trust = ClientTLS(ca_file=tmp_path / name)
        with pytest.raises(kind, match="proxy_tls: ca_file"):
            SMTPClient("h", proxy="https://proxy.example:1", proxy_tls=trust)


# --- calls -----------------------------------------------------------------------------------

TO_ONE = Envelope.of("a@example.org", ["b@example.org"])
OCTETS = b"Subject: x\r\n\r\n"


async def pieces() -> AsyncIterator[bytes]:
    yield OCTETS


@pytest.mark.parametrize(
    ("method", "given", "why"),
    [
        (
            "send",
            ("a@b.example", OCTETS),
            "envelope: it takes an Envelope, see Envelope.of(), not a s",
        ),
        ("send", (None, OCTETS), "envelope: it takes an Envelope, see Envelope.of(), not None"),
        (
            "send",
            (("a@b.example",), OCTETS),
            "envelope: it takes an Envelope, see Envelope.of(), not",
        ),
        (
            "send",
            (TO_ONE, None),
            "content is octets, a binary file, or an iterable of octets, not None",
        ),
        (
            "send",
            (TO_ONE, 5),
            "content is octets, a binary file, or an iterable of octets, not an int",
        ),
        (
            "send",
            (TO_ONE, Path("x")),
            "content is octets, a binary file, or an iterable of octets, n",
        ),
        (
            "send",
            (TO_ONE, pieces),
            "content is octets, a binary file, or an iterable of octets, not a",
        ),
        (
            "send",
            (TO_ONE, EmailMessage()),
            "content is octets, a binary file, or an iterable of octe",
        ),
        (
            "send",
            (TO_ONE, "text"),
            "content is octets, not text: encode() it, or open the file as bina",
        ),
        (
            "send",
            (TO_ONE, StringIO("text")),
            "content is octets, not text: encode() it, or open the fi",
        ),
        (
            "send_message",
            (OCTETS,),
            "message is a Message of the email package (for octets there is s",
        ),
        (
            "send_message",
            ("text",),
            "message is a Message of the email package (for octets there is s",
        ),
        (
            "send_many",
            (None,),
            "pairs is an iterable of messages, or of pairs of an Envelope and cont",
        ),
        (
            "send_many",
            (pieces,),
            "pairs is an iterable of messages, or of pairs of an Envelope and co",
        ),
        ("verify", (5,), "string is text, as str, not an int"),
        ("expand", (b"list",), "string is text, as str, not a bytes"),
        ("help", (None,), "topic is text, as str, not None"),
        (
            "authenticate",
            ("ann",),
            "auth is a user name and a password, or credentials of smtp_proto",
        ),
    ],
)
async def test_a_wrong_call_says_what_is_wanted_and_changes_nothing(
    world: World, method: str, given: tuple[object, ...], why: str
) -> None:
    lines: list[object] = []
    async with world.server(Handler()) as server:
        client = world.client("127.0.0.1", server.port, security=Security.NONE, trace=lines.append)
        async with client:
            said = len(lines)
            call: Make = getattr(client, method)
            with pytest.raises(TypeError) as refused:
                await awaited(call(*given))
            assert str(refused.value).startswith(why)
            assert len(lines) == said
            assert (await client.send(TO_ONE, OCTETS)).accepted


async def awaited(result: object) -> None:
    if isinstance(result, Awaitable):
        await result


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (Path("x"), "Path: open() the file as binary"),
        (pieces, "not a function: call it"),
        (EmailMessage(), "not an EmailMessage: send_message() takes it"),
    ],
)
def test_what_was_meant_as_content_is_told(content: object, hint: str) -> None:
    take: Make = source
    with pytest.raises(TypeError) as refused:
        take(content)
    assert str(refused.value).endswith(hint)


async def test_a_server_has_a_port_within_its_block(world: World) -> None:
    async with world.server(Handler()) as server:
        assert server.port
    with pytest.raises(LocalProtocolError, match="`with` or `async with` block"):
        _ = server.port
