"""Servers that do what they should not: each gives one clear error, and nothing stays open.

Knows scripted peers on real sockets. Must not know how a world waits.
"""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import cast

import pytest
import trustme

from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import (
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    ContentRefused,
    DeliveryInDoubt,
    Envelope,
    PermanentError,
    Phase,
    ProtocolViolation,
    Security,
    SMTPError,
    SMTPTimeout,
    Timeouts,
    TLSError,
    TransientError,
)
from tests.adapters.peers import Conversation, Script, server
from tests.adapters.worlds import Client, World

ENVELOPE = Envelope.of("sender@example.org", ["one@example.org"])
SMALL = b"Subject: small\r\n\r\nHello\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 100_000
PATIENT = 20.0
SHORT = 0.1

Use = Callable[..., Awaitable[SMTPError]]


@pytest.fixture
def connect(world: World, client_tls: ClientTLS) -> Callable[..., Client]:
    kind: Callable[..., Client] = world.client

    def make(port: int, **settings: object) -> Client:
        defaults = {"security": Security.NONE, "timeouts": PATIENT, "host": "127.0.0.1"}
        settings = {**defaults, **settings}
        if settings["security"] is not Security.NONE:
            settings = {"tls": client_tls, **settings}
        return kind(port=port, **settings)

    return make


Connect = Callable[..., Client]


async def refusal_of_open(connect: Connect, script: Script, **settings: object) -> SMTPError:
    """Open a client against a script; returns the one error that comes."""
    with server(script) as port:
        client = connect(port, **settings)
        with pytest.raises(SMTPError) as caught:
            await client.open()
        assert not client.is_open
        await client.close()
    assert "\n" not in str(caught.value)
    return caught.value


async def refusal_of_send(
    connect: Connect, script: Script, content: bytes | Iterator[bytes] = SMALL, **settings: object
) -> SMTPError:
    """Send a message against a script; returns the one error that comes."""
    with server(script) as port:
        client = connect(port, **settings)
        await client.open()
        with pytest.raises(SMTPError) as caught:
            await client.send(ENVELOPE, content)
        assert not client.is_open
    assert "\n" not in str(caught.value)
    return caught.value


def greet(peer: Conversation, *keywords: str) -> None:
    peer.say("220 mx.example.org ESMTP")
    peer.hear("EHLO [127.0.0.1]")
    peer.say(*(f"250-{keyword}" for keyword in ("mx.example.org", *keywords)), "250 HELP")


def take_envelope(peer: Conversation) -> None:
    greet(peer)
    peer.hear("MAIL FROM:<sender@example.org>")
    peer.say("250 ok")
    peer.hear("RCPT TO:<one@example.org>")
    peer.say("250 ok")
    peer.hear("DATA")
    peer.say("354 go on")


# --- nobody there ------------------------------------------------------------------------------


async def test_a_port_where_nobody_listens(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError, match=f"port {port}: Connection refused"):
        await connect(port).open()


async def test_a_name_that_nobody_has(connect: Connect) -> None:
    with pytest.raises(ConnectError, match=r"host\.invalid port 25: "):
        await connect(25, host="host.invalid").open()


async def test_a_host_whose_addresses_all_refuse(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError, match=r"localhost port .*: .*Connection refused"):
        await connect(port, host="localhost").open()


async def test_a_host_that_does_not_answer(connect: Connect) -> None:
    # On Linux, a listener whose queue is full does not answer.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with (
            socket.create_connection(("127.0.0.1", port), PATIENT),
            pytest.raises(SMTPTimeout) as caught,
        ):
            await connect(port, timeouts=Timeouts(connect=SHORT)).open()
    assert caught.value.phase is Phase.CONNECT


# --- silence -----------------------------------------------------------------------------------


async def test_a_server_that_says_nothing(connect: Connect) -> None:
    error = await refusal_of_open(connect, Conversation.hear_all, timeouts=Timeouts(greeting=SHORT))
    assert isinstance(error, SMTPTimeout)
    assert isinstance(error, TimeoutError)
    assert (error.phase, error.seconds) == (Phase.GREETING, SHORT)
    assert "nothing had come" in str(error)


async def test_a_server_that_drips(connect: Connect) -> None:
    timeouts = Timeouts(greeting=SHORT, total=PATIENT)
    error = await refusal_of_open(
        connect, lambda peer: peer.drip(b"220-slow\r\n"), timeouts=timeouts
    )
    assert isinstance(error, SMTPTimeout)
    assert (error.phase, error.whole) == (Phase.GREETING, False)
    assert "nothing had come" not in str(error)


async def test_an_operation_that_takes_too_long_as_a_whole(connect: Connect) -> None:
    error = await refusal_of_open(
        connect, lambda peer: peer.drip(b"220-slow\r\n"), timeouts=Timeouts(total=SHORT)
    )
    assert isinstance(error, SMTPTimeout)


async def test_a_server_that_falls_silent(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        greet(peer)
        peer.hear_all()

    error = await refusal_of_send(connect, script, timeouts=Timeouts(mail=SHORT))
    assert isinstance(error, SMTPTimeout)
    assert error.phase is Phase.MAIL


async def test_a_server_that_reads_no_content(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        take_envelope(peer)
        gone.wait(PATIENT)

    gone = threading.Event()
    with server(script) as port:
        client = connect(port, timeouts=Timeouts(block=SHORT))
        await client.open()
        with pytest.raises(SMTPTimeout) as caught:
            await client.send(ENVELOPE, LARGE)
        gone.set()
    assert caught.value.phase is Phase.BLOCK
    assert not client.is_open


async def test_a_server_that_never_says_what_became_of_the_message(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        take_envelope(peer)
        peer.hear_all()

    error = await refusal_of_send(connect, script, timeouts=Timeouts(final=SHORT))
    assert isinstance(error, DeliveryInDoubt)
    assert isinstance(error.__cause__, SMTPTimeout)


# --- a lost connection -------------------------------------------------------------------------


async def test_a_server_that_hangs_up_at_once(connect: Connect) -> None:
    error = await refusal_of_open(connect, Conversation.close)
    assert isinstance(error, ConnectionLost)


async def test_a_server_that_hangs_up_in_its_greeting(connect: Connect) -> None:
    error = await refusal_of_open(connect, lambda peer: peer.send(b"220 mx.exam"))
    assert isinstance(error, ConnectionLost)


async def test_a_server_that_hangs_up_before_the_content(connect: Connect) -> None:
    error = await refusal_of_send(connect, take_envelope, LARGE)
    assert isinstance(error, ConnectionLost)


async def test_a_server_that_hangs_up_after_the_content(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        take_envelope(peer)
        peer.hear("Subject: small", "", "Hello", ".")

    error = await refusal_of_send(connect, script)
    assert isinstance(error, DeliveryInDoubt)
    assert isinstance(error.__cause__, ConnectionLost)


async def test_the_last_words_of_a_server_that_hangs_up_in_the_content(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        take_envelope(peer)
        peer.say("552 5.3.4 too much")

    error = await refusal_of_send(connect, script, iter([SMALL, LARGE, LARGE]))
    assert isinstance(error, ContentRefused | ConnectionLost)
    assert "552 5.3.4 too much" in str(error)


# --- nonsense ----------------------------------------------------------------------------------


async def test_a_server_that_does_not_speak_smtp(connect: Connect) -> None:
    error = await refusal_of_open(connect, lambda peer: peer.say("HTTP/1.1 400 Bad Request"))
    assert isinstance(error, ProtocolViolation)


async def test_a_server_that_is_not_for_us(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        peer.say("554 no service here")
        peer.hear_all()

    error = await refusal_of_open(connect, script)
    assert isinstance(error, PermanentError)
    assert "554 no service here" in str(error)


async def test_a_server_that_is_about_to_close(connect: Connect) -> None:
    error = await refusal_of_open(connect, lambda peer: peer.say("421 4.3.2 closing"))
    assert isinstance(error, TransientError)


# --- login -------------------------------------------------------------------------------------


async def test_no_mechanism_in_common(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        greet(peer, "AUTH GSSAPI PLAIN")
        peer.hear_all()

    error = await refusal_of_open(connect, script, auth=("user", "secret"))
    assert isinstance(error, AuthenticationError)
    assert error.offered == ("GSSAPI", "PLAIN")
    assert "it reveals the password, and there is no TLS" in str(error)


async def test_a_wrong_password(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        greet(peer, "AUTH PLAIN")
        peer.hear("AUTH PLAIN ")
        peer.say("535 5.7.8 no")
        peer.hear_all()

    error = await refusal_of_open(
        connect, script, auth=("user", "secret"), allow_cleartext_auth=True
    )
    assert isinstance(error, AuthenticationError)
    assert error.reply is not None
    assert error.reply.code == 535
    assert "secret" not in repr(error)


# --- TLS ---------------------------------------------------------------------------------------


def clear_text(peer: Conversation) -> None:
    peer.say("220 mx.example.org ESMTP")
    peer.hear_all()


async def test_clear_text_where_tls_is_expected(connect: Connect) -> None:
    error = await refusal_of_open(connect, clear_text, security=Security.IMPLICIT)
    assert isinstance(error, TLSError)
    assert "speaks clear text" in str(error)
    assert "Security.STARTTLS" in str(error)


async def test_tls_where_clear_text_is_expected(
    connect: Connect, server_tls: ssl.SSLContext
) -> None:
    # Each side waits for the other one.
    error = await refusal_of_open(
        connect,
        lambda peer: peer.start_tls(server_tls),
        security=Security.STARTTLS,
        timeouts=Timeouts(greeting=SHORT),
    )
    assert isinstance(error, SMTPTimeout)


async def test_starttls_that_is_not_offered(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        greet(peer)
        peer.hear_all()

    error = await refusal_of_open(connect, script, security=Security.STARTTLS)
    assert isinstance(error, TLSError)
    assert "does not offer STARTTLS" in str(error)


async def test_starttls_that_is_refused(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        greet(peer, "STARTTLS")
        peer.hear("STARTTLS")
        peer.say("454 4.7.0 not now")
        peer.hear_all()

    for security in (Security.STARTTLS, Security.OPPORTUNISTIC):
        error = await refusal_of_open(connect, script, security=security)
        assert isinstance(error, TLSError)
        assert "454 4.7.0 not now" in str(error)


async def test_clear_text_that_is_smuggled_in_front_of_tls(connect: Connect) -> None:
    def script(peer: Conversation) -> None:
        greet(peer, "STARTTLS")
        peer.hear("STARTTLS")
        peer.say("220 go ahead", "250 AUTH PLAIN")
        peer.hear_all()

    error = await refusal_of_open(connect, script, security=Security.STARTTLS)
    assert isinstance(error, ProtocolViolation | TLSError)


async def test_a_handshake_that_ends_in_the_middle(connect: Connect) -> None:
    error = await refusal_of_open(
        connect, lambda peer: peer.send(b"\x16\x03\x03"), security=Security.IMPLICIT
    )
    assert isinstance(error, TLSError)


async def test_a_handshake_that_takes_too_long(connect: Connect) -> None:
    error = await refusal_of_open(
        connect,
        Conversation.hear_all,
        security=Security.IMPLICIT,
        timeouts=Timeouts(tls=SHORT),
    )
    assert isinstance(error, SMTPTimeout)
    assert error.phase is Phase.TLS


@pytest.mark.parametrize("security", [Security.IMPLICIT, Security.STARTTLS])
@pytest.mark.parametrize(
    ("issue", "words"),
    [
        (lambda authority: authority.issue_cert("other.example"), "does not have this address"),
        (lambda _: trustme.CA().issue_cert("127.0.0.1"), "ca_file"),
        (
            lambda authority: authority.issue_cert(
                "127.0.0.1", not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
            ),
            "has expired",
        ),
    ],
    ids=["wrong name", "unknown authority", "expired"],
)
async def test_a_bad_certificate(
    connect: Connect,
    authority: trustme.CA,
    issue: Callable[[trustme.CA], trustme.LeafCert],
    words: str,
    security: Security,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issue(authority).configure_cert(context)

    def script(peer: Conversation) -> None:
        if security is Security.STARTTLS:
            greet(peer, "STARTTLS")
            peer.hear("STARTTLS")
            peer.say("220 go ahead")
        peer.start_tls(context)

    error = await refusal_of_open(connect, script, security=security)
    assert isinstance(error, TLSError)
    assert words in str(error)


async def test_the_name_to_verify_may_be_another_than_the_host(
    connect: Connect, authority: trustme.CA, server_tls: ssl.SSLContext
) -> None:
    def script(peer: Conversation) -> None:
        peer.start_tls(server_tls)
        greet(peer)
        peer.hear("QUIT")
        peer.say("221 bye")

    pem = authority.cert_pem.bytes().decode()
    tls = ClientTLS(ca_data=pem, server_hostname="mx.example.org")
    with server(script) as port:
        async with connect(port, security=Security.IMPLICIT, tls=tls) as client:
            assert client.tls is not None
            assert client.tls.server_hostname == "mx.example.org"


async def test_a_stream_that_is_cut_under_tls(connect: Connect, server_tls: ssl.SSLContext) -> None:
    def script(peer: Conversation) -> None:
        peer.start_tls(server_tls)
        greet(peer)
        peer.hear("MAIL")

    error = await refusal_of_send(connect, script, security=Security.IMPLICIT)
    assert isinstance(error, ConnectionLost | TLSError)


# --- the way out -------------------------------------------------------------------------------


async def test_quit_is_no_matter_of_life_and_death(connect: Connect) -> None:
    def say_nothing(peer: Conversation) -> None:
        greet(peer)
        peer.hear_all()

    def talk_nonsense(peer: Conversation) -> None:
        greet(peer)
        peer.hear("QUIT")
        peer.say("what?")

    for script in (say_nothing, talk_nonsense, greet):
        with server(script) as port:
            async with connect(port, timeouts=Timeouts(quit=SHORT)) as client:
                pass
            assert not client.is_open


async def test_an_error_on_its_way_does_not_wait_long_for_quit(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say_nothing(peer: Conversation) -> None:
        greet(peer)
        peer.hear("QUIT")
        peer.hear_all()

    async def fail(client: Client) -> None:
        async with client:
            raise KeyError("the caller's own")

    monkeypatch.setattr("smtp_adapters.client._FAREWELL", SHORT)
    for timeouts in (Timeouts(quit=PATIENT * 10), Timeouts(quit=None, total=PATIENT * 10)):
        with server(say_nothing) as port:
            client = connect(port, timeouts=timeouts)
            with pytest.raises(KeyError, match="the caller's own"):
                await fail(client)
            assert not client.is_open


async def test_an_error_on_its_way_is_not_hidden_by_what_comes_behind_it(connect: Connect) -> None:
    def hang_up(peer: Conversation) -> None:
        greet(peer)
        peer.reset()

    async def fail(client: Client) -> None:
        async with client:
            with client.__dict__.get("_blocking", client)._turn:  # as if a call went on elsewhere
                await client.__aexit__(KeyError, KeyError("the caller's own"), None)

    with server(greet) as port:
        await fail(connect(port))
    with server(hang_up) as port:
        client = connect(port)
        await client.open()
        await client.__aexit__(KeyError, KeyError("the caller's own"), None)
        await client.close()
        assert not client.is_open


# --- content that does not come ------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True], ids=["block", "total"])
@pytest.mark.parametrize("first", [b"", LARGE[:70_000]], ids=["none", "some"])
async def test_content_that_does_not_come_in_time(
    world: World, connect: Connect, whole: bool, first: bytes
) -> None:
    async def awaited() -> AsyncIterator[bytes]:
        yield first
        await world.forever()

    def blocking() -> Iterator[bytes]:
        yield first
        threading.Event().wait(2 * SHORT)
        yield SMALL

    def script(peer: Conversation) -> None:
        if first:
            take_envelope(peer)
        else:  # nobody knows yet what it needs
            greet(peer)
        peer.hear_all()

    timeouts = Timeouts(total=SHORT) if whole else Timeouts(block=SHORT)
    content = awaited() if world.awaits else blocking()
    error = await refusal_of_send(
        connect, script, cast("Iterator[bytes]", content), timeouts=timeouts
    )
    assert isinstance(error, SMTPTimeout)
    assert (error.phase, error.seconds, error.whole) == (Phase.BLOCK, SHORT, whole)
