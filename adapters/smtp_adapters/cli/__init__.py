"""The command `smtp-proto`: its parts, and what becomes of their errors.

Knows which commands there are. Must not know what they do.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from typing import NoReturn

from smtp_adapters.cli import check, probe, send, serve
from smtp_adapters.cli.names import CLIENT, Names
from smtp_adapters.cli.text import Exit, complain, finish

_DEMO_HELP = "see real messages go through all adapters"
_DEMO_DESCRIPTION = """\
Make certificates, start a server on this host, send it messages with each of the
three adapters over implicit TLS and over STARTTLS, logged in, and compare what
arrives with what was sent, octet by octet."""

_COMMANDS = {"send": send, "check-credentials": check, "probe": probe, "serve": serve}
_EXIT_CODES = "exit codes:\n" + "\n".join(f"  {code:3}  {code.meaning}" for code in Exit)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments`, or else the command line, ask for; return its exit code."""
    try:
        return _carry_out(_parsed(sys.argv[1:] if arguments is None else arguments))
    finally:
        finish()


def _carry_out(given: argparse.Namespace) -> Exit:
    run: Callable[[argparse.Namespace], Exit] = given.run
    names: Names = given.names
    try:
        return run(given)
    except KeyboardInterrupt:
        complain("interrupted")
        return Exit.INTERRUPTED
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        complain(names(f"{file}{error.strerror or error}"))
    except ValueError as error:
        complain(names(str(error)))
    return Exit.USAGE


class _Parser(argparse.ArgumentParser):
    """Says on one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; see {self.prog} --help")
        self.exit(Exit.USAGE)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"):
        parser.error("the command comes first, and its options behind it")
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        command: argparse.ArgumentParser = given.command
        command.error(_unknown(unknown, _OPTION.findall(command.format_help())))
    return given


_OPTION = re.compile(r"--[a-z][a-z-]*")


def _unknown(arguments: Sequence[str], options: Collection[str]) -> str:
    """What is wrong with arguments that there are not. No value is shown: it may be a secret."""
    names = [each.partition("=")[0] for each in arguments if each.startswith("--")]
    if not names:
        letters = [each[:2] for each in arguments if each.startswith("-")]
        if letters:
            return f"there is no option {letters[0]}"
        return f"unrecognized arguments behind all that are expected: {len(arguments)}"
    name = names[0]
    safe = [f"{name}-{source}" for source in ("file", "env") if f"{name}-{source}" in options]
    if safe:
        return f"there is no option {name}, whose value `ps` would show: give {' or '.join(safe)}"
    close = get_close_matches(name[:80], options, 1)
    return f"there is no option {name}" + (f"; there is {close[0]}" if close else "")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="smtp-proto",
        description="Send and receive mail over SMTP.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, help_: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help_,
            description=description,
            epilog=_EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    for name, command in _COMMANDS.items():
        part = add(name, command.HELP, command.DESCRIPTION)
        command.add_arguments(part)
        part.set_defaults(run=command.run, names=command.NAMES, command=part)
    part = add("demo", _DEMO_HELP, _DEMO_DESCRIPTION)
    part.set_defaults(run=_demo, names=CLIENT, command=part)
    return parser


def _demo(_given: argparse.Namespace) -> Exit:
    try:
        from smtp_adapters.cli import demo
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the demo needs {error.name}: pip install 'smtp-proto-engine[demo]'"
        ) from error
    return demo.run()
