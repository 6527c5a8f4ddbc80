"""Limits: sane as they come, and no senseless value gets in."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from smtp_proto.wire.limits import Limits

NAMES = [field.name for field in fields(Limits)]


def test_the_defaults_are_at_least_what_the_rfcs_demand() -> None:
    limits = Limits()
    assert limits.reply_line >= 512
    assert limits.command_line >= 512
    assert limits.recipients >= 100
    assert limits.message_size >= 65_536
    assert limits.auth_line == 12_290
    assert limits.reply_octets >= limits.reply_line


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_limit_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be -1"):
        Limits(**{name: -1})


@pytest.mark.parametrize("name", [name for name in NAMES if name != "message_size"])
def test_a_limit_of_nothing_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize("value", [None, "1", 1.0, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_number_is_refused_by_name(name: str, value: object) -> None:
    make: Callable[..., object] = Limits
    with pytest.raises(TypeError, match=f"{name} is an int, not {value!r}"):
        make(**{name: value})


def test_a_message_size_of_zero_is_no_limit() -> None:
    assert Limits(message_size=0).message_size == 0


@pytest.mark.parametrize("name", NAMES)
def test_each_limit_can_be_set(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1


def test_the_defaults() -> None:
    assert Limits() == Limits(
        reply_line=4096,
        reply_lines=1000,
        reply_octets=262_144,
        pipelined_commands=100,
        pipelined_octets=262_144,
        command_line=4096,
        message_size=50 * 1024 * 1024,
        recipients=1000,
        errors=10,
        auth_line=12_290,
        auth_rounds=10,
    )
