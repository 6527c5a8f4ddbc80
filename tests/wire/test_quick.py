"""Values that are made quickly: nothing but the time tells them from others."""

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field
from typing import cast

import pytest

from smtp_proto.wire.quick import quick


@dataclass(frozen=True, slots=True)
class Plain:
    first: int
    second: str = "two"
    third: list[int] = field(default_factory=list[int])
    sum: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sum", self.first + len(self.third))


@quick
@dataclass(frozen=True, slots=True)
class Quick:
    first: int
    second: str = "two"
    third: list[int] = field(default_factory=list[int])
    sum: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sum", self.first + len(self.third))


@quick
@dataclass(frozen=True, slots=True)
class Bare:
    only: int


def test_it_has_what_it_was_given() -> None:
    value = Quick(1, "b", [3, 4])
    assert (value.first, value.second, value.third, value.sum) == (1, "b", [3, 4], 3)
    assert Quick(first=1, third=[3, 4], second="b") == value
    assert Bare(7).only == 7


def test_defaults() -> None:
    value = Quick(1)
    assert (value.second, value.third, value.sum) == ("two", [], 1)
    assert value.third is not Quick(1).third


def test_it_looks_like_any_other() -> None:
    assert inspect.signature(Quick).parameters.keys() == inspect.signature(Plain).parameters.keys()
    assert inspect.get_annotations(Quick.__init__) == inspect.get_annotations(Plain.__init__)
    assert Quick.__init__.__qualname__ == "Quick.__init__"
    assert repr(Quick(1)) == repr(Plain(1)).replace("Plain", "Quick")
    make: Callable[[], object] = cast("Callable[[], object]", Quick)
    with pytest.raises(TypeError, match="first"):
        make()


@pytest.mark.parametrize("name", ["first", "sum", "other"])
def test_it_cannot_be_changed(name: str) -> None:
    value = Quick(1)
    with pytest.raises((FrozenInstanceError, TypeError)):
        setattr(value, name, 2)
    with pytest.raises((FrozenInstanceError, TypeError)):
        delattr(value, name)


def test_it_can_be_copied() -> None:
    value = Quick(1, "b", [3])
    assert copy.deepcopy(value) == value == pickle.loads(pickle.dumps(value))
    assert copy.deepcopy(value).sum == 2
