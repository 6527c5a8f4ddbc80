"""What is given on the command line, as values.

Knows how hosts, ports and passwords are written. Must not know what they are for.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from smtp_adapters.settings.given import Given, Settings
from smtp_adapters.settings.keys import BY_NAME, FLAG, GROUPS, KEYS, option
from smtp_adapters.settings.sources import expanded, from_env, from_toml
from smtp_adapters.settings.url import no_such_scheme
from smtp_proto.wire.errors import shown


class Endpoint(NamedTuple):
    """A host and a port; None: the usual one."""

    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def endpoint(text: str) -> Endpoint:
    """Read HOST, HOST:PORT, [IPV6] or [IPV6]:PORT."""
    scheme, separator, _ = text.partition("://")
    if separator:
        wrong = no_such_scheme(scheme)
        raise argparse.ArgumentTypeError(
            "that is a URL, which `send` and `check-credentials` take as --url; here give HOST or "
            "HOST:PORT" + (f"; and {wrong}" if wrong else "")
        )
    if "@" in text:
        raise argparse.ArgumentTypeError(
            "a user is no part of HOST[:PORT]: `send` and `check-credentials` have --user"
        )
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        separator, port = rest[:1], rest[1:]
        if not bracket or separator not in ("", ":"):
            raise argparse.ArgumentTypeError(f"not [ADDRESS]:PORT: {shown(text)}")
    else:
        host, separator, port = text.partition(":")
        if ":" in port:
            raise argparse.ArgumentTypeError(
                f"an IPv6 address stands in brackets, as in [::1]:25: {shown(text)}"
            )
    if not host:
        raise argparse.ArgumentTypeError(f"no host in {shown(text)!r}")
    return Endpoint(host, _port(port) if separator else None)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text[:6]) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a number up to 65535, not {shown(text)!r}")


def readable(text: str) -> Path:
    """Read the path of a file that is there, and can be read."""
    try:
        Path(text).open("rb").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)}: {error.strerror}") from None
    return Path(text)


def _readable_secret(text: str) -> Path:
    """Read the path of a file with a secret. It is not shown: it may be the secret by mistake."""
    try:
        Path(text).open("rb").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"it cannot be read: {error.strerror}") from None
    return Path(text)


def add_login(parser: argparse.ArgumentParser, user_help: str) -> None:
    """Add --user and the ways to give a password: never as an argument, for `ps` to show."""
    group = parser.add_argument_group("login")
    group.add_argument("--user", metavar="NAME", help=user_help)
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--password-file",
        metavar="FILE",
        type=_readable_secret,
        help="read the password from its first line",
    )
    source.add_argument(
        "--password-env", metavar="VARIABLE", help="take the password from the environment"
    )
    group.add_argument(
        "--allow-cleartext-auth",
        action="store_true",
        help="let the password go over a connection without TLS",
    )


def login(given: argparse.Namespace) -> tuple[str, str] | None:
    """The user and the password; None: no login. Raises ValueError, or OSError for the file."""
    if given.user is None:
        if given.password_file is not None or given.password_env is not None:
            raise ValueError("a password without --user: say whose it is")
        return None
    return given.user, _password(given)


def _password(given: argparse.Namespace) -> str:
    user: str = given.user
    file: Path | None = given.password_file
    variable: str | None = given.password_env
    if file is not None:
        password = file.read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r")
        if not password:
            raise ValueError(f"--password-file {file}: its first line is empty")
        return password
    if variable is not None:
        if not os.environ.get(variable):
            # Its name is not shown: it may be the password by mistake.
            raise ValueError("--password-env: the variable that it names is not set, or empty")
        return os.environ[variable]
    if not _may_ask():
        raise ValueError(
            "--user without a password, and no terminal to ask for it:"
            " give --password-file or --password-env"
        )
    return getpass.getpass(f"Password of {user}: ")


def _may_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


# --- The settings of a client -----------------------------------------------------------------

_GROUP_HELP = """\
What options say goes before --url, that before --config, and that before --env;
in --config and --env each key is called as here, see docs/settings.md."""

_FILE_AND_SECTION = re.compile(r"(?P<file>.+?)(?::(?P<section>[A-Za-z0-9_.-]+))?", re.DOTALL)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for each key but those of secrets, which `ps` would show."""
    sources = parser.add_argument_group("where to", _GROUP_HELP)
    sources.add_argument("--server", metavar="HOST[:PORT]", type=endpoint, help="the server")
    sources.add_argument(
        "--config",
        metavar="FILE[:SECTION]",
        help="read settings from a table of a TOML file (default: smtp)",
    )
    sources.add_argument(
        "--env", metavar="PREFIX", help="read settings from variables with this prefix, as SMTP_"
    )
    sources.add_argument(
        "--url",
        metavar="URL",
        help="as smtps://ada@mail.example.org; a password in it is for all to see in `ps`",
    )
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    for key in _OPTIONS:
        # "--ca-file" and "--tls-ca-file" are the same; the short name stands first.
        names = dict.fromkeys((option(key.short), option(key.name)))
        text = f"{key.says} (default: {key.default})" if key.default else key.says
        if key.kind is FLAG:
            groups[key.group].add_argument(
                *names, dest=key.name, action=argparse.BooleanOptionalAction, help=text
            )
        else:
            groups[key.group].add_argument(
                *names, dest=key.name, metavar=key.kind.metavar, help=text
            )


_OPTIONS = tuple(key for key in KEYS if not key.kind.secret)


def settings_of(given: argparse.Namespace) -> Settings:
    """The settings from all sources. Raises SettingsError."""
    settings = Settings.of(_options(given))
    if given.url is not None:
        settings = settings.over(
            Settings.of(expanded(Given.of(BY_NAME["url"], given.url, "--url")))
        )
    if given.config is not None:
        settings = settings.over(_configured(given.config))
    if given.env is not None:
        settings = settings.over(from_env(given.env))
    return _with_password(settings)


def _options(given: argparse.Namespace) -> Iterator[Given]:
    if given.server is not None:
        server: Endpoint = given.server
        yield Given.of(BY_NAME["host"], server.host, "--server")
        if server.port is not None:
            yield Given.of(BY_NAME["port"], str(server.port), "--server")
    for key in _OPTIONS:
        value: str | bool | None = getattr(given, key.name)
        if isinstance(value, bool):
            yield Given.of(key, "yes" if value else "no", option(key.short))
        elif value is not None:
            yield Given.of(key, value, option(key.short))


def _configured(text: str) -> Settings:
    match = _FILE_AND_SECTION.fullmatch(text)
    if match is None:
        raise ValueError("--config: it is empty: name a file")
    return from_toml(match["file"], match["section"] or "smtp")


def _with_password(settings: Settings) -> Settings:
    """The settings; with a password from the terminal, if there is none and somebody to ask."""
    user = settings.given.get("auth.user")
    places = {given.key.place for given in settings.given.values()}
    if user is None or BY_NAME["password"].place in places or not _may_ask():
        return settings
    password = getpass.getpass(f"Password of {shown(user.text)}: ")
    return Settings.of([Given.of(BY_NAME["password"], password, "the password")]).over(settings)
