"""Each program in examples/ does what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import smtp_adapters.asyncio
from examples import catch_mail, spool
from smtp_adapters.socket import SMTPClient, SMTPServer
from smtp_proto import (
    ConnectionLost,
    DeliveryInDoubt,
    Envelope,
    Handler,
    Rcpt,
    Reply,
    Security,
    ServerSession,
)
from smtp_proto.wire import Limits

# --- catch_mail.py -------------------------------------------------------------------------------


def test_catch_mail_shows_what_comes() -> None:
    shown: list[str] = []

    async def main() -> None:
        listening = asyncio.Event()

        def show(line: str) -> None:
            shown.append(line)
            listening.set()

        catching = asyncio.create_task(catch_mail.main(0, show))
        await listening.wait()
        port = int(shown.pop().rpartition(":")[2])
        async with smtp_adapters.asyncio.SMTPClient(
            "127.0.0.1", port, security=Security.NONE
        ) as client:
            envelope = Envelope.of("a@example.org", ["b@example.net", "c@example.net"])
            await client.send(envelope, b"Subject: Hi\x1b[2J\r\n\r\nEs gr\xfc\xdft\r\nAnn\r\n")
        catching.cancel()

    asyncio.run(main())
    assert shown[0] == "a@example.org -> b@example.net, c@example.net"
    assert "\x1b" not in "".join(shown)
    assert shown[1].startswith("  Subject: 'Hi")
    assert shown[-1] == "  'Ann'"


# --- spool.py ------------------------------------------------------------------------------------


class Choosy(Handler):
    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        code = str(rcpt.forward_path).partition("@")[0]
        return Reply(int(code), ("so it is",)) if code.isdigit() else None

    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        self.contents.append(content)


@pytest.fixture
def choosy() -> Choosy:
    return Choosy()


@pytest.fixture
def client(choosy: Choosy) -> Iterator[SMTPClient]:
    with SMTPServer(choosy, limits=Limits(message_size=1000)) as server:
        yield SMTPClient("127.0.0.1", server.port, security=Security.NONE)


def write(folder: Path, **recipients: str) -> None:
    for name, recipient in recipients.items():
        text = f"From: a@example.org\nTo: {recipient}\nSubject: {name}\n\n"
        (folder / f"{name}.eml").write_text(text + "x" * 1000 * (name == "large"))


def test_spool_puts_each_message_where_it_belongs(
    client: SMTPClient, choosy: Choosy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        tmp_path,
        good="b@example.net",
        known="550@example.net, b@example.net",
        later="450@example.net",
        unknown="550@example.net",
        mixed="450@example.net, 550@example.net",
        closing="421@example.net",
        large="b@example.net",
        behind="b@example.net",
        nobody="no address",
    )
    spool.send_all(client, tmp_path)
    found = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("**/*.eml"))
    assert found == [
        "closing.eml",
        "later.eml",
        "mixed.eml",
        "refused/large.eml",
        "refused/nobody.eml",
        "refused/unknown.eml",
        "sent/behind.eml",
        "sent/good.eml",
        "sent/known.eml",
    ]
    assert len(choosy.contents) == 3
    assert "known.eml: 550@example.net was refused: 550 so it is" in capsys.readouterr().out
    assert not client.is_open


def test_spool_does_not_send_again_what_may_have_arrived() -> None:
    assert spool.place_of(DeliveryInDoubt("lost", accepted={}, refused={})) == "in-doubt"
    assert spool.place_of(ConnectionLost("lost")) == ""
