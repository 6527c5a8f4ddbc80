"""What sending costs, side by side with smtplib and aiosmtplib: `python -m benchmarks.run`.

Knows the public face of each client. Must not know how any of them works.

All clients take their turn in each round, so that a busy moment hits all of them; the median of
the rounds counts. The server is smtp-sink, a process of its own, written in C.
"""

import argparse
import asyncio
import json
import smtplib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import aiosmtplib
import trio

from benchmarks.relay import relay
from smtp_adapters.asyncio import SMTPClient as AsyncioClient
from smtp_adapters.socket import SMTPClient as SocketClient
from smtp_adapters.trio import SMTPClient as TrioClient
from smtp_proto import Envelope, Security, SendResult
from tests.interop.peers import HOST, PeerFailed, PeerMissing, smtp_sink

SENDER = "sender@example.org"
LOCAL_HOSTNAME = "client.example.org"
MESSAGE_SIZE = 2048  # octets
ROUND_TRIP = 0.050  # seconds
SESSION_RECIPIENTS = 3

Measure = Callable[[int, Sequence[str], int], float]
"""Opens one connection to a port, sends to the recipients, then so many messages more, one after
the other, and closes the connection. Gives the seconds that the latter messages took."""


class AsyncSender(Protocol):
    """What our asynchronous clients are here."""

    def send(self, envelope: Envelope, content: bytes, /) -> Awaitable[object]:
        """Send a message."""
        ...


@dataclass(frozen=True)
class Client:
    """One that takes part."""

    name: str
    measure: Measure
    rival: str | None = None
    """Whom it has to beat."""


@dataclass(frozen=True)
class Task:
    """So many messages to so many recipients each."""

    recipients: int
    messages: int
    quick_messages: int
    target: float
    """How many times as fast as its rival each of ours is to be."""


@dataclass(frozen=True)
class Figure:
    """One client's result in one task."""

    client: str
    recipients: int
    microseconds: float
    """For each message: the median of the rounds."""
    ratio: float | None
    """How many times as fast as its rival."""
    target: float | None


@dataclass(frozen=True)
class Bulk:
    """Many messages over one connection, on the loopback and over a long way."""

    client: str
    microseconds: float
    """For each message on the loopback: the median of the rounds."""
    flights: int
    """How often the client said something over the long way and then had to wait."""
    round_trips: float
    """How long each message took there."""


@dataclass(frozen=True)
class Session:
    """A whole session over a long way: connect, EHLO, one message, QUIT."""

    client: str
    flights: int
    """How often the client said something and then had to wait for what it would hear."""
    round_trips: float
    """How long it took, the TCP handshake included."""


TASKS = (
    Task(recipients=1, messages=400, quick_messages=40, target=1.5),
    Task(recipients=50, messages=40, quick_messages=5, target=10.0),
)


def make_message(size: int) -> bytes:
    """Make a plain message of `size` octets."""
    header = f"From: <{SENDER}>\r\nSubject: What does it cost?\r\n\r\n".encode()
    line = b"The quick brown fox jumps over the lazy dog, again and again and again.\r\n"
    return (header + line * (size // len(line)))[: size - 2] + b"\r\n"


def make_recipients(count: int) -> list[str]:
    """Make `count` addresses."""
    return [f"recipient{number}@example.org" for number in range(count)]


CONTENT = make_message(MESSAGE_SIZE)


def measure_smtplib(port: int, recipients: Sequence[str], messages: int) -> float:
    """Measure the standard library's."""
    with smtplib.SMTP(HOST, port, local_hostname=LOCAL_HOSTNAME) as client:
        return timed(lambda: client.sendmail(SENDER, recipients, CONTENT), messages)


def measure_socket(port: int, recipients: Sequence[str], messages: int) -> float:
    """Measure ours on blocking sockets."""
    with SocketClient(HOST, port, security=Security.NONE, local_hostname=LOCAL_HOSTNAME) as client:
        return timed(lambda: client.send(Envelope.of(SENDER, recipients), CONTENT), messages)


def measure_send_many(port: int, recipients: Sequence[str], messages: int) -> float:
    """Measure ours on blocking sockets where it need not wait for each outcome."""
    with SocketClient(HOST, port, security=Security.NONE, local_hostname=LOCAL_HOSTNAME) as client:
        client.send(Envelope.of(SENDER, recipients), CONTENT)
        pairs = ((Envelope.of(SENDER, recipients), CONTENT) for _ in range(messages))
        start = time.perf_counter()
        for outcome in client.send_many(pairs):
            assert isinstance(outcome, SendResult)
        return time.perf_counter() - start


def measure_aiosmtplib(port: int, recipients: Sequence[str], messages: int) -> float:
    """Measure the one that most asyncio programs use."""

    async def measure() -> float:
        async with aiosmtplib.SMTP(
            hostname=HOST, port=port, local_hostname=LOCAL_HOSTNAME, use_tls=False, start_tls=False
        ) as client:
            return await timed_async(lambda: client.sendmail(SENDER, recipients, CONTENT), messages)

    return asyncio.run(measure())


def measure_asyncio(port: int, recipients: Sequence[str], messages: int) -> float:
    """Measure ours on asyncio."""
    client = AsyncioClient(HOST, port, security=Security.NONE, local_hostname=LOCAL_HOSTNAME)
    return asyncio.run(measure_async(client, recipients, messages))


def measure_trio(port: int, recipients: Sequence[str], messages: int) -> float:
    """Measure ours on trio."""
    client = TrioClient(HOST, port, security=Security.NONE, local_hostname=LOCAL_HOSTNAME)
    return trio.run(measure_async, client, recipients, messages)


async def measure_async(
    client: AbstractAsyncContextManager[AsyncSender], recipients: Sequence[str], messages: int
) -> float:
    """Measure one of our asynchronous clients in the world that runs this."""
    async with client as sender:
        return await timed_async(
            lambda: sender.send(Envelope.of(SENDER, recipients), CONTENT), messages
        )


def timed(send: Callable[[], object], messages: int) -> float:
    """Seconds for so many calls, after a first one."""
    send()
    start = time.perf_counter()
    for _ in range(messages):
        send()
    return time.perf_counter() - start


async def timed_async(send: Callable[[], Awaitable[object]], messages: int) -> float:
    """Seconds for so many calls, after a first one."""
    await send()
    start = time.perf_counter()
    for _ in range(messages):
        await send()
    return time.perf_counter() - start


CLIENTS = (
    Client("smtplib", measure_smtplib),
    Client("smtp_adapters.socket", measure_socket, rival="smtplib"),
    Client("aiosmtplib", measure_aiosmtplib),
    Client("smtp_adapters.asyncio", measure_asyncio, rival="aiosmtplib"),
    Client("smtp_adapters.trio", measure_trio, rival="aiosmtplib"),
)


# One call for each message, and one for all of them.
BULK_CLIENTS = (
    Client("smtplib", measure_smtplib),
    Client("socket: send", measure_socket),
    Client("socket: send_many", measure_send_many),
)
BULK_MESSAGES = 20  # over the long way


def run_task(port: int, task: Task, rounds: int, messages: int) -> list[Figure]:
    """Let all clients take their turns, and compare the medians."""
    recipients = make_recipients(task.recipients)
    seconds: dict[str, list[float]] = {client.name: [] for client in CLIENTS}
    for _ in range(rounds):
        for client in CLIENTS:
            seconds[client.name].append(client.measure(port, recipients, messages))
    medians = {name: statistics.median(each) / messages for name, each in seconds.items()}
    return [
        Figure(
            client=client.name,
            recipients=task.recipients,
            microseconds=medians[client.name] * 1e6,
            ratio=medians[client.rival] / medians[client.name] if client.rival else None,
            target=task.target if client.rival else None,
        )
        for client in CLIENTS
    ]


def run_session(port: int, client: Client) -> Session:
    """Send one message through a relay with nothing but waiting in it."""
    with relay(port, ROUND_TRIP) as way:
        start = time.perf_counter()
        client.measure(way.port, make_recipients(SESSION_RECIPIENTS), 0)
        seconds = time.perf_counter() - start
        return Session(client.name, way.flights, seconds / ROUND_TRIP)


def run_bulk(port: int, rounds: int, messages: int) -> list[Bulk]:
    """Let all send many messages to one recipient each."""
    recipients = make_recipients(1)
    seconds: dict[str, list[float]] = {client.name: [] for client in BULK_CLIENTS}
    for _ in range(rounds):
        for client in BULK_CLIENTS:
            seconds[client.name].append(client.measure(port, recipients, messages))
    table: list[Bulk] = []
    for client in BULK_CLIENTS:
        with relay(port, ROUND_TRIP) as way:
            far = client.measure(way.port, recipients, BULK_MESSAGES) / BULK_MESSAGES
        near = statistics.median(seconds[client.name]) / messages
        table.append(Bulk(client.name, near * 1e6, way.flights, far / ROUND_TRIP))
    return table


def show_figures(task: Task, figures: Sequence[Figure]) -> None:
    """Print one table."""
    print(f"\n{MESSAGE_SIZE} octets to {task.recipients} recipient(s), on one connection\n")
    print(f"{'':24}{'us/message':>12}{'times as fast':>16}{'target':>9}")
    for figure in figures:
        line = f"{figure.client:24}{figure.microseconds:12.1f}"
        if figure.ratio is not None and figure.target is not None:
            verdict = "met" if figure.ratio >= figure.target else "missed"
            line += f"{figure.ratio:16.2f}{figure.target:9.1f}  {verdict}"
        print(line)


def show_sessions(sessions: Sequence[Session]) -> None:
    """Print the other table."""
    print(
        f"\nA whole session, {SESSION_RECIPIENTS} recipients,"
        f" {ROUND_TRIP * 1000:.0f} ms there and back\n"
    )
    print(f"{'':24}{'flights':>12}{'round trips':>16}")
    for session in sessions:
        print(f"{session.client:24}{session.flights:12}{session.round_trips:16.1f}")


def show_bulk(table: Sequence[Bulk]) -> None:
    """Print the table of many messages."""
    print(
        f"\nMany messages on one connection: on the loopback, and {BULK_MESSAGES} of them"
        f" with {ROUND_TRIP * 1000:.0f} ms there and back\n"
    )
    print(f"{'':24}{'us/message':>12}{'flights':>16}{'round trips each':>20}")
    for row in table:
        print(f"{row.client:24}{row.microseconds:12.1f}{row.flights:16}{row.round_trips:20.1f}")


def main() -> int:
    """Run all; the exit code tells whether it ran, not whether a target was met."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description="What sending costs.")
    parser.add_argument("--quick", action="store_true", help="few messages: does it run?")
    parser.add_argument("--rounds", type=int, default=7, help="how many turns each client takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()

    figures: list[Figure] = []
    try:
        with smtp_sink() as port:
            for task in TASKS:
                messages = task.quick_messages if options.quick else task.messages
                figures += run_task(port, task, options.rounds, messages)
                show_figures(task, figures[-len(CLIENTS) :])
            sessions = [run_session(port, client) for client in CLIENTS]
            show_sessions(sessions)
            one = TASKS[0]
            messages = one.quick_messages if options.quick else one.messages
            bulk = run_bulk(port, options.rounds, messages)
            show_bulk(bulk)
    except (PeerMissing, PeerFailed) as error:
        print(
            f"There is nobody to send to: {error}. smtp-sink comes with Postfix.", file=sys.stderr
        )
        return 1
    if options.json:
        tables = {
            "figures": [asdict(figure) for figure in figures],
            "sessions": [asdict(session) for session in sessions],
            "bulk": [asdict(row) for row in bulk],
        }
        options.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
