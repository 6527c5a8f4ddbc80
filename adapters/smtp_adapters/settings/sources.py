"""Settings from a TOML file and from the environment.

Knows how each of them names the keys, and what TOML has in place of text. Must not know what a key
means.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

from smtp_adapters.settings.given import Given, Settings, SettingsError, unknown
from smtp_adapters.settings.keys import BY_NAME, GROUPS, VARIABLE, Key, variable
from smtp_adapters.settings.url import read_url
from smtp_proto.wire.errors import shown


def expanded(given: Given, folder: Path | None = None) -> Iterator[Given]:
    """Yield what one key gives: itself, or all that is in a URL."""
    if given.key.name == "url":
        yield from read_url(given.text, given.where, folder)
    else:
        yield given


# --- TOML ------------------------------------------------------------------------------------

_LARGEST_FILE = 65_536  # octets: a file without end would fill the memory
_MOST_DOTS = 100  # in a line: the parser takes the square of the time for the parts of a key
_MOST_BITS = 64  # of a number

_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),  # before int, which it is, too
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
    (list, "an array"),
    (dict, "a table"),
)


def from_toml(path: str | os.PathLike[str], section: str = "smtp") -> Settings:
    """Read a table of a TOML file; relative names of files begin at the folder that it is in.

    `section`: the name of the table, with dots where it is inside others. Raises SettingsError,
    also for a file that cannot be read.
    """
    path = Path(path)
    table: object = _parsed(path)
    for name in section.split("."):
        if not _is_table(table) or name not in table:
            raise SettingsError(f"{path}", f"there is no table [{shown(section)}]: write one")
        table = table[name]
    if not _is_table(table):
        raise SettingsError(f"{path}: {section}", "expected a table of settings")
    return Settings.of(
        each
        for given in _toml_given(table, f"{path}: {section}", path.absolute().parent)
        for each in expanded(given, path.absolute().parent)
    )


def _parsed(path: Path) -> Mapping[str, object]:
    octets = _read(path)
    try:
        return tomllib.loads(octets.decode())
    except UnicodeDecodeError:
        why = "it is not UTF-8: save it as that"
    except tomllib.TOMLDecodeError as error:
        why = f"it is no TOML: {error}"
    except RecursionError:
        why = "its values are nested too deeply: no setting has more than an array"
    except ValueError:  # from int()
        why = "it has a number with too many digits: no setting needs so many"
    # Out here no other error, which has the text, hangs on this one.
    raise SettingsError(str(path), why)


def _read(path: Path) -> bytes:
    """What the file has, if a parser may be given that."""
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    else:
        why = _too_much(octets)
        if not why:
            return octets
    raise SettingsError(str(path), why)


def _too_much(octets: bytes) -> str:
    """Why no parser should be given this; "" if it may."""
    if len(octets) > _LARGEST_FILE:
        return f"it has more than {_LARGEST_FILE} octets: is it the right file?"
    for number, line in enumerate(octets.split(b"\n"), 1):
        if line.count(b".") > _MOST_DOTS:
            return f"line {number} has more than {_MOST_DOTS} dots: write it on several lines"
    return ""


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _toml_given(
    table: Mapping[str, object], where: str, folder: Path, group: str = ""
) -> Iterator[Given]:
    for name, value in table.items():
        full_name = f"{group}.{name}" if group else name
        place = f"{where}.{name}"
        if full_name in GROUPS:
            if not _is_table(value):
                raise SettingsError(place, f"expected a table, not {_type_name(value)}")
            yield from _toml_given(value, place, folder, full_name)
        elif full_name in BY_NAME:
            yield _toml_value(BY_NAME[full_name], value, place, folder)
        else:
            raise unknown(place, full_name, BY_NAME)


def _toml_value(key: Key, value: object, where: str, folder: Path) -> Given:
    if key.kind.several and _is_array(value):
        members = [member for member in value if isinstance(member, str)]
        if len(members) == len(value) > 0:
            return Given(key, tuple(members), where)
    elif type(value) in key.kind.types:
        return Given.of(key, _as_text(value), where, folder)
    raise SettingsError(where, f"expected {key.kind.expected}, not {_type_name(value)}")


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    # For a number of very many digits str() raises an error, which does not say where it stands.
    too_large = isinstance(value, int) and value.bit_length() > _MOST_BITS
    return "a number too large" if too_large else str(value)


def _type_name(value: object) -> str:
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "a date or time")


# --- Environment -----------------------------------------------------------------------------

_BY_VARIABLE = {variable(name): key for name, key in BY_NAME.items()}


def from_env(prefix: str = "SMTP_", environment: Mapping[str, str] = os.environ) -> Settings:
    """Read all variables whose names begin with `prefix`.

    Raises SettingsError, also for one that names no key: it may be a slip of the pen.
    """
    if not prefix:
        raise SettingsError("prefix", "it is empty: then each variable would have to be a setting")
    named = {
        environment[prefix + name]
        for name, key in _BY_VARIABLE.items()
        if key.kind is VARIABLE and prefix + name in environment
    }
    return Settings.of(
        each
        for name, text in sorted(environment.items())
        # A secret may stand in a variable with the same prefix.
        if name.startswith(prefix) and name not in named
        for each in expanded(Given.of(_key_of(name, prefix), text, name))
    )


def _key_of(name: str, prefix: str) -> Key:
    rest = name.removeprefix(prefix)
    key = _BY_VARIABLE.get(rest)
    if key is not None:
        return key
    if rest.startswith("_") and not prefix.endswith("_"):
        why = f'there is no such key: did you mean the prefix "{shown(prefix)}_"?'
        raise SettingsError(shown(name), why)
    raise unknown(shown(name), name, (prefix + known for known in _BY_VARIABLE))
