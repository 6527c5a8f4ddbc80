"""The profiles of stringprep (RFC 3454) for SASL: SASLprep (RFC 4013) and "trace" (RFC 4505 3).

Knows which strings are the same name or password, and which are none. Must not know who uses them.

Code points that Unicode 3.2 does not assign are let through, as in query strings (RFC 4013 2.5),
also where a password is stored. The reason to keep them out of what is stored is that a later
Unicode might fold them; these tables never change. So new scripts and emoji work, unchanged.
"""

import stringprep
from collections.abc import Callable
from unicodedata import ucd_3_2_0

from smtp_proto.sasl.errors import SASLError

_LONGEST = 1000  # characters of a name or a password

_Table = Callable[[str], bool]

_TRACE_PROHIBITS: tuple[_Table, ...] = (
    stringprep.in_table_c21_c22,  # control characters
    stringprep.in_table_c3,  # private use
    stringprep.in_table_c4,  # no characters at all
    stringprep.in_table_c5,  # surrogates
    stringprep.in_table_c6,  # inappropriate for plain text
    stringprep.in_table_c8,  # they change how the rest is displayed
    stringprep.in_table_c9,  # tags
)
# RFC 4013 2.3
_SASLPREP_PROHIBITS: tuple[_Table, ...] = (
    stringprep.in_table_c12,  # blanks but the ASCII one
    stringprep.in_table_c7,  # inappropriate for canonical representation
    *_TRACE_PROHIBITS,
)


def saslprep(text: str) -> str:
    """Return the prepared form of a name or password, which may be empty.

    Raises SASLError, which does not quote it, if it has characters that SASLprep prohibits, or more
    than anybody means.
    """
    if text.isascii() and text.isprintable():
        return text
    _check_length(text)  # before NFKC, which makes up to 18 characters of one
    # RFC 4013 2.1
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)  # RFC 4013 2.2
    _check_length(prepared)
    _check(prepared, _SASLPREP_PROHIBITS)
    return prepared


def prepare_identity(identity: str) -> str:
    """Return the prepared form of an identity. Raises SASLError if it is empty, or as above."""
    return _not_empty(saslprep(identity), "the identity")


def prepare_password(password: str) -> bytes:
    """Return the prepared form of a password as UTF-8. Raises SASLError likewise."""
    return _not_empty(saslprep(password), "the password").encode()


def prepare_trace(text: str) -> str:
    """Return `text`, which the profile "trace" leaves as it is. Raises SASLError likewise."""
    _check(text, _TRACE_PROHIBITS)
    return text


def _check_length(text: str) -> None:
    if len(text) > _LONGEST:
        raise SASLError(f"it is longer than {_LONGEST} characters")


def _not_empty(prepared: str, what: str) -> str:
    if prepared:
        return prepared
    raise SASLError(f"{what} is empty, as far as SASLprep is concerned")


def _check(prepared: str, prohibits: tuple[_Table, ...]) -> None:
    if any(in_table(character) for character in prepared for in_table in prohibits):
        raise SASLError("there is a character in it that stringprep prohibits (RFC 3454)")
    # RFC 3454 6
    right_to_left = [stringprep.in_table_d1(character) for character in prepared]
    if any(right_to_left) and not (
        right_to_left[0] and right_to_left[-1] and not any(map(stringprep.in_table_d2, prepared))
    ):
        raise SASLError("it mixes right-to-left and left-to-right characters (RFC 3454 6)")
