"""What a message needs of a server: the parameters that say so, and what is not sent without them.

Knows the extensions of SMTP. Must not know what a server answers.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.errors import CapabilityMissing, MessageTooLarge, SMTPError
from smtp_proto.flow.mail import SendMail
from smtp_proto.flow.session import Session
from smtp_proto.wire import (
    Body,
    Mailbox,
    MailParameters,
    Notify,
    Octets,
    OriginalRecipient,
    Parameter,
    RcptParameters,
    Ret,
    WireError,
)
from tests.flow.scripted import Transcript, opened, play

ONE = Envelope.of("a@example.org", "b@example.net")
BODY = b"Subject: x\r\n\r\nhello\r\n"
UTF8_BODY = "Subject: x\r\n\r\nhé\r\n".encode()
UTF8_HEADER = "Subject: é\r\n\r\nhello\r\n".encode()
MORE = b"more\r\n" * 11_000  # than is looked at before anything is sent


def begin(*offers: str) -> tuple[Session, Transcript]:
    """A session with a server that offers this, and refuses every MAIL."""
    *more, last = ("PIPELINING", *offers)
    hello = "S: 220 mail.test\nC: EHLO [192.0.2.7]\nS: 250-mail.test\n"
    hello += "".join(f"S: 250-{word}\n" for word in more) + f"S: 250 {last}\n"
    session, server = opened(hello, "C: ...\nC: ...\nC: ...\nS: 550 No\nS: 503 No\nS: 503 No\n")
    server.sent = b""
    return session, server


def parameters(
    offers: Iterable[str],
    envelope: Envelope = ONE,
    content: bytes | None = BODY,
    *,
    pieces: Iterable[Octets] = (BODY, MORE),
    size: int | None = None,
    eight_bit: bool | None = None,
    smtputf8: bool | None = None,
) -> tuple[str, str]:
    """What stands behind the paths of MAIL and RCPT. `pieces`: of a content that is None."""
    session, server = begin(*offers)
    flow = SendMail(session, envelope, content, size=size, eight_bit=eight_bit, smtputf8=smtputf8)
    with pytest.raises(SMTPError, match="550 No"):
        play(flow, server, pieces)
    server.finish()
    assert session.usable
    mail, rcpt, _ = server.sent.decode().split("\r\n", 2)
    return mail.rpartition(">")[2], rcpt.rpartition(">")[2]


def missing(
    capability: str,
    offers: Iterable[str],
    envelope: Envelope = ONE,
    content: bytes | None = BODY,
    *,
    pieces: Iterable[Octets] = (BODY, MORE),
    smtputf8: bool | None = None,
) -> None:
    """Nothing is sent, and the session is as it was."""
    session, server = begin(*offers)
    with pytest.raises(CapabilityMissing, match="does not offer|under TLS") as caught:
        play(SendMail(session, envelope, content, smtputf8=smtputf8), server, pieces)
    assert caught.value.capability == capability
    assert not server.sent
    assert session.usable


# --- SIZE ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "size"),
    [(b"", 0), (b"x", 3), (b"x\n", 3), (b"x\r\n", 3), (b"x\ry", 6), (b".\r\n", 3)],
)
def test_size_counts_the_octets_with_their_line_ends_and_without_the_dots(
    content: bytes, size: int
) -> None:
    assert parameters(["SIZE"], content=content)[0] == f" SIZE={size}"


def test_no_size_where_it_is_not_offered_or_not_known() -> None:
    assert parameters([])[0] == ""
    assert parameters(["SIZE"], content=None, eight_bit=False)[0] == ""
    assert parameters(["SIZE"], content=None, eight_bit=False, size=7)[0] == " SIZE=7"


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_no_size_where_the_line_ends_of_a_file_make_it_another(end: bytes) -> None:
    pieces = [BODY + end, MORE]
    assert parameters(["SIZE"], content=None, pieces=pieces, size=70_000)[0] == ""


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_line_that_is_cut_off_is_no_other_line_end(cut: int) -> None:
    pieces = [MORE[: len(MORE) - cut]]
    assert parameters(["SIZE"], content=None, pieces=pieces, size=7)[0] == " SIZE=7"


@pytest.mark.parametrize(
    ("pieces", "size"), [([], 0), ([b"x\n", b"y"], 6), ([b"x" * 65_535], 65_537)]
)
def test_pieces_that_come_to_their_end_are_counted(pieces: list[bytes], size: int) -> None:
    assert parameters(["SIZE"], content=None, pieces=pieces, size=7)[0] == f" SIZE={size}"


def test_no_more_pieces_are_fetched_before_mail_than_are_looked_at() -> None:
    session, server = begin()
    pieces = iter([b"x" * 65_535, b"y", b"z"])
    with pytest.raises(SMTPError, match="550 No"):
        play(SendMail(session, ONE, None), server, pieces)
    assert list(pieces) == [b"z"]


@pytest.mark.parametrize(("limit", "fits"), [(20, False), (21, True), (0, True)])
def test_the_limit_that_the_server_announces(limit: int, *, fits: bool) -> None:
    session, server = begin(f"SIZE {limit}")
    with pytest.raises(SMTPError) as caught:
        play(SendMail(session, ONE, BODY), server)
    assert isinstance(caught.value, MessageTooLarge) is not fits
    assert bool(server.sent) is fits
    assert session.usable


@pytest.mark.parametrize("pieces", [[BODY], [BODY, MORE]])
@pytest.mark.parametrize(("limit", "fits"), [(80_000, True), (20, False)])
def test_the_limit_where_content_comes_in_pieces(
    pieces: list[bytes], limit: int, *, fits: bool
) -> None:
    session, server = begin(f"SIZE {limit}")
    with pytest.raises(SMTPError) as caught:
        play(SendMail(session, ONE, None, size=len(b"".join(pieces))), server, pieces)
    assert isinstance(caught.value, MessageTooLarge) is not fits
    assert bool(server.sent) is fits
    assert session.usable


# --- BODY and SMTPUTF8 ---------------------------------------------------------------------------

BOTH = ("8BITMIME", "SMTPUTF8")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (BODY, ""),
        (UTF8_BODY, " BODY=8BITMIME"),
        (UTF8_HEADER, " BODY=8BITMIME SMTPUTF8"),
        ("no header: é".encode(), " BODY=8BITMIME SMTPUTF8"),
        ("\r\nhé\r\n\r\nhello".encode(), " BODY=8BITMIME"),
    ],
)
def test_what_the_content_needs_is_found_out(content: bytes, expected: str) -> None:
    assert parameters(BOTH, content=content)[0] == expected
    octets = [content[i : i + 1] for i in range(len(content))]
    assert parameters(BOTH, content=None, pieces=octets)[0] == expected
    for line_end in (b"\n", b"\r", b"\r\n"):
        begun = [content.replace(b"\r\n", line_end) + line_end, MORE]
        said = parameters(BOTH, content=None, pieces=begun)[0]
        assert said == (expected or " BODY=8BITMIME"), "what comes may need it"


def test_a_header_without_an_end_counts_as_far_as_it_is_looked_at() -> None:
    header = b"X: x\r\n" * 11_000
    utf8 = "X: é\r\n".encode()
    for pieces, expected in (
        ([utf8, header], " BODY=8BITMIME SMTPUTF8"),
        ([header[:65_530], utf8], " BODY=8BITMIME SMTPUTF8"),
        ([header, utf8], " BODY=8BITMIME"),
    ):
        assert parameters(BOTH, content=None, pieces=pieces)[0] == expected


def test_what_the_caller_knows_better() -> None:
    assert parameters(BOTH, eight_bit=True)[0] == " BODY=8BITMIME"
    assert parameters(BOTH, smtputf8=True)[0] == " SMTPUTF8"
    assert parameters(BOTH, content=UTF8_HEADER, smtputf8=False)[0] == " BODY=8BITMIME"
    pieces = [UTF8_HEADER, MORE]
    assert parameters(BOTH, content=None, pieces=pieces, smtputf8=False)[0] == " BODY=8BITMIME"


def test_octets_above_127_are_never_sent_unannounced() -> None:
    assert parameters(BOTH, content=UTF8_BODY, eight_bit=False)[0] == " BODY=8BITMIME"
    missing("8BITMIME", [], content=UTF8_BODY)
    pieces = [UTF8_BODY, MORE]
    said, _ = parameters(BOTH, content=None, pieces=pieces, eight_bit=False)
    assert said == " BODY=8BITMIME"
    missing("8BITMIME", [], content=None, pieces=pieces)


def test_content_in_pieces_may_need_anything() -> None:
    assert parameters(BOTH, content=None)[0] == " BODY=8BITMIME"
    assert parameters(BOTH, content=None, eight_bit=False)[0] == ""
    assert parameters(BOTH, content=None, smtputf8=True)[0] == " BODY=8BITMIME SMTPUTF8"
    assert parameters([], content=None)[0] == ""


def test_smtputf8_is_said_where_an_address_needs_it() -> None:
    for envelope in (
        Envelope.of("é@example.org", "b@example.net"),
        Envelope.of("a@example.org", "b@exämple.net"),
    ):
        assert parameters(BOTH, envelope)[0] == " SMTPUTF8"


def test_smtputf8_is_said_where_the_caller_asks_for_it() -> None:
    envelope = Envelope.of(
        "a@example.org", "b@example.net", mail_parameters=MailParameters(smtputf8=True)
    )
    assert parameters(BOTH, envelope)[0] == " SMTPUTF8"
    assert parameters([], envelope)[0] == "", "nothing needs it"


def came_with_smtputf8(body: Body | None = None) -> Envelope:
    """As a server has it from a client that has said SMTPUTF8."""
    mail = MailParameters(body=body, smtputf8=True)
    return Envelope.of("a@exämple.org", "b@example.net", mail_parameters=mail)


@pytest.mark.parametrize("offers", [(), ("8BITMIME",)])
@pytest.mark.parametrize("smtputf8", [None, False])
@pytest.mark.parametrize(
    "pieces",
    [
        ["Content-Type: message/global\r\n\r\nSubject: é\r\n\r\nx".encode()],
        [BODY, MORE],
        [b"X: x\r\n" * 11_000, UTF8_HEADER],
    ],
)
def test_what_came_with_smtputf8_goes_nowhere_without(
    offers: tuple[str, ...], pieces: list[bytes], *, smtputf8: bool | None
) -> None:
    envelope = came_with_smtputf8()
    missing("SMTPUTF8", offers, envelope, None, pieces=pieces, smtputf8=smtputf8)
    said, _ = parameters(BOTH, envelope, None, pieces=pieces, smtputf8=smtputf8)
    assert said == " BODY=8BITMIME SMTPUTF8"


def test_what_came_with_smtputf8_and_is_all_ascii_goes_everywhere() -> None:
    for content in (BODY, None):
        assert parameters([], came_with_smtputf8(), content, pieces=[BODY])[0] == ""
    assert parameters([], came_with_smtputf8(), None, eight_bit=False)[0] == ""
    assert parameters([], came_with_smtputf8(Body.SEVEN_BIT), None)[0] == ""
    said = parameters(["8BITMIME"], came_with_smtputf8(Body.EIGHT_BIT_MIME))[0]
    assert said == " BODY=8BITMIME"


def test_smtputf8_where_a_parameter_needs_it() -> None:
    extra = (Parameter("X", "é"),)
    for envelope, expected in (
        (
            Envelope.of(
                "a@example.org", "b@example.net", mail_parameters=MailParameters(other=extra)
            ),
            (" SMTPUTF8 X=é", ""),
        ),
        (
            Envelope.of(
                "a@example.org", "b@example.net", rcpt_parameters=RcptParameters(other=extra)
            ),
            (" SMTPUTF8", " X=é"),
        ),
    ):
        assert parameters([*BOTH, "X"], envelope) == expected
        missing("SMTPUTF8", ["8BITMIME", "X"], envelope)


def test_smtputf8_missing() -> None:
    missing("SMTPUTF8", [], Envelope.of("é@example.org", "b@example.net"))
    missing("SMTPUTF8", ["8BITMIME"], content=UTF8_HEADER)
    missing("SMTPUTF8", ["8BITMIME"], content=None, smtputf8=True)
    missing("SMTPUTF8", ["8BITMIME"], content=None, pieces=[UTF8_HEADER])
    missing("SMTPUTF8", ["8BITMIME"], content=None, pieces=[UTF8_HEADER, MORE])
    missing("SMTPUTF8", ["8BITMIME"], content=None, pieces=[b"Subject: \xc3", b"\xa9\n", MORE])


# --- What the envelope says of the content -------------------------------------------------------


def told(body: Body | None = None, size: int | None = None) -> Envelope:
    """An envelope that says this."""
    mail = MailParameters(size=size, body=body)
    return Envelope.of("a@example.org", "b@example.net", mail_parameters=mail)


def refused(envelope: Envelope, content: bytes | None, hint: str) -> None:
    """What cannot be true or be kept is refused before anything is sent."""
    session, server = begin("BINARYMIME", "CHUNKING", *BOTH)
    with pytest.raises(WireError, match=hint):
        play(SendMail(session, envelope, content), server, [UTF8_BODY, MORE])
    assert not server.sent
    assert session.usable


def test_binarymime_is_refused_with_what_to_do() -> None:
    for content in (BODY, None):
        refused(told(Body.BINARY_MIME), content, "base64")


def test_7bit_is_held_to() -> None:
    for content in (UTF8_BODY, None):
        refused(told(Body.SEVEN_BIT), content, "7BIT")
    for content in (BODY, None):
        assert parameters(BOTH, told(Body.SEVEN_BIT), content)[0] == ""


def test_8bitmime_is_said_where_it_is_offered_and_not_needed_where_it_is_not() -> None:
    for content in (BODY, UTF8_BODY, None):
        assert parameters(BOTH, told(Body.EIGHT_BIT_MIME), content)[0] == " BODY=8BITMIME"
    for content in (BODY, None):
        assert parameters([], told(Body.EIGHT_BIT_MIME), content)[0] == ""
    missing("8BITMIME", [], told(Body.EIGHT_BIT_MIME), UTF8_BODY)


def test_a_size_counts_where_nobody_can_count() -> None:
    offers = ["SIZE 100"]
    assert parameters(offers, told(size=7))[0] == " SIZE=21"
    assert parameters(offers, told(size=7), None, pieces=[BODY])[0] == " SIZE=21"
    assert parameters(offers, told(size=7), None, size=9, eight_bit=False)[0] == " SIZE=9"
    assert parameters(offers, told(size=101), None, eight_bit=False)[0] == " SIZE=101", "a guess"
    assert parameters([], told(size=7), None, eight_bit=False)[0] == ""


# --- NUL -----------------------------------------------------------------------------------------


def test_nul_is_refused_before_anything_is_sent() -> None:
    session, server = begin()
    with pytest.raises(WireError, match="NUL"):
        SendMail(session, ONE, b"a\0b")
    assert not server.sent
    assert session.usable


@pytest.mark.parametrize("piece", [b"a\0b", bytearray(b"\0"), memoryview(b"\0")])
@pytest.mark.parametrize("more", [[], [MORE]])
def test_nul_in_the_first_pieces_is_refused_likewise(piece: Octets, more: list[bytes]) -> None:
    session, server = begin()
    with pytest.raises(WireError, match="NUL"):
        play(SendMail(session, ONE, None), server, [b"x\r\n", piece, *more])
    assert not server.sent
    assert session.usable


@pytest.mark.parametrize("piece", [b"a\0b", bytearray(b"\0"), memoryview(b"\0")])
def test_nul_in_a_later_piece_ends_the_session(piece: Octets) -> None:
    session, server = opened(
        """
        S: 220 mail.test
        C: EHLO [192.0.2.7]
        S: 250 mail.test
        C: MAIL FROM:<a@example.org>
        S: 250 Ok
        C: RCPT TO:<b@example.net>
        S: 250 Ok
        C: DATA
        S: 354 Go
        """
    )
    with pytest.raises(WireError, match="NUL"):
        play(SendMail(session, ONE, None), server, [MORE, piece])
    assert server.sent.endswith(b"DATA\r\n" + MORE)
    assert not session.usable


# --- All other parameters ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mail", "rcpt", "capability", "expected"),
    [
        (MailParameters(ret=Ret.HDRS), RcptParameters(), "DSN", (" RET=HDRS", "")),
        (MailParameters(envid="x+y"), RcptParameters(), "DSN", (" ENVID=x+2By", "")),
        (
            MailParameters(),
            RcptParameters(notify=frozenset({Notify.NEVER})),
            "DSN",
            ("", " NOTIFY=NEVER"),
        ),
        (
            MailParameters(),
            RcptParameters(orcpt=OriginalRecipient("rfc822", "c@example.net")),
            "DSN",
            ("", " ORCPT=rfc822;c@example.net"),
        ),
        (
            MailParameters(auth=Mailbox("a", "example.org")),
            RcptParameters(),
            "AUTH",
            (" AUTH=a@example.org", ""),
        ),
        *(
            (MailParameters(other=(other,)), RcptParameters(), capability, (f" {other}", ""))
            for other, capability in (
                (Parameter("BY", "120;R"), "DELIVERBY"),
                (Parameter("HOLDFOR", "60"), "FUTURERELEASE"),
                (Parameter("HOLDUNTIL", "2030-01-01T00:00:00Z"), "FUTURERELEASE"),
                (Parameter("MT-PRIORITY", "3"), "MT-PRIORITY"),
                (Parameter("SOLICIT", "org.example:ADV"), "NO-SOLICITING"),
                (Parameter("TRANSID", "1@example.org"), "CHECKPOINT"),
                (Parameter("xnobody-knows", None), "XNOBODY-KNOWS"),
            )
        ),
        (
            MailParameters(),
            RcptParameters(other=(Parameter("RRVS", "2030-01-01T00:00:00Z"),)),
            "RRVS",
            ("", " RRVS=2030-01-01T00:00:00Z"),
        ),
    ],
)
def test_no_parameter_goes_where_it_is_not_offered(
    mail: MailParameters, rcpt: RcptParameters, capability: str, expected: tuple[str, str]
) -> None:
    envelope = Envelope.of(
        "a@example.org", "b@example.net", mail_parameters=mail, rcpt_parameters=rcpt
    )
    assert parameters([f"{capability} PLAIN"], envelope) == expected
    missing(capability, ["HELP"], envelope)


def test_parameters_of_one_recipient_are_not_the_others() -> None:
    envelope = Envelope.of("a@example.org", ["b@example.net", "c@example.net"])
    never = RcptParameters(notify=frozenset({Notify.NEVER}))
    chosen = Envelope(
        envelope.reverse_path,
        envelope.forward_paths,
        rcpt_parameters={envelope.forward_paths[1]: never},
    )
    session, server = begin("DSN")
    server.lines[:3] = ["C: ..."] * 4
    server.lines.append("S: 503 No")
    with pytest.raises(SMTPError):
        play(SendMail(session, chosen, BODY), server)
    assert b"<b@example.net>\r\n" in server.sent
    assert b"<c@example.net> NOTIFY=NEVER\r\n" in server.sent


def test_requiretls_needs_tls() -> None:
    envelope = Envelope.of(
        "a@example.org", "b@example.net", mail_parameters=MailParameters(require_tls=True)
    )
    missing("REQUIRETLS", [], envelope)
    missing("REQUIRETLS", ["REQUIRETLS"], envelope)
