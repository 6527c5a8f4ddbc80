"""The command `smtp-proto`: its parts, and what becomes of their errors.

Knows which commands there are. Must not know what they do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from smtp_adapters.cli import check, probe, send, serve
from smtp_adapters.cli.text import Exit, complain

_DEMO_HELP = "see real messages go through all adapters"
_DEMO_DESCRIPTION = """\
Make certificates, start a server on this host, send it messages with each of the
three adapters over implicit TLS and over STARTTLS, logged in, and compare what
arrives with what was sent, octet by octet."""

_COMMANDS = {"send": send, "check-credentials": check, "probe": probe, "serve": serve}
_EXIT_CODES = "exit codes:\n" + "\n".join(f"  {code:3}  {code.meaning}" for code in Exit)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments`, or else the command line, ask for; return its exit code."""
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], Exit] = given.run
    try:
        return run(given)
    except KeyboardInterrupt:
        complain("interrupted")
        return Exit.INTERRUPTED
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        complain(f"{file}{error.strerror or error}")
    except ValueError as error:
        complain(str(error))
    return Exit.USAGE


class _Parser(argparse.ArgumentParser):
    """Says on one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; see {self.prog} --help")
        self.exit(Exit.USAGE)


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
        part.set_defaults(run=command.run)
    add("demo", _DEMO_HELP, _DEMO_DESCRIPTION).set_defaults(run=_demo)
    return parser


def _demo(_given: argparse.Namespace) -> Exit:
    try:
        from smtp_adapters.cli import demo
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the demo needs {error.name}: pip install 'smtp-proto-engine[demo]'"
        ) from error
    return demo.run()
