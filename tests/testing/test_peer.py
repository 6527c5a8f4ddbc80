"""The scripted peer: what it plays, what it notices, and what its faults do to a client."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

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
    Clock,
    Cut,
    Fault,
    ScriptedPeer,
    Side,
    TranscriptError,
    carry_out,
    faults_everywhere,
    octet_by_octet,
    whole,
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
    ("expected", "said"),
    [
        ("NOOP", b"NOOP "),
        ("a.c", b"abc"),
        (r"\*", b"x"),
        ("EHLO *", b"EHLO"),
        ("MAIL FROM:<*>", b"MAIL FROM:<a@b>\nRCPT TO:<c@d>"),
        ("MAIL FROM:<*>", b"MAIL FROM:<a@b>\rRCPT TO:<c@d>"),
        ("MAIL FROM:<*>", b"MAIL FROM:<a@b\0>"),
        ("*", b"\n"),
        ("...", b"NOOP\nQUIT"),
    ],
)
def test_lines_that_are_not(expected: str, said: bytes) -> None:
    with pytest.raises(TranscriptError):
        ScriptedPeer(f"C: {expected}").write(said + b"\r\n")


def test_any_lines_up_to_one() -> None:
    peer = ScriptedPeer("C*: .\nS: 250 Ok\nC*: QUIT")
    peer.write(b"Subject: x\r\n..\r\n")
    assert peer.heard == b"Subject: x\r\n..\r\n"
    peer.write(b".\r")
    peer.write(b"\n")
    assert peer.read() == b"250 Ok\r\n"
    peer.write(b"QUIT\r\n")
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
    with pytest.raises(
        ValueError, match=r"^line 2 of the transcript is '.*', and none of .*<wait 5>"
    ):
        ScriptedPeer(f"S: 220 hi\n{line}")


# --- What is wrong ---------------------------------------------------------------------------


def test_a_wrong_line_shows_what_was_to_come_and_where() -> None:
    peer = ScriptedPeer("S: 220 hi\nC: EHLO *\nS: 250 x")
    assert peer.read() == b"220 hi\r\n"
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
    behind = r"behind b'EHLO client.example\\r', without CRLF, in line 2"
    with pytest.raises(TranscriptError, match=f"the client waits {behind}"):
        peer.read()
    with pytest.raises(TranscriptError, match=f"the client has not come so far {behind}"):
        peer.finish()


@pytest.mark.parametrize(
    ("reply", "hint"), [("421 Bye", " (<421> is said at any time)"), ("250 Ok", "")]
)
def test_who_writes_421_as_a_line_in_mid_content_is_told_of_the_mark(reply: str, hint: str) -> None:
    peer = ScriptedPeer(f"C: DATA\nC: x\nS: {reply}")
    with pytest.raises(TranscriptError) as caught:
        peer.write(b"DATA\r\nx\r\n\r\n.\r\n")
    assert str(caught.value).startswith(f"the client says b'' out of turn{hint}, in line 3 of")


def test_a_server_is_told_nothing_of_the_mark() -> None:
    with pytest.raises(TranscriptError, match="says b'250' out of turn, in line 2"):
        ScriptedPeer("S: 220\nC: 421", plays=Side.CLIENT).write(b"220\r\n250\r\n")


def test_who_waits_with_nothing_said_is_told() -> None:
    peer = ScriptedPeer("S: 220 hi\nC: EHLO *\nS: 250 x")
    peer.read()
    with pytest.raises(TranscriptError, match="the client waits, in line 2"):
        peer.read()
    with pytest.raises(TranscriptError, match="the client has not come so far, in line 2"):
        peer.finish()


def test_lines_are_counted_as_they_are_shown() -> None:
    peer = ScriptedPeer("\n\n  # EHLO\n\n  S: 220 hi\n  C: EHLO *\n\n")
    peer.read()
    with pytest.raises(TranscriptError) as caught:
        peer.write(b"QUIT\r\n")
    first, *shown = str(caught.value).split("\n")
    assert "in line 4" in first
    assert shown == ["    # EHLO", "    ", "    S: 220 hi", ">>> C: EHLO *"]


@pytest.mark.parametrize(
    ("make", "error", "what"),
    [
        (lambda peer: peer(3), TypeError, "transcript is text, as str, not 3"),
        (lambda peer: peer("", plays="C"), TypeError, "plays is Side.CLIENT or .*, not 'C'"),
        (lambda peer: peer("", tls=True), TypeError, "tls is a callable .*, not True"),
        (lambda peer: peer("", cut=3), TypeError, r"cut is a callable, as in_pieces\(3\), not 3"),
        (lambda peer: peer("", delay=-1), ValueError, "delay is a number from 0 up, not -1"),
        (lambda peer: peer("", delay="1"), TypeError, "delay is a number from 0 up, not '1'"),
        (lambda peer: peer("", delay=inf), ValueError, "delay is a number from 0 up, not inf"),
        (lambda peer: peer("", faults=[(1, "drop")]), TypeError, "fault is a Fault, .* not 'drop'"),
        (
            lambda peer: peer("").with_fault(after=5, fault="drop"),
            TypeError,
            "fault is a Fault, as Fault.DROP, not 'drop'",
        ),
        (
            lambda peer: peer("").with_fault(after=-5, fault=Fault.DROP),
            ValueError,
            "after is a number from 0 up, not -5",
        ),
        (
            lambda peer: peer("").with_fault(after=1.5, fault=Fault.DROP),
            TypeError,
            "after is a number of octets, as int, not 1.5",
        ),
    ],
)
def test_what_is_no_such_thing_is_told(
    make: Callable[[Callable[..., ScriptedPeer]], object], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=f"^{what}$"):
        make(ScriptedPeer)


def test_faults_everywhere_tells_at_once_what_is_no_such_thing() -> None:
    everywhere: Callable[..., object] = faults_everywhere
    for faults in ("drop", ["drop"], [Fault.DROP, "drop"]):
        with pytest.raises(TypeError, match="^fault is a Fault, as Fault.DROP, not '"):
            everywhere("S: 1", faults=faults)
    with pytest.raises(TypeError, match="^plays is "):
        everywhere("S: 1", plays="C")
    with pytest.raises(ValueError, match="^line 1 of the transcript is '<foo>'"):
        everywhere("<foo>")
    with pytest.raises(ValueError, match="^delay is a number from 0 up, not -1$"):
        everywhere("S: 1", delay=-1)


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


# --- Turns -----------------------------------------------------------------------------------

ONE_BY_ONE = """
    S: 220 hi
    C: EHLO *
    S: 250-x
    S: 250 y
    C: DATA
    S: 354 Go ahead
    C: x
    C: .
    S: 250 Delivered
    C: QUIT
    S: 221 Goodbye
"""
SAYS = {
    side: [
        f"{line[3:]}\r\n".encode()
        for line in map(str.strip, ONE_BY_ONE.splitlines())
        if line.startswith(f"{side.value}:")
    ]
    for side in Side
}


def read_all(peer: ScriptedPeer) -> bytes:
    octets = b""
    while peer.arrives < inf:
        peer.clock.reach(peer.arrives)
        if not (piece := peer.read()):
            break
        octets += piece
    return octets


@pytest.mark.parametrize("cut", [whole, octet_by_octet])
def test_the_client_may_take_its_turn_in_pieces(cut: Cut) -> None:
    peer = ScriptedPeer(ONE_BY_ONE, cut=cut)
    for line in SAYS[Side.CLIENT]:
        read_all(peer)
        for octet in line:
            peer.write(bytes([octet]))
    assert read_all(peer) == b"221 Goodbye\r\n"
    peer.finish()


@pytest.mark.parametrize("size", range(2, 6))
@pytest.mark.parametrize("plays", Side)
def test_who_says_lines_of_two_turns_at_once_is_told(plays: Side, size: int) -> None:
    other = Side.SERVER if plays is Side.CLIENT else Side.CLIENT
    peer = ScriptedPeer(ONE_BY_ONE, plays=plays)
    read_all(peer)
    with pytest.raises(TranscriptError, match=f"says {SAYS[other][1][:-2]!r} out of turn"):
        peer.write(b"".join(SAYS[other][:size]))
    with pytest.raises(TranscriptError):
        peer.finish()


def test_half_a_line_is_said_out_of_turn_too() -> None:
    peer = ScriptedPeer("C: EHLO *\nS: 250 x\nC: QUIT")
    with pytest.raises(TranscriptError) as caught:
        peer.write(b"EHLO client.example\r\nQU")
    assert str(caught.value) == (
        "the client says b'QU' out of turn, in line 2 of the transcript, "
        "where this was to come:\n    C: EHLO *\n>>> S: 250 x\n    C: QUIT"
    )


def test_a_client_that_speaks_before_the_greeting_is_told() -> None:
    peer = ScriptedPeer("S: 220 hi\nC: EHLO *\nS: 250 x")
    with pytest.raises(TranscriptError) as caught:
        peer.write(b"EHLO client.example\r\n")
    assert str(caught.value) == (
        "the client says b'EHLO client.example' before it has read all that it was told, "
        "in line 2 of the transcript, where this was to come:\n"
        "    S: 220 hi\n>>> C: EHLO *\n    S: 250 x"
    )
    assert peer.heard == b"EHLO client.example\r\n"
    read_all(peer)
    with pytest.raises(TranscriptError, match="has not come so far"):
        peer.finish()


@pytest.mark.parametrize("unread", range(1, len(b"220 hi\r\n")))
def test_a_client_reads_a_reply_to_its_end(unread: int) -> None:
    peer = ScriptedPeer("S: 220 hi\nC: EHLO *\nC: NOOP\nS: 250 x")
    peer.read(unread)
    with pytest.raises(TranscriptError, match="before it has read all"):
        peer.write(b"EHLO")


def test_a_server_may_answer_before_it_has_read_the_next_command() -> None:
    transcript = "S: 220\nC: RSET\nC: NOOP\nS: 250 *\nS: 250 *\nC: QUIT\nS: 221 *"
    peer = ScriptedPeer(transcript, plays=Side.CLIENT)
    peer.write(b"220\r\n")
    for command in (b"RSET\r\n", b"NOOP\r\n"):
        assert peer.read() == command
        peer.write(b"250 Ok\r\n")
    assert peer.read() == b"QUIT\r\n"
    peer.write(b"221 Goodbye\r\n")
    peer.finish()


@pytest.mark.parametrize("taken", range(len(b"x\r\n.\r\n")))
def test_a_server_that_acknowledges_what_it_has_not_read_is_told(taken: int) -> None:
    peer = ScriptedPeer("S: 354 *\nC: x\nC: .\nS: 250 *", plays=Side.CLIENT, cut=octet_by_octet)
    peer.write(b"354 Go ahead\r\n")
    for _ in range(taken):
        peer.read()
    with pytest.raises(TranscriptError, match="says b'250 Delivered' before .* in line 4"):
        peer.write(b"250 Delivered\r\n")


# --- Faults ----------------------------------------------------------------------------------


def test_a_fault_by_its_place() -> None:
    peer = ScriptedPeer("S: 220 hi\nC: QUIT").with_fault(after=3, fault=Fault.DROP)
    assert repr(peer) == "<ScriptedPeer: drop after 3 octets>"
    assert peer.read() == b"220"
    assert peer.read() == b""
    peer.write(b"is heard all the same")
    assert peer.heard == b"is heard all the same"
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


@pytest.mark.parametrize("fault", Fault)
def test_what_is_said_behind_a_fault_is_heard_where_anybody_listens(fault: Fault) -> None:
    deaf = fault in (Fault.RESET, Fault.STALL)
    peer = ScriptedPeer(f"C: NOOP\n<wait 1>\n<{fault.value}>\nC: NOOP\nS: 250 Ok")
    peer.write(b"NOOP\r\n")
    peer.write(b"NOOP\r\n")
    assert peer.heard == b"NOOP\r\n" * (1 if deaf else 2)


@pytest.mark.parametrize("fault", Fault)
def test_what_came_in_the_same_write_is_behind_the_fault_too(fault: Fault) -> None:
    deaf = fault in (Fault.RESET, Fault.STALL)
    peer = ScriptedPeer(f"C: DATA\nC: x\n<{fault.value}>\nC*: .\nS: 250 Ok")
    peer.write(b"DATA\r\nx\r\ny\r\n.\r\n")
    assert peer.heard == b"DATA\r\nx\r\n" + (b"" if deaf else b"y\r\n.\r\n")
    peer.finish()


def test_no_message_is_said_unheard() -> None:
    """A client that says it all, whatever comes, cannot claim that nothing was delivered."""
    unheard = [Fault.RESET, Fault.STALL]
    faults = [fault for fault in Fault if fault not in unheard]
    for peer in faults_everywhere(ONE_BY_ONE, faults=faults):
        for line in SAYS[Side.CLIENT]:
            read_all(peer)
            peer.write(line)
        assert b"\r\nx\r\n.\r\n" in peer.heard


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


def test_faults_are_those_of_a_peer_with_these_cuts_delays_and_clock() -> None:
    clock = Clock(1.0)
    peers = list(
        faults_everywhere("S: 1", faults=[Fault.DROP], clock=clock, cut=octet_by_octet, delay=2.0)
    )
    assert [peer.arrives for peer in peers] == [1.0, 3.0, 3.0, 3.0]
    clock.reach(7.0)
    assert [peers[2].read(), peers[2].read(), peers[2].read()] == [b"1", b"\r", b""]


def test_each_of_the_peers_has_a_clock_of_its_own() -> None:
    first, second = faults_everywhere("S:", faults=[Fault.CLOSING])
    first.clock.advance(1.0)
    assert second.clock.now == 0.0


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


def test_a_client_that_begins_tls_before_it_may_is_told() -> None:
    peer = ScriptedPeer("C: STARTTLS\nS: 220 Go ahead\n<tls>\nC: NOOP", tls=Shift)
    peer.write(b"STARTTLS\r\n")
    with pytest.raises(TranscriptError, match="begins TLS before it has read all.* line 3"):
        peer.write(b"hello")


def test_a_client_that_closes_tls_before_the_greeting_says_nothing() -> None:
    peer = ScriptedPeer("<tls>\nS: 220 hi\nC: QUIT", tls=Shift)
    peer.write(b"hello")
    peer.write(b"\0")
    assert not peer.heard


@pytest.mark.parametrize(
    ("said", "where"), [("S: 220 hi\nC: NOOP", "line 2"), ("C: QUIT\nS: 221 bye", "line 3")]
)
def test_out_of_turn_under_tls(said: str, where: str) -> None:
    peer = ScriptedPeer(f"<tls>\n{said}", tls=Shift)
    layer = Shift()
    layer.receive_data(b"hello")
    assert layer.handshake()
    with pytest.raises(TranscriptError, match=f"says b'NOOP' out of turn, in {where}"):
        peer.write(layer.encrypt(b"QUIT\r\nNOOP\r\n"[0 if "QUIT" in said else 6 :]))


def test_behind_a_fault_tls_is_heard_in_clear_and_its_end_ends_nothing() -> None:
    peer = ScriptedPeer("<tls>\n<silence>", tls=Shift)
    peer.write(b"hello")
    assert peer.read() == b"hello"
    peer.write(Shift(hello=b"").encrypt(b"NOOP\r\n"))
    assert peer.heard == b"NOOP\r\n"
    peer.write(b"alert")
    assert peer.arrives == inf
    assert peer.heard == b"NOOP\r\n"


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
