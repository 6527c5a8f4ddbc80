"""What a client says to a server: all at once in clear, or within TLS, logged in, step by step.

Knows what it says, and what a server may have made of it, wherever it breaks off. Must not know any
world.
"""

from __future__ import annotations

from collections.abc import Sequence

from smtp_proto.flow import Security
from smtp_proto.testing import Clock, ScriptedPeer, Side
from tests.faults.kit import MOMENT
from tests.faults.talks import BODY, CLIENT_TLS, SERVER_TLS

CONTENTS = [BODY, b"Subject: y\r\n\r\n.hello\r\n"]
"""What is in the messages of either, in their order."""

SESSION = (
    b"EHLO client.example\r\n"
    b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\n"
    b"BDAT 22 LAST\r\n" + BODY + b"VRFY ann\r\nEXPN all\r\n"
    b"MAIL FROM:<a@example.org>\r\nRSET\r\n"
    b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
    b"Subject: y\r\n\r\n..hello\r\n.\r\nQUIT\r\n"
)

_VISIT = """
S: 220 *
C: EHLO client.example
S*: 250 *
C: STARTTLS
S: 220 *
<tls>
C: EHLO client.example
S*: 250 *
C: AUTH LOGIN
S: 334 *
C: YW5u
S: 334 *
C: c2VjcmV0
S: 235 *
C: MAIL FROM:<a@example.org>
C: RCPT TO:<b@example.net>
C: BDAT 22 LAST
C: Subject: x
C:
C: .hello
S: 250 *
S: 250 *
S: 250 *
C: MAIL FROM:<a@example.org>
C: RCPT TO:<b@example.net>
C: DATA
S: 250 *
S: 250 *
S: 354 *
C: Subject: y
C:
C: ..hello
C: .
S: 250 *
C: QUIT
S: 221 *
"""

VISITED: dict[str, object] = {
    "security": Security.STARTTLS,
    "tls": SERVER_TLS,
    "mechanisms": ("LOGIN",),
    "require_auth": True,
}
"""The settings of a server that has such a visitor."""

_client_tls = CLIENT_TLS.factory()


def visitor(clock: Clock) -> ScriptedPeer:
    """A client that starts TLS, logs in, and sends a message when the one before is accepted."""
    return ScriptedPeer(
        _VISIT,
        plays=Side.CLIENT,
        tls=lambda: _client_tls("mx.example.org"),
        clock=clock,
        delay=MOMENT,
    )


def accepted(replies: bytes | bytearray) -> int:
    """How many messages the client was told to be accepted."""
    return replies.count(b"accepted")


def assert_true(contents: Sequence[bytes], told: int, *, ahead: int = 1) -> None:
    """Who was told that a message is accepted can rely on it. None is there twice.

    `ahead`: how many messages may be sent before the client is told of the first.
    """
    assert list(contents) == CONTENTS[: len(contents)]
    assert told <= len(contents) <= told + ahead
