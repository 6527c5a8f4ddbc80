"""What clients and servers are both given, looked at before it is used.

Knows what a port, a timeout or a name of a mechanism can be. Must not know what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from secrets import token_bytes
from types import NoneType
from typing import NamedTuple, TypeVar, cast

from smtp_proto.engine import Protocol
from smtp_proto.flow import Timeouts
from smtp_proto.wire import Limits, WireError
from smtp_proto.wire.errors import kind_of

T = TypeVar("T")


class Takes(NamedTuple):
    """What a parameter takes: in words, and as types."""

    words: str
    types: tuple[type, ...]

    @property
    def or_none(self) -> Takes:
        """The same, where None may be given, too."""
        return Takes(f"{self.words}, or None", (*self.types, NoneType))


FLAG = Takes("True or False", (bool,))
NUMBER = Takes("a number, as int", (int,))
TEXT = Takes("text, as str", (str,))
OCTETS = Takes("bytes", (bytes,))
TEXT_OR_OCTETS = Takes("str or bytes", (str, bytes))
A_PATH = Takes("a path, as str or Path", (str, PathLike))
CALLABLE = Takes("a callable", (cast("type", Callable),))
PASSWORD = Takes(
    "text, octets, or a callable that returns either",
    (str, bytes, bytearray, cast("type", Callable)),
)
LIMITS = Takes("a Limits", (Limits,)).or_none
PROTOCOL = Takes("Protocol.SMTP or Protocol.LMTP", (Protocol,))
SECONDS = Takes("seconds as a number, or a Timeouts", (int, float, Timeouts)).or_none


def check_types(parameters: Mapping[str, Takes], given: Mapping[str, object]) -> None:
    """Look at what a caller gave. Raises TypeError, which names the parameter."""
    for name, takes in parameters.items():
        value = given[name]
        # A bool is an int, and never meant as one.
        if not isinstance(value, takes.types) or (type(value) is bool and bool not in takes.types):
            raise TypeError(f"{name} is {takes.words}, not {kind_of(value)}")


@contextmanager
def naming(parameter: str) -> Generator[None]:
    """Have errors name the parameter whose value they are about."""
    try:
        yield
    except WireError as error:
        raise WireError(parameter, str(error)) from error
    except ValueError as error:
        raise ValueError(f"{parameter}: {error}") from error
    except OSError as error:
        # OSError itself finds the subclass for the number.
        raise OSError(error.errno, f"{parameter}: {error.strerror}", error.filename) from error


def as_timeouts(timeouts: Timeouts | float | None) -> Timeouts:
    """The timeouts that are meant: the defaults, the same for all, or those given."""
    check_types({"timeouts": SECONDS}, {"timeouts": timeouts})
    if timeouts is None or isinstance(timeouts, Timeouts):
        return timeouts or Timeouts()
    if not timeouts > 0 or timeouts == float("inf"):
        raise ValueError(f"timeouts: seconds above 0, or None, not {timeouts!r}")
    return Timeouts.of(timeouts)


def check_port(port: object, lowest: int) -> None:
    """Look at what a caller gave. Raises TypeError or ValueError."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"a port is an int, not {kind_of(port)}")
    if not lowest <= port <= 65_535:
        raise ValueError(f"port {port}: a port is a number from {lowest} to 65535")


def mechanism_names(mechanisms: Sequence[str]) -> tuple[str, ...]:
    """The names as they are registered. Raises TypeError for one that stands for a list."""
    if isinstance(mechanisms, str):
        raise TypeError("mechanisms is a sequence of names, not one str: put it into a list")
    names = as_tuple("mechanisms", mechanisms, str, "names of SASL mechanisms, as str")
    return tuple(name.upper() for name in names)


def as_tuple(name: str, given: object, member: type[T], words: str) -> tuple[T, ...]:
    """The members of what a caller gave. Raises TypeError, which names the parameter."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise TypeError(f"{name} is a sequence of {words}, not {kind_of(given)}")
    members = tuple(cast("Iterable[object]", given))
    for each in members:
        if not isinstance(each, member):
            raise TypeError(f"{name} is a sequence of {words}, and there is {kind_of(each)} in it")
    return cast("tuple[T, ...]", members)


def nonce() -> bytes:
    """Fresh randomness for a login, beyond guessing."""
    return token_bytes(24)
