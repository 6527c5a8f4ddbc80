"""A server on blocking sockets, with a thread for each connection.

Knows threads, and how connections come in and end. Must not know how a flow is carried out.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from inspect import iscoroutinefunction
from math import inf
from selectors import EVENT_READ, BaseSelector, DefaultSelector
from threading import Thread, current_thread
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from smtp_adapters.reach import TimeIsUp
from smtp_adapters.server import GRACE, Server, check_grace, log_given_up, log_not_served
from smtp_adapters.socket.loop import carry_out
from smtp_adapters.socket.stream import Stream, seconds_until
from smtp_proto.flow import Handler, Serve
from smtp_proto.flow.serve_questions import overridden

_ACCEPT_AGAIN = 0.1  # seconds, where the system has no more sockets for now
_REFUSAL_TAKES = 1.0  # seconds at most: it fits into any socket's buffer


class SMTPServer(Server):
    """A server with a thread for each connection, and one that accepts them.

    Use it in a `with` statement, which opens and closes it. The parameters stand in
    `smtp_adapters.server.Server`. The handler's methods are plain ones, called in the threads of
    the connections: each connection in one, several at the same time.
    """

    def _check_handler(self, handler: Handler) -> None:
        awaited = sorted(
            name for name in overridden(handler) if iscoroutinefunction(getattr(handler, name))
        )
        if awaited:
            raise TypeError(
                f"handler: {', '.join(awaited)} cannot be coroutine functions: a server of threads "
                "awaits nothing; those of smtp_adapters.asyncio and smtp_adapters.trio do"
            )

    def __enter__(self) -> Self:
        """Listen, and serve whoever connects. Raises OSError where that cannot be.

        Raises RuntimeError where the system has no more threads.
        """
        self._require_closed()
        self._connections: dict[Thread, Stream] = {}
        opened = ExitStack()
        try:
            listener = opened.enter_context(_listener(*self._listen_at))
            self._bell, ear = map(opened.enter_context, socket.socketpair())
            # For connections.
            self._last_bell, self._ear = map(opened.enter_context, socket.socketpair())
            selector = opened.enter_context(DefaultSelector())
            self._acceptor = Thread(
                target=self._accept, args=(listener, ear, selector), daemon=True
            )
            self._address = listener.getsockname()[:2]
            self._acceptor.start()
        except (OSError, RuntimeError):
            self._address = None
            opened.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def shut_down(self, grace: float | None = GRACE) -> None:
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
        end = inf if grace is None else monotonic() + grace
        self._stop_listening()
        self._last_bell.close()
        with suppress(TimeIsUp):
            for thread in self._others:
                while thread.is_alive():
                    thread.join(seconds_until(end))
        self.close()

    def close(self) -> None:
        """Stop listening, end all connections, and wait until their handlers have returned.

        Does nothing if the server is not open.
        """
        if self._address is None:
            return
        self._address = None
        self._stop_listening()
        others = self._others
        for stream in tuple(self._connections.values()):
            stream.close()
        for thread in others:
            thread.join()
        self._last_bell.close()
        self._ear.close()

    @property
    def _others(self) -> list[Thread]:
        # A handler may close its server: it cannot wait for itself.
        return [thread for thread in tuple(self._connections) if thread is not current_thread()]

    def _stop_listening(self) -> None:
        self._bell.close()
        self._acceptor.join()

    def _accept(self, listener: socket.socket, ear: socket.socket, selector: BaseSelector) -> None:
        with listener, ear, selector:
            selector.register(ear, EVENT_READ)
            selector.register(listener, EVENT_READ)
            while all(key.fileobj is listener for key, _ in selector.select()):
                try:
                    connection, address = listener.accept()
                except BlockingIOError:
                    continue  # the client has gone already
                except OSError as error:
                    log_not_served("accept", error)
                    sleep(_ACCEPT_AGAIN)
                    continue
                self._begin(connection, str(address[0]))

    def _begin(self, connection: socket.socket, peer: str) -> None:
        stream = Stream(connection)
        if len(self._connections) >= self._max_connections:
            self._refuse(stream)
            return
        try:
            flow = self._serve(peer)
        except Exception as error:  # noqa: BLE001 - it is ours, and others are to be served
            log_given_up(error)
            stream.close()
            return
        stream.interrupt_by(self._ear, lambda: flow.awaits_command)
        thread = Thread(target=self._converse, args=(flow, stream), daemon=True)
        self._connections[thread] = stream  # before it starts, as it takes itself out at its end
        try:
            thread.start()
        except RuntimeError as error:
            del self._connections[thread]
            log_not_served("serve", error)
            self._refuse(stream)

    def _refuse(self, stream: Stream) -> None:
        with suppress(OSError):
            stream.send(self._refusal, monotonic() + _REFUSAL_TAKES)
        stream.close()

    def _converse(self, flow: Serve, stream: Stream) -> None:
        try:
            carry_out(flow, stream)
        except Exception as error:  # noqa: BLE001 - it is ours, and told to who looks after the server
            log_given_up(error)
        finally:
            stream.close()
            self._connections.pop(current_thread(), None)


def _listener(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(address[:2], family=family)
    listener.setblocking(False)  # a client may have gone before it is accepted
    return listener
