"""Mailboxes and paths: one table drives writer and reader; nothing that deceives gets through."""

import contextlib
import unicodedata
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import idna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from smtp_proto.wire.address import (
    NULL_REVERSE_PATH,
    POSTMASTER,
    Mailbox,
    domain_to_ascii,
    parse_forward_path,
    parse_reverse_path,
    split_path,
    validate_domain,
    write_path,
)
from smtp_proto.wire.errors import WireError

# Written and read: each is the other, turned round.
CASES = [
    ("user@example.org", "user", "example.org"),
    ("User.Name+tag@Example.ORG", "User.Name+tag", "Example.ORG"),
    ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~", "example.org"),
    ("a@localhost", "a", "localhost"),
    ("a@1.2.3.4", "a", "1.2.3.4"),
    ("a@a-b.c--d.e", "a", "a-b.c--d.e"),
    # What others have taken apart in another way.
    ("a%evil.example@good.example", "a%evil.example", "good.example"),
    ("evil.example!a@good.example", "evil.example!a", "good.example"),
    ("=?utf-8?q?a=40evil=3e?=@good.example", "=?utf-8?q?a=40evil=3e?=", "good.example"),
    ('"a@evil.example"@good.example', "a@evil.example", "good.example"),
    ('"a> SIZE=99999"@b', "a> SIZE=99999", "b"),
    ('"a> ORCPT=admin@x"@test.example', "a> ORCPT=admin@x", "test.example"),
    (r'"a\"> X"@b', 'a"> X', "b"),
    (r'"a\\\"> X"@b', r"a\"> X", "b"),
    (r'"\\"@b', "\\", "b"),
    ('""@b', "", "b"),
    ('" "@b', " ", "b"),
    ('".a"@b', ".a", "b"),
    ('"a."@b', "a.", "b"),
    ('"a..b"@b', "a..b", "b"),
    ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
    ("a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]"),
    ("a@[ipv6:::ffff:192.0.2.1]", "a", "[ipv6:::ffff:192.0.2.1]"),
    ("a@[x-tag:any!content@all]", "a", "[x-tag:any!content@all]"),
    ("jörg@bücher.example", "jörg", "bücher.example"),
    ("用户@例え.テスト", "用户", "例え.テスト"),
    ("\u760d\u760a@b", "\u760d\u760a", "b"),
    ('"j ö"@b', "j ö", "b"),
    ("henry\u2163@b", "henry\u2163", "b"),
    ("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example"),
    ("a@XN--BCHER-KVA.example", "a", "XN--BCHER-KVA.example"),
    # A symbol, and a joiner: legal or not, there is mail for both.
    ("a@xn--i-7iq.ws", "a", "xn--i-7iq.ws"),
    ("a@xn--mgba3gch31f060k.com", "a", "xn--mgba3gch31f060k.com"),
    ("a" * 64 + "@b", "a" * 64, "b"),
    ("ü" * 32 + "@b", "ü" * 32, "b"),
    ("a@" + "b" * 63 + ".c", "a", "b" * 63 + ".c"),
    ("ab@" + "abc." * 62 + "def", "ab", "abc." * 62 + "def"),
    ("a@" + "中" * 30, "a", "中" * 30),
    ("a@ü" + "b" * 55, "a", "ü" + "b" * 55),
]

# Read only: what is written differs.
READ_CASES = [
    ('"user"@example.org', "user", "example.org"),
    (r'"\u\s\e\r"@example.org', "user", "example.org"),
    (r'"a\ b"@c', "a b", "c"),
    ("a@BÜCHER.Example", "a", "bücher.Example"),
    # Capital letters that have no small one for themselves.
    ("a@ΟΔΟΣ.example", "a", "οδοσ.example"),
    ("a@İ.example", "a", "i\u0307.example"),
]

BROKEN = [
    "",
    "@",
    "a",
    "a@",
    "@b",
    "a@@b",
    "a@b@c",
    "<a@b>",
    "a@b>",
    " a@b",
    "a @b",
    "a@ b",
    "a@b ",
    "a b@c",
    ".a@b",
    "a.@b",
    "a..b@c",
    "a@.b",
    "a@b.",
    "a@b..c",
    "a@-b",
    "a@b-",
    "a@b_c",
    "a@b,c@d",
    "a@b;",
    "a@b(c)",
    "a(b)@c",
    "a@b(@c)",
    "a,b@c",
    "a:b@c",
    "a\\b@c",
    "@x,@y:a@b",
    '"a@b',
    '"a"b@c',
    'a"b"@c',
    '"a""b"@c',
    '"a"@',
    '"a"',
    '"a\\"@b',
    r'"\ü"@b',
    '"',
    "a@b\0@c",
    "a@b>\r\nRCPT TO:<c@d",
    '"a\r\nDATA"@b',
    '"a\tb"@c',
    '"a\\\rb"@c',
    *(f'"a{control}b"@c' for control in "\0\t\n\r\x1f\x7f\x85\x9b\u2028\u2029"),
    *(f"a{control}b@c" for control in "\0\t\n\r\x1f\x7f\x85\x9b\u2028\u2029"),
    *(f"a@b{control}" for control in "\0\t\n\r\x1f\x7f\x85\x9b\u2028\u2029"),
    # Nobody can see these.
    *(f"a{hidden}@c" for hidden in "\xa0\xad\u200b\u200d\u202e\u2060\u3164\ufe0f\ufeff"),
    *(f"a@b{hidden}" for hidden in "\xa0\xad\u200b\u200d\u202e\u2060\u3164\ufe0f\ufeff"),
    "a\udc0a@b",
    "a@\udc0a",
    "a\ue000@b",
    "a\U000e0fff@b",
    # These become "@", dots, quotes and blanks for who applies NFKC.
    "a\uff20b@c",
    "a\uff0e@b",
    "a\u2026@b",
    "a\uff02@b",
    "a\xb4@b",
    # No U-labels.
    "a@x\u0140evil.example",
    "a@\uff20.example",
    "a@x\u3002example",
    "a@x\uff0eexample",
    "a@\u212aelvin.example",
    "a@\u2173.example",
    "a@\u017f.example",
    "a@x\u2044y.example",
    "a@bu\u0308cher.example",
    "a@\u0308u.example",
    "a@-ü",
    "a@ü-",
    "a@xn--ü",
    "a@üb--c",
    "a@ü b",
    "a@ü_b",
    "a@i\u2764.ws",
    "a@\uab70.example",
    "a@" + "中" * 60,
    "a@ü" + "b" * 56,
    # No A-labels.
    "a@xn--",
    "a@xn--0117",
    "a@xn--abc-",
    "a@xn--99999999",
    "a@xn--a_b",
    "a@xn---",
    "a@XN--",
    # A zero-width space, and a full-width "@".
    "a@xn--ab-g1t",
    "a@xn--ab-iw3n",
    "a@[]",
    "a@[192.0.2.1",
    "a@192.0.2.1]",
    "a@[192.0.2]",
    "a@[192.0.2.256]",
    "a@[192.0.2.01]",
    "a@[0x7f.1]",
    "a@[192.0.2.1].b",
    "a@[::1]",
    "a@[IPv6:]",
    "a@[IPv6:192.0.2.1]",
    "a@[IPv6:::1",
    "a@[IPv6:fe80::1%eth0]",
    "a@[IPv6:1::2::3]",
    "a@[IPv6:12345::]",
    "a@[:a]",
    "a@[-:a]",
    "a@[tag-:a]",
    "a@[tag:]",
    "a@[tag:a b]",
    "a@[tag:a>b]",
    "a@[tag:a<b]",
    'a@[tag:a"b]',
    "a@[tag:a[b]",
    "a@[tag:a\\b]",
    "a@[tag:ü]",
    "a@[tag:" + "x" * 250 + "]",
    "a" * 65 + "@b",
    "ü" * 33 + "@b",
    '"' + " " * 63 + '"@b',
    "a@" + "b" * 64 + ".c",
    "abc@" + "abc." * 62 + "def",
    "üb@" + "abc." * 62 + "def",
    "a@" + "ab." * 85 + "a",
]

LONG = 1_000_000
# A million characters each: who takes more than linear time does not come back.
ENDLESS = ['"', "\\", '"\\', "(", "<", "a.", ".", "=", "a", "@", "a@", "-", "a-", "[", "ü", "ü."]

ATEXT = "abcxyzABCXYZ0189!#$%&'*+-/=?^_`{|}~"
LABELS = st.from_regex(r"(?!xn--)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?", fullmatch=True)
LETTERS = st.characters(categories=["Ll", "Lu", "Lo", "Lm", "Nd", "Mn", "Mc"])
DOMAINS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
LITERALS = st.one_of(
    st.ip_addresses(v=4).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]"),
    st.text("abc:!@#;,.=?^_`{|}~", min_size=1).map(lambda content: f"[tag:{content}]"),
)
LOCAL_PARTS = st.one_of(
    st.text(ATEXT + ".", max_size=30),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    st.text('"\\ @<>a', max_size=30),
    st.text(st.characters(categories=["Ll", "Lo"]), max_size=15),
)


@st.composite
def mailboxes(draw: st.DrawFn) -> Mailbox:
    local_part = draw(LOCAL_PARTS)
    domain = draw(st.one_of(DOMAINS, LITERALS, st.text(LETTERS, min_size=1, max_size=9)))
    try:
        return Mailbox(local_part, domain)
    except WireError:
        assume(False)
        raise


# --- Mailbox


@pytest.mark.parametrize(("text", "local_part", "domain"), CASES)
def test_writing(text: str, local_part: str, domain: str) -> None:
    mailbox = Mailbox(local_part, domain)
    assert str(mailbox) == mailbox.text == text
    assert (mailbox.local_part, mailbox.domain) == (local_part, domain)


@pytest.mark.parametrize(("text", "local_part", "domain"), CASES + READ_CASES)
def test_reading(text: str, local_part: str, domain: str) -> None:
    mailbox = Mailbox.parse(text)
    assert (mailbox.local_part, mailbox.domain) == (local_part, domain)
    assert mailbox == Mailbox(local_part, domain)
    assert Mailbox.parse(str(mailbox)) == mailbox


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_mailbox_is_refused(text: str) -> None:
    with pytest.raises(WireError) as caught:
        Mailbox.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250
    for path in (parse_reverse_path, parse_forward_path):
        if text:
            with pytest.raises(WireError, match=r"^(reverse|forward)-path: "):
                path(text)


@pytest.mark.parametrize(("text", "_local_part", "_domain"), CASES + READ_CASES)
@pytest.mark.parametrize("rest", [" ", ">", "\r\n", "\0", ",a@b", "@b", "\xa0", "\u200b"])
def test_nothing_may_follow(text: str, _local_part: str, _domain: str, rest: str) -> None:
    with pytest.raises(WireError):
        Mailbox.parse(text + rest)


@pytest.mark.parametrize(("text", "_local_part", "_domain"), CASES + READ_CASES)
def test_cut_at_any_place(text: str, _local_part: str, _domain: str) -> None:
    for place in range(len(text)):
        try:
            mailbox = Mailbox.parse(text[:place])
        except WireError:
            continue
        assert Mailbox.parse(str(mailbox)) == mailbox


@given(mailboxes())
def test_round_trip(mailbox: Mailbox) -> None:
    text = str(mailbox)
    assert Mailbox.parse(text) == mailbox
    assert text.isprintable()
    assert len(text.encode()) <= 254
    assert split_path(f"<{text}> SIZE=1") == (text, " SIZE=1")
    assert eval(repr(mailbox)) == mailbox


@given(st.text('ab.@"\\<>[] :,\0\r\n\xfcИ\u200b\uff20xn-0_', max_size=20))
def test_any_text_gives_a_mailbox_or_one_documented_error(text: str) -> None:
    with contextlib.suppress(WireError):
        mailbox = Mailbox.parse(text)
        assert Mailbox.parse(str(mailbox)) == mailbox
        assert split_path(f"<{mailbox}>") == (str(mailbox), "")


@given(st.text(ATEXT, min_size=1, max_size=20), st.data())
def test_needless_quotes_and_backslashes_make_no_difference(
    local: str, data: st.DataObject
) -> None:
    escaped = "".join(data.draw(st.sampled_from([letter, "\\" + letter])) for letter in local)
    assert Mailbox.parse(f'"{escaped}"@b') == Mailbox.parse(f"{local}@b")


@pytest.mark.parametrize("piece", ENDLESS)
def test_a_million_characters_are_refused(piece: str) -> None:
    for text in (piece * LONG, f'"{piece * LONG}"@b', f"a@{piece * LONG}", f"{piece * LONG}@b"):
        with pytest.raises(WireError):
            Mailbox.parse(text)
        with pytest.raises(WireError):
            split_path(f"<{text}>")
    with pytest.raises(WireError):
        validate_domain(piece * LONG, lenient=True)


def test_every_character_of_the_basic_plane() -> None:
    for character in map(chr, range(0x10000)):
        hidden = unicodedata.category(character)[0] in "CZ" and character != " "
        try:
            mailbox = Mailbox(character, "b")
        except WireError:
            assert character > "\x7f" or hidden
            continue
        assert not hidden
        assert Mailbox.parse(str(mailbox)) == mailbox
        specials = set('"\\ @<>()[]:;,.')
        assert character < "\x80" or not specials & set(unicodedata.normalize("NFKC", character))


@pytest.mark.parametrize(
    ("local_part", "domain"), [(b"a", "b"), ("a", b"b"), (None, "b"), ("a", None), (1, 2)]
)
def test_only_text_makes_a_mailbox(local_part: str, domain: str) -> None:
    with pytest.raises(TypeError):
        Mailbox(local_part, domain)


def test_the_same_text_gives_the_same_object() -> None:
    assert Mailbox.parse("same@example.org") is Mailbox.parse("same@example.org")


# --- address literals


@given(st.ip_addresses())
def test_the_address_of_a_literal(address: IPv4Address | IPv6Address) -> None:
    tag = "" if address.version == 4 else "IPv6:"
    mailbox = Mailbox("a", f"[{tag}{address}]")
    assert mailbox.literal
    assert mailbox.address == address
    assert Mailbox.parse(str(mailbox)).address == address


@pytest.mark.parametrize(
    ("domain", "literal", "address"),
    [
        ("example.org", False, None),
        ("192.0.2.1", False, None),
        ("[192.0.2.1]", True, "192.0.2.1"),
        ("[IPV6:::1]", True, "::1"),
        ("[ipv4:192.0.2.1]", True, None),
    ],
)
def test_literals_and_domains(domain: str, literal: bool, address: str | None) -> None:
    mailbox = Mailbox("a", domain)
    assert mailbox.literal == literal
    assert mailbox.address == (None if address is None else ip_address(address))


# --- A-labels and U-labels


@pytest.mark.parametrize(
    ("text", "ascii_text"),
    [
        ("a@example.org", "a@example.org"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.Example", "a@xn--bcher-kva.Example"),
        ("a@mail.例え.テスト", "a@mail.xn--r8jz45g.xn--zckzah"),
        ('"a b"@ü', '"a b"@xn--tda'),
        ("a@xn--bcher-kva.ü", "a@xn--bcher-kva.xn--tda"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
    ],
)
def test_a_domain_in_ascii(text: str, ascii_text: str) -> None:
    mailbox = Mailbox.parse(text).to_ascii()
    assert str(mailbox) == ascii_text
    assert mailbox.ascii
    assert mailbox.to_ascii() is mailbox
    assert Mailbox.parse(text).ascii == (text == ascii_text)


@pytest.mark.parametrize(
    ("text", "why"),
    [("a\xad@c", r"U\+00AD in .* cannot be seen"), ("a\uff20b@c", r"U\+FF20 in .* passes for")],
)
def test_what_looks_like_something_else_is_told_by_its_number(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        Mailbox.parse(text)


@pytest.mark.parametrize("text", ["jörg@example.org", "jörg@bücher.example"])
def test_a_local_part_has_no_other_form(text: str) -> None:
    mailbox = Mailbox.parse(text)
    assert not mailbox.ascii
    with pytest.raises(WireError, match="SMTPUTF8"):
        mailbox.to_ascii()


@pytest.mark.parametrize("domain", ["faß.example", "FAẞ.example", "οδος.example"])
def test_a_domain_that_may_be_two_has_to_be_given_in_ascii(domain: str) -> None:
    mailbox = Mailbox("a", domain)
    with pytest.raises(WireError, match="give its A-label"):
        mailbox.to_ascii()
    assert Mailbox("a", idna.encode(mailbox.domain).decode()).ascii


def test_a_domain_that_is_too_long_in_ascii_is_refused() -> None:
    mailbox = Mailbox("a", ".".join(["ü"] * 80))
    with pytest.raises(WireError, match="Domain"):
        mailbox.to_ascii()


@pytest.mark.parametrize(
    ("text", "ascii_text"),
    [
        ("example.org", "example.org"),
        ("Example.ORG", "Example.ORG"),
        ("mail.例え.テスト", "mail.xn--r8jz45g.xn--zckzah"),
        ("BÜCHER.xn--tda", "xn--bcher-kva.xn--tda"),
    ],
)
def test_a_domain_alone_in_ascii(text: str, ascii_text: str) -> None:
    assert domain_to_ascii(text) == ascii_text
    assert domain_to_ascii(ascii_text) == ascii_text


@pytest.mark.parametrize(
    "text", ["", "a.", "a b", "a_b", "a/b", "[192.0.2.1]", "faß.example", ".".join(["ü"] * 80)]
)
def test_what_no_domain_is_in_ascii(text: str) -> None:
    with pytest.raises(WireError):
        domain_to_ascii(text)


def test_the_names_of_machines_in_ascii() -> None:
    assert domain_to_ascii("my_host.ü", lenient=True) == "my_host.xn--tda"


def same_or_refused(encode: Callable[[], bytes], domain: str) -> bool:
    try:
        return encode().decode().lower() == domain.lower()
    except UnicodeError:  # both have rules for labels from right to left
        return True


@given(
    st.one_of(
        st.text(LETTERS, min_size=1, max_size=8), st.text("aüßςσΣπλÅЖж中あ\u0301-", max_size=8)
    )
)
def test_both_idnas_agree_with_a_domain_in_ascii(label: str) -> None:
    try:
        mailbox = Mailbox("a", label).to_ascii()
    except WireError:
        return
    lowered = Mailbox("a", label).domain
    # Unicode has grown since IDNA 2003.
    if all(unicodedata.ucd_3_2_0.category(letter) != "Cn" for letter in label):
        assert same_or_refused(lambda: lowered.encode("idna"), mailbox.domain)
    assert same_or_refused(lambda: idna.encode(lowered), mailbox.domain)
    assert Mailbox.parse(str(mailbox)) == mailbox


# --- paths


def test_the_null_reverse_path() -> None:
    assert parse_reverse_path("") is NULL_REVERSE_PATH
    assert str(NULL_REVERSE_PATH) == ""
    with pytest.raises(WireError):
        parse_forward_path("")


@pytest.mark.parametrize("text", ["Postmaster", "postmaster", "POSTMASTER", "pOsTmAsTeR"])
def test_the_postmaster(text: str) -> None:
    assert parse_forward_path(text) is POSTMASTER
    assert str(POSTMASTER) == "Postmaster"
    assert parse_forward_path(f"{text}@b") == Mailbox(text, "b")
    with pytest.raises(WireError):
        parse_reverse_path(text)


@pytest.mark.parametrize("text", ["postmaste", "postmasters", "po\u017ftmaster", '"postmaster"'])
def test_who_is_not_the_postmaster(text: str) -> None:
    with pytest.raises(WireError):
        parse_forward_path(text)


@given(mailboxes())
def test_a_mailbox_is_a_path_of_either_kind(mailbox: Mailbox) -> None:
    assert parse_reverse_path(str(mailbox)) == parse_forward_path(str(mailbox)) == mailbox


@pytest.mark.parametrize(
    ("text", "path", "rest"),
    [
        ("<>", "", ""),
        ("<> SIZE=1", "", " SIZE=1"),
        ("<a@b>", "a@b", ""),
        ("<a@b> SIZE=1 BODY=7BIT", "a@b", " SIZE=1 BODY=7BIT"),
        ("<Postmaster>", "Postmaster", ""),
        ('<"a> SIZE=9"@b> SIZE=1', '"a> SIZE=9"@b', " SIZE=1"),
        (r'<"a\"> X"@b>', r'"a\"> X"@b', ""),
        (r'<"a\\"@b> "', r'"a\\"@b', ' "'),
        ("<a@[IPv6:::1]>", "a@[IPv6:::1]", ""),
        ("<@a,@b:u@d> SIZE=1", "u@d", " SIZE=1"),
        ("<@a.example:u@d>", "u@d", ""),
        ("<@ü.example:u@d>", "u@d", ""),
        ('<@a:"@x:y"@d>', '"@x:y"@d', ""),
        # Only the path ends here; what may follow it is not said in this place.
        ("<a@b>>>", "a@b", ">>"),
        ("<a@b>SIZE=1", "a@b", "SIZE=1"),
        ("<" + "a" * 254 + ">", "a" * 254, ""),
    ],
)
def test_splitting_a_path_from_what_follows(text: str, path: str, rest: str) -> None:
    assert split_path(text) == (path, rest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a@b",
        " <a@b>",
        "\t<a@b>",
        "<a@b",
        "a@b>",
        "<<a@b>>",
        "<a<b@c>",
        '<"a@b>',
        '<"a\\"@b>',
        "<@a>",
        "<@a:>",
        "<@a:postmaster>",
        "<@a,:u@d>",
        "<@a,b:u@d>",
        "<@a;@b:u@d>",
        "<@:u@d>",
        "<@-a:u@d>",
        "<@a b:u@d>",
        "<@[192.0.2.1]:u@d>",
        "<" + "a" * 255 + ">",
        "<" + "ü" * 128 + ">",
        "<@" + "a." * 125 + "a:u@d>",
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(WireError) as caught:
        split_path(text)
    assert str(caught.value).isprintable()


@given(mailboxes(), st.text('<>" SIZE=1\\', max_size=9))
def test_a_path_ends_where_it_ends(mailbox: Mailbox, rest: str) -> None:
    text = write_path(mailbox)
    assert split_path(text + rest) == (str(mailbox), rest)
    for place in range(len(text)):
        with pytest.raises(WireError):
            split_path(text[:place])


def test_writing_a_path() -> None:
    assert write_path(NULL_REVERSE_PATH) == "<>"
    assert write_path(POSTMASTER) == "<Postmaster>"
    assert write_path(Mailbox("a b", "c")) == '<"a b"@c>'


@pytest.mark.parametrize("path", ["a@b", "a@b>\r\nRCPT TO:<c@d", b"a@b", None, 1])
def test_only_a_path_is_written_as_one(path: object) -> None:
    with pytest.raises(TypeError, match=r"Mailbox\.parse"):
        write_path(path)


# --- the argument of EHLO


@pytest.mark.parametrize(
    "text",
    ["localhost", "mail.example.org", "192.0.2.1", "[192.0.2.1]", "[IPv6:::1]", "xn--bcher-kva"],
)
def test_a_domain_or_a_literal(text: str) -> None:
    assert validate_domain(text) == validate_domain(text, lenient=True) == text


@pytest.mark.parametrize("text", ["my_pc", "_", "a._b_.c"])
def test_an_underscore_passes_for_a_letter_if_asked(text: str) -> None:
    assert validate_domain(text, lenient=True) == text
    with pytest.raises(WireError):
        validate_domain(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a\r\nMAIL FROM:<x>",
        "a\nb",
        "a.",
        "-a",
        "a..b",
        "bücher.example",
        "xn--0117",
        "xn--a_b",
        "[192.0.2.1",
        "[192_0_2_1]",
        "[::1]",
        "a@b",
        "<a>",
        "a" * 64,
        "a." * 127 + "ab",
    ],
)
def test_what_is_no_domain_is_refused(text: str) -> None:
    for lenient in (False, True):
        with pytest.raises(WireError):
            validate_domain(text, lenient=lenient)


@pytest.mark.parametrize("text", ["a." * 127 + "a", "[tag:" + "x" * 249 + "]"])
def test_the_longest_domain(text: str) -> None:
    assert validate_domain(text) == text
    with pytest.raises(WireError):
        validate_domain(text.replace("a", "ab", 1))


@pytest.mark.parametrize("parse", [parse_forward_path, parse_reverse_path])
def test_what_is_often_taken_for_a_path_has_a_word_of_its_own(
    parse: Callable[[str], object],
) -> None:
    for text in ("Alice <a@b.example>", "<a@b.example>", '"A, B" <a@b.example>'):
        with pytest.raises(WireError, match="an address alone, without a name and angle brackets"):
            parse(text)
    with pytest.raises(WireError, match="one address, not a list of them"):
        parse("a@b.example, c@d.example")
    with pytest.raises(WireError, match="Domain"):
        parse('"a, b"@-.example')
