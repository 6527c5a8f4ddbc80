"""Harnesses for a client's settings as text: URL, TOML, environment.

Knows what can be written must be readable, and which secret must not be shown. Must not know what a
key means.

Nothing is written but to a folder for temporary files. Whatever an input names as a file may be
opened for reading.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import fuzz.tree  # noqa: F401 - finds the adapters
from fuzz.leaks import PASSWORD, assert_hidden, with_causes
from fuzz.wire import assert_says_why
from smtp_adapters.settings import (
    KEYS,
    Settings,
    SettingsError,
    canonical_url,
    client_arguments,
    describe,
    from_env,
    from_toml,
    from_url,
)

# A URL wants the blank in it encoded; each other source takes it as it is.
_IN_URL = PASSWORD.replace(" ", "%20")
# In memory where that is to be had; gone when the program ends.
_MEMORY = Path("/dev/shm")
_FOLDER = TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
_SECRETS = frozenset(key.name for key in KEYS if key.kind.secret)

# --- URL -------------------------------------------------------------------------------------


def settings_url(data: bytes, read: Callable[[str], Settings] = from_url) -> None:
    """The octets are a URL; two lines are a scheme, and what stands behind user and password."""
    text = data.decode("utf-8", "surrogateescape")
    before, _, behind = text.partition("\n")
    _look_at(partial(read, before), text)
    if re.search("[/?#@]", before):
        return
    urls = [f"{before}://user:{_IN_URL}@{behind}", f"{before}://user:{PASSWORD}{behind}"]
    if "?" in behind:
        urls.append(f"{before}://{behind}&password={_IN_URL}")
    for url in urls:
        _look_at(partial(read, url), text)


# --- TOML ------------------------------------------------------------------------------------


def settings_toml(data: bytes, read: Callable[[Path], Settings] = from_toml) -> None:
    """The octets are what stands in the table, a password behind them."""
    file = Path(_FOLDER.name) / "settings.toml"
    for text in (
        data,
        b"[smtp]\n" + data,
        b"[smtp]\n" + data + b'\nauth.password = "%s"\n' % PASSWORD.encode(),
    ):
        file.write_bytes(text)
        _look_at(partial(read, file), data.decode("utf-8", "replace"))


# --- The environment -------------------------------------------------------------------------


def settings_env(data: bytes, read: Callable[[str, dict[str, str]], Settings] = from_env) -> None:
    """The octets are variables, name=value on each line; a password is one more."""
    text = data.decode("utf-8", "surrogateescape")
    variables = dict(_pairs(text))
    _look_at(partial(read, "SMTP_", variables), text)
    _look_at(partial(read, "SMTP_", {**variables, "SMTP_PASSWORD": PASSWORD}), text)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        name, _, value = line.partition("=")
        yield name, value


# --- What holds for each of them -------------------------------------------------------------


def _look_at(read: Callable[[], Settings], text: str) -> None:
    heard = text.encode("utf-8", "backslashreplace")
    try:
        settings = read()
    except SettingsError as error:
        assert_says_why(error)
        assert_hidden(with_causes(error), heard)
        return
    described = describe(settings)
    assert_hidden([settings, described], heard)
    assert all(line.isprintable() for line in described.split("\n"))
    if not any(given.key.kind.path for given in settings.given.values()):
        _read_description(described, settings)  # where a file is does not depend on a folder
    try:
        _write_url(settings, heard)
        arguments = client_arguments(settings, environment={})
    except SettingsError as error:
        assert_says_why(error)
        assert_hidden(with_causes(error), heard)
    else:
        assert arguments


def _read_description(described: str, settings: Settings) -> None:
    """What is described is TOML, and means the same but for the secrets."""
    file = Path(_FOLDER.name) / "described.toml"
    file.write_text(f"[smtp]\n{described}\n", encoding="utf-8")
    again = from_toml(file)
    assert again.given.keys() == settings.given.keys()
    assert describe(again) == described


def _write_url(settings: Settings, heard: bytes) -> None:
    url = canonical_url(settings)
    assert url.isascii()
    assert url.isprintable()
    assert_hidden([url], heard)
    again = from_url(url)
    assert canonical_url(again) == url
    kept = settings.given.keys() - _SECRETS
    assert kept - {"security", "protocol"} == again.given.keys() - {"security", "protocol"}
    for name in kept & again.given.keys():
        if name != "proxy":  # what it is told is left out
            assert again.given[name].value == settings.given[name].value, name
