"""Tries a transport of one's own against all that flows rely on, over loopback TCP.

Knows sockets, threads and the clock. Must not know what the rules are: they are in
`smtp_proto.testing.transport`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from inspect import iscoroutinefunction
from threading import Thread
from time import sleep
from typing import assert_never

from smtp_adapters.values import CALLABLE, Takes, check_types
from smtp_proto.flow import Flow
from smtp_proto.testing.transport import (
    CANCELLATION,
    CASES,
    Case,
    CloseWrite,
    FarStep,
    Finding,
    Hear,
    HearEnd,
    Pause,
    Report,
    Reset,
    Say,
)

_PARAMETERS = {
    "carry_out": CALLABLE,
    "cancel": CALLABLE.or_none,
    "patience": Takes("seconds as a number", (int, float)),
}
_HOST = "127.0.0.1"
_RECEIVE = 65_536  # octets taken from the socket at a time
_RESET_TAKES = 1.0  # seconds until a reset has been noticed
_LEFT_OPEN = "the stream was left open"


def check_transport(
    carry_out: Callable[[Flow[str]], str],
    *,
    cancel: Callable[[Flow[str]], object] | None = None,
    patience: float = 5.0,
    cases: Iterable[Case] | None = None,
) -> Report:
    """Try a transport; return which rules it breaks. See `Report.raise_for_findings()`.

    `carry_out` does all that a flow asks for, from Connect to Done, and returns its result. Where
    that is a coroutine function, wrap it: `lambda flow: trio.run(carry_out, flow)`. `cancel` does
    the same, but cancels it after half a second or so. Both leave no stream open, however they end,
    and are called in another thread.

    `patience`: seconds for what ought to happen at once. All `cases` take less than ten seconds,
    but longer with a transport that hangs. One that leaves a stream open is tried no further.

    Raises TypeError for what a parameter does not take, before anything is tried.
    """
    check_types(_PARAMETERS, locals())
    for name, function in {"carry_out": carry_out, "cancel": cancel}.items():
        if iscoroutinefunction(function):
            raise TypeError(
                f"{name} is a coroutine function: wrap it, as lambda flow: trio.run({name}, flow)"
            )
    tries = [(case, carry_out) for case in (CASES if cases is None else cases)]
    if cancel is not None:
        tries.append((CANCELLATION, _without_result(cancel)))
    findings: list[Finding] = []
    for case, function in tries:
        finding = _try(case, function, patience)
        if finding is not None:
            findings.append(finding)
            if finding.seen == _LEFT_OPEN:
                break  # it would be seen in every case
    return Report(tuple(findings))


def _without_result(cancel: Callable[[Flow[str]], object]) -> Callable[[Flow[str]], str]:
    def cancelled(flow: Flow[str]) -> str:
        cancel(flow)
        return ""

    return cancelled


def _try(case: Case, carry_out: Callable[[Flow[str]], str], patience: float) -> Finding | None:
    with socket.create_server((_HOST, 0)) as listener:
        listener.settimeout(patience)
        port: int = listener.getsockname()[1]
        if not case.far:
            listener.close()
        near = _NearEnd(carry_out, case.flow(_HOST, port))
        far = _FarEnd(near, listener, patience)
        far.play(case.far)
    near.join(patience)
    seen = far.missed or near.hangs or near.wrong(case.raises) or far.wrong
    return Finding(case.name, case.rule, seen) if seen else None


class _NearEnd(Thread):
    """The transport that is tried, in a thread: it may hang, and is left behind then."""

    def __init__(self, carry_out: Callable[[Flow[str]], str], flow: Flow[str]) -> None:
        super().__init__(daemon=True)
        self._carry_out = carry_out
        self._flow = flow
        self._result = ""
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._carry_out(self._flow)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self._error = error

    @property
    def hangs(self) -> str:
        """Say what has not come to an end, "" if all has."""
        return f"{type(self._flow.action).__name__} came to no end" if self.is_alive() else ""

    def wrong(self, raises: type[Exception] | None) -> str:
        """Say what came of it, "" if that is right. `raises`: what was to come out."""
        if raises is not None:
            return "" if type(self._error) is raises else f"{self._error or 'nothing'} came out"
        return self._result if self._error is None else f"{self._error!r} came out"


class _Wrong(Exception):
    """What the far end has not liked."""


class _FarEnd:
    """What the transport connects to.

    `missed`: what it has waited for in vain; `wrong`: what else it has not liked; "" if nothing.
    """

    def __init__(self, near: _NearEnd, listener: socket.socket, patience: float) -> None:
        self._near = near
        self._listener = listener
        self._patience = patience
        self.missed = ""
        self.wrong = ""

    def play(self, parts: tuple[tuple[FarStep, ...], ...]) -> None:
        """Play a part on each connection."""
        try:
            for part in parts:
                self._converse(part)
        except _Wrong as wrong:
            self.wrong = str(wrong)

    def _converse(self, part: tuple[FarStep, ...]) -> None:
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            raise _Wrong("nobody connected") from None
        with connection:
            connection.settimeout(self._patience)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for step in part:
                try:
                    _take(connection, step)
                except TimeoutError:
                    if isinstance(step, Hear):
                        self.missed = "the far end did not get all of it"
                    else:
                        self.missed = self._near.hangs or _LEFT_OPEN
                    _reset(connection)
                    self._near.join(_RESET_TAKES)
                    return


def _take(connection: socket.socket, step: FarStep) -> None:
    """Take one step. Raises _Wrong, or TimeoutError."""
    match step:
        case Say():
            with suppress(ConnectionError):  # the near end has heard enough
                _say(connection, step)
        case Hear():
            _hear(connection, step.octets)
        case HearEnd():
            with suppress(ConnectionError):  # it closed in a hurry
                if octets := connection.recv(_RECEIVE):
                    raise _Wrong(f"{octets[:40]!r} came, which no flow had sent")
        case Pause():
            sleep(step.seconds)
        case CloseWrite():
            connection.shutdown(socket.SHUT_WR)
        case Reset():
            _reset(connection)
        case _:
            assert_never(step)


def _say(connection: socket.socket, step: Say) -> None:
    if step.seconds is None:
        connection.sendall(step.octets)
        return
    for octet in step.octets:
        connection.sendall(bytes([octet]))
        sleep(step.seconds)


def _hear(connection: socket.socket, expected: bytes) -> None:
    heard = bytearray()
    while len(heard) < len(expected):
        try:
            octets = connection.recv(min(_RECEIVE, len(expected) - len(heard)))
        except ConnectionError:
            octets = b""
        if not octets:
            raise _Wrong(f"the far end got {len(heard)} of {len(expected)} octets")
        heard += octets
    if bytes(heard) != expected:
        raise _Wrong("the far end got other octets")


def _reset(connection: socket.socket) -> None:
    """Close without telling the other end in order: its next look finds the connection broken."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
