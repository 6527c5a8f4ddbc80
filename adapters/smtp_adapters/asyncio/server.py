"""A server on asyncio, with a task for each connection.

Knows tasks, and how connections come in and end. Must not know how a flow is carried out.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from smtp_adapters.asyncio.loop import carry_out
from smtp_adapters.asyncio.stream import Stream
from smtp_adapters.server import GRACE, Server, check_grace, log_given_up
from smtp_proto.flow import Serve


class SMTPServer(Server):
    """A server with a task for each connection.

    Use it in an `async with` statement, which opens and closes it. The parameters stand in
    `smtp_adapters.server.Server`. The handler's methods may be plain or coroutine functions.
    """

    async def __aenter__(self) -> Self:
        """Listen, and serve whoever connects. Raises OSError where that cannot be."""
        self._require_closed()
        self._connections: dict[asyncio.Task[None], Stream] = {}
        self._flows = WeakKeyDictionary[Serve, Stream]()
        self._shutting_down = False
        host, port = self._listen_at
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: Stream(self._accept), host, port
        )
        self._address = self._listener.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self._cancel()
        await self.close()

    async def shut_down(self, grace: float | None = GRACE) -> None:
        """Take no more connections, and end those that are open in order: each hears 421.

        It stands in place of the next command (RFC 5321 3.8), also where that has come already:
        what is being served is answered before, and content that is coming is received and
        answered. What is left after `grace` seconds (None: there is no limit) is cut, as by
        `close()`. A handler has somebody else call it: its own connection would be cut. Does
        nothing if the server is not open.
        """
        check_grace(grace)
        if self._address is None:
            return
        self._shutting_down = True
        await self._stop_listening()
        for flow, stream in self._flows.items():
            flow.shut_down()
            if flow.awaits_command:
                stream.interrupt()
        others = self._others
        if others:
            await asyncio.wait(others, timeout=grace)
        await self.close()

    async def close(self) -> None:
        """Stop listening, end all connections, and wait until their handlers have returned.

        Does nothing if the server is not open. If it is cancelled, the handlers are, too.
        """
        if self._address is None:
            return
        self._address = None
        for stream in self._connections.values():
            stream.abort()
        others = self._others
        try:
            await self._stop_listening()
            if others:
                await asyncio.wait(others)
        except asyncio.CancelledError:
            self._cancel()
            raise

    @property
    def _others(self) -> set[asyncio.Task[None]]:
        # A handler may close its server: it cannot wait for itself.
        return {task for task in self._connections if task is not asyncio.current_task()}

    async def _stop_listening(self) -> None:
        """Take no more connections, and close.

        asyncio forgets to close what it has accepted, if its server is closed before that has got
        to us: so that comes first, and `_accept` ends it.
        """
        loop = asyncio.get_running_loop()
        try:
            with suppress(NotImplementedError):  # not every loop has readers
                for each in self._listener.sockets:
                    loop.remove_reader(each)
            await asyncio.sleep(0)
        finally:
            self._listener.close()

    def _cancel(self) -> None:
        for task in self._connections:
            task.cancel()

    def _accept(self, stream: Stream) -> None:
        if self._address is None:
            stream.abort()  # it was accepted just before the end
            return
        if len(self._connections) >= self._max_connections:
            stream.refuse(self._refusal)
            return
        task = asyncio.get_running_loop().create_task(self._converse(stream))
        self._connections[task] = stream
        task.add_done_callback(self._connections.pop)

    async def _converse(self, stream: Stream) -> None:
        try:
            flow = self._serve(stream.peer)
            self._flows[flow] = stream
            await carry_out(flow, stream)
        except Exception as error:  # noqa: BLE001 - it is ours, and told to who looks after the server
            log_given_up(error)
        finally:
            await stream.close()
