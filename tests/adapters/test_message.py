"""From header fields to an envelope, and what is left of the message."""

import copy
import email
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from email.errors import MessageError
from email.header import Header, decode_header, make_header
from email.headerregistry import Address, Group
from email.message import EmailMessage, Message
from email.policy import SMTP, SMTPUTF8, EmailPolicy, Policy, compat32, default
from email.utils import getaddresses
from functools import partial
from typing import cast

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from smtp_adapters.message import PreparedMessage, prepare, prepare_octets
from smtp_proto.wire import MailParameters, Notify, RcptParameters, Ret, WireError

PLAIN = {"From": "Ada <ada@example.org>", "To": "Bob <bob@example.net>", "Subject": "Hello"}


def message(**fields: str) -> EmailMessage:
    made = EmailMessage()
    for name, value in (PLAIN | {k.replace("_", "-"): v for k, v in fields.items()}).items():
        made[name] = value
    made.set_content("Good morning.\n")
    return made


def octets(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "Good morning.", "")).encode()


def envelope(prepared: PreparedMessage) -> tuple[str, list[str]]:
    return str(prepared.envelope.reverse_path), list(map(str, prepared.envelope.forward_paths))


def read_envelope(*lines: str) -> tuple[str, list[str]]:
    """The envelope of a message with these header lines, by each of the ways in."""
    raw = octets(*lines)
    ways = [
        prepare_octets(raw),
        prepare_octets(raw.replace(b"\r\n", b"\n")),
        prepare(email.message_from_bytes(raw, policy=default)),
        prepare(email.message_from_bytes(raw, policy=compat32)),
    ]
    envelopes = [envelope(way) for way in ways]
    assert all(each == envelopes[0] for each in envelopes)
    return envelopes[0]


def why_refused(way: Callable[[], PreparedMessage]) -> str | None:
    try:
        way()
    except ValueError as error:
        return str(error)
    return None


def refusal(*lines: str) -> str:
    """Why a message with these header lines is refused, by each of the ways in."""
    raw = octets(*lines)
    why = why_refused(lambda: prepare_octets(raw))
    for policy in (default, compat32):
        read = email.message_from_bytes(raw, policy=policy)
        assert why_refused(partial(prepare, read)) == why
    assert why is not None
    assert why.isprintable()
    return why


# --- Envelope ---------------------------------------------------------------------------------


def test_sender_and_recipients_come_from_the_header_fields() -> None:
    prepared = prepare(message(Cc="c@example.net, D <d@example.net>", Bcc="e@example.net"))
    assert envelope(prepared) == (
        "ada@example.org",
        ["bob@example.net", "c@example.net", "d@example.net", "e@example.net"],
    )


def test_what_is_given_goes_before_the_header_fields() -> None:
    prepared = prepare(message(From="nonsense", Bcc="e@example.net"), "", ["x@example.com"])
    assert envelope(prepared) == ("", ["x@example.com"])
    assert b"Bcc" not in prepared.content


def test_one_given_and_the_other_read() -> None:
    assert envelope(prepare(message(), sender="x@example.com")) == (
        "x@example.com",
        ["bob@example.net"],
    )
    assert envelope(prepare(message(), recipients=["x@example.com"])) == (
        "ada@example.org",
        ["x@example.com"],
    )


@pytest.mark.parametrize("given", ["Ada <ada@example.org>", "a@b\r\nRCPT TO:<x@y>", "a@b,c@d", "a"])
def test_what_is_given_is_a_mailbox(given: str) -> None:
    with pytest.raises(WireError, match="reverse-path"):
        prepare(message(), sender=given)
    with pytest.raises(WireError, match="forward-path"):
        prepare(message(), recipients=[given])


def test_sender_goes_before_from() -> None:
    assert read_envelope("From: a@x.org, b@x.org", "Sender: c@x.org", "To: d@x.org") == (
        "c@x.org",
        ["d@x.org"],
    )


def test_several_authors_need_a_sender() -> None:
    assert "2 mailboxes: name one in Sender" in refusal("From: a@x.org, b@x.org", "To: d@x.org")


@pytest.mark.parametrize("name", ["From", "Sender"])
def test_a_sender_who_is_there_twice_is_refused(name: str) -> None:
    assert refusal(f"{name}: a@x.org", f"{name}: b@x.org", "To: d@x.org").startswith(
        f"header field {name}: is there twice"
    )


def test_destination_fields_add_up_and_nobody_counts_twice() -> None:
    assert read_envelope("From: a@x.org", "To: b@x.org", "to: c@x.org", "Cc: b@x.org") == (
        "a@x.org",
        ["b@x.org", "c@x.org"],
    )


def test_the_fields_of_a_resending_are_the_ones_that_count() -> None:
    assert read_envelope(
        "Resent-From: r@x.org",
        "Resent-To: s@x.org",
        "Resent-Bcc: t@x.org",
        "From: a@x.org",
        "To: b@x.org",
    ) == ("r@x.org", ["s@x.org", "t@x.org"])


def test_several_resendings_leave_a_doubt() -> None:
    why = refusal(
        "Resent-From: r@x.org", "Resent-To: s@x.org", "Resent-From: u@x.org", "To: b@x.org"
    )
    assert why == "header field Resent-From: is there twice: give the sender and the recipients"


def test_without_a_sender() -> None:
    assert refusal("To: b@x.org") == (
        "the message has no header field From: add it, or give the sender"
    )


@pytest.mark.parametrize("lines", [[], ["To: undisclosed-recipients:;"], ["Bcc:"]])
def test_without_a_recipient(lines: list[str]) -> None:
    assert "no recipient in To, Cc, Bcc: add one, or give" in refusal("From: a@x.org", *lines)


def test_no_recipients_given() -> None:
    with pytest.raises(ValueError, match="at least one recipient"):
        prepare(message(), recipients=[])


def test_parameters_become_those_of_the_envelope() -> None:
    mail = MailParameters(ret=Ret.HDRS, envid="x")
    never = RcptParameters(frozenset({Notify.NEVER}))
    for rcpt in (never, {"bob@example.net": never}):
        for prepared in (
            prepare(message(), mail_parameters=mail, rcpt_parameters=rcpt),
            prepare_octets(message().as_bytes(), mail_parameters=mail, rcpt_parameters=rcpt),
        ):
            assert prepared.envelope.mail_parameters == mail
            assert [*prepared.envelope.rcpt_parameters.values()] == [never]


# --- Addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("a@x.org", "a@x.org"),
        ("<a@x.org>", "a@x.org"),
        ("J. Doe <a@x.org>", "a@x.org"),
        ('"Doe, \\"J\\"" <a@x.org>', "a@x.org"),
        ("=?utf-8?q?evil=40y=2eorg=3e?= <a@x.org>", "a@x.org"),
        ("Ada\r\n Augusta\r\n\t<a@x.org>", "a@x.org"),
        ("a@x.org (Ada)", "a@x.org"),
        ('"a b"@x.org', '"a b"@x.org'),
        ('"a@y.org"@x.org', '"a@y.org"@x.org'),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("Zoë <zoë@exämple.org>", "zoë@exämple.org"),
    ],
)
def test_what_leaves_no_doubt_is_read(text: str, mailbox: str) -> None:
    assert read_envelope(f"From: {text}", f"To: {text}") == (mailbox, [mailbox])


@pytest.mark.parametrize(
    "text",
    [
        "a@good.org(@evil.org)",
        "user@good-corp.org(x)evil.org",
        "a(@evil.org>)@good.org",
        "a(comment)@good.org",
        "<@evil.org:a@good.org>",
        "=?utf-8?q?a=40evil.org=3e=20?=@good.org",
        "=?utf-8?q?a=40evil.org=3e=20?= @good.org",
        "=?x?q?a=40evil.org=3e=00?=@good.org",
        "a@evil.org@good.org",
        "a@good.org;",
        "a@good.org b@evil.org",
        "x <a@good.org> <b@evil.org>",
        "a @ good.org",
        "a..b@good.org",
        "a@good.org\0",
        "a@-good.org",
        "a@good.org (",
        "Ada",
        "Doe, Ada <a@good.org>",
        "Friends: a@good.org, b@good.org;",
        "Friends: <a@good.org>;",
        "(" * 3000,
        "a@ex\u200bample.org",
        "\u202ea@good.org",
    ],
)
@pytest.mark.parametrize("name", ["From", "To"])
def test_what_leaves_a_doubt_is_refused(text: str, name: str) -> None:
    fields = {"From": "a@x.org", "To": "b@x.org"} | {name: text}
    why = refusal(*(f"{key}: {value}" for key, value in fields.items()))
    assert why.startswith(f"header field {name}: ")


def test_octets_that_are_not_utf8() -> None:
    raw = octets("From: a@x.org", "To: b@x.org").replace(b"b@", b"\xff <b@")
    ways = [
        partial(prepare_octets, raw),
        partial(prepare, email.message_from_bytes(raw, policy=default)),
        partial(prepare, email.message_from_bytes(raw, policy=compat32)),
    ]
    for way in ways:
        why = why_refused(way)
        assert why is not None
        assert why.startswith("header field To: is not UTF-8")


def test_what_a_program_sets_is_read_too() -> None:
    made = message()
    del made["To"]
    made["To"] = [Address("Böb", "bob", "example.net"), Group(None, [Address("", "c d", "x.org")])]
    made["Cc"] = Group("undisclosed-recipients")
    assert envelope(prepare(made))[1] == ["bob@example.net", '"c d"@x.org']
    made["Bcc"] = Group("Friends", (Address("", "e", "x.org"),))
    with pytest.raises(ValueError, match=r"^header field Bcc: has the group Friends"):
        prepare(made)


def test_a_defect_in_what_a_program_sets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^header field To: "):
        prepare(message(To="a@good.org(x)evil.org"))


def test_old_header_objects_are_read() -> None:
    made = Message()
    made["From"] = "a@x.org"
    made["To"] = cast("str", Header("Böb <bob@x.org>", "utf-8"))
    assert envelope(prepare(made)) == ("a@x.org", ["bob@x.org"])


@given(st.text(max_size=60))
@example("<" * 40)
@example('"' * 39)
def test_any_text_is_an_address_or_refused_by_name(text: str) -> None:
    made = Message()
    made["From"] = text
    made["To"] = "b@x.org"
    why = why_refused(partial(prepare, made))
    if why is None:
        assert str(prepare(made).envelope.reverse_path) in text
    else:
        assert why.startswith(("header field From: ", "the message cannot be written: "))


# --- Content ----------------------------------------------------------------------------------


def test_nobody_sees_bcc_and_the_message_stays_as_it_is() -> None:
    made = message(Bcc="e@example.net", Resent_Bcc="f@example.net")
    before = copy.deepcopy(made)
    prepared = prepare(made, "a@x.org", ["b@x.org"])
    assert b"bcc" not in prepared.content.lower()
    assert made.items() == before.items()
    assert made.as_bytes() == before.as_bytes()


def test_nobody_sees_bcc_in_octets() -> None:
    raw = (
        b"From: a@x.org\nBCC: e@x.org,\n f@x.org\nResent-Bcc : g@x.org\nTo: b@x.org\nbcc:h@x.org\n"
        b"\nBcc: i@x.org\n"
    )
    prepared = prepare_octets(raw, "a@x.org", ["b@x.org"])
    assert prepared.content == b"From: a@x.org\r\nTo: b@x.org\r\n\r\nBcc: i@x.org\r\n"


def test_bcc_hidden_behind_another_line_end_is_found() -> None:
    prepared = prepare_octets(b"From: a@x.org\rBcc: e@x.org\nTo: b@x.org\r\n\r\n")
    assert prepared.content == b"From: a@x.org\r\nTo: b@x.org\r\n\r\n"
    assert envelope(prepared)[1] == ["b@x.org", "e@x.org"]


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"hello\n", 1),
        (b"From a@x.org Mon Jan  1 10:00:00 2024\nTo: b@x.org\n\n", 1),
        (b"From: a@x.org\nTo: b@x.org\n>From here\nBcc: e@x.org\n\n", 3),
        (b" folded: from the start\n\n", 1),
        (b"From: a@x.org\nT\xc3\xb6: b@x.org\n\n", 2),
    ],
)
def test_octets_without_a_clear_header_are_refused(raw: bytes, line: int) -> None:
    with pytest.raises(ValueError, match=rf"^message: line {line} is no header field"):
        prepare_octets(raw, "a@x.org", ["b@x.org"])


@pytest.mark.parametrize("line", ["Broken line here", "Bcc : c@x.org", "\ufeff"])
@pytest.mark.parametrize("policy", [default, compat32])
def test_a_bcc_behind_the_end_of_a_broken_header_is_found(
    line: str, policy: "Policy[Message]"
) -> None:
    raw = octets("From: a@x.org", "To: b@x.org", line, "Bcc: secret@x.org")
    read = email.message_from_bytes(raw, policy=policy)
    with pytest.raises(ValueError, match="^message: its header was broken off at a line"):
        prepare(read)


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"\r\ntext", b"A:b", b"A:\r\n", b"A:b\r\n\r\n.\r\n"])
def test_octets_need_no_more_than_a_header_section(raw: bytes) -> None:
    assert prepare_octets(raw, "a@x.org", ["b@x.org"]).content == raw


@given(st.binary(max_size=200))
def test_octets_without_bcc_go_out_as_they_are_but_for_their_line_ends(body: bytes) -> None:
    raw = b"A: b\r\n\r\n" + body
    content = prepare_octets(raw, "a@x.org", ["b@x.org"]).content
    assert content == b"\r\n".join(raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))


def test_lines_end_with_crlf() -> None:
    made = message()
    made.set_content("one\ntwo\n.\nFrom here\n")
    made.add_attachment(b"\0\1", maintype="application", subtype="octet-stream", filename="x")
    content = prepare(made).content
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    old = email.message_from_bytes(octets("From: a@x.org", "To: b@x.org") + b"From here\n")
    assert prepare(old).content.endswith(b"\r\nFrom here\r\n")


def test_encoded_words_as_long_as_all_addresses_are_ascii() -> None:
    made = message(Subject="Grüße", From="Zoë <zoe@x.org>")
    made = email.message_from_bytes(made.as_bytes(), policy=SMTPUTF8)
    made["X-Note"] = "größer"
    assert prepare(made).content.isascii()


def test_utf8_where_an_address_needs_it() -> None:
    content = prepare(message(Subject="Grüße", To="Zoë <zoë@exämple.org>")).content
    assert "Subject: Grüße\r\n".encode() in content
    assert "To: Zoë <zoë@exämple.org>\r\n".encode() in content


# What a program sets, and how it is written.
IN_A_LABELS = [
    ("b@bücher.example", "b@xn--bcher-kva.example"),
    ("Zoë <b@BÜCHER.example>", "=?utf-8?q?Zo=C3=AB?= <b@xn--bcher-kva.example>"),
    ('"b b"@bücher.example, d@x.org', '"b b"@xn--bcher-kva.example, d@x.org'),
    ('"b@x.org" <b@bücher.example>', '"b@x.org" <b@xn--bcher-kva.example>'),
    ("Some: b@bücher.example;", "Some: b@xn--bcher-kva.example;"),
]


@pytest.mark.parametrize("name", ["To", "Reply-To", "Resent-Sender"])
@pytest.mark.parametrize(("text", "written"), IN_A_LABELS, ids=[text for text, _ in IN_A_LABELS])
def test_domains_of_what_a_program_sets_become_a_labels(name: str, text: str, written: str) -> None:
    made = EmailMessage()
    made["From"] = "Zoë <zoe@x.org>"
    made["Subject"] = "Grüße"
    if name == "Resent-Sender":
        text, written = text.partition(", ")[0], written.partition(", ")[0]
    made[name] = text
    made["Date"] = "Mon, 1 Jan 2024 10:00:00 +0000"
    made.set_content("Grüße\n", cte="8bit")
    before = made.items()
    content = prepare(made, "a@x.org", ["b@x.org"]).content
    assert content.splitlines()[:4] == [
        b"From: =?utf-8?q?Zo=C3=AB?= <zoe@x.org>",
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        f"{name}: {written}".encode(),
        b"Date: Mon, 01 Jan 2024 10:00:00 +0000",
    ]
    assert content.endswith("\r\n\r\nGrüße\r\n".encode())
    assert made.items() == before


def test_the_envelope_of_a_domain_in_a_labels_has_it_as_it_was_given() -> None:
    assert envelope(prepare(message(To="b@bücher.example")))[1] == ["b@bücher.example"]


def test_a_message_within_a_message_gets_a_labels() -> None:
    made = message()
    made.add_attachment(message(To="b@bücher.example", Subject="Grüße"))
    content = prepare(made).content
    assert b"\r\nTo: b@xn--bcher-kva.example\r\n" in content
    assert content.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "zoë@bücher.example",
        "b@straße.example",  # it has two forms
        "c@bücher.example, zoë@x.org",
    ],
)
def test_what_cannot_be_all_ascii_stays_as_it_is(text: str) -> None:
    made = message(To=text, Cc="b@bücher.example")
    content = prepare(made, "a@x.org", ["b@x.org"]).content
    assert f"\r\nTo: {text}\r\n".encode() in content
    assert "\r\nCc: b@bücher.example\r\n".encode() in content


PIECES = ["ö", "日本語", "\u00a0", "xx" * 10, "Doe, ", "<e@x.test>, ", "Bcc: ", "e@x.test"]
ENCODED = ["=?", "?=", "=?utf-8?q?e=40x=2Etest=2C?="]
NAMES = st.lists(st.sampled_from([*'ao@,;:.<>()[]"\\\t ', *PIECES, *ENCODED]), max_size=15).map(
    "".join
)


@given(names=st.lists(NAMES, min_size=1, max_size=4), utf8=st.booleans())
@example(names=["x" * 60 + " <ceo@bank.test>, "], utf8=False)
@example(names=["Doe, " * 14 + "<e@x.test>, "], utf8=False)
@example(names=["Doe, " * 14 + "<e@x.test>, ", "ö" * 300], utf8=True)
def test_no_display_name_becomes_an_address(names: list[str], utf8: bool) -> None:
    sent = [Address(name, f"{'ö' * utf8}{place}", "x.org") for place, name in enumerate(names)]
    wanted = [address.addr_spec for address in sent]
    made = message()
    for field in ("To", "Reply-To"):
        del made[field]
        made[field] = [*sent]
    prepared = prepare(made)
    text = prepared.content.decode()
    assert envelope(prepared)[1] == wanted
    assert envelope(prepare_octets(prepared.content))[1] == wanted
    assert max(map(len, prepared.content.split(b"\r\n"))) < 998
    read = email.message_from_string(text, policy=default)
    old = email.message_from_string(text)
    for field in ("To", "Reply-To"):
        assert [address.addr_spec for address in read[field].addresses] == wanted
        assert [address for _, address in getaddresses([old[field]])] == wanted


@pytest.mark.parametrize(
    "name", ["Ada", 'Dr. A, (B) "C" \\D <e@x.test>' * 3, "=?utf-8?q?a?=", "Zoë", "Zoë " * 30 + "!"]
)
def test_a_display_name_is_read_as_it_was_given(name: str) -> None:
    made = message()
    made["Cc"] = Group("Some, of them", (Address(name, "c", "x.org"), Address("", "root", "")))
    made["Reply-To"] = [Address(name, "d", "x.org"), Address("Nobody, at all" * 5, "", "")]
    read = email.message_from_bytes(prepare(made, recipients=["b@x.org"]).content)
    header = default.header_factory("Cc", "".join(read["Cc"].splitlines()))
    (group,) = header.groups
    assert group.display_name == "Some, of them"
    assert [each.addr_spec for each in group.addresses] == ["c@x.org", "root"]
    (first, there), (second, nowhere) = getaddresses([read["Reply-To"]])
    assert str(make_header(decode_header(first))) == name
    assert (there, second, nowhere) == ("d@x.org", "Nobody, at all" * 5, "")


PHRASES = st.one_of(
    NAMES,
    NAMES.map(lambda name: "".join(f"\\{letter}" for letter in name)).map('"{}"'.format),
    NAMES.map(lambda name: f"=?utf-8?b?{b64encode(name.encode()).decode()}?="),
)
MAILBOXES = st.sampled_from(["a@x.org", '"a b"@x.org', "a@bücher.test", "ö@x.org", "root"])
MEMBERS = st.one_of(
    MAILBOXES,
    st.builds("{} <{}>".format, PHRASES, MAILBOXES),
    st.builds('"{}" <{}>'.format, PHRASES, MAILBOXES),
    st.builds("{1} ({0})".format, PHRASES, MAILBOXES),
)
GROUPS = st.builds("{}: {};".format, PHRASES, st.lists(MEMBERS, max_size=4).map(", ".join))


@given(st.lists(MEMBERS | GROUPS, min_size=1, max_size=4).map(", ".join))
@example("=?utf-8?q?=3Cceo=40bank=2Etest=3E=2C?= <a@x.org>")
@example("a@x.org (=?utf-8?q?x=29=2C_ceo=40bank=2Etest_=28?=)")
@example("=?utf-8?q?Bcc=3B_ceo=40bank=2Etest?= : a@x.org;")
@example('"=?utf-8?q?=22_ceo=40bank=2Etest=2C?=" <a@x.org>')
@example(f'"ceo@bank.test, {"y" * 30} {"z" * 40}" <a@x.org>, root')
def test_a_field_has_the_addresses_that_were_set_or_is_refused(text: str) -> None:
    made = EmailMessage()
    with suppress(MessageError, IndexError, AttributeError, TypeError):
        made["To"] = text
    assume("To" in made)  # the email package breaks at some texts
    way = partial(prepare, made, "a@x.org", ["b@x.org"])
    if why := why_refused(way):
        assert why.startswith("header field To: ")
        return
    content = way().content
    read = email.message_from_string(content.decode(), policy=default)
    assert read.keys() == ["To"]
    wanted, found = (
        [
            [address.addr_spec.replace("bücher", "xn--bcher-kva") for address in group.addresses]
            for group in each["To"].groups
        ]
        for each in (made, read)
    )
    assert found == wanted
    assert max(map(len, content.split(b"\r\n"))) <= 998


def test_a_display_name_that_was_read_elsewhere_stays_one() -> None:
    raw = octets("From: =?utf-8?q?=3Cceo=40bank=2Etest=3E=2C?= <mallory@x.test>")
    made = message()
    made.replace_header("From", email.message_from_bytes(raw, policy=default)["From"])
    assert prepare(made).content.startswith(b'From: "<ceo@bank.test>," <mallory@x.test>\r\n')


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("root", "root"),
        ("Cron Daemon <root>", "Cron Daemon <root>"),
        ("www-data@web_1 (Web)", "www-data@web_1"),
        ("a..b@x.org", "a..b@x.org"),
        ('"=?utf-8?q?Zo=C3=AB?=" <a@x.org>', "=?utf-8?q?Zo=C3=AB?= <a@x.org>"),
        ("=?utf-8?q?Ada=2E?=<a@x.org>", '"Ada." <a@x.org>'),
        ("=?x?q?A=2C?= <a@x.org>", '"A," <a@x.org>'),
        ("Zo\udcc3\udcab <a@x.org>", "=?utf-8?q?Zo=C3=AB?= <a@x.org>"),
        ("\udce4 <a@x.org>", "=?unknown-8bit?q?=E4?= <a@x.org>"),
        ("Ada <>", "Ada <>"),
        ("<a@x.org", "a@x.org"),
        ("", ""),
        ("Größe: ;", "=?utf-8?b?R3LDtsOfZQ==?= :;"),
    ],
)
def test_faults_that_leave_the_addresses_are_mended(text: str, written: str) -> None:
    content = prepare(message(Reply_To=text)).content
    assert f"Reply-To: {written}".rstrip().encode() in content.split(b"\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "a@b@c",
        "c@bücher.example, b@@x.org",
        "c@bücher.example b@x.org",
        "a@good.org(x)evil.org",
        "Ada a@x.org",
        "a@x.org (Ada, b@x.org",
        "Friends: a@x.org b@x.org;",
        "Friends: a@b@c;",
        f'"e@x.test, {"y" * 30} {"z" * 40}" <a@x.org>, a@b@c',
        "a@x.org\0",
        "a\udce4@x.org",
        ".a, b@x.org",
        "a" * 201,
    ],
)
@pytest.mark.parametrize("name", ["To", "Reply-To"])
def test_a_field_of_which_something_would_be_lost_is_refused(name: str, text: str) -> None:
    made = message(**{name: text})
    wrong = rf"^header field {name}: .*: correct it(, with names in quotation marks)?$"
    with pytest.raises(ValueError, match=wrong):
        prepare(made, recipients=["b@x.org"])


def test_a_group_is_folded_between_its_members() -> None:
    addresses = [Address(f"Name {place}", f"user{place}", "x.org") for place in range(60)]
    made = message()
    made["Cc"] = [Group("Some", (*addresses,)), Group("None"), Group(None, ()), addresses[0]]
    content = prepare(made, recipients=["b@x.org"]).content
    assert max(map(len, content.split(b"\r\n"))) <= 78
    members = ", ".join(map(str, addresses))
    assert f"\r\nCc: Some: {members};, None:;, {addresses[0]}\r\n" in (
        content.decode().replace(",\r\n ", ", ")
    )


def test_no_line_is_too_long_whatever_is_in_it() -> None:
    made = message()
    longest = Address('"' * 200, "u" * 64, f"{'d' * 60}." * 3 + "x.org")
    made["Cc"] = Group("," * 200, (longest, longest))
    content = prepare(made, recipients=["b@x.org"]).content
    assert max(map(len, content.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("domain", ["x.org>, <e@x.test", "x.org, e@x.test", "x org", "(x)"])
@pytest.mark.parametrize("name", ["a", "a" * 80])
def test_an_address_that_would_be_read_as_two_is_refused(name: str, domain: str) -> None:
    made = message(Reply_To="x@x.org")
    made.replace_header("Reply-To", Address(name, "b", domain))
    with pytest.raises(ValueError, match=r"^header field Reply-To: "):
        prepare(made)


def test_domains_of_what_was_read_stay_as_they_are() -> None:
    raw = octets("From: a@x.org", "To: b@bücher.example")
    assert prepare(email.message_from_bytes(raw, policy=default)).content == raw
    assert prepare_octets(raw).content == raw
    read = email.message_from_bytes(raw, policy=default)
    read["Cc"] = "c@bücher.example"
    assert "\r\nCc: c@bücher.example\r\n".encode() in prepare(read).content


def test_a_policy_of_ones_own_writes_a_labels_too() -> None:
    class Loud(EmailPolicy):
        def __init__(self) -> None:
            super().__init__(message_factory=EmailMessage)

        def fold_binary(self, name: str, value: str) -> bytes:
            return super().fold_binary(name, value).replace(b"To:", b"TO:")

    made = message(To="b@bücher.example")
    made.policy = Loud()
    assert b"\r\nTO: b@xn--bcher-kva.example\r\n" in prepare(made).content


def test_fields_that_were_read_go_out_as_they_came() -> None:
    lines = (
        "From: zoë@x.org",
        f"To: {'very ' * 20}long <b@x.org>",
        "Subject: =?utf-8?q?Gr=C3=BC?=\r\n  =?utf-8?q?=C3=9Fe?= " + "x" * 90,
    )
    raw = octets(*lines)
    assert prepare(email.message_from_bytes(raw, policy=default)).content == raw
    assert prepare(email.message_from_bytes(raw, policy=SMTP)).content == raw
    text = email.message_from_string(raw.decode(), policy=default)
    assert prepare(text).content == raw


def test_eight_bit_content_stays_so() -> None:
    made = message()
    made.set_content("Grüße\n", cte="8bit")
    assert "\r\n\r\nGrüße\r\n".encode() in prepare(made).content


@pytest.mark.parametrize("name", ["To", "Resent-To", "reply-to"])
def test_the_old_policy_cannot_write_addresses_in_utf8(name: str) -> None:
    made = Message()
    made["From"] = "a@x.org"
    made["Subject"] = "Grüße"
    made[name] = "Zoë <zoë@x.org>"
    with pytest.raises(ValueError, match=rf"^header field {name}: has an address that"):
        prepare(made, "a@x.org", ["b@x.org"])
    made.replace_header(name, "Zoë <zoe@x.org>")
    assert prepare(made, "a@x.org", ["b@x.org"]).content.isascii()


@pytest.mark.parametrize(
    "value",
    [
        "x\r\nBcc: e@x.org",
        "x\nBcc: e@x.org",
        "x\rBcc: e@x.org",
        "x\x0bBcc: e@x.org",
        "x\x85Bcc: e@x.org",
        "x\u2028Bcc: e@x.org",
        "x\r\n",
        "x\r\n\r\ny",
    ],
)
@pytest.mark.parametrize("policy", [compat32, default])
def test_no_field_becomes_two(value: str, policy: object) -> None:
    inner = Message()
    inner["Subject"] = value
    outer = email.message_from_bytes(octets(*(f"{k}: {v}" for k, v in PLAIN.items())))
    for made in (outer, copy.deepcopy(outer)):
        made.set_payload([inner])
    outer.policy = default if policy is default else compat32
    with pytest.raises(ValueError, match=r"^header field Subject: has a line end in it"):
        prepare(outer)


def test_no_encoded_word_becomes_a_line_end() -> None:
    with pytest.raises(ValueError, match=r"^header field Subject: has a line end in it"):
        prepare(message(Subject="=?utf-8?q?x=0ABcc=3A_e=40x=2Eorg?="))


@pytest.mark.parametrize("name", ["A\r\nBcc", "A B", "A:B", "", "Ä"])
def test_no_name_becomes_more_than_a_name(name: str) -> None:
    made = message()
    made[name] = "x"
    with pytest.raises(ValueError, match="is not a name"):
        prepare(made)


def test_what_the_email_package_cannot_write_is_a_value_error() -> None:
    made = message()
    made.set_content("x")
    made.replace_header("Content-Transfer-Encoding", "7bit")
    made.set_payload("Gr\ud800")
    with pytest.raises(ValueError, match=r"^the message cannot be written: "):
        prepare(made)


@pytest.mark.parametrize("kind", [EmailMessage, Message])
def test_parts_that_are_nested_too_deeply_are_a_value_error(kind: type[Message]) -> None:
    made = kind()
    for _ in range(1000):
        outer = kind()
        outer["Content-Type"] = "multipart/mixed"
        outer.attach(made)
        made = outer
    made["From"], made["To"] = "a@x.org", "b@x.org"
    with pytest.raises(ValueError, match=r"parts are nested too deeply .* octets") as refused:
        prepare(made)
    assert refused.value.__context__ is None
