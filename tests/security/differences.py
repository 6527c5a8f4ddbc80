"""Streams that servers read in different ways, and each difference to others, with its reason.

Knows the streams, and the table of the docs that is made of the differences.
Must not know how a server is fed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HELLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@example.org>\r\n"
RCPT = b"RCPT TO:<b@mail.test>\r\n"
DATA = b"DATA\r\n"
SMUGGLED = b"MAIL FROM:<x@example.org>\r\nRCPT TO:<y@mail.test>\r\nDATA\r\nsmuggled\r\n.\r\n"

# --- The streams ---------------------------------------------------------------------------------

LINE_ENDS = (b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\r\0\n", b"\0\r\n", b"\r\n\0")
DOTS = sorted(
    {before + b"." + after for before in LINE_ENDS for after in LINE_ENDS}
    | {
        b"\r\n\x00.\r\n",
        b"\r\n.\x00\r\n",
        b"\x0b.\x0b",
        b"\x0c.\x0c",
        b"\x1c.\x1d\x1e",
        b"\x85.\x85",
        b"\xc2\x85.\xc2\x85",
        b"\xe2\x80\xa8.",
        b"\xe2\x80\xa9.\xe2\x80\xa9",
        b"\r\n .\r\n",
        b"\r\n.\t\r\n",
        b"\r\n. \r\n",
    }
)
"""What has been taken for the end of the content by somebody: among them the one true end."""
TRUE_END = b"\r\n.\r\n"

COMMANDS = (
    b"RSET\rQUIT\r\n",
    b"NOOP\nQUIT\r\n",
    b"NOOP\0\r\n",
    b"noop\r\n",
    b"NOOP \r\n",
    b"NOOP x\r\n",
    b"\r\n",
    b"EHLO a\nMAIL FROM:<x@example.org>\r\n",
    b"EHLO\r\n",
    b"HELO a b\r\n",
    b"EHLO a_b\r\n",
    b"EHLO [192.0.2.1]\r\n",
    b"EHLO [999.0.2.1]\r\n",
    b"EHLO \xff\r\n",
    b"DATA\r\n",
    b"RCPT TO:<b@mail.test>\r\n",
    MAIL + MAIL,
    MAIL + DATA,
    b"VRFY someone\r\n",
    b"EXPN list\r\n",
    b"STARTTLS foo\r\nNOOP\r\n",
    b"X-Header: value\r\n",
)
PARAMETERS = (
    b"MAIL FROM: <a@example.org>\r\n",
    b"MAIL FROM:a@example.org\r\n",
    b"MAIL FROM:<>\r\n",
    b"MAIL FROM:<a@example.org>x\r\n",
    b"MAIL FROM:<a@example.org>>\r\n",
    b"MAIL FROM:<<a@example.org>>\r\n",
    b"MAIL FROM:<>>>>>\r\n",
    b"MAIL FROM:<a@example.org> SIZE=10\r\n",
    b"MAIL FROM:<a@example.org> SIZE=-1\r\n",
    b"MAIL FROM:<a@example.org> SIZE=abc\r\n",
    b"MAIL FROM:<a@example.org> SIZE=99999999999\r\n",
    b"MAIL FROM:<a@example.org> SIZE=1 SIZE=2\r\n",
    b"MAIL FROM:<a@example.org> BODY=8BITMIME\r\n",
    b"MAIL FROM:<a@example.org> BODY=9BIT\r\n",
    b"MAIL FROM:<a@example.org> BODY=BINARYMIME\r\n",
    b"MAIL FROM:<a@example.org> =VALUE\r\n",
    b"MAIL FROM:<a@example.org> X-UNKNOWN=1\r\n",
    b"MAIL FROM:<a@example.org> SMTPUTF8\r\n",
    b"MAIL FROM:<a@example.org> SMTPUTF8=1\r\n",
    b"MAIL FROM:<a@example.org> ENVID=ab+0D+0Acd\r\n",
    b"MAIL FROM:<a@example.org> RET=FULL\r\n",
    b"MAIL FROM:<a@example.org> AUTH=<>\r\n",
    b"MAIL FROM:<a@example.org>  SIZE=10\r\n",
    b"MAIL FROM:<a@example.org>\tSIZE=10\r\n",
    b"MAIL FROM:<\xc3\xa9@example.org>\r\n",
    b"MAIL FROM:<\xc3\xa9@example.org> SMTPUTF8\r\n",
    b"MAIL FROM:<\xff@example.org> SMTPUTF8\r\n",
    MAIL + b"RCPT TO:<b@mail.test> NOTIFY=NEVER\r\n",
    MAIL + b"RCPT TO:<b@mail.test> NOTIFY=NEVER,FAILURE\r\n",
    MAIL + b"RCPT TO:<b@mail.test> X=1\r\n",
)
ADDRESSES = (
    b'"a@evil.example"@mail.test',
    b"a%evil.example@mail.test",
    b"evil.example!a@mail.test",
    b"@evil.example:a@mail.test",
    b"a@mail.test(@evil.example)",
    b"a(@evil.example>)@mail.test",
    b"=?utf-8?q?a=40evil.example=3e=20?=@mail.test",
    b"=?x?q?a=40evil.example=3e=00?=@mail.test",
    b"a@evil.example\0@mail.test",
    b"a@[127.0.0.1]",
    b"a@[IPv6:2001:db8::1%eth0]",
    b"a@[1.2.3]",
    b"a@b@mail.test",
    b"a@mail.test,b@evil.example",
    b"a@mail.test;",
    b" a@mail.test",
    b"a@mail.test ",
    b'""@mail.test',
    b'"a b"@mail.test',
    b'"a\\"b"@mail.test',
    b'"a> SIZE=1"@mail.test',
    b'a"b"@mail.test',
    b"a b@mail.test",
    b".a@mail.test",
    b"a.@mail.test",
    b"a..b@mail.test",
    b"a@mail..test",
    b"a@-mail.test",
    b"a@mail_.test",
    b"a@mail.test.",
    b"a",
    b"Postmaster",
    b"@mail.test",
    b"a@ma\xe2\x80\x8bil.test",
    b"a@mail\xe3\x80\x82test",
    b"\xef\xbc\xa0a@mail.test",
    b"|sh@mail.test",
    b"-f@mail.test",
    b"../x@mail.test",
    b"${run}@mail.test",
    b"a\tb@mail.test",
    b"a@mail.test\x7f",
    b"a" * 65 + b"@mail.test",
    b"a@" + b"b" * 64 + b".test",
)
BEHIND_STARTTLS = (
    b"STARTTLS\r\nEHLO injected\r\n",
    b"STARTTLS\r\nMAIL FROM:<x@example.org>\r\n",
    b"STARTTLS\r\nNO",
    b"STARTTLS\r\n\0",
)


def end_of_data(dot: bytes) -> tuple[bytes, ...]:
    """A message with something like an end in it, and another one behind that."""
    return HELLO, MAIL, RCPT, DATA, b"body" + dot + SMUGGLED + b"QUIT\r\n"


def command(lines: bytes) -> tuple[bytes, ...]:
    """Lines behind EHLO."""
    return HELLO, lines


def recipient(address: bytes) -> tuple[bytes, ...]:
    """A message to one recipient; its address may be UTF-8."""
    return (
        HELLO,
        MAIL.replace(b">", b"> SMTPUTF8"),
        b"RCPT TO:<%s>\r\n" % address,
        b"DATA\r\n",
        b"x\r\n.\r\nQUIT\r\n",
    )


# --- The differences -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """What is not the same, and why that is as it should be. The inputs are all of one kind."""

    kind: str
    inputs: tuple[bytes, ...]
    ours: str
    theirs: str
    why: str


def is_bare(dot: bytes) -> bool:
    """Whether there is a CR or a LF that is no part of a CRLF."""
    rest = dot.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


AIOSMTPD = (
    Difference(
        "any dot between line ends, one of which is a bare CR or LF",
        tuple(dot for dot in DOTS if is_bare(dot)),
        "550 at the true end",
        "250 at the true end, bare line ends kept",
        "Both see one message. But whoever gets it next may see two: we do not pass it on.",
    ),
    Difference(
        "a bare LF in a command line",
        (b"NOOP\nQUIT\r\n", b"EHLO a\nMAIL FROM:<x@example.org>\r\n"),
        "one bad command: 500, 501",
        "two commands",
        "Only CRLF ends a line (RFC 5321 2.3.8). Two readers must not count the commands of one"
        " stream differently.",
    ),
    Difference(
        "a name in HELO or EHLO that is none",
        (b"HELO a b\r\n", b"EHLO [999.0.2.1]\r\n", b"EHLO \xff\r\n"),
        "501",
        "250",
        "It goes into the Received field. An underscore passes at both.",
    ),
    Difference(
        "a blank in front of the path, or no angle brackets",
        (b"MAIL FROM: <a@example.org>\r\n", b"MAIL FROM:a@example.org\r\n"),
        "501",
        "250",
        "RFC 5321 3.3 wants it so; what is no path should not be guessed at.",
    ),
    Difference(
        "a parameter twice, two blanks or a tab in front of one",
        (
            b"MAIL FROM:<a@example.org> SIZE=1 SIZE=2\r\n",
            b"MAIL FROM:<a@example.org>  SIZE=10\r\n",
            b"MAIL FROM:<a@example.org>\tSIZE=10\r\n",
        ),
        "501",
        "250",
        "Which of the two counts is anybody's guess.",
    ),
    Difference(
        "parameters of DSN",
        (
            b"MAIL FROM:<a@example.org> RET=FULL\r\n",
            MAIL + b"RCPT TO:<b@mail.test> NOTIFY=NEVER\r\n",
        ),
        "250",
        "555",
        "DSN is offered here, and not there.",
    ),
    Difference(
        "an address beyond ASCII without SMTPUTF8",
        (b"MAIL FROM:<\xc3\xa9@example.org>\r\n",),
        "553",
        "250",
        "RFC 6531 3.5.",
    ),
    Difference(
        "octets that are no UTF-8 in an address",
        (b"MAIL FROM:<\xff@example.org> SMTPUTF8\r\n",),
        "501",
        "250",
        "RFC 6531 3.3.",
    ),
    Difference(
        "an encoded word in an address",
        (
            b"=?utf-8?q?a=40evil.example=3e=20?=@mail.test",
            b"=?x?q?a=40evil.example=3e=00?=@mail.test",
        ),
        "250, and the address as it is",
        "250, decoded: another address",
        "An envelope is no header field: its octets mean themselves.",
    ),
    Difference(
        "comments, blanks, or pieces of a local part",
        (
            b"a@mail.test(@evil.example)",
            b"a(@evil.example>)@mail.test",
            b" a@mail.test",
            b"a@mail.test ",
            b'a"b"@mail.test',
            b"a b@mail.test",
            b"a\tb@mail.test",
        ),
        "501",
        "250, and another address",
        "The grammar of an envelope has none of these (RFC 5321 4.1.2); what is left out of them,"
        " each reader decides for himself.",
    ),
    Difference(
        "dots where none may be, and characters that no path has",
        (
            b".a@mail.test",
            b"a.@mail.test",
            b"a..b@mail.test",
            b"../x@mail.test",
            b"a@mail.test\x7f",
        ),
        "501",
        "250",
        "RFC 5321 4.1.2.",
    ),
    Difference(
        "domains that are none",
        (b"a@[IPv6:2001:db8::1%eth0]", b"a@[1.2.3]", b"a@-mail.test", b"a@mail_.test", b"a"),
        "501",
        "250",
        "RFC 5321 4.1.2. Who is at home in no domain is Postmaster alone.",
    ),
    Difference(
        "letters that nobody sees, or that pass for others",
        (b"a@ma\xe2\x80\x8bil.test", b"a@mail\xe3\x80\x82test", b"\xef\xbc\xa0a@mail.test"),
        "501",
        "250",
        "Made simple by somebody later (NFKC), it would be another address than the one that was"
        " looked at.",
    ),
    Difference(
        "a local part or a label that is too long",
        (b"a" * 65 + b"@mail.test", b"a@" + b"b" * 64 + b".test"),
        "501",
        "250",
        "RFC 5321 4.5.3.1.1, RFC 1035 2.3.4.",
    ),
)
"""Of aiosmtpd 1.4.6."""

STARTTLS = (
    Difference(
        "anything behind STARTTLS in the same breath",
        BEHIND_STARTTLS,
        "554, and the connection is closed",
        "220, and it is thrown away",
        "Whoever put it there is no client: with him nobody should shake hands.",
    ),
)
"""Of aiosmtpd, Postfix and Exim, where STARTTLS is offered."""


_LENIENT_PATHS = (
    b"MAIL FROM: <a@example.org>\r\n",
    b"MAIL FROM:a@example.org\r\n",
    b"MAIL FROM:<a@example.org>>\r\n",
    b"MAIL FROM:<<a@example.org>>\r\n",
    b"MAIL FROM:<>>>>>\r\n",
)
_LENIENT_PARAMETERS = (
    b"MAIL FROM:<a@example.org> SIZE=1 SIZE=2\r\n",
    b"MAIL FROM:<a@example.org>  SIZE=10\r\n",
    b"MAIL FROM:<a@example.org>\tSIZE=10\r\n",
)
_NO_MAILBOXES = (
    b"a@mail.test(@evil.example)",
    b"a(@evil.example>)@mail.test",
    b"a@mail.test;",
    b" a@mail.test",
    b"a@mail.test ",
    b"a b@mail.test",
    b"a\tb@mail.test",
    b".a@mail.test",
    b"a.@mail.test",
    b"a..b@mail.test",
    b"../x@mail.test",
    b"a@mail.test.",
    b"a",
    b"@mail.test",
    b"\xef\xbc\xa0a@mail.test",
    b"a" * 65 + b"@mail.test",
)
_ENDS_OF_POSTFIX = re.compile(rb"\n\.\r*\n")
_ENDS_OF_EXIM = re.compile(rb"(?<!\r)\n\.\r?\n")


def _taken_for_an_end(ends: re.Pattern[bytes]) -> tuple[bytes, ...]:
    return tuple(dot for dot in DOTS if ends.search(dot) and TRUE_END not in dot)


def _not_taken_for_an_end(ends: re.Pattern[bytes]) -> tuple[bytes, ...]:
    return tuple(dot for dot in DOTS if is_bare(dot) and dot not in _taken_for_an_end(ends))


POSTFIX = (
    Difference(
        "a dot in a line, of which one end is a bare LF or has more than one CR",
        _taken_for_an_end(_ENDS_OF_POSTFIX),
        "550 at the true end",
        "an end: what follows is obeyed",
        "This is what smuggling lives on. There, `smtpd_forbid_bare_newline`"
        " closes it; here nothing has to be set.",
    ),
    Difference(
        "any other dot between line ends, one of which is bare",
        _not_taken_for_an_end(_ENDS_OF_POSTFIX),
        "550 at the true end",
        "250 at the true end, bare line ends made CRLF",
        "As with aiosmtpd.",
    ),
    Difference(
        "a bare LF in a command line",
        (b"NOOP\nQUIT\r\n", b"EHLO a\nMAIL FROM:<x@example.org>\r\n"),
        "one bad command: 500, 501",
        "two commands",
        "As with aiosmtpd.",
    ),
    Difference(
        "NUL in a command", (b"NOOP\0\r\n",), "500", "250", "It may end the line for somebody."
    ),
    Difference(
        "a name in HELO or EHLO that is none",
        (b"HELO a b\r\n", b"EHLO [999.0.2.1]\r\n"),
        "501",
        "250",
        "As with aiosmtpd.",
    ),
    Difference(
        "a header field of HTTP",
        (b"X-Header: value\r\n",),
        "500",
        "221, and the connection is closed",
        "Here a browser gives itself away by its first line, before that; and errors are counted.",
    ),
    Difference("a path that is none", _LENIENT_PATHS, "501", "250, mended", "As with aiosmtpd."),
    Difference(
        "a parameter twice, two blanks or a tab in front of one",
        _LENIENT_PARAMETERS,
        "501",
        "250",
        "As with aiosmtpd.",
    ),
    Difference(
        "AUTH=", (b"MAIL FROM:<a@example.org> AUTH=<>\r\n",), "555", "250", "AUTH is offered there."
    ),
    Difference(
        "an address beyond ASCII without SMTPUTF8",
        (b"MAIL FROM:<\xc3\xa9@example.org>\r\n",),
        "553",
        "250",
        "RFC 6531 3.5; there, `strict_smtputf8` says so.",
    ),
    Difference(
        "another domain within the local part",
        (b'"a@evil.example"@mail.test', b"a%evil.example@mail.test", b"evil.example!a@mail.test"),
        "250",
        "554",
        "It is a relay, and knows old routes. What a local part means is the application's affair"
        " here, and nothing is relayed.",
    ),
    Difference(
        "an address literal; a local part like an option",
        (b"a@[127.0.0.1]", b"-f@mail.test"),
        "250",
        "550, 501",
        "Whom mail is for, the handler decides; and no program is started with an address.",
    ),
    Difference(
        "what is no mailbox",
        _NO_MAILBOXES,
        "501",
        "250, mended or as it is",
        "As with aiosmtpd.",
    ),
)
"""Of Postfix 3.7, as it is installed."""

EXIM = (
    Difference(
        "a dot between a bare LF and a LF or CRLF",
        _taken_for_an_end(_ENDS_OF_EXIM),
        "550 at the true end",
        "an end: what follows is obeyed",
        "As with Postfix.",
    ),
    Difference(
        "any other dot between line ends, one of which is bare",
        _not_taken_for_an_end(_ENDS_OF_EXIM),
        "550 at the true end",
        "250 at the true end, bare line ends kept or mended",
        "As with aiosmtpd.",
    ),
    Difference(
        "a bare LF in a command line",
        (b"NOOP\nQUIT\r\n", b"EHLO a\nMAIL FROM:<x@example.org>\r\n"),
        "one bad command: 500, 501",
        "two commands",
        "As with aiosmtpd.",
    ),
    Difference(
        "an underscore in a name",
        (b"EHLO a_b\r\n",),
        "250",
        "501",
        "Many clients take the names of their machines, which have some; nothing depends on it.",
    ),
    Difference(
        "a path that is none", _LENIENT_PATHS[:2], "501", "250, mended", "As with aiosmtpd."
    ),
    Difference(
        "parameters that are not as they are to be",
        (
            *_LENIENT_PARAMETERS,
            b"MAIL FROM:<a@example.org> SIZE=abc\r\n",
            b"MAIL FROM:<a@example.org> ENVID=ab+0D+0Acd\r\n",
        ),
        "501",
        "250",
        "The last one is a line end, in xtext: it would come out again in a report.",
    ),
    Difference(
        "AUTH=", (b"MAIL FROM:<a@example.org> AUTH=<>\r\n",), "555", "250", "AUTH is offered there."
    ),
    Difference(
        "beyond ASCII without SMTPUTF8, or no UTF-8",
        (
            b"MAIL FROM:<\xc3\xa9@example.org>\r\n",
            b"MAIL FROM:<\xff@example.org> SMTPUTF8\r\n",
        ),
        "553, 501",
        "250",
        "RFC 6531 3.3, 3.5.",
    ),
    Difference(
        "VRFY", (b"VRFY someone\r\n",), "252", "502", "252 tells no more, and no client errs on it."
    ),
    Difference(
        "an address literal", (b"a@[127.0.0.1]",), "250", "501", "The handler decides on it here."
    ),
    Difference(
        "what is no mailbox",
        _NO_MAILBOXES,
        "501",
        "250, mended or as it is",
        "As with aiosmtpd.",
    ),
)
"""Of Exim 4.96, as it is installed."""


def rows(differences: Iterable[Difference]) -> list[str]:
    """The rows of a table in the docs."""
    return [
        f"| {each.kind} | {_shown(each.inputs)} | {each.ours} | {each.theirs} | {each.why} |"
        for each in differences
    ]


def _shown(inputs: tuple[bytes, ...]) -> str:
    shortest = sorted(inputs, key=len)[:3]
    return ", ".join(f"`{_text(each)}`" for each in shortest) + (
        f" and {len(inputs) - 3} more" if len(inputs) > 3 else ""
    )


def _text(octets: bytes) -> str:
    line = octets.removeprefix(MAIL).removesuffix(b"\r\n") if len(octets) > 12 else octets
    return repr(line)[2:-1].replace("|", "\\|")


def explained(differences: Iterable[Difference]) -> Mapping[bytes, Difference]:
    """Each input with the difference that explains it."""
    return {each: difference for difference in differences for each in difference.inputs}
