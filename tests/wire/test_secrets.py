"""Secrets that a peer gives back, in whatever it says."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.wire.errors import escaped
from smtp_proto.wire.secrets import Secrets

SECRET = "correct horse battery staple"


def knowing(*texts: str) -> Secrets:
    secrets = Secrets()
    for text in texts:
        secrets.add(text)
    return secrets


@given(st.integers(0, len(SECRET) - 8), st.text(max_size=5), st.text(max_size=5))
def test_eight_characters_in_a_row_are_too_many(start: int, front: str, behind: str) -> None:
    piece = SECRET[start : start + 8]
    assert knowing(SECRET).hidden_in(f"{front}{piece}{behind}") == "***"


def test_seven_are_not() -> None:
    for start in range(len(SECRET) - 7 + 1):
        for text in (SECRET[start : start + 7], f"<{SECRET[start : start + 7]}>"):
            assert knowing(SECRET).hidden_in(text) == text


def test_a_line_end_within_hides_nothing() -> None:
    assert knowing(SECRET).hidden_in("no:\ncorrect\n hors\ne") == "***"


@pytest.mark.parametrize("secret", ["x", "s3cret", "7 chars"])
def test_a_short_secret_is_found_as_a_whole(secret: str) -> None:
    assert knowing(secret).hidden_in(f"it is {secret}!") == "***"
    assert knowing(secret).hidden_in(secret[:-1]) == secret[:-1]


def test_eight_characters_are_a_piece() -> None:
    assert knowing("8 chars.").hidden_in("8 chars.") == "***"
    assert knowing("8 chars.").hidden_in("8 chars") == "8 chars"


def test_the_empty_secret_is_in_nothing() -> None:
    secrets = knowing("")
    secrets.add_octets(b"")
    assert secrets.hidden_in("any text") == "any text"
    assert secrets.hidden_in("") == ""


@pytest.mark.parametrize("secret", ["\u200d", "\xa0", "geheim\xa0wort", "\x1b[1m secret \x1b[m"])
def test_a_secret_is_found_where_it_is_escaped(secret: str) -> None:
    for form in (secret, escaped(secret)):
        assert knowing(secret).hidden_in(f"it is {form}!") == "***"


@pytest.mark.parametrize("octets", [b"a", b"ab", b"abc", b"\0ada\0secret", bytes(range(256))])
def test_octets_are_found_in_base64_with_and_without_padding(octets: bytes) -> None:
    secrets = Secrets()
    secrets.add_octets(octets)
    text = b64encode(octets).decode()
    assert secrets.hidden_in(f"<{text}>") == "***"
    assert secrets.hidden_in(f"<{text.rstrip('=')}>") == "***"
    assert secrets.hidden_in("<!>") == "<!>"


def test_each_of_several_is_found() -> None:
    secrets = knowing(SECRET, "s3cret", "another long one")
    for text in ("horse batt", "s3cret", "her long on"):
        assert secrets.hidden_in(text) == "***"
    assert secrets.hidden_in("nothing of them") == "nothing of them"
