"""Shows what `smtp-proto probe` says: `python -m tools.probe_page`.

Knows the command, our own server, and the real ones that tests start. Must not know what it will
say. What differs from run to run, ports, dates and certificates, is made the same.

There is no --check: what is shown of the others depends on what is installed here.
"""

import re
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path

import trustme

from smtp_adapters.cli import main
from smtp_adapters.socket import SMTPServer
from smtp_adapters.tls import server_context
from smtp_proto import Handler, Security, ServerSession
from smtp_proto.sasl import ScramSecret
from tests.interop.peers import (
    HOST,
    HOSTNAME,
    SERVERS,
    Mode,
    PeerMissing,
    ServerCertificate,
)
from tools.page import ROOT

PAGE = ROOT / "docs" / "probe.md"

OPENING = """\
# What a server offers

`smtp-proto probe HOST[:PORT]` looks at a server in each way that there is, and shows which of them
work, its certificate, and what it offers, before TLS and after. It logs in nowhere and sends no
mail. With `--json` it prints the same for programs. `smtp-proto check-credentials` logs in, too,
and tells what became of that; it takes the settings of `send`, see [settings.md](settings.md).

Both end with an exit code for each kind of failure; `--help` lists them. A certificate that is
refused is one, whichever other way works.

Made by `python -m tools.probe_page`, of runs against our own server and those of others that were
there.
"""


class Door(Handler):
    """Knows nobody, but could."""

    def find_secret(
        self, _session: ServerSession, _authentication_identity: str, _mechanism: str
    ) -> ScramSecret | None:
        """Find nobody's secret."""
        return None


def page() -> str:
    """Write the whole page."""
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        return OPENING + "".join(
            f"\n## {name}\n\n```\n$ smtp-proto probe mail.test:{mode}\n{shown}```\n"
            for name, mode, shown in runs(certificate)
        )


def make_certificate(folder: Path) -> ServerCertificate:
    """Make a certificate for this host, and the authority that vouches for it."""
    authority = trustme.CA()
    issued = authority.issue_cert(HOSTNAME, HOST)
    files = ServerCertificate(folder / "chain.pem", folder / "key.pem", folder / "ca.pem")
    files.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.ca)
    return files


def runs(certificate: ServerCertificate) -> Iterator[tuple[str, int, str]]:
    """Run the command against each server: its name, its port on the page, and what was said."""
    context: ssl.SSLContext = server_context(certificate.chain, certificate.key)
    with SMTPServer(
        Door(),
        HOST,
        security=Security.STARTTLS,
        tls=context,
        hostname=HOSTNAME,
        mechanisms=["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"],
    ) as server:
        yield "Our own server", 587, probe(server.port, certificate)
    for kind in SERVERS:
        if kind.lmtp:
            continue
        with ExitStack() as stack:
            try:
                running = stack.enter_context(kind.start(certificate))
            except PeerMissing as missing:
                print(f"{kind.name} is left out: {missing}", file=sys.stderr)
                continue
            yield kind.name, 587, probe(running.ports[Mode.STARTTLS], certificate)


def probe(port: int, certificate: ServerCertificate) -> str:
    """Run the command; return what it says, with all that changes made the same."""
    said = StringIO()
    with redirect_stdout(said):
        main(["probe", f"{HOST}:{port}", "--ca-file", str(certificate.ca), "--timeout", "5"])
    return normalised(said.getvalue(), port)


def normalised(said: str, port: int) -> str:
    """The same for each run."""
    for pattern, same in (
        (rf"^( *){port}\b", r"  587"),
        (rf"\b{port}\b", "587"),
        (rf"{re.escape(HOST)}", HOSTNAME),
        (rf"{HOSTNAME}, {HOSTNAME}", HOSTNAME),
        (r"\b[0-9a-f]{64}\b", "5d41402abc4b2a76b9719d911017c592ae1b2c3d4e5f60718293a4b5c6d7e8f9"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "2030-01-01 00:00 UTC"),
        (r"ready \([0-9A-F]{6}\)", "ready (5D4140)"),
        (r"\b\w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "Tue, 1 Jan 2030 00:00:00 +0000"),
    ):
        said = re.sub(pattern, same, said, flags=re.MULTILINE)
    return said


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
