"""Reaching a host: its addresses one after the other or in a race, and from where.

Knows loopback addresses, and how each world is stopped. Must not know SMTP, but for a greeting.
"""

import asyncio
import errno
import gc
import itertools
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeAlias

import pytest
import trio
import trio.testing

from smtp_adapters.asyncio import SMTPClient as AsyncioClient
from smtp_adapters.asyncio import loop as loop_in_asyncio
from smtp_adapters.asyncio import reach as reach_in_asyncio
from smtp_adapters.asyncio import stream as stream_in_asyncio
from smtp_adapters.reach import Address, connect_error, interleaved
from smtp_adapters.socket import SMTPClient as SocketClient
from smtp_adapters.socket import SMTPServer
from smtp_adapters.socket import loop as loop_in_socket
from smtp_adapters.socket import stream as stream_in_socket
from smtp_adapters.trio import SMTPClient as TrioClient
from smtp_adapters.trio import loop as loop_in_trio
from smtp_adapters.trio import reach as reach_in_trio
from smtp_adapters.trio import stream as stream_in_trio
from smtp_proto.flow import (
    Connect,
    ConnectError,
    ConnectionLost,
    Flow,
    Handler,
    Phase,
    Resolve,
    Security,
    SMTPTimeout,
    Steps,
    Timeouts,
    Timer,
)
from tests.adapters import peers
from tests.adapters.peers import Conversation
from tests.adapters.worlds import ASYNCIO, SOCKET, TRIO, Client, World, in_the_world_of

PATIENT = 20.0
SHORT = 0.05
CONNECTING = {SOCKET: stream_in_socket, ASYNCIO: reach_in_asyncio, TRIO: reach_in_trio}

RACING = {ASYNCIO: reach_in_asyncio, TRIO: reach_in_trio}

NOBODY = "127.0.0.2"  # all of 127/8 is this machine; the servers listen on 127.0.0.1
Connected: TypeAlias = Callable[..., Client]
Attempt: TypeAlias = Callable[..., Awaitable[socket.socket]]


@pytest.fixture
def connect(world: World) -> Connected:
    kind: Callable[..., Client] = world.client

    def make(host: object, port: int | None = None, **settings: object) -> Client:
        return kind(host, port, **{"security": Security.NONE, "timeouts": PATIENT, **settings})

    return make


def greet(peer: Conversation, address: str = "127.0.0.1") -> None:
    peer.say("220 mx.example.org")
    peer.hear(f"EHLO [{address}]")
    peer.say("250 mx.example.org")
    peer.hear_all()


def has_addresses(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let each host have these addresses."""
    look_up = socket.getaddrinfo

    def find(host: str | None, port: int, *how: int, **more: int) -> list[Address]:
        wanted = (host,) if host is None or host.startswith("127.") else addresses
        return [each for address in wanted for each in look_up(address, port, *how, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", find)


@contextmanager
def silent_address(port: int) -> Iterator[str]:
    """An address of this machine that does not answer: on Linux, as its queue is full."""
    with (
        socket.create_server(("127.0.0.3", port), backlog=0),
        socket.create_connection(("127.0.0.3", port), PATIENT),
    ):
        yield "127.0.0.3"


async def carry_out(world: World, flow: Flow[object]) -> object:
    if world is SOCKET:
        return loop_in_socket.carry_out(flow, stream_in_socket.Stream())
    if world is TRIO:
        return await loop_in_trio.carry_out(flow, stream_in_trio.Stream())
    return await loop_in_asyncio.carry_out(flow, stream_in_asyncio.Stream())


# --- which address -------------------------------------------------------------------------------


async def test_behind_an_address_that_refuses_the_next_one_is_tried(
    connect: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_addresses(monkeypatch, NOBODY, "127.0.0.1")
    with peers.server(greet) as port:
        client = connect("mx.example.org", port)
        await client.open()
        await client.close()


async def test_behind_an_address_that_is_silent_the_next_one_is_tried(
    world: World, connect: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reach_in_asyncio, reach_in_trio):
        monkeypatch.setattr(module, "NEXT_ADDRESS", SHORT)
    has_addresses(monkeypatch, "127.0.0.3", "127.0.0.1")
    # Who blocks gives each address so long; the others give it company, and go on waiting.
    patience = SHORT if world is SOCKET else PATIENT
    with peers.server(greet) as port, silent_address(port):
        client = connect("mx.example.org", port, timeouts=Timeouts(connect=patience))
        await client.open()
        await client.close()


async def test_whose_addresses_are_all_silent_is_given_up_in_time(
    connect: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peers.server(Conversation.close) as port, silent_address(port) as address:
        has_addresses(monkeypatch, address, address)
        for timeouts, whole in (
            (Timeouts(connect=SHORT), False),
            (Timeouts(connect=PATIENT, total=SHORT), True),
        ):
            with pytest.raises(SMTPTimeout) as caught:
                await connect("mx.example.org", port, timeouts=timeouts).open()
            assert (caught.value.phase, caught.value.whole) == (Phase.CONNECT, whole)
            assert caught.value.seconds == SHORT
        socket.create_connection(("127.0.0.1", port)).close()


async def test_what_the_system_gives_up_is_not_our_deadline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*_: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    def steps() -> Steps[object]:
        with pytest.raises(OSError, match="timed out") as caught:
            yield Connect("127.0.0.1", 25, Timer(Phase.CONNECT, PATIENT))
        return caught.value.errno

    monkeypatch.setattr(CONNECTING[world], "bind", give_up)
    assert await carry_out(world, Flow(steps())) == errno.ETIMEDOUT


async def test_names_are_resolved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(host: str, *, ipv4_only: bool) -> Steps[object]:
        return (yield Resolve(host, ipv4_only, Timer(Phase.PROXY, PATIENT)))

    assert await carry_out(world, Flow(steps("127.0.0.1", ipv4_only=False))) == ("127.0.0.1",)
    assert await carry_out(world, Flow(steps("::1", ipv4_only=False))) == ("::1",)
    for only in (True, False):
        with pytest.raises(OSError, match=r".") as caught:
            await carry_out(world, Flow(steps("host.invalid", ipv4_only=only)))
        assert isinstance(caught.value, socket.gaierror)
    with pytest.raises(OSError, match=r"."):
        await carry_out(world, Flow(steps("::1", ipv4_only=True)))
    has_addresses(monkeypatch, "127.0.0.2", "127.0.0.1", "127.0.0.2")
    several = await carry_out(world, Flow(steps("mx.example.org", ipv4_only=True)))
    assert several == ("127.0.0.2", "127.0.0.1")


def test_what_became_of_several_addresses_is_told_in_one_line() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 25)")
    unreachable = OSError(errno.ENETUNREACH, "Network is unreachable")
    assert str(connect_error([refused])) == f"[Errno {errno.ECONNREFUSED}] Connection refused"
    assert isinstance(connect_error([refused, refused]), ConnectionRefusedError)
    assert str(connect_error([unreachable, TimeoutError("timed out")])) == (
        "Network is unreachable; timed out"
    )
    assert str(connect_error([OSError("one"), OSError("two"), OSError("one")])) == "one; two"
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert connect_error([unknown]) is unknown


def test_families_take_turns() -> None:
    def address(family: socket.AddressFamily, host: str) -> Address:
        return family, socket.SOCK_STREAM, 0, "", (host, 25)

    six = [address(socket.AF_INET6, f"2001:db8::{number}") for number in range(3)]
    four = [address(socket.AF_INET, "192.0.2.1")]
    assert interleaved([*six, *four]) == [six[0], four[0], six[1], six[2]]


# --- from where ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "local_address",
    ["127.0.0.5", ("127.0.0.5", 0), lambda _address, _port: ("127.0.0.5", 0)],
    ids=["address", "with a port", "function"],
)
async def test_a_connection_begins_where_it_is_told(
    connect: Connected, local_address: object
) -> None:
    with peers.server(lambda peer: greet(peer, "127.0.0.5")) as port:
        client = connect("127.0.0.1", port, local_address=local_address)
        await client.open()
        await client.close()


async def test_the_function_is_asked_for_each_address_and_its_failures_are_theirs(
    connect: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(address: str, port: int) -> None:
        asked.append((address, port))
        if address == NOBODY:
            raise LookupError("not from here")

    asked: list[tuple[str, int]] = []
    has_addresses(monkeypatch, NOBODY, "127.0.0.1")
    with peers.server(greet) as port:
        client = connect("mx.example.org", port, local_address=choose)
        await client.open()
        await client.close()
    assert asked == [(NOBODY, port), ("127.0.0.1", port)]
    with pytest.raises(ConnectError, match=rf"no local address for {NOBODY}: not from here"):
        await connect(NOBODY, port, local_address=choose).open()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("::1", 0), "no local address for 127.0.0.1: "),
        (("192.0.2.1", 0), "Cannot assign requested address"),
        (("an.example.org", 0), "is no IP address"),
        (5, "local_address is"),
    ],
)
async def test_a_local_address_that_cannot_be_is_an_error_with_words(
    connect: Connected, answer: object, words: str
) -> None:
    with pytest.raises(ConnectError, match=words):
        await connect("127.0.0.1", 25, local_address=lambda *_: answer).open()


# --- a Unix socket -------------------------------------------------------------------------------


async def test_a_path_is_a_unix_socket(connect: Connected, tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with peers.server(greet, path):
        client = connect(path)
        await client.open()
        await client.close()
    with pytest.raises(ConnectError, match=rf"cannot connect to {path}: Connection refused"):
        await connect(path).open()
    with pytest.raises(ConnectError, match="No such file"):
        await connect(tmp_path / "nothing").open()


# --- being stopped while connecting --------------------------------------------------------------


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def no_garbage_collector() -> Iterator[None]:
    """What is left open stays to be seen."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def host_with_a_silent_and_a_good_address(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[socket.socket]:
    for module in (reach_in_asyncio, reach_in_trio):
        monkeypatch.setattr(module, "NEXT_ADDRESS", 0.0)
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        listener.setblocking(False)
        with silent_address(listener.getsockname()[1]) as address:
            has_addresses(monkeypatch, address, "127.0.0.1")
            yield listener


def hang_up(listener: socket.socket) -> bool:
    """Close what has been connected; returns whether there was anything."""
    with suppress(BlockingIOError):
        listener.accept()[0].close()
        return True
    return False


@in_the_world_of(ASYNCIO)
async def test_an_open_in_asyncio_that_is_cancelled_anywhere_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        host_with_a_silent_and_a_good_address(monkeypatch) as listener,
        no_garbage_collector(),
    ):
        port = listener.getsockname()[1]
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", port)  # starts a thread
        settled = open_descriptors()
        connected = 0
        for checkpoints in itertools.count():
            client = AsyncioClient("mx.example.org", port, security=Security.NONE)
            task = asyncio.create_task(client.open())
            for _ in range(checkpoints):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert open_descriptors() == settled, checkpoints
            connected += hang_up(listener)
            if connected == 20:  # it waits for the greeting
                break


class CancelAt(trio.abc.Instrument):
    """Cancels a scope behind so many steps of its tasks."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope = scope
        self.steps = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if "compete" in task.name or "open" in task.name:
            self.steps -= 1
            if self.steps == 0:
                self._scope.cancel()


@in_the_world_of(TRIO)
async def test_an_open_in_trio_that_is_cancelled_anywhere_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def open_client() -> None:
        with scope, suppress(ConnectionLost):
            await client.open()
        over.set()

    with (
        host_with_a_silent_and_a_good_address(monkeypatch) as listener,
        no_garbage_collector(),
    ):
        port = listener.getsockname()[1]
        settled = open_descriptors()
        for steps in itertools.count(1):
            client = TrioClient("mx.example.org", port, security=Security.NONE)
            scope, over = trio.CancelScope(), trio.Event()
            instrument = CancelAt(scope, steps)
            trio.lowlevel.add_instrument(instrument)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_client)
                while not over.is_set():
                    await trio.testing.wait_all_tasks_blocked()
                    hang_up(listener)  # so that a greeting is not waited for without end
            trio.lowlevel.remove_instrument(instrument)
            assert open_descriptors() == settled, steps
            hang_up(listener)
            if not scope.cancelled_caught:
                break
    assert steps > 5


@in_the_world_of(ASYNCIO, TRIO)
async def test_a_connection_made_just_when_all_is_cancelled_is_closed(
    world: World, connect: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = RACING[world]
    attempt: Attempt = module.attempt
    made: list[socket.socket] = []

    async def attempt_and_cancel(*arguments: object) -> socket.socket:
        made.append(await attempt(*arguments))
        stop[0]()
        return made[-1]

    stop: list[Callable[[], object]] = []

    monkeypatch.setattr(module, "attempt", attempt_and_cancel)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = connect("127.0.0.1", listener.getsockname()[1])
        if world is TRIO:
            with trio.CancelScope() as scope:
                stop.append(scope.cancel)
                await client.open()
            assert scope.cancelled_caught
        else:
            task = asyncio.ensure_future(client.open())
            stop.append(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
    assert [connection.fileno() for connection in made] == [-1]


@in_the_world_of(ASYNCIO, TRIO)
async def test_of_two_that_answer_in_the_same_moment_one_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = RACING[world]
    attempt: Attempt = module.attempt
    made: list[socket.socket] = []
    both = asyncio.Event() if world is ASYNCIO else trio.Event()

    async def attempt_and_wait(*arguments: object) -> socket.socket:
        connection = await attempt(*arguments)
        made.append(connection)
        if len(made) == 2:
            both.set()
        with trio.CancelScope(shield=True) if world is TRIO else nullcontext():
            await both.wait()
        return connection

    monkeypatch.setattr(module, "attempt", attempt_and_wait)
    monkeypatch.setattr(module, "NEXT_ADDRESS", 0.0)
    has_addresses(monkeypatch, "127.0.0.1", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with await module.connect(Connect("mx", port, Timer(Phase.CONNECT, PATIENT))):
            assert sorted(connection.fileno() > 0 for connection in made) == [False, True]


@in_the_world_of(TRIO)
async def test_an_interrupt_is_not_wrapped_by_a_nursery_that_nobody_knows_of(
    connect: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupt(*_: object) -> socket.socket:
        raise KeyboardInterrupt

    monkeypatch.setattr(reach_in_trio, "attempt", interrupt)
    with pytest.raises(KeyboardInterrupt):
        await connect("127.0.0.1", 25).open()


class TraceFunction(Protocol):
    """What sys.settrace() takes, and what that returns."""

    def __call__(self, frame: FrameType, event: str, arg: object, /) -> "TraceFunction | None": ...


class InterruptAt:
    """Raises KeyboardInterrupt in front of one line of ours, as a signal may."""

    def __init__(self, line: int) -> None:
        self.lines_left = line

    def __enter__(self) -> None:
        self._tracer = sys.gettrace()
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._tracer)

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> TraceFunction | None:
        code = frame.f_code
        ours = "smtp_adapters/socket/" in code.co_filename and code.co_name != "__enter__"
        return self._interrupt if ours else None

    def _interrupt(self, _frame: FrameType, event: str, _argument: object) -> TraceFunction:
        if event == "line":
            self.lines_left -= 1
            if self.lines_left == 0:
                raise KeyboardInterrupt
        return self._interrupt


@in_the_world_of(SOCKET)
@pytest.mark.parametrize("by_with", [True, False], ids=["with", "open()"])
async def test_an_interrupt_anywhere_in_an_open_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, by_with: bool
) -> None:
    has_addresses(monkeypatch, NOBODY, "127.0.0.1")
    with SMTPServer(Handler()) as server, no_garbage_collector():
        for line in itertools.count(1):
            client = SocketClient("mx.example.org", server.port, security=Security.NONE)
            stream = client._stream
            assert isinstance(stream, stream_in_socket.Stream)
            interrupted = False
            try:
                with InterruptAt(line):
                    if by_with:
                        client.__enter__()
                    else:
                        client.open()
            except KeyboardInterrupt:
                interrupted = True
                assert not (client.is_open and by_with)
            if client.is_open:
                client.close()  # also where the interrupt came behind all that open() does
            assert stream._socket is None
            if not interrupted:
                break
    assert line > 100


async def test_what_is_closed_has_no_descriptor_any_more(connect: Connected) -> None:
    def script(peer: Conversation) -> None:
        greet(peer)
        seen.wait(PATIENT)  # our end of it is counted, too

    seen = threading.Event()
    with peers.server(script) as port:
        client = connect("127.0.0.1", port)
        await client.open()
        opened = open_descriptors()
        await client.close()
        assert open_descriptors() == opened - 1
        seen.set()
