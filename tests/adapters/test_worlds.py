"""What each world does in its own way: cancelling, waiting, and handing over octets.

Knows asyncio, trio and threads, and what is inside of the adapters. Must not know SMTP's rules.
"""

import asyncio
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf

import pytest
import trio
import trio.testing

from smtp_adapters import asyncio as in_asyncio
from smtp_adapters import socket as in_socket
from smtp_adapters import trio as in_trio
from smtp_adapters.asyncio import loop as loop_in_asyncio
from smtp_adapters.asyncio import stream as stream_in_asyncio
from smtp_adapters.journal import TraceLine
from smtp_adapters.socket import loop as loop_in_socket
from smtp_adapters.socket import stream as stream_in_socket
from smtp_adapters.trio import loop as loop_in_trio
from smtp_adapters.trio import stream as stream_in_trio
from smtp_proto.engine import LocalProtocolError
from smtp_proto.flow import (
    Connect,
    ConnectionLost,
    Envelope,
    Flow,
    Handler,
    Phase,
    Receive,
    Security,
    Send,
    ServerSession,
    Steps,
    Timeouts,
    Timer,
)
from smtp_proto.wire import Octets
from tests.adapters import peers
from tests.adapters.peers import Conversation
from tests.adapters.worlds import ASYNCIO, SOCKET, TRIO, World, in_the_world_of

ENVELOPE = Envelope.of("sender@example.org", ["one@example.org"])
FLOOD = 2_000_000
SHORT = 0.02


def greet_and_wait(peer: Conversation) -> None:
    peer.say("220 mx.example.org")
    peer.hear("EHLO")
    peer.say("250 mx.example.org")
    peer.hear_all()


# --- octets, whatever flow there is --------------------------------------------------------------


def connect_to(port: int) -> Connect:
    return Connect("127.0.0.1", port, Timer(Phase.CONNECT, 20.0))


def exchange(ports: list[int], sent: bytes) -> Steps[bytes]:
    """Connect to one port after the other, send much and receive much from each."""
    received = bytearray()
    for port in ports:
        timer = Timer(Phase.COMMAND, 20.0)
        local_address = yield Connect("127.0.0.1", port, timer)
        assert local_address == "127.0.0.1"
        yield Send(sent, timer)
        while piece := (yield Receive(timer)):
            assert isinstance(piece, bytes | bytearray)
            received += piece
    return bytes(received)


async def carry_out(world: World, flow: Flow[bytes]) -> bytes:
    if world is SOCKET:
        blocking = stream_in_socket.Stream()
        try:
            return loop_in_socket.carry_out(flow, blocking)
        finally:
            blocking.close()
    if world is TRIO:
        trios = stream_in_trio.Stream()
        try:
            return await loop_in_trio.carry_out(flow, trios)
        finally:
            await trios.close()
    stream = stream_in_asyncio.Stream()
    try:
        return await loop_in_asyncio.carry_out(flow, stream)
    finally:
        await stream.close()


async def test_a_stream_connects_again_and_takes_all_that_comes(world: World) -> None:
    def listen(peer: Conversation) -> None:
        peer.send(b"x" * FLOOD)
        peer.hear_octets(FLOOD // 10)

    with peers.server(listen) as first, peers.server(listen) as second:
        received = await carry_out(world, Flow(exchange([first, second], b"y" * (FLOOD // 10))))
    assert len(received) == 2 * FLOOD


@in_the_world_of(ASYNCIO)
async def test_reading_pauses_while_nobody_asks() -> None:
    with peers.server(lambda peer: peer.send(b"x" * FLOOD)) as port:
        stream = stream_in_asyncio.Stream()
        await stream.connect(connect_to(port))
        while not stream._reading_paused:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(stream._received) <= 262_144 + 65_536
        deadline = asyncio.get_running_loop().time() + 20
        size = 0
        while piece := await stream.receive(deadline):
            size += len(piece)
        await stream.close()
    assert size == FLOOD


@in_the_world_of(ASYNCIO)
async def test_what_cannot_be_written_is_told_at_once() -> None:
    def script(peer: Conversation) -> None:
        connected.wait()
        peer.reset()
        gone.set()

    connected, gone = threading.Event(), threading.Event()
    with peers.server(script) as port:
        stream = stream_in_asyncio.Stream()
        await stream.connect(connect_to(port))
        connected.set()
        gone.wait()  # the event loop must not hear of it before we do
        with pytest.raises(OSError, match=r"\[Errno"):
            await stream.send(b"NOOP\r\n", inf)
        with pytest.raises(OSError, match=r"\[Errno"):
            await stream.send(b"NOOP\r\n", inf)
        await stream.close()


@in_the_world_of(ASYNCIO)
async def test_one_alarm_watches_over_all_waits() -> None:
    def echo(peer: Conversation) -> None:
        for _ in range(3):
            peer.hear_octets(1)
            peer.send(b"x")
        peer.hear_all()

    def alarm() -> asyncio.TimerHandle | None:
        return stream._alarm

    async def begin_to_wait(seconds: float) -> asyncio.Task[Octets]:
        task = asyncio.create_task(stream.receive(now() + seconds))
        await asyncio.sleep(0)
        return task

    async def be_answered(task: asyncio.Task[Octets]) -> None:
        await stream.send(b"x", inf)
        assert await task == b"x"

    async def ringing_of(first: asyncio.TimerHandle | None) -> None:
        assert first is not None
        while alarm() is first:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)

    now = asyncio.get_running_loop().time
    with peers.server(echo) as port:
        stream = stream_in_asyncio.Stream()
        await stream.connect(connect_to(port))
        await be_answered(await begin_to_wait(SHORT))
        await ringing_of(alarm())
        assert alarm() is None  # it rang for nobody

        await be_answered(await begin_to_wait(SHORT))
        first = alarm()
        third = await begin_to_wait(20)
        assert alarm() is first  # it is early enough
        await ringing_of(first)
        again = alarm()
        assert again is not None  # it rang too early
        assert again.when() > now() + 1
        await be_answered(third)
        with pytest.raises(TimeoutError):  # at once, whatever may come meanwhile
            stream.receive(now()).send(None)
        with pytest.raises(TimeoutError):
            await stream.receive(now() + SHORT)
        await stream.close()
        assert alarm() is None


# --- being fair ----------------------------------------------------------------------------------


@in_the_world_of(ASYNCIO, TRIO)
@pytest.mark.parametrize("command", ["NOOP", "RSET"])  # the replies to RSET wait for each other
async def test_others_get_their_turn_while_a_client_floods(world: World, command: str) -> None:
    def count(line: TraceLine) -> None:
        answers[0] += line.text.startswith("250")

    answers, turns = [0], [0]
    async with world.server(Handler(), trace=count) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"{command}\r\n".encode() * 5000)  # all of it is there at once
            client.setblocking(False)
            while answers[0] < 5000:
                before = answers[0]
                await world.checkpoint()
                with suppress(BlockingIOError):
                    client.recv(FLOOD)
                turns.append(answers[0] - before)
    assert max(turns) < 1000


# --- being stopped -------------------------------------------------------------------------------


@in_the_world_of(ASYNCIO)
async def test_cancelling_a_task_closes_its_client_at_once() -> None:
    with peers.server(greet_and_wait) as port:
        client = in_asyncio.SMTPClient("127.0.0.1", port, security=Security.NONE)
        await client.open()
        task = asyncio.create_task(client.noop())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client.is_open


@in_the_world_of(ASYNCIO)
async def test_a_timeout_of_the_callers_own_is_his_and_closes_the_client() -> None:
    async def ask() -> None:
        async with asyncio.timeout(0.05), client:
            await client.noop()

    with peers.server(greet_and_wait) as port:
        client = in_asyncio.SMTPClient("127.0.0.1", port, security=Security.NONE)
        with pytest.raises(TimeoutError) as caught:
            await ask()
        assert type(caught.value) is TimeoutError
        assert not client.is_open


@in_the_world_of(ASYNCIO)
async def test_closing_under_another_task_ends_its_call_in_asyncio() -> None:
    with peers.server(greet_and_wait) as port:
        client = in_asyncio.SMTPClient("127.0.0.1", port, security=Security.NONE)
        await client.open()
        task = asyncio.create_task(client.noop())
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ConnectionLost, match="closed on this side"):
            await task


@in_the_world_of(TRIO)
async def test_a_cancelled_scope_closes_the_client_at_once() -> None:
    with peers.server(greet_and_wait) as port:
        with trio.move_on_after(0.05) as scope:
            async with in_trio.SMTPClient("127.0.0.1", port, security=Security.NONE) as client:
                await client.noop()
        assert scope.cancelled_caught
        assert not client.is_open


@in_the_world_of(TRIO)
async def test_closing_under_another_task_ends_its_call_in_trio() -> None:
    async def ask() -> None:
        with pytest.raises(ConnectionLost, match="closed on this side"):
            await client.noop()

    with peers.server(greet_and_wait) as port:
        client = in_trio.SMTPClient("127.0.0.1", port, security=Security.NONE)
        await client.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            await client.close()


@in_the_world_of(SOCKET)
async def test_closing_under_another_thread_ends_its_call() -> None:
    def script(peer: Conversation) -> None:
        greet_and_wait_for_noop(peer)
        asked.set()
        peer.hear_all()

    def close() -> None:
        asked.wait()
        client.close()

    asked = threading.Event()
    with peers.server(script) as port:
        client = in_socket.SMTPClient("127.0.0.1", port, security=Security.NONE)
        client.open()
        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(ConnectionLost):
            client.noop()
        thread.join()
    assert not client.is_open


def greet_and_wait_for_noop(peer: Conversation) -> None:
    peer.say("220 mx.example.org")
    peer.hear("EHLO")
    peer.say("250 mx.example.org")
    peer.hear("NOOP")


# --- handlers that take their time ---------------------------------------------------------------


class Slow(Handler):
    """Never answers VRFY."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.cancelled = False

    async def never(self) -> None:
        raise NotImplementedError

    async def on_verify(self, session: ServerSession, string: str) -> None:
        try:
            await self.never()
        except BaseException:
            self.cancelled = True
            raise

    def on_error(self, session: ServerSession, error: Exception) -> None:
        self.errors.append(error)


class SlowInAsyncio(Slow):
    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def never(self) -> None:
        self.asked.set()
        await asyncio.Event().wait()


class SlowInTrio(Slow):
    def __init__(self) -> None:
        super().__init__()
        self.asked = trio.Event()

    async def never(self) -> None:
        self.asked.set()
        await trio.sleep_forever()


def slow(world: World) -> SlowInAsyncio | SlowInTrio:
    return SlowInTrio() if world is TRIO else SlowInAsyncio()


@in_the_world_of(ASYNCIO, TRIO)
async def test_a_handler_that_takes_too_long_is_cancelled_and_the_connection_lives(
    world: World,
) -> None:
    def ask() -> None:
        with peers.client(server.port) as client:
            client.hear("220")
            client.say("EHLO client.example")
            while client.hear("250").startswith("250-"):
                pass
            client.say("VRFY somebody")
            client.hear("451")
            client.say("NOOP", "QUIT")
            client.hear("250", "221")

    handler = slow(world)
    async with world.server(handler, timeouts=Timeouts(command=0.05)) as server:
        await world.in_thread(ask)
    assert handler.cancelled
    assert [isinstance(error, TimeoutError) for error in handler.errors] == [True]


@in_the_world_of(ASYNCIO, TRIO)
async def test_what_is_no_exception_cancels_the_handlers(world: World) -> None:
    class Enough(BaseException):
        pass

    async def serve() -> None:
        async with world.server(handler) as server:
            with peers.client(server.port) as client:
                client.say("EHLO client.example", "VRFY somebody")
                await handler.asked.wait()
                raise Enough

    handler = slow(world)
    with pytest.raises(Enough):
        await serve()
    assert handler.cancelled


@in_the_world_of(ASYNCIO)
async def test_cancelling_a_server_cancels_its_handlers_in_asyncio() -> None:
    async def serve() -> None:
        async with in_asyncio.SMTPServer(handler) as server:
            port.set_result(server.port)
            await asyncio.Event().wait()

    handler = SlowInAsyncio()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve())
    client = in_asyncio.SMTPClient("127.0.0.1", await port, security=Security.NONE)
    await client.open()
    call = asyncio.create_task(client.verify("somebody"))
    await handler.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handler.cancelled
    with pytest.raises(ConnectionLost):
        await call


@in_the_world_of(ASYNCIO)
async def test_cancelling_a_close_cancels_the_handlers() -> None:
    handler = SlowInAsyncio()
    server = in_asyncio.SMTPServer(handler)
    async with server:
        client = in_asyncio.SMTPClient("127.0.0.1", server.port, security=Security.NONE)
        await client.open()
        call = asyncio.create_task(client.verify("somebody"))
        await handler.asked.wait()
        closing = asyncio.create_task(server.close())
        with pytest.raises(ConnectionLost):
            await call
        assert not handler.cancelled
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        while server._connections:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        assert handler.cancelled


@in_the_world_of(TRIO)
async def test_cancelling_a_server_cancels_its_handlers_in_trio() -> None:
    async def serve(task_status: trio.TaskStatus[int]) -> None:
        async with in_trio.SMTPServer(handler) as server:
            task_status.started(server.port)
            await trio.sleep_forever()

    async def ask() -> None:
        with pytest.raises(ConnectionLost):
            await client.verify("somebody")

    handler = SlowInTrio()
    async with trio.open_nursery() as asking, trio.open_nursery() as serving:
        port = await serving.start(serve)
        client = in_trio.SMTPClient("127.0.0.1", port, security=Security.NONE)
        await client.open()
        asking.start_soon(ask)
        await handler.asked.wait()
        serving.cancel_scope.cancel()
    assert handler.cancelled


class Stumbling(Handler):
    """What its VRFY waits for is cancelled, or goes wrong, and no fault of the server's."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.gone = 0

    async def wait(self) -> None:
        raise NotImplementedError

    async def on_verify(self, session: ServerSession, string: str) -> None:
        await self.wait()

    def on_error(self, session: ServerSession, error: Exception) -> None:
        self.errors.append(error)

    def on_disconnect(self, session: ServerSession) -> None:
        self.gone += 1


async def stumble(handler: Stumbling, world: World, *, lives: bool) -> Exception:
    """Ask it once; return what `on_error` was told. `lives`: whether the connection goes on."""

    def ask() -> None:
        with peers.client(server.port) as client:
            client.say("EHLO client.example", "VRFY somebody")
            while not client.hear("").startswith("250 "):
                pass
            client.hear("451")
            if lives:
                client.say("NOOP", "QUIT")
                client.hear("250", "221")

    async with world.server(handler, timeouts=Timeouts(command=SHORT)) as server:
        await world.in_thread(ask)
    assert handler.gone == 1
    (error,) = handler.errors
    return error


@in_the_world_of(ASYNCIO)
async def test_what_a_handler_waits_for_is_cancelled_and_the_connection_lives() -> None:
    class Waiting(Stumbling):
        async def wait(self) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    error = await stumble(Waiting(), ASYNCIO, lives=True)
    assert str(error) == "on_verify: what it waits for was cancelled"
    assert isinstance(error.__cause__, asyncio.CancelledError)


@in_the_world_of(TRIO)
async def test_what_goes_wrong_while_a_handlers_nursery_is_cancelled_is_told() -> None:
    class Nursing(Stumbling):
        async def clean_up(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("clean up")

        async def wait(self) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.clean_up)
                nursery.start_soon(trio.sleep_forever)

    error = await stumble(Nursing(), TRIO, lives=False)
    assert isinstance(error, ExceptionGroup)
    (inner,) = error.exceptions
    assert isinstance(inner, KeyError)


# --- long waits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3_000_000.0, 1e10])
async def test_timeouts_may_be_of_any_length(world: World, seconds: float) -> None:
    async with (
        world.server(Handler(), timeouts=seconds) as server,
        world.client("127.0.0.1", server.port, security=Security.NONE, timeouts=seconds) as client,
    ):
        assert (await client.send(ENVELOPE, b"x" * FLOOD)).accepted


# --- a server short of descriptors, or of threads ------------------------------------------------


@contextmanager
def no_descriptor_left(last: int) -> Iterator[None]:
    """Nobody in this process can open anything: up to `last` all are taken, and none is above."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, hard))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(last))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@in_the_world_of(SOCKET)
async def test_a_server_that_cannot_accept_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    with in_socket.SMTPServer(Handler()) as server, socket.socket() as connection:
        with peers.client(server.port) as first:
            first.hear("220")  # the server is at its work
            with no_descriptor_left(connection.fileno()):
                connection.connect(("127.0.0.1", server.port))
                while "cannot accept" not in caplog.text:
                    threading.Event().wait(0.01)
        Conversation(connection).hear("220")
    assert "cannot accept a connection" in caplog.text


class NoThread:
    """Stands in for `Thread.start()`: the system has no thread, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._start = threading.Thread.start

    def __enter__(self) -> None:
        def fail(_thread: threading.Thread) -> None:
            self._monkeypatch.setattr(threading.Thread, "start", self._start)
            raise RuntimeError("can't start new thread")

        self._monkeypatch.setattr(threading.Thread, "start", fail)

    def __exit__(self, *_: object) -> None:
        assert threading.Thread.start is self._start, "nobody has wanted a thread"


@in_the_world_of(SOCKET)
async def test_a_server_short_of_threads_refuses_one_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with in_socket.SMTPServer(Handler()) as server:
        with NoThread(monkeypatch), peers.client(server.port) as unlucky:
            unlucky.hear("421")
            assert unlucky.hear_all() == b""
        with peers.client(server.port) as lucky:
            lucky.hear("220")
        with NoThread(monkeypatch), peers.client(server.port) as last:
            last.hear("421")
    assert "cannot serve a connection: can't start new thread" in caplog.text


@in_the_world_of(SOCKET)
async def test_a_server_without_any_thread_is_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    server = in_socket.SMTPServer(Handler())
    with NoThread(monkeypatch), pytest.raises(RuntimeError):
        server.__enter__()
    server.close()
    with server:
        assert server.port


@in_the_world_of(SOCKET)
@pytest.mark.parametrize("left", range(6))
async def test_a_server_without_the_descriptors_it_needs_is_not_open(left: int) -> None:
    server = in_socket.SMTPServer(Handler())
    with server:
        pass  # whatever it reads from a file has been read now
    *spare, last = [socket.socket() for _ in range(left + 1)]
    with last, no_descriptor_left(last.fileno()):
        for each in spare:
            each.close()
        with pytest.raises(OSError, match="Too many open files"):
            server.__enter__()
        with pytest.raises(LocalProtocolError, match="not open"):
            assert server.port
        server.close()
    with server, peers.client(server.port) as client:
        client.hear("220")
