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
    b"X-Header: value\r\nNOOP\r\n",
    b"BDAT 6\r\nNOOP\r\n",
    MAIL + b"RCPT TO:<b@mail.test> NOTIFY=NEVER\r\n",
    MAIL + b"RCPT TO:<b@mail.test> NOTIFY=NEVER,FAILURE\r\n",
    MAIL + b"RCPT TO:<b@mail.test> X=1\r\n",
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
CHUNKS = (
    *(
        b"BDAT %s\r\nNOOP\r\nQUIT\r\n" % size
        for size in (
            b"6 LAST",
            b"6 last",
            b"6",
            b"06 LAST",
            b"+6 LAST",
            b"-6 LAST",
            b"0x6 LAST",
            b"6. LAST",
            b"\xd9\xa6 LAST",
            b"6LAST",
            b"6 LAST x",
            b"6  LAST",
            b"6\tLAST",
            b" 6 LAST",
            b"6 LAST ",
            b"LAST",
            b"",
            b"%020d LAST" % 6,
            b"%021d LAST" % 6,
            b"%d LAST" % (2**32 + 6),
            b"%d LAST" % (2**64 + 6),
            b"9" * 20 + b" LAST",
        )
    ),
    b"BDAT 6 LAST\nNOOP\r\nQUIT\r\n",
    b"BDAT 0\r\nQUIT\r\n",
    b"BDAT 0 LAST\r\nQUIT\r\n",
    b"BDAT 3\r\nx\r\nBDAT 0 LAST\r\nQUIT\r\n",
    b"BDAT 11 LAST\r\nx\r\n.\r\nNOOPQUIT\r\n",
    b"BDAT 6 LAST\r\nNO",
    b"RSET\r\nBDAT 6 LAST\r\nNOOP\r\nQUIT\r\n",
    b"RSET\r\nBDAT 6\r\nNOOP\r\nBDAT 6 LAST\r\nNOOP\r\nQUIT\r\n",
    b"DATA\r\nBDAT 6 LAST\r\nNOOP\r\n.\r\nQUIT\r\n",
    b"BDAT 3\r\nx\r\nDATA\r\nQUIT\r\n",
    b"BDAT 3\r\nx\r\n" + MAIL + b"QUIT\r\n",
    b"BDAT 3\r\nx\r\n" + RCPT + b"QUIT\r\n",
    b"BDAT 3\r\nx\r\nNOOP\r\nBDAT 0 LAST\r\nQUIT\r\n",
    b"BDAT 3\r\nx\r\nRSET\r\nBDAT 6 LAST\r\nNOOP\r\nQUIT\r\n",
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


def chunks(lines: bytes) -> tuple[bytes, ...]:
    """Chunks of a message, and what follows."""
    return HELLO, MAIL, RCPT, lines


def sender(mail: bytes) -> tuple[bytes, ...]:
    """A message that begins with this line."""
    return HELLO, mail, RCPT, DATA, b"x\r\n.\r\nQUIT\r\n"


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
    """What is not the same, and why that is as it should be. The inputs are all of one kind.

    `ours` and `theirs`: the replies to the input itself, and what came of it. Where not all inputs
    have the same, each that occurs, that to the shortest input first.
    """

    kind: str
    inputs: tuple[bytes, ...]
    ours: str
    theirs: str
    why: str

    @property
    def shortest_first(self) -> list[bytes]:
        """The inputs, as they are shown."""
        return sorted(self.inputs, key=len)


def is_bare(dot: bytes) -> bool:
    """Whether there is a CR or a LF that is no part of a CRLF."""
    rest = dot.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


_BARE = tuple(dot for dot in DOTS if is_bare(dot) and TRUE_END not in dot)
_BARE_BEFORE_THE_END = tuple(dot for dot in DOTS if is_bare(dot) and TRUE_END in dot)
_ENDS = tuple(dot for dot in DOTS if not is_bare(dot) and TRUE_END in dot)
_REFUSED = "550, 221: no message"
_TAKEN = "250, 221: one message"
_END_AND_REFUSED = (
    "550, 250, 250, 354, 250, 221: one message or 550, 500, 503, 503, 500, 500, 221: no message"
)

AIOSMTPD = (
    Difference(
        "any dot between line ends, one of which is a bare CR or LF",
        _BARE,
        _REFUSED,
        _TAKEN,
        "Both see one message. But whoever gets it next may see two: we do not pass it on.",
    ),
    Difference(
        "a bare CR in front of the true end",
        _BARE_BEFORE_THE_END,
        _END_AND_REFUSED,
        "250, 250, 250, 354, 250, 221: two messages"
        " or 250, 500, 503, 503, 500, 500, 221: one message",
        "The same: the end is where it is, and what was before it is refused.",
    ),
    Difference(
        "a bare LF in a command line",
        (b"NOOP\nQUIT\r\n", b"EHLO a\nMAIL FROM:<x@example.org>\r\n"),
        "500 or 501",
        "250, 221 or 250, 250",
        "One bad command here, and two there. Only CRLF ends a line (RFC 5321 2.3.8). Two readers"
        " must not count the commands of one stream differently.",
    ),
    Difference(
        "a name in HELO or EHLO that is none",
        (b"HELO a b\r\n", b"EHLO [999.0.2.1]\r\n", b"EHLO \xff\r\n"),
        "501",
        "250",
        "It goes into the Received field. An underscore passes at both.",
    ),
    Difference(
        "a header field where a command is due",
        (b"X-Header: value\r\nNOOP\r\n",),
        "554",
        "500, 250",
        "It is the head of HTTP, or of a message that nobody has asked for. There the lines behind"
        " it are obeyed.",
    ),
    Difference(
        "BDAT",
        (b"BDAT 6\r\nNOOP\r\n",),
        "503",
        "500, 250",
        "CHUNKING is offered here, and not there: a chunk would be commands.",
    ),
    Difference(
        "a blank in front of the path, or no angle brackets",
        (b"MAIL FROM: <a@example.org>\r\n", b"MAIL FROM:a@example.org\r\n"),
        "501",
        "250, from a@example.org",
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
        "250, from a@example.org",
        "Which of the two counts is anybody's guess.",
    ),
    Difference(
        "parameters of DSN",
        (
            b"MAIL FROM:<a@example.org> RET=FULL\r\n",
            MAIL + b"RCPT TO:<b@mail.test> NOTIFY=NEVER\r\n",
        ),
        "250, from a@example.org or 250, 250",
        "555 or 250, 555",
        "DSN is offered here, and not there.",
    ),
    Difference(
        "an address beyond ASCII without SMTPUTF8",
        (b"MAIL FROM:<\xc3\xa9@example.org>\r\n",),
        "553",
        "250, from \\xc3\\xa9@example.org",
        "RFC 6531 3.5.",
    ),
    Difference(
        "octets that are no UTF-8 in an address",
        (b"MAIL FROM:<\xff@example.org> SMTPUTF8\r\n",),
        "501",
        "250, from \\xff@example.org",
        "RFC 6531 3.3.",
    ),
    Difference(
        "an encoded word in an address",
        (
            b"=?utf-8?q?a=40evil.example=3e=20?=@mail.test",
            b"=?x?q?a=40evil.example=3e=00?=@mail.test",
        ),
        "250",
        "250, another address",
        "An envelope is no header field: its octets mean themselves. There they are decoded.",
    ),
    Difference(
        "comments, blanks, or pieces of a local part",
        (
            b"a@mail.test(@evil.example)",
            b"a(@evil.example>)@mail.test",
            b" a@mail.test",
            b"a@mail.test ",
            b'a"b"@mail.test',
            b"a\tb@mail.test",
        ),
        "501",
        "250, another address",
        "The grammar of an envelope has none of these (RFC 5321 4.1.2); what is left out of them,"
        " each reader decides for himself.",
    ),
    Difference(
        "dots and blanks where none may be, and characters that no path has",
        (
            b"a b@mail.test",
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
"""Of aiosmtpd 1.4.6, without chunks."""

STARTTLS = (
    Difference(
        "anything behind STARTTLS in the same breath",
        BEHIND_STARTTLS,
        "554, and the connection is closed",
        "220, and inside 250, 221 to NOOP and QUIT",
        "There it is thrown away. But whoever put it there is no client: with him nobody should"
        " shake hands.",
    ),
)
"""Of aiosmtpd, Postfix and Exim, where STARTTLS is offered."""

VERSIONS = {"Postfix": "3.7", "Exim": "4.96"}
"""Whose differences these are: others may have more, or fewer."""

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
_LENIENT_SIZES = (
    b"BDAT 6  LAST\r\nNOOP\r\nQUIT\r\n",
    b"BDAT 6\tLAST\r\nNOOP\r\nQUIT\r\n",
    b"BDAT  6 LAST\r\nNOOP\r\nQUIT\r\n",
    b"BDAT 000000000000000000006 LAST\r\nNOOP\r\nQUIT\r\n",
    b"BDAT 6 LAST\nNOOP\r\nQUIT\r\n",
)
_COMMENTS_AND_BLANKS = (
    b"a@mail.test(@evil.example)",
    b"a(@evil.example>)@mail.test",
    b" a@mail.test",
)
_NO_MAILBOXES = (
    b".a@mail.test",
    b"a.@mail.test",
    b"a..b@mail.test",
    b"../x@mail.test",
    b"\xef\xbc\xa0a@mail.test",
    b"a" * 65 + b"@mail.test",
)
_ENDS_OF_POSTFIX = re.compile(rb"\n\.\r*\n")
_ENDS_OF_EXIM = re.compile(rb"(?<!\r)\n\.\r?\n")


def _taken_for_an_end(ends: re.Pattern[bytes]) -> tuple[bytes, ...]:
    return tuple(dot for dot in _BARE if ends.search(dot))


def _not_taken_for_an_end(ends: re.Pattern[bytes]) -> tuple[bytes, ...]:
    return tuple(dot for dot in _BARE if not ends.search(dot))


POSTFIX = (
    Difference(
        "a dot in a line, of which one end is a bare LF or has more than one CR",
        _taken_for_an_end(_ENDS_OF_POSTFIX),
        _REFUSED,
        "250, 250, 250, 354, 250, 221: two messages or 250, 500, 503, 503, 500, 221: one message",
        "An end, there: what follows is obeyed. This is what smuggling lives on."
        " `smtpd_forbid_bare_newline` closes it; here nothing has to be set.",
    ),
    Difference(
        "any other dot between line ends, one of which is bare",
        _not_taken_for_an_end(_ENDS_OF_POSTFIX),
        _REFUSED,
        _TAKEN,
        "As with aiosmtpd.",
    ),
    Difference(
        "a bare CR in front of the true end",
        _BARE_BEFORE_THE_END,
        _END_AND_REFUSED,
        "250, 250, 250, 354, 250, 221: two messages or 250, 500, 503, 503, 500, 221: one message",
        "As with aiosmtpd.",
    ),
    Difference(
        "a dot behind a DATA that was refused",
        tuple(dot for dot in _ENDS if dot.endswith(b"\0")),
        "250, 500, 503, 503, 500, 500, 221: one message",
        "250, 500, 503, 503, 500, 221: one message",
        "It is no command, and each line where a command is due gets its reply.",
    ),
    Difference(
        "a bare LF in a command line",
        (b"NOOP\nQUIT\r\n", b"EHLO a\nMAIL FROM:<x@example.org>\r\n"),
        "500 or 501",
        "250, 221 or 250, 250",
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
        "a header field where a command is due",
        (b"X-Header: value\r\nNOOP\r\n",),
        "554",
        "221",
        "Both close the connection. 221 sounds like a success.",
    ),
    Difference(
        "a path that is none",
        _LENIENT_PATHS,
        "501",
        '250, from ">>>"@mail.test or 250, from a@example.org',
        "As with aiosmtpd.",
    ),
    Difference(
        "a parameter twice, two blanks or a tab in front of one",
        _LENIENT_PARAMETERS,
        "501",
        "250, from a@example.org",
        "As with aiosmtpd.",
    ),
    Difference(
        "AUTH=",
        (b"MAIL FROM:<a@example.org> AUTH=<>\r\n",),
        "555",
        "250, from a@example.org",
        "AUTH is offered there.",
    ),
    Difference(
        "an address beyond ASCII without SMTPUTF8",
        (b"MAIL FROM:<\xc3\xa9@example.org>\r\n",),
        "553",
        "250, from \\xc3\\xa9@example.org",
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
        "501 or 550",
        "Whom mail is for, the handler decides; and no program is started with an address.",
    ),
    Difference(
        "comments, blanks, or what follows",
        (*_COMMENTS_AND_BLANKS, b"a@mail.test ", b"a@mail.test;"),
        "501",
        "250, another address",
        "As with aiosmtpd.",
    ),
    Difference(
        "what is no mailbox",
        (*_NO_MAILBOXES, b"a@mail.test.", b"a", b"@mail.test"),
        "501",
        "250",
        "As with aiosmtpd.",
    ),
    Difference(
        "a size of a chunk with more blanks, more digits, or a bare LF behind it",
        _LENIENT_SIZES,
        "501: no message",
        _TAKEN,
        "RFC 3030 2 has one blank and a CRLF, and 20 digits are enough. Where two readers see other"
        " sizes, one obeys what is content to the other.",
    ),
    Difference(
        "a size beyond 64 bits",
        (
            b"BDAT 18446744073709551622 LAST\r\nNOOP\r\nQUIT\r\n",
            b"BDAT 99999999999999999999 LAST\r\nNOOP\r\nQUIT\r\n",
        ),
        "none, more is awaited: no message",
        "521: no message",
        "It is a number, of 20 digits at most: the octets are read, and dropped, as those of any"
        " chunk that is too large.",
    ),
    Difference(
        "a chunk of nothing that is not the last",
        (b"BDAT 0\r\nQUIT\r\n",),
        "250, 221: no message",
        "551, 221: no message",
        "RFC 3030 allows it, and it costs no more than a NOOP.",
    ),
)
"""Of Postfix 3.7, as it is installed."""

EXIM = (
    Difference(
        "a dot between a bare LF and a LF or CRLF",
        _taken_for_an_end(_ENDS_OF_EXIM),
        _REFUSED,
        "250, 250, 250, 554: one message or 250, 554: one message"
        " or 250, 501, 503, 554: one message",
        "An end, there: what follows is obeyed, up to what comes earlier than the 354.",
    ),
    Difference(
        "any other dot between line ends, one of which is bare",
        _not_taken_for_an_end(_ENDS_OF_EXIM),
        _REFUSED,
        _TAKEN,
        "As with aiosmtpd.",
    ),
    Difference(
        "a bare CR in front of the true end",
        _BARE_BEFORE_THE_END,
        _END_AND_REFUSED,
        "250, 250, 250, 554: one message or 250, 501, 503, 554: one message",
        "As with aiosmtpd.",
    ),
    Difference(
        "content that comes with its DATA",
        _ENDS,
        "250, 250, 250, 354, 250, 221: two messages"
        " or 250, 500, 503, 503, 500, 500, 221: one message",
        "250, 250, 250, 554: one message or 250, 501, 503, 554: one message",
        "A client has to wait for 354 (RFC 2920 3.1). To one that does not, no harm is done here:"
        " behind 354 there is content alone, and behind a refusal each line is refused.",
    ),
    Difference(
        "a bare LF in a command line",
        (b"NOOP\nQUIT\r\n", b"EHLO a\nMAIL FROM:<x@example.org>\r\n"),
        "500 or 501",
        "250, 221 or 250, 250",
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
        "a header field where a command is due",
        (b"X-Header: value\r\nNOOP\r\n",),
        "554",
        "500, 250",
        "As with aiosmtpd.",
    ),
    Difference(
        "a path that is none",
        _LENIENT_PATHS[:2],
        "501",
        "250, from a@example.org",
        "As with aiosmtpd.",
    ),
    Difference(
        "parameters that are not as they are to be",
        (
            *_LENIENT_PARAMETERS,
            b"MAIL FROM:<a@example.org> SIZE=abc\r\n",
            b"MAIL FROM:<a@example.org> ENVID=ab+0D+0Acd\r\n",
        ),
        "501",
        "250, from a@example.org",
        "The last one is a line end, in xtext: it would come out again in a report.",
    ),
    Difference(
        "AUTH=",
        (b"MAIL FROM:<a@example.org> AUTH=<>\r\n",),
        "555",
        "250, from a@example.org",
        "AUTH is offered there.",
    ),
    Difference(
        "beyond ASCII without SMTPUTF8, or no UTF-8",
        (
            b"MAIL FROM:<\xc3\xa9@example.org>\r\n",
            b"MAIL FROM:<\xff@example.org> SMTPUTF8\r\n",
        ),
        "553 or 501",
        "250, from \\xc3\\xa9@example.org or 250, from \\xff@example.org",
        "RFC 6531 3.3, 3.5.",
    ),
    Difference(
        "VRFY", (b"VRFY someone\r\n",), "252", "501", "252 tells no more, and no client errs on it."
    ),
    Difference(
        "an address literal", (b"a@[127.0.0.1]",), "250", "501", "The handler decides on it here."
    ),
    Difference(
        "Postmaster without a domain",
        (b"Postmaster",),
        "250",
        "250, another address",
        "There the domain is put behind it. Here it is what it was (RFC 5321 4.1.1.3).",
    ),
    Difference(
        "comments or blanks",
        (*_COMMENTS_AND_BLANKS, b"a b@mail.test", b"a\tb@mail.test"),
        "501",
        "250, another address",
        "As with aiosmtpd.",
    ),
    Difference("what is no mailbox", _NO_MAILBOXES, "501", "250", "As with aiosmtpd."),
    Difference(
        "a size of a chunk with a sign, a blank or digits too many, or no blank behind it",
        (
            *_LENIENT_SIZES,
            b"BDAT +6 LAST\r\nNOOP\r\nQUIT\r\n",
            b"BDAT 6LAST\r\nNOOP\r\nQUIT\r\n",
        ),
        "501: no message",
        _TAKEN,
        "As with Postfix.",
    ),
    Difference(
        "a size with something behind it",
        (
            b"BDAT 6. LAST\r\nNOOP\r\nQUIT\r\n",
            b"BDAT 6 LAST x\r\nNOOP\r\nQUIT\r\n",
            b"BDAT 0x6 LAST\r\nNOOP\r\nQUIT\r\n",
        ),
        "501: no message",
        "250, 221: no message or 250, 503, 221: no message",
        "There a LAST gets lost, or 0x6 is 0, and the chunk is commands.",
    ),
    Difference(
        "a size that begins with no digit",
        (
            b"BDAT LAST\r\nNOOP\r\nQUIT\r\n",
            b"BDAT \r\nNOOP\r\nQUIT\r\n",
            b"BDAT \xd9\xa6 LAST\r\nNOOP\r\nQUIT\r\n",
        ),
        "501: no message",
        "501, 250, 221: no message",
        "Where a chunk ends nobody knows: here nothing behind it is obeyed.",
    ),
    Difference(
        "a size that is negative",
        (b"BDAT -6 LAST\r\nNOOP\r\nQUIT\r\n",),
        "501: no message",
        "none, more is awaited: no message",
        "There it is a very large one.",
    ),
    Difference(
        "a size beyond 32 bits",
        (b"BDAT 4294967302 LAST\r\nNOOP\r\nQUIT\r\n",),
        "none, more is awaited: no message",
        _TAKEN,
        "There it is 6, and what follows these is obeyed.",
    ),
    Difference(
        "NOOP or RSET between chunks",
        (
            b"BDAT 3\r\nx\r\nNOOP\r\nBDAT 0 LAST\r\nQUIT\r\n",
            b"BDAT 3\r\nx\r\nRSET\r\nBDAT 6 LAST\r\nNOOP\r\nQUIT\r\n",
        ),
        "250, 250, 250, 221: one message or 250, 250, 503, 221: no message",
        "250, 503, 503, 221: no message or 250, 250: no message",
        "NOOP does nothing, in chunks as well. There, what comes with a RSET is never answered.",
    ),
)
"""Of Exim 4.96, as it is installed."""


def rows(differences: Iterable[Difference]) -> list[str]:
    """The rows of a table in the docs."""
    return [
        f"| {each.kind} | {_shown(each)} | {each.ours} | {each.theirs} | {each.why} |"
        for each in differences
    ]


def _shown(difference: Difference) -> str:
    first, more = difference.shortest_first[:3], len(difference.inputs) - 3
    shown = ", ".join(f"`{_text(each)}`" for each in first)
    return f"{shown} and {more} more" if more > 0 else shown


def _text(octets: bytes) -> str:
    line = octets.removeprefix(MAIL).removesuffix(b"\r\n") if len(octets) > 12 else octets
    return repr(line)[2:-1].replace("|", "\\|")


def explained(differences: Iterable[Difference]) -> Mapping[bytes, Difference]:
    """Each input with the difference that explains it."""
    return {each: difference for difference in differences for each in difference.inputs}
