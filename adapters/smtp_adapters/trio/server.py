"""A server on trio, with a task for each connection.

Knows nurseries, and how connections come in and end. Must not know how a flow is carried out.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

import trio

from smtp_adapters.server import GRACE, Server, check_grace, log_given_up
from smtp_adapters.trio.loop import carry_out
from smtp_adapters.trio.stream import Stream
from smtp_proto.flow import Serve

_REFUSAL_TAKES = 1.0  # seconds at most: it fits into any socket's buffer


class SMTPServer(Server):
    """A server with a task for each connection.

    Use it in an `async with` statement, which opens and closes it. The parameters stand in
    `smtp_adapters.server.Server`. The handler's methods may be plain or coroutine functions.
    """

    async def __aenter__(self) -> Self:
        """Listen, and serve whoever connects. Raises OSError where that cannot be."""
        self._require_closed()
        host, port = self._listen_at
        listeners = await trio.open_tcp_listeners(port, host=host)
        self._address = listeners[0].socket.getsockname()[:2]
        self._connections: dict[trio.lowlevel.Task, Stream] = {}
        self._flows = WeakKeyDictionary[Serve, Stream]()
        self._shutting_down = False
        self._accepting = trio.CancelScope()
        self._deaf = trio.Event()
        self._tasks = trio.open_nursery()
        self._nursery = await self._tasks.__aenter__()
        self._nursery.start_soon(self._listen, listeners)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        if error is not None and not isinstance(error, Exception):
            self._nursery.cancel_scope.cancel()
        # The nursery waits for the handlers. It is not told of the error, which goes on as it is.
        await self._tasks.__aexit__(None, None, None)

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
        self._accepting.cancel()
        await self._deaf.wait()
        for flow, stream in self._flows.items():
            flow.shut_down()
            if flow.awaits_command:
                stream.interrupt()
        with trio.move_on_after(inf if grace is None else grace):
            await self._until_gone()
        await self.close()

    async def close(self) -> None:
        """Stop listening, end all connections, and wait until their handlers have returned.

        Does nothing if the server is not open.
        """
        if self._address is None:
            return
        self._stop()
        await self._deaf.wait()
        await self._until_gone()

    async def _until_gone(self) -> None:
        for task, stream in tuple(self._connections.items()):
            if task is not trio.lowlevel.current_task():  # a handler may close its server
                await stream.gone.wait()

    def _stop(self) -> None:
        self._address = None
        self._accepting.cancel()
        for stream in self._connections.values():
            stream.abort()

    async def _listen(self, listeners: list[trio.SocketListener]) -> None:
        with self._accepting:
            await trio.serve_listeners(self._converse, listeners, handler_nursery=self._nursery)
        self._deaf.set()

    async def _converse(self, accepted: trio.SocketStream) -> None:
        stream = Stream(_plain(accepted))
        task = trio.lowlevel.current_task()
        try:
            if len(self._connections) >= self._max_connections:
                with trio.move_on_after(_REFUSAL_TAKES), suppress(OSError):
                    await stream.send(self._refusal)
            elif self._address is not None:  # else it was accepted just before the end
                self._connections[task] = stream
                flow = self._serve(stream.peer)
                self._flows[flow] = stream
                await carry_out(flow, stream)
        except Exception as error:  # noqa: BLE001 - it is ours, and told to who looks after the server
            log_given_up(error)
        finally:
            stream.abort()
            stream.gone.set()
            self._connections.pop(task, None)


def _plain(stream: trio.SocketStream) -> socket.socket:
    connection = socket.socket(fileno=stream.socket.detach())
    connection.setblocking(False)
    return connection
