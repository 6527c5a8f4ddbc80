"""SASLprep, RFC 4013, and the profile "trace", RFC 4505 3."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.saslprep import (
    prepare_identity,
    prepare_password,
    prepare_trace,
    saslprep,
)


# RFC 4013 3
@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
    ],
)
def test_the_examples_of_the_rfc(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031"])
def test_what_the_rfc_says_is_an_error(text: str) -> None:
    with pytest.raises(SASLError):
        saslprep(text)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("a\u00a0b\u1680c\u3000d", "a b c d"),  # RFC 4013 2.1: blanks
        ("a\u200bb\ufe0fc", "abc"),  # no blank that has no width: it is nothing
        ("\u00bd", "1\u20442"),  # RFC 5802 2.2 recommends these two
        ("\u00b4", " \u0301"),
        ("e\u0301", "é"),
        ("grün €", "grün €"),
        ("\u0627\u0644\u0641", "\u0627\u0644\u0641"),
        ("\u0627 1 \u0628", "\u0627 1 \u0628"),
        ("\U0001f512", "\U0001f512"),  # not in Unicode 3.2
        ("", ""),
    ],
)
def test_what_is_the_same(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


PROHIBITED_IN_BOTH = [
    "\0",
    "\n",
    "\x7f",
    "\x85",
    "\u2028",
    "\ue000",
    "\ufdd0",
    "\U0001ffff",
    "\ud800",
    "\udc00",
    "\ufffd",
    "\u202e",
    "\U000e0041",
]


@pytest.mark.parametrize("character", [*PROHIBITED_IN_BOTH, "\u2ff0"], ids=ascii)
def test_what_is_prohibited(character: str) -> None:
    with pytest.raises(SASLError, match="prohibits") as caught:
        saslprep(f"canary{character}")
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("character", PROHIBITED_IN_BOTH, ids=ascii)
def test_what_is_prohibited_in_a_trace(character: str) -> None:
    with pytest.raises(SASLError, match="prohibits"):
        prepare_trace(f"sirhc{character}")


def test_a_trace_is_not_changed() -> None:
    text = "a\u00a0\u00ad\u00bd\u2168\u2ff0"
    assert prepare_trace(text) == text


@pytest.mark.parametrize(
    "text",
    ["\u0627a", "a\u0627", "\u0627a\u0628", "\u06271", "1\u0627", "\u05d0 x \u05d1"],
    ids=ascii,
)
def test_directions_are_not_mixed(text: str) -> None:
    with pytest.raises(SASLError, match="right-to-left"):
        saslprep(text)
    with pytest.raises(SASLError, match="right-to-left"):
        prepare_trace(text)


@pytest.mark.parametrize("text", ["", "\u00ad", "\u200d\ufe0f"], ids=ascii)
def test_nothing_may_be_left(text: str) -> None:
    with pytest.raises(SASLError, match="the identity is empty"):
        prepare_identity(text)
    with pytest.raises(SASLError, match="the password is empty"):
        prepare_password(text)


@given(st.text())
def test_what_is_prepared_is_canonical(text: str) -> None:
    try:
        prepared = saslprep(text)
    except SASLError:
        return
    assert unicodedata.ucd_3_2_0.is_normalized("NFKC", prepared)
    assert saslprep(prepared) == prepared


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_printable_ascii_stays_as_it_is(text: str) -> None:
    assert saslprep(text) == text


def test_what_is_longer_than_anybody_means_costs_no_time() -> None:
    assert saslprep("a" * 5000) == "a" * 5000
    assert saslprep("ä" * 1000) == "ä" * 1000
    for text in ("ä" * 1001, "\xad" * 1001, "\ufdfa" * 100):
        with pytest.raises(SASLError, match="longer than 1000"):
            saslprep(text)
