"""No text that a caller gives puts on the wire what it was not asked for.

Knows every text argument of the client flows. Must not know how a command is written.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.flow.actions import Timer
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.errors import SMTPError
from smtp_proto.flow.flow import Flow
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.open import OpenSession
from smtp_proto.flow.session import Session
from smtp_proto.flow.simple import expand, help_, verify
from smtp_proto.sasl import Credentials, Policy
from smtp_proto.wire import (
    Mail,
    MailParameters,
    OriginalRecipient,
    Parameter,
    Rcpt,
    RcptParameters,
    Reply,
    parse_command,
)
from smtp_proto.wire.parameters import extension_of
from tests.flow.scripted import CLEAR, play, settings

T = TypeVar("T")

OFFERS = b"8BITMIME SIZE SMTPUTF8 DSN PIPELINING AUTH=PLAIN HELP".split()
# What ends a line, a path, a parameter or a command for somebody, and what becomes that when it is
# written with too few bits.
DANGEROUS = '\r\n\0\t\x0b\x0c\x1c\x7f\x85\u2028\u2029\u760d\u760a\u0140\udc0a\udcff <>@"\\:;,.=+*'
INJECTIONS = (
    "a\r\nRCPT TO:<evil@example.org>",
    "a\nDATA",
    "a> SIZE=1",
    "a SMTPUTF8",
    '"a> ORCPT=rfc822;evil"',
    "a\r\n.\r\nMAIL FROM:<>",
    "",
)
texts = (
    st.text(st.sampled_from(DANGEROUS + "abcXYZ019-_éß"), max_size=20)
    | st.text(max_size=20)
    | st.text("abc019", min_size=1)
    | st.sampled_from(INJECTIONS)
)
legal_mailboxes = st.sampled_from(
    (
        "a@example.org",
        "é@exämple.org",
        "Postmaster",
        '"a> SIZE=1"@example.org',
        '"\\">\\" SIZE=1"@example.org',
        "a@[IPv6:2001:db8::1]",
    )
)
mailboxes = (
    legal_mailboxes
    | texts
    | st.builds("{}@example.org".format, texts)
    | st.builds('"{}"@example.org'.format, texts)
    | st.builds("a@{}.example.org".format, texts)
    | st.builds("a@[{}]".format, texts)
)


class Willing:
    """A server that agrees to everything. `lines`: the command lines that it has heard.

    `contents`: what came behind each DATA, from the CRLF of DATA itself on. `offers`: what it
    offers besides.
    """

    def __init__(self, *offers: str) -> None:
        self._offers = [*OFFERS, *map(str.encode, offers)]
        self.timers: list[Timer] = []
        self.lines: list[bytes] = []
        self.contents: list[bytes] = []
        self._unread = b""
        self._outgoing = b"220 mail.test\r\n"
        self._in_content = False

    def write(self, data: bytes) -> None:
        self._unread += data
        end = b"\r\n.\r\n"
        while (end if self._in_content else b"\r\n") in self._unread:
            if self._in_content:
                content, _, self._unread = self._unread.partition(end)
                self.contents.append(content)
                self._in_content = False
                self._outgoing += b"250 Ok\r\n"
            else:
                line, _, self._unread = self._unread.partition(b"\r\n")
                self.lines.append(line)
                self._outgoing += self._answer(line)

    def _answer(self, line: bytes) -> bytes:
        match line.split(b" ")[0]:
            case b"EHLO":
                offers = [b"250-" + word for word in self._offers]
                return b"\r\n".join([b"250-mail.test", *offers, b"250 AUTH PLAIN LOGIN\r\n"])
            case b"DATA":
                self._in_content = True
                self._unread = b"\r\n" + self._unread  # RFC 5321 4.1.1.4
                return b"354 Go\r\n"
            case b"AUTH" if line.endswith(b"LOGIN"):
                return b"334 VXNlcm5hbWU6\r\n"
            case _ if self.lines[-2:-1] == [b"AUTH LOGIN"]:
                return b"334 UGFzc3dvcmQ6\r\n"
            case _ if b"AUTH LOGIN" in self.lines or line.startswith(b"AUTH "):
                return b"235 Ok\r\n"
            case _:
                return b"250 Ok\r\n"

    def read(self) -> bytes:
        data, self._outgoing = self._outgoing, b""
        assert data, f"the client waits, having said {self._unread!r}"
        return data

    def assert_clean(self) -> None:
        """Nothing but whole lines has come, without anything in them that might end a line."""
        assert not self._unread
        assert not any(octet < 0x20 or octet == 0x7F for octet in b"".join(self.lines))


def carry_out(flow_for: Callable[[Session], Flow[T]], *offers: str) -> Willing:
    """Let a flow run on a new session, if it does not refuse."""
    server = Willing(*offers)
    session = play(OpenSession(CLEAR), server)
    del server.lines[:]
    try:
        play(flow_for(session), server)
    except (ValueError, SMTPError):
        assert not server.lines
    server.assert_clean()
    return server


@given(texts | st.builds("{}.example.org".format, texts) | st.builds("[{}]".format, texts))
def test_the_local_hostname(name: str) -> None:
    server = Willing()
    try:
        opening = settings(local_hostname=name)
    except ValueError:
        return
    play(OpenSession(opening), server)
    server.assert_clean()
    assert server.lines == [b"EHLO " + name.encode("ascii")]
    assert b" " not in name.encode("ascii")


@given(texts, texts, texts)
def test_credentials_by_plain(user: str, password: str, authorization: str) -> None:
    server = log_in(Credentials(user, password, authorization), "PLAIN")
    if server.lines[1:]:
        [line] = server.lines[1:]
        verb, mechanism, response = line.split(b" ")
        assert (verb, mechanism) == (b"AUTH", b"PLAIN")
        message = b64decode(response, validate=True).decode()
        assert message == f"{authorization}\0{user}\0{password}"


@given(texts, texts)
def test_credentials_by_login(user: str, password: str) -> None:
    server = log_in(Credentials(user, password), "LOGIN")
    if server.lines[1:]:
        auth, *responses = server.lines[1:]
        assert auth == b"AUTH LOGIN"
        decoded = [b64decode(response, validate=True).decode() for response in responses]
        assert decoded == [user, password]


def log_in(credentials: Credentials, mechanism: str) -> Willing:
    server = Willing()
    policy = Policy(allowed=frozenset({mechanism}), allow_cleartext=True)
    try:
        session = play(OpenSession(settings(credentials=credentials, policy=policy)), server)
    except SMTPError:
        assert len(server.lines) == 1, "only EHLO"
    else:
        assert session.authenticated
        assert server.lines[1:]
    server.assert_clean()
    return server


@pytest.mark.parametrize(
    ("flow_for", "verb"), [(verify, b"VRFY"), (expand, b"EXPN"), (help_, b"HELP")]
)
@given(text=texts)
def test_the_flows_of_one_command(
    flow_for: Callable[[Session, str], Flow[Reply]], verb: bytes, text: str
) -> None:
    server = carry_out(lambda session: flow_for(session, text))
    if server.lines:
        parameter = b"" if text.isascii() else b" SMTPUTF8"
        assert server.lines == [(verb + b" " + text.encode()).rstrip() + parameter]


@given(
    mailboxes | st.just(""),
    st.lists(mailboxes, min_size=1, max_size=1) | st.lists(legal_mailboxes, min_size=1),
)
def test_senders_and_recipients(sender: str, recipients: list[str]) -> None:
    try:
        envelope = Envelope.of(sender, recipients)
    except ValueError:
        return
    server = carry_out(lambda session: SendMail(session, envelope, b"x\r\n"))
    if server.lines:
        mail, *others, data = server.lines
        assert data == b"DATA"
        assert server.contents == [b"\r\nx"]
        command = parse_command(mail)
        assert isinstance(command, Mail)
        assert command.reverse_path == envelope.reverse_path
        assert command.parameters == MailParameters(size=3, smtputf8=not envelope.ascii)
        assert [parse_command(line) for line in others] == list(map(Rcpt, envelope.forward_paths))


@given(texts, texts, texts, texts, texts)
def test_parameters(envid: str, keyword: str, value: str, address_type: str, original: str) -> None:
    extra: tuple[Parameter, ...] = ()
    with suppress(ValueError):
        extra = (Parameter(keyword, value),)
    original_recipient = OriginalRecipient("rfc822", "b@example.net")
    with suppress(ValueError):
        original_recipient = OriginalRecipient(address_type, original)
    try:
        mail_parameters = MailParameters(envid=envid, other=extra)
        rcpt_parameters = RcptParameters(orcpt=original_recipient, other=extra)
    except ValueError:
        return
    envelope = Envelope.of(
        "a@example.org",
        "b@example.net",
        mail_parameters=mail_parameters,
        rcpt_parameters=rcpt_parameters,
    )
    offers = [extension_of(parameter.keyword) for parameter in extra]
    server = carry_out(lambda session: SendMail(session, envelope, b"x\r\n"), *offers)
    mail, rcpt = map(parse_command, server.lines[:2])
    assert server.lines[2:] == [b"DATA"]
    assert isinstance(mail, Mail)
    assert isinstance(rcpt, Rcpt)
    assert (mail.parameters.envid, mail.parameters.other) == (envid, extra)
    assert rcpt.parameters == rcpt_parameters


@given(st.lists(st.binary(max_size=10) | st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"QUIT"])))
def test_content(pieces: list[bytes]) -> None:
    envelope = Envelope.of("a@example.org", "b@example.net")
    server = carry_out(lambda session: SendMail(session, envelope, b"".join(pieces)))
    if server.lines:
        assert [line[:4] for line in server.lines] == [b"MAIL", b"RCPT", b"DATA"]
        assert len(server.contents) == 1
