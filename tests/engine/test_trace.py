"""What a trace shows: each line both ways, and never a secret, nor content."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.engine import (
    ClientConnection,
    LocalProtocolError,
    RemoteProtocolError,
    ServerConnection,
    Speaker,
)
from smtp_proto.engine.trace import broken_line, command_line, content_line, reply_lines
from smtp_proto.wire import (
    Auth,
    AuthResponse,
    Bdat,
    Data,
    Ehlo,
    Help,
    Mail,
    Mailbox,
    Noop,
    Quit,
    Rcpt,
    Reply,
)

CANARY = b"canary-9c3e"
CODED = b64encode(CANARY).decode()
MAIL = Mail(Mailbox.parse("a@example.org"))
RCPT = Rcpt(Mailbox.parse("b@example.org"))


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, speaker: Speaker, text: str) -> None:
        self.lines.append(f"{speaker.value}: {text}")

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


def both() -> tuple[ClientConnection, ServerConnection, Notes, Notes]:
    ours, theirs = Notes(), Notes()
    return ClientConnection(trace=ours), ServerConnection(trace=theirs), ours, theirs


def answer(client: ClientConnection, server: ServerConnection, reply: Reply) -> None:
    client.receive_data(server.send_reply(reply))
    client.next_event()


def ask(client: ClientConnection, server: ServerConnection, octets: bytes, reply: Reply) -> None:
    server.receive_data(octets)
    server.next_event()
    answer(client, server, reply)


def test_both_sides_show_the_same_and_no_secret() -> None:
    client, server, ours, theirs = both()
    answer(client, server, Reply.build(220, "hi"))
    hello = Reply(250, ("mx", "AUTH PLAIN LOGIN", "CHUNKING"))
    ask(client, server, client.send(Ehlo("me.example")), hello)
    ask(client, server, client.send(Auth("PLAIN", CANARY)), Reply.build(535, CODED, status="5.7.8"))
    ask(client, server, client.send(Auth("LOGIN", None)), Reply(334, (CODED,)))
    ask(client, server, client.send(AuthResponse(CANARY)), Reply(334, (CODED,)))
    ask(client, server, client.send(AuthResponse(None)), Reply.build(501, "no"))
    ask(client, server, client.send(MAIL), Reply.build(250))
    ask(client, server, client.send(RCPT), Reply.build(250))
    ask(client, server, client.send(Data()), Reply.build(354, "go"))
    server.receive_data(client.send_content(CANARY + b"\r\n") + client.end_content())
    server.next_event()
    ask(client, server, b"", Reply.build(250, "taken"))
    ask(client, server, client.send(Quit()), Reply.build(221, "bye"))
    expected = [
        "S: 220 hi",
        "C: EHLO me.example",
        "S: 250-mx",
        "S: 250-AUTH PLAIN LOGIN",
        "S: 250 CHUNKING",
        "C: AUTH PLAIN ***",
        "S: 535 5.7.8 ***",
        "C: AUTH LOGIN",
        "S: 334 ***",
        "C: ***",
        "S: 334 ***",
        "C: *",
        "S: 501 ***",
        "C: MAIL FROM:<a@example.org>",
        "S: 250 ",
        "C: RCPT TO:<b@example.org>",
        "S: 250 ",
        "C: DATA",
        "S: 354 go",
        "C: (13 octets of content)",
        "C: .",
        "S: 250 taken",
        "C: QUIT",
        "S: 221 bye",
    ]
    assert ours.lines == expected
    assert theirs.lines == expected


def test_chunks() -> None:
    client, server, ours, theirs = both()
    answer(client, server, Reply.build(220, "hi"))
    hello = Reply(250, ("mx", "CHUNKING"))
    ask(client, server, client.send(Ehlo("me.example")), hello)
    ask(client, server, client.send(MAIL), Reply.build(250))
    ask(client, server, client.send(RCPT), Reply.build(250))
    ours.take()
    theirs.take()
    server.receive_data(client.send_chunk(CANARY, last=True))
    server.next_event()
    ask(client, server, b"", Reply.build(250, "taken"))
    expected = ["C: BDAT 11 LAST", "C: (11 octets of content)", "S: 250 taken"]
    assert ours.lines == expected
    assert theirs.lines == expected


def test_what_is_no_command_is_not_shown() -> None:
    notes = Notes()
    server = ServerConnection(trace=notes)
    server.send_reply(Reply.build(220, "hi"))
    server.receive_data(b"EHLO\xff " + CANARY + b"\r\n")
    server.next_event()
    assert notes.lines == ["S: 220 hi", "C: (17 octets that are no command)"]


@pytest.mark.parametrize("line", [b"AUHT PLAIN " + CANARY, CANARY, b"my diary " + CANARY])
def test_what_is_not_known_may_be_a_secret_that_came_too_late(line: bytes) -> None:
    notes = Notes()
    server = ServerConnection(trace=notes)
    server.send_reply(Reply.build(220, "hi"))
    server.receive_data(line + b"\r\n")
    server.next_event()
    assert notes.lines[1:] == [f"C: ({len(line)} octets that are no command)"]


def test_remarks_are_not_shown() -> None:
    assert command_line(Noop("AUTH PLAIN canary")) == "NOOP"
    assert command_line(Help("canary")) == "HELP"


def test_what_was_not_sent_is_not_shown() -> None:
    notes = Notes()
    client = ClientConnection(trace=notes)
    client.receive_data(b"220 hi\r\n")
    client.next_event()
    notes.take()
    with pytest.raises(LocalProtocolError):
        client.send_group([Noop(), MAIL])
    assert notes.lines == []


def test_the_last_words_are_shown() -> None:
    notes = Notes()
    server = ServerConnection(trace=notes)
    server.send_reply(Reply.build(220, "hi"))
    server.send_reply(Reply.build(421, "bye"))
    assert notes.lines == ["S: 220 hi", "S: 421 bye"]
    client = ClientConnection(trace=notes)
    notes.take()
    client.receive_data(b"354 what?\r\n")
    with pytest.raises(RemoteProtocolError):
        client.next_event()
    assert notes.lines == ["S: 354 what?"]


def test_no_control_character_is_shown() -> None:
    assert list(reply_lines(Reply(250, ("\u202ex", "y")), to_auth=False)) == [
        "250-\\u202ex",
        "250 y",
    ]


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_octet_of_a_login_is_ever_shown(first: bytes, second: bytes) -> None:
    assert command_line(Auth("PLAIN", first)) == "AUTH PLAIN ***"
    assert command_line(AuthResponse(second)) == "***"


def test_what_stands_for_octets() -> None:
    assert command_line(Bdat(3)) == "BDAT 3"
    assert content_line(3) == "(3 octets of content)"
    assert broken_line(3) == "(3 octets that are no command)"
