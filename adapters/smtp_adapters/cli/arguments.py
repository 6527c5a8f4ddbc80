"""What is given on the command line, as values.

Knows how hosts, ports and passwords are written. Must not know what they are for.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import NamedTuple

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


def seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"not a number of seconds above 0: {shown(text)!r}")
    return value


def add_login(parser: argparse.ArgumentParser, user_help: str) -> None:
    """Add --user and the ways to give a password: never as an argument, for `ps` to show."""
    group = parser.add_argument_group("login")
    group.add_argument("--user", metavar="NAME", help=user_help)
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--password-file",
        metavar="FILE",
        type=readable,
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
            raise ValueError(f"--password-env {variable}: it is not set, or empty")
        return os.environ[variable]
    if not sys.stdin.isatty():
        raise ValueError(
            "--user without a password, and no terminal to ask for it:"
            " give --password-file or --password-env"
        )
    return getpass.getpass(f"Password of {user}: ")
