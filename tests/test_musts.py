"""What the RFCs demand of a server, each as a short talk with one: docs/musts.md names the rows.

Knows what a client says and the codes that have to come back. Must not know how the server works.
"""

import pytest

from smtp_proto.flow import Handler, ServerSession
from smtp_proto.sasl import Credentials
from smtp_proto.wire import Limits, WireError
from tests.flow.serving import Client, settings

EHLO = b"EHLO client.example"
MAIL = b"MAIL FROM:<ann@example.com>"
RCPT = b"RCPT TO:<bob@example.org>"
WITH_AUTH = settings(mechanisms=("PLAIN", "CRAM-MD5"), allow_cleartext_auth=True)

Talk = list[tuple[bytes, int]]

TALKS: dict[str, Talk] = {
    # RFC 5321 3.3
    "RCPT before MAIL": [(EHLO, 250), (RCPT, 503)],
    "MAIL comes before RCPT, RCPT before DATA": [(EHLO, 250), (b"DATA", 503), (MAIL, 250)],
    # RFC 2920 3.2
    "DATA without a recipient": [(EHLO, 250), (MAIL, 250), (b"DATA", 503), (RCPT, 250)],
    # RFC 5321 4.1.1.5
    "RSET": [(EHLO, 250), (b"RSET", 250), (MAIL, 250), (b"RSET", 250), (RCPT, 503), (b"NOOP", 250)],
    # RFC 5321 4.1.2
    "an octet that no address can have": [
        (EHLO, 250),
        (b"MAIL FROM:<a\xff@example.com>", 501),
        (b"MAIL FROM:<a\x01@example.com>", 501),
    ],
    "a domain has letters, digits and hyphens": [
        (EHLO, 250),
        (b"MAIL FROM:<ann@exa_mple.com>", 501),
        (b"MAIL FROM:<ann@exa!mple.com>", 501),
    ],
    # RFC 5321 4.1.4
    "EHLO in a transaction": [(EHLO, 250), (MAIL, 250), (EHLO, 250), (RCPT, 503)],
    "EHLO that is refused changes nothing": [
        (EHLO, 250),
        (MAIL, 250),
        (b"EHLO", 501),
        (b"EHLO two words", 501),
        (RCPT, 250),
    ],
    "MAIL in a transaction": [(EHLO, 250), (MAIL, 250), (MAIL, 503), (RCPT, 250)],
    "MAIL that cannot be read": [(EHLO, 250), (b"MAIL FROM:ann", 501), (RCPT, 503), (MAIL, 250)],
    "MAIL before EHLO": [(MAIL, 503), (EHLO, 250), (MAIL, 250)],
    # RFC 5321 4.1.1, 4.5.1
    "any case will do": [
        (b"eHlO client.example", 250),
        (b"mail from:<ann@example.com> size=10", 250),
        (b"Rcpt To:<Bob@Example.org>", 250),
        (b"quit", 221),
    ],
    # RFC 5321 4.5.1
    "the least that each server has": [
        (b"HELO client.example", 250),
        (EHLO, 250),
        (b"NOOP", 250),
        (b"VRFY bob", 252),
        (MAIL, 250),
        (RCPT, 250),
        (b"DATA", 354),
        (b".", 250),
        (b"RSET", 250),
        (b"QUIT", 221),
    ],
    "the postmaster": [
        (EHLO, 250),
        (MAIL, 250),
        (b"RCPT TO:<Postmaster>", 250),
        (b"RCPT TO:<postmaster>", 250),
        (b"RCPT TO:<POSTMASTER@example.org>", 250),
    ],
    # RFC 5321 4.1.1.3
    "a source route": [
        (EHLO, 250),
        (MAIL, 250),
        (b"RCPT TO:<@a.example,@b.example:c@d.example>", 250),
    ],
    # RFC 5321 7.3
    "nobody is said to be verified": [(EHLO, 250), (b"VRFY bob", 252), (b"EXPN list", 502)],
    # RFC 5321 4.5.3.1
    "long names": [
        (b"EHLO " + b".".join([b"d" * 63] * 4)[:255], 250),
        (b"MAIL FROM:<" + b"l" * 64 + b"@" + b".".join([b"d" * 63] * 3)[:189] + b">", 250),
        (b"NOOP " + b"x" * 505, 250),
    ],
    # RFC 1870 6
    "SIZE does not end the content": [
        (EHLO, 250),
        (MAIL + b" SIZE=3", 250),
        (RCPT, 250),
        (b"DATA", 354),
        (b"more than three octets\r\n.", 250),
        (b"NOOP", 250),
    ],
    # RFC 3030 2
    "nothing but RSET behind the last chunk": [
        (EHLO, 250),
        (MAIL, 250),
        (RCPT, 250),
        (b"BDAT 6 LAST\r\nabcd", 250),
        (b"BDAT 6 LAST\r\nabcd", 503),
        (b"RSET", 250),
    ],
    "DATA behind BDAT": [
        (EHLO, 250),
        (MAIL, 250),
        (RCPT, 250),
        (b"BDAT 4\r\nab", 250),
        (b"DATA", 503),
    ],
    "the octets of a chunk that is refused are read": [
        (EHLO, 250),
        (b"BDAT 6\r\nQUIT", 503),
        (b"BDAT 6 LAST\r\nQUIT", 503),
        (MAIL, 250),
    ],
    "DATA where CHUNKING is offered": [(EHLO, 250), (MAIL, 250), (RCPT, 250), (b"DATA", 354)],
    # RFC 3461 4.5, 5.1
    "parameters of DSN": [
        (EHLO, 250),
        (MAIL + b" RET=HDRS ENVID=" + b"x" * 100, 250),
        (b"RSET", 250),
        (MAIL + b" RET=FULL RET=FULL", 501),
        (MAIL + b" ENVID=a ENVID=a", 501),
        (MAIL + b" ENVID=+", 501),
        (MAIL + b" RET", 501),
        (MAIL, 250),
        (RCPT + b" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;bob@example.org", 250),
        (RCPT + b" NOTIFY=NEVER", 250),
        (RCPT + b" NOTIFY=NEVER,SUCCESS", 501),
        (RCPT + b" NOTIFY=NEVER NOTIFY=NEVER", 501),
        (RCPT + b" ORCPT=rfc822;a ORCPT=rfc822;a", 501),
        (RCPT + b" NOTIFY", 501),
        (RCPT + b" ORCPT=", 501),
    ],
    # RFC 3461 5.4
    "long parameters of DSN": [
        (EHLO, 250),
        (MAIL, 250),
        (RCPT + b" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + b"x" * 493, 250),
    ],
    # RFC 6531 3.4, 3.5
    "SMTPUTF8": [
        (EHLO, 250),
        (MAIL + b" SMTPUTF8=yes", 501),
        ("MAIL FROM:<käthe@bücher.example>".encode(), 553),
        ("MAIL FROM:<käthe@bücher.example> SMTPUTF8".encode(), 250),
        ("RCPT TO:<jürgen@bücher.example>".encode(), 250),
        ("VRFY jürgen@bücher.example SMTPUTF8".encode(), 252),
    ],
    # RFC 6531 3.7.1
    "a name for EHLO is ASCII": [("EHLO bücher.example".encode(), 501), (EHLO, 250)],
}

TALKS_WITH_AUTH: dict[str, Talk] = {
    # RFC 4954 4
    "AUTH in a transaction": [(EHLO, 250), (MAIL, 250), (b"AUTH PLAIN", 503), (RCPT, 250)],
    "AUTH twice": [(EHLO, 250), (b"AUTH PLAIN AGFubgBzZWNyZXQ=", 235), (b"AUTH PLAIN", 503)],
    "AUTH in any case": [(EHLO, 250), (b"auth plain AGFubgBzZWNyZXQ=", 235)],
    "cancelled": [(EHLO, 250), (b"AUTH PLAIN", 334), (b"*", 501), (MAIL, 250)],
    "no initial response": [(EHLO, 250), (b"AUTH PLAIN", 334), (b"AGFubgBzZWNyZXQ=", 235)],
    "a mechanism in which the server begins": [(EHLO, 250), (b"AUTH CRAM-MD5 =", 501)],
    "no base64": [(EHLO, 250), (b"AUTH PLAIN", 334), (b"AGFu bgBzZWNyZXQ=", 501)],
    "a pad in the middle": [(EHLO, 250), (b"AUTH PLAIN AAA=BBB=", 501), (b"AUTH PLAIN =AAA", 501)],
    # RFC 4954 5
    "the AUTH parameter of who has not logged in": [
        (EHLO, 250),
        (MAIL + b" AUTH=<>", 250),
        (b"RSET", 250),
        (MAIL + b" AUTH=ann+40example.com", 250),
    ],
    # RFC 4954 8
    "the AUTH parameter is a mailbox or <>": [(EHLO, 250), (MAIL + b" AUTH=ann+", 501)],
}


class Trusting(Handler):
    """Lets everybody in."""

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return True


def codes(said: bytes) -> list[int]:
    """The code of each reply."""
    return [int(line[:3]) for line in said.splitlines() if line[3:4] == b" "]


def talk(client: Client, lines: Talk) -> None:
    client.sends.clear()
    for line, code in lines:
        assert codes(client.say(line + b"\r\n")) == [code], line
        # RFC 5321 4.1.1.10
        assert client.closed is (code == 221)


@pytest.mark.parametrize("lines", [pytest.param(row, id=name) for name, row in TALKS.items()])
def test_a_talk(lines: Talk) -> None:
    talk(Client(), lines)


@pytest.mark.parametrize(
    "lines", [pytest.param(row, id=name) for name, row in TALKS_WITH_AUTH.items()]
)
def test_a_talk_with_auth(lines: Talk) -> None:
    talk(Client(Trusting(), WITH_AUTH), lines)


def test_a_hundred_recipients_and_then_452() -> None:
    # RFC 5321 4.5.3.1.8, 4.5.3.1.10
    recipients = [(b"RCPT TO:<%d@example.org>" % number, 250) for number in range(100)]
    lines = [(EHLO, 250), (MAIL, 250), *recipients]
    talk(Client(), lines)
    served = settings(limits=Limits(recipients=100))
    talk(Client(served=served), [*lines, (RCPT, 452), (b"DATA", 354), (b".", 250)])


@pytest.mark.parametrize("name", ["bücher.example", "käthe"])
def test_the_name_of_a_server_is_ascii(name: str) -> None:
    # RFC 6531 3.7.1
    with pytest.raises(WireError, match="A-labels"):
        settings(hostname=name)


def test_smtputf8_comes_with_8bitmime_and_has_no_parameters() -> None:
    # RFC 6531 3.1
    offered = Client().say(EHLO + b"\r\n").splitlines()
    assert b"250-SMTPUTF8" in offered
    assert b"250-8BITMIME" in offered


def test_all_that_is_offered_is_registered_and_works() -> None:
    # RFC 5321 2.2.2, 4.2.4
    offered = {line[4:].split()[0] for line in Client().say(EHLO + b"\r\n").splitlines()[2:]}
    assert offered == {
        b"PIPELINING",
        b"SIZE",
        b"8BITMIME",
        b"SMTPUTF8",
        b"CHUNKING",
        b"ENHANCEDSTATUSCODES",
        b"DSN",
        b"HELP",
    }
    talk(Client(), [(EHLO, 250), (b"HELP", 214), (MAIL + b" BODY=8BITMIME SIZE=1", 250)])
