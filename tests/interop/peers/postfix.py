"""Postfix, with Dovecot's auth.

Knows how to configure, start and end it, and its log. Must not know what is sent to it.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template

from tests.interop.peers.dovecot_auth import (
    PASSWORD_MECHANISMS,
    TOKEN_MECHANISMS,
    dovecot_auth,
)
from tests.interop.peers.running import (
    ENVIRONMENT,
    HOST,
    PATIENCE,
    Mode,
    PeerFailed,
    Server,
    ServerCertificate,
    ServerKind,
    listens,
    need,
    need_root,
    on_free_ports,
    own_folder,
    words,
)


@dataclass(frozen=True)
class Visit:
    """A session that is over, as Postfix saw it."""

    mechanism: str | None
    """What the client has logged in with."""
    commands: Mapping[str, str]
    """How often each command came: "3", or "2/3" where it was accepted twice only."""


@dataclass(frozen=True)
class Postfix(Server):
    """A running Postfix."""

    @property
    def smtp_port(self) -> int:
        """STARTTLS and AUTH are offered, neither is required."""
        return self.ports[Mode.CLEAR]

    @property
    def submission_port(self) -> int:
        """STARTTLS is required, and AUTH offered behind it."""
        return self.ports[Mode.STARTTLS]

    @property
    def smtps_port(self) -> int:
        """TLS from the first octet."""
        return self.ports[Mode.IMPLICIT]

    def visit(self, queue_id: str) -> Visit:
        """Wait for the end of the session in which the message with this id has come."""
        return self.wait(lambda: _parse_visit(self.log(), queue_id), f"{queue_id} has no end.")


@contextmanager
def postfix(certificate: ServerCertificate) -> Iterator[Postfix]:
    """Start a Postfix of our own, with a folder of its own, and end it."""
    need("postfix")
    need_root("Postfix")
    with own_folder(certificate) as folder:
        _lay_out(folder)
        with dovecot_auth(folder), on_free_ports(4, partial(_postfix, folder)) as server:
            yield server


POSTFIX = ServerKind(
    "Postfix",
    postfix,
    tuple(Mode),
    keywords=words("8BITMIME CHUNKING DSN ENHANCEDSTATUSCODES ETRN PIPELINING SIZE SMTPUTF8 VRFY"),
    mechanisms=PASSWORD_MECHANISMS,
    mechanisms_in_clear=PASSWORD_MECHANISMS,
    token_mechanisms=TOKEN_MECHANISMS,
)


@contextmanager
def _postfix(folder: Path, ports: Sequence[int]) -> Iterator[Postfix]:
    smtp, submission, smtps, proxied = (f"{HOST}:{port}" for port in ports)
    services = _MASTER_CF.substitute(smtp=smtp, submission=submission, smtps=smtps, proxied=proxied)
    (folder / "conf" / "master.cf").write_text(services)
    try:
        said = _run_postfix(folder, "start")
        server = Postfix("Postfix", folder, dict(zip(Mode, ports, strict=False)), ports[-1])
        if "fatal" in said or not all(listens((HOST, port)) for port in ports):
            raise PeerFailed(f"Postfix does not start.\n{said}{server.log()}")
        yield server
    finally:
        _run_postfix(folder, "stop")


def _lay_out(folder: Path) -> None:
    """Make the folders and the configuration."""
    for name in ("conf", "data", "mail", "spool"):
        (folder / name).mkdir(mode=0o755)
    shutil.chown(folder / "data", "postfix")
    shutil.chown(folder / "mail", "mail", "mail")
    (folder / "conf" / "main.cf").write_text(_MAIN_CF.substitute(folder=folder))
    (folder / "conf" / "mailboxes").write_text(_MAILBOXES)


def _run_postfix(folder: Path, command: str) -> str:
    """Run `postfix start` or `postfix stop` on the instance in the folder: what it printed."""
    done = subprocess.run(
        ["postfix", "-c", folder / "conf", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    return done.stdout


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

_MASTER_CF = Template("""\
$smtp inet n - n - - smtpd
$submission inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
$smtps inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
$proxied inet n - n - - smtpd
  -o smtpd_upstream_proxy_protocol=haproxy
  -o inet_protocols=all
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
