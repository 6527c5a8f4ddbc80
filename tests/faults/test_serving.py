"""A server whose clients break off anywhere, and whose handler fails anywhere.

Knows what a client may say in one go. Must not know how a flow finds its way.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
import trio

from smtp_proto.flow import (
    Envelope,
    Handler,
    Security,
    Serve,
    ServerSession,
    ServeSettings,
    Timeouts,
)
from smtp_proto.sasl import Credentials
from smtp_proto.testing import ADDRESS, Fault, Link, Stream
from smtp_proto.wire import Mail, Octets, Rcpt
from tests.adapters.worlds import ASYNCIO, Server
from tests.faults.conftest import left_open
from tests.faults.kit import KITS, Kit, Wire, case_clock
from tests.faults.test_verbs import STRANGE, SYSTEM, Failing, Whim
from tests.faults.visits import CONTENTS, SESSION, VISITED, accepted, assert_true, visitor

where_the_world_awaits = pytest.mark.parametrize(  # a thread cannot be interrupted
    "kit",
    [kit for kit in KITS if kit.world.awaits],
    indirect=True,
    ids=lambda kit: kit.world.name,
)


BREAKS = [Fault.DROP, Fault.RESET, Fault.SILENCE, Fault.STALL]


class Keeping(Handler):
    """Keeps what it is given, and the order in which it is asked."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.calls: list[str] = []
        self.errors: list[Exception] = []

    def on_connect(self, session: ServerSession) -> None:
        self.note("on_connect")

    def on_helo(self, session: ServerSession, domain: str) -> None:
        self.note("on_helo")

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        self.note("on_auth")
        return True

    def on_mail(self, session: ServerSession, mail: Mail) -> None:
        self.note("on_mail")

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> None:
        self.note("on_rcpt")

    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        self.note("on_message")
        self.contents.append(content)

    def on_verify(self, session: ServerSession, string: str) -> None:
        self.note("on_verify")

    def on_expand(self, session: ServerSession, string: str) -> None:
        self.note("on_expand")

    def on_reset(self, session: ServerSession) -> None:
        self.note("on_reset")

    def on_disconnect(self, session: ServerSession) -> None:
        self.note("on_disconnect")

    def on_error(self, session: ServerSession, error: Exception) -> None:
        self.errors.append(error)

    def note(self, name: str) -> None:
        self.calls.append(name)


class Moody(Keeping):
    """Raises an error at one of its calls."""

    def __init__(self, call: int, error: BaseException) -> None:
        super().__init__()
        self.calls_left = call
        self._error = error

    def note(self, name: str) -> None:
        super().note(name)
        self.calls_left -= 1
        if self.calls_left == 0:
            raise self._error


class Pensive(Keeping):
    """Does not come to an end with one of its calls."""

    def __init__(self, kit: Kit, name: str) -> None:
        super().__init__()
        if kit.world is ASYNCIO:
            setattr(self, name, self._never(lambda: asyncio.Event().wait()))
        else:
            setattr(self, name, self._never(trio.sleep_forever))

    def _never(self, wait: Callable[[], object]) -> Callable[..., object]:
        return lambda *_: wait()


def settings(**more: object) -> ServeSettings:
    make: Callable[..., ServeSettings] = ServeSettings
    return make(hostname="mx.example.org", nonce=lambda: b"sixteen octets..", **more)


def link_to(kit: Kit, *octets: bytes) -> tuple[Link, Wire]:
    """A client that says all this at once, as far as it gets."""
    link = Link(case_clock(kit))
    for each in octets:
        link.client.write(each)
    return link, Wire(link.server)


def heard(link: Link) -> bytes:
    with suppress(OSError):
        return b"".join(iter(lambda: link.client.read() or b"", b""))
    return b""


def bare(verbs: object) -> object:
    return verbs


async def serve(
    kit: Kit,
    handler: Handler,
    wire: Wire,
    around: Callable[[object], object] = bare,
    **more: object,
) -> float:
    """Serve one client to the end; return how long it took."""
    begin, tasks = kit.now(), kit.tasks()
    try:
        await kit.carry_out(Serve(handler, settings(**more), ADDRESS), wire, around)
    finally:
        assert wire.closed or wire.lost
        await kit.settled()
        assert kit.tasks() == tasks
    return kit.now() - begin


# --- Clients that break off ----------------------------------------------------------------------


@pytest.mark.parametrize("course", ["to_server", "to_client"])
@pytest.mark.parametrize("fault", BREAKS)
def test_a_client_that_breaks_off_behind_any_octet(kit: Kit, fault: Fault, course: str) -> None:
    async def main() -> None:
        whole, (link, wire) = Keeping(), link_to(kit, SESSION)
        await serve(kit, whole, wire)
        replies = heard(link)
        assert whole.contents == CONTENTS
        assert accepted(replies) == 2
        for octets in range(len(SESSION if course == "to_server" else replies)):
            link, wire = link_to(kit)
            getattr(link, course).strike_after(octets, fault)
            with suppress(OSError):
                link.client.write(SESSION)
            handler = Keeping()
            took = await serve(kit, handler, wire)
            said = heard(link)
            assert_ended(handler)
            assert_true(handler.contents, accepted(said), ahead=2)
            if fault is Fault.DROP:
                assert replies.startswith(said)
            if course == "to_client":
                assert len(said) == (0 if fault is Fault.RESET else octets)
            elif fault is Fault.DROP:
                assert accepted(said) == len(handler.contents)
            if fault is Fault.STALL or (fault is Fault.SILENCE and course == "to_server"):
                assert 0.0 < took < 300.0 + 10.0 + 2.0
            else:
                assert took == 0.0

    kit.run(main)


# --- Within TLS, and logged in -------------------------------------------------------------------


class Bordered(Wire):
    """Notes behind how many octets a read or a write has ended."""

    def __init__(self, inner: Stream) -> None:
        super().__init__(inner)
        self.borders: dict[str, set[int]] = {"reads": set(), "writes": set()}

    def write(self, data: Octets) -> None:
        super().write(data)
        self.borders["writes"].add(self.written)

    def read(self, maximum: int = 65_536) -> bytes | None:
        octets = super().read(maximum)
        self.borders["reads"].add(self.read_so_far)
        return octets


def assert_ended(handler: Keeping) -> None:
    assert handler.errors == []
    assert handler.calls.count("on_disconnect") == 1
    assert handler.calls[-1] == "on_disconnect"


@pytest.mark.parametrize("way", ["reads", "writes"])
@pytest.mark.parametrize("fault", BREAKS)
def test_a_session_within_tls_that_breaks_anywhere(kit: Kit, fault: Fault, way: str) -> None:
    """A record is taken whole or not at all: so each is cut before its last octet, and behind."""

    async def main() -> None:
        whole, peer = Keeping(), visitor(case_clock(kit))
        wire = Bordered(peer)
        await serve(kit, whole, wire, bare, **VISITED)
        peer.finish()
        assert_ended(whole)
        assert whole.contents == CONTENTS
        borders = wire.borders[way]
        assert len(borders) > 10
        for octets in sorted(borders | {border - 1 for border in borders} - {-1}):
            handler, peer = Keeping(), visitor(case_clock(kit))
            limit = {way: float(octets)}
            took = await serve(kit, handler, Wire(peer, fault=fault, **limit), bare, **VISITED)
            assert_ended(handler)
            assert_true(handler.contents, accepted(peer.heard))
            if fault in (Fault.DROP, Fault.RESET):
                assert took < 1.0
            else:
                assert took < 300.0 + 10.0 + 2.0

    kit.run(main)


@pytest.mark.parametrize("verb", ["send", "receive"])
@pytest.mark.parametrize("make", SYSTEM + STRANGE, ids=lambda make: repr(make()))
def test_a_verb_that_fails_anywhere_ends_the_session(
    kit: Kit, make: Callable[[], BaseException], verb: str
) -> None:
    """What the system says is the end of the stream; what else is raised comes out as it is."""

    async def main() -> None:
        for call in itertools.count(1):
            error, handler, peer = make(), Keeping(), visitor(case_clock(kit))
            wire = Wire(peer)
            failing = partial(Failing, name=verb, call=call, error=error, wire=wire)
            raised: BaseException | None = None
            try:
                await serve(kit, handler, wire, failing, **VISITED)
            except type(error) as its:
                raised = its
            assert_true(handler.contents, accepted(peer.heard))
            if not wire.broken:
                assert handler.contents == CONTENTS
                break
            if isinstance(error, OSError):
                assert raised is None
                assert_ended(handler)
            else:
                assert raised is error
                assert handler.errors == []
        assert call > 10

    kit.run(main)


# --- Handlers that fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), OSError("no disk"), TimeoutError("slow"), ConnectionResetError("gone")],
    ids=repr,
)
def test_a_handler_that_fails_anywhere_accepts_nothing_by_that(kit: Kit, error: Exception) -> None:
    async def main() -> None:
        for call in itertools.count(1):
            link, wire = link_to(kit, SESSION)
            handler = Moody(call, error)
            took = await serve(kit, handler, wire)
            said = heard(link)
            assert took < 2.0
            if handler.calls_left > 0:
                assert handler.errors == []
                break
            assert handler.errors == [error]
            assert handler.calls[-1] == "on_disconnect"
            assert handler.calls.count("on_disconnect") == 1
            assert said.count(b"accepted") == len(handler.contents)
            failed = handler.calls[call - 1]
            if failed not in ("on_reset", "on_disconnect"):
                assert b"451 4.3.0" in said or b"421 4.3.0" in said
        assert call > 10

    kit.run(main)


@pytest.mark.parametrize("make", [KeyboardInterrupt, Whim], ids=lambda make: make.__name__)
def test_what_is_no_exception_comes_out_of_a_handler_as_it_is(
    kit: Kit, make: type[BaseException]
) -> None:
    async def main() -> None:
        for call in itertools.count(1):
            link, wire = link_to(kit, SESSION)
            error = make()
            handler = Moody(call, error)
            raised: BaseException | None = None
            try:
                await serve(kit, handler, wire)
            except make as its:
                raised = its
            if handler.calls_left > 0:
                assert raised is None
                break
            assert raised is error
            assert heard(link).count(b"accepted") <= len(handler.contents)
        assert call > 10

    kit.run(main)


@where_the_world_awaits
@pytest.mark.parametrize(
    "name",
    [
        "on_connect", "on_helo", "on_mail", "on_rcpt", "on_message", "on_verify", "on_expand",
        "on_reset", "on_disconnect",
    ],
)  # fmt: skip
def test_a_handler_that_never_answers_is_given_up(kit: Kit, name: str) -> None:
    async def main() -> None:
        link, wire = link_to(kit, SESSION)
        handler = Pensive(kit, name)
        took = await serve(kit, handler, wire, timeouts=Timeouts())
        assert 10.0 <= took < 4 * 600.0 + 20.0
        assert handler.errors
        assert all(isinstance(error, TimeoutError) for error in handler.errors)
        assert heard(link).count(b"accepted") == len(handler.contents)

    kit.run(main)


# --- On real sockets -----------------------------------------------------------------------------


def connect(port: int, octets: bytes, *, reset: bool) -> None:
    """Say this and hang up."""
    with socket.create_connection(("127.0.0.1", port), 20.0) as client:
        client.sendall(octets)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while client.recv(65_536):
                    pass


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_no_descriptor_is_left_of_a_client_that_breaks_off(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    monkeypatch.undo()  # here the time is the system's
    make: Callable[..., Server] = kit.world.server

    async def main() -> None:
        handler, places = Keeping(), range(0, len(SESSION), 7)
        await kit.world.in_thread(int)
        before, tasks = left_open(), kit.tasks()
        async with make(handler, timeouts=20.0, security=Security.NONE) as server:
            for octets in places:
                said = SESSION[:octets]
                await kit.world.in_thread(partial(connect, server.port, said, reset=reset))
        await kit.settled()
        assert left_open() == before
        assert kit.tasks() == tasks
        assert handler.errors == []
        assert handler.calls.count("on_disconnect") == handler.calls.count("on_connect")
        if not reset:
            assert handler.calls.count("on_connect") == len(places)
            assert handler.contents

    kit.world.run(main)


@where_the_world_awaits
def test_who_comes_just_when_the_server_closes_is_not_left_behind(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    make: Callable[..., Server] = kit.world.server

    async def main() -> None:
        for turns in range(8):
            before, tasks = left_open(), kit.tasks()
            async with make(Keeping(), timeouts=20.0) as server:
                client = socket.create_connection(("127.0.0.1", server.port), 20.0)
                for _ in range(turns):
                    await kit.world.checkpoint()
            client.close()
            await kit.settled()
            assert left_open() == before, turns
            assert kit.tasks() == tasks, turns

    with_garbage_kept(lambda: kit.world.run(main))


def with_garbage_kept(test: Callable[[], None]) -> None:
    """What is left open stays to be seen."""
    gc.collect()
    gc.disable()
    try:
        test()
    finally:
        gc.enable()
