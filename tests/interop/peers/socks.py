"""SOCKS proxies: dante, microsocks, and ssh.

Knows how to configure, start and end them. Must not know what goes through them.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from pwd import getpwnam
from string import Template

from tests.interop.peers.running import (
    ENVIRONMENT,
    HOST,
    PASSWORD,
    PROXY_USER,
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

_Start = AbstractContextManager[RunningProxy]


# --- dante -------------------------------------------------------------------------------------


def dante(_: ServerCertificate) -> _Start:
    """Start a dante that asks for no password, and end it."""
    return _start_dante("none", ("socks4", "socks5", "socks5h"), None)


def dante_with_login(_: ServerCertificate) -> _Start:
    """Start a dante for the one user that it takes from the system, and end it."""
    return _start_dante("username", ("socks5", "socks5h"), PROXY_USER)


DANTE = ProxyKind("dante", dante, ("socks4", "socks5", "socks5h"))
DANTE_WITH_LOGIN = ProxyKind(
    "dante with login", dante_with_login, ("socks5", "socks5h"), wants_login=True
)


@contextmanager
def _start_dante(method: str, schemes: Sequence[str], user: str | None) -> Iterator[RunningProxy]:
    need("danted")
    need_root("dante")
    if user is not None:
        _need_user(user)
    with (
        own_folder() as folder,
        on_free_ports(1, partial(_dante, folder, method, schemes, user)) as proxy,
    ):
        yield proxy


@contextmanager
def _dante(
    folder: Path, method: str, schemes: Sequence[str], user: str | None, ports: Sequence[int]
) -> Iterator[RunningProxy]:
    (port,) = ports
    configuration = folder / "danted.conf"
    configuration.write_text(_DANTED_CONF.substitute(port=port, method=method))
    command: Command = ["danted", "-f", configuration, "-p", folder / "danted.pid"]
    with running(command, (HOST, port), log=folder / "danted.log"):
        yield RunningProxy("dante", folder, dict.fromkeys(schemes, port), user)


def _need_user(name: str) -> None:
    try:
        getpwnam(name)
    except KeyError as error:
        raise PeerMissing(f"no user {name} (tests/interop/install.sh makes it)") from error


_DANTED_CONF = Template("""\
logoutput: stdout
internal: 127.0.0.1 port = $port
external: lo
clientmethod: none
socksmethod: $method
user.privileged: root
user.unprivileged: nobody
client pass {
  from: 127.0.0.0/8 to: 0.0.0.0/0
}
socks pass {
  from: 127.0.0.0/8 to: 0.0.0.0/0
  command: connect
}
""")


# --- microsocks --------------------------------------------------------------------------------


def microsocks(_: ServerCertificate) -> _Start:
    """Start a microsocks that asks for no password, and end it."""
    return _start_microsocks(None)


def microsocks_with_login(_: ServerCertificate) -> _Start:
    """Start a microsocks for one user, and end it."""
    return _start_microsocks(USER)


MICROSOCKS = ProxyKind("microsocks", microsocks, ("socks5", "socks5h"))
MICROSOCKS_WITH_LOGIN = ProxyKind(
    "microsocks with login", microsocks_with_login, ("socks5", "socks5h"), wants_login=True
)


@contextmanager
def _start_microsocks(user: str | None) -> Iterator[RunningProxy]:
    need("microsocks")
    with own_folder() as folder, on_free_ports(1, partial(_microsocks, folder, user)) as proxy:
        yield proxy


@contextmanager
def _microsocks(folder: Path, user: str | None, ports: Sequence[int]) -> Iterator[RunningProxy]:
    (port,) = ports
    login = ["-u", user, "-P", PASSWORD] if user else []
    command: Command = ["microsocks", "-i", HOST, "-p", str(port), *login]
    with running(command, (HOST, port), log=folder / "microsocks.log"):
        schemes = dict.fromkeys(MICROSOCKS.schemes, port)
        yield RunningProxy("microsocks", folder, schemes, user)


# --- ssh ---------------------------------------------------------------------------------------


@contextmanager
def ssh(_: ServerCertificate) -> Iterator[RunningProxy]:
    """Start sshd and `ssh -D` to it, with keys of their own, and end both."""
    need("ssh", "sshd", "ssh-keygen")
    need_root("sshd")
    with own_folder() as folder:
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name],
                env=ENVIRONMENT,
                check=True,
            )
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # compiled in
        with on_free_ports(2, partial(_ssh, folder)) as proxy:
            yield proxy


SSH = ProxyKind("ssh", ssh, ("socks4", "socks4a", "socks5", "socks5h"))


@contextmanager
def _ssh(folder: Path, ports: Sequence[int]) -> Iterator[RunningProxy]:
    server, proxy = ports
    sshd = [shutil.which("sshd", path=ENVIRONMENT["PATH"]) or "sshd", "-D", "-e", "-f", "/dev/null"]
    sshd += _options(
        Port=server,
        ListenAddress=HOST,
        HostKey=folder / "host_key",
        AuthorizedKeysFile=folder / "authorized_keys",
        AuthenticationMethods="publickey",
        PermitRootLogin="prohibit-password",
        StrictModes="no",
        UsePAM="no",
        PidFile="none",
    )
    client = ["ssh", "-F", "none", "-N", "-D", f"{HOST}:{proxy}", "-i", str(folder / "user_key")]
    client += _options(
        Port=server,
        IdentitiesOnly="yes",
        StrictHostKeyChecking="no",
        UserKnownHostsFile="/dev/null",
        ExitOnForwardFailure="yes",
    )
    with (
        running(sshd, (HOST, server), log=folder / "sshd.log"),
        running([*client, f"root@{HOST}"], (HOST, proxy), log=folder / "ssh.log"),
    ):
        yield RunningProxy(SSH.name, folder, dict.fromkeys(SSH.schemes, proxy))


def _options(**options: object) -> list[str]:
    return [f"-o{name}={value}" for name, value in options.items()]
