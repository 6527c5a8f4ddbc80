"""Each verb fails at each of its calls: the first error comes out, and nothing stays open.

Knows what may go wrong where octets, addresses and content come from. Must not know SMTP.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from smtp_proto.flow import (
    ConnectError,
    CredentialReport,
    DeliveryInDoubt,
    ProxyError,
    Security,
    SMTPError,
    SMTPTimeout,
)
from tests.adapters.worlds import Client
from tests.faults.kit import Kit, Wire, case_clock
from tests.faults.talks import (
    BODY,
    LONG_LINE,
    MANY_PIECES,
    TALKS,
    TWO,
    Talk,
    as_told,
    cause_of,
    causes_of,
    take_part,
)
from tests.faults.whole import assert_goes_well, references


class Whim(BaseException):
    """No Exception: nobody but its caller may catch it."""


SYSTEM: tuple[Callable[[], BaseException], ...] = (
    lambda: OSError("the system says no"),
    lambda: TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
)
STRANGE: tuple[Callable[[], BaseException], ...] = (
    lambda: ValueError("a bug"),
    KeyboardInterrupt,
    asyncio.CancelledError,
    Whim,
)
VERBS = ("connect", "send", "receive")


class Failing:
    """The verbs of a stream, one of which fails at one of its calls.

    A connection that cannot be made was made, and had to be given up.
    """

    def __init__(
        self, verbs: object, name: str, call: int, error: BaseException, wire: Wire
    ) -> None:
        self._verbs = verbs
        self._wire = wire
        self._name = name
        self._error = error
        self.calls_left = call

    def __getattr__(self, name: str) -> object:
        verb: Callable[..., object] = getattr(self._verbs, name)
        return self._count(verb) if name == self._name else verb

    def _count(self, verb: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            self.calls_left -= 1
            if self.calls_left != 0:
                return verb(*arguments)
            if self._name == "connect":
                return self._made_in_vain(verb(*arguments))
            self._wire.break_off()
            raise self._error

        return call

    def _made_in_vain(self, made: object) -> object:
        async def wait_and_raise(making: Awaitable[object]) -> None:
            await making
            raise self._error

        if isinstance(made, Awaitable):
            return wait_and_raise(made)
        raise self._error


def failing(client: Client, name: str, call: int, error: BaseException, wire: Wire) -> Failing:
    """Have a verb of a client's stream fail."""
    blocking = getattr(client, "_blocking", client)
    verbs = Failing(blocking._stream, name, call, error, wire)
    blocking._stream = verbs
    return verbs


async def assert_over(kit: Kit, name: str, client: Client, tasks: int, *, again: bool) -> None:
    """Nothing is left, and the client can begin anew."""
    assert not client.is_open
    await kit.settled()
    assert kit.tasks() == tasks
    if not again:
        return
    talk = TALKS[name]
    second = Wire(talk.peer(clock=case_clock(kit)))
    kit.prepare(client, second)
    await assert_goes_well(talk, client)
    assert second.closed or second.lost


async def fail(
    kit: Kit, name: str, verb: str, call: int, error: BaseException
) -> tuple[list[object], Wire, bool]:
    """Take part in a talk where a verb fails; what came of it, and whether it came to that."""
    talk, tasks = TALKS[name], kit.tasks()
    wire = Wire(talk.peer(clock=case_clock(kit)))
    client = kit.client(wire, **talk.settings)
    verbs = failing(client, verb, call, error, wire)
    outcomes: list[object]
    try:
        outcomes = await take_part(talk, client)
    except BaseException as raised:
        if raised is not error:
            raise
        outcomes = [raised]
    assert wire.closed or wire.lost
    await assert_over(kit, name, client, tasks, again=call % 4 == 1)
    return outcomes, wire, verbs.calls_left <= 0


@pytest.mark.parametrize("name", TALKS)
def test_what_the_system_says_is_told_as_an_error_of_ours(kit: Kit, name: str) -> None:
    talk = TALKS[name]

    async def main() -> None:
        for verb, make in itertools.product(VERBS, SYSTEM):
            for call in itertools.count(1):
                error = make()
                outcomes, wire, has_failed = await fail(kit, name, verb, call, error)
                for outcome, whole in zip(outcomes, references(talk), strict=True):
                    if as_told(outcome) == as_told(whole.outcome):  # perhaps it was the farewell
                        assert wire.read_so_far >= whole.read
                        continue
                    assert isinstance(outcome, SMTPError)
                    causes = causes_of(outcome)
                    assert error in causes or isinstance(causes[-1], SMTPTimeout)
                    in_doubt = wire.written >= whole.content_written
                    assert isinstance(outcome, DeliveryInDoubt) is in_doubt
                    if verb == "connect":
                        assert isinstance(outcome, ConnectError | SMTPTimeout)
                if not has_failed:
                    break
            assert call > 1

    kit.run(main)


@pytest.mark.parametrize("name", ["secure", "check", "by hand", "pieces", "many", "proxy", "AUTO"])
def test_what_no_stream_should_raise_comes_out_as_it_is(kit: Kit, name: str) -> None:
    async def main() -> None:
        for verb, make in itertools.product(VERBS, STRANGE):
            for call in itertools.count(1):
                error = make()
                outcomes, _, has_failed = await fail(kit, name, verb, call, error)
                if not has_failed:
                    break
                assert outcomes == [error]
            assert call > 1

    kit.run(main)


# --- Where the content comes from ----------------------------------------------------------------


class Pieces:
    """Content that fails at one of its pieces; for worlds that await, and those that do not."""

    def __init__(self, call: int, error: BaseException, *begun: bytes) -> None:
        self._call = call
        self._error = error
        self._rest = [*begun, BODY[:11], BODY[11:12], BODY[12:]]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._call -= 1
        if self._call == 0:
            raise self._error
        if not self._rest:
            raise StopIteration
        return self._rest.pop(0)


class AwaitedPieces:
    def __init__(self, kit: Kit, pieces: Pieces) -> None:
        self._kit = kit
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await self._kit.world.checkpoint()
        try:
            return next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None


@pytest.mark.parametrize(
    ("talk", "begun"),
    [(TALKS["pieces"], ()), (MANY_PIECES, (LONG_LINE,))],
    ids=["before MAIL", "in the content"],
)
@pytest.mark.parametrize("make", SYSTEM + STRANGE, ids=lambda make: repr(make()))
def test_content_that_fails_is_never_delivered(
    kit: Kit, make: Callable[[], BaseException], talk: Talk, begun: tuple[bytes, ...]
) -> None:
    async def once(call: int, *, awaited: bool) -> None:
        tasks, error = kit.tasks(), make()
        peer = talk.peer(clock=case_clock(kit))
        wire = Wire(peer)
        client = kit.client(wire, **talk.settings)
        await client.open()
        pieces = Pieces(call, error, *begun)
        with pytest.raises((type(error), SMTPTimeout)) as caught:
            await client.send(TWO, AwaitedPieces(kit, pieces) if awaited else pieces)
        assert cause_of(caught.value) is error
        assert b"\r\n.\r\n" not in peer.heard
        nothing_sent = b"MAIL" not in peer.heard
        assert nothing_sent is not (begun and call > 1)
        assert client.is_open is (nothing_sent and isinstance(error, Exception))
        await client.close()
        assert wire.closed
        await assert_over(kit, "pieces", client, tasks, again=True)

    async def main() -> None:
        for call in range(1, 5):
            for awaited in {False, kit.world.awaits}:
                await once(call, awaited=awaited)

    kit.run(main)


# --- Where addresses come from -------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("make", SYSTEM + STRANGE[1:], ids=lambda make: repr(make()))
def test_a_name_that_cannot_be_looked_up(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, make: Callable[[], BaseException], call: int
) -> None:
    """The client looks for its proxy, and for what that is to lead to."""
    look_up, error = socket.getaddrinfo, make()
    calls = itertools.count(1)

    def find(*arguments: object, **more: object) -> object:
        if next(calls) == call:
            raise error
        found: Callable[..., object] = look_up
        return found(*arguments, **more)

    async def main() -> None:
        tasks = kit.tasks()
        with socket.create_server(("127.0.0.1", 0)) as proxy:
            kind: Callable[..., Client] = kit.world.client
            client = kind(
                "localhost",
                25,
                security=Security.NONE,
                proxy=f"socks4://127.0.0.1:{proxy.getsockname()[1]}",
            )
            with pytest.raises(type(error) if not isinstance(error, OSError) else SMTPError) as got:
                await client.open()
            raised = got.value
            if isinstance(error, OSError):
                assert isinstance(raised, ConnectError | ProxyError | SMTPTimeout)
                assert isinstance(raised, SMTPTimeout) or cause_of(raised) is error
            else:
                assert raised is error
            assert not client.is_open
            with pytest.raises(ConnectError):  # it can be opened again, if there is anybody
                await kind("127.0.0.1", 1, security=Security.NONE).open()
        await kit.settled()
        assert kit.tasks() == tasks

    monkeypatch.undo()  # here the time is the system's
    monkeypatch.setattr(socket, "getaddrinfo", find)
    kit.world.run(main)


def test_a_report_of_credentials_tells_of_any_error(kit: Kit) -> None:
    talk = TALKS["check"]

    async def main() -> None:
        error = OSError("the system says no")
        wire = Wire(talk.peer(clock=case_clock(kit)))
        client = kit.client(wire, **talk.settings)
        failing(client, "receive", 1, error, wire)
        report = await client.check_credentials()
        assert isinstance(report, CredentialReport)
        assert not report
        assert report.error is not None
        assert cause_of(report.error) is error

    kit.run(main)
