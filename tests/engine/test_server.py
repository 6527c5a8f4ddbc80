"""The server's engine: which commands it lets through, and which reply it lets out."""

import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.engine import (
    LEGAL,
    NEED_DATA,
    PAUSED,
    AuthResponseReceived,
    CommandReceived,
    CommandRefused,
    ConnectionEnded,
    ContentEnded,
    ContentReceived,
    LocalProtocolError,
    Outcome,
    Protocol,
    RemoteProtocolError,
    ServerConnection,
    ServerEvent,
    State,
    move_of,
    refusals,
)
from smtp_proto.engine.table import TABLE
from smtp_proto.wire import (
    NO_CAPABILITIES,
    Auth,
    AuthResponse,
    BareLineEndings,
    Capabilities,
    Command,
    Data,
    Ehlo,
    Helo,
    Lhlo,
    Limits,
    Noop,
    OtherCommand,
    Quit,
    Reply,
    StartTls,
)
from tests.engine.sessions import (
    CHALLENGE,
    COMMANDS,
    GO_AHEAD,
    GREETING,
    KEYWORDS,
    OK,
    REFUSED,
    broken,
    command,
    drive,
    ehlo_reply,
    said,
    server_in,
    snapshot,
    state_of,
)

CLOSING = Reply(421, ("4.3.2 Shutting down",))
STATES = list(State)
# In GREETING the client was refused, and may say QUIT only.
AWAITING_A_COMMAND = [
    *(State.GREETING, State.HELO, State.READY),
    *(State.MAIL, State.RCPT, State.BDAT),
]


def accept(event: ServerEvent) -> Reply:
    """Answer everything positively, and what is refused with the refusal that is proposed."""
    match event:
        case CommandReceived(Data()):
            return GO_AHEAD
        case CommandReceived(StartTls()):
            return GREETING
        case CommandReceived(Auth(initial_response=None)):
            return CHALLENGE
        case CommandReceived(Ehlo() | Lhlo()):
            return ehlo_reply(*KEYWORDS)
        case CommandRefused(reply) | ContentEnded(Reply() as reply):
            return reply
        case AuthResponseReceived(None):
            return Reply(501, ("Cancelled",))
        case _:
            return OK


def codes(log: list[ServerEvent | Reply]) -> list[int]:
    return [entry.code for entry in log if isinstance(entry, Reply)]


def content(log: list[ServerEvent | Reply]) -> bytes:
    return b"".join(entry.data for entry in log if isinstance(entry, ContentReceived))


def refused(server: ServerConnection, line: bytes) -> Reply:
    """Feed one line; return the refusal that is proposed, and answer with it."""
    event = said(server, line)
    assert isinstance(event, CommandRefused)
    before = snapshot(server)
    with pytest.raises(LocalProtocolError):
        server.send_reply(OK)
    assert snapshot(server) == before
    server.send_reply(event.reply)
    return event.reply


# --- The greeting ----------------------------------------------------------------------------


def test_the_first_word_is_the_servers() -> None:
    server = ServerConnection()
    server.receive_data(b"EHLO c.example\r\n")
    assert server.next_event() is PAUSED
    # A policy may refuse a client that could not wait.
    assert server.unread == 16
    assert server.send_reply(GREETING) == b"220 mx.example ESMTP\r\n"
    assert server.state is State.HELO
    assert server.next_event() == CommandReceived(Ehlo("c.example"))
    assert server.unread == 0


def test_a_client_that_is_refused_may_only_quit() -> None:
    server = server_in(State.GREETING)
    assert server.state is State.GREETING
    for line in (b"EHLO c.example\r\n", b"NOOP\r\n", b"MAIL FROM:<>\r\n"):
        assert refused(server, line).code == 503
    command(server, b"QUIT\r\n", Reply(221, ("Bye",)))
    assert server.finished


# --- Commands and replies --------------------------------------------------------------------


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("sent", COMMANDS)
@pytest.mark.parametrize("state", AWAITING_A_COMMAND)
def test_only_what_the_table_knows_gets_through(
    state: State, sent: Command | AuthResponse, protocol: Protocol
) -> None:
    if isinstance(sent, AuthResponse):
        sent = Noop("a response would be no command")
    server = server_in(state, protocol=protocol)
    event = said(server, sent.encode())
    foreign = (Lhlo,) if protocol is Protocol.SMTP else (Ehlo, Helo)
    if isinstance(sent, foreign):
        assert isinstance(event, CommandRefused)
        assert event.reply.code == 500
    elif (state, move_of(sent)) in LEGAL:
        assert event == CommandReceived(sent)
    else:
        assert isinstance(event, CommandRefused)
        assert event.reply.code == 503
    assert server.next_event() is PAUSED


@pytest.mark.parametrize("sent", COMMANDS)
@pytest.mark.parametrize("state", [State.HELO, State.READY, State.MAIL, State.RCPT, State.BDAT])
def test_only_replies_that_the_table_knows_get_out(
    state: State, sent: Command | AuthResponse
) -> None:
    if isinstance(sent, AuthResponse) or (state, move_of(sent)) not in LEGAL:
        return
    if isinstance(sent, Lhlo):
        return
    for code, outcome in ((220, Outcome.OK), (354, Outcome.MORE), (550, Outcome.FAIL)):
        server = server_in(state)
        said(server, sent.encode())
        following = TABLE.get((state, move_of(sent), outcome))
        before = snapshot(server)
        if following is None:
            with pytest.raises(LocalProtocolError):
                server.send_reply(Reply(code, ("?",)))
            assert snapshot(server) == before
        else:
            assert server.send_reply(Reply(code, ("?",))) == f"{code} ?\r\n".encode()
            assert server.state is following


@pytest.mark.parametrize("state", STATES)
def test_no_reply_goes_out_unless_one_is_due(state: State) -> None:
    server = server_in(state)
    before = snapshot(server)
    for reply in (OK, REFUSED, GO_AHEAD):
        with pytest.raises(LocalProtocolError):
            server.send_reply(reply)
    assert snapshot(server) == before


@pytest.mark.parametrize("state", [s for s in State if s not in {State.TLS, State.CLOSED}])
@pytest.mark.parametrize("due", [False, True])
def test_421_may_be_said_at_any_time_and_is_the_end(state: State, due: bool) -> None:
    server = server_in(state)
    if due and state in AWAITING_A_COMMAND:
        said(server, b"NOOP\r\n")
    assert server.send_reply(CLOSING) == CLOSING.encode()
    assert server.finished
    with pytest.raises(LocalProtocolError):
        server.send_reply(CLOSING)
    # What the client goes on to say is not read.
    server.receive_data(b"NOOP\r\n")
    assert server.next_event() is NEED_DATA
    server.receive_eof()
    assert server.next_event() == server.next_event() == ConnectionEnded()


def test_commands_come_one_at_a_time() -> None:
    server = server_in(State.READY)
    log = drive(
        server,
        accept,
        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\n"
        b"DATA\r\ncontent\r\n.\r\nMAIL FROM:<>\r\nQUIT\r\nNOOP\r\n",
    )
    assert codes(log) == [250, 250, 250, 354, 250, 250, 250]
    assert content(log) == b"content\r\n"
    assert server.finished
    assert server.unread == 0


def test_what_is_said_behind_quit_is_not_obeyed() -> None:
    server = server_in(State.READY)
    assert codes(drive(server, accept, b"QUIT\r\nNOOP\r\n")) == [250]
    assert server.next_event() is NEED_DATA


def test_a_command_that_is_half_there_waits() -> None:
    server = server_in(State.READY)
    for octet in b"NOOP\r":
        server.receive_data(bytes([octet]))
        assert server.next_event() is NEED_DATA
    assert said(server, b"\n") == CommandReceived(Noop())


@pytest.mark.parametrize("reset", [b"RSET\r\n", b"EHLO c.example\r\n", b"HELO c.example\r\n"])
@pytest.mark.parametrize("state", [State.MAIL, State.RCPT, State.BDAT])
def test_a_reset_leaves_nothing_of_a_transaction(state: State, reset: bytes) -> None:
    server = server_in(state)
    command(server, reset, OK)
    assert server.state is State.READY
    assert server.recipients_accepted == 0
    assert refused(server, b"RCPT TO:<b@example.org>\r\n").code == 503
    assert refused(server, b"DATA\r\n").code == 503


# --- Lines that are no commands --------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\r\n", 500),
        (b"\xff\r\n", 500),
        (b"NOOP\nQUIT\r\n", 500),
        (b"RSET\rQUIT\r\n", 500),
        (b"MAIL FROM: <a@example.org>\r\n", 501),
        (b"MAIL FROM:<a@@example.org>\r\n", 501),
        (b"STARTTLS now\r\n", 501),
        (b"DATA x\r\n", 501),
        (b"AUTH \xc3\xa4\r\n", 504),
    ],
)
def test_what_cannot_be_read_is_refused_and_changes_nothing(line: bytes, code: int) -> None:
    server = server_in(State.READY)
    assert refused(server, line).code == code
    assert server.state is State.READY
    assert said(server, b"NOOP\r\n") == CommandReceived(Noop())


def test_a_line_that_is_too_long_is_dropped_and_refused_once() -> None:
    server = server_in(State.READY, limits=Limits(command_line=30))
    assert command(server, b"NOOP " + b"x" * 23 + b"\r\n", OK) == Noop("x" * 23)
    for _ in range(1000):
        server.receive_data(b"NOOP " * 20)
        assert server.next_event() is NEED_DATA
        # Nothing of it is kept.
        assert server.unread <= 1
    assert refused(server, b"\r\n").code == 500
    assert said(server, b"NOOP\r\n") == CommandReceived(Noop())


def test_the_end_of_a_line_that_is_too_long_is_no_command() -> None:
    server = server_in(State.READY, limits=Limits(command_line=30))
    log = drive(server, accept, b"x" * 28 + b"QUIT\r\nNOOP\r\n")
    assert codes(log) == [500, 250]


@pytest.mark.parametrize(
    "line", [b"\r\n", b"EHLO\r\n", b"EHLO " + b"x" * 9999 + b"\r\n", b"LHLO c.example\r\n"]
)
def test_after_too_many_errors_the_session_is_over(line: bytes) -> None:
    server = server_in(State.READY, limits=Limits(errors=3, command_line=1000))
    for _ in range(3):
        command(server, b"NOOP\r\n", OK)
        assert refused(server, line).code in {500, 501}
    event = said(server, line)
    assert isinstance(event, CommandRefused)
    assert event.reply.code == 421
    # Whatever the server says.
    server.send_reply(REFUSED)
    assert server.finished


def test_the_rest_of_a_group_whose_mail_was_refused_is_no_error() -> None:
    server = server_in(State.READY, limits=Limits(errors=1))
    said(server, b"MAIL FROM:<a@example.org>\r\n")
    server.send_reply(REFUSED)
    group = b"RCPT TO:<b@example.org>\r\n" * 5 + b"BDAT 2\r\nhi" * 3 + b"DATA\r\n"
    assert set(codes(drive(server, accept, group))) == {503}
    assert not server.finished


@pytest.mark.parametrize(
    "method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH"]
)
def test_a_browser_is_not_talked_to(method: str) -> None:
    request = f"{method} / HTTP/1.1\r\nHost: x\r\n\r\nNOOP\r\n".encode()
    for server in (server_in(State.HELO), server_in(State.TLS)):
        if state_of(server) is State.TLS:
            server.tls_started()
        server.receive_data(request)
        error = broken(server.next_event)
        assert error.reply_hint is not None
        assert error.reply_hint.code == 554
        assert server.finished
        assert server.unread == 0


def test_later_lines_are_no_browsers() -> None:
    server = server_in(State.READY)
    command(server, b"GET /\r\n", REFUSED)


@pytest.mark.parametrize(
    "line", [b"Host: x", b"host:x", b"X-Y_z~!:", b"Content-Length: 5", b"MAILFROM:<a@b>", b"BDAT:5"]
)
@pytest.mark.parametrize("state", [State.HELO, State.READY, State.MAIL, State.RCPT])
def test_nor_is_a_header_whatever_came_before(state: State, line: bytes) -> None:
    server = server_in(state)
    command(server, b"PROPFIND /\r\n", REFUSED)
    server.receive_data(line + b"\r\nNOOP\r\n")
    error = broken(server.next_event)
    assert error.reply_hint == refusals.NOT_SMTP
    assert server.finished
    assert server.unread == 0


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"MAIL FROM:<a", 501),
        (b"MAIL FROM :<a@b>", 501),
        (b"MAIL\tFROM:<a@b>", 500),
        (b"VRFY a b:c", 501),
        (b" Host: x", 500),
        (b": x", 500),
        (b"H\xc3\xa9: x", 500),
        (b"H\0: x", 500),
    ],
)
def test_a_colon_elsewhere_makes_no_header(line: bytes, code: int) -> None:
    server = server_in(State.READY)
    assert refused(server, line + b"\r\n").code == code
    assert said(server, b"NOOP Host: x\r\n") == CommandReceived(Noop("Host: x"))
    server.send_reply(OK)
    assert said(server, b"XTRA Host: x\r\n") == CommandReceived(OtherCommand("XTRA", "Host: x"))


# --- What the extensions allow ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "line"),
    [
        ("SIZE", b"MAIL FROM:<a@example.org> SIZE=10\r\n"),
        ("8BITMIME", b"MAIL FROM:<a@example.org> BODY=8BITMIME\r\n"),
        ("8BITMIME", b"MAIL FROM:<a@example.org> BODY=7BIT\r\n"),
        ("BINARYMIME", b"MAIL FROM:<a@example.org> BODY=BINARYMIME\r\n"),
        ("SMTPUTF8", b"MAIL FROM:<a@example.org> SMTPUTF8\r\n"),
        ("DSN", b"MAIL FROM:<a@example.org> RET=FULL\r\n"),
        ("DSN", b"MAIL FROM:<a@example.org> ENVID=1\r\n"),
        ("AUTH", b"MAIL FROM:<a@example.org> AUTH=<>\r\n"),
        ("REQUIRETLS", b"MAIL FROM:<a@example.org> REQUIRETLS\r\n"),
        ("MT-PRIORITY", b"MAIL FROM:<a@example.org> MT-PRIORITY=3\r\n"),
        ("DELIVERBY", b"MAIL FROM:<a@example.org> BY=120;R\r\n"),
        ("FUTURERELEASE", b"MAIL FROM:<a@example.org> HOLDFOR=10\r\n"),
        ("FUTURERELEASE", b"MAIL FROM:<a@example.org> HOLDUNTIL=2030-01-01T00:00:00Z\r\n"),
    ],
)
def test_a_parameter_of_mail_needs_its_extension(keyword: str, line: bytes) -> None:
    others = {"8BITMIME"} - {keyword}
    assert refused(server_in(State.READY, keywords=others), line).code == 555
    command(server_in(State.READY, keywords=[*others, keyword]), line, OK)
    # HELO offers none, whatever EHLO did.
    server = server_in(State.READY, keywords=[*others, keyword])
    command(server, b"HELO c.example\r\n", ehlo_reply(keyword))
    assert refused(server, line).code == 555


@pytest.mark.parametrize(
    ("keyword", "line"),
    [
        ("DSN", b"RCPT TO:<a@example.org> NOTIFY=NEVER\r\n"),
        ("DSN", b"RCPT TO:<a@example.org> ORCPT=rfc822;b@example.org\r\n"),
        ("RRVS", b"RCPT TO:<a@example.org> RRVS=2014-04-03T23:01:00Z\r\n"),
    ],
)
def test_a_parameter_of_rcpt_needs_its_extension(keyword: str, line: bytes) -> None:
    server = server_in(State.MAIL, keywords=[])
    assert refused(server, line).code == 555
    assert server.state is State.MAIL
    command(server_in(State.MAIL, keywords=[keyword]), line, OK)


@pytest.mark.parametrize(
    ("keyword", "line"),
    [
        ("STARTTLS", b"STARTTLS\r\n"),
        ("AUTH PLAIN", b"AUTH PLAIN\r\n"),
    ],
)
def test_a_command_needs_its_extension(keyword: str, line: bytes) -> None:
    assert refused(server_in(State.READY, keywords=[]), line).code == 502
    assert isinstance(said(server_in(State.READY, keywords=[keyword]), line), CommandReceived)


def test_what_is_offered_can_be_set() -> None:
    server = server_in(State.READY, keywords=[])
    assert server.capabilities == Capabilities("mx.example")
    server.capabilities = Capabilities("mx.example", {"AUTH": ("PLAIN",)})
    assert isinstance(said(server, b"AUTH PLAIN\r\n"), CommandReceived)


def test_a_message_that_is_announced_too_large_is_refused_at_once() -> None:
    server = server_in(State.READY, limits=Limits(message_size=100))
    assert refused(server, b"MAIL FROM:<a@example.org> SIZE=101\r\n").code == 552
    assert server.state is State.READY
    command(server, b"MAIL FROM:<a@example.org> SIZE=100\r\n", OK)
    unlimited = server_in(State.READY, limits=Limits(message_size=0))
    command(unlimited, b"MAIL FROM:<a@example.org> SIZE=99999999999999999999\r\n", OK)


@pytest.mark.parametrize("null", [b"<>", b"<a@example.org>"])
def test_an_address_that_is_not_ascii_needs_smtputf8(null: bytes) -> None:
    wide = "<grün@example.org>".encode()
    server = server_in(State.READY)
    assert refused(server, b"MAIL FROM:" + wide + b"\r\n").code == 553
    command(server, b"MAIL FROM:" + null + b"\r\n", OK)
    assert refused(server, b"RCPT TO:" + wide + b"\r\n").code == 553
    command(server, b"RCPT TO:<postmaster>\r\n", OK)
    command(server, b"RSET\r\n", OK)
    command(server, b"MAIL FROM:" + wide + b" SMTPUTF8\r\n", OK)
    command(server, b"RCPT TO:" + wide + b"\r\n", OK)
    command(server, b"RSET\r\n", OK)
    # The next transaction has to say so again.
    command(server, b"MAIL FROM:" + null + b"\r\n", OK)
    assert refused(server, b"RCPT TO:" + wide + b"\r\n").code == 553


def test_recipients_have_a_limit() -> None:
    server = server_in(State.MAIL, limits=Limits(recipients=2, errors=1))
    line = b"RCPT TO:<a@example.org>\r\n"
    command(server, line, REFUSED)
    command(server, line, OK)
    command(server, line, OK)
    for _ in range(5):
        # No error of the client's: it may send the rest another time.
        assert refused(server, line).code == 452
    assert server.recipients_accepted == 2
    assert server.state is State.RCPT
    command(server, b"RSET\r\n", OK)
    assert server.recipients_accepted == 0


# --- Content behind DATA ---------------------------------------------------------------------


@pytest.mark.parametrize("reply", [OK, REFUSED, Reply(451, ("Later",))])
def test_after_the_content_there_is_no_transaction(reply: Reply) -> None:
    server = server_in(State.DATA)
    log = drive(server, lambda _: reply, b"..a\r\n.b\r\n.\r\n")
    assert content(log) == b".a\r\nb\r\n"
    assert log[-2:] == [ContentEnded(None), reply]
    assert server.state is State.READY
    assert server.recipients_accepted == 0
    assert refused(server, b"RCPT TO:<b@example.org>\r\n").code == 503
    assert refused(server, b"DATA\r\n").code == 503


def test_behind_a_data_that_was_refused_come_commands() -> None:
    server = server_in(State.RCPT)
    assert said(server, b"DATA\r\n.\r\nNOOP\r\n") == CommandReceived(Data())
    server.send_reply(REFUSED)
    assert server.state is State.RCPT
    assert codes(drive(server, accept)) == [500, 250]


@pytest.mark.parametrize(
    "false_end",
    [
        *(b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\r.\r\n", b"\r\n.\r"),
        *(b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\r.\n\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n"),
        *(b"\x0b.\x0b", b"\x85.\x85", b"\xe2\x80\xa8.\xe2\x80\xa8", b"\r\n .\r\n", b"\r\n. \r\n"),
    ],
)
@pytest.mark.parametrize("start", [b"", b"body"])
@pytest.mark.parametrize("step", [1, 2, 3, 999])
@pytest.mark.parametrize("policy", BareLineEndings)
def test_nothing_else_is_the_end_of_the_content(
    false_end: bytes, start: bytes, step: int, policy: BareLineEndings
) -> None:
    server = ServerConnection(bare_line_endings=policy)
    server.send_reply(GREETING)
    opening = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n"
    drive(server, accept, opening)
    sent = start + false_end + b"MAIL FROM:<evil@example.org>\r\nDATA\r\n"
    log: list[ServerEvent | Reply] = []
    stream = sent + b"x\r\n.\r\nNOOP\r\n"
    for index in range(0, len(stream), step):
        log += drive(server, accept, stream[index : index + step])
    events = [entry for entry in log if not isinstance(entry, ContentReceived | Reply)]
    [ended, noop] = events
    assert isinstance(ended, ContentEnded)
    assert noop == CommandReceived(Noop())
    bare = (sent + b"x\r\n").replace(b"\r\n", b"").translate(None, b"\r\n") != (
        sent + b"x\r\n"
    ).replace(b"\r\n", b"")
    if bare and policy is BareLineEndings.REFUSE:
        assert ended.refusal is not None
        assert str(ended.refusal).startswith("550 5.6.0")
    else:
        assert ended.refusal is None


def test_content_that_is_refused_is_not_accepted() -> None:
    server = server_in(State.DATA)
    server.receive_data(b"a\nb\r\n.\r\n")
    assert server.next_event() == ContentReceived(b"a")
    event = server.next_event()
    assert isinstance(event, ContentEnded)
    before = snapshot(server)
    with pytest.raises(LocalProtocolError):
        server.send_reply(OK)
    assert snapshot(server) == before
    server.send_reply(REFUSED)
    assert server.state is State.READY


@pytest.mark.parametrize("step", [1, 7, 999])
@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, True), (101, False), (500, False)])
def test_content_has_a_limit_and_is_read_to_its_end(size: int, step: int, fits: bool) -> None:
    server = server_in(State.DATA, limits=Limits(message_size=100))
    stream = b"x" * (size - 2) + b"\r\n.\r\nNOOP\r\n"
    log: list[ServerEvent | Reply] = []
    for index in range(0, len(stream), step):
        log += drive(server, accept, stream[index : index + step])
    assert content(log) == stream[: min(size, 100)]
    assert codes(log) == [250 if fits else 552, 250]


def test_content_may_have_no_limit() -> None:
    server = server_in(State.DATA, limits=Limits(message_size=0))
    assert codes(drive(server, accept, b"x" * 100_000 + b"\r\n.\r\n")) == [250]


def test_content_is_not_collected() -> None:
    server = server_in(State.DATA)
    for _ in range(100):
        server.receive_data(b"x" * 10_000)
        assert server.next_event() == ContentReceived(b"x" * 10_000)
        assert server.next_event() is NEED_DATA
        assert server.unread == 0


# --- Content by BDAT -------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [b"", b"\r\n.\r\n", b"QUIT\r\n", b"\0\xff\r"])
@pytest.mark.parametrize("step", [1, 2, 999])
def test_only_its_size_ends_a_chunk(chunk: bytes, step: int) -> None:
    server = server_in(State.RCPT)
    stream = b"BDAT %d\r\n%sBDAT %d LAST\r\n%sNOOP\r\n" % ((len(chunk), chunk) * 2)
    log: list[ServerEvent | Reply] = []
    for index in range(0, len(stream), step):
        log += drive(server, accept, stream[index : index + step])
    assert content(log) == chunk * 2
    assert [entry for entry in log if not isinstance(entry, ContentReceived)] == [
        *(ContentEnded(None, last=False), OK, ContentEnded(None, last=True), OK),
        *(CommandReceived(Noop()), OK),
    ]
    assert server.state is State.READY
    assert server.recipients_accepted == 0


def test_within_chunks_there_is_no_data_and_no_mail() -> None:
    server = server_in(State.BDAT)
    assert refused(server, b"DATA\r\n").code == 503
    assert refused(server, b"MAIL FROM:<>\r\n").code == 503
    assert refused(server, b"RCPT TO:<postmaster>\r\n").code == 503
    command(server, b"NOOP\r\n", OK)
    assert server.state is State.BDAT


@pytest.mark.parametrize("last", [b"", b" LAST"])
@pytest.mark.parametrize("state", [State.GREETING, State.HELO, State.READY, State.MAIL])
def test_the_octets_of_a_chunk_that_is_refused_are_no_commands(state: State, last: bytes) -> None:
    server = server_in(state)
    server.receive_data(b"BDAT 12" + last + b"\r\nQUIT\r\n")
    assert server.next_event() is NEED_DATA
    assert server.unread == 0
    event = said(server, b"RSET\r\nNOOP\r\n")
    assert isinstance(event, CommandRefused)
    assert event.reply.code == 503
    assert codes(drive(server, accept)) == []
    server.send_reply(event.reply)
    assert state_of(server) is (State.READY if state is State.MAIL else state)
    assert len(codes(drive(server, accept))) == 1


def test_a_chunk_needs_its_extension() -> None:
    server = server_in(State.RCPT, keywords=[])
    assert codes(drive(server, accept, b"BDAT 6\r\nQUIT\r\nNOOP\r\n")) == [502, 250]
    assert server.state is State.READY


@pytest.mark.parametrize("line", [b"BDAT", b"BDAT -1", b"bdat x", b"BDAT 5LAST", b"BDAT 5 LAST x"])
def test_where_a_chunk_ends_must_be_clear(line: bytes) -> None:
    server = server_in(State.RCPT)
    server.receive_data(line + b"\r\nQUIT\r\n")
    error = broken(server.next_event)
    assert error.reply_hint is not None
    assert error.reply_hint.code == 501
    assert server.unread == 0


def test_a_chunk_as_large_as_can_be_is_not_waited_for_in_memory() -> None:
    server = server_in(State.RCPT)
    server.receive_data(b"BDAT 99999999999999999999 LAST\r\n")
    for _ in range(100):
        server.receive_data(b"x" * 10_000)
        assert server.next_event() is NEED_DATA
        assert server.unread == 0
    server.receive_eof()
    broken(server.next_event)


def test_chunks_have_a_limit_together() -> None:
    server = server_in(State.RCPT, limits=Limits(message_size=10))
    log = drive(server, accept, b"BDAT 6\r\n123456BDAT 5\r\nQUIT\r\nBDAT 1 LAST\r\nxNOOP\r\n")
    # "QUIT\r" is content, and the LF behind it an octet too much.
    assert content(log) == b"123456"
    assert codes(log)[:2] == [250, 552]
    server = server_in(State.RCPT, limits=Limits(message_size=10))
    log = drive(server, accept, b"BDAT 6\r\n123456BDAT 6\r\nQUIT\r\nBDAT 1 LAST\r\nxNOOP\r\n")
    assert codes(log) == [250, 552, 503, 250]
    assert server.state is State.READY


def test_a_chunk_that_is_too_large_is_not_accepted() -> None:
    server = server_in(State.RCPT, limits=Limits(message_size=1))
    event = said(server, b"BDAT 2 LAST\r\nhi")
    assert isinstance(event, ContentEnded)
    assert event.refusal is not None
    with pytest.raises(LocalProtocolError):
        server.send_reply(OK)
    server.send_reply(event.refusal)
    assert server.state is State.READY


def test_binary_content_does_not_go_behind_data() -> None:
    server = server_in(State.READY)
    command(server, b"MAIL FROM:<a@example.org> BODY=BINARYMIME\r\n", OK)
    command(server, b"RCPT TO:<b@example.org>\r\n", OK)
    assert refused(server, b"DATA\r\n").code == 503
    assert codes(drive(server, accept, b"BDAT 1 LAST\r\nx")) == [250]
    command(server, b"MAIL FROM:<a@example.org>\r\n", OK)
    command(server, b"RCPT TO:<b@example.org>\r\n", OK)
    command(server, b"DATA\r\n", GO_AHEAD)


# --- LMTP ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream", [b"DATA\r\nx\r\n.\r\n", b"BDAT 1 LAST\r\nx", b"BDAT 1\r\nxBDAT 0 LAST\r\n"]
)
@pytest.mark.parametrize("replies", [[OK, OK], [OK, REFUSED], [REFUSED, OK], [REFUSED, REFUSED]])
def test_in_lmtp_each_recipient_has_its_reply(stream: bytes, replies: list[Reply]) -> None:
    server = server_in(State.RCPT, protocol=Protocol.LMTP)
    command(server, b"RCPT TO:<refused@example.org>\r\n", REFUSED)
    command(server, b"RCPT TO:<b@example.org>\r\n", OK)
    server.receive_data(stream + b"NOOP\r\n")
    ended = ContentEnded(None, last=True)
    while (event := server.next_event()) != ended:
        assert event is not NEED_DATA
        assert event is not PAUSED
        if not isinstance(event, ContentReceived):
            server.send_reply(GO_AHEAD if event == CommandReceived(Data()) else OK)
    for reply in replies:
        assert server.next_event() is PAUSED
        assert state_of(server) in {State.DATA, State.RCPT, State.BDAT}
        assert server.recipients_accepted == 2
        server.send_reply(reply)
    assert state_of(server) is State.READY
    assert server.next_event() == CommandReceived(Noop())


def test_in_lmtp_content_that_is_refused_is_so_for_all() -> None:
    server = server_in(State.RCPT, protocol=Protocol.LMTP, limits=Limits(message_size=1))
    command(server, b"RCPT TO:<b@example.org>\r\n", OK)
    assert codes(drive(server, accept, b"DATA\r\nxxx\r\n.\r\n")) == [354, 552, 552]
    assert server.state is State.READY


def test_in_lmtp_data_needs_a_recipient() -> None:
    server = server_in(State.MAIL, protocol=Protocol.LMTP)
    assert refused(server, b"DATA\r\n").code == 503


def test_in_lmtp_the_last_chunk_has_as_many_replies_as_recipients_even_none() -> None:
    server = server_in(State.MAIL, protocol=Protocol.LMTP)
    log = drive(server, accept, b"BDAT 6 LAST\r\nQUIT\r\n" + b"NOOP\r\n")
    assert log == [CommandReceived(Noop()), OK]
    assert server.state is State.READY
    # Without a transaction, that is an error like any other.
    assert codes(drive(server, accept, b"BDAT 0 LAST\r\n")) == [503]
    server = server_in(State.MAIL, protocol=Protocol.LMTP)
    assert codes(drive(server, accept, b"BDAT 0\r\n")) == [503]


# --- STARTTLS --------------------------------------------------------------------------------

INJECTED = [b"x", b"\r", b"\n", b"NOOP\r\n", b"EHLO injected\r\n", b"\x16\x03\x01"]


def test_tls_forgets_what_was_said_before() -> None:
    server = server_in(State.TLS)
    assert server.next_event() is PAUSED
    server.tls_started()
    assert server.state is State.HELO
    assert server.secure
    assert server.capabilities is NO_CAPABILITIES
    assert refused(server, b"MAIL FROM:<>\r\n").code == 503
    command(server, b"EHLO c.example\r\n", ehlo_reply("STARTTLS"))
    # Once is enough, though it was offered.
    assert refused(server, b"STARTTLS\r\n").code == 503


@pytest.mark.parametrize("injected", INJECTED)
def test_no_octet_behind_starttls_gets_into_tls(injected: bytes) -> None:
    server = server_in(State.READY)
    server.receive_data(b"STARTTLS\r\n" + injected)
    error = broken(server.next_event)
    assert error.reply_hint is not None
    assert error.reply_hint.code == 554
    assert server.finished
    with pytest.raises(LocalProtocolError):
        server.tls_started()


@pytest.mark.parametrize("injected", INJECTED)
def test_no_octet_before_the_servers_answer_gets_into_tls(injected: bytes) -> None:
    server = server_in(State.READY)
    said(server, b"STARTTLS\r\n")
    server.receive_data(injected)
    with pytest.raises(RemoteProtocolError) as error:
        server.send_reply(GREETING)
    assert error.value.reply_hint is not None
    assert server.finished
    assert broken(server.next_event) is error.value


@pytest.mark.parametrize("injected", INJECTED)
def test_no_octet_before_the_handshake_gets_into_tls(injected: bytes) -> None:
    server = server_in(State.TLS)
    server.receive_data(b"")
    with pytest.raises(RemoteProtocolError):
        server.receive_data(injected)
    assert server.finished


def test_nothing_is_said_before_the_handshake() -> None:
    server = server_in(State.TLS)
    with pytest.raises(LocalProtocolError):
        server.send_reply(CLOSING)
    server.tls_started()
    assert server.send_reply(CLOSING)


def test_only_220_lets_tls_begin() -> None:
    server = server_in(State.READY)
    said(server, b"STARTTLS\r\n")
    before = snapshot(server)
    with pytest.raises(LocalProtocolError, match="220"):
        server.send_reply(OK)
    assert snapshot(server) == before
    server.send_reply(Reply(454, ("Not now",)))
    assert server.state is State.READY


def test_starttls_is_recognised_as_a_command_only() -> None:
    server = server_in(State.MAIL)
    log = drive(
        server, accept, b"RCPT TO:<starttls@example.org>\r\nDATA\r\nSTARTTLS\r\n.\r\nNOOP\r\n"
    )
    assert codes(log) == [250, 354, 250, 250]


def test_starttls_that_is_refused_may_have_commands_behind_it() -> None:
    server = server_in(State.READY, secure=True)
    assert codes(drive(server, accept, b"STARTTLS\r\nNOOP\r\n")) == [503, 250]


@pytest.mark.parametrize("state", [state for state in State if state is not State.TLS])
def test_tls_starts_behind_220_only(state: State) -> None:
    server = server_in(state)
    with pytest.raises(LocalProtocolError):
        server.tls_started()
    assert not server.secure


# --- AUTH ------------------------------------------------------------------------------------


def test_an_exchange_succeeds_once() -> None:
    server = server_in(State.READY)
    assert command(server, b"AUTH LOGIN\r\n", CHALLENGE) == Auth("LOGIN")
    assert said(server, b"bWU=\r\n") == AuthResponseReceived(b"me")
    server.send_reply(CHALLENGE)
    assert said(server, b"\r\n") == AuthResponseReceived(b"")
    assert not server.authenticated
    server.send_reply(Reply(235, ("Welcome",)))
    assert server.state is State.READY
    assert refused(server, b"AUTH PLAIN\r\n").code == 503
    # What was authenticated in clear text must not count within TLS.
    assert refused(server, b"STARTTLS\r\n").code == 503


def test_an_initial_response_may_be_enough() -> None:
    server = server_in(State.READY)
    assert command(server, b"AUTH PLAIN AG1lAG1l\r\n", OK) == Auth("PLAIN", b"\0me\0me")
    assert server.authenticated


@pytest.mark.parametrize("line", [b"AUTH PLAIN AG1lAG1l\r\n", b"AUTH LOGIN\r\n"])
def test_an_exchange_fails(line: bytes) -> None:
    server = server_in(State.READY)
    command(server, line, REFUSED)
    assert server.state is State.READY
    assert not server.authenticated


@pytest.mark.parametrize("line", [b"AUTH PLAIN AG1lAG1l\r\n", b"AUTH PLAIN\r\n"])
@pytest.mark.parametrize("behind", [b"x", b"\n", b"NOOP\r\n", b"AG1lAG1l\r\n"])
def test_who_says_auth_waits_for_its_reply(line: bytes, behind: bytes) -> None:
    """RFC 4954 4, RFC 2920 3.1"""
    server = server_in(State.READY)
    server.receive_data(line + behind)
    error = broken(server.next_event)
    assert error.reply_hint is not None
    assert error.reply_hint.code == 503
    assert server.finished


def test_auth_that_is_refused_may_have_commands_behind_it() -> None:
    server = server_in(State.MAIL)
    assert codes(drive(server, accept, b"AUTH PLAIN\r\nNOOP\r\n")) == [503, 250]


@pytest.mark.parametrize("line", [b"*\r\n", b"AG1lAG1l\r\n", b""])
def test_logins_that_fail_are_errors(line: bytes) -> None:
    server = server_in(State.READY, limits=Limits(errors=3))
    for _ in range(4):
        if line:
            command(server, b"AUTH PLAIN\r\n", CHALLENGE)
            assert isinstance(said(server, line), AuthResponseReceived)
            server.send_reply(REFUSED)
        else:
            command(server, b"AUTH PLAIN AG1lAG1l\r\n", REFUSED)
        assert not server.finished
    assert refused(server, b"AUTH PLAIN\r\n").code == 421
    assert server.finished


def test_logins_that_fail_for_now_are_no_errors() -> None:
    server = server_in(State.READY, limits=Limits(errors=1))
    for _ in range(3):
        command(server, b"AUTH PLAIN AG1lAG1l\r\n", Reply(454, ("Later",)))
    command(server, b"NOOP\r\n", OK)


def test_an_exchange_that_is_cancelled_has_failed() -> None:
    server = server_in(State.AUTH)
    assert said(server, b"*\r\n") == AuthResponseReceived(None)
    for reply in (OK, CHALLENGE):
        with pytest.raises(LocalProtocolError):
            server.send_reply(reply)
    server.send_reply(Reply(501, ("Cancelled",)))
    assert server.state is State.READY
    assert not server.authenticated


@pytest.mark.parametrize(
    ("line", "code", "status"),
    [
        (b"!!!\r\n", 501, "5.5.2"),
        (b"AAA\r\n", 501, "5.5.2"),
        (b"QUIT now\r\n", 501, "5.5.2"),
        (b"A" * 12_292 + b"\r\n", 500, "5.5.6"),
    ],
)
def test_a_response_that_cannot_be_read_ends_the_exchange(
    line: bytes, code: int, status: str
) -> None:
    server = server_in(State.AUTH)
    reply = refused(server, line)
    assert reply.code == code
    assert str(reply.enhanced_status) == status
    assert server.state is State.READY
    assert said(server, b"NOOP\r\n") == CommandReceived(Noop())


def test_a_long_response_is_read() -> None:
    server = server_in(State.AUTH)
    assert said(server, b"AAAA" * 3072 + b"\r\n") == AuthResponseReceived(bytes(3 * 3072))


def test_secrets_are_in_no_repr() -> None:
    server = server_in(State.AUTH)
    assert "secret" not in repr(said(server, b"c2VjcmV0\r\n"))
    server.send_reply(REFUSED)
    assert "secret" not in repr(said(server, b"AUTH PLAIN c2VjcmV0\r\n"))


# --- The end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_a_client_may_go_away_between_commands_only(state: State) -> None:
    server = server_in(state)
    server.receive_eof()
    if state in {State.DATA, State.AUTH, State.TLS}:
        broken(server.next_event)
    else:
        assert server.next_event() == ConnectionEnded()
    assert server.finished
    with pytest.raises(LocalProtocolError):
        server.receive_data(b"x")


@pytest.mark.parametrize("half", [b"N", b"NOOP\r", b"BDAT 5\r\nhal", b"x" * 5000])
def test_a_client_may_not_go_away_in_the_middle(half: bytes) -> None:
    server = server_in(State.RCPT)
    server.receive_data(half)
    server.receive_eof()
    assert "RCPT" in str(broken(server.next_event))


def test_commands_are_read_before_the_end_of_the_input() -> None:
    server = server_in(State.READY)
    server.receive_data(b"NOOP\r\nQUIT\r\n")
    server.receive_eof()
    assert drive(server, accept) == [
        *(CommandReceived(Noop()), OK),
        *(CommandReceived(Quit()), OK),
        ConnectionEnded(),
    ]


# --- However the input is cut, and whatever it is --------------------------------------------

PIECES = st.sampled_from(
    [
        b"EHLO c.example\r\n",
        b"HELO c.example\r\n",
        b"MAIL FROM:<a@example.org>\r\n",
        b"MAIL FROM:<a@example.org> BODY=BINARYMIME\r\n",
        b"RCPT TO:<b@example.org>\r\n",
        b"RCPT TO:<c@example.org>\r\n",
        b"DATA\r\n",
        b"a line\r\n",
        b".\r\n",
        b"..\r\n",
        b"bare\n",
        b"\r",
        b"BDAT 3\r\nabc",
        b"BDAT 3 LAST\r\nabc",
        b"BDAT 30\r\nQUIT\r\n",
        b"BDAT x\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"VRFY a\r\n",
        b"XTRA\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH PLAIN AG1lAG1l\r\n",
        b"bWU=\r\n",
        b"*\r\n",
        b"x" * 70 + b"\r\n",
        b"QUIT\r\n",
        b"GET / HTTP/1.1\r\n",
        b"Host: x\r\n",
    ]
)
STREAMS = st.one_of(
    st.lists(PIECES, max_size=15).map(b"".join),
    st.lists(PIECES, max_size=12).map(
        lambda pieces: b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\n" + b"".join(pieces)
    ),
    st.binary(max_size=80),
)
# How the server answers what it may answer as it likes.
MOODS = st.lists(st.booleans(), min_size=1, max_size=5)


class Moody:
    """Answers in a way that depends on nothing but what it has answered before."""

    def __init__(self, moods: list[bool]) -> None:
        self.moods = moods
        self.answered = 0

    def __call__(self, event: ServerEvent) -> Reply:
        good = self.moods[self.answered % len(self.moods)]
        self.answered += 1
        if good:
            return accept(event)
        match event:
            case CommandRefused() | ContentEnded(Reply()):
                return accept(event)
            case _:
                return REFUSED


def cut(stream: bytes, places: Iterable[int] = ()) -> list[bytes]:
    """Cut a stream at these places, and behind each AUTH: a client waits there. RFC 4954 4"""
    waits = (match.end() for match in re.finditer(rb"AUTH [^\n]*\n", stream))
    edges = sorted({0, *places, *waits, len(stream)})
    return [stream[start:end] for start, end in pairwise(edges)]


def outcome(
    pieces: list[bytes], moods: list[bool], protocol: Protocol, *, eof: bool
) -> tuple[list[ServerEvent | Reply], bytes, str, State]:
    limits = Limits(command_line=60, auth_line=60, message_size=25, errors=3, recipients=2)
    server = ServerConnection(protocol=protocol, limits=limits)
    server.send_reply(GREETING)
    respond = Moody(moods)
    log: list[ServerEvent | Reply] = []
    error = ""
    try:
        for piece in pieces:
            server.receive_data(piece)
            drive(server, respond, log=log)
        if eof:
            server.receive_eof()
            drive(server, respond, log=log)
    except RemoteProtocolError as caught:
        error = str(caught)
    events: list[ServerEvent | Reply] = [
        entry for entry in log if not isinstance(entry, ContentReceived)
    ]
    return events, content(log), error, server.state


@given(
    STREAMS,
    st.lists(st.integers(0, 500), max_size=6),
    MOODS,
    st.sampled_from(Protocol),
    st.booleans(),
)
def test_cutting_the_input_changes_nothing(
    stream: bytes, places: list[int], moods: list[bool], protocol: Protocol, eof: bool
) -> None:
    if protocol is Protocol.LMTP:
        stream = stream.replace(b"EHLO", b"LHLO")
    whole = outcome(cut(stream), moods, protocol, eof=eof)
    pieces = cut(stream, [place % (len(stream) + 1) for place in places])
    assert outcome(pieces, moods, protocol, eof=eof) == whole
    assert outcome([bytes([octet]) for octet in stream], moods, protocol, eof=eof) == whole


@given(
    st.sampled_from(STATES),
    st.lists(st.one_of(PIECES, st.just(b"STARTTLS\r\n"), st.binary(max_size=40))),
    MOODS,
    st.sampled_from(Protocol),
)
def test_nothing_else_than_the_documented_errors_comes_out(
    state: State, pieces: list[bytes], moods: list[bool], protocol: Protocol
) -> None:
    server = server_in(state, protocol=protocol)
    respond = Moody(moods)
    try:
        for piece in pieces:
            drive(server, respond, piece)
            if server.state is State.TLS:
                server.tls_started()
    except RemoteProtocolError:
        assert server.finished
