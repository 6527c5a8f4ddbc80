"""An address is refused, or it arrives as it was given: nobody reads another one into it.

Knows addresses that were read in two ways by somebody. Must not know their grammar.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_adapters.maildir import MaildirHandler
from smtp_proto.flow.actions import Timer
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.handler import ServerSession
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.wire import WireError
from tests.flow.scripted import CLEAR, play
from tests.flow.serving import Client, settings
from tests.flow.test_injection import mailboxes
from tests.security.differences import ADDRESSES
from tests.security.servers import Keeper, aiosmtpd, ours


class Bridge:
    """Our own server, as the other end of a client's stream. `sent`: what the client has said."""

    def __init__(self, client: Client) -> None:
        self.timers: list[Timer] = []
        self.sent = b""
        self._client = client
        self._said = client.said

    def write(self, data: bytes) -> None:
        self.sent += data
        self._said += self._client.say(data)

    def read(self) -> bytes:
        said, self._said = self._said, b""
        return said


def delivered(address: str) -> tuple[list[str], bytes]:
    """Send a message there; return whom the server has it for, and the RCPT."""
    keeper = Keeper()
    bridge = Bridge(Client(keeper, settings()))
    session = play(OpenSession(CLEAR), bridge)
    before = len(bridge.sent)
    play(SendMail(session, Envelope.of("a@example.org", address), b"x\r\n"), bridge)
    lines = bridge.sent[before:].split(b"\r\n")
    [message] = keeper.messages
    return list(message.recipients), lines[1]


@given(mailboxes)
def test_an_address_that_can_be_sent_arrives_as_it_is(address: str) -> None:
    try:
        envelope = Envelope.of("a@example.org", address)
    except WireError:
        return
    recipients, line = delivered(address)
    assert recipients == list(envelope.recipients)
    assert line.startswith(b"RCPT TO:<%s>" % recipients[0].encode())


ATTACKS = (
    "a@b>\r\nRCPT TO:<evil@x",
    '"a\r\nDATA\r\n"@b',
    "a\u760d\u760aRCPT TO:<x>@qq.com",  # with a lost upper octet: CR and LF
    "x\u0140evil.com",  # with a lost upper octet: "@"
    "a\udc0a@b",
    *(f"a{control}@b" for control in "\r\n\0\t\x7f\x1f\x85\u2028\u2029"),
    "a@exam\u200bple.com",
    "a@exam\u2060ple.com",
    "a@exam\ufeffple.com",
    "a@exam\xadple.com",
    "a@\u202eelpmaxe.com",
    "a\uff20evil.example@good.example",
    "a\uff1e@good.example",
    "a\u2100@good.example",
    "a@example\u3002com",
    "a@example\uff0ecom",
    "a@example\uff61com",
    "a@example.com\u2044",
    "a@\u212aexample.com",
    "a@cafe\u0301.example",
    "a@good.example,b@evil.example",
    "a@good.example(@evil.example)",
    "@evil.example:a@good.example",
    "a@good.example ",
    "",
    "a" * 65 + "@example.com",
    "a@" + "b" * 64 + ".example",
    "a@" + ".".join(["b" * 60] * 5),
)


@pytest.mark.parametrize("address", ATTACKS, ids=ascii)
def test_an_attack_is_refused_before_anything_is_sent(address: str) -> None:
    with pytest.raises(WireError):
        Envelope.of("a@example.org", address)
    with pytest.raises(WireError):
        Envelope.of(address or "x", "a@example.org")


# Each is one mailbox, at the domain on its right.
ODD = (
    '"foo@evil.example> ORCPT=admin@admin.example"@good.example',
    '"x@evil.example y"@good.example',
    '"a> SIZE=99999"@good.example',
    r'"a\"> X"@good.example',
    r'"a\\"@good.example',
    '"a@evil.example"@good.example',
    "a%evil.example@good.example",
    "evil.example!a@good.example",
    "=?utf-8?q?a=40evil.example=3e=20?=@good.example",
    "|sh@good.example",
    "-f@good.example",
    "${run{x}}@good.example",
    "`x`@good.example",
    '";sleep 66;"@good.example',
    '"../../etc/passwd"@good.example',
)


@pytest.mark.parametrize("address", ODD)
def test_an_odd_address_stays_one_mailbox(address: str) -> None:
    recipients, line = delivered(address)
    assert recipients == [address]
    assert line == b"RCPT TO:<%s>" % address.encode()


@pytest.mark.parametrize("address", [each for each in ODD if "=?" not in each and ".." not in each])
def test_others_read_it_as_we_do(address: str) -> None:
    stream = [
        b"EHLO c.example\r\n",
        b"MAIL FROM:<a@example.org>\r\n",
        b"RCPT TO:<%s>\r\n" % address.encode(),
        b"DATA\r\n",
        b"x\r\n.\r\n",
    ]
    assert ours(stream).messages == aiosmtpd(stream).messages


# --- What becomes of it on the disk --------------------------------------------------------------


@given(mailboxes | st.sampled_from([*ODD, *(each.decode("latin-1") for each in ADDRESSES)]))
def test_an_address_is_no_path_and_adds_no_header_field(address: str) -> None:
    try:
        envelope = Envelope.of(address, address)
    except WireError:
        return
    with tempfile.TemporaryDirectory() as folder:
        handler = MaildirHandler(Path(folder, "box"), "mx.example.org")
        session = ServerSession("192.0.2.1")
        session.helo = "c.example"
        handler.on_message(session, envelope, b"Subject: x\r\n\r\nbody\r\n")
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        assert [path.parent for path in files] == [Path(folder, "box", "new")]
        assert re.fullmatch(r"[0-9]+\.M[0-9]+P[0-9]+Q0R[0-9A-F]+\.mx\.example\.org", files[0].name)
        header = files[0].read_bytes().partition(b"\n\n")[0].split(b"\n")
        names = [line.partition(b":")[0] for line in header if not line.startswith(b"\t")]
        assert names == [b"Return-Path", b"Received", b"Subject"]
