"""A relay on the loopback that makes the way long: it counts what a session costs in round trips.

Knows delays and directions. Must not know what is carried.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

HOST = "127.0.0.1"
_READ_SIZE = 1 << 18  # octets


class Relay:
    """Carries each connection to a target, each octet late by half a round trip.

    The target hears of a connection when the client's side of the TCP handshake would have come
    over the same way. Neither direction waits for the other: only who waits for an answer is slow.
    """

    def __init__(self, target_port: int, round_trip: float) -> None:
        """`round_trip`: in seconds."""
        self._target_port = target_port
        self._one_way = round_trip / 2
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.flights = 0
        """How often the client began to send after it had been handed something new."""

    async def serve(self, stop: asyncio.Event) -> None:
        """Take connections until told to stop, and carry them to their end."""
        async with asyncio.TaskGroup() as connections:

            def take(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
                connections.create_task(self._carry(client, to_client))

            async with await asyncio.start_server(take, sock=self._listener):
                await stop.wait()

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3 * self._one_way)  # SYN, SYN and ACK, ACK
        server, to_server = await asyncio.open_connection(HOST, self._target_port)
        client_was_told = True

        def client_sends() -> None:
            nonlocal client_was_told
            self.flights += client_was_told
            client_was_told = False

        def client_is_told() -> None:
            nonlocal client_was_told
            client_was_told = True

        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._delay(client, to_server, on_departure=client_sends))
                directions.create_task(self._delay(server, to_client, on_arrival=client_is_told))
        to_server.close()
        to_client.close()

    async def _delay(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        on_departure: Callable[[], None] = lambda: None,
        on_arrival: Callable[[], None] = lambda: None,
    ) -> None:
        """Carry one direction to its end."""
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            data = b"more"
            while data:
                due, data = await under_way.get()
                await asyncio.sleep(due - clock())
                on_arrival()
                sink.write(data)
            sink.write_eof()

        delivery = asyncio.create_task(deliver())
        data = b"more"
        while data:
            data = await source.read(_READ_SIZE)
            if data:
                on_departure()
            under_way.put_nowait((clock() + self._one_way, data))
        await delivery


@contextmanager
def relay(target_port: int, round_trip: float) -> Iterator[Relay]:
    """Run a relay in a thread of its own. `round_trip`: in seconds."""
    running = Relay(target_port, round_trip)
    stop = asyncio.Event()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=(running.serve(stop),))
        thread.start()
        try:
            yield running
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
