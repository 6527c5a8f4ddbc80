"""Streams of octets, legal and hostile, and ways to cut them.

Knows what a session looks like on the wire. Must not know who reads it, nor what becomes of it.
"""

from __future__ import annotations

from hypothesis import strategies as st

from smtp_proto.testing.link import Cut, cut_at, in_pieces
from smtp_proto.testing.strategies.values import (
    commands,
    content,
    domains,
    forward_paths,
    replies,
    reverse_paths,
)
from smtp_proto.wire import (
    Bdat,
    ContentEncoder,
    Data,
    Ehlo,
    Expn,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    Vrfy,
)

# --- Legal -----------------------------------------------------------------------------------


def _mails() -> st.SearchStrategy[bytes]:
    return st.builds(Mail, reverse_paths(ascii_only=True)).map(Mail.encode)


def _rcpts() -> st.SearchStrategy[bytes]:
    return st.builds(Rcpt, forward_paths(ascii_only=True)).map(Rcpt.encode)


def _data(octets: bytes) -> bytes:
    encoder = ContentEncoder()
    return Data().encode() + encoder.encode(octets) + encoder.end()


def _chunk(octets: bytes, last: bool) -> bytes:
    return Bdat(len(octets), last).encode() + octets


@st.composite
def _transactions(draw: st.DrawFn) -> bytes:
    opening = draw(_mails()) + b"".join(draw(st.lists(_rcpts(), min_size=1, max_size=3)))
    octets = draw(content())
    match draw(st.sampled_from(["DATA", "BDAT", "RSET"])):
        case "DATA":
            return opening + _data(octets)
        case "BDAT":
            pieces = draw(splits(octets))
            chunks = b"".join(_chunk(piece, last=False) for piece in pieces)
            return opening + chunks + _chunk(b"", last=True)
        case _:
            return opening + Rset().encode()


def client_bytes() -> st.SearchStrategy[bytes]:
    """All that a client may say in a session whose server accepts everything, from EHLO to QUIT.

    No address wants SMTPUTF8; there is neither STARTTLS nor AUTH, behind which a client must wait.
    """
    others = commands(Noop, Rset, Help, Vrfy, Expn).map(lambda command: command.encode())
    hellos = domains().map(lambda domain: Ehlo(domain).encode())
    middles = st.lists(_transactions() | others, max_size=4).map(b"".join)
    return st.tuples(hellos, middles, st.just(Quit().encode())).map(b"".join)


def server_bytes() -> st.SearchStrategy[bytes]:
    """Replies, one after the other: all that a server may say."""
    return st.lists(replies(), max_size=6).map(
        lambda said: b"".join(reply.encode() for reply in said)
    )


# --- Hostile ---------------------------------------------------------------------------------

_FRAGMENTS = (
    b"\r",
    b"\n",
    b"\r\r\n",
    b"\n\r",
    b"\0",
    b"\n.\n",
    b"\r\n.\n",
    b"\n.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n.\r\n",
    b"\xff\xfe\x80",
    b"\xed\xb0\x80",  # half of a surrogate pair, in UTF-8
    b"A" * 5_000 + b"\r\n",
    b"250-" + b"x" * 5_000 + b"\r\n",
    b"250-x\r\n" * 1_100,
    b"BDAT 99999999999999999999 LAST\r\n",
    b"BDAT 99999999999999999999999\r\n",
    b"BDAT -1\r\n",
    b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d\r\n>\r\n",
    b"STARTTLS\r\nNOOP\r\n",
    b"AUTH PLAIN\r\n*\r\n",
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",  # TLS: the beginning of a handshake
    b"\x15\x03\x03\x00\x02\x02\x28",  # TLS: an alert
    b"GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n",
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    b"\xff\xf4\xff\xfd\x06",  # Telnet: an interruption
    b"SSH-2.0-x\r\n",
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    octets = draw(client_bytes() | server_bytes())
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(octets))] * 2)))
        before, inside, behind = octets[:start], octets[start:end], octets[end:]
        fragment = draw(_fragments())
        octets = draw(
            st.sampled_from(
                [
                    before + fragment + inside + behind,
                    before + fragment + behind,
                    before + behind,
                    before + inside + inside + behind,
                    before + inside,
                ]
            )
        )
    return octets


def _fragments() -> st.SearchStrategy[bytes]:
    return st.sampled_from(_FRAGMENTS) | st.binary(max_size=20)


def hostile_bytes() -> st.SearchStrategy[bytes]:
    """Octets that no peer should send: legal ones spoilt, other protocols, and any at all."""
    return _mutated() | st.lists(_fragments(), max_size=6).map(b"".join)


# --- Cuts ------------------------------------------------------------------------------------


@st.composite
def splits(draw: st.DrawFn, octets: bytes) -> list[bytes]:
    """Ways to cut these octets into pieces, none of which is empty."""
    places = draw(st.lists(st.integers(1, max(1, len(octets) - 1)), max_size=8))
    return [*filter(None, cut_at(*set(places))(octets))]


def cuts() -> st.SearchStrategy[Cut]:
    """Ways to cut one direction of a link: a few places, or everywhere."""
    sizes = st.integers(1, 20)
    places = st.lists(st.integers(1, 2_000), max_size=10, unique=True)
    return places.map(lambda drawn: cut_at(*drawn)) | sizes.map(in_pieces)
