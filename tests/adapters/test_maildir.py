"""What a server has taken is in the Maildir: whole, once, and with its trace on top."""

import email
import errno
import mailbox
import os
import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from smtp_adapters.maildir import MaildirHandler
from smtp_proto.engine.table import Protocol
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.handler import ServerSession
from smtp_proto.flow.tls import TLSInfo
from smtp_proto.wire.errors import WireError
from smtp_proto.wire.parameters import MailParameters

CONTENT = b"Subject: hello\r\n\r\n.\r\nGr\xc3\xbc\xc3\x9fe\r\n"
TLS = TLSInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", None, False, None)


def session(tls: bool = False, user: str | None = None, peer: str = "192.0.2.7") -> ServerSession:
    return ServerSession(
        peer, tls=TLS if tls else None, helo="client.example.org", authenticated_as=user
    )


def envelope(
    sender: str = "a@x.org",
    recipients: tuple[str, ...] = ("b@x.org",),
    parameters: MailParameters | None = None,
) -> Envelope:
    return Envelope.of(sender, recipients, mail_parameters=parameters or MailParameters())


def delivered(directory: Path) -> list[bytes]:
    assert list((directory / "tmp").iterdir()) == []
    return [path.read_bytes() for path in sorted((directory / "new").iterdir())]


def unfolded(octets: bytes) -> str:
    return re.sub("\n[ \t]+", " ", octets.decode())


def trace(
    directory: Path,
    given: ServerSession,
    to_whom: Envelope,
    protocol: Protocol = Protocol.SMTP,
) -> list[str]:
    """The two lines that delivery puts on top."""
    handler = MaildirHandler(directory, "mx.example.org", protocol=protocol)
    handler.on_message(given, to_whom, CONTENT)
    (octets,) = delivered(directory)
    return unfolded(octets).split("\n")[:2]


def test_a_message_is_kept_as_it_came_below_its_trace(tmp_path: Path) -> None:
    handler = MaildirHandler(tmp_path / "deep" / "mail", "mx.example.org")
    reply = handler.on_message(session(), envelope(), CONTENT)
    (octets,) = delivered(tmp_path / "deep" / "mail")
    first, second, rest = unfolded(octets).split("\n", 2)
    assert first == "Return-Path: <a@x.org>"
    assert rest.encode() == CONTENT.replace(b"\r\n", b"\n")
    match = re.fullmatch(
        r"Received: from client\.example\.org \(\[192\.0\.2\.7\]\) by mx\.example\.org with SMTP"
        r" id ([A-Z0-9]+) for <b@x\.org>; (.*)",
        second,
    )
    assert match
    assert str(reply) == f"250 2.0.0 Ok, kept as {match[1]}"
    assert parsedate_to_datetime(match[2]).tzinfo is not None
    assert b"\r" not in octets


@pytest.mark.parametrize(
    "content",
    [
        b" (authenticated as the postmaster)\r\nSubject: x\r\n\r\nHello\r\n",
        b"\t\r\nHello\r\n",
        b"\x0b\x0c\r\n",
        b"\n x\r\n",
        b"\r x\r\n",
        b"Hello\r\n",
        b"Hello, this is it: x\r\n",
        b": x\r\n",
        b"Gr\xc3\xbc\xc3\x9fe: x\r\n",
        b"x" * 100_000 + b"\r\n",
    ],
)
def test_nothing_goes_on_with_the_trace(tmp_path: Path, content: bytes) -> None:
    MaildirHandler(tmp_path, "mx.example.org").on_message(session(), envelope(), content)
    (octets,) = delivered(tmp_path)
    assert octets.endswith(b"\n\n" + content.replace(b"\r\n", b"\n"))
    read = email.message_from_bytes(octets)
    assert read.keys() == ["Return-Path", "Received"]
    assert parsedate_to_datetime(read["Received"].rpartition(";")[2]).tzinfo is not None


@pytest.mark.parametrize(
    "content", [b"x:\r\n", b"X-y \t: z\r\n\r\n", b"\r\n x\r\n", b"!~: z\r\n\r\n"]
)
def test_nothing_is_added_to_a_message(tmp_path: Path, content: bytes) -> None:
    MaildirHandler(tmp_path, "mx.example.org").on_message(session(), envelope(), content)
    (octets,) = delivered(tmp_path)
    trace, _, rest = octets.partition(content.replace(b"\r\n", b"\n"))
    assert trace.count(b"\n") == 6
    assert not trace.endswith(b"\n\n")
    assert rest == b""


@pytest.mark.parametrize("before", range(65_530, 65_540))
def test_line_ends_are_what_they_are_wherever_they_stand(tmp_path: Path, before: int) -> None:
    content = b"x:" + b"y" * before + b"\r\n\r\r\n\n\r" + b"z" * 65_536 + b"\r"
    MaildirHandler(tmp_path, "mx.example.org").on_message(session(), envelope(), content)
    (octets,) = delivered(tmp_path)
    assert octets.endswith(b"\nx:" + content[2:].replace(b"\r\n", b"\n"))


def test_others_can_read_the_maildir(tmp_path: Path) -> None:
    handler = MaildirHandler(tmp_path / "mail", "mx.example.org")
    handler.on_message(session(), envelope(), CONTENT)
    (message,) = mailbox.Maildir(tmp_path / "mail", create=False)
    assert message["Subject"] == "hello"
    assert message["Return-Path"] == "<a@x.org>"


def test_the_null_reverse_path(tmp_path: Path) -> None:
    assert trace(tmp_path, session(), envelope(""))[0] == "Return-Path: <>"


def test_recipients_are_kept_from_each_other(tmp_path: Path) -> None:
    _, received = trace(tmp_path, session(), envelope(recipients=("b@x.org", "c@x.org")))
    assert "x.org" not in received


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("192.0.2.7", "client.example.org ([192.0.2.7]) by"),
        ("2001:db8::7", "client.example.org ([IPv6:2001:db8::7]) by"),
        ("fe80::7%eth0", "client.example.org ([IPv6:fe80::7]) by"),
        ("a pipe\r\nX: y", "client.example.org by"),
    ],
)
def test_where_it_came_from(tmp_path: Path, peer: str, shown: str) -> None:
    assert shown in trace(tmp_path, session(peer=peer), envelope())[1]


@pytest.mark.parametrize(
    ("given", "parameters", "protocol", "shown"),
    [
        (session(), MailParameters(), Protocol.SMTP, "SMTP"),
        (session(), MailParameters(size=1), Protocol.SMTP, "ESMTP"),
        (session(user="u"), MailParameters(), Protocol.SMTP, "ESMTPA"),
        (
            session(tls=True, user="u"),
            MailParameters(),
            Protocol.SMTP,
            "ESMTPSA (TLSv1.3, TLS_AES_256_GCM_SHA384)",
        ),
        (session(user="u"), MailParameters(smtputf8=True), Protocol.SMTP, "UTF8SMTPA"),
        (session(), MailParameters(size=1), Protocol.LMTP, "LMTP"),
        (session(user="u"), MailParameters(smtputf8=True), Protocol.LMTP, "UTF8LMTPA"),
    ],
)
def test_how_it_came(
    tmp_path: Path,
    given: ServerSession,
    parameters: MailParameters,
    protocol: Protocol,
    shown: str,
) -> None:
    _, received = trace(tmp_path, given, envelope(parameters=parameters), protocol)
    assert f" with {shown} id " in received


def test_addresses_in_utf8(tmp_path: Path) -> None:
    utf8 = envelope("zoë@x.org", ("bøb@x.org",), MailParameters(smtputf8=True))
    first, second = trace(tmp_path, session(), utf8)
    assert first == "Return-Path: <zoë@x.org>"
    assert " for <bøb@x.org>;" in second


def test_each_message_has_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 0)  # a clock that is too slow to tell them apart
    handler = MaildirHandler(tmp_path, "mx.example.org")
    with ThreadPoolExecutor(8) as threads:
        replies = list(
            threads.map(lambda _: handler.on_message(session(), envelope(), CONTENT), range(100))
        )
    assert len(set(map(str, replies))) == len(delivered(tmp_path)) == 100


@pytest.mark.parametrize("number", [None, errno.EPERM, errno.EOPNOTSUPP])
def test_no_message_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    """Neither the clock nor the count nor chance tells two handlers apart."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0" * 16)

    def no_links(*_: object) -> None:
        raise OSError(number, "no links here")

    if number is not None:
        monkeypatch.setattr(os, "link", no_links)
    replies = [
        MaildirHandler(tmp_path, "mx.example.org").on_message(session(), envelope(), content)
        for content in (b"one\r\n", b"two\r\n")
    ]
    kept = delivered(tmp_path)
    assert {octets.splitlines()[-1] for octets in kept} == {b"one", b"two"}
    assert len(set(map(str, replies))) == len(kept) == 2


def test_chance_tells_two_handlers_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    first, second = (
        MaildirHandler(tmp_path, "mx.example.org").on_message(session(), envelope(), CONTENT)
        for _ in range(2)
    )
    assert "Q0R" in str(first)
    assert "Q0R" in str(second)
    assert first != second


def test_a_message_that_cannot_get_its_name_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = MaildirHandler(tmp_path, "mx.example.org")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OSError, match="Input/output error"):
        handler.on_message(session(), envelope(), CONTENT)
    assert delivered(tmp_path) == []


def test_a_hostname_is_no_path(tmp_path: Path) -> None:
    handler = MaildirHandler(tmp_path, "[IPv6:2001:db8::1]")
    handler.on_message(session(), envelope(), CONTENT)
    (path,) = (tmp_path / "new").iterdir()
    assert ":" not in path.name
    with pytest.raises(WireError):
        MaildirHandler(tmp_path, "../../etc")


def test_the_longest_hostname_makes_no_name_too_long(tmp_path: Path) -> None:
    handler = MaildirHandler(tmp_path, ".".join(["a" * 61] * 4))
    for _ in range(2):
        assert handler.on_message(session(), envelope(), CONTENT).code == 250
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_only_the_owner_reads_mail(tmp_path: Path) -> None:
    handler = MaildirHandler(tmp_path / "mail", "mx.example.org")
    handler.on_message(session(), envelope(), CONTENT)
    (path,) = (tmp_path / "mail" / "new").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "mail" / "new").stat().st_mode & 0o077 == 0


def test_a_message_is_on_the_disk_before_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = MaildirHandler(tmp_path, "mx.example.org")
    synced: list[str] = []
    fsync: Callable[[int], None] = os.fsync

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(path.relative_to(tmp_path).parts[0])
        new = len(list((tmp_path / "new").iterdir()))
        assert new == (0 if synced == ["tmp"] else 1)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    handler.on_message(session(), envelope(), CONTENT)
    assert synced == ["tmp", "new"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_refused_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    handler = MaildirHandler(tmp_path, "mx.example.org")

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    assert handler.on_message(session(), envelope(), CONTENT).code == 452
    assert delivered(tmp_path) == []


def test_another_error_of_the_disk_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = MaildirHandler(tmp_path, "mx.example.org")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        handler.on_message(session(), envelope(), CONTENT)
    assert delivered(tmp_path) == []


def test_a_directory_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        MaildirHandler(tmp_path / "file", "mx.example.org")
