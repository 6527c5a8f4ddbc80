"""Kerberos: a realm of its own, with a KDC that answers on the loopback only.

Knows how to set one up, start and end it, and how tickets are got there. Must not know who shows
them to whom.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template

from tests.interop.peers.running import (
    ENVIRONMENT,
    HOST,
    HOSTNAME,
    PASSWORD,
    PATIENCE,
    USER,
    PeerFailed,
    PeerMissing,
    need,
    on_free_ports,
    own_folder,
    running,
)

REALM = HOSTNAME.upper()
OTHER_HOST = "localhost"
"""By this name it is reached, too, as far as the KDC knows; but it does not have the key."""

_PAUSE = 0.02  # seconds


@dataclass(frozen=True)
class Realm:
    """A running realm: `USER`, and a mail server that is reached by `HOSTNAME` and by `HOST`."""

    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """By which a program finds the realm, and nothing of the machine's own."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5_KTNAME": str(self.keytab),
            "KRB5_CLIENT_KTNAME": str(self.folder / "no-keytab"),
            "KRB5CCNAME": self.no_tickets,
            "KRB5RCACHENAME": "none:",
        }

    @property
    def keytab(self) -> Path:
        """The keys of the mail server."""
        return self.folder / "keytab"

    @property
    def no_tickets(self) -> str:
        """A place for tickets, as KRB5CCNAME has it, where there are none."""
        return f"FILE:{self.folder}/no-tickets"

    def tickets(self, lifetime: str = "1h") -> str:
        """Log `USER` in; give the place of the tickets, as KRB5CCNAME has it."""
        place = f"FILE:{self.folder}/tickets-{lifetime}"
        self.run(["kinit", "-c", place, "-l", lifetime, USER], PASSWORD)
        return place

    def expired_tickets(self) -> str:
        """Give the place of tickets that were good."""
        place = self.tickets("1s")
        last = int(time.time()) + 1
        while int(time.time()) <= last:  # they are good to the end of their last second
            time.sleep(_PAUSE)
        return place

    def run(self, command: Sequence[str | Path], answer: str = "") -> None:
        """Run one of the programs of Kerberos. Raises PeerFailed."""
        done = subprocess.run(
            command,
            env={**ENVIRONMENT, **self.environment},
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise PeerFailed(f"{command[0]} ends with {done.returncode}: {done.stdout}")


@contextmanager
def kerberos() -> Iterator[Realm]:
    """Start a KDC for a new realm, and end it."""
    need("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
    if missing := [name for name in ("gssapi", "krb5") if find_spec(name) is None]:
        raise PeerMissing(f"not installed: {', '.join(missing)} (the extra kerberos has them)")
    with on_free_ports(1, _realm) as realm:
        yield realm


@contextmanager
def _realm(ports: Sequence[int]) -> Iterator[Realm]:
    (port,) = ports
    with own_folder() as folder:
        realm = Realm(folder)
        for name, template in (("krb5.conf", _CONFIGURATION), ("kdc.conf", _KDC_CONFIGURATION)):
            text = template.substitute(folder=folder, host=HOST, port=port, realm=REALM)
            (folder / name).write_text(text)
        services = [f"smtp/{host}" for host in (HOSTNAME, HOST)]
        realm.run(["kdb5_util", "create", "-s", "-P", "master"])
        for query in (
            f"addprinc -pw {PASSWORD} {USER}",
            *(f"addprinc -randkey {name}" for name in (*services, f"smtp/{OTHER_HOST}")),
            *(f"ktadd -k {realm.keytab} {name}" for name in services),
        ):
            realm.run(["kadmin.local", "-q", query])
        realm.keytab.chmod(0o644)  # servers have users of their own
        with running(["krb5kdc", "-n"], (HOST, port), environment=realm.environment):
            yield realm


_CONFIGURATION = Template("""\
[libdefaults]
  default_realm = $realm
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  udp_preference_limit = 1
[realms]
  $realm = {
    kdc = $host:$port
  }
""")

_KDC_CONFIGURATION = Template("""\
[realms]
  $realm = {
    kdc_listen = $host:$port
    kdc_tcp_listen = $host:$port
    database_name = $folder/principal
    key_stash_file = $folder/stash
  }
[logging]
  kdc = FILE:$folder/kdc.log
""")
