"""Carrying out a flow over a socket: the loop over its actions.

Knows the clock, and how the caller and the system are asked. Must not know SMTP, nor sockets: the
flow says what to do next, and the stream does it.
"""

from __future__ import annotations

import socket
from collections.abc import Coroutine
from math import inf
from time import monotonic
from typing import TypeVar

from smtp_adapters.content import END, NO_PIECES, End, Pieces, check
from smtp_adapters.reach import TimeIsUp, ip_addresses
from smtp_adapters.socket.stream import Stream, deadline_of
from smtp_proto.flow import Ask, Connect, Content, Done, Flow, Receive, Resolve, Send, Timer

T = TypeVar("T")


def carry_out(flow: Flow[T], stream: Stream, pieces: Pieces = NO_PIECES) -> T:
    """Do what the flow asks for, until it is done. Raises what the flow raises."""
    end = inf if flow.total is None else monotonic() + flow.total
    timer: Timer | None = None
    deadline = end
    while True:
        action = flow.next_action()
        if isinstance(action, Done):
            return action.result
        if action.timer is not timer:
            timer = action.timer
            deadline = deadline_of(timer, end)
        try:
            if isinstance(action, Receive):
                flow.receive_data(stream.receive(deadline))
            elif isinstance(action, Send):
                stream.send(action.data, deadline)
            elif isinstance(action, Content):
                _fetch(flow, pieces, deadline)
            else:
                _do(action, flow, stream, end)
        except TimeIsUp:
            flow.timed_out(whole=monotonic() >= end)
        except OSError as error:
            flow.failed(error)


def _fetch(flow: Flow[T], pieces: Pieces, deadline: float) -> None:
    try:
        piece = next(pieces, END)
        check(piece)
    except Exception as error:  # noqa: BLE001 - whatever the caller's iterator raises
        flow.failed(error)
    else:
        if monotonic() >= deadline:  # nobody could interrupt it
            raise TimeIsUp
        flow.content(None if isinstance(piece, End) else piece)


def _do(action: Connect | Resolve | Ask, flow: Flow[T], stream: Stream, end: float) -> None:
    """Do what comes once in a while."""
    match action:
        case Connect():
            flow.connected(stream.connect(action, end))
        case Resolve():
            flow.resolved(_resolve(action))
        case Ask():
            _ask(flow, action)


def _resolve(action: Resolve) -> list[str]:
    """The addresses of a host, whenever the system has them: nobody can interrupt it."""
    family = socket.AF_INET if action.ipv4_only else socket.AF_UNSPEC
    return ip_addresses(socket.getaddrinfo(action.host, None, family, socket.SOCK_STREAM))


def _ask(flow: Flow[T], action: Ask) -> None:
    try:
        answer = action.function(*action.arguments)
        if isinstance(answer, Coroutine):
            answer.close()
            raise TypeError(  # noqa: TRY301 - one way for all that goes wrong with an answer
                f"{action.name} is a coroutine function: a server of threads awaits nothing"
            )
    except Exception as error:  # noqa: BLE001 - whatever the application raises
        flow.failed(error)
    else:
        flow.answer(answer)
