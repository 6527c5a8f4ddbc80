"""What a server says between two calls: the next call hears it first, and nothing is sent.

Knows servers that close a connection which nobody uses. Must not know how a world hears.
"""

import ssl
import threading
from collections.abc import Callable

import pytest

from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import ConnectionLost, Envelope, ProtocolViolation, Security, SMTPError
from tests.adapters import peers
from tests.adapters.peers import Conversation
from tests.adapters.worlds import World

ENVELOPE = Envelope.of("sender@example.org", ["one@example.org"])
SMALL = b"Subject: small\r\n\r\nHello\r\n"


def greet(peer: Conversation) -> None:
    peer.say("220 mx.example.org ESMTP")
    peer.hear("EHLO")
    peer.say("250-mx.example.org", "250-PIPELINING", "250 CHUNKING")


class Idle:
    """A server that does one more thing when it has greeted, and notes what it hears then."""

    def __init__(self, act: Callable[[Conversation], object], tls: ssl.SSLContext | None) -> None:
        self._act = act
        self._tls = tls
        self._ready = threading.Event()
        self.acted = threading.Event()
        self.heard = b""

    def __call__(self, peer: Conversation) -> None:
        if self._tls is not None:
            peer.start_tls(self._tls)
        greet(peer)
        self._ready.wait()
        self._act(peer)
        self.acted.set()
        if self._act is not Conversation.reset:
            self.heard = peer.hear_all()

    def go_on(self) -> None:
        self._ready.set()
        self.acted.wait()


def say_421(peer: Conversation) -> None:
    peer.say("421 4.3.2 closing")


def end(peer: Conversation) -> None:
    peer.say_no_more()


def say_421_and_end(peer: Conversation) -> None:
    peer.say("421 4.3.2 closing")
    peer.say_no_more()


def talk_nonsense(peer: Conversation) -> None:
    peer.say("250 what?")


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize(
    ("act", "kind", "code"),
    [
        (say_421, ConnectionLost, 421),
        (say_421_and_end, ConnectionLost, 421),
        (end, ConnectionLost, None),
        (Conversation.reset, ConnectionLost, None),
        (talk_nonsense, ProtocolViolation, None),
    ],
)
async def test_the_next_call_hears_it_and_sends_nothing(
    world: World,
    act: Callable[[Conversation], object],
    kind: type[SMTPError],
    code: int | None,
    tls: bool,
    server_tls: ssl.SSLContext,
    client_tls: ClientTLS,
) -> None:
    idle = Idle(act, server_tls if tls else None)
    with peers.server(idle) as port:
        client = world.client(
            "127.0.0.1",
            port,
            security=Security.IMPLICIT if tls else Security.NONE,
            tls=client_tls if tls else None,
            timeouts=20.0,
        )
        await client.open()
        await world.in_thread(idle.go_on)
        for _ in range(3):
            await world.checkpoint()
        with pytest.raises(kind) as caught:
            await client.send(ENVELOPE, SMALL)
        assert not client.is_open
    assert idle.heard == b""
    if isinstance(caught.value, ConnectionLost):
        reply = caught.value.reply
        assert (None if reply is None else reply.code) == code


async def test_an_idle_session_that_has_ended_needs_no_quit(world: World) -> None:
    idle = Idle(say_421_and_end, None)
    with peers.server(idle) as port:
        async with world.client("127.0.0.1", port, security=Security.NONE, timeouts=20.0):
            await world.in_thread(idle.go_on)
            for _ in range(3):
                await world.checkpoint()
    assert idle.heard == b""
