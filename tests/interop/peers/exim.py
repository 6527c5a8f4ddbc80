"""Exim, unpacked from its package.

Knows how to configure, start and end it. Must not know what is sent to it.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template

from tests.interop.peers.running import (
    HOST,
    Command,
    Mode,
    Server,
    ServerCertificate,
    ServerKind,
    need_root,
    need_unpacked,
    on_free_ports,
    own_folder,
    running,
    words,
)

_OWNER = "Debian-exim"  # compiled in


@contextmanager
def exim(certificate: ServerCertificate) -> Iterator[Server]:
    """Start an Exim of our own, with a folder of its own, and end it."""
    program = need_unpacked("exim4-daemon-heavy", "usr", "sbin", "exim4")
    need_root("Exim")
    with own_folder(certificate) as folder:
        for name in ("spool", "log", "mail"):
            (folder / name).mkdir()
            shutil.chown(folder / name, _OWNER)
        shutil.chown(folder / "tls" / "key.pem", _OWNER)
        # It is set-user-ID root, and its own user has to get at it.
        own = folder / "exim"
        shutil.copy(program, own)
        own.chmod(0o4755)
        with on_free_ports(3, partial(_exim, folder, own)) as server:
            yield server


EXIM = ServerKind(
    "Exim",
    exim,
    tuple(Mode),
    keywords=words("8BITMIME CHUNKING DSN HELP PIPECONNECT PIPELINING PRDR SIZE SMTPUTF8 VRFY"),
    mechanisms=words("PLAIN LOGIN CRAM-MD5"),
    mechanisms_in_clear=words("PLAIN LOGIN CRAM-MD5"),
)


@contextmanager
def _exim(folder: Path, program: Path, ports: Sequence[int]) -> Iterator[Server]:
    smtp, smtps, proxied = ports
    configuration = folder / "exim.conf"
    configuration.write_text(
        _CONFIGURATION.substitute(
            folder=folder, program=program, smtp=smtp, smtps=smtps, proxied=proxied
        )
    )
    command: Command = [program, "-C", configuration, "-bdf"]
    # Nothing but a header will do at the third port: that it listens is told by the others.
    with running(command, (HOST, smtp), (HOST, smtps), log=folder / "exim.log"):
        modes = {Mode.CLEAR: smtp, Mode.STARTTLS: smtp, Mode.IMPLICIT: smtps}
        yield Server("Exim", folder, modes, proxied)


# A dollar of Exim's own is written twice.
_CONFIGURATION = Template("""\
exim_path = $program
spool_directory = $folder/spool
log_file_path = $folder/log/%s.log
pid_file_path = $folder/log/exim.pid
primary_hostname = mail.test
daemon_smtp_ports = $smtp : $smtps : $proxied
tls_on_connect_ports = $smtps
local_interfaces = 127.0.0.1
hosts_proxy = $${if eq{$$received_port}{$proxied}{127.0.0.1}}

tls_advertise_hosts = *
tls_certificate = $folder/tls/chain.pem
tls_privatekey = $folder/tls/key.pem

pipelining_connect_advertise_hosts = *
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
keep_environment =
prdr_enable = true
message_size_limit = 50M
recipients_max = 500

# Tests make many connections and many mistakes.
smtp_accept_max = 0
smtp_accept_max_per_connection = 1000
smtp_max_unknown_commands = 1000
smtp_max_synprot_errors = 1000
host_lookup =
rfc1413_hosts =

acl_smtp_rcpt = rcpt
acl_smtp_data_prdr = accept
acl_smtp_vrfy = accept
never_users =

begin acl
rcpt:
  deny local_parts = nosuch
       message = no such user
  accept domains = mail.test
  accept authenticated = *
  deny message = relay not permitted

begin routers
here:
  driver = accept
  domains = mail.test
  transport = box
elsewhere:
  driver = accept
  transport = nowhere

begin transports
box:
  driver = appendfile
  directory = $folder/mail/box
  maildir_format
  create_directory
  envelope_to_add
  return_path_add
  user = Debian-exim
nowhere:
  driver = appendfile
  file = /dev/null
  user = Debian-exim

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = $${if and{{eq{$$auth2}{alice}}{eq{$$auth3}{secret}}}}
  server_set_id = $$auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = $${if and{{eq{$$auth1}{alice}}{eq{$$auth2}{secret}}}}
  server_set_id = $$auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = $${if eq{$$auth1}{alice}{secret}fail}
  server_set_id = $$auth1
""")
