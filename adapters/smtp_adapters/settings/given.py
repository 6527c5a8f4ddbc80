"""What was given: texts by their keys, and where they stood.

Knows that nothing is given twice, and that no value is in an error: only names are.
Must not know how any source is written.

    ValueError
        SettingsError   what was given cannot be used
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from smtp_adapters.settings.keys import Key
from smtp_proto.wire.errors import escaped, shown


class SettingsError(ValueError):
    """What was given cannot be used.

    `where` names the key as it was written, and the file or URL that it is in; `why` says what is
    wrong and what to do. The values themselves, of which some are secret, are not shown; but files
    that cannot be read are.
    """

    # Leaving super().__init__() out keeps in `args` what the class was built with, for copies.
    def __init__(self, where: str, why: str) -> None:
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return escaped(f"{self.where}: {self.why}")


@dataclass(frozen=True, slots=True)
class Given:
    """One key, what it was given, and where that stood."""

    key: Key
    parts: tuple[str, ...] = field(repr=False)
    """One text, or as many as the key may have."""
    where: str

    @classmethod
    def of(cls, key: Key, text: str, where: str, folder: Path | None = None) -> Given:
        """Take one text. The name of a file begins at the folder, if there is one."""
        if key.kind.several:
            return cls(key, tuple(part.strip() for part in text.split(",")), where)
        if folder is not None and key.kind.path and text:
            text = str(folder / text)
        return cls(key, (text,), where)

    @property
    def text(self) -> str:
        """What it was given, as one text."""
        return ",".join(self.parts)

    @property
    def value(self) -> object:
        """What it means; a tuple where there may be several. Raises SettingsError."""
        if not all(self.parts):
            why = "it is empty: leave it out, or give it a value"
        else:
            try:
                values = tuple(map(self.key.kind.read, self.parts))
            except OSError as error:
                why = f"expected {self.key.kind.expected}: {error.strerror}{self._quoted}"
            except ValueError:
                why = f"expected {self.key.kind.expected}"
            else:
                return values if self.key.kind.several else values[0]
        # Out here no other error, which has the text, hangs on this one.
        raise SettingsError(self.where, why)

    @property
    def _quoted(self) -> str:
        return f": {shown(self.text)}" if self.key.kind.quoted else ""


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """What one or more sources give. `str()` and `repr()` have no secret."""

    given: Mapping[str, Given]
    """By the names of the keys, with their groups."""

    @classmethod
    def of(cls, given: Iterable[Given]) -> Settings:
        """Put together what one source gives.

        Raises SettingsError for what is given twice, and for a value that cannot be.
        """
        by_place: dict[str, Given] = {}
        for each in given:
            other = by_place.setdefault(each.key.place, each)
            if other is not each:
                if other.where == each.where:
                    raise SettingsError(each.where, "given twice: leave one of them out")
                raise SettingsError(
                    f"{other.where} and {each.where}", "only one of them can be given"
                )
            _ = each.value
        return cls(MappingProxyType({each.key.name: each for each in by_place.values()}))

    def over(self, lower: Settings) -> Settings:
        """These settings, and those of `lower` that they leave open."""
        places = {given.key.place for given in self.given.values()}
        rest = {
            name: given
            for name, given in lower.given.items()
            if given.key.place not in places and not self._has_for_all(given.key)
        }
        return Settings(MappingProxyType(rest | dict(self.given)))

    def __repr__(self) -> str:
        return f"<Settings: {', '.join(self.given) or 'none'}>"

    def _has_for_all(self, key: Key) -> bool:
        """Whether one key here speaks for that key too."""
        if key.group == "timeouts":
            return "timeout" in self.given
        return key.name == "port" and "socket" in self.given


def unknown(where: str, name: str, names: Iterable[str]) -> SettingsError:
    """The error for a key that is none, with the one that may have been meant."""
    close = get_close_matches(name[:80], list(names), 1)
    hint = f"did you mean {close[0]}?" if close else "docs/settings.md lists them all"
    return SettingsError(where, f"there is no such key: {hint}")
