"""OpenSMTPD, unpacked from its package.

Knows how to configure, start and end it. Must not know what is sent to it.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template

from tests.interop.peers.running import (
    HOST,
    Command,
    Mode,
    PeerMissing,
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


@contextmanager
def opensmtpd(certificate: ServerCertificate) -> Iterator[Server]:
    """Start an OpenSMTPD of our own, with a folder of its own, and end it."""
    installed = need_unpacked("opensmtpd")
    need_root("OpenSMTPD")
    need("unshare")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        raise PeerMissing("OpenSMTPD needs the right to mount folders")
    with own_folder(certificate) as folder:
        for name in ("run", "lib", "spool"):
            (folder / name).mkdir(mode=0o711)
        (folder / "lib" / "opensmtpd" / "empty").mkdir(parents=True, mode=0o711)
        (folder / "mail").mkdir()
        shutil.chown(folder / "mail", "mail", "mail")
        (folder / "tls" / "key.pem").chmod(0o600)
        with on_free_ports(2, partial(_opensmtpd, folder, installed)) as server:
            yield server


# The 6.8 of Debian 12 does not get along with OpenSSL 3: it offers STARTTLS, and breaks off each
# handshake with the alert internal_error. So the ports for TLS are there, and of no use; and there
# is no AUTH, which it offers behind TLS only. It has no PIPELINING: commands that come too early
# get a 500, and the connection is closed.
OPENSMTPD = ServerKind(
    "OpenSMTPD",
    opensmtpd,
    (Mode.CLEAR,),
    keywords=words("8BITMIME DSN ENHANCEDSTATUSCODES HELP SIZE"),
)


@contextmanager
def _opensmtpd(folder: Path, installed: Path, ports: Sequence[int]) -> Iterator[Server]:
    smtp, smtps = ports
    (folder / "smtpd.conf").write_text(
        _CONFIGURATION.substitute(folder=folder, smtp=smtp, smtps=smtps)
    )
    # Its paths are compiled in: it gets to see our folders there, and nobody else does.
    command: Command = ["unshare", "--mount", "sh", "-ec", _IN_OUR_FOLDERS, "sh", folder, installed]
    with running(command, (HOST, smtp), log=folder / "smtpd.log"):
        yield Server(
            OPENSMTPD.name, folder, {Mode.CLEAR: smtp, Mode.STARTTLS: smtp, Mode.IMPLICIT: smtps}
        )


_IN_OUR_FOLDERS = """
mount --bind "$1/run" /run
mount --bind "$1/lib" /var/lib
mount --bind "$1/spool" /var/spool
mount --bind "$2/usr/libexec" /usr/libexec
exec "$2/usr/sbin/smtpd" -d -f "$1/smtpd.conf"
"""

_CONFIGURATION = Template("""\
pki server cert "$folder/tls/chain.pem"
pki server key "$folder/tls/key.pem"
listen on 127.0.0.1 port $smtp tls pki server hostname mail.test
listen on 127.0.0.1 port $smtps smtps pki server hostname mail.test
smtp max-message-size "50M"
smtp limit max-rcpt 1000
action "box" maildir "$folder/mail/%{rcpt}" virtual { "@mail.test" = mail }
match from any for domain "mail.test" rcpt-to "nosuch@mail.test" reject
match from any for domain "mail.test" action "box"
""")
