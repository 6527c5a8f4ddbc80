"""Settings as text for people, without secrets.

Knows what may be shown. Must not know what it means.
"""

from __future__ import annotations

from smtp_adapters.settings.given import Given, Settings
from smtp_adapters.settings.keys import KEYS
from smtp_adapters.settings.url import shown_text

_HIDDEN = "***"


def describe(settings: Settings) -> str:
    """One line for each key that is set, as TOML has it; secrets are "***"."""
    return "\n".join(
        f"{key.name} = {_shown(settings.given[key.name])}"
        for key in KEYS
        if key.name in settings.given
    )


def _shown(given: Given) -> str:
    kind = given.key.kind
    if kind.secret:
        return _quoted(_HIDDEN)
    if kind.several:
        return f"[{', '.join(map(_quoted, shown_text(given).split(',')))}]"
    match given.value:
        case bool() as yes:
            return "true" if yes else "false"
        case int() | float() as number if int in kind.types:
            return str(number)
        case _:
            return _quoted(given.text)


def _quoted(text: str) -> str:
    """The text as a basic string of TOML."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08X}"
