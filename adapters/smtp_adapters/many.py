"""Many messages over one connection: pairs come in, outcomes go out, in the same order.

Knows what a pair is, and when to take the next one. Must not know any world: how a flow is carried
out there is given.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from email.message import Message
from typing import Generic, Self, TypeAlias, TypeVar, cast

from smtp_adapters.client import Turn
from smtp_adapters.content import (
    NO_PIECES,
    AnyAsyncContent,
    AnyContent,
    AsyncPieces,
    Pieces,
    async_source,
    source,
)
from smtp_adapters.message import prepare
from smtp_proto.flow import Envelope, Outcome, SendMany
from smtp_proto.wire import Octets
from smtp_proto.wire.errors import kind_of

C = TypeVar("C")
P = TypeVar("P")

AnyPairs: TypeAlias = Iterable[tuple[Envelope, AnyContent] | Message]
_AsyncPair: TypeAlias = tuple[Envelope, AnyAsyncContent] | Message
AnyAsyncPairs: TypeAlias = Iterable[_AsyncPair] | AsyncIterable[_AsyncPair]


class _Intake(Generic[P]):
    """What both kinds of iterators share: how a pair becomes a message.

    What is wrong with a message is its outcome; what is wrong with the pairs comes behind the
    outcomes of those before.
    """

    def __init__(self, many: SendMany, no_pieces: P) -> None:
        self._many = many
        self._pieces = no_pieces  # of the content of the message that was added last
        self._failure: Exception | None = None
        self._turn = Turn()

    def _add(
        self,
        pair: tuple[Envelope, C] | Message,
        source_of: Callable[[C | bytes], tuple[Octets | None, int | None, P]],
    ) -> None:
        try:
            envelope, content = _taken_apart(pair)
            whole, size, self._pieces = source_of(content)
        except ValueError as error:
            self._many.add_error(error)
        except Exception as error:  # noqa: BLE001 - whatever the caller's objects raise
            self._fail(error)
        else:
            self._many.add(envelope, whole, size=size)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._many.end()


def _check_pairs(pairs: object, *kinds: type) -> None:
    """Look at what a caller gave. Raises TypeError."""
    if not isinstance(pairs, kinds):
        hint = ": call it" if callable(pairs) else ""
        raise TypeError(
            "pairs is an iterable of messages, or of pairs of an Envelope and content, "
            f"not {kind_of(pairs)}{hint}"
        )


def _taken_apart(pair: tuple[Envelope, C] | Message) -> tuple[Envelope, C | bytes]:
    """The envelope and the content. Raises ValueError where these leave a doubt, and TypeError."""
    match pair:
        case Message():
            prepared = prepare(pair)
            return prepared.envelope, prepared.content
        case (Envelope(), _):
            return pair
        case _:
            raise TypeError(
                "pairs are of an Envelope and content, or they are messages; "
                f"this is {_described(pair)}"
            )


def _described(pair: object) -> str:
    if not isinstance(pair, tuple | list):
        return kind_of(pair)
    kinds = [type(each).__name__ for each in cast("Sequence[object]", pair)]
    return f"({', '.join(kinds)})"


class Outcomes(_Intake[Pieces], Iterator[Outcome]):
    """What becomes of each message, in their order; see `SMTPClient.send_many()`."""

    def __init__(
        self,
        many: SendMany,
        pairs: AnyPairs,
        go_on: Callable[[SendMany, Pieces], None],
        give_up: Callable[[SendMany], None],
        require_open: Callable[[SendMany], object],
    ) -> None:
        super().__init__(many, NO_PIECES)
        _check_pairs(pairs, Iterable)
        self._pairs = iter(pairs)
        self._require_open = require_open
        self._go_on = go_on
        self._give_up = give_up

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome:
        many = self._many
        with self._turn:
            while (outcome := many.next_outcome()) is None:
                if many.wants_message:
                    self._take()
                elif not many.under_way:
                    raise self._failure or StopIteration
                if many.under_way:
                    self._go_on(many, self._pieces)
            return outcome

    def close(self) -> None:
        """Stop here: if the server has not answered all, the connection is closed at once."""
        self._many.end()
        self._give_up(self._many)

    def _take(self) -> None:
        self._require_open(self._many)
        try:
            pair = next(self._pairs)
        except StopIteration:
            self._many.end()
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises
            self._fail(error)
        except BaseException:
            self.close()
            raise
        else:
            self._add(pair, source)


class AsyncOutcomes(_Intake[AsyncPieces], AsyncIterator[Outcome]):
    """What becomes of each message, in their order; see `SMTPClient.send_many()`."""

    def __init__(
        self,
        many: SendMany,
        pairs: AnyAsyncPairs,
        go_on: Callable[[SendMany, AsyncPieces], Awaitable[None]],
        give_up: Callable[[SendMany], Awaitable[None]],
        require_open: Callable[[SendMany], object],
    ) -> None:
        super().__init__(many, NO_PIECES)
        _check_pairs(pairs, AsyncIterable, Iterable)
        if isinstance(pairs, AsyncIterable):
            self._next_pair = aiter(pairs).__anext__
        else:
            self._next_pair = _Plain(pairs).__anext__
        self._require_open = require_open
        self._go_on = go_on
        self._give_up = give_up

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        many = self._many
        with self._turn:
            while (outcome := many.next_outcome()) is None:
                if many.wants_message:
                    await self._take()
                elif not many.under_way:
                    raise self._failure or StopAsyncIteration
                if many.under_way:
                    await self._go_on(many, self._pieces)
            return outcome

    async def aclose(self) -> None:
        """Stop here: if the server has not answered all, the connection is closed at once."""
        self._many.end()
        await self._give_up(self._many)

    async def _take(self) -> None:
        self._require_open(self._many)
        try:
            pair = await self._next_pair()
        except StopAsyncIteration:
            self._many.end()
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises
            self._fail(error)
        except BaseException:  # it is cancelled
            await self.aclose()
            raise
        else:
            self._add(pair, async_source)


class _Plain:
    """Pairs that need not be waited for, as if they had to be."""

    def __init__(self, pairs: Iterable[_AsyncPair]) -> None:
        self._pairs = iter(pairs)

    async def __anext__(self) -> _AsyncPair:
        try:
            return next(self._pairs)
        except StopIteration:
            raise StopAsyncIteration from None
