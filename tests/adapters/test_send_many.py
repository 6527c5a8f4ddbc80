"""send_many in each world: in order, lazily, and with the truth where it is cut short.

Knows what a caller and a handler see. Must not know which commands go out together.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from email.message import EmailMessage

import pytest
import trio

from smtp_adapters import asyncio as in_asyncio
from smtp_adapters import client as smtp_client
from smtp_adapters import socket as in_socket
from smtp_adapters import trio as in_trio
from smtp_adapters.content import AnyContent
from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow import (
    ConnectionLost,
    ContentRefused,
    DeliveryInDoubt,
    Envelope,
    Handler,
    Outcome,
    RecipientsRefused,
    Security,
    SenderRefused,
    SendResult,
    ServerSession,
)
from smtp_proto.wire import Body, Mail, MailParameters, Rcpt, Reply, WireError
from tests.adapters import peers
from tests.adapters.peers import Conversation
from tests.adapters.worlds import ASYNCIO, SOCKET, TRIO, Client, World, in_the_world_of

Pair = tuple[Envelope, AnyContent]
ENVELOPE = Envelope.of("sender@example.org", ["one@example.org"])
NOBODY = Envelope.of("sender@example.org", ["nobody@example.org"])
FROM_NOBODY = Envelope.of("nobody@example.org", ["one@example.org"])


class Inbox(Handler):
    """Takes mail from and for anybody but nobody@."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def on_mail(self, session: ServerSession, mail: Mail) -> Reply | None:
        return Reply.build(550, "Not you") if "nobody" in str(mail.reverse_path) else None

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        return Reply.build(550, "Nobody") if "nobody" in str(rcpt.forward_path) else None

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | None:
        self.contents.append(content)
        return Reply.build(554, "Spam") if b"spam" in content else None


def connect(world: World, port: int, **settings: object) -> Client:
    kind: Callable[..., Client] = world.client
    return kind("127.0.0.1", port, **{"security": Security.NONE, "timeouts": 20.0, **settings})


def is_open(client: smtp_client.Client) -> bool:
    return client.is_open


def content(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n" % number


async def awaited(pairs: Iterable[Pair]) -> AsyncIterator[Pair]:
    for pair in pairs:
        yield pair


class Taken:
    """Pairs without end. `count`: how many were taken."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[Pair]:
        return self

    def __next__(self) -> Pair:
        self.count += 1
        return ENVELOPE, content(self.count)


SETTINGS: list[dict[str, object]] = [{}, {"chunking": False}, {"pipelining": False}]
each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=["all", "DATA", "one by one"])


@each_setting
@pytest.mark.parametrize("asynchronous", [False, True], ids=["iterable", "async iterable"])
async def test_each_has_its_outcome(
    world: World, settings: dict[str, object], asynchronous: bool
) -> None:
    inbox = Inbox()
    message = EmailMessage()
    message["From"], message["To"] = "sender@example.org", "one@example.org"
    doubtful = EmailMessage()
    pairs: list[tuple[Envelope, AnyContent] | EmailMessage] = [
        (ENVELOPE, content(1)),
        (FROM_NOBODY, content(2)),
        message,
        (NOBODY, content(3)),
        (ENVELOPE, b"spam"),
        doubtful,
        (ENVELOPE, b"\0"),
        (ENVELOPE, [b"x" * 50_000, b"y" * 50_000]),
        (ENVELOPE, content(4)),
    ]

    async def give() -> AsyncIterator[tuple[Envelope, AnyContent] | EmailMessage]:
        for pair in pairs:
            await world.checkpoint()
            yield pair

    async with world.server(inbox) as server, connect(world, server.port, **settings) as client:
        if asynchronous and world.awaits:
            outcomes = [outcome async for outcome in client.send_many(give())]
        else:
            outcomes = [outcome async for outcome in client.send_many(pairs)]
        await client.noop()
    assert isinstance(outcomes[1], SenderRefused)
    assert isinstance(outcomes[3], RecipientsRefused)
    assert isinstance(outcomes[4], ContentRefused)
    assert isinstance(outcomes[5], ValueError)
    assert isinstance(outcomes[6], WireError)
    for place in (0, 2, 7, 8):
        assert isinstance(outcomes[place], SendResult)
    assert len(outcomes) == len(pairs)
    assert inbox.contents[0] == content(1)
    assert inbox.contents[-1] == content(4)
    assert len(inbox.contents) == 5


async def test_a_message_that_cannot_be_written_stops_no_other(world: World) -> None:
    def message(depth: int) -> EmailMessage:
        made = EmailMessage()
        made.set_content("Hello.\n")
        for _ in range(depth):
            outer = EmailMessage()
            outer["Content-Type"] = "multipart/mixed"
            outer.attach(made)
            made = outer
        made["From"], made["To"] = "sender@example.org", "one@example.org"
        return made

    inbox = Inbox()
    async with world.server(inbox) as server, connect(world, server.port) as client:
        messages = [message(depth) for depth in (0, 1000, 5, 0)]
        outcomes = [outcome async for outcome in client.send_many(messages)]
    kinds = [SendResult, ValueError, SendResult, SendResult]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert len(inbox.contents) == 3


async def test_pairs_are_taken_lazily(world: World) -> None:
    pairs = Taken()
    async with (
        world.server(Inbox()) as server,
        connect(world, server.port, chunking=False) as client,
    ):
        outcomes = client.send_many(pairs)
        assert pairs.count == 0
        for told in range(1, 4):
            assert isinstance(await anext(outcomes), SendResult)
            assert pairs.count <= told + 1


@each_setting
async def test_what_the_pairs_raise_comes_behind_the_outcomes(
    world: World, settings: dict[str, object]
) -> None:
    def pairs() -> Iterator[Pair]:
        yield ENVELOPE, content(1)
        yield ENVELOPE, content(2)
        raise KeyError("three")

    inbox = Inbox()
    async with world.server(inbox) as server, connect(world, server.port, **settings) as client:
        for given in [pairs()] + ([awaited(pairs())] if world.awaits else []):
            outcomes: list[Outcome] = []
            with pytest.raises(KeyError, match="three"):
                await take(client, given, outcomes)
            assert [type(outcome) for outcome in outcomes] == [SendResult, SendResult]
        await client.noop()


async def take(
    client: Client, pairs: Iterable[Pair] | AsyncIterable[Pair], outcomes: list[Outcome]
) -> None:
    async for outcome in client.send_many(pairs):
        outcomes.append(outcome)  # noqa: PERF401 - those before an error count


class Unreadable:
    """Content that cannot even be begun with."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __iter__(self) -> Iterator[bytes]:
        raise self.error


NO_PAIRS = [("not an envelope", b""), (ENVELOPE, "text"), 5, (ENVELOPE,), (), {1: 2}]
NO_PAIRS += [(ENVELOPE, b"", b""), (ENVELOPE, Unreadable(TypeError("unreadable")))]


@pytest.mark.parametrize("pair", NO_PAIRS)
async def test_what_is_no_pair_comes_behind_the_outcomes(world: World, pair: Pair) -> None:
    async with world.server(Inbox()) as server, connect(world, server.port) as client:
        outcomes: list[Outcome] = []
        with pytest.raises(TypeError):
            await take(client, [(ENVELOPE, content(1)), pair, (ENVELOPE, content(2))], outcomes)
        assert [type(outcome) for outcome in outcomes] == [SendResult]
        await client.noop()


async def test_what_content_raises_before_it_begins_comes_behind_the_outcomes(
    world: World,
) -> None:
    async with world.server(Inbox()) as server, connect(world, server.port) as client:
        outcomes: list[Outcome] = []
        with pytest.raises(LookupError, match="strange"):
            await take(
                client,
                [(ENVELOPE, content(1)), (ENVELOPE, Unreadable(LookupError("strange")))],
                outcomes,
            )
        assert [type(outcome) for outcome in outcomes] == [SendResult]
        await client.noop()


async def test_pairs_may_not_ask_for_outcomes(world: World) -> None:
    asked: list[Outcome] = []

    def pairs() -> Iterator[Pair]:
        yield ENVELOPE, content(1)
        step = anext(outcomes)
        asked.append(step.send(None))

    async with world.server(Inbox()) as server, connect(world, server.port) as client:
        outcomes = client.send_many(pairs())
        assert isinstance(await anext(outcomes), SendResult)
        with pytest.raises(LocalProtocolError, match="another"):
            await anext(outcomes)
        assert asked == []
        await client.noop()


async def test_no_pair_is_taken_where_the_connection_is_closed(world: World) -> None:
    pairs = Taken()
    async with world.server(Inbox()) as server:
        client = connect(world, server.port)
        await client.open()
        outcomes = client.send_many(pairs)
        await client.close()
        with pytest.raises(LocalProtocolError, match="has been closed"):
            await anext(outcomes)
        assert pairs.count == 0


class OnlyNext:
    """The least that `async for` goes over."""

    def __aiter__(self) -> AsyncIterator[Pair]:
        return Bare()  # type: ignore[return-value]


class Bare:
    def __init__(self) -> None:
        self.count = 0

    async def __anext__(self) -> Pair:
        self.count += 1
        if self.count > 2:
            raise StopAsyncIteration
        return ENVELOPE, content(self.count)


@in_the_world_of(ASYNCIO, TRIO)
async def test_an_asynchronous_iterator_needs_no_more_than_its_next(world: World) -> None:
    async with world.server(Inbox()) as server, connect(world, server.port) as client:
        outcomes = [outcome async for outcome in client.send_many(OnlyNext())]
    assert [type(outcome) for outcome in outcomes] == [SendResult] * 2


async def test_nothing_else_is_said_while_messages_are_under_way(world: World) -> None:
    inbox = Inbox()
    async with (
        world.server(inbox) as server,
        connect(world, server.port, chunking=False) as client,  # the next always waits for 354
    ):
        outcomes = client.send_many([(ENVELOPE, content(number)) for number in range(3)])
        await anext(outcomes)
        with pytest.raises(LocalProtocolError, match=r"under way: .*, or close\(\) the client$"):
            await client.noop()
        with pytest.raises(LocalProtocolError, match="under way"):
            client.send_many([])
        assert isinstance(await anext(outcomes), SendResult)
        assert isinstance(await anext(outcomes), SendResult)
        await client.noop()
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)
    assert len(inbox.contents) == 3


async def test_leaving_the_block_early_closes_at_once(world: World) -> None:
    async with world.server(Inbox()) as server:
        async with connect(world, server.port, chunking=False) as client:
            async for outcome in client.send_many(Taken()):
                assert isinstance(outcome, SendResult)
                break
            assert is_open(client)
        assert not is_open(client)


async def test_closing_the_iterator(world: World) -> None:
    async with world.server(Inbox()) as server:
        client = connect(world, server.port, chunking=False)
        await client.open()
        done = client.send_many([(ENVELOPE, content(1))])
        await anext(done)
        await done.aclose()
        assert is_open(client), "nothing was under way"
        early = client.send_many(Taken())
        await anext(early)
        await early.aclose()
        assert not is_open(client)
        with pytest.raises(LocalProtocolError, match="has been closed"):
            await anext(early)
        await client.open()
        await early.aclose()
        with pytest.raises(LocalProtocolError, match="has been closed"):
            await anext(early)
        assert is_open(client), "this is another connection"
        assert isinstance(await client.send(ENVELOPE, content(2)), SendResult)
        await client.quit()


def greet(peer: Conversation, *offers: str) -> None:
    peer.say("220 mx.example.org")
    peer.hear("EHLO")
    peer.say("250-mx.example.org", *(f"250-{offer}" for offer in offers), "250 HELP")


async def test_where_the_connection_is_lost_each_message_is_told_apart(world: World) -> None:
    def script(peer: Conversation) -> None:
        greet(peer, "PIPELINING")
        peer.hear("MAIL", "RCPT", "DATA")
        peer.say("250 Ok", "250 Ok", "354 Go")
        peer.hear("Subject: 1", "", ".", "RSET", "MAIL", "RCPT", "DATA")
        peer.say("250 Ok", "250 Ok", "250 Ok", "250 Ok", "354 Go")
        peer.hear("Subject: 2", "", ".", "RSET", "MAIL", "RCPT", "DATA")

    pairs = Taken()
    with peers.server(script) as port:
        client = connect(world, port)
        await client.open()
        outcomes: list[Outcome] = []
        with pytest.raises(ConnectionLost) as caught:
            await take(client, pairs, outcomes)
        assert [type(each) for each in outcomes] == [SendResult, DeliveryInDoubt, ConnectionLost]
        assert outcomes[2] is caught.value
        assert pairs.count == 3, "what was not taken is still there"
        assert not is_open(client)


async def test_what_goes_out_in_one_flight(world: World) -> None:
    def script(peer: Conversation) -> None:
        greet(peer, "CHUNKING", "PIPELINING")
        peer.hear("MAIL", "RCPT", "BDAT", "Subject: 1", "", "RSET")
        peer.hear("MAIL", "RCPT", "BDAT", "Subject: 2", "", "RSET")
        peer.hear("MAIL", "RCPT", "BDAT", "Subject: 3", "")
        peer.say(*["250 Ok"] * 11)
        peer.hear("QUIT")
        peer.say("221 Bye")

    with peers.server(script) as port:
        async with connect(world, port) as client:
            pairs: list[Pair] = [(ENVELOPE, content(number)) for number in (1, 2, 3)]
            outcomes = [outcome async for outcome in client.send_many(pairs)]
    assert [type(outcome) for outcome in outcomes] == [SendResult] * 3


async def test_a_server_that_has_left_is_noticed_before_anything_is_sent(world: World) -> None:
    def script(peer: Conversation) -> None:
        greet(peer)
        peer.hear("NOOP")
        peer.say("250 Ok", "421 Bye")

    with peers.server(script) as port:
        client = connect(world, port)
        await client.open()
        await client.noop()
        outcomes: list[Outcome] = []
        with pytest.raises(ConnectionLost):
            await take(client, Taken(), outcomes)
        assert [type(outcome) for outcome in outcomes] == [ConnectionLost]
        assert not is_open(client)


class ReadError(Exception):
    """What some content may raise."""


@pytest.mark.parametrize("begun", [b"x", b"x" * 70_000], ids=["before MAIL", "in the content"])
async def test_content_that_raises_ends_it(world: World, begun: bytes) -> None:
    def broken() -> Iterator[bytes]:
        yield begun
        raise ReadError

    inbox = Inbox()
    async with world.server(inbox) as server:
        client = connect(world, server.port)
        await client.open()
        outcomes: list[Outcome] = []
        with pytest.raises(ReadError):
            await take(client, [(ENVELOPE, content(1)), (ENVELOPE, broken())], outcomes)
        assert [type(outcome) for outcome in outcomes] == [SendResult]
        if len(begun) == 1:
            await take(client, [(ENVELOPE, content(2))], outcomes)
            await client.quit()
        assert not is_open(client)
    assert len(inbox.contents) == len(outcomes)


async def test_what_is_wrong_with_pieces_is_the_outcome_of_their_message(world: World) -> None:
    inbox = Inbox()
    async with world.server(inbox) as server, connect(world, server.port) as client:
        wrong = replace(ENVELOPE, mail_parameters=MailParameters(body=Body.BINARY_MIME))
        pairs: list[Pair] = [
            (ENVELOPE, content(1)),
            (ENVELOPE, [b"x", b"\0"]),
            (wrong, [b"x"]),
            (wrong, b"x"),
            (ENVELOPE, [content(2)]),
        ]
        outcomes: list[Outcome] = []
        await take(client, pairs, outcomes)
    assert [type(each) for each in outcomes] == [SendResult, *[WireError] * 3, SendResult]
    assert inbox.contents == [content(1), content(2)]


def fall_silent(peer: Conversation) -> None:
    greet(peer, "PIPELINING")
    peer.hear("MAIL", "RCPT", "DATA")
    peer.hear_all()


@in_the_world_of(ASYNCIO)
async def test_a_cancelled_task_closes_the_connection() -> None:
    with peers.server(fall_silent) as port:
        client = in_asyncio.SMTPClient("127.0.0.1", port, security=Security.NONE)
        await client.open()
        outcomes = client.send_many([(ENVELOPE, content(1))])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(outcomes)
        assert not is_open(client)


@in_the_world_of(ASYNCIO)
async def test_a_task_that_is_cancelled_while_pairs_are_awaited_closes_the_connection() -> None:
    async def pairs() -> AsyncIterator[Pair]:
        yield ENVELOPE, content(1)
        await asyncio.Event().wait()

    async with in_asyncio.SMTPServer(Inbox()) as server:
        client = in_asyncio.SMTPClient(
            "127.0.0.1", server.port, security=Security.NONE, chunking=False
        )
        await client.open()
        outcomes = client.send_many(pairs())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(outcomes)
        assert not is_open(client)
        with pytest.raises(LocalProtocolError, match="has been closed"):
            await anext(outcomes)


@in_the_world_of(TRIO)
async def test_a_cancelled_scope_closes_the_connection() -> None:
    with peers.server(fall_silent) as port:
        client = in_trio.SMTPClient("127.0.0.1", port, security=Security.NONE)
        await client.open()
        outcomes = client.send_many([(ENVELOPE, content(1))])
        with trio.move_on_after(0.05) as scope:
            await anext(outcomes)
        assert scope.cancelled_caught
        assert not is_open(client)


@in_the_world_of(SOCKET)
async def test_it_is_an_iterator() -> None:
    with (
        in_socket.SMTPServer(Inbox()) as server,
        in_socket.SMTPClient("127.0.0.1", server.port, security=Security.NONE) as client,
    ):
        pairs: list[Pair] = [(ENVELOPE, content(number)) for number in range(30)]
        for pair, outcome in zip(pairs, client.send_many(pairs), strict=False):
            assert isinstance(outcome, SendResult), pair
        client.noop()
