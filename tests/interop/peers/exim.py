"""Exim, unpacked from its package.

Knows how to configure, start and end it. Must not know what is sent to it. Some mechanisms are its
own, some are of Cyrus SASL, and those that take tokens of Dovecot.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template

from tests.interop.peers.dovecot_auth import TOKEN_MECHANISMS, dovecot_auth
from tests.interop.peers.running import (
    ENVIRONMENT,
    HOST,
    HOSTNAME,
    PASSWORD,
    USER,
    Command,
    Mode,
    Server,
    ServerCertificate,
    ServerKind,
    need,
    need_root,
    need_unpacked,
    on_free_ports,
    own_folder,
    running,
    words,
)

_OWNER = "Debian-exim"  # compiled in
_OF_CYRUS = words("DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-512")
_PASSWORD_MECHANISMS = words("PLAIN LOGIN CRAM-MD5") | _OF_CYRUS


@contextmanager
def exim(certificate: ServerCertificate) -> Iterator[Server]:
    """Start an Exim of our own, with a folder of its own, and end it."""
    program = need_unpacked("exim4-daemon-heavy", "usr", "sbin", "exim4")
    need("saslpasswd2")
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
        _lay_out_sasl(folder / "sasl")
        with dovecot_auth(folder), on_free_ports(3, partial(_exim, folder, own)) as server:
            yield server


EXIM = ServerKind(
    "Exim",
    exim,
    tuple(Mode),
    keywords=words("8BITMIME CHUNKING DSN HELP PIPECONNECT PIPELINING PRDR SIZE SMTPUTF8 VRFY"),
    mechanisms=_PASSWORD_MECHANISMS,
    mechanisms_in_clear=_PASSWORD_MECHANISMS,
    token_mechanisms=TOKEN_MECHANISMS,
    certificate_mechanisms=words("EXTERNAL"),
)


def _lay_out_sasl(folder: Path) -> None:
    """Make what Cyrus SASL reads: its configuration, and the one user."""
    folder.mkdir()
    (folder / "exim.conf").write_text(f"auxprop_plugin: sasldb\nsasldb_path: {folder}/users\n")
    subprocess.run(
        ["saslpasswd2", "-p", "-c", "-u", HOSTNAME, "-f", folder / "users", USER],
        input=PASSWORD,
        env=ENVIRONMENT,
        text=True,
        check=True,
    )
    shutil.chown(folder / "users", _OWNER)


@contextmanager
def _exim(folder: Path, program: Path, ports: Sequence[int]) -> Iterator[Server]:
    smtp, smtps, proxied = ports
    configuration = folder / "exim.conf"
    configuration.write_text(
        _CONFIGURATION.substitute(
            folder=folder, program=program, smtp=smtp, smtps=smtps, proxied=proxied
        )
        + _authenticators("cyrus_sasl", _OF_CYRUS, f"server_realm = {HOSTNAME}")
        + _authenticators("dovecot", TOKEN_MECHANISMS, f"server_socket = {folder}/auth")
    )
    command: Command = [program, "-C", configuration, "-bdf"]
    # Nothing but a header will do at the third port: that it listens is told by the others.
    with running(command, (HOST, smtp), (HOST, smtps), log=folder / "exim.log"):
        modes = {Mode.CLEAR: smtp, Mode.STARTTLS: smtp, Mode.IMPLICIT: smtps}
        yield Server("Exim", folder, modes, proxied)


def _authenticators(driver: str, mechanisms: frozenset[str], setting: str) -> str:
    return "".join(
        f"{name.replace('-', '_')}:\n  driver = {driver}\n  public_name = {name}\n"
        f"  {setting}\n  server_set_id = $auth1\n"
        for name in sorted(mechanisms)
    )


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
tls_verify_certificates = $folder/tls/ca.pem
tls_try_verify_hosts = *

pipelining_connect_advertise_hosts = *
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
keep_environment =
add_environment = SASL_CONF_PATH=$folder/sasl
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
external:
  driver = external
  public_name = EXTERNAL
  server_advertise_condition = $$tls_in_certificate_verified
  server_param2 = $${certextract{subj_altname,mail,>:}{$$tls_in_peercert}}
  server_condition = $${if inlist{$$auth1}{$$auth2}}
  server_set_id = $$auth1
""")
