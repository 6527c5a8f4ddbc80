"""What all peers have in common: programs, free ports, folders, and what became of a message.

Knows how a program is started, waited for and ended. Must not know any of them by name.
Nothing leaves the machine: peers listen on the loopback, and deliver into a folder or nowhere.
"""

import hmac
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

HOST = "127.0.0.1"
HOSTNAME = "mail.test"
USER = "alice"
PASSWORD = "secret"
UNKNOWN_RECIPIENT = f"nosuch@{HOSTNAME}"
ELSEWHERE = "somebody@elsewhere.test"
MESSAGE_SIZE_LIMIT = 50 * 1024 * 1024

INSTALLED = Path(os.environ.get("SMTP_PROTO_PEERS", "/var/cache/smtp-proto-tests"))
"""Where install.sh has put what cannot be installed beside other mail servers."""

T = TypeVar("T")

Command = Sequence[str | Path]
Address = str | tuple[str, int]  # of a Unix socket, of a TCP one

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ENVIRONMENT = {**os.environ, "PATH": _PATH}
_START_TRIES = 3
PATIENCE = 30.0  # seconds
_PAUSE = 0.02  # seconds

_numbers = itertools.count()


class PeerMissing(Exception):
    """A peer cannot be started here: it is not installed, or lacks the rights that it needs."""


class PeerFailed(Exception):
    """A peer is here, and did not do what it should."""


@dataclass(frozen=True)
class ServerCertificate:
    """Files in PEM: the certificate with its chain, its key, and the CA to trust."""

    chain: Path
    key: Path
    ca: Path


# --- servers -----------------------------------------------------------------------------------


class Mode(Enum):
    """How TLS comes into a session with a server."""

    CLEAR = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(frozen=True)
class Delivery:
    """A message as it was delivered to one recipient, without the header lines of the server."""

    sender: str
    recipient: str
    trace: str
    """The header lines of the server."""
    content: bytes
    """With CRLF at its line ends, as it was sent."""

    @property
    def protocol(self) -> str:
        """How it came, as RFC 3848 has it: ESMTP, and S for TLS, A for AUTH behind it."""
        match = re.search(r"^Received:(?s:.*?)\swith (\w+)", self.trace, re.MULTILINE)
        return match[1].upper() if match else ""


# What servers put in front: RFC 5321 4.4, and their own ways to name the recipient.
_TRACE = re.compile(
    rb"(?:(?:Return-Path|Envelope-To|X-Original-To|Delivered-To|Delivery-Date|Received"
    rb"|Authentication-Results):.*\n"
    rb"(?:[ \t].*\n)*)+",
    re.IGNORECASE,
)
_SENDER = re.compile(r"^Return-Path: *<(.*)>", re.MULTILINE | re.IGNORECASE)
_RECIPIENT = re.compile(
    r"^(?:Envelope-To|X-Original-To|Delivered-To): *<?([^>\n]*)", re.MULTILINE | re.IGNORECASE
)


@dataclass(frozen=True)
class Server:
    """A running server. It takes mail for anybody at `HOSTNAME` but `UNKNOWN_RECIPIENT`.

    Its one user is `USER`, and with AUTH it takes mail for anywhere else too, and drops it.
    """

    name: str
    folder: Path
    """All that it has: configuration, logs, and the Maildirs in mail/."""
    ports: Mapping[Mode, int]
    proxied_port: int | None = None
    """Here it wants a PROXY header first, and speaks as in Mode.CLEAR behind it."""
    box: Path | None = None
    """Where Maildirs are, if not in the folder's mail/."""
    _arrived: dict[str, Delivery] = field(default_factory=dict[str, Delivery], repr=False)

    @property
    def mail(self) -> Path:
        """The folder with Maildirs in it."""
        return self.box or self.folder / "mail"

    def delivery(self, recipient: str) -> Delivery:
        """Wait for the message to `recipient`, which is to be an address used once only."""
        return self.wait(lambda: self._delivery(recipient), f"Nothing came for {recipient}.")

    def _delivery(self, recipient: str) -> Delivery | None:
        if recipient not in self._arrived:
            for file in self.mail.glob("**/new/*"):
                delivery = _parse_delivery(file)
                self._arrived[delivery.recipient] = delivery
                file.unlink()
        return self._arrived.pop(recipient, None)

    def deliveries(self, count: int) -> list[Delivery]:
        """Wait for so many messages, whoever they are for, where nobody waits for any other."""

        def look() -> list[Path] | None:
            files = list(self.mail.glob("**/new/*"))
            return files if len(files) >= count else None

        files = self.wait(look, f"There are no {count} messages.")
        arrived = [_parse_delivery(file) for file in files]
        for file in files:
            file.unlink()
        return arrived

    def wait(self, look: Callable[[], T | None], failure: str) -> T:
        """Wait for something other than None."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            time.sleep(_PAUSE)
        raise PeerFailed(f"{failure}\n{self.log()}")

    def log(self) -> str:
        """What the server has to say."""
        return read_logs(self.folder)


@dataclass(frozen=True)
class ServerKind:
    """What is known of a server before it runs."""

    name: str
    start: Callable[[ServerCertificate], AbstractContextManager[Server]]
    modes: Sequence[Mode]
    keywords: frozenset[str]
    """What its EHLO offers in every mode; in some, more: STARTTLS and AUTH."""
    keywords_behind_tls: frozenset[str] = frozenset()
    """What its EHLO offers besides behind TLS."""
    mechanisms: frozenset[str] = frozenset()
    """What AUTH offers behind TLS."""
    mechanisms_in_clear: frozenset[str] = frozenset()
    """What AUTH offers in Mode.CLEAR."""
    token_mechanisms: frozenset[str] = frozenset()
    """What AUTH offers besides, wherever it offers anything: they take an `oauth_token()`."""
    certificate_mechanisms: frozenset[str] = frozenset()
    """What AUTH offers besides behind TLS, to who has shown a certificate that it trusts: they
    take the address in it."""
    lmtp: bool = False

    def keywords_in(self, mode: Mode) -> frozenset[str]:
        """What its EHLO offers in a mode, but for STARTTLS and AUTH."""
        return self.keywords if mode is Mode.CLEAR else self.keywords | self.keywords_behind_tls

    @property
    def all_mechanisms(self) -> frozenset[str]:
        """What can be used behind TLS."""
        return self.mechanisms | self.token_mechanisms | self.certificate_mechanisms


TOKEN_KEY = b"what the authority signs the tokens of tests with"
ISSUER = "https://tokens.mail.test"


def oauth_token(user: str, key: bytes = TOKEN_KEY) -> str:
    """A token that is good for an hour, if it is signed with the right key. RFC 7519"""
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": user, "email": user, "iat": now - 60, "exp": now + 3600}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(map(_base64url, parts))
    return b".".join((signed, _base64url(hmac.digest(key, signed, "sha256")))).decode()


def _base64url(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")


def words(text: str) -> frozenset[str]:
    """Give the words of a text, as a set."""
    return frozenset(text.split())


def address(name: str) -> str:
    """Give an address that servers take mail for, and that nobody has used before."""
    return f"{name}-{next(_numbers)}@{HOSTNAME}"


def _parse_delivery(file: Path) -> Delivery:
    """Read a file of a Maildir: lines may end in LF there, and trace lines stand in front.

    The Maildir itself bears the recipient's name where no line does.
    """
    lines = file.read_bytes().replace(b"\r\n", b"\n")
    match = _TRACE.match(lines)
    trace = match[0].decode(errors="surrogateescape") if match else ""
    sender, recipient = _SENDER.search(trace), _RECIPIENT.search(trace)
    if sender is None:
        raise PeerFailed(f"A server has stored what is not understood: {lines[:500]!r}")
    content = lines[match.end() if match else 0 :].replace(b"\n", b"\r\n")
    name = recipient[1] if recipient else file.parent.parent.name
    return Delivery(sender[1], name, trace, content)


# --- proxies -----------------------------------------------------------------------------------

PROXY_USER = "smtp-proto-proxy"


@dataclass(frozen=True)
class RunningProxy:
    """A running proxy, which makes tunnels to ports of this machine."""

    name: str
    folder: Path
    ports: Mapping[str, int]
    """By what comes before :// in its URL."""
    user: str | None = None
    """Who may use it, with `PASSWORD`; None: anybody."""

    def url(self, scheme: str, password: str = PASSWORD) -> str:
        """Give the URL, with credentials if they are needed."""
        login = f"{self.user}:{password}@" if self.user else ""
        return f"{scheme}://{login}{HOST}:{self.ports[scheme]}"

    def log(self) -> str:
        """What the proxy has to say."""
        return read_logs(self.folder)


@dataclass(frozen=True)
class ProxyKind:
    """What is known of a proxy before it runs."""

    name: str
    start: Callable[[ServerCertificate], AbstractContextManager[RunningProxy]]
    schemes: Sequence[str]
    """Before :// in its URLs."""
    wants_login: bool = False


# --- programs ----------------------------------------------------------------------------------


def need(*programs: str) -> None:
    """Raise PeerMissing unless each of the programs is installed."""
    if missing := [program for program in programs if shutil.which(program, path=_PATH) is None]:
        raise PeerMissing(f"not installed: {', '.join(missing)}")


def need_unpacked(*path: str) -> Path:
    """Give the path of what install.sh has unpacked. Raises PeerMissing."""
    found = INSTALLED.joinpath(*path)
    if not found.exists():
        raise PeerMissing(f"not installed: {found} (tests/interop/install.sh does it)")
    return found


def need_root(name: str) -> None:
    """Raise PeerMissing unless we are root."""
    if os.geteuid() != 0:
        raise PeerMissing(f"{name} is started by root only")


@contextmanager
def own_folder(certificate: ServerCertificate | None = None) -> Iterator[Path]:
    """Make a folder for one peer, with the certificate in tls/, and remove it in the end."""
    # The daemons' own users have to get at it: not below a folder that only its owner may enter.
    with tempfile.TemporaryDirectory(
        prefix="smtp-proto-", dir="/var/tmp", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o755)
        if certificate is not None:
            (folder / "tls").mkdir()
            shutil.copy(certificate.chain, folder / "tls" / "chain.pem")
            shutil.copy(certificate.key, folder / "tls" / "key.pem")
            shutil.copy(certificate.ca, folder / "tls" / "ca.pem")
        yield folder


def free_ports(count: int) -> list[int]:
    """Port numbers that nobody listens on."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@contextmanager
def on_free_ports(
    count: int, start: Callable[[Sequence[int]], AbstractContextManager[T]]
) -> Iterator[T]:
    """Start a peer on free ports; on other ones where somebody else was faster."""
    with ExitStack() as stack:
        for left in reversed(range(_START_TRIES)):
            try:
                started = stack.enter_context(start(free_ports(count)))
                break
            except PeerFailed:
                if not left:
                    raise
        yield started


@contextmanager
def running(
    command: Command,
    *addresses: Address,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Run a server in the foreground while it is needed: from when it listens on all addresses."""
    process = _start(command, addresses, log, {**ENVIRONMENT, **(environment or {})})
    try:
        yield
    finally:
        _end(process)


def _start(
    command: Command,
    addresses: Sequence[Address],
    log: Path | None,
    environment: Mapping[str, str],
) -> "subprocess.Popen[bytes]":
    with tempfile.TemporaryFile("w+") if log is None else log.open("a+") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for each in addresses:
            if not listens(each, while_runs=process):
                _end(process)
                output.seek(0)
                raise PeerFailed(f"{command[0]} does not listen on {each}. {output.read()}")
    return process


def listens(address: Address, while_runs: "subprocess.Popen[bytes] | None" = None) -> bool:
    """Whether somebody listens on the address before our patience, or the process, ends."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and (while_runs is None or while_runs.poll() is None):
        with socket.socket(family) as probe:
            if probe.connect_ex(address) == 0:
                return True
        time.sleep(_PAUSE)
    return False


def read_logs(folder: Path) -> str:
    """Read all log files in a folder, and in its log/."""
    return "\n".join(
        log.read_text(errors="replace")
        for log in (*folder.glob("*.log"), *folder.glob("log/*.log"))
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it, and then what it has started and left behind."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
