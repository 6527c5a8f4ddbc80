"""Commands: one table drives writer and reader; nothing in a value makes a second line."""

import contextlib
import copy
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.wire.address import NULL_REVERSE_PATH, POSTMASTER, Mailbox
from smtp_proto.wire.command import (
    Auth,
    AuthResponse,
    Bdat,
    Command,
    CommandError,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    OtherCommand,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Verb,
    Vrfy,
    parse_command,
)
from smtp_proto.wire.errors import WireError
from smtp_proto.wire.parameters import (
    Body,
    MailParameters,
    Notify,
    OriginalRecipient,
    Parameter,
    RcptParameters,
)

A = Mailbox("a", "example.org")

# Written and read: each is the other, turned round.
CASES: list[tuple[bytes, Command]] = [
    (b"HELO mail.example.org", Helo("mail.example.org")),
    (b"EHLO mail.example.org", Ehlo("mail.example.org")),
    (b"EHLO [192.0.2.1]", Ehlo("[192.0.2.1]")),
    (b"EHLO [IPv6:::1]", Ehlo("[IPv6:::1]")),
    (b"EHLO my_pc", Ehlo("my_pc")),
    (b"LHLO localhost", Lhlo("localhost")),
    (b"MAIL FROM:<>", Mail(NULL_REVERSE_PATH)),
    (b"MAIL FROM:<a@example.org>", Mail(A)),
    (b"MAIL FROM:<> SIZE=1", Mail(NULL_REVERSE_PATH, MailParameters(size=1))),
    (
        b"MAIL FROM:<a@example.org> SIZE=1 BODY=8BITMIME",
        Mail(A, MailParameters(size=1, body=Body.EIGHT_BIT_MIME)),
    ),
    (b'MAIL FROM:<"a> SIZE=9"@b> SIZE=1', Mail(Mailbox("a> SIZE=9", "b"), MailParameters(size=1))),
    (
        "MAIL FROM:<jörg@bücher.example> SMTPUTF8".encode(),
        Mail(Mailbox("jörg", "bücher.example"), MailParameters(smtputf8=True)),
    ),
    (b"RCPT TO:<a@example.org>", Rcpt(A)),
    (b"RCPT TO:<Postmaster>", Rcpt(POSTMASTER)),
    (b'RCPT TO:<"a b"@c>', Rcpt(Mailbox("a b", "c"))),
    ("RCPT TO:<ü@c>".encode(), Rcpt(Mailbox("ü", "c"))),
    # The low octets of these two are CR and LF.
    ("RCPT TO:<a\u760d\u760a@c>".encode(), Rcpt(Mailbox("a\u760d\u760a", "c"))),
    (b"RCPT TO:<starttls@x>", Rcpt(Mailbox("starttls", "x"))),
    (
        b"RCPT TO:<a@example.org> NOTIFY=NEVER ORCPT=rfc822;b+20c@d X=1",
        Rcpt(
            A,
            RcptParameters(
                frozenset({Notify.NEVER}),
                OriginalRecipient("rfc822", "b c@d"),
                (Parameter("X", "1"),),
            ),
        ),
    ),
    (
        b"RCPT TO:<Postmaster> NOTIFY=DELAY",
        Rcpt(POSTMASTER, RcptParameters(frozenset({Notify.DELAY}))),
    ),
    (b"DATA", Data()),
    (b"BDAT 0", Bdat(0)),
    (b"BDAT 0 LAST", Bdat(0, last=True)),
    (b"BDAT 1000", Bdat(1000)),
    (b"BDAT 99999999999999999999 LAST", Bdat(10**20 - 1, last=True)),
    (b"RSET", Rset()),
    (b"VRFY Smith", Vrfy("Smith")),
    (b"VRFY SMTPUTF8", Vrfy("SMTPUTF8")),
    (b"VRFY <a@b>", Vrfy("<a@b>")),
    (b'VRFY "Joe Smith"', Vrfy('"Joe Smith"')),
    (b'VRFY "Joe \\" SMTPUTF8"', Vrfy('"Joe \\" SMTPUTF8"')),
    ('VRFY "Jörg B"@ü SMTPUTF8'.encode(), Vrfy('"Jörg B"@ü', smtputf8=True)),
    (b"EXPN list", Expn("list")),
    ("EXPN ü SMTPUTF8".encode(), Expn("ü", smtputf8=True)),
    (b"HELP", Help()),
    (b"HELP MAIL FROM", Help("MAIL FROM")),
    (b"NOOP", Noop()),
    (b'NOOP any  "thing', Noop('any  "thing')),
    (b"QUIT", Quit()),
    (b"STARTTLS", StartTls()),
    (b"AUTH LOGIN", Auth("LOGIN")),
    (b"AUTH EXTERNAL =", Auth("EXTERNAL", b"")),
    (b"AUTH PLAIN AHRlc3QAMTIzNA==", Auth("PLAIN", b"\0test\x001234")),
    (b"AUTH SCRAM-SHA-256-PLUS", Auth("SCRAM-SHA-256-PLUS")),
    (b"AUTH X_" + b"A" * 18 + b" YQ==", Auth("X_" + "A" * 18, b"a")),
    (b"XCLIENT NAME=spike.example.org", OtherCommand("XCLIENT", "NAME=spike.example.org")),
    (b"ETRN @example.org", OtherCommand("ETRN", "@example.org")),
    (b"GET / HTTP/1.1", OtherCommand("GET", "/ HTTP/1.1")),
    (b"X", OtherCommand("X")),
    (b"STARTTLSX", OtherCommand("STARTTLSX")),
    (b"4-X", OtherCommand("4-X")),
]

# Read only: what is written differs.
READ_CASES: list[tuple[bytes, Command]] = [
    (b"ehlo Mail.Example.ORG", Ehlo("Mail.Example.ORG")),
    (b"EHLO x \t ", Ehlo("x")),
    (b"mail from:<a@example.org>", Mail(A)),
    (b"Mail From:<a@example.org>  ", Mail(A)),
    (b"MAIL FROM:<@x,@y.z:a@example.org> SIZE=1", Mail(A, MailParameters(size=1))),
    (b'MAIL FROM:<"a"@example.org>', Mail(A)),
    (b"rcpt to:<POSTMASTER>", Rcpt(POSTMASTER)),
    (b"RCPT TO:<@x:a@example.org>", Rcpt(A)),
    (b"Data", Data()),
    (b"DATA ", Data()),
    (b"bdat 0010 last", Bdat(10, last=True)),
    (b"vrfy a smtputf8", Vrfy("a", smtputf8=True)),
    (b"NOOP \t", Noop()),
    (b"quit\t", Quit()),
    (b"StartTls", StartTls()),
    (b"auth plain YQ==", Auth("PLAIN", b"a")),
    (b"AUTH EXTERNAL", Auth("EXTERNAL")),
    (b"xclient a", OtherCommand("XCLIENT", "a")),
]

LINES = [line for line, _ in CASES + READ_CASES]

# By the reply: the code, and its enhanced status code.
REFUSED = {
    (500, "5.5.2"): [
        b"",
        b" ",
        b" QUIT",
        b"\tQUIT",
        b"\0",
        b"QUIT\0",
        b"RSET\rQUIT",
        b"NOOP\nQUIT",
        b"BELL\x08",
        b"QUIT\tx",
        b"QU\xcdT",
        "QU\u0131T".encode(),
        "R\u017fET".encode(),
        b"Host: example.org",
        b"X_Y",
        b"-X",
        b"<a@b>",
        b"\x16\x03\x01\x02",
        b"A" * 4000 + b"!",
    ],
    (501, "5.5.4"): [
        b"HELO",
        b"EHLO",
        b"EHLO  x",
        b"EHLO x y",
        b"EHLO a\nMAIL FROM:<x>",
        "EHLO bücher".encode(),
        b"EHLO \xff",
        b"EHLO [192.0.2.1",
        b"LHLO x..y",
        b"MAIL",
        b"MAIL <a@b>",
        b"MAIL FROM",
        b"MAIL FROM:",
        b"MAIL FROM: <a@b>",
        b"MAIL FROM :<a@b>",
        b"MAIL  FROM:<a@b>",
        b"MAIL FROM:a@b",
        b"MAIL FROM:<a@b",
        b"MAIL FROM:<a@b>SIZE=1",
        b"MAIL FROM:<>>>>>",
        b"MAIL FROM:<a@b.com>>>",
        b"MAIL FROM:<a@b>  SIZE=1",
        b"MAIL FROM:<a@b> SIZE=x",
        b"MAIL FROM:<a@b> SIZE=1 SIZE=1",
        b"MAIL FROM:<a@b> =1",
        b"MAIL FROM:<a@b> ENVID=ab+0D+0Acd",
        b"MAIL FROM:<a@b> BODY=9BIT",
        b"MAIL FROM:<a@b\0@c>",
        b"MAIL FROM:<a\x7fb@c>",
        b"MAIL FROM:<\xff@b>",
        b"MAIL FROM:<a\xc2\x85@b>",
        b"MAIL FROM:<@a:>",
        b"MAIL FROM:<@>",
        b"MAIL TO:<a@b>",
        b"RCPT FROM:<a@b>",
        b"RCPT TO: <a@b>",
        b"RCPT TO:<a@b>\rX",
        b"RCPT TO:<a\rX-Header: v@b>",
        b"RCPT TO:<a@b> NOTIFY=NEVER,FAILURE",
        b"RCPT TO:<@a:postmaster>",
        b"DATA x",
        b"RSET x",
        b"QUIT x",
        b"STARTTLS foo",
        b"BDAT",
        b"BDAT x",
        b"BDAT -1",
        b"BDAT +5",
        b"BDAT 5 LAST x",
        b"BDAT 5LAST",
        b"BDAT 5  LAST",
        b"BDAT 1_0",
        b"BDAT 0x5",
        "BDAT \u0665".encode(),
        "BDAT 5 LA\u017fT".encode(),
        b"BDAT " + b"9" * 21,
        b"VRFY",
        b"VRFY Joe Smith",
        b'VRFY "Joe',
        b'VRFY Joe" Smith',
        b"EXPN",
        b"EXPN a\x1b[2J",
        "NOOP ü".encode(),
        b"NOOP  x",
        b"HELP \x07",
        b"AUTH",
        b"AUTH  PLAIN",
        b"AUTH PLAIN \x00",
        b"XCLIENT \xff",
        "XCLIENT ü".encode(),
        b"X  y",
    ],
    (501, "5.1.7"): [
        b"MAIL FROM:<a>",
        b"MAIL FROM:<Postmaster>",
        b"MAIL FROM:<a@b@c>",
        b"MAIL FROM:<a b@c>",
        b"MAIL FROM:<;sleep 66;>",
        "MAIL FROM:<ü@b_c>".encode(),
        b"MAIL FROM:<" + b"a" * 65 + b"@b>",
    ],
    (501, "5.1.3"): [
        b"RCPT TO:<>",
        b"RCPT TO:<a>",
        b"RCPT TO:<a@b,c@d>",
        b"RCPT TO:<a@[IPv6:x]>",
        "RCPT TO:<a\uff20b@c>".encode(),
    ],
    (504, "5.5.4"): [
        b"AUTH PLA!N",
        "AUTH PLA\u0131N".encode(),
        b"AUTH " + b"A" * 21,
    ],
    (501, "5.5.2"): [
        b"AUTH PLAIN YQ",
        b"AUTH PLAIN YQ=",
        b"AUTH PLAIN YQ===",
        b"AUTH PLAIN =YQ=",
        b"AUTH PLAIN ==",
        b"AUTH PLAIN YQ==YQ==",
        b"AUTH PLAIN YWFh=",
        b"AUTH PLAIN Y Q=",
        b"AUTH PLAIN YQ== x",
        b"AUTH PLAIN *",
        b"AUTH PLAIN  YQ==",
        b"AUTH PLAIN -_==",
        "AUTH PLAIN Yü==".encode(),
    ],
}
REFUSED_LINES = [(line, *reply) for reply, lines in REFUSED.items() for line in lines]

RESPONSES: list[tuple[bytes, bytes | None]] = [
    (b"*", None),
    (b"", b""),
    (b"YQ==", b"a"),
    (b"AAEC/v8=", b"\0\1\2\xfe\xff"),
    (b"AQ==", b"\1"),
    (b"A" * 12288, b"\0" * 9216),
]

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
MAILBOXES = st.builds(
    Mailbox,
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
    | st.text("äжあ", max_size=9),
    st.sampled_from(["example.org", "b", "[192.0.2.1]", "[IPv6:::1]", "bücher.example"]),
)
COMMANDS = st.one_of(
    st.builds(Ehlo, st.sampled_from(["a", "a.b-c", "my_pc", "[192.0.2.1]"])),
    st.builds(
        Mail,
        st.just(NULL_REVERSE_PATH) | MAILBOXES,
        st.builds(
            MailParameters,
            size=st.none() | st.integers(0, 10**20 - 1),
            envid=st.none() | TEXT.map(lambda text: text[:9] + "e"),
            auth=st.none() | st.just(NULL_REVERSE_PATH) | MAILBOXES,
        ),
    ),
    st.builds(
        Rcpt,
        st.just(POSTMASTER) | MAILBOXES,
        st.builds(
            RcptParameters,
            notify=st.frozensets(st.sampled_from([Notify.DELAY, Notify.FAILURE])),
            orcpt=st.none()
            | st.builds(OriginalRecipient, st.just("rfc822"), TEXT.map("x".__add__)),
        ),
    ),
    st.builds(Bdat, st.integers(0, 10**20 - 1), st.booleans()),
    st.builds(Vrfy, MAILBOXES.map(str), st.booleans()),
    st.builds(Noop, TEXT),
    st.builds(Auth, st.from_regex("[A-Z0-9_-]{1,20}", fullmatch=True), st.none() | st.binary()),
    st.builds(OtherCommand, st.from_regex("X[A-Za-z0-9-]{0,20}", fullmatch=True), TEXT),
)

EVIL = [
    "a\r\nDATA",
    "a\r",
    "a\n",
    "a\0",
    "a\tb",
    "a\x7f",
    "a\x1f",
    "a\x85b",
    "a\u2028b",
    "a\u2029",
    "a\udc0a",
    "a> SIZE=1",
    "a SMTPUTF8",
]


# --- writing and reading


@pytest.mark.parametrize(("line", "command"), CASES)
def test_writing(line: bytes, command: Command) -> None:
    assert command.encode() == line + b"\r\n"


@pytest.mark.parametrize(("line", "command"), CASES + READ_CASES)
def test_reading(line: bytes, command: Command) -> None:
    assert parse_command(line) == command
    assert parse_command(line + b" \t") == command


@pytest.mark.parametrize(("line", "code", "status"), REFUSED_LINES)
def test_what_is_no_command_is_refused(line: bytes, code: int, status: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_command(line)
    reply = caught.value.reply
    assert (reply.code, str(reply.enhanced_status)) == (code, status)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("line", LINES)
def test_no_control_may_stand_in_a_line(line: bytes) -> None:
    for control in (b"\r", b"\n", b"\0", b"\x7f", b"\xff", b"\xc2\x85", b"\xe2\x80\xa8"):
        for place in range(len(line) + 1):
            with pytest.raises(CommandError):
                parse_command(line[:place] + control + line[place:] + b"x")


@pytest.mark.parametrize("line", LINES)
def test_cut_at_any_place(line: bytes) -> None:
    for place in range(len(line)):
        with contextlib.suppress(CommandError):
            cut = parse_command(line[:place])
            assert parse_command(cut.encode()[:-2]) == cut


@given(COMMANDS)
def test_round_trip(command: Command) -> None:
    line = command.encode()
    assert line.endswith(b"\r\n")
    assert line[:-2].decode().isprintable()
    assert parse_command(line[:-2]) == command


@given(
    st.sampled_from([b"", b"MAIL FROM:", b"RCPT TO:<", b"VRFY ", b"AUTH X ", b"BDAT ", b"EHLO "]),
    st.lists(
        st.sampled_from(
            [b"<", b">", b"a", b"@", b'"', b"\\", b" ", b"=", b"\r", b"\0", b"\xff", b"."]
        )
    ).map(b"".join)
    | st.binary(),
)
def test_any_octets_give_a_command_or_one_documented_error(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(CommandError):
        command = parse_command(start + rest)
        assert parse_command(command.encode()[:-2]) == command


@pytest.mark.parametrize(
    "piece", [b'"', b"\\", b'"\\', b"<", b"a.", b" ", b"=", b"@a,", b"A", b"9"]
)
@pytest.mark.parametrize(
    "start", [b"", b"MAIL FROM:<", b"RCPT TO:<@", b"VRFY ", b"BDAT ", b"AUTH X "]
)
def test_a_hundred_thousand_pieces_come_back(start: bytes, piece: bytes) -> None:
    with contextlib.suppress(CommandError):
        parse_command(start + piece * 100_000)


# --- verbs


def test_every_verb_has_its_class() -> None:
    written = {
        command.verb: command for _, command in CASES if not isinstance(command, OtherCommand)
    }
    assert set(written) == set(Verb)
    for verb, command in written.items():
        assert command.encode().split()[0].decode() == verb.value == verb.name
        assert type(command).__name__.upper() == verb.name
        with pytest.raises(WireError, match="class of its own"):
            OtherCommand(verb.value.lower())


def test_commands_that_look_alike_are_not_equal() -> None:
    commands = {command for _, command in CASES}
    assert len(commands) == len(CASES)
    alike: list[Command] = [kind("x") for kind in (Helo, Ehlo, Lhlo, Vrfy, Expn, Help, Noop)]
    assert len(set(alike)) == len(alike)
    assert len({Data(), Rset(), Quit(), StartTls(), Data()}) == 4


@pytest.mark.parametrize(("_line", "command"), CASES)
def test_commands_can_be_copied_and_not_changed(_line: bytes, command: Command) -> None:
    assert copy.deepcopy(command) == pickle.loads(pickle.dumps(command)) == command
    assert hash(copy.copy(command)) == hash(command)
    for name in ("anything", "domain", "reverse_path", "string"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(command, name, "x")


# --- what a caller cannot make


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize(
    "build",
    [
        Helo,
        Ehlo,
        Lhlo,
        Vrfy,
        Expn,
        Auth,
        OtherCommand,
        lambda text: Rcpt(Mailbox.parse(f"{text}@b")),
        lambda text: Rcpt(Mailbox.parse(f"a@{text}")),
        lambda text: Mail(NULL_REVERSE_PATH, MailParameters(other=(Parameter("X", text),))),
        lambda text: Mail(NULL_REVERSE_PATH, MailParameters(other=(Parameter(text, None),))),
    ],
)
def test_nothing_that_could_be_more_than_itself(build: Callable[[str], Command], text: str) -> None:
    with pytest.raises(WireError):
        build(text)


@pytest.mark.parametrize("text", [*EVIL[:-2], " a", "a ", " ", "ü"])
@pytest.mark.parametrize("build", [Help, Noop, lambda text: OtherCommand("X", text)])
def test_nothing_that_could_be_another_line(build: Callable[[str], Command], text: str) -> None:
    with pytest.raises(WireError):
        build(text)


@pytest.mark.parametrize("path", ["a@b", "a@b>\r\nRCPT TO:<c@d", b"a@b", None])
def test_only_a_path_is_sent_as_one(path: Mailbox) -> None:
    with pytest.raises(TypeError, match=r"Mailbox\.parse"):
        Rcpt(path).encode()
    with pytest.raises(TypeError, match=r"Mailbox\.parse"):
        Mail(path).encode()


@pytest.mark.parametrize("parameters", ["", " SIZE=1\r\nRCPT TO:<x>", b" SIZE=1"])
def test_only_parameters_of_mail_are_sent_as_such(parameters: MailParameters) -> None:
    with pytest.raises((TypeError, AttributeError)):
        Mail(A, parameters).encode()


@pytest.mark.parametrize("parameters", ["", " NOTIFY=NEVER\r\nDATA", b" NOTIFY=NEVER"])
def test_only_parameters_of_rcpt_are_sent_as_such(parameters: RcptParameters) -> None:
    with pytest.raises((TypeError, AttributeError)):
        Rcpt(A, parameters).encode()


@pytest.mark.parametrize("size", [-1, 10**20, 10**6000], ids=["negative", "large", "huge"])
def test_a_chunk_that_cannot_be_announced(size: int) -> None:
    with pytest.raises(WireError):
        Bdat(size)


@pytest.mark.parametrize("size", ["1", "1\r\nRSET", b"1"])
def test_a_chunk_size_is_a_number(size: int) -> None:
    with pytest.raises(TypeError):
        Bdat(size)
    assert Bdat(True).encode() == b"BDAT 1\r\n"


@pytest.mark.parametrize("mechanism", ["", "PLAIN LOGIN", "PLAIN\r\n", "A" * 21, "Ü", "PLA\u0131N"])
def test_what_is_no_mechanism(mechanism: str) -> None:
    with pytest.raises(WireError, match="sasl-mech"):
        Auth(mechanism)


# --- AUTH


@pytest.mark.parametrize(("line", "data"), RESPONSES)
def test_a_response(line: bytes, data: bytes | None) -> None:
    assert AuthResponse(data).encode() == line + b"\r\n"
    assert AuthResponse.parse(line) == AuthResponse(data)


@given(st.none() | st.binary())
def test_responses_round_trip(data: bytes | None) -> None:
    line = AuthResponse(data).encode()
    assert AuthResponse.parse(line[:-2]) == AuthResponse(data)
    # What is empty is written as "=" in the command, and there only.
    encoded = line[:-2] or b"="
    if data is not None:
        assert Auth("X", data).encode() == b"AUTH X " + encoded + b"\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"=",
        b"==",
        b" ",
        b"**",
        b"* ",
        b"YQ",
        b"YQ=",
        b"YQ== ",
        b" YQ==",
        b"YQ==\r",
        b"Y\nQ==",
        b"\xff",
        b"YQ-_",
    ],
)
def test_what_is_no_response(line: bytes) -> None:
    with pytest.raises(CommandError) as caught:
        AuthResponse.parse(line)
    assert caught.value.reply.encode() == b"501 5.5.2 Cannot decode the response\r\n"
    assert caught.value.__suppress_context__


@given(st.binary())
def test_any_octets_give_a_response_or_one_documented_error(line: bytes) -> None:
    with contextlib.suppress(CommandError):
        AuthResponse.parse(line)


def test_no_secret_in_what_is_shown() -> None:
    auth = Auth("PLAIN", b"\0user\0hunter2")
    response = AuthResponse(b"hunter2")
    for line in (b"AUTH PLAIN aHVudGVyMg=", b"AUTH PLAIN aHVudGVyMg== x", b"AUTH aHVudGVyMg=="):
        with pytest.raises(CommandError) as caught:
            parse_command(line)
        assert "aHVudGVyMg" not in f"{caught.value} {caught.value!r} {caught.value.reply}"
    with pytest.raises(CommandError) as caught:
        AuthResponse.parse(b"aHVudGVyMg=")
    assert "aHVudGVyMg" not in f"{caught.value} {caught.value!r} {caught.value.reply}"
    for shown in (repr(auth), str(auth), repr(response), str(response)):
        assert "hunter2" not in shown
        assert "aHVudGVyMg" not in shown


def test_no_reply_quotes_the_line() -> None:
    replies: set[bytes] = set()
    for line, _, _ in REFUSED_LINES:
        for end in (b"", b" x>y<script>"):
            try:
                parse_command(line + end)
            except CommandError as error:
                replies.add(error.reply.encode())
    assert len(replies) == len(REFUSED)


def test_an_error_can_be_copied() -> None:
    with pytest.raises(CommandError) as caught:
        parse_command(b"RCPT TO:<a>")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.reply) == (str(caught.value), caught.value.reply)
