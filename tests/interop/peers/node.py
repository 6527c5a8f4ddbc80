"""Servers that run on Node: Haraka, and npm's smtp-server.

Knows how to configure, start and end them. Must not know what is sent to them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template

from tests.interop.peers.running import (
    HOST,
    TOKEN_KEY,
    Command,
    Mode,
    Server,
    ServerCertificate,
    ServerKind,
    need,
    need_unpacked,
    on_free_ports,
    own_folder,
    running,
    words,
)

_SCRIPT = Path(__file__).with_name("smtp_server.js")
_PLUGIN = Path(__file__).with_name("haraka_plugin.js")


@contextmanager
def smtp_server(certificate: ServerCertificate) -> Iterator[Server]:
    """Start npm's smtp-server with a port for each mode, and end it."""
    need("node")
    packages = need_unpacked("node", "node_modules", "smtp-server").parent
    with (
        own_folder(certificate) as folder,
        on_free_ports(3, partial(_smtp_server, folder, packages)) as server,
    ):
        yield server


@contextmanager
def haraka(certificate: ServerCertificate) -> Iterator[Server]:
    """Start Haraka, and end it."""
    need("node")
    program = need_unpacked("node", "node_modules", "Haraka", "bin", "haraka")
    with own_folder(certificate) as folder:
        _lay_out_haraka(folder)
        with on_free_ports(2, partial(_haraka, folder, program)) as server:
            yield server


SMTP_SERVER = ServerKind(
    "smtp-server",
    smtp_server,
    tuple(Mode),
    keywords=words("8BITMIME DSN ENHANCEDSTATUSCODES PIPELINING SIZE SMTPUTF8"),
    keywords_behind_tls=words("REQUIRETLS"),
    mechanisms=words("PLAIN LOGIN CRAM-MD5"),
    token_mechanisms=words("XOAUTH2"),
)
HARAKA = ServerKind(
    "Haraka",
    haraka,
    tuple(Mode),
    keywords=words("8BITMIME PIPELINING SIZE SMTPUTF8"),
    mechanisms=words("PLAIN LOGIN CRAM-MD5"),
    mechanisms_in_clear=words("PLAIN LOGIN CRAM-MD5"),
)


@contextmanager
def _smtp_server(folder: Path, packages: Path, ports: Sequence[int]) -> Iterator[Server]:
    command: Command = ["node", _SCRIPT, folder, *map(str, ports)]
    with running(
        command,
        *((HOST, port) for port in ports),
        log=folder / "smtp-server.log",
        environment={"NODE_PATH": str(packages), "TOKEN_KEY": TOKEN_KEY.decode()},
    ):
        yield Server(SMTP_SERVER.name, folder, dict(zip(Mode, ports, strict=True)))


@contextmanager
def _haraka(folder: Path, program: Path, ports: Sequence[int]) -> Iterator[Server]:
    smtp, smtps = ports
    (folder / "config" / "smtp.ini").write_text(_SMTP_INI.substitute(smtp=smtp, smtps=smtps))
    with running(
        ["node", program, "-c", folder], (HOST, smtp), (HOST, smtps), log=folder / "haraka.log"
    ):
        modes = {Mode.CLEAR: smtp, Mode.STARTTLS: smtp, Mode.IMPLICIT: smtps}
        yield Server(HARAKA.name, folder, modes)


def _lay_out_haraka(folder: Path) -> None:
    for name in ("config", "plugins", "queue"):
        (folder / name).mkdir()
    (folder / "plugins" / "box.js").write_text(_PLUGIN.read_text())
    for name, text in _HARAKA_FILES.items():
        (folder / "config" / name).write_text(text)
    (folder / "config" / "tls_key.pem").write_bytes((folder / "tls" / "key.pem").read_bytes())
    (folder / "config" / "tls_cert.pem").write_bytes((folder / "tls" / "chain.pem").read_bytes())


_SMTP_INI = Template("""\
listen=127.0.0.1:$smtp,127.0.0.1:$smtps
smtps_port=$smtps
nodes=0
""")

_HARAKA_FILES = {
    "me": "mail.test\n",
    "plugins": "tls\nauth/flat_file\nbox\n",
    "auth_flat_file.ini": "[core]\nmethods=PLAIN,LOGIN,CRAM-MD5\n[users]\nalice=secret\n",
    "tls.ini": "key=tls_key.pem\ncert=tls_cert.pem\n",
    "log.ini": "[main]\nlevel=info\n",
    # It wants the whole of it: Haraka 3.1.1 does not start with parts missing.
    "connection.ini": """\
[main]
[haproxy]
hosts[] =
[headers]
max_lines=1000
max_received=100
[max]
bytes=52428800
mime_parts=1000
line_length=512
data_line_length=1000
[message]
helo=Haraka is at your service.
close=closing connection.
[uuid]
banner_chars=6
deny_chars=0
""",
}
