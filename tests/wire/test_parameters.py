"""Parameters: one table drives writer and reader; no value makes a second parameter."""

import contextlib
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.wire.address import NULL_REVERSE_PATH, Mailbox
from smtp_proto.wire.errors import WireError
from smtp_proto.wire.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    Body,
    MailParameters,
    Notify,
    OriginalRecipient,
    Parameter,
    RcptParameters,
    Ret,
    decode_xtext,
    encode_xtext,
)

N = Notify

# Written and read: each is the other, turned round.
MAIL_CASES = [
    ("", MailParameters()),
    (" SIZE=0", MailParameters(size=0)),
    (" SIZE=1234", MailParameters(size=1234)),
    (" SIZE=" + "9" * 20, MailParameters(size=10**20 - 1)),
    (" BODY=7BIT", MailParameters(body=Body.SEVEN_BIT)),
    (" BODY=8BITMIME", MailParameters(body=Body.EIGHT_BIT_MIME)),
    (" BODY=BINARYMIME", MailParameters(body=Body.BINARY_MIME)),
    (" SMTPUTF8", MailParameters(smtputf8=True)),
    (" RET=FULL", MailParameters(ret=Ret.FULL)),
    (" RET=HDRS", MailParameters(ret=Ret.HDRS)),
    (" ENVID=QQ314159", MailParameters(envid="QQ314159")),
    (" ENVID=a+20b+2B+3D", MailParameters(envid="a b+=")),
    (" ENVID=" + "e" * 100, MailParameters(envid="e" * 100)),
    (" AUTH=<>", MailParameters(auth=NULL_REVERSE_PATH)),
    (" AUTH=e+3Dmc2@example.com", MailParameters(auth=Mailbox("e=mc2", "example.com"))),
    (' AUTH="a+20b"@c', MailParameters(auth=Mailbox("a b", "c"))),
    (" AUTH=+C3+BC@c", MailParameters(auth=Mailbox("ü", "c"))),
    (" REQUIRETLS", MailParameters(require_tls=True)),
    (" BY=120;R", MailParameters(other=(Parameter("BY", "120;R"),))),
    (" X X-Y=ü,z", MailParameters(other=(Parameter("X", None), Parameter("X-Y", "ü,z")))),
    (
        " SIZE=5 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x AUTH=a@b REQUIRETLS MT-PRIORITY=3",
        MailParameters(
            size=5,
            body=Body.EIGHT_BIT_MIME,
            smtputf8=True,
            ret=Ret.HDRS,
            envid="x",
            auth=Mailbox("a", "b"),
            require_tls=True,
            other=(Parameter("MT-PRIORITY", "3"),),
        ),
    ),
]

RCPT_CASES = [
    ("", RcptParameters()),
    (" NOTIFY=NEVER", RcptParameters(frozenset({N.NEVER}))),
    (" NOTIFY=FAILURE", RcptParameters(frozenset({N.FAILURE}))),
    (
        " NOTIFY=SUCCESS,FAILURE,DELAY",
        RcptParameters(frozenset({N.DELAY, N.FAILURE, N.SUCCESS})),
    ),
    (" ORCPT=rfc822;u@d", RcptParameters(orcpt=OriginalRecipient("rfc822", "u@d"))),
    (
        " ORCPT=rfc822;a+2Bb+3D+20c@d",
        RcptParameters(orcpt=OriginalRecipient("rfc822", "a+b= c@d")),
    ),
    (" ORCPT=x400;\\", RcptParameters(orcpt=OriginalRecipient("x400", "\\"))),
    (
        r" ORCPT=utf-8;\x{FC}\x{20}\x{2B}\x{3D}\x{5C}\x{4E2D}\x{1F600}@d",
        RcptParameters(orcpt=OriginalRecipient("utf-8", "ü +=\\中\U0001f600@d")),
    ),
    (
        " ORCPT=rfc822;" + "x" * 493,
        RcptParameters(orcpt=OriginalRecipient("rfc822", "x" * 493)),
    ),
    (
        " NOTIFY=NEVER ORCPT=rfc822;u@d RRVS=2014-04-03T23:01:00Z",
        RcptParameters(
            frozenset({N.NEVER}),
            OriginalRecipient("rfc822", "u@d"),
            (Parameter("RRVS", "2014-04-03T23:01:00Z"),),
        ),
    ),
]

# Read only: what is written differs.
MAIL_READ_CASES = [
    (" size=007", MailParameters(size=7)),
    (" body=8BitMime", MailParameters(body=Body.EIGHT_BIT_MIME)),
    (" smtputf8 requiretls", MailParameters(smtputf8=True, require_tls=True)),
    (" ret=full", MailParameters(ret=Ret.FULL)),
    (" ENVID=+41+2b", MailParameters(envid="A+")),
    (' AUTH="a"@b', MailParameters(auth=Mailbox("a", "b"))),
    (" x-y=z", MailParameters(other=(Parameter("X-Y", "z"),))),
    (" Z SIZE=1", MailParameters(size=1, other=(Parameter("Z", None),))),
]

RCPT_READ_CASES = [
    (" notify=delay,Success", RcptParameters(frozenset({N.SUCCESS, N.DELAY}))),
    (" NOTIFY=NEVER,NEVER", RcptParameters(frozenset({N.NEVER}))),
    (" ORCPT=UTF-8;ü", RcptParameters(orcpt=OriginalRecipient("UTF-8", "ü"))),
    (r" ORCPT=utf-8;\x{fc}", RcptParameters(orcpt=OriginalRecipient("utf-8", "ü"))),
    (" SIZE=x", RcptParameters(other=(Parameter("SIZE", "x"),))),
]

BROKEN = [
    " ",
    "  X",
    "X",
    ">",
    "\tX",
    " X ",
    " X  Y",
    " X\tY",
    " =",
    " =X",
    " X=",
    " X=Y=Z",
    " X==Y",
    " -X",
    " X_Y",
    " X;Y",
    " Ü",
    " X=a\r\nRCPT",
    " X=\0",
    " X=\x7f",
    " X=\x85",
    " X=\xa0",
    " X=\u200b",
    " X=\u2028",
    " X=\udcff",
    " X X",
    " X=1 x=2",
]

MAIL_BROKEN = [
    *BROKEN,
    " SIZE",
    " SIZE=",
    " SIZE=-1",
    " SIZE=+1",
    " SIZE=1_0",
    " SIZE=1.0",
    " SIZE=0x1",
    " SIZE=\u0665",
    " SIZE=\xb2",
    " SIZE=" + "1" * 21,
    " SIZE=" + "1" * 5000,
    " SIZE=1 SIZE=1",
    " SIZE=1 size=2",
    " BODY",
    " BODY=9BIT",
    " BODY=8B\u0131TMIME",
    " BODY=8BITMIME,7BIT",
    " SMTPUTF8=1",
    " SMTPUTF8 SMTPUTF8",
    " REQUIRETLS=1",
    " RET",
    " RET=BODY",
    " RET=HDR\u017f",
    " ENVID",
    " ENVID=" + "e" * 101,
    " ENVID=" + "+20" * 34,
    " ENVID=ab+0D+0Acd",
    " ENVID=+",
    " ENVID=+2",
    " ENVID=+2x",
    " ENVID=+C3+BC",
    " ENVID=+FF",
    " ENVID=+7F",
    " ENVID=+C2+85",
    " ENVID=ü",
    " AUTH",
    " AUTH=a",
    " AUTH=<a@b>",
    " AUTH=a+20b@c",
    " AUTH=a@b+0D+0ADATA",
    " AUTH=+3C+3E",
]

RCPT_BROKEN = [
    *BROKEN,
    " NOTIFY",
    " NOTIFY=,",
    " NOTIFY=DELAY,",
    " NOTIFY=ALWAYS",
    " NOTIFY=NEVER,FAILURE",
    " NOTIFY=SUCCESS,NEVER",
    " NOTIFY=\u017fUCCESS",
    " NOTIFY=NEVER NOTIFY=NEVER",
    " ORCPT",
    " ORCPT=",
    " ORCPT=u@d",
    " ORCPT=;u@d",
    " ORCPT=rfc822;",
    " ORCPT=rfc 822;u@d",
    " ORCPT=rfc_822;u@d",
    " ORCPT=ü;u@d",
    " ORCPT=rfc822;a+0D+0Ab",
    " ORCPT=rfc822;a+2",
    " ORCPT=rfc822;ü",
    " ORCPT=rfc822;+C3+BC",
    " ORCPT=rfc822;" + "x" * 494,
    " ORCPT=utf-8;",
    " ORCPT=utf-8;+20",
    " ORCPT=utf-8;\\",
    r" ORCPT=utf-8;\x{}",
    r" ORCPT=utf-8;\x{D}",
    r" ORCPT=utf-8;\x{0A}",
    r" ORCPT=utf-8;\x{D800}",
    r" ORCPT=utf-8;\x{110000}",
    r" ORCPT=utf-8;\x{0000FC}",
    r" ORCPT=utf-8;\x{FC",
    r" ORCPT=utf-8;\u{FC}",
    " ORCPT=utf-8;" + r"\x{FC}" * 90,
]

KEYWORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,9}", fullmatch=True)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)
LETTERS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
OTHERS = st.lists(
    st.builds(Parameter, KEYWORDS, st.none() | LETTERS.map(lambda text: text.replace("=", "-"))),
    max_size=3,
    unique_by=lambda parameter: parameter.keyword,
).map(tuple)
MAIL_PARAMETERS = st.builds(
    MailParameters,
    size=st.none() | st.integers(0, 10**20 - 1),
    body=st.none() | st.sampled_from(Body),
    smtputf8=st.booleans(),
    ret=st.none() | st.sampled_from(Ret),
    envid=st.none() | PRINTABLE,
    auth=st.sampled_from([None, NULL_REVERSE_PATH, Mailbox("a b+=", "c"), Mailbox("ü", "ü")]),
    require_tls=st.booleans(),
    other=OTHERS,
)
RCPT_PARAMETERS = st.builds(
    RcptParameters,
    notify=st.just(frozenset({N.NEVER})) | st.frozensets(st.sampled_from(list(N)[1:])),
    orcpt=st.none()
    | st.builds(OriginalRecipient, st.just("rfc822"), PRINTABLE)
    | st.builds(OriginalRecipient, st.just("utf-8"), PRINTABLE | LETTERS),
    other=OTHERS,
)


# --- writing and reading


@pytest.mark.parametrize(("text", "parameters"), [*MAIL_CASES, *RCPT_CASES])
def test_writing(text: str, parameters: MailParameters | RcptParameters) -> None:
    assert parameters.encode() == text


@pytest.mark.parametrize(("text", "parameters"), MAIL_CASES + MAIL_READ_CASES)
def test_reading_those_of_mail(text: str, parameters: MailParameters) -> None:
    assert MailParameters.parse(text) == parameters


@pytest.mark.parametrize(("text", "parameters"), RCPT_CASES + RCPT_READ_CASES)
def test_reading_those_of_rcpt(text: str, parameters: RcptParameters) -> None:
    assert RcptParameters.parse(text) == parameters


@pytest.mark.parametrize("text", MAIL_BROKEN)
def test_what_mail_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(WireError) as caught:
        MailParameters.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", RCPT_BROKEN)
def test_what_rcpt_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(WireError) as caught:
        RcptParameters.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(("text", "_parameters"), MAIL_CASES[1:])
@pytest.mark.parametrize("rest", [" ", "=", "\r\n", "\0", " >", "\u200b"])
def test_nothing_else_may_follow(text: str, _parameters: MailParameters, rest: str) -> None:
    with pytest.raises(WireError):
        MailParameters.parse(text + rest)


@pytest.mark.parametrize(("text", "_parameters"), [*MAIL_CASES, *RCPT_CASES])
def test_cut_at_any_place(text: str, _parameters: object) -> None:
    for place in range(len(text)):
        for kind in (MailParameters, RcptParameters):
            with contextlib.suppress(WireError):
                parameters = kind.parse(text[:place])
                assert kind.parse(parameters.encode()) == parameters


@given(MAIL_PARAMETERS)
def test_round_trip_of_those_of_mail(parameters: MailParameters) -> None:
    assert MailParameters.parse(parameters.encode()) == parameters
    assert_as_many_words_as_keywords(parameters)


@given(RCPT_PARAMETERS)
def test_round_trip_of_those_of_rcpt(parameters: RcptParameters) -> None:
    assert RcptParameters.parse(parameters.encode()) == parameters
    assert_as_many_words_as_keywords(parameters)


def assert_as_many_words_as_keywords(parameters: MailParameters | RcptParameters) -> None:
    text = parameters.encode()
    assert text.isprintable()
    words = text.split(" ")[1:]
    assert tuple(word.partition("=")[0] for word in words) == parameters.keywords


@given(st.text("AX=+;,<>@ 02BDü\\{}\0\r\n\u200b", max_size=20))
def test_any_text_gives_parameters_or_one_documented_error(text: str) -> None:
    for prefix in ("", " SIZE=", " ENVID=", " AUTH=", " BODY=", " X="):
        with contextlib.suppress(WireError):
            mail = MailParameters.parse(prefix + text)
            assert MailParameters.parse(mail.encode()) == mail
    for prefix in ("", " NOTIFY=", " ORCPT=", " ORCPT=rfc822;", " ORCPT=utf-8;"):
        with contextlib.suppress(WireError):
            rcpt = RcptParameters.parse(prefix + text)
            assert RcptParameters.parse(rcpt.encode()) == rcpt


@pytest.mark.parametrize("piece", ["A", " A", "=", "+", "+20", "\\", "\\x{", ",", ";", " "])
def test_a_hundred_thousand_pieces_come_back(piece: str) -> None:
    for prefix in ("", " ENVID=", " ORCPT=utf-8;", " NOTIFY=", " SIZE=", " "):
        for kind in (MailParameters, RcptParameters):
            with contextlib.suppress(WireError):
                kind.parse(prefix + piece * 100_000)


def test_no_parameters() -> None:
    assert MailParameters.parse("") is NO_MAIL_PARAMETERS
    assert RcptParameters.parse("") is NO_RCPT_PARAMETERS
    assert NO_MAIL_PARAMETERS.encode() == NO_RCPT_PARAMETERS.encode() == ""
    assert NO_MAIL_PARAMETERS.keywords == NO_RCPT_PARAMETERS.keywords == ()


def test_the_keywords_in_their_order() -> None:
    assert MAIL_CASES[-1][1].keywords == (
        *("SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "REQUIRETLS"),
        "MT-PRIORITY",
    )
    assert RCPT_CASES[-1][1].keywords == ("NOTIFY", "ORCPT", "RRVS")


# --- what a caller cannot make


@pytest.mark.parametrize("size", [-1, 10**20, 10**6000], ids=["negative", "large", "huge"])
def test_a_size_that_cannot_be_written(size: int) -> None:
    with pytest.raises(WireError, match="SIZE"):
        MailParameters(size=size)


@pytest.mark.parametrize("envid", ["", "ü", "a\r\nb", "a\0", "\x7f", "e" * 101, " " * 34])
def test_an_envelope_identifier_that_cannot_be_written(envid: str) -> None:
    with pytest.raises(WireError):
        MailParameters(envid=envid)


@pytest.mark.parametrize(
    ("address_type", "address"),
    [
        ("", "u@d"),
        ("rfc 822", "u@d"),
        ("rfc822;x", "u@d"),
        ("rfc822=", "u@d"),
        ("rfc822\r\n", "u@d"),
        ("rfc822", ""),
        ("rfc822", "ü@d"),
        ("rfc822", "a\r\nb"),
        ("utf-8", ""),
        ("utf-8", "ü\nb"),
        ("utf-8", "\ud800"),
        ("rfc822", "x" * 494),
        ("rfc822", "+" * 165),
        ("utf-8", "ü" * 83),
    ],
)
def test_an_original_recipient_that_cannot_be_written(address_type: str, address: str) -> None:
    with pytest.raises(WireError):
        OriginalRecipient(address_type, address)


@pytest.mark.parametrize("notify", [frozenset({N.NEVER, N.DELAY}), frozenset(N)])
def test_never_stands_alone(notify: frozenset[Notify]) -> None:
    with pytest.raises(WireError, match="NEVER"):
        RcptParameters(notify)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("", None),
        ("X Y", None),
        ("X=Y", None),
        ("-X", None),
        ("X\r\n", None),
        ("Ü", None),
        ("X", ""),
        ("X", "a b"),
        ("X", "a=b"),
        ("X", "a\r\nRCPT TO:<b>"),
        ("X", "a\tb"),
        ("X", "\ud800"),
    ],
)
def test_a_parameter_that_cannot_be_written(keyword: str, value: str | None) -> None:
    with pytest.raises(WireError):
        Parameter(keyword, value)


def test_a_keyword_is_made_capitals() -> None:
    assert str(Parameter("mt-Priority", "-3a")) == "MT-PRIORITY=-3a"
    assert Parameter("x", None) == Parameter.parse("X")


@pytest.mark.parametrize(
    "keyword", ["SIZE", "body", "SMTPUTF8", "RET", "ENVID", "AUTH", "RequireTLS"]
)
def test_what_has_a_field_is_no_other_parameter_of_mail(keyword: str) -> None:
    with pytest.raises(WireError, match="field of its own"):
        MailParameters(other=(Parameter(keyword, "1"),))
    assert RcptParameters(other=(Parameter(keyword, "1"),)).keywords == (keyword.upper(),)


@pytest.mark.parametrize("keyword", ["NOTIFY", "orcpt"])
def test_what_has_a_field_is_no_other_parameter_of_rcpt(keyword: str) -> None:
    with pytest.raises(WireError, match="field of its own"):
        RcptParameters(other=(Parameter(keyword, "1"),))
    assert MailParameters(other=(Parameter(keyword, "1"),)).keywords == (keyword.upper(),)


def test_no_parameter_twice() -> None:
    twice = (Parameter("X", "1"), Parameter("x", "2"))
    with pytest.raises(WireError, match="twice"):
        MailParameters(other=twice)
    with pytest.raises(WireError, match="twice"):
        RcptParameters(other=twice)


@pytest.mark.parametrize("size", ["1", "100\r\nRCPT TO:<x>", b"1"])
def test_a_size_is_a_number(size: int) -> None:
    with pytest.raises(TypeError):
        MailParameters(size=size)


@pytest.mark.parametrize("word", ["8BITMIME", "FULL\r\nDATA"])
def test_a_word_is_no_text(word: Body) -> None:
    with pytest.raises(AttributeError):
        MailParameters(body=word)


@pytest.mark.parametrize("words", [{"NEVER"}, {"DELAY\r\nDATA"}])
def test_words_are_no_text(words: frozenset[Notify]) -> None:
    with pytest.raises(WireError):
        RcptParameters(words)


# --- xtext


@pytest.mark.parametrize(
    ("text", "xtext"),
    [
        ("", ""),
        ("plain@example.org", "plain@example.org"),
        ("a b", "a+20b"),
        ("+=", "+2B+3D"),
        ('!"*,-<>~\\', '!"*,-<>~\\'),
        ("ü", "+C3+BC"),
    ],
)
def test_xtext(text: str, xtext: str) -> None:
    assert encode_xtext(text) == xtext
    assert decode_xtext(xtext) == text


@given(st.text())
def test_xtext_round_trip(text: str) -> None:
    if text.isprintable():
        xtext = encode_xtext(text)
        assert re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", xtext)
        assert decode_xtext(xtext) == text
    else:
        with pytest.raises(WireError):
            encode_xtext(text)


@pytest.mark.parametrize(
    "xtext",
    [
        "+",
        "+4",
        "a+4",
        "+4x",
        "++41",
        "=",
        "a=b",
        " ",
        "a b",
        "ü",
        "\r\n",
        "+0D",
        "+00",
        "+7f",
        "+FF",
        "+C2+85",
        "\udcff",
    ],
)
def test_what_is_no_xtext_is_refused(xtext: str) -> None:
    with pytest.raises(WireError, match="xtext"):
        decode_xtext(xtext)


# --- words


@pytest.mark.parametrize("kind", [Body, Ret, Notify])
def test_a_word_in_any_case(kind: type[Body | Ret | Notify]) -> None:
    for word in kind:
        assert kind.parse(word.value) is kind.parse(word.value.lower()) is word
        with pytest.raises(ValueError, match="valid"):
            kind.parse(word.value + " ")


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (RcptParameters, "orcpt", "rfc822;x NOTIFY=NEVER Y="),
        (MailParameters, "auth", b"x"),
        (MailParameters, "auth", "a@b.c"),
        (MailParameters, "size", True),
        (MailParameters, "size", "1 RET=HDRS"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(
    kind: Callable[..., object], field: str, value: object
) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        kind(**{field: value})
