"""A client on trio: what is this world's own about it.

Knows how a flow is carried out here. Must not know what a caller can ask of a client.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import trio

from smtp_adapters.async_client import AsyncClient, with_parameters_of
from smtp_adapters.content import NO_PIECES, AsyncPieces
from smtp_adapters.trio.given import given_stream
from smtp_adapters.trio.loop import Verbs, carry_out
from smtp_adapters.trio.stream import Stream
from smtp_proto.flow import Flow
from smtp_proto.wire import Octets

T = TypeVar("T")


class SMTPClient(AsyncClient):
    """One connection to an SMTP server, for one task at a time.

    Use it in an `async with` statement, which opens it and ends it in order. The parameters stand
    in `smtp_adapters.client.Client`, what can go wrong in `smtp_proto.flow.errors`. After a
    refusal, unless by 421, the connection can be used further; after any other error, and after a
    cancellation, it has been closed.
    """

    def _prepare(self, stream: object) -> None:
        self._stream: Verbs = Stream() if stream is None else given_stream(stream)

    async def close(self) -> None:
        """Close the connection at once, without a word. Does nothing if there is none."""
        await super().close()
        await trio.lowlevel.checkpoint()

    def _carry_out(self, flow: Flow[T], pieces: AsyncPieces = NO_PIECES) -> Awaitable[T]:
        return carry_out(flow, self._stream, pieces)

    def _overheard(self) -> Octets | None:
        return self._stream.overheard()

    def _close_stream(self) -> Awaitable[None]:
        return self._stream.close()


check_credentials = with_parameters_of(SMTPClient)
