"""Harnesses for each state of a session: the octets are said in one of them.

Knows how a session gets there, and the alphabet of SMTP. Must not know what is legal where.

    letter octets

A small letter names a state in `STATES` of the harness; any other octet is counted on to one. With
a capital the octets are not what is said, but stand each for a word of the alphabet.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

Harness: TypeAlias = Callable[[bytes], None]

_RS = b"\x1e"
_HELLO = b"EHLO c.example\r\n"
_MAIL = b"MAIL FROM:<>\r\n"
_RCPT = b"RCPT TO:<a@b>\r\n"
_TOLD = b"\n" + _RS + b"\n220 s.example\r\n"
_OFFERED = b"250-s\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n"

# What a server is told, up to where it is in the state.
SERVER_STATES: Mapping[str, bytes] = {
    "a": b"++3\n" + _HELLO + b"AUTH PLAIN\r\n",
    "b": b"\n" + _HELLO + _MAIL + _RCPT + b"BDAT 4\r\nabcd",
    "c": b"\n" + _HELLO + _MAIL + _RCPT + b"BDAT 9\r\n",
    "d": b"\n" + _HELLO + _MAIL + _RCPT + b"DATA\r\n",
    "g": b"\n",
    "h": b"\nHELO c.example\r\n",
    "l": b"L\nLHLO c.example\r\n",
    "m": b"\n" + _HELLO + _MAIL,
    "q": b"\n" + _HELLO + b"QUIT\r\n",
    "r": b"\n" + _HELLO + _MAIL + _RCPT,
    "t": b"\n" + _HELLO + b"STARTTLS\r\n",
    "u": b"\n" + _HELLO + b"STARTTLS\r\n" + _RS + b"t\n" + _HELLO,
    "w": b"S\n" + _HELLO,
    "y": b"\n" + _HELLO,
}
# The same for the flow: TLS begins with an octet of `fuzz.fake_tls`.
SERVE_STATES: Mapping[str, bytes] = {
    **{letter: octets for letter, octets in SERVER_STATES.items() if letter not in "atuw"},
    "a": b"\n" + _HELLO + b"AUTH LOGIN\r\n",
    "i": b"I\n\x16" + _HELLO,
    "n": b"M\n" + _HELLO,
    "o": b"O\n" + _HELLO,
    "t": b"O\n" + _HELLO + b"STARTTLS\r\n",
    "u": b"TM\n" + _HELLO + b"STARTTLS\r\n\x16" + _HELLO,
    "v": b"TMR\n" + _HELLO + b"STARTTLS\r\n\x16" + _HELLO + b"AUTH SCRAM-SHA-256\r\n",
}
# What a client has done and heard.
CLIENT_STATES: Mapping[str, bytes] = {
    "a": _TOLD + _RS + b"e\n" + _OFFERED + _RS + b"a\n",
    "b": _TOLD + _RS + b"e\n250-s\r\n250-PIPELINING\r\n250 CHUNKING\r\n" + _RS + b"mrbbB\n",
    "d": _TOLD + _RS + b"e\n" + _OFFERED + _RS + b"mrd\n250 Ok\r\n250 Ok\r\n354 Go\r\n" + _RS,
    "e": _TOLD + _RS + b"e\n",
    "f": _TOLD + _RS + b"e\n" + _OFFERED + _RS + b"mrRd\n",
    "g": b"\n",
    "l": b"L" + _TOLD + _RS + b"l\n" + _OFFERED + _RS + b"mrRd\n250 Ok\r\n250 Ok\r\n250 Ok\r\n"
    b"354 Go\r\n" + _RS + b"c.\n",
    "m": _TOLD + _RS + b"e\n" + _OFFERED + _RS + b"m\n",
    "q": _TOLD + _RS + b"e\n" + _OFFERED + _RS + b"q\n",
    "s": _TOLD + _RS + b"e\n" + _OFFERED + _RS + b"s\n",
    "t": _TOLD + _RS + b"e\n" + _OFFERED + _RS + b"s\n220 Go\r\n" + _RS + b"t\n",
    "y": _TOLD + _RS + b"e\n" + _OFFERED,
}

_NEXT = _RS + b"\n"
_GREETED = b"\n220 s.example\r\n" + _NEXT
_REACHED = _GREETED + _OFFERED + _NEXT
_HANDSHAKE = b"220 Go\r\n" + _NEXT + b"\x16" + _NEXT
_SCRAM = b"250-s\r\n250 AUTH SCRAM-SHA-256 XOAUTH2\r\n" + _NEXT
# What a client has heard, turn by turn: a server that speaks too soon gets no further.
OPEN_STATES: Mapping[str, bytes] = {
    "a": b"aA" + _REACHED,
    "b": b"sjA" + _REACHED + _HANDSHAKE + _SCRAM,
    "f": b"f\n",
    "g": b"\n",
    "h": b"h\n",
    "i": b"ia\n",
    "j": b"iJA\n\x16" + _NEXT + b"220 s\r\n" + _NEXT + _SCRAM + b"334 \r\n" + _NEXT,
    "l": b"L" + _GREETED,
    "n": b"ia\n\x16" + _NEXT + b"220 s\r\n" + _NEXT + _SCRAM,
    "o": b"oa" + _GREETED,
    "p": b"5ua\n\x05\x02" + _NEXT,
    "s": b"sa" + _REACHED,
    "t": b"sa" + _REACHED + _HANDSHAKE,
    "u": b"ua7\n",
    "v": b"uca2" + _REACHED,
    "w": b"Hia\n\x16" + _NEXT + b"HTTP/1.1 200 Ok\r\n",
    "y": b"mcA" + _REACHED,
}

ALPHABET: Sequence[bytes] = (
    *(b"\r\n", b"\r", b"\n", b".", b"..", b" ", b"-", b"<", b">", b":", b"@", b"=", b"*", b"\0"),
    *(b"\x14", b"\x15", b"\x16", b"\x1e", b"\x1et\n", b"\x1ex\n", b"\x1e\n", b"\xff", "ü".encode()),
    *(b".\r\n", b"\r\n.\r\n", b"\n.\n", b"a", b"abcd", b"QUJD", b"AHVzZXIAcGFzcyB3b3Jk"),
    *(b"220 ", b"221 ", b"235 ", b"250 ", b"250-", b"334 ", b"354 ", b"421 ", b"450 ", b"500 "),
    *(b"501 ", b"503 ", b"504 ", b"530 ", b"535 ", b"550 ", b"554 ", b"199 ", b"2.1.0 ", b"Ok\r\n"),
    *(b"STARTTLS\r\n", b"AUTH PLAIN LOGIN\r\n", b"AUTH SCRAM-SHA-256\r\n", b"PIPELINING\r\n"),
    *(b"CHUNKING\r\n", b"SIZE 9\r\n", b"SMTPUTF8\r\n", b"8BITMIME\r\n", b"LIMITS RCPTMAX=1\r\n"),
    *(_HELLO, b"HELO c\r\n", b"LHLO c\r\n", _MAIL, b"MAIL FROM:<a@b> SIZE=9\r\n", _RCPT),
    *(b"RCPT TO:<Postmaster>\r\n", b"DATA\r\n", b"BDAT 4\r\n", b"BDAT 0 LAST\r\n", b"RSET\r\n"),
    *(b"NOOP\r\n", b"QUIT\r\n", b"HELP\r\n", b"VRFY a\r\n", b"EXPN a\r\n", b"XYZZY\r\n"),
    *(b"AUTH PLAIN\r\n", b"AUTH LOGIN\r\n", b"AUTH CRAM-MD5\r\n", b"AUTH PLAIN =\r\n", b"*\r\n"),
    *(b"HTTP/1.1 200 Ok\r\n", b"HTTP/1.1 407 No\r\n", b"\x05\x00", b"\x05\x02", b"\x01\x00"),
    *(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", b"\x00\x5a\x00\x00\x00\x00\x00\x00"),
)
"""What SMTP is made of; an octet stands for one of these."""


def spelled(data: bytes) -> bytes:
    """Return the words that octets stand for."""
    return b"".join(ALPHABET[octet % len(ALPHABET)] for octet in data)


def in_states(harness: Harness, states: Mapping[str, bytes]) -> Harness:
    """Return a harness that says the octets in one of the states."""
    letters = [*states]

    def say(data: bytes) -> None:
        letter, octets = data[:1].decode("latin-1"), data[1:]
        if letter.isupper():
            octets = spelled(octets)
        if letter.lower() not in states:
            letter = letters[sum(data[:1]) % len(letters)]
        harness(states[letter.lower()] + octets)

    return say
