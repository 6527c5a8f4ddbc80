"""The scripted peer in the three worlds, with the adapters' clients: no socket, and no waiting."""

from __future__ import annotations

import asyncio
import smtplib
import socket
from math import inf
from typing import Protocol

import pytest
import trio
import trio.testing

import smtp_adapters.asyncio
import smtp_adapters.socket
import smtp_adapters.trio
from smtp_adapters.testing import asyncio_streams
from smtp_adapters.testing.trio_stream import TrioStream
from smtp_proto.flow import DeliveryInDoubt, Security, SMTPError, SMTPTimeout, Timeouts
from smtp_proto.testing import (
    Clock,
    Fault,
    Link,
    ScriptedPeer,
    SocketLike,
    StuckError,
    TranscriptError,
    faults_everywhere,
    octet_by_octet,
)
from tests.testing.transcripts import CONTENT, DELIVERY, ENVELOPE

FAULTS = [Fault.DROP, Fault.RESET, Fault.SPLIT, Fault.CLOSING, Fault.GARBAGE]


def by_sockets(peer: ScriptedPeer, timeouts: Timeouts | None = None) -> None:
    client = smtp_adapters.socket.SMTPClient(
        "mail.example.org",
        security=Security.NONE,
        local_hostname="client.example",
        timeouts=timeouts,
        stream=SocketLike(peer),
    )
    with client:
        client.send(ENVELOPE, CONTENT)


async def _by_asyncio(peer: ScriptedPeer, timeouts: Timeouts | None) -> None:
    client = smtp_adapters.asyncio.SMTPClient(
        "mail.example.org",
        security=Security.NONE,
        local_hostname="client.example",
        timeouts=timeouts,
        stream=asyncio_streams(peer),
    )
    async with client:
        await client.send(ENVELOPE, CONTENT)


def by_asyncio(peer: ScriptedPeer, timeouts: Timeouts | None = None) -> None:
    asyncio.run(_by_asyncio(peer, timeouts))


async def _by_trio(peer: ScriptedPeer, timeouts: Timeouts | None) -> None:
    client = smtp_adapters.trio.SMTPClient(
        "mail.example.org",
        security=Security.NONE,
        local_hostname="client.example",
        timeouts=timeouts,
        stream=TrioStream(peer),
    )
    async with client:
        await client.send(ENVELOPE, CONTENT)


def by_trio(peer: ScriptedPeer, timeouts: Timeouts | None = None) -> None:
    trio.run(_by_trio, peer, timeouts, clock=trio.testing.MockClock(autojump_threshold=0))


WORLDS = pytest.mark.parametrize("deliver", [by_sockets, by_asyncio, by_trio])


class Deliver(Protocol):
    def __call__(self, peer: ScriptedPeer, timeouts: Timeouts | None = None) -> None: ...


@WORLDS
def test_a_message_is_delivered(deliver: Deliver) -> None:
    peer = ScriptedPeer(DELIVERY)
    deliver(peer)
    peer.finish()
    assert peer.heard.endswith(b"..hello\r\n.\r\nQUIT\r\n")


@WORLDS
def test_faults_end_in_success_or_in_an_error_of_ours(deliver: Deliver) -> None:
    peers = [*faults_everywhere(DELIVERY, faults=FAULTS)]
    results = dict.fromkeys(FAULTS, 0)
    for peer in peers[::7]:
        [(_, fault)] = peer.faults
        try:
            deliver(peer)
        except SMTPError:
            results[fault] += 1
    assert results[Fault.SPLIT] == 0
    assert all(count for fault, count in results.items() if fault is not Fault.SPLIT)


@WORLDS
@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET, Fault.GARBAGE])
def test_a_client_is_never_wrong_about_a_message(deliver: Deliver, fault: Fault) -> None:
    for peer in faults_everywhere(DELIVERY, faults=[fault]):
        try:
            deliver(peer)
            delivered = True
        except DeliveryInDoubt:
            continue  # it says that it cannot know
        except SMTPError:
            delivered = False
        assert (b"\r\n.\r\n" in peer.heard) is delivered, peer


@WORLDS
@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.STALL, Fault.DRIP])
def test_deadlines_strike(deliver: Deliver, fault: Fault) -> None:
    transcript = f"S: 220 hi\nC: EHLO *\n<wait 0.01>\n<{fault.value}>\nS: 250 x"
    with pytest.raises(SMTPTimeout):
        deliver(ScriptedPeer(transcript), Timeouts(command=0.1))


@WORLDS
def test_what_is_not_in_the_transcript_is_told(deliver: Deliver) -> None:
    with pytest.raises(TranscriptError, match="EHLO client.example"):
        deliver(ScriptedPeer("S: 220 hi\nC: HELO *"))


# --- Like a socket ---------------------------------------------------------------------------


def test_the_clock_goes_on_instead_of_waiting() -> None:
    link = Link(Clock())
    stream = SocketLike(link.client)
    link.to_client.delay = 3.0
    link.server.write(b"one")
    link.server.write(b"two")
    assert stream.recv(100) == b"one"
    assert link.clock.now == 3.0
    stream.settimeout(2.0)
    with pytest.raises(TimeoutError):
        stream.recv(100)
    assert link.clock.now == 5.0
    assert stream.recv(2) == b"tw"
    assert link.clock.now == 6.0
    assert stream.send(b"four") == 4
    stream.close()
    assert link.server.read() == b"four"
    assert link.server.read() == b""


def test_a_wait_without_a_timeout_that_nothing_ends_is_told() -> None:
    with pytest.raises(StuckError):
        SocketLike(Link(Clock()).client).recv(1)
    with pytest.raises(StuckError):
        SocketLike(ScriptedPeer("<stall>")).send(b"?")


def test_it_is_used_as_blocking_clients_use_a_socket() -> None:
    link = Link(Clock())
    link.to_client.cut = octet_by_octet
    with SocketLike(link.client) as stream:
        stream.sendall(b"all")
        link.server.write(b"one\r\ntwo\r\n" + b"x" * 10_000)
        link.server.close_write()
        with stream.makefile("rb") as file:
            assert file.readline() == b"one\r\n"
            assert file.readline() == b"two\r\n"
            assert file.read() == b"x" * 10_000
            assert file.readline() == b""
        stream.sendall(b" of it")
    assert link.server.read() == b"all"
    assert link.server.read() == b" of it"
    assert link.server.read() == b""


def test_shut_down_nothing_comes_and_nothing_goes() -> None:
    link = Link(Clock())
    link.server.write(b"too late")
    stream = SocketLike(link.client)
    stream.shutdown(socket.SHUT_RDWR)
    assert stream.recv(100) == b""
    with pytest.raises(ConnectionError):
        stream.sendall(b"?")
    stream.close()
    assert link.server.read() == b""


def test_what_it_cannot_do_as_a_socket_is_told() -> None:
    stream = SocketLike(Link(Clock()).client)
    with pytest.raises(ValueError, match="^how is SHUT_RDWR, which is 2, not 1$"):
        stream.shutdown(socket.SHUT_WR)
    with pytest.raises(ValueError, match="^mode is \"rb\", not 'r'$"):
        stream.makefile("r")


def test_smtplib_takes_it_for_a_socket() -> None:
    class Client(smtplib.SMTP):
        def _get_socket(self, *_: object) -> SocketLike:
            return SocketLike(peer)

    peer = ScriptedPeer(
        """
        S: 220 mail.example.org ESMTP
        C: ehlo client.example
        S: 250 mail.example.org
        C: quit
        S: 221 Goodbye
        """
    )
    client = Client("mail.example.org", local_hostname="client.example")
    client.ehlo()
    client.quit()
    peer.finish()


# --- asyncio's -------------------------------------------------------------------------------


def test_delays_are_waited_for_by_the_loop() -> None:
    async def main() -> None:
        peer = ScriptedPeer("S: 1\n<wait 0.01>\nS: 2\nC: x\n<wait 0.01>\nS: 3")
        reader, writer = asyncio_streams(peer)
        assert await reader.readline() == b"1\r\n"
        assert peer.arrives == 0.01
        assert await reader.read(100) == b"2\r\n"
        writer.write(b"x\r\n")
        assert await reader.read() == b"3\r\n"
        assert peer.clock.now >= 0.02
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        writer.write(b"is lost")

    asyncio.run(main())


def test_who_does_not_wait_for_what_comes_later_is_told() -> None:
    async def main() -> None:
        peer = ScriptedPeer("S: 220 hi\nC: EHLO *\nS: 250 x", delay=0.01)
        _, writer = asyncio_streams(peer)
        with pytest.raises(TranscriptError, match="before it has read all"):
            writer.write(b"EHLO client.example\r\n")
        writer.close()

    asyncio.run(main())


def test_a_reset_is_told_where_one_reads_and_where_one_drains() -> None:
    async def main() -> None:
        reader, writer = asyncio_streams(ScriptedPeer("<wait 0.01>\n<reset>"))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        reader, writer = asyncio_streams(ScriptedPeer("C: x\n<reset>\nC: y"))
        writer.write(b"x\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await writer.drain()

    asyncio.run(main())


# --- trio's ----------------------------------------------------------------------------------


def test_a_broken_stream_is_told_as_trio_tells_it() -> None:
    async def main() -> None:
        stream = TrioStream(ScriptedPeer("<reset>"))
        await stream.wait_send_all_might_not_block()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.send_all(b"?")
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(10)

    trio.run(main)


def test_silence_lasts_for_ever() -> None:
    async def main() -> None:
        peer = ScriptedPeer("<silence>")
        with trio.move_on_after(1e9) as scope:
            await TrioStream(peer).receive_some()
        assert scope.cancelled_caught
        assert peer.arrives == inf

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
