"""Dovecot's knowledge of who may log in, and its service that other servers ask for it.

Knows how to configure, start and end it. Must not know which server asks.
"""

import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from tests.interop.peers.running import (
    ENVIRONMENT,
    ISSUER,
    PASSWORD,
    TOKEN_KEY,
    USER,
    PeerMissing,
    need,
    running,
    words,
)

PASSWORD_MECHANISMS = words("PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256")
TOKEN_MECHANISMS = words("XOAUTH2 OAUTHBEARER")


@contextmanager
def dovecot_auth(folder: Path) -> Iterator[None]:
    """Run nothing of Dovecot but the service for logins, at the socket `auth` in the folder."""
    need_dovecot()
    own = folder / "dovecot"
    (own / "run").mkdir(parents=True)
    configuration = own / "dovecot.conf"
    configuration.write_text(_SERVICE.substitute(folder=folder) + logins(own))
    with running(["dovecot", "-F", "-c", configuration], str(folder / "auth")):
        yield


def need_dovecot() -> None:
    """Raise PeerMissing unless there is a Dovecot that our configuration is for."""
    need("dovecot")
    version = subprocess.check_output(["dovecot", "--version"], env=ENVIRONMENT, text=True)
    if not version.startswith("2.3."):
        raise PeerMissing(f"Dovecot 2.3 is needed for its configuration, here is {version.strip()}")


def logins(folder: Path) -> str:
    """Write the one user and the key of tokens into the folder; give the configuration for them."""
    (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}:::::\n")
    keys = folder / "keys" / "default" / "HS256"
    keys.mkdir(parents=True, exist_ok=True)
    (keys / "default").write_bytes(b64encode(TOKEN_KEY))
    (folder / "oauth2.conf").write_text(_OAUTH2.substitute(folder=folder, issuer=ISSUER))
    return _LOGINS.substitute(folder=folder)


_SERVICE = Template("""\
base_dir = $folder/dovecot/run
state_dir = $folder/dovecot/run
log_path = $folder/dovecot.log
protocols =
ssl = no
service auth {
  unix_listener $folder/auth {
    mode = 0666
  }
}
""")

_LOGINS = Template("""\
auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256 xoauth2 oauthbearer
auth_failure_delay = 0
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = $folder/oauth2.conf
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN $folder/users
}
# Without this socket nobody has to wait for the mistakes that tests make.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
""")

_OAUTH2 = Template("""\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix=$folder/keys/
username_attribute = email
username_format = %u
issuers = $issuer
""")
