"""Real servers, started for a test and ended after it: Postfix (with Dovecot for AUTH), smtp-sink.

Knows how to configure, start and end them. Must not know what is sent to them, nor what is tested.
Nothing leaves the machine: they listen on the loopback and deliver into a folder, or nowhere.
"""

import itertools
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TypeVar

HOST = "127.0.0.1"
HOSTNAME = "mail.test"
USER = "alice"
PASSWORD = "secret"
UNKNOWN_RECIPIENT = f"nosuch@{HOSTNAME}"
MESSAGE_SIZE_LIMIT = 50 * 1024 * 1024

T = TypeVar("T")

_Address = str | tuple[str, int]  # of a Unix socket, of a TCP one

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_ENVIRONMENT = {**os.environ, "PATH": _PATH}
_START_TRIES = 3
_PATIENCE = 30.0  # seconds
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


@dataclass(frozen=True)
class Delivery:
    """A message as Postfix delivered it to one recipient, without the header lines of its own."""

    sender: str
    recipient: str
    protocol: str
    """How it came, as RFC 3848 has it: ESMTP, and S for TLS, A for AUTH behind it."""
    content: bytes
    """With CRLF at its line ends, as it was sent."""


@dataclass(frozen=True)
class Visit:
    """A session that is over, as Postfix saw it."""

    mechanism: str | None
    """What the client has logged in with."""
    commands: Mapping[str, str]
    """How often each command came: "3", or "2/3" where it was accepted twice only."""


@dataclass(frozen=True)
class Postfix:
    """A running Postfix. It takes mail for anybody at `HOSTNAME` but `UNKNOWN_RECIPIENT`.

    With AUTH it takes mail for anywhere else too, and drops it.
    """

    smtp_port: int
    """STARTTLS and AUTH are offered, neither is required."""
    submission_port: int
    """STARTTLS is required, and AUTH offered behind it."""
    smtps_port: int
    """TLS from the first octet."""
    folder: Path
    _arrived: dict[str, Delivery] = field(default_factory=dict[str, Delivery], repr=False)

    def delivery(self, recipient: str) -> Delivery:
        """Wait for the message to `recipient`, which is to be an address used once only."""
        return self._wait(lambda: self._delivery(recipient), f"Nothing came for {recipient}.")

    def visit(self, queue_id: str) -> Visit:
        """Wait for the end of the session in which the message with this id has come."""
        return self._wait(lambda: _parse_visit(self.log(), queue_id), f"{queue_id} has no end.")

    def _delivery(self, recipient: str) -> Delivery | None:
        for file in (self.folder / "mail" / "box" / "new").glob("*"):
            delivery = _parse_delivery(file.read_bytes())
            self._arrived[delivery.recipient] = delivery
            file.unlink()
        return self._arrived.pop(recipient, None)

    def _wait(self, look: Callable[[], T | None], failure: str) -> T:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            time.sleep(_PAUSE)
        raise PeerFailed(f"{failure}\n{self.log()}")

    def log(self) -> str:
        """What Postfix and Dovecot have to say."""
        return "\n".join(log.read_text(errors="replace") for log in self.folder.glob("*.log"))


def address(name: str) -> str:
    """Give an address that Postfix takes mail for, and that nobody has used before."""
    return f"{name}-{next(_numbers)}@{HOSTNAME}"


def need(*programs: str) -> None:
    """Raise PeerMissing unless each of the programs is installed."""
    if missing := [program for program in programs if shutil.which(program, path=_PATH) is None]:
        raise PeerMissing(f"not installed: {', '.join(missing)}")


@contextmanager
def postfix(certificate: ServerCertificate) -> Iterator[Postfix]:
    """Start a Postfix of our own, with a folder of its own, and end it."""
    need("postfix", "dovecot")
    if os.geteuid() != 0:
        raise PeerMissing("Postfix is started by root only")
    # The daemons' own users have to get at it: not below a folder that only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="smtp-proto-", dir="/var/tmp") as name:
        folder = Path(name)
        _lay_out(folder, certificate)
        with _dovecot_auth(folder):
            server = _start_postfix(folder)
            try:
                yield server
            finally:
                _run_postfix(folder, "stop")


@contextmanager
def smtp_sink(hostname: str = HOSTNAME) -> Iterator[int]:
    """Start Postfix's smtp-sink, which takes and drops any message, and end it. Gives its port."""
    need("smtp-sink")
    (port,) = free_ports(1)
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = ["smtp-sink", *user, "-h", hostname, f"{HOST}:{port}", "1000"]
    with _running(command, (HOST, port)):
        yield port


def free_ports(count: int) -> list[int]:
    """Port numbers that nobody listens on."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@contextmanager
def _running(command: list[str], address: _Address) -> Iterator[None]:
    """Run a server in the foreground while it is needed: from when it listens on the address."""
    with subprocess.Popen(
        command,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if not _listens(address, while_runs=process):
                process.terminate()
                said = process.communicate()[1]
                raise PeerFailed(f"{command[0]} does not listen on {address}. {said}")
            yield
        finally:
            process.terminate()


def _listens(address: _Address, while_runs: subprocess.Popen[str] | None = None) -> bool:
    """Whether somebody listens on the address before our patience, or the process, ends."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and (while_runs is None or while_runs.poll() is None):
        with socket.socket(family) as probe:
            if probe.connect_ex(address) == 0:
                return True
        time.sleep(_PAUSE)
    return False


@contextmanager
def _dovecot_auth(folder: Path) -> Iterator[None]:
    """Run nothing of Dovecot but the service that Postfix asks about AUTH."""
    version = subprocess.check_output(["dovecot", "--version"], env=_ENVIRONMENT, text=True)
    if not version.startswith("2.3."):
        raise PeerMissing(f"Dovecot 2.3 is needed for its configuration, here is {version.strip()}")
    configuration = folder / "conf" / "dovecot.conf"
    with _running(["dovecot", "-F", "-c", str(configuration)], str(folder / "auth")):
        yield


def _start_postfix(folder: Path) -> Postfix:
    """Start it; on other ports where somebody else was faster."""
    said = ""
    for _ in range(_START_TRIES):
        smtp, submission, smtps = free_ports(3)
        server = Postfix(smtp, submission, smtps, folder)
        _write_services(server)
        said = _run_postfix(folder, "start")
        if "fatal" not in said and all(
            _listens((HOST, port)) for port in (smtp, submission, smtps)
        ):
            return server
        _run_postfix(folder, "stop")
        said += server.log()
    raise PeerFailed(f"Postfix does not start.\n{said}")


def _lay_out(folder: Path, certificate: ServerCertificate) -> None:
    """Make the folders, the configuration, and the one user."""
    folder.chmod(0o755)
    for name in ("conf", "data", "dovecot", "mail", "spool", "tls"):
        (folder / name).mkdir(mode=0o755)
    shutil.chown(folder / "data", "postfix")
    shutil.chown(folder / "mail", "mail", "mail")
    shutil.copy(certificate.chain, folder / "tls" / "chain.pem")
    shutil.copy(certificate.key, folder / "tls" / "key.pem")
    shutil.copy(certificate.ca, folder / "tls" / "ca.pem")
    (folder / "conf" / "main.cf").write_text(_MAIN_CF.substitute(folder=folder))
    (folder / "conf" / "mailboxes").write_text(_MAILBOXES)
    (folder / "conf" / "dovecot.conf").write_text(_DOVECOT_CONF.substitute(folder=folder))
    (folder / "conf" / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}:::::\n")


def _write_services(server: Postfix) -> None:
    services = _MASTER_CF.substitute(
        smtp=f"{HOST}:{server.smtp_port}",
        submission=f"{HOST}:{server.submission_port}",
        smtps=f"{HOST}:{server.smtps_port}",
    )
    (server.folder / "conf" / "master.cf").write_text(services)


def _run_postfix(folder: Path, command: str) -> str:
    """Run `postfix start` or `postfix stop` on the instance in the folder: what it printed."""
    done = subprocess.run(
        ["postfix", "-c", folder / "conf", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_ENVIRONMENT,
        text=True,
        timeout=2 * _PATIENCE,
        check=False,
    )
    return done.stdout


def _parse_delivery(stored: bytes) -> Delivery:
    """Read a file of the Maildir: lines end in LF there, and trace lines stand in front."""
    match = _TRACE.match(stored)
    if match is None:
        raise PeerFailed(f"Postfix has stored what is not understood: {stored[:500]!r}")
    return Delivery(
        sender=match["sender"].decode(),
        recipient=match["recipient"].decode(),
        protocol=match["protocol"].decode(),
        content=stored[match.end() :].replace(b"\n", b"\r\n"),
    )


def _parse_visit(log: str, queue_id: str) -> Visit | None:
    """Read what smtpd said of a message, and at the end of the session; None: not yet."""
    match = re.search(
        rf"smtpd\[(\d+)\]: {queue_id}: client=.*?(?:, sasl_method=([^,\n]+).*)?\n"
        r"(?s:.*?)smtpd\[\1\]: disconnect from \S+ (.*)\n",
        log,
    )
    if match is None:
        return None
    counts = (count.split("=") for count in match[3].split())
    return Visit(match[2], {verb: count for verb, count in counts if verb != "commands"})


# RFC 5321 4.4: the Return-Path and the Received of the last hop, and what virtual(8) puts between.
_TRACE = re.compile(
    rb"Return-Path: <(?P<sender>.*)>\n"
    rb"X-Original-To: (?P<recipient>.*)\n"
    rb"Delivered-To: .*\n"
    rb"Received: .*\n(?:[ \t].*\n)*?[ \t]by .* with (?P<protocol>\w+) id .*\n(?:[ \t].*\n)*"
)

_MAIN_CF = Template("""\
compatibility_level = 3.6
queue_directory = $folder/spool
data_directory = $folder/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = $folder/mail.log
maillog_file_prefixes = $folder
myhostname = mail.test
mydomain = mail.test
myorigin = mail.test
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
alias_maps =

# Mail for mail.test goes into one Maildir, as it came; all other mail nowhere.
local_transport = error:there are no local users
local_recipient_maps =
default_transport = discard:
relay_transport = discard:
virtual_mailbox_domains = mail.test
virtual_mailbox_maps = regexp:$folder/conf/mailboxes
virtual_mailbox_base = $folder/mail
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:8
virtual_gid_maps = static:8
local_header_rewrite_clients =
message_size_limit = 52428800
smtputf8_enable = yes

smtpd_tls_chain_files = $folder/tls/key.pem, $folder/tls/chain.pem
smtpd_tls_CAfile = $folder/tls/ca.pem
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = $folder/auth
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination

# Tests make many connections and many mistakes.
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
""")

_MAILBOXES = r"""
if !/^nosuch@/
/@mail\.test$/ box/
endif
"""

_DOVECOT_CONF = Template("""\
base_dir = $folder/dovecot
state_dir = $folder/dovecot
log_path = $folder/dovecot.log
protocols =
ssl = no
auth_mechanisms = plain login cram-md5
auth_failure_delay = 0
passdb {
  driver = passwd-file
  args = scheme=PLAIN $folder/conf/users
}
service auth {
  unix_listener $folder/auth {
    mode = 0666
  }
}
# Without this socket nobody has to wait for the mistakes that tests make.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
""")

_MASTER_CF = Template("""\
$smtp inet n - n - - smtpd
$submission inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
$smtps inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""")
