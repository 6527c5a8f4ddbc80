"""Dovecot: its LMTP server, and its submission server, which hands on to another server.

Knows how to configure, start and end them. Must not know what is sent to them.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template

from tests.interop.peers.aiosmtpd import aiosmtpd
from tests.interop.peers.dovecot_auth import (
    PASSWORD_MECHANISMS,
    TOKEN_MECHANISMS,
    logins,
    need_dovecot,
)
from tests.interop.peers.kerberos import Realm
from tests.interop.peers.running import (
    HOST,
    UNKNOWN_RECIPIENT,
    Mode,
    PeerMissing,
    Server,
    ServerCertificate,
    ServerKind,
    need_root,
    on_free_ports,
    own_folder,
    running,
    words,
)

_SERVICES = Path("/usr/lib/dovecot")
_GSSAPI = _SERVICES / "modules" / "auth" / "libmech_gssapi.so"


@contextmanager
def dovecot_submission(
    certificate: ServerCertificate, realm: Realm | None = None
) -> Iterator[Server]:
    """Start Dovecot's submission server, and another one behind it, and end both.

    In a realm of Kerberos, who is known there may log in, too.
    """
    if realm is not None and not _GSSAPI.exists():
        raise PeerMissing("not installed: Dovecot's GSSAPI")
    more = "" if realm is None else _KERBEROS.substitute(realm.environment)
    with (
        _installed("submission", certificate) as folder,
        aiosmtpd(certificate, relays=True) as behind,
        on_free_ports(3, partial(_submission, folder, behind, more)) as server,
    ):
        yield server


@contextmanager
def dovecot_lmtp(certificate: ServerCertificate) -> Iterator[Server]:
    """Start Dovecot's LMTP server, and end it."""
    with (
        _installed("lmtp", certificate) as folder,
        on_free_ports(2, partial(_lmtp, folder)) as server,
    ):
        yield server


DOVECOT_SUBMISSION = ServerKind(
    "Dovecot submission",
    dovecot_submission,
    tuple(Mode),
    keywords=words("8BITMIME BURL CHUNKING ENHANCEDSTATUSCODES PIPELINING SIZE"),
    mechanisms=PASSWORD_MECHANISMS,
    mechanisms_in_clear=PASSWORD_MECHANISMS,
    token_mechanisms=TOKEN_MECHANISMS,
)
DOVECOT_LMTP = ServerKind(
    "Dovecot LMTP",
    dovecot_lmtp,
    (Mode.CLEAR, Mode.STARTTLS),
    keywords=words("8BITMIME CHUNKING ENHANCEDSTATUSCODES PIPELINING"),
    lmtp=True,
)


@contextmanager
def _installed(service: str, certificate: ServerCertificate) -> Iterator[Path]:
    """Make the folder, if the service is there."""
    need_dovecot()
    need_root("Dovecot")
    if not (_SERVICES / service).exists():
        raise PeerMissing(f"not installed: Dovecot's {service} service")
    with own_folder(certificate) as folder:
        for name in ("run", "mail"):
            (folder / name).mkdir()
        shutil.chown(folder / "mail", "mail", "mail")
        (folder / "unknown").write_text(f"{UNKNOWN_RECIPIENT}:\n")
        yield folder


@contextmanager
def _submission(folder: Path, behind: Server, more: str, ports: Sequence[int]) -> Iterator[Server]:
    smtp, smtps, proxied = ports
    services = _SUBMISSION.substitute(
        smtp=smtp, smtps=smtps, proxied=proxied, behind=behind.ports[Mode.CLEAR]
    )
    with _dovecot(folder, services + logins(folder) + more, (smtp, smtps)):
        modes = {Mode.CLEAR: smtp, Mode.STARTTLS: smtp, Mode.IMPLICIT: smtps}
        yield Server(DOVECOT_SUBMISSION.name, folder, modes, proxied, behind.mail)


@contextmanager
def _lmtp(folder: Path, ports: Sequence[int]) -> Iterator[Server]:
    lmtp, proxied = ports
    services = _LMTP.substitute(folder=folder, lmtp=lmtp, proxied=proxied)
    with _dovecot(folder, services, (lmtp,)):
        modes = {Mode.CLEAR: lmtp, Mode.STARTTLS: lmtp}
        yield Server(DOVECOT_LMTP.name, folder, modes, proxied)


@contextmanager
def _dovecot(folder: Path, services: str, ports: Sequence[int]) -> Iterator[None]:
    configuration = folder / "dovecot.conf"
    configuration.write_text(_CONFIGURATION.substitute(folder=folder) + services)
    with running(["dovecot", "-F", "-c", configuration], *((HOST, port) for port in ports)):
        yield


_CONFIGURATION = Template("""\
base_dir = $folder/run
state_dir = $folder/run
log_path = $folder/dovecot.log
listen = 127.0.0.1
hostname = mail.test
ssl = yes
ssl_cert = <$folder/tls/chain.pem
ssl_key = <$folder/tls/key.pem
haproxy_trusted_networks = 127.0.0.0/8
login_trusted_networks =
mail_location = maildir:$folder/mail/%u
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
userdb {
  driver = static
  args = uid=mail gid=mail home=$folder/mail/%u
}
""")

_SUBMISSION = Template("""\
protocols = submission
submission_relay_host = 127.0.0.1
submission_relay_port = $behind
submission_relay_trusted = no
submission_max_mail_size = 50M
service submission-login {
  inet_listener submission {
    port = $smtp
  }
  inet_listener submissions {
    port = $smtps
    ssl = yes
  }
  inet_listener proxied {
    port = $proxied
    haproxy = yes
  }
}
""")

_KERBEROS = Template("""\
import_environment = KRB5_CONFIG=$KRB5_CONFIG KRB5RCACHENAME=$KRB5RCACHENAME
auth_mechanisms = $$auth_mechanisms gssapi gss-spnego
auth_krb5_keytab = $KRB5_KTNAME
# By whatever name it is reached, as long as it has the key.
auth_gssapi_hostname = "$$ALL"
auth_username_format = %n
""")

_LMTP = Template("""\
protocols = lmtp
# Nobody logs in here: that tells who exists.
passdb {
  driver = passwd-file
  deny = yes
  args = $folder/unknown
}
passdb {
  driver = static
  args = nopassword=y
}
lmtp_save_to_detail_mailbox = no
service lmtp {
  inet_listener lmtp {
    port = $lmtp
  }
  inet_listener proxied {
    port = $proxied
    haproxy = yes
  }
}
""")
