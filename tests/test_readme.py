"""Every Python block of README.md runs, against a real server of ours on loopback."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from smtp_adapters.socket import SMTPServer
from smtp_proto import Credentials, Envelope, Handler, Security, ServerSession

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


class Collector(Handler):
    def __init__(self) -> None:
        self.messages: list[tuple[Envelope, bytes]] = []

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return (credentials.authentication_identity, credentials.password) == ("alice", "secret")

    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        self.messages.append((envelope, content))


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def submission(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SMTPServer]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with SMTPServer(
        collector, security=Security.STARTTLS, tls=context, mechanisms=("PLAIN",), require_auth=True
    ) as server:
        yield server


@pytest.fixture
def relay(collector: Collector) -> Iterator[SMTPServer]:
    with SMTPServer(collector) as server:
        yield server


def test_there_are_blocks() -> None:
    assert len(BLOCKS) == 7


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block(block: str, submission: SMTPServer, relay: SMTPServer, collector: Collector) -> None:
    block = block.replace('"mail.example.org", 587', f'"localhost", {submission.port}')
    block = block.replace('"mail.example.org", 25', f'"127.0.0.1", {relay.port}')
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert len(collector.messages) == ("SMTPClient" in block or "carry_out" in block)


def test_the_transport_has_25_lines_at_most() -> None:
    (block,) = (block for block in BLOCKS if "carry_out" in block)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 25
