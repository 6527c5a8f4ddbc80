"""aiosmtpd, in a process of its own.

Knows how to start and end it. Must not know what is sent to it.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tests.interop.peers.running import (
    HOST,
    Command,
    Mode,
    PeerMissing,
    Server,
    ServerCertificate,
    ServerKind,
    on_free_ports,
    own_folder,
    running,
    words,
)

_SCRIPT = Path(__file__).with_name("aiosmtpd_server.py")
_MODES = tuple(Mode)


@contextmanager
def aiosmtpd(certificate: ServerCertificate, *, relays: bool = False) -> Iterator[Server]:
    """Start an aiosmtpd with a port for each mode, and end it.

    If it relays, it takes mail for anywhere from anybody.
    """
    if find_spec("aiosmtpd") is None:
        raise PeerMissing("not installed: aiosmtpd")
    with (
        own_folder(certificate) as folder,
        on_free_ports(len(_MODES), partial(_aiosmtpd, folder, relays)) as server,
    ):
        yield server


AIOSMTPD = ServerKind(
    "aiosmtpd",
    aiosmtpd,
    _MODES,
    keywords=words("8BITMIME HELP SIZE SMTPUTF8"),
    mechanisms=words("PLAIN LOGIN"),
)


@contextmanager
def _aiosmtpd(folder: Path, relays: bool, ports: Sequence[int]) -> Iterator[Server]:
    # -P: this folder has a file of that name, too.
    command: Command = [
        sys.executable,
        "-P",
        _SCRIPT,
        folder,
        "yes" if relays else "no",
        *map(str, ports),
    ]
    with running(command, *((HOST, port) for port in ports), log=folder / "aiosmtpd.log"):
        yield Server(AIOSMTPD.name, folder, dict(zip(_MODES, ports, strict=True)))
