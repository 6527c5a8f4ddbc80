"""What the command line says: its exit codes, its lines, its tables, its progress.

Knows terminals, pipes, and that much of what is said comes from strangers: nothing gets out of
here without being escaped. Must not know what is being done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, IntEnum
from io import StringIO
from pathlib import Path
from typing import NamedTuple, TextIO, TypeGuard, cast

from smtp_adapters.cli.names import CLIENT
from smtp_proto.flow.errors import (
    AuthenticationError,
    CertificateError,
    ConnectError,
    ConnectionLost,
    DeliveryInDoubt,
    PermanentError,
    ProtocolViolation,
    ProxyError,
    ReplyError,
    SMTPError,
    SMTPTimeout,
    TLSError,
)
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire.errors import escaped
from smtp_proto.wire.reply import Reply

_PROGRAM = "smtp-proto"


class Exit(IntEnum):
    """How a command ended, for scripts."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    CONNECT = 3
    TLS = 4
    AUTHENTICATION = 5
    LOST = 6
    IN_DOUBT = 7
    PROXY = 8
    CERTIFICATE = 9
    TIMEOUT = 10
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """What it means, for --help."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "done: the message was taken for all recipients, the login succeeded, a way works",
    Exit.REFUSED: "the server refused the session, the sender, a recipient or the content",
    Exit.USAGE: "nothing was tried: an argument, a file or the message is not as it must be",
    Exit.CONNECT: "the server cannot be reached; or cannot listen there",
    Exit.TLS: "TLS failed, or is required and not offered",
    Exit.AUTHENTICATION: "the server did not let the user in",
    Exit.LOST: "the server hung up, or broke the protocol; nothing was delivered",
    Exit.IN_DOUBT: "the message was sent, but no answer came: it may have been delivered, or not",
    Exit.PROXY: "a proxy did not lead to the server",
    Exit.CERTIFICATE: "the server's certificate is not trusted, or not the server's",
    Exit.TIMEOUT: "the server took too long; nothing was delivered",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}

# The first class that fits counts; any other SMTPError is a refusal.
_EXITS: tuple[tuple[type[SMTPError], Exit], ...] = (
    (DeliveryInDoubt, Exit.IN_DOUBT),
    (ConnectError, Exit.CONNECT),
    (ProxyError, Exit.PROXY),
    (CertificateError, Exit.CERTIFICATE),
    (TLSError, Exit.TLS),
    (AuthenticationError, Exit.AUTHENTICATION),
    (SMTPTimeout, Exit.TIMEOUT),
    (ConnectionLost, Exit.LOST),
    (ProtocolViolation, Exit.LOST),
)

# What to change, where the errors themselves cannot know the names of the options.
_ADVICE = {
    Exit.CONNECT: "check --server, --socket or --proxy, and that somebody listens there",
    Exit.PROXY: "check --proxy, and who may use it",
    Exit.TLS: "--security says when TLS begins",
    Exit.AUTHENTICATION: "check --user and the password",
    Exit.LOST: "check --server and --security",
    Exit.TIMEOUT: "check --server and --security, or give it more time with --timeout",
    Exit.IN_DOUBT: "look whether it has arrived before you send it again",
}


def exit_of(error: SMTPError) -> Exit:
    """The exit code for an error of the client."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.REFUSED)


def explained(error: SMTPError) -> str:
    """What happened, in which phase, and what to change."""
    text = CLIENT(str(error))
    if error.phase is not None and f"phase {error.phase.value}" not in text:
        text = f"{text} (phase {error.phase.value})"
    advice = _advice(error)
    return f"{text}; {advice}" if advice else text


def _advice(error: SMTPError) -> str | None:
    match error:
        case AuthenticationError(tried=()):
            return "--mechanisms, --security and --allow-cleartext-auth say what may be used"
        case ReplyError(reply=Reply(code=530)):  # RFC 4954 6, RFC 3207 4
            return "--user says who logs in, --security when TLS begins"
        case PermanentError(phase=Phase.EHLO, reply=Reply(code=500 | 502)):  # RFC 2033 4.1
            return "--protocol says whether the server speaks SMTP or LMTP"
        case _:
            return _ADVICE.get(exit_of(error))


# --- Lines ------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Print one line."""
    _print(line, sys.stdout)


def complain(line: str) -> None:
    """Print one line of bad news."""
    _print(f"{_PROGRAM}: {line}", sys.stderr)


def _print(line: str, stream: TextIO | None) -> None:
    print(escaped(line), file=_unfailing(stream), flush=True)


# --- Streams ----------------------------------------------------------------------------------


def finish() -> None:
    """Drop what could not be written: Python would try it again at its exit, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        if _is_open(stream):
            try:
                stream.flush()
            except OSError:
                with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                    os.dup2(nowhere.fileno(), stream.fileno())


def _unfailing(stream: TextIO | None) -> TextIO:
    return cast("TextIO", _Unfailing(stream if _is_open(stream) else StringIO()))


def _is_open(stream: TextIO | None) -> TypeGuard[TextIO]:
    return stream is not None and not stream.closed  # None: it was not there when Python began


class _Unfailing:
    """A stream that never raises: nobody reads, nothing fits on the disk, the terminal is gone.

    That changes nothing about the mail. What comes later is tried again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what the stream takes, with escapes for letters that it does not know."""
        encoding = self._stream.encoding or "ascii"
        with suppress(OSError):
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Write it now."""
        with suppress(OSError):
            self._stream.flush()


# --- Progress ---------------------------------------------------------------------------------


@contextmanager
def progress(what: str, total: int, unit: str) -> Generator[Callable[[int], None]]:
    """Show on a terminal how far something is; call what this gives with each step's size."""
    stream = _unfailing(sys.stderr)
    if not stream.isatty():
        yield _ignore
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        _print(f"{what}: {total} {unit} ...", sys.stderr)
        yield _ignore
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
    )
    with Progress(
        *columns,
        console=Console(file=stream),
        transient=True,
        redirect_stdout=False,  # which may not be there
    ) as bar:
        task = bar.add_task(escaped(what), total=total)
        yield lambda step: bar.advance(task, step)


def _ignore(_step: int) -> None:
    """Nobody is looking."""


# --- Tables -----------------------------------------------------------------------------------


class Mood(Enum):
    """What a cell is to whoever reads it. The value is its style on a terminal."""

    PLAIN = ""
    GOOD = "green"
    BAD = "red"
    FAINT = "dim"


class Cell(NamedTuple):
    """A cell of a table, where it is more than its text."""

    text: str
    mood: Mood = Mood.PLAIN


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Print a table, without a head where no column has a name.

    Columns whose cells are all numbers stand to the right.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    right = [
        all(row[index].text.replace(".", "").isdigit() for row in cells)
        for index in range(len(columns))
    ]
    if _unfailing(sys.stdout).isatty() and _show_rich_table(columns, cells, right):
        return
    texts = [[cell.text for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    head = [columns, ["-" * width for width in widths]] if any(columns) else []
    for line in (*head, *texts):
        padded = [
            text.rjust(width) if to_the_right else text.ljust(width)
            for text, width, to_the_right in zip(line, widths, right, strict=True)
        ]
        say("  ".join(padded).rstrip())


def _cell(given: str | Cell) -> Cell:
    cell = given if isinstance(given, Cell) else Cell(given)
    return cell._replace(text=escaped(cell.text))


def _show_rich_table(
    columns: Sequence[str], cells: Sequence[Sequence[Cell]], right: Sequence[bool]
) -> bool:
    """Print it with rich; False: rich is not there."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
        show_header=any(columns),
    )
    last = len(columns) - 1
    for index, (column, to_the_right) in enumerate(zip(columns, right, strict=True)):
        # What is long stands last, and goes on in the next line.
        table.add_column(
            column,
            justify="right" if to_the_right else "left",
            no_wrap=index < last,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(Text(cell.text, cell.mood.value) for cell in row))
    Console(file=_unfailing(sys.stdout)).print(table)
    return True
