"""The client's engine: what it lets out, and which reply it takes for the answer to what."""

from collections.abc import Callable
from itertools import chain, pairwise
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtp_proto.engine import (
    GROUP_ENDERS,
    LEGAL,
    NEED_DATA,
    TABLE,
    ClientConnection,
    ClientEvent,
    ConnectionEnded,
    EndOfContent,
    Greeting,
    LocalProtocolError,
    Move,
    Protocol,
    RemoteProtocolError,
    ReplyReceived,
    Request,
    State,
    Unsolicited,
    challenge,
    move_of,
    outcome_of,
)
from smtp_proto.wire import (
    NO_CAPABILITIES,
    Auth,
    AuthResponse,
    Bdat,
    Body,
    Command,
    Data,
    Ehlo,
    Helo,
    Lhlo,
    Limits,
    LineEndings,
    Mailbox,
    MailParameters,
    Noop,
    Octets,
    OtherCommand,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    Vrfy,
    WireError,
    parse_forward_path,
)
from tests.engine.sessions import (
    CHALLENGE,
    COMMANDS,
    GO_AHEAD,
    GREETING,
    KEYWORDS,
    OK,
    REFUSED,
    answers,
    ask,
    broken,
    client_in,
    ehlo_reply,
    iterate,
    mail,
    poll,
    rcpt,
    snapshot,
    state_of,
    states,
)

CLOSING = Reply(421, ("4.3.2 Shutting down",))
STATES = list(State)
BINARY = mail(parameters=MailParameters(body=Body.BINARY_MIME))
COMMAND_STATES = [state for state in State if (state, Move.NOOP) in LEGAL]


def pipelined(*commands: Command, state: State = State.READY) -> ClientConnection:
    """Return a client that has sent all of these at once."""
    client = client_in(state)
    for each in commands:
        client.send(each)
    return client


# --- Many at once ----------------------------------------------------------------------------


def one_by_one(client: ClientConnection, commands: list[Command | AuthResponse]) -> bytes | str:
    """Send one after the other, as far as they are legal; return the octets, or why not."""
    try:
        return b"".join([client.send(command) for command in commands])
    except LocalProtocolError as error:
        return str(error)


@pytest.mark.parametrize("pipelining", [True, False])
@given(
    st.sampled_from(STATES),
    st.lists(st.sampled_from([*COMMANDS, BINARY, rcpt(), rcpt(), Bdat(0)]), max_size=4),
    st.lists(st.sampled_from([mail(), BINARY, rcpt(), Rset()]), max_size=2),
)
def test_a_group_is_its_commands_one_by_one(
    pipelining: bool,
    state: State,
    commands: list[Command | AuthResponse],
    before: list[Command | AuthResponse],
) -> None:
    both = [client_in(state, pipelining=pipelining) for _ in range(2)]
    for client in both:
        one_by_one(client, before)
    group, single = both
    untouched = snapshot(group)
    expected = one_by_one(single, commands)
    if isinstance(expected, bytes):
        assert group.send_group(commands) == expected
        assert snapshot(group) == snapshot(single)
    else:
        with pytest.raises(LocalProtocolError) as caught:
            group.send_group(commands)
        assert str(caught.value) == expected
        assert snapshot(group) == untouched, "a group that is refused has changed something"


def test_a_group_of_which_one_cannot_be_written_changes_nothing() -> None:
    client = client_in(State.READY)
    before = snapshot(client)
    with pytest.raises(TypeError, match="path"):
        client.send_group([BINARY, Rcpt(cast("Mailbox", "recipient@example.org"))])
    assert snapshot(client) == before


def test_content_may_be_binary_where_a_group_said_so() -> None:
    client = client_in(State.READY)
    with pytest.raises(LocalProtocolError, match="BINARYMIME"):
        client.send_group([BINARY, rcpt(), Data()])
    assert client.send_group([mail(), rcpt(), Data()]).endswith(b"DATA\r\n")


def test_octets_before_a_group_are_early() -> None:
    client = client_in(State.READY)
    client.receive_data(b"250 Too soon\r\n")
    assert client.send_group([]) == b""
    client.send_group([mail(), rcpt()])
    with pytest.raises(RemoteProtocolError, match="in answer to nothing"):
        client.next_event()


REPLIES = st.lists(
    st.sampled_from(
        [
            *[b"250 2.1.0 Ok\r\n", b"354 Go\r\n", b"550 No\r\n", b"250-One\r\n250 two\r\n"],
            *[b"250 2.1.5 Ok\r\n", b"421 Bye\r\n", b"nonsense\r\n", b"250", b"250-One\r\n"],
            *[b"250-One\r\n550 two\r\n", b"250 " + b"x" * 60 + b"\r\n"],
        ]
    ),
    max_size=8,
).map(b"".join)


GROUP = (mail(), *[rcpt()] * 4, Data())
YES, NO, TWO_LINES = b"250 Ok\r\n", b"550 No\r\n", b"250-One\r\n250 Ok\r\n"


@example(YES * 5 + b"354 Go\r\n", [], GROUP, False)  # the same reply to each of them
@example(YES * 3 + NO + YES + b"354 Go\r\n", [], GROUP, False)
@example(YES + TWO_LINES + YES * 2 + TWO_LINES + b"354 Go\r\n", [], GROUP, False)
@example(YES * 2 + TWO_LINES + YES * 2 + b"354 Go\r\n", [], GROUP, False)
@example(YES + NO * 4 + b"354 Go\r\n", [], GROUP, False)  # no recipient, so no content
@example(YES * 7, [], GROUP, True)
@given(
    REPLIES,
    st.lists(st.integers(0, 200), max_size=3),
    st.sampled_from([(), (mail(),), GROUP, (Quit(),), (StartTls(),)]),
    st.booleans(),
)
def test_replies_at_once_are_the_same_one_by_one(
    stream: bytes, places: list[int], commands: tuple[Command, ...], eof: bool
) -> None:
    def run(
        take: Callable[[ClientConnection], list[tuple[Request, Reply]]],
    ) -> tuple[list[object], State, State, int, int, bool]:
        client = client_in(State.READY, limits=Limits(reply_line=50))
        client.send_group(commands)
        heard: list[object] = []
        edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
        for start, end in pairwise(edges):
            client.receive_data(stream[start:end])
            heard += take(client)
        # How far that has come, and what is left to next_event().
        unread, outstanding = client.unread, client.outstanding
        if eof:
            client.receive_eof()
        try:
            heard += poll(client)
        except RemoteProtocolError as error:
            heard += [str(error), str(error.__cause__)]
        return heard, *states(client), unread, outstanding, takes_content(client)

    def takes_content(client: ClientConnection) -> bool:
        try:
            client.send_content(b"Any")
        except LocalProtocolError:
            return False
        return True

    def one_by_one(client: ClientConnection) -> list[tuple[Request, Reply]]:
        replies: list[tuple[Request, Reply]] = []
        try:
            while client.outstanding and isinstance(event := client.next_event(), ReplyReceived):
                replies.append((event.command, event.reply))
        except RemoteProtocolError:
            pass
        return replies

    assert run(ClientConnection.next_replies) == run(one_by_one)


# --- The greeting ----------------------------------------------------------------------------


def test_the_first_reply_answers_the_connection() -> None:
    client = ClientConnection()
    assert client.outstanding == 1
    assert states(client)[1] is State.HELO
    assert answers(client, GREETING) == [ReplyReceived(Greeting.GREETING, GREETING)]
    assert states(client) == (State.HELO, State.HELO)
    assert client.outstanding == 0


def test_nothing_is_sent_before_the_greeting() -> None:
    client = ClientConnection()
    assert not any(client.can_send(command) for command in COMMANDS)


def test_behind_a_greeting_that_refuses_only_quit_is_left() -> None:
    client = ClientConnection()
    answers(client, Reply(554, ("No",)))
    assert state_of(client) is State.GREETING
    assert not client.finished
    assert [command for command in COMMANDS if client.can_send(command)] == [Quit()]
    ask(client, Quit(), Reply(221, ("Bye",)))
    assert client.finished


@pytest.mark.parametrize("code", [334, 354, 399])
def test_a_greeting_that_wants_more_is_no_greeting(code: int) -> None:
    client = ClientConnection()
    client.receive_data(Reply(code, ("?",)).encode())
    assert str(code) in str(broken(client.next_event))


# --- What is legal ---------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("state", STATES)
def test_only_what_the_table_knows_goes_out_and_a_refusal_changes_nothing(
    state: State, command: Command, protocol: Protocol
) -> None:
    client = client_in(state, protocol=protocol)
    foreign = (Lhlo,) if protocol is Protocol.SMTP else (Ehlo, Helo)
    greeted = state is not State.GREETING
    legal = greeted and (state, move_of(command)) in LEGAL and not isinstance(command, foreign)
    before = snapshot(client)
    assert client.can_send(command) == legal
    assert snapshot(client) == before
    if legal:
        assert client.send(command) == command.encode()
        assert client.outstanding == 1
        assert client.state is state
        assert client.projected is LEGAL[state, move_of(command)]
    else:
        with pytest.raises(LocalProtocolError):
            client.send(command)
        assert snapshot(client) == before


def test_bdat_goes_out_with_its_octets_only() -> None:
    client = client_in(State.RCPT)
    assert client.can_send(Bdat(5))
    with pytest.raises(LocalProtocolError, match="send_chunk"):
        client.send(Bdat(5))
    assert client.outstanding == 0


def test_binary_content_does_not_go_behind_data() -> None:
    client = client_in(State.READY)
    ask(client, mail(parameters=MailParameters(body=Body.BINARY_MIME)), OK)
    ask(client, rcpt(), OK)
    with pytest.raises(LocalProtocolError, match="BINARYMIME"):
        client.send(Data())
    client.send_chunk(b"\0", last=True)
    answers(client, OK)
    # The next message may go there again.
    ask(client, mail(), OK)
    ask(client, rcpt(), OK)
    assert client.can_send(Data())


# --- Pipelining ------------------------------------------------------------------------------


def test_a_whole_group_goes_out_at_once() -> None:
    client = client_in(State.READY)
    group: list[Command] = [mail(), rcpt("a@example.org"), rcpt("b@example.org"), Data()]
    for command in group:
        client.send(command)
    assert client.outstanding == 4
    assert state_of(client) is State.READY
    assert states(client)[1] is State.DATA
    events = answers(client, OK, OK, REFUSED, GO_AHEAD)
    assert events == [
        ReplyReceived(command, reply)
        for command, reply in zip(group, [OK, OK, REFUSED, GO_AHEAD], strict=True)
    ]
    assert states(client) == (State.DATA, State.DATA)


@pytest.mark.parametrize(
    ("state", "command"),
    [
        (state, command)
        for state in STATES
        for command in COMMANDS
        if state not in {State.GREETING, State.HELO}
        and (state, move_of(command)) in LEGAL
        and not isinstance(command, Lhlo)
    ],
)
def test_behind_a_command_that_ends_a_group_nothing_goes_out(
    state: State, command: Command
) -> None:
    client = client_in(state)
    client.send(command)
    followers = [follower for follower in COMMANDS if client.can_send(follower)]
    assert bool(followers) == (move_of(command) not in GROUP_ENDERS)


def test_nothing_goes_before_the_greeting() -> None:
    with pytest.raises(LocalProtocolError, match="EHLO: wait for the greeting"):
        ClientConnection().send(Ehlo("a.example"))


@pytest.mark.parametrize(("command", "name"), [("QUIT", "str"), (Quit, "type"), (None, "NoneType")])
def test_what_is_no_command_is_not_sent(command: object, name: str) -> None:
    send: Callable[..., bytes] = client_in(State.READY).send
    with pytest.raises(LocalProtocolError, match=f"not a {name}"):
        send(command)


@pytest.mark.parametrize(
    "client",
    [
        client_in(State.READY, pipelining=False),
        client_in(State.READY, keywords=["CHUNKING"]),
    ],
    ids=["not wanted", "not offered"],
)
def test_without_pipelining_one_command_is_outstanding_at_most(client: ClientConnection) -> None:
    client.send(mail())
    with pytest.raises(LocalProtocolError, match="wait for the reply to MAIL"):
        client.send(rcpt())
    answers(client, OK)
    client.send(rcpt())
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"", last=True)
    answers(client, OK)
    client.send_chunk(b"", last=True)
    assert not any(client.can_send(command) for command in COMMANDS)
    answers(client, OK)
    ask(client, mail(), OK)
    ask(client, rcpt(), OK)
    ask(client, Data(), GO_AHEAD)
    client.end_content()
    assert not any(client.can_send(command) for command in COMMANDS)


def test_the_end_of_content_may_begin_a_group() -> None:
    client = client_in(State.DATA)
    client.end_content()
    client.send(Rset())
    client.send(mail())
    client.send(rcpt())
    client.send(Data())
    events = answers(client, OK, OK, OK, OK, GO_AHEAD)
    assert [type(event.command) for event in events if isinstance(event, ReplyReceived)] == [
        EndOfContent,
        *(type(command) for command in (Rset(), mail(), rcpt(), Data())),
    ]
    assert state_of(client) is State.DATA


def test_quit_may_follow_the_end_of_content() -> None:
    client = client_in(State.DATA)
    client.end_content()
    client.send(Quit())
    answers(client, OK, Reply(221, ("Bye",)))
    assert client.finished


def test_a_refusal_is_projected_on_what_is_outstanding() -> None:
    client = pipelined(mail(), rcpt(), rcpt())
    assert states(client)[1] is State.RCPT
    answers(client, REFUSED)
    assert states(client) == (State.READY, State.READY)
    # The rest is refused, too: another message can follow at once.
    client.send(mail())
    client.send(rcpt())
    assert states(client)[1] is State.RCPT
    answers(client, REFUSED, REFUSED, OK, OK)
    assert state_of(client) is State.RCPT


def test_a_reply_that_a_refusal_excludes_is_an_error() -> None:
    client = pipelined(mail(), rcpt())
    client.receive_data(REFUSED.encode() + OK.encode())
    assert client.next_event() == ReplyReceived(mail(), REFUSED)
    assert "250 to RCPT in the state READY" in str(broken(client.next_event))


GROUPS = st.lists(
    st.sampled_from([mail(), rcpt("a@example.org"), rcpt("b@example.org"), Rset(), Noop()]),
    max_size=12,
)
REPLIES = st.sampled_from([OK, REFUSED, Reply(451, ("Later",)), GO_AHEAD])


@given(GROUPS, st.lists(REPLIES, min_size=12, max_size=12))
def test_replies_answer_the_commands_in_their_order(
    wanted: list[Command], replies: list[Reply]
) -> None:
    client = client_in(State.READY)
    sent: list[Command] = []
    for command in wanted:
        if client.can_send(command):
            client.send(command)
            sent.append(command)
    state = State.READY
    for index, (command, reply) in enumerate(zip(sent, replies, strict=False)):
        following = TABLE.get((state, move_of(command), outcome_of(reply.code)))
        client.receive_data(reply.encode())
        alone = index == len(sent) - 1
        if following is None or (command == Rset() and reply is not OK and not alone):
            broken(client.next_event)
            assert states(client) == (State.CLOSED, State.CLOSED)
            assert client.outstanding == 0
            return
        assert client.next_event() == ReplyReceived(command, reply)
        assert client.state is following
        assert client.outstanding == len(sent) - index - 1
        state = following
    assert client.projected is client.state or client.outstanding


# --- Replies that do not fit -----------------------------------------------------------------


@pytest.mark.parametrize("code", [220, 250, 334, 354, 450, 554])
@pytest.mark.parametrize("state", [*COMMAND_STATES, State.AUTH])
def test_a_reply_that_nothing_asked_for_is_an_error(state: State, code: int) -> None:
    client = client_in(state)
    client.receive_data(Reply(code, ("?",)).encode())
    assert "in answer to nothing" in str(broken(client.next_event))
    assert client.finished


@pytest.mark.parametrize("early", [OK.encode(), b"250-half", b"2"])
def test_a_reply_that_was_there_before_the_question_is_an_error(early: bytes) -> None:
    client = ClientConnection()
    client.receive_data(GREETING.encode() + early)
    assert client.next_event() == ReplyReceived(Greeting.GREETING, GREETING)
    client.send(Ehlo("c.example"))
    client.receive_data(b"\r\n250 x\r\n")
    broken(client.next_event)


def test_half_a_multiline_reply_that_was_read_before_the_question_counts_too() -> None:
    client = client_in(State.HELO)
    client.receive_data(b"250-mx.example\r\n")
    assert client.next_event() is NEED_DATA
    client.send(Ehlo("c.example"))
    client.receive_data(b"250 AUTH PLAIN\r\n")
    broken(client.next_event)


@pytest.mark.parametrize(
    "line", [b"100 x\r\n", b"250-a\r\n251 b\r\n", b"hello\r\n", b"25", b"250 a\0\r\n"]
)
def test_what_is_no_reply_is_an_error(line: bytes) -> None:
    client = client_in(State.READY, limits=Limits(reply_line=40))
    client.send(Noop())
    client.receive_data(line.ljust(40, b"x"))
    error = broken(client.next_event)
    assert state_of(client) is State.CLOSED
    # The error stays.
    with pytest.raises(RemoteProtocolError) as again:
        client.next_event()
    assert again.value is error
    with pytest.raises(LocalProtocolError):
        client.send(Noop())
    client.receive_data(OK.encode())
    assert broken(client.next_event) is error


@pytest.mark.parametrize("state", [s for s in State if s not in {State.TLS, State.CLOSED}])
def test_421_is_the_end_wherever_it_comes(state: State) -> None:
    client = client_in(state)
    asked = Greeting.GREETING if state is State.GREETING else Unsolicited.UNSOLICITED
    assert answers(client, CLOSING, OK) == [ReplyReceived(asked, CLOSING)]
    assert client.finished
    assert states(client)[1] is State.CLOSED
    assert client.outstanding == 0
    client.receive_data(OK.encode())
    client.receive_eof()
    assert poll(client) == [ConnectionEnded()]


def test_421_answers_the_oldest_request() -> None:
    client = pipelined(mail(), rcpt(), Data())
    assert answers(client, OK, CLOSING) == [
        ReplyReceived(mail(), OK),
        ReplyReceived(rcpt(), CLOSING),
    ]
    assert client.finished


def test_421_that_was_there_before_the_question_counts() -> None:
    client = client_in(State.READY)
    client.receive_data(CLOSING.encode())
    client.send(Noop())
    assert poll(client) == [ReplyReceived(Noop(), CLOSING)]


def test_what_comes_behind_the_end_is_not_read() -> None:
    client = client_in(State.READY)
    client.send(Quit())
    assert answers(client, Reply(500, ("Never",)), OK) == [
        ReplyReceived(Quit(), Reply(500, ("Never",)))
    ]
    assert client.finished


# --- EHLO ------------------------------------------------------------------------------------


def test_capabilities_are_those_of_the_last_greeting() -> None:
    client = client_in(State.HELO)
    assert client.capabilities is NO_CAPABILITIES
    ask(client, Ehlo("c.example"), REFUSED)
    assert state_of(client) is State.HELO
    ask(client, Helo("c.example"), ehlo_reply("PIPELINING"))
    assert client.capabilities.domain == "mx.example"
    assert "PIPELINING" not in client.capabilities
    ask(client, Ehlo("c.example"), ehlo_reply("PIPELINING"))
    assert "PIPELINING" in client.capabilities
    ask(client, Ehlo("c.example"), REFUSED)
    assert "PIPELINING" in client.capabilities


@pytest.mark.parametrize("command", [Ehlo("c.example"), Rset()])
@pytest.mark.parametrize("state", [State.MAIL, State.RCPT, State.BDAT])
def test_a_transaction_can_be_given_up(state: State, command: Command) -> None:
    client = client_in(state)
    ask(client, command, REFUSED)
    assert client.state is state
    ask(client, command, ehlo_reply())
    assert state_of(client) is State.READY
    assert client.can_send(mail())


# --- Content behind DATA ---------------------------------------------------------------------


def test_content_goes_out_with_dots_and_its_end() -> None:
    client = client_in(State.DATA)
    octets = client.send_content(b"a\n.b\r") + client.send_content(memoryview(b"\n.")) + b"|"
    octets += client.end_content()
    assert octets == b"a\r\n..b\r\n..|\r\n.\r\n"
    assert states(client)[1] is State.READY
    assert answers(client, OK) == [ReplyReceived(EndOfContent(), OK)]
    assert state_of(client) is State.READY


def test_content_that_must_not_change_is_refused_with_bare_line_ends() -> None:
    client = client_in(State.DATA, line_endings=LineEndings.REFUSE)
    before = snapshot(client)
    with pytest.raises(WireError):
        client.send_content(b"a\nb")
    assert snapshot(client) == before
    client.send_content(b"a\r")
    with pytest.raises(WireError):
        client.end_content()
    assert client.outstanding == 0


@pytest.mark.parametrize("state", [state for state in State if state is not State.DATA])
def test_content_is_legal_behind_354_only(state: State) -> None:
    client = client_in(state)
    before = snapshot(client)
    with pytest.raises(LocalProtocolError):
        client.send_content(b"x")
    with pytest.raises(LocalProtocolError):
        client.end_content()
    assert snapshot(client) == before


def test_content_is_not_legal_before_354_comes() -> None:
    client = pipelined(mail(), rcpt(), Data())
    with pytest.raises(LocalProtocolError):
        client.send_content(b"x")
    with pytest.raises(LocalProtocolError):
        client.end_content()


def test_content_ends_once() -> None:
    client = client_in(State.DATA)
    client.end_content()
    before = snapshot(client)
    with pytest.raises(LocalProtocolError):
        client.end_content()
    with pytest.raises(LocalProtocolError):
        client.send_content(b"x")
    assert snapshot(client) == before


def test_354_without_a_recipient_gets_a_single_dot() -> None:
    client = pipelined(mail(), rcpt(), Data())
    answers(client, OK, REFUSED, GO_AHEAD)
    assert state_of(client) is State.DATA
    with pytest.raises(LocalProtocolError):
        client.send_content(b"x")
    assert client.end_content() == b".\r\n"
    answers(client, REFUSED)
    assert state_of(client) is State.READY


def test_recipients_of_an_earlier_message_do_not_count_at_354() -> None:
    client = client_in(State.DATA)
    client.end_content()
    answers(client, OK)
    for command in (mail(), rcpt(), Data()):
        client.send(command)
    answers(client, OK, REFUSED, GO_AHEAD)
    with pytest.raises(LocalProtocolError):
        client.send_content(b"x")


@pytest.mark.parametrize("end_first", [False, True])
@pytest.mark.parametrize("reply", [OK, GO_AHEAD])
def test_delivery_before_the_end_of_the_content_is_a_lie(reply: Reply, end_first: bool) -> None:
    client = client_in(State.DATA)
    client.send_content(b"half")
    client.receive_data(reply.encode())
    if end_first:
        client.end_content()
    broken(client.next_event)


@pytest.mark.parametrize("end_first", [False, True])
def test_a_refusal_before_the_end_of_the_content_is_the_end(end_first: bool) -> None:
    client = client_in(State.DATA)
    client.send_content(b"half")
    too_large = Reply(552, ("5.3.4 Too large",))
    client.receive_data(too_large.encode())
    if end_first:
        client.end_content()
        client.send(Rset())
    assert poll(client) == [ReplyReceived(EndOfContent(), too_large)]
    assert client.finished
    with pytest.raises(LocalProtocolError):
        client.send_content(b"half")
    client.receive_eof()
    assert poll(client) == [ConnectionEnded()]


# --- Content by BDAT -------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\r\n.\r\n", bytearray(b"x"), memoryview(b"xy")])
@pytest.mark.parametrize("last", [False, True])
def test_a_chunk_goes_out_as_it_is(data: Octets, last: bool) -> None:
    client = client_in(State.RCPT)
    header = f"BDAT {len(data)}{' LAST' if last else ''}\r\n".encode()
    assert client.send_chunk(data, last) == header + bytes(data)
    assert client.projected is (State.READY if last else State.BDAT)
    assert answers(client, OK) == [ReplyReceived(Bdat(len(data), last), OK)]
    assert state_of(client) is client.projected


def test_a_chunk_is_counted_in_octets() -> None:
    client = client_in(State.RCPT)
    wide = memoryview(b"12345678").cast("I")
    assert client.send_chunk(wide) == b"BDAT 8\r\n12345678"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("last", [False, True])
def test_a_chunk_is_legal_behind_a_recipient_only(state: State, last: bool) -> None:
    client = client_in(state)
    legal = state in {State.RCPT, State.BDAT}
    assert client.can_send(Bdat(0, last)) == legal
    if not legal:
        before = snapshot(client)
        with pytest.raises(LocalProtocolError):
            client.send_chunk(b"", last)
        assert snapshot(client) == before


def test_a_chunk_is_not_legal_unless_it_is_offered() -> None:
    client = client_in(State.RCPT, keywords=["PIPELINING"])
    with pytest.raises(LocalProtocolError, match="CHUNKING"):
        client.send_chunk(b"")


def test_chunks_do_not_end_a_group() -> None:
    client = pipelined(mail(), rcpt())
    client.send_chunk(b"1")
    client.send_chunk(b"2")
    client.send_chunk(b"3", last=True)
    answers(client, OK, OK, OK, OK, OK)
    assert state_of(client) is State.READY


def test_behind_a_failed_chunk_no_other_is_sent() -> None:
    client = client_in(State.RCPT)
    client.send_chunk(b"1")
    client.send_chunk(b"2")
    answers(client, REFUSED)
    assert states(client) == (State.READY, State.READY)
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"3")
    answers(client, REFUSED)
    assert state_of(client) is State.READY


def test_half_a_message_that_is_accepted_is_an_error() -> None:
    client = client_in(State.RCPT)
    client.send_chunk(b"1")
    client.send_chunk(b"2", last=True)
    client.receive_data(REFUSED.encode() + OK.encode())
    assert client.next_event() == ReplyReceived(Bdat(1), REFUSED)
    assert "250 to BDAT LAST" in str(broken(client.next_event))


def test_chunks_without_a_recipient() -> None:
    client = pipelined(mail(), rcpt())
    client.send_chunk(b"1")
    client.send_chunk(b"2", last=True)
    answers(client, OK, REFUSED, OK, OK)
    assert state_of(client) is State.READY


# --- One message and the next ----------------------------------------------------------------


def test_mail_behind_content_that_is_not_answered_needs_a_reset() -> None:
    client = client_in(State.DATA)
    client.end_content()
    assert not client.can_send(mail())
    client.send(Rset())
    assert client.can_send(mail())


def test_mail_behind_content_that_was_answered_needs_none() -> None:
    client = client_in(State.DATA)
    client.end_content()
    answers(client, REFUSED)
    assert client.can_send(mail())


@pytest.mark.parametrize("last", [False, True])
def test_mail_behind_a_failed_chunk_needs_a_reset(last: bool) -> None:
    client = client_in(State.RCPT)
    client.send_chunk(b"1", last)
    assert not client.can_send(mail())
    answers(client, REFUSED)
    with pytest.raises(LocalProtocolError, match="failed BDAT"):
        client.send(mail())
    client.send(Rset())
    assert client.can_send(mail())
    answers(client, REFUSED)
    assert not client.can_send(mail())
    ask(client, Rset(), OK)
    assert client.can_send(mail())


def test_a_new_greeting_resets_as_well() -> None:
    client = client_in(State.RCPT)
    client.send_chunk(b"1")
    answers(client, REFUSED)
    ask(client, Ehlo("c.example"), ehlo_reply(*KEYWORDS))
    assert client.can_send(mail())


def test_a_reset_that_is_refused_with_a_message_behind_it_is_an_error() -> None:
    client = client_in(State.RCPT)
    client.send_chunk(b"1", last=True)
    client.send(Rset())
    client.send(mail())
    client.receive_data(REFUSED.encode() * 2)
    assert client.next_event() == ReplyReceived(Bdat(1, last=True), REFUSED)
    assert "RSET" in str(broken(client.next_event))


class SloppyServer:
    """A server that keeps a transaction open when its content is refused, as some have done."""

    def __init__(self) -> None:
        self.sender: str | None = None
        self.recipients: list[str] = []
        self.delivered: list[tuple[str, list[str], bytes]] = []

    def reply(self, said: bytes, accept: bool) -> Reply:
        line, _, content = said.partition(b"\r\n")
        verb, argument = line[:4], line.decode().partition(":")[2]
        match verb:
            case b"MAIL" if self.sender is None and accept:
                self.sender = argument
            case b"RCPT" if self.sender is not None and accept:
                self.recipients.append(argument)
            case b"BDAT" if self.sender is not None and self.recipients and accept:
                self.delivered.append((self.sender, self.recipients, content))
                self.sender, self.recipients = None, []
            case b"RSET":
                self.sender, self.recipients = None, []
            case _:
                return REFUSED
        return OK


@given(st.data())
def test_a_message_never_reaches_the_recipients_of_another(data: st.DataObject) -> None:
    client = client_in(State.READY)
    server = SloppyServer()
    number = 0
    in_flight: list[bytes] = []
    singly = [["mail"], ["rcpt"], ["chunk"], ["reset"], ["answer"]]
    together = [*3 * [["mail", "rcpt", "chunk"]], 3 * ["answer"]]
    moves = st.lists(st.sampled_from(singly + together), min_size=20, max_size=20)
    for move in chain.from_iterable(data.draw(moves)):
        match move:
            case "mail" if client.can_send(mail()):
                number += 1
                in_flight.append(client.send(mail(f"{number}@example.org")))
            case "rcpt" if client.can_send(rcpt()):
                in_flight.append(client.send(rcpt(f"{number}@example.org")))
            case "chunk" if client.can_send(Bdat(0, last=True)):
                in_flight.append(client.send_chunk(f"<{number}@example.org>".encode(), last=True))
            case "reset" if client.can_send(Rset()):
                in_flight.append(client.send(Rset()))
            case "answer" if in_flight:
                accept = data.draw(st.sampled_from([True, True, False]))
                answers(client, server.reply(in_flight.pop(0), accept))
            case _:
                pass
    for said in in_flight:
        server.reply(said, accept=True)
    for sender, recipients, content in server.delivered:
        assert {sender} == set(recipients) == {content.decode()}


# --- LMTP ------------------------------------------------------------------------------------

FIRST, SECOND = parse_forward_path("a@example.org"), parse_forward_path("b@example.org")


def lmtp_with_recipients() -> ClientConnection:
    client = client_in(State.READY, protocol=Protocol.LMTP)
    client.send(mail())
    for recipient in ("a@example.org", "refused@example.org", "b@example.org"):
        client.send(rcpt(recipient))
    answers(client, OK, OK, REFUSED, OK)
    return client


def test_in_lmtp_each_accepted_recipient_has_its_reply() -> None:
    client = lmtp_with_recipients()
    ask(client, Data(), GO_AHEAD)
    client.end_content()
    assert client.outstanding == 2
    assert states(client)[1] is State.READY
    assert answers(client, REFUSED) == [ReplyReceived(EndOfContent(FIRST), REFUSED)]
    assert state_of(client) is State.DATA
    assert answers(client, OK) == [ReplyReceived(EndOfContent(SECOND), OK)]
    assert state_of(client) is State.READY
    # Nothing is left of them.
    ask(client, mail(), OK)
    ask(client, rcpt("b@example.org"), OK)
    ask(client, Data(), GO_AHEAD)
    client.end_content()
    assert client.outstanding == 1


def test_in_lmtp_the_last_chunk_has_a_reply_for_each_recipient_too() -> None:
    client = lmtp_with_recipients()
    client.send_chunk(b"1")
    with pytest.raises(LocalProtocolError, match="wait for all replies"):
        client.send_chunk(b"2", last=True)
    assert answers(client, OK) == [ReplyReceived(Bdat(1), OK)]
    client.send_chunk(b"2", last=True)
    assert answers(client, OK) == [ReplyReceived(EndOfContent(FIRST), OK)]
    assert state_of(client) is State.BDAT
    assert answers(client, REFUSED) == [ReplyReceived(EndOfContent(SECOND), REFUSED)]
    assert state_of(client) is State.READY
    # That was the answer for a recipient, not that of a chunk which failed.
    assert client.can_send(mail())


def test_in_lmtp_the_last_chunk_needs_a_recipient() -> None:
    client = client_in(State.READY, protocol=Protocol.LMTP)
    client.send(mail())
    client.send(rcpt())
    client.send_chunk(b"1")
    answers(client, OK, REFUSED, OK)
    assert state_of(client) is State.BDAT
    with pytest.raises(LocalProtocolError, match="RSET"):
        client.send_chunk(b"2", last=True)


def test_in_lmtp_354_without_a_recipient_is_an_error() -> None:
    client = client_in(State.READY, protocol=Protocol.LMTP)
    for command in (mail(), rcpt(), Data()):
        client.send(command)
    client.receive_data(OK.encode() + REFUSED.encode() + GO_AHEAD.encode())
    assert "without a recipient" in str(broken(client.next_event))


# --- STARTTLS --------------------------------------------------------------------------------


def test_tls_forgets_what_was_said_before() -> None:
    client = client_in(State.TLS)
    assert not any(client.can_send(command) for command in COMMANDS)
    client.tls_started()
    assert states(client) == (State.HELO, State.HELO)
    assert client.secure
    assert client.capabilities is NO_CAPABILITIES
    assert client.outstanding == 0
    # Nor is pipelining remembered.
    client.send(Rset())
    assert not client.can_send(Rset())


@pytest.mark.parametrize("code", [221, 250, 299])
def test_only_220_lets_tls_begin(code: int) -> None:
    client = client_in(State.READY)
    client.send(StartTls())
    client.receive_data(Reply(code, ("Ready",)).encode())
    broken(client.next_event)


@pytest.mark.parametrize("reply", [REFUSED, Reply(454, ("Not now",))])
def test_a_server_may_refuse_tls(reply: Reply) -> None:
    client = client_in(State.READY)
    ask(client, StartTls(), reply)
    assert state_of(client) is State.READY
    with pytest.raises(LocalProtocolError):
        client.tls_started()


INJECTED = [
    b"2",
    b"\r",
    b"250 ok\r\n",
    b"250-mx.evil\r\n250 AUTH LOGIN\r\n",
    b"250-SMTPUTF8 INJECTED-MARKER ",
    b"220 go\r\n",
    b"421 closing\r\n",
    b"\x16\x03\x01",
]


@pytest.mark.parametrize("injected", INJECTED)
def test_no_octet_behind_220_gets_into_tls(injected: bytes) -> None:
    client = client_in(State.READY)
    client.send(StartTls())
    client.receive_data(b"220 Ready\r\n" + injected)
    broken(client.next_event)
    with pytest.raises(LocalProtocolError):
        client.tls_started()
    assert not client.secure


@pytest.mark.parametrize("injected", INJECTED)
def test_no_octet_between_220_and_the_handshake_gets_into_tls(injected: bytes) -> None:
    client = client_in(State.TLS)
    client.receive_data(b"")
    with pytest.raises(RemoteProtocolError) as error:
        client.receive_data(injected)
    assert client.finished
    assert broken(client.next_event) is error.value
    with pytest.raises(LocalProtocolError):
        client.tls_started()


@pytest.mark.parametrize("state", [state for state in State if state is not State.TLS])
def test_tls_starts_behind_220_only(state: State) -> None:
    client = client_in(state)
    before = snapshot(client)
    with pytest.raises(LocalProtocolError):
        client.tls_started()
    assert snapshot(client) == before


def test_tls_starts_once() -> None:
    client = client_in(State.READY, secure=True)
    with pytest.raises(LocalProtocolError, match="TLS is there"):
        client.send(StartTls())


def test_tls_does_not_start_behind_auth() -> None:
    client = client_in(State.READY)
    ask(client, Auth("PLAIN", b""), Reply(235, ("Welcome",)))
    assert not client.can_send(StartTls())


# --- AUTH ------------------------------------------------------------------------------------


def test_an_exchange_succeeds() -> None:
    client = client_in(State.READY)
    assert ask(client, Auth("LOGIN"), CHALLENGE) == Auth("LOGIN")
    assert state_of(client) is State.AUTH
    assert ask(client, AuthResponse(b"me"), CHALLENGE) == AuthResponse(b"me")
    ask(client, AuthResponse(b"secret"), Reply(235, ("Welcome",)))
    assert client.authenticated
    assert state_of(client) is State.READY
    assert not client.can_send(Auth("PLAIN"))
    # A new greeting does not end it.
    ask(client, Ehlo("c.example"), ehlo_reply())
    assert client.authenticated


def test_an_exchange_fails() -> None:
    client = client_in(State.AUTH)
    ask(client, AuthResponse(b"wrong"), Reply(535, ("No",)))
    assert state_of(client) is State.READY
    assert not client.authenticated
    assert client.can_send(Auth("PLAIN"))


def test_an_exchange_that_is_cancelled_has_failed() -> None:
    client = client_in(State.AUTH)
    ask(client, AuthResponse(None), Reply(501, ("Cancelled",)))
    assert state_of(client) is State.READY
    assert not client.authenticated


@pytest.mark.parametrize("reply", [Reply(235, ("Welcome",)), CHALLENGE])
def test_an_exchange_that_was_cancelled_cannot_go_on(reply: Reply) -> None:
    client = client_in(State.AUTH)
    client.send(AuthResponse(None))
    client.receive_data(reply.encode())
    broken(client.next_event)
    assert not client.authenticated


def test_challenges_do_not_go_on_for_ever() -> None:
    client = client_in(State.READY, limits=Limits(auth_rounds=3))
    for _ in range(2):
        # Each exchange has its own.
        ask(client, Auth("LOGIN"), CHALLENGE)
        ask(client, AuthResponse(b"1"), CHALLENGE)
        ask(client, AuthResponse(b"2"), CHALLENGE)
        ask(client, AuthResponse(b"3"), REFUSED)
    ask(client, Auth("LOGIN"), CHALLENGE)
    ask(client, AuthResponse(b"1"), CHALLENGE)
    ask(client, AuthResponse(b"2"), CHALLENGE)
    client.send(AuthResponse(b"3"))
    client.receive_data(CHALLENGE.encode())
    assert "3 challenges" in str(broken(client.next_event))


def test_secrets_are_in_no_repr() -> None:
    client = client_in(State.READY)
    client.send(Auth("PLAIN", b"secret"))
    [event] = answers(client, CHALLENGE)
    assert "secret" not in repr(event)
    client.send(AuthResponse(b"secret"))
    [event] = answers(client, REFUSED)
    assert "secret" not in repr(event)


@pytest.mark.parametrize(
    ("text", "decoded"),
    [("", b""), (" ", b""), ("cGxlYXNl", b"please"), (" cGxlYXNl ", b"please"), ("AA==", b"\0")],
)
def test_a_challenge_is_base64(text: str, decoded: bytes) -> None:
    assert challenge(Reply(334, (text,))) == decoded


@pytest.mark.parametrize(
    "lines",
    [
        ("User?",),
        ("=AAA",),
        ("AAA=BBB",),
        ("AAA",),
        ("AA A",),
        ("AA\tAA",),
        ("QUFBQQ==QQ==",),
        ("Grüße",),
        ("\udcff",),
        ("AAAA", "AAAA"),
    ],
)
def test_what_is_not_base64_is_no_challenge(lines: tuple[str, ...]) -> None:
    with pytest.raises(WireError, match="challenge"):
        challenge(Reply(334, lines))


# --- The end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_the_end_of_the_input_is_in_order_behind_the_end_only(state: State) -> None:
    client = client_in(state)
    client.receive_eof()
    if state is State.CLOSED:
        assert poll(client) == poll(client) == [ConnectionEnded()]
    else:
        due = "1 reply" if state is State.GREETING else "no replies"
        ended = f"the stream ended in the state {state.value}, with {due} outstanding"
        assert str(broken(client.next_event)) == ended
        assert client.finished


def test_the_end_of_the_input_is_in_order_behind_a_greeting_that_refuses() -> None:
    client = ClientConnection()
    client.receive_data(REFUSED.encode())
    client.receive_eof()
    assert poll(client) == [ReplyReceived(Greeting.GREETING, REFUSED), ConnectionEnded()]
    assert client.finished


def test_quit_may_go_unanswered() -> None:
    client = client_in(State.READY)
    client.send(Quit())
    client.receive_eof()
    assert poll(client) == [ConnectionEnded()]
    assert client.finished


def test_quit_behind_content_may_not() -> None:
    client = client_in(State.DATA)
    client.end_content()
    client.send(Quit())
    client.receive_eof()
    assert "2 replies outstanding" in str(broken(client.next_event))


@pytest.mark.parametrize("half", [b"250 Ok\r", b"2", b"250-Ok\r\n"])
def test_half_a_reply_is_none(half: bytes) -> None:
    client = client_in(State.DATA)
    client.end_content()
    client.receive_data(half)
    client.receive_eof()
    assert "within a reply" in str(broken(client.next_event))


def test_replies_are_read_before_the_end_of_the_input() -> None:
    client = pipelined(mail(), rcpt())
    client.receive_data(OK.encode())
    client.receive_eof()
    assert client.next_event() == ReplyReceived(mail(), OK)
    broken(client.next_event)


def test_there_is_nothing_behind_the_end_of_the_input() -> None:
    client = client_in(State.READY)
    client.receive_eof()
    with pytest.raises(LocalProtocolError):
        client.receive_data(b"x")


def test_what_was_said_before_a_send_failed_is_read() -> None:
    client = client_in(State.DATA)
    client.send_content(b"half")
    client.send_failed()
    with pytest.raises(LocalProtocolError):
        client.send_content(b"half")
    with pytest.raises(LocalProtocolError):
        client.end_content()
    assert not any(client.can_send(command) for command in COMMANDS)
    assert states(client) == (State.DATA, State.CLOSED)
    too_large = Reply(552, ("Too large",))
    assert answers(client, too_large) == [ReplyReceived(EndOfContent(), too_large)]


def test_a_connection_on_which_a_send_failed_is_lost_at_its_end() -> None:
    client = client_in(State.READY)
    client.send(Noop())
    client.send_failed()
    assert answers(client, OK) == [ReplyReceived(Noop(), OK)]
    assert not client.can_send(Noop())
    client.receive_eof()
    broken(client.next_event)


# --- However the input is cut, and whatever it is --------------------------------------------

LINES = st.sampled_from(
    [
        OK.encode(),
        REFUSED.encode(),
        GO_AHEAD.encode(),
        CLOSING.encode(),
        b"250-a\r\n250 b\r\n",
        b"250-a\r\n550 b\r\n",
        b"250\r\n",
        b"199 x\r\n",
        b"25",
        b"\r\n",
        b"\n",
        b"\r",
        b"250 " + b"x" * 50 + b"\r\n",
    ]
)
# Mostly what a server should say to a group.
STREAMS = st.one_of(
    st.lists(LINES, max_size=8).map(b"".join),
    st.tuples(st.lists(st.sampled_from([OK, REFUSED]), min_size=4, max_size=4), LINES).map(
        lambda drawn: b"".join(reply.encode() for reply in drawn[0]) + drawn[1]
    ),
    st.binary(max_size=60),
)


def outcome(pieces: list[bytes], *, eof: bool) -> tuple[list[ClientEvent], str, State, State]:
    client = client_in(State.READY, limits=Limits(reply_line=40))
    for command in (mail(), rcpt(), rcpt()):
        client.send(command)
    client.send_chunk(b"1", last=True)
    client.send(Rset())
    client.send(mail())
    client.send(rcpt())
    client.send(Data())
    events: list[ClientEvent] = []
    error = ""
    try:
        for piece in pieces:
            client.receive_data(piece)
            events.extend(iterate(client))
        if eof:
            client.receive_eof()
            events.extend(iterate(client))
    except RemoteProtocolError as caught:
        error = str(caught)
    return events, error, client.state, client.projected


@given(STREAMS, st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_cutting_the_input_changes_nothing(stream: bytes, places: list[int], eof: bool) -> None:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    whole = outcome([stream], eof=eof)
    assert outcome([stream[start:end] for start, end in pairwise(edges)], eof=eof) == whole
    assert outcome([bytes([octet]) for octet in stream], eof=eof) == whole


@given(
    st.sampled_from(STATES),
    st.lists(st.one_of(LINES, st.binary(max_size=30))),
    st.sampled_from(Protocol),
)
def test_nothing_else_than_the_documented_errors_comes_out(
    state: State, pieces: list[bytes], protocol: Protocol
) -> None:
    client = client_in(state, protocol=protocol)
    for piece in pieces:
        for command in COMMANDS:
            try:
                client.send(command)
            except LocalProtocolError:
                assert not client.can_send(command)
        try:
            client.receive_data(piece)
            poll(client)
        except RemoteProtocolError:
            assert client.finished


def test_what_is_buffered_has_its_limits() -> None:
    client = client_in(State.READY)
    client.send(OtherCommand("XTRA"))
    line = b"250-" + b"x" * 94 + b"\r\n"
    for _ in range(Limits().reply_lines):
        client.receive_data(line)
        assert client.next_event() is NEED_DATA
    client.receive_data(line)
    assert "reply_lines" in str(broken(client.next_event))
    client = client_in(State.READY)
    client.send(Vrfy("someone"))
    client.receive_data(b"250 " + b"x" * Limits().reply_line)
    broken(client.next_event)


def test_in_lmtp_recipients_that_are_accepted_in_the_same_words_count() -> None:
    client = client_in(State.READY, protocol=Protocol.LMTP)
    client.send_group([mail(), rcpt("a@example.org"), rcpt("b@example.org"), rcpt("c@example.org")])
    client.receive_data(b"250 Ok\r\n" * 4)
    assert len(client.next_replies()) == 4
    ask(client, Data(), GO_AHEAD)
    client.end_content()
    assert client.outstanding == 3
