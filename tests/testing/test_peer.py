"""The scripted peer: what it plays, what it notices, and what its faults do to a client."""

from __future__ import annotations

import pytest

from smtp_proto.flow import (
    ConnectionLost,
    DeliveryInDoubt,
    Security,
    SendResult,
    Serve,
    ServeSettings,
    SMTPError,
    TLSError,
    TLSInfo,
    TLSLayer,
)
from smtp_proto.testing import (
    ADDRESS,
    Fault,
    ScriptedPeer,
    Side,
    TranscriptError,
    carry_out,
    faults_everywhere,
    octet_by_octet,
)
from smtp_proto.wire import Octets
from tests.testing.transcripts import CONTENT, DELIVERY, Inbox, deliver, open_settings

# --- The transcript --------------------------------------------------------------------------


def test_it_plays_the_server() -> None:
    peer = ScriptedPeer(DELIVERY)
    assert isinstance(deliver(peer), SendResult)
    peer.finish()
    assert bytes(peer.heard).endswith(b"\r\nDATA\r\nSubject: x\r\n\r\n..hello\r\n.\r\nQUIT\r\n")
    assert repr(peer) == "<ScriptedPeer: no fault>"


def test_it_plays_the_client() -> None:
    transcript = r"""
        S: 220 *
        C: EHLO client.example
        S*: 250 *
        C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: DATA
        S: 250 ...*
        S: 250 *
        S: 354 *
        C: Subject: x
        C:
        C: ..hello
        C: .
        S: 250 *
        C: QUIT
        S: 221 *
    """.replace("250 ...*", "250 *")
    inbox = Inbox()
    peer = ScriptedPeer(transcript, plays=Side.CLIENT)
    carry_out(serve(inbox), peer)
    assert inbox.contents == [CONTENT]
    peer.finish()


def serve(inbox: Inbox) -> Serve:
    settings = ServeSettings(hostname="mail.example.org", nonce=lambda: b"sixteen octets..")
    return Serve(inbox, settings, ADDRESS)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("NOOP", b"NOOP"),
        ("", b""),
        ("...", b"anything * at all \xff"),
        ("EHLO *", b"EHLO client.example"),
        ("*.example", b"EHLO client.example"),
        ("A * B * C", b"A 1 B 2 C"),
        (r"\*", b"*"),
        (r"AUTH \**", b"AUTH *x"),
        ("a.c", b"a.c"),
    ],
)
def test_lines_that_are_as_written(expected: str, said: bytes) -> None:
    peer = ScriptedPeer(f"C: {expected}\nS: 250 Ok")
    peer.write(said + b"\r\n")
    assert peer.read() == b"250 Ok\r\n"
    peer.finish()


@pytest.mark.parametrize(
    ("expected", "said"), [("NOOP", b"NOOP "), ("a.c", b"abc"), (r"\*", b"x"), ("EHLO *", b"EHLO")]
)
def test_lines_that_are_not(expected: str, said: bytes) -> None:
    with pytest.raises(TranscriptError):
        ScriptedPeer(f"C: {expected}").write(said + b"\r\n")


def test_any_lines_up_to_one() -> None:
    peer = ScriptedPeer("C*: .\nS: 250 Ok\nC*: QUIT")
    peer.write(b"Subject: x\r\n..\r\n")
    assert peer.heard == b"Subject: x\r\n..\r\n"
    peer.write(b".\r")
    peer.write(b"\nQUIT\r\n")
    assert peer.read() == b"250 Ok\r\n"
    assert peer.read() == b""
    peer.finish()


def test_remarks_and_waits() -> None:
    peer = ScriptedPeer("# a remark\n\nS: 1\n<wait 2.5>\nS: 2")
    assert peer.read() == b"1\r\n"
    assert peer.read() is None
    assert peer.arrives == 2.5
    peer.clock.reach(2.5)
    assert peer.read(2) == b"2\r"


def test_cut_and_delay() -> None:
    peer = ScriptedPeer("S: 1", cut=octet_by_octet, delay=1.0)
    assert peer.arrives == 1.0
    peer.clock.reach(2.0)
    assert [peer.read(), peer.read(), peer.read()] == [b"1", b"\r", None]


@pytest.mark.parametrize("line", ["X: 220 hi", "220 hi", "S:220", "<wait>", "<stop>", "C**: x"])
def test_a_line_that_is_none_is_told(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 of the transcript is none: "):
        ScriptedPeer(f"S: 220 hi\n{line}")


# --- What is wrong ---------------------------------------------------------------------------


def test_a_wrong_line_shows_what_was_to_come_and_where() -> None:
    peer = ScriptedPeer("S: 220 hi\nC: EHLO *\nS: 250 x")
    with pytest.raises(TranscriptError) as caught:
        peer.write(b"HELO client.example\r\n")
    assert str(caught.value) == (
        "the client says b'HELO client.example', in line 2 of the transcript, "
        "where this was to come:\n    S: 220 hi\n>>> C: EHLO *\n    S: 250 x"
    )


def test_who_waits_out_of_turn_is_told() -> None:
    peer = ScriptedPeer("S: 220 hi\nC: EHLO *\nS: 250 x")
    assert peer.read() == b"220 hi\r\n"
    peer.write(b"EHLO client.example\r")
    with pytest.raises(TranscriptError, match="the client waits, in line 2"):
        peer.read()
    with pytest.raises(TranscriptError, match="the client has not come so far, in line 2"):
        peer.finish()


def test_the_server_is_named_where_the_client_is_played() -> None:
    peer = ScriptedPeer("S: 220 hi", plays=Side.CLIENT)
    with pytest.raises(TranscriptError, match="the server says b'421 no'"):
        peer.write(b"421 no\r\n")


def test_who_says_too_much_is_told() -> None:
    peer = ScriptedPeer("C: QUIT")
    peer.write(b"QUIT\r\n")
    peer.write(b"NOOP\r\n")
    assert peer.read() == b""
    with pytest.raises(TranscriptError, match="behind the transcript the client says .*NOOP"):
        peer.finish()


def test_who_has_hung_up_says_and_hears_nothing() -> None:
    peer = ScriptedPeer("S: 220 hi")
    peer.close()
    with pytest.raises(ConnectionAbortedError):
        peer.write(b"?")
    with pytest.raises(ConnectionAbortedError):
        peer.read()


# --- Faults ----------------------------------------------------------------------------------


def test_a_fault_by_its_place() -> None:
    peer = ScriptedPeer("S: 220 hi\nC: QUIT").with_fault(after=3, fault=Fault.DROP)
    assert repr(peer) == "<ScriptedPeer: drop after 3 octets>"
    assert peer.read() == b"220"
    assert peer.read() == b""
    peer.write(b"is not heard any more")
    assert not peer.heard
    peer.finish()


def test_a_peer_with_a_fault_keeps_all_else() -> None:
    peer = ScriptedPeer("C: x\nS: 12345", plays=Side.CLIENT, cut=octet_by_octet, delay=1.0)
    peer.clock.advance(1.0)
    faulty = peer.with_fault(after=2, fault=Fault.DROP).with_fault(after=1, fault=Fault.SPLIT)
    assert faulty.faults == ((2, Fault.DROP), (1, Fault.SPLIT))
    assert faulty.arrives == 2.0
    faulty.clock.advance(9.0)
    assert [faulty.read(), faulty.read(), faulty.read()] == [b"x", b"\r", b""]


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_by_its_mark(fault: Fault) -> None:
    marked = ScriptedPeer(f"S: 220-hi\n<{fault.value}>\nS: 220 you")
    placed = ScriptedPeer("S: 220-hi\nS: 220 you").with_fault(after=8, fault=fault)
    assert told(marked) == told(placed)


def told(peer: ScriptedPeer) -> list[object]:
    heard: list[object] = []
    for _ in range(20):
        try:
            heard.append((peer.read(), peer.arrives))
        except OSError as error:
            heard.append(type(error))
    return heard


def test_a_reset_breaks_writes_and_a_stall_holds_them() -> None:
    peer = ScriptedPeer("<reset>")
    with pytest.raises(ConnectionResetError):
        peer.write(b"?")
    with pytest.raises(ConnectionResetError):
        peer.read()
    peer = ScriptedPeer("<stall>")
    with pytest.raises(BlockingIOError):
        peer.write(b"?")
    assert peer.read() is None


def test_every_fault_at_every_point() -> None:
    """A message is delivered, or not, or in doubt; and never is it anything else."""
    final = DELIVERY.index("C*: .")
    known = sum(len(line) - 1 for line in DELIVERY[:final].splitlines() if line[:1] == "S")
    decided = known + len("250 Delivered\r\n")
    peers = list(faults_everywhere(DELIVERY))
    for peer in peers:
        [(after, fault)] = peer.faults
        try:
            result: object = deliver(peer)
        except SMTPError as error:
            result = error
        else:
            peer.finish()
        if fault is Fault.SPLIT or after >= decided:
            assert isinstance(result, SendResult), peer
        elif fault is Fault.DRIP:
            assert isinstance(result, SendResult | SMTPError), peer
        elif fault is Fault.CLOSING:
            assert isinstance(result, SMTPError), peer
        elif after > known:
            assert isinstance(result, DeliveryInDoubt), peer
        elif fault is Fault.DROP:
            assert isinstance(result, ConnectionLost | DeliveryInDoubt), peer
        else:
            assert isinstance(result, SMTPError), peer
    said = decided + len("221 Goodbye\r\n")
    assert (
        len(peers)
        == (said + 1) * (len(Fault) - 1)
        + len([line for line in DELIVERY.splitlines() if line.startswith("S: ")])
        + 1
    )


def test_every_fault_of_a_client() -> None:
    transcript = "S: 220 *\nC: EHLO client.example\nS*: 250 *\nC: QUIT\nS: 221 *"
    peers = list(
        faults_everywhere(transcript, plays=Side.CLIENT, faults=[Fault.CLOSING, Fault.DROP])
    )
    assert [peer.faults for peer in peers] == [((after, Fault.DROP),) for after in range(28)]
    for peer in peers:
        carry_out(serve(Inbox()), peer)
        peer.finish()


# --- TLS -------------------------------------------------------------------------------------


class Shift(TLSLayer):
    """TLS in a few lines: each side says hello, and every octet is one more."""

    def __init__(self, hello: bytes = b"hello", *, wrong: bool = False) -> None:
        self._hello = hello
        self._wrong = wrong
        self._outgoing = hello
        self._incoming = b""
        self._done = False
        self._closed = False

    def handshake(self) -> bool:
        if self._wrong and self._incoming:
            self._outgoing += b"alert"
            raise TLSError("not to be trusted")
        if len(self._incoming) < len(self._hello):
            return False
        self._incoming = self._incoming[len(self._hello) :]
        self._done = True
        return True

    def receive_data(self, data: Octets) -> bytes:
        if bytes(data) == b"alert":
            raise TLSError("the peer has said so")
        self._incoming += bytes(data)
        if not self._done:
            return b""
        clear, self._incoming = self._incoming, b""
        self._closed = self._closed or b"\0" in clear
        return bytes(octet - 1 for octet in clear if octet)

    def receive_eof(self) -> None:
        if not self.closed:
            raise TLSError("cut off")

    def encrypt(self, data: Octets) -> bytes:
        return self.data_to_send() + bytes(octet + 1 for octet in bytes(data))

    def data_to_send(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def close(self) -> bytes:
        return b"\0"

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def info(self) -> TLSInfo:
        return TLSInfo("x", "x", None, True, None)


IMPLICIT = f"<tls>\n{DELIVERY}"
STARTTLS = f"""
S: 220 mail.example.org
C: EHLO client.example
S: 250-mail.example.org
S: 250 STARTTLS
C: STARTTLS
S: 220 Go ahead
<tls>
{DELIVERY.partition("ESMTP")[2]}"""


@pytest.mark.parametrize(
    ("transcript", "security"),
    [(IMPLICIT, Security.IMPLICIT), (STARTTLS, Security.STARTTLS)],
)
def test_tls_begins_where_it_is_marked(transcript: str, security: Security) -> None:
    settings = open_settings(security=security, tls=lambda _: Shift())
    peer = ScriptedPeer(transcript, tls=Shift)
    deliver(peer, settings)
    peer.finish()
    assert peer.heard.endswith(b"QUIT\r\n")
    for faulty in faults_everywhere(transcript, tls=Shift, faults=[Fault.SPLIT]):
        deliver(faulty, settings)
        faulty.finish()
    for faulty in faults_everywhere(transcript, tls=Shift, faults=[Fault.DROP]):
        if faulty.faults[0][0] < 90:
            with pytest.raises(SMTPError):
                deliver(faulty, settings)


def test_tls_wants_something_that_makes_it() -> None:
    with pytest.raises(ValueError, match="nothing was given to make it"):
        ScriptedPeer("<tls>").read()


def test_clear_text_behind_the_mark_is_told() -> None:
    peer = ScriptedPeer("C: STARTTLS\n<tls>", tls=Shift)
    with pytest.raises(TranscriptError, match="the client says b'NOOP.*line 2"):
        peer.write(b"STARTTLS\r\nNOOP\r\n")


def test_a_handshake_that_fails_ends_the_stream() -> None:
    peer = ScriptedPeer("<tls>\nS: 220 hi", tls=lambda: Shift(wrong=True))
    assert peer.read() == b"hello"
    peer.write(b"he")
    assert peer.read() == b"alert"
    assert peer.read() == b""
    peer.finish()


def test_tls_that_fails_later_ends_the_stream() -> None:
    peer = ScriptedPeer("<tls>\nC: NOOP", tls=Shift)
    peer.write(b"hello")
    assert peer.read() == b"hello"
    with pytest.raises(TranscriptError, match="waits"):
        peer.read()
    peer.write(b"alert")
    assert peer.read() == b""
