"""HTTP proxies: tinyproxy, and squid, which also speaks TLS with its clients.

Knows how to configure, start and end them. Must not know what goes through them.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from string import Template

from tests.interop.peers.running import (
    HOST,
    PASSWORD,
    USER,
    Command,
    PeerMissing,
    ProxyKind,
    RunningProxy,
    ServerCertificate,
    need,
    need_root,
    on_free_ports,
    own_folder,
    running,
)

# --- tinyproxy ---------------------------------------------------------------------------------


def tinyproxy(_: ServerCertificate) -> AbstractContextManager[RunningProxy]:
    """Start a tinyproxy that asks for no password, and end it."""
    return _start_tinyproxy(None)


def tinyproxy_with_login(_: ServerCertificate) -> AbstractContextManager[RunningProxy]:
    """Start a tinyproxy for one user, and end it."""
    return _start_tinyproxy(USER)


TINYPROXY = ProxyKind("tinyproxy", tinyproxy, ("http",))
TINYPROXY_WITH_LOGIN = ProxyKind(
    "tinyproxy with login", tinyproxy_with_login, ("http",), wants_login=True
)


@contextmanager
def _start_tinyproxy(user: str | None) -> Iterator[RunningProxy]:
    need("tinyproxy")
    with own_folder() as folder, on_free_ports(1, partial(_tinyproxy, folder, user)) as proxy:
        yield proxy


@contextmanager
def _tinyproxy(folder: Path, user: str | None, ports: Sequence[int]) -> Iterator[RunningProxy]:
    (port,) = ports
    login = f"BasicAuth {user} {PASSWORD}\n" if user else ""
    configuration = folder / "tinyproxy.conf"
    configuration.write_text(_TINYPROXY_CONF.substitute(port=port) + login)
    command: Command = ["tinyproxy", "-d", "-c", configuration]
    with running(command, (HOST, port), log=folder / "tinyproxy.log"):
        yield RunningProxy("tinyproxy", folder, {"http": port}, user)


_TINYPROXY_CONF = Template("""\
Port $port
Listen 127.0.0.1
Allow 127.0.0.1
MaxClients 100
Timeout 60
""")


# --- squid -------------------------------------------------------------------------------------

_CHECKS_PASSWORDS = Path("/usr/lib/squid/basic_ncsa_auth")


@contextmanager
def squid(certificate: ServerCertificate) -> Iterator[RunningProxy]:
    """Start a squid for one user, in clear and with TLS, and end it."""
    need("squid")
    need_root("squid")
    if not _CHECKS_PASSWORDS.exists():
        raise PeerMissing(f"not installed: {_CHECKS_PASSWORDS}")
    with own_folder(certificate) as folder:
        (folder / "log").mkdir()
        shutil.chown(folder / "log", "proxy")
        shutil.chown(folder / "tls" / "key.pem", "proxy")
        (folder / "users").write_text(f"{USER}:{_HASHED}\n")
        with on_free_ports(2, partial(_squid, folder)) as proxy:
            yield proxy


SQUID = ProxyKind("squid", squid, ("http", "https"), wants_login=True)


@contextmanager
def _squid(folder: Path, ports: Sequence[int]) -> Iterator[RunningProxy]:
    http, https = ports
    configuration = folder / "squid.conf"
    configuration.write_text(
        _SQUID_CONF.substitute(
            folder=folder, http=http, https=https, checks_passwords=_CHECKS_PASSWORDS
        )
    )
    with running(
        ["squid", "-N", "-f", configuration],
        *((HOST, port) for port in ports),
        log=folder / "squid.log",
    ):
        yield RunningProxy("squid", folder, {"http": http, "https": https}, USER)


_HASHED = "$1$smtp$vUZmziF17Jf8c7CAadkgY."  # PASSWORD

_SQUID_CONF = Template("""\
http_port 127.0.0.1:$http
https_port 127.0.0.1:$https tls-cert=$folder/tls/chain.pem tls-key=$folder/tls/key.pem
pid_filename none
access_log stdio:$folder/log/access.log
cache_log $folder/log/cache.log
cache deny all
cache_mem 8 MB
max_filedescriptors 4096
shutdown_lifetime 0 seconds
coredump_dir $folder/log
netdb_filename none
pinger_enable off
auth_param basic program $checks_passwords $folder/users
auth_param basic realm tests
auth_param basic children 1 startup=1
acl known proxy_auth REQUIRED
acl CONNECT method CONNECT
http_access allow CONNECT known
http_access deny all
""")
