"""What a test gives to the kit, looked at before it is used.

Knows types and numbers. Must not know what they are for.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite
from typing import cast

A_CALLABLE = cast("type", Callable)


def check_type(parameter: str, given: object, kind: type, takes: str) -> None:
    """Raise TypeError, which says what the parameter takes, in words, if it is not of this kind."""
    if not isinstance(given, kind) or isinstance(given, bool):
        raise TypeError(f"{parameter} is {takes}, not {given!r}")


def check_number(parameter: str, given: object, *, lowest: float = -inf) -> None:
    """Raise TypeError or ValueError if it is no number that is finite, and not below the lowest."""
    takes = "a number" if lowest == -inf else f"a number from {lowest:g} up"
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{parameter} is {takes}, not {given!r}")
    if not isfinite(given) or given < lowest:
        raise ValueError(f"{parameter} is {takes}, not {given!r}")


def check_count(parameter: str, given: object) -> None:
    """Raise TypeError or ValueError if it is no number of octets."""
    check_type(parameter, given, int, "a number of octets, as int")
    check_number(parameter, given, lowest=0)
