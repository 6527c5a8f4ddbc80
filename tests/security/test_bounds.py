"""No input costs more than its length: in time, and in memory that stays.

Knows everything that reads what strangers write. Must not know how any of it reads.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from smtp_adapters.maildir import MaildirHandler
from smtp_adapters.message import prepare_octets
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.proxy import HttpConnect, ProxyCodecError, ProxyHeaderReader, Socks5, parse_proxy
from smtp_proto.sasl import (
    ClientContext,
    Credentials,
    SASLError,
    TokenCredentials,
)
from smtp_proto.sasl.mechanism import ServerContext
from smtp_proto.sasl.registry import MECHANISMS, SERVER_MECHANISMS
from smtp_proto.wire import (
    AuthResponse,
    Capabilities,
    ContentDecoder,
    ContentEncoder,
    Limits,
    Mailbox,
    ReceiveBuffer,
    Reply,
    ReplyReader,
    parse_command,
    validate_domain,
)
from tests.flow.serving import Client, settings
from tests.security.differences import HELLO, MAIL, RCPT
from tests.security.servers import codes

# --- Time ----------------------------------------------------------------------------------------

MEGABYTE = 1_000_000
PATTERNS = (
    "a",
    '"',
    "\\",
    "(",
    "<",
    "a.",
    "a@",
    "xn--",
    "=",
    "+",
    " ",
    ",",
    "{",
    "[",
    ":",
    "%41",
    "n=",
    "g: ",
    "a@b,",
    "a ",
)
"""What has made some parser take the square of the time, or an exponential of it."""


def read_replies(text: str) -> None:
    for begin in ("", "250-", "250 "):
        buffer = ReceiveBuffer()
        buffer.feed(begin.encode() + text.encode())
        ReplyReader(Limits(reply_line=2 * MEGABYTE)).read(buffer)


def read_lines(text: str) -> None:
    """Many lines in one buffer: what is read must not be moved again and again."""
    buffer = ReceiveBuffer()
    buffer.feed(text.replace("a", "\r\n").encode())
    while buffer.take_line(Limits().command_line) is not None:
        pass


def read_content(text: str) -> None:
    octets = text.replace("a", "\r\n").encode()
    encoder, decoder, buffer = ContentEncoder(), ContentDecoder(), ReceiveBuffer()
    for start in range(0, len(octets), 100):
        buffer.feed(encoder.encode(octets[start : start + 100]))
        decoder.decode(buffer)


def read_challenges(text: str) -> None:
    context = ClientContext(lambda: b"sixteen octets..", hostname="mail.test")
    for mechanism in MECHANISMS:
        for credentials in (Credentials("ann", "secret"), TokenCredentials("ann", "token")):
            with suppress(SASLError):
                client = mechanism.client(credentials, context)
                client.start()
                client.respond(text.encode())


def read_responses(text: str) -> None:
    for mechanism in SERVER_MECHANISMS.values():
        mechanism(ServerContext("mail.test", lambda: b"sixteen octets..")).start(text.encode())


def read_answers_of_proxies(text: str) -> None:
    for codec in (
        HttpConnect("p.test", 3128).codec("mail.test", 25),
        Socks5("p.test", 1080).codec("mail.test", 25),
    ):
        codec.start()
        with suppress(ProxyCodecError):
            codec.receive_data(text.encode())
    with suppress(ProxyCodecError):
        ProxyHeaderReader().receive_data(b"PROXY " + text.encode())


READERS: dict[str, Callable[[str], object]] = {
    "mailbox": Mailbox.parse,
    "local part": lambda text: Mailbox.parse(f"{text}@mail.test"),
    "quoted mailbox": lambda text: Mailbox.parse(f'"{text}"@mail.test'),
    "domain": validate_domain,
    "command": lambda text: parse_command(text.encode()),
    "MAIL": lambda text: parse_command(b"MAIL FROM:<" + text.encode()),
    "RCPT": lambda text: parse_command(b"RCPT TO:<a@b> " + text.encode()),
    "EHLO": lambda text: parse_command(b"EHLO " + text.encode()),
    "AUTH": lambda text: AuthResponse.parse(text.encode()),
    "capabilities": lambda text: Capabilities.from_reply(Reply(250, ("x", text))),
    "replies": read_replies,
    "lines": read_lines,
    "content": read_content,
    "challenges": read_challenges,
    "responses": read_responses,
    "answers of proxies": read_answers_of_proxies,
    "proxy URL": lambda text: parse_proxy(f"socks5://{text}@p.test"),
    "header": lambda text: prepare_octets(text.encode()),
    "From": lambda text: prepare_octets(f"From: {text}\r\nTo: b@c\r\n\r\n".encode()),
    "To": lambda text: prepare_octets(f"From: b@c\r\nTo: {text}\r\n\r\n".encode()),
}


def read_everything(names: list[str], size: int) -> None:
    for name in names:
        for pattern in PATTERNS:
            # What does not fit in the end makes a reader look back, if it can.
            for end in ("", '"('):
                with suppress(ValueError):
                    READERS[name](pattern * (size // len(pattern)) + end)


_CHILD = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from tests.security.test_bounds import read_everything
read_everything({names!r}, {size})
"""


def run_within_limits(*names: str, size: int = MEGABYTE) -> None:
    """A minute of the processor is plenty for a few passes, and nothing for a million."""
    pytest.importorskip("resource")
    script = _CHILD.format(names=list(names), size=size)
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READERS.keys() - {"From", "To"}))
def test_a_megabyte_of_anything_is_read_in_linear_time(name: str) -> None:
    run_within_limits(name)


def test_header_fields_are_read_in_linear_time() -> None:
    run_within_limits("From", "To", size=50_000)


# --- Memory --------------------------------------------------------------------------------------


class Streaming(Handler):
    """Takes content as it comes, and keeps nothing."""

    def on_content(self, session: ServerSession, data: bytes) -> None:
        """Drop it."""

    def on_message(self, session: ServerSession, envelope: object, content: bytes) -> None:
        """Take it."""


LOOPS = {
    "NOOP": b"NOOP\r\n",
    "RSET": b"RSET\r\n",
    "EHLO": HELLO,
    "VRFY": b"VRFY x\r\n",
    "a transaction that is given up": MAIL + RCPT + b"RSET\r\n",
    "a message": MAIL + RCPT + b"DATA\r\nx\r\n.\r\n",
    "a message in chunks": MAIL + RCPT + b"BDAT 1\r\nxBDAT 1\r\nxBDAT 0 LAST\r\n",
    "a sender that is refused": b"MAIL FROM:<a@example.org> SIZE=99999999999\r\n",
}


@pytest.mark.parametrize("name", LOOPS)
def test_what_is_said_again_and_again_leaves_nothing_behind(name: str) -> None:
    client = Client(Streaming(), settings())
    client.say(HELLO)

    def kept(times: int) -> int:
        for _ in range(times):
            for line in LOOPS[name].splitlines(keepends=True):
                client.say(line)
                client.asks.clear()
                client.timers.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        kept(1000)  # what is kept for reuse is there now
        before = kept(1000)
        # Forty octets for each time: less than any object has.
        assert kept(1000) <= before + 40_000
    finally:
        tracemalloc.stop()


def test_a_message_of_any_size_is_not_collected() -> None:
    client = Client(Streaming(), settings(limits=Limits(message_size=0)))
    client.say(HELLO + MAIL + RCPT + b"DATA\r\n")
    block = b"x" * 998 + b"\r\n"

    def kept(times: int) -> int:
        for _ in range(times):
            client.say(block * 64)
            client.asks.clear()
            client.timers.clear()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = kept(10)
        assert kept(200) <= before + 200_000
    finally:
        tracemalloc.stop()
    assert codes(client.say(b".\r\n")) == (250,)


def test_a_message_that_is_collected_is_there_once(tmp_path: Path) -> None:
    client = Client(MaildirHandler(tmp_path, "mail.test"), settings())
    client.say(HELLO + MAIL + RCPT + b"DATA\r\n")
    block = b"x" * 998 + b"\r\n"
    size = 10_000_000
    tracemalloc.start()
    try:
        for _ in range(size // len(block)):
            client.say(block)
            client.asks.clear()
            client.timers.clear()
        said = client.say(b".\r\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert codes(said) == (250,)
    assert peak < 1.25 * size  # what grows takes some octets more than it has
