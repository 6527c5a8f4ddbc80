"""Errors: what they say can be printed anywhere, and they can be carried anywhere."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.wire.errors import (
    LimitExceeded,
    WireError,
    check_flag,
    escaped,
    kind_of,
    shown,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_a_wire_error_says_what_and_why() -> None:
    error = WireError("forward-path", "no @ in joe")
    assert str(error) == "forward-path: no @ in joe"
    assert (error.what, error.why) == ("forward-path", "no @ in joe")
    assert isinstance(error, ValueError)


def test_a_limit_error_names_the_limit_and_its_value() -> None:
    error = LimitExceeded("reply", "reply_lines", 1000)
    assert isinstance(error, WireError)
    assert (error.what, error.limit, error.maximum) == ("reply", "reply_lines", 1000)
    assert "reply_lines" in str(error)
    assert "1000" in str(error)


@pytest.mark.parametrize(
    "error", [WireError("Domain", "empty"), LimitExceeded("line", "command_line", 4096)]
)
def test_errors_can_be_copied_and_pickled(error: WireError) -> None:
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


@given(ANY_TEXT, ANY_TEXT)
def test_no_error_prints_a_control_character(what: str, why: str) -> None:
    assert str(WireError(what, why)).isprintable()


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("plain text", "plain text"),
        ("Grüße, 世界", "Grüße, 世界"),
        ("\x1b]0;pwned\x07", "\\x1b]0;pwned\\x07"),
        ("a\r\nb\tc\0", "a\\r\\nb\\tc\\x00"),
        ("\x7f\x85\x9b", "\\x7f\\x85\\x9b"),
        ("\u202e\u2028", "\\u202e\\u2028"),
        ("\udc9b", "\\udc9b"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_escaped_keeps_what_is_printable_only(text: str, visible: str) -> None:
    assert escaped(text) == visible
    assert shown(text) == visible


@pytest.mark.parametrize("value", ["no", "", 0, 1, None])
def test_nothing_but_true_and_false_is_a_flag(value: object) -> None:
    check_flag("allowed", True)
    check_flag("allowed", False)
    with pytest.raises(TypeError, match="^allowed is True or False, not "):
        check_flag("allowed", value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(5, "an int"), ("secret", "a str"), (None, "None"), (WireError("a", "b"), "a WireError")],
)
def test_the_kind_of_a_value_is_told_and_nothing_of_it(value: object, kind: str) -> None:
    assert kind_of(value) == kind


@given(st.one_of(ANY_TEXT, st.binary()))
def test_shown_is_short_and_printable(text: str | bytes) -> None:
    line = shown(text)
    assert len(line) <= 80
    assert line.isprintable()


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=80))
def test_shown_keeps_a_short_line_as_it_is(text: str) -> None:
    assert shown(text) == text
    assert shown(text.encode()) == text


def test_shown_cuts_at_80_characters_and_says_so() -> None:
    assert shown("x" * 80) == "x" * 80
    assert shown("x" * 81) == "x" * 77 + "..."
    assert shown(b"x" * 1_000_000) == "x" * 77 + "..."
    assert shown("\0" * 21) == "\\x00" * 19 + "\\..."


def test_shown_reads_octets_as_utf_8() -> None:
    assert shown("Grüße".encode()) == "Grüße"
    assert shown(b"\xffa\x9b") == "\\xffa\\x9b"
