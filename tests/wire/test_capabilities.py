"""Capabilities: every sane EHLO reply is understood, every other one survived."""

from collections.abc import Callable
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.wire.capabilities import NO_CAPABILITIES, Capabilities
from smtp_proto.wire.errors import WireError
from smtp_proto.wire.reply import Reply

ATTRIBUTES = {
    "PIPELINING": "pipelining",
    "8BITMIME": "eight_bit_mime",
    "BINARYMIME": "binary_mime",
    "CHUNKING": "chunking",
    "SMTPUTF8": "smtputf8",
    "STARTTLS": "starttls",
    "DSN": "dsn",
    "ENHANCEDSTATUSCODES": "enhanced_status_codes",
    "REQUIRETLS": "require_tls",
    "VRFY": "vrfy",
    "EXPN": "expn",
    "HELP": "help",
}


def offered(*lines: str) -> Capabilities:
    return Capabilities.from_reply(Reply(250, ("mx.example.org", *lines)))


def attributes_of(capabilities: Capabilities) -> set[str]:
    return {name for name in ATTRIBUTES.values() if getattr(capabilities, name)}


def test_a_reply_to_ehlo() -> None:
    capabilities = Capabilities.from_reply(
        Reply(
            250,
            (
                "mx.example.org at your service",
                "PIPELINING",
                "SIZE 35882577",
                "AUTH SCRAM-SHA-256 PLAIN",
                "X-EXPS GSSAPI NTLM",
                "LIMITS RCPTMAX=100 MAILMAX=20",
            ),
        )
    )
    assert capabilities.domain == "mx.example.org"
    assert list(capabilities.keywords.items()) == [
        ("PIPELINING", ()),
        ("SIZE", ("35882577",)),
        ("AUTH", ("SCRAM-SHA-256", "PLAIN")),
        ("X-EXPS", ("GSSAPI", "NTLM")),
        ("LIMITS", ("RCPTMAX=100", "MAILMAX=20")),
    ]
    assert attributes_of(capabilities) == {"pipelining"}
    assert capabilities.size == 35_882_577
    assert capabilities.auth == ("SCRAM-SHA-256", "PLAIN")
    assert capabilities.limits == {"RCPTMAX": 100, "MAILMAX": 20}


def test_a_reply_to_helo_offers_nothing() -> None:
    reply = Reply(250, ("mx.example.org Hello", "PIPELINING"))
    assert Capabilities.from_helo(reply) == Capabilities("mx.example.org")


@pytest.mark.parametrize(
    ("line", "domain"), [("", ""), (" ", ""), ("a", "a"), ("a b c", "a"), ("a\tb", "a")]
)
def test_the_domain_is_the_first_word(line: str, domain: str) -> None:
    assert Capabilities.from_reply(Reply(250, (line,))).domain == domain
    assert Capabilities.from_helo(Reply(250, (line,))).domain == domain


def test_nothing_is_known_of_a_server_that_has_not_been_greeted() -> None:
    assert Capabilities("", {}) == NO_CAPABILITIES
    assert attributes_of(NO_CAPABILITIES) == set()
    assert NO_CAPABILITIES.size is None
    assert NO_CAPABILITIES.auth == ()
    assert NO_CAPABILITIES.limits == {}


@pytest.mark.parametrize(("keyword", "attribute"), ATTRIBUTES.items())
def test_each_extension_has_its_attribute(keyword: str, attribute: str) -> None:
    for line in (keyword, keyword.lower(), f"{keyword} some parameter", f"{keyword} "):
        assert attributes_of(offered(line)) == {attribute}
        assert keyword in offered(line)
        assert keyword.lower() in offered(line)
    for line in (f"{keyword}X", f"X{keyword}", f"{keyword}=NO", f"{keyword}-", f" {keyword}"):
        assert attributes_of(offered(line)) == set()
        assert keyword not in offered(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        " ",
        " PIPELINING",
        "-X",
        "PIPELINING=NO",
        "X_Y",
        "SIZE\t1000",
        "SIZE 10\u00a000",
        "SIZE ١٠٠٠",
        "PİPELINING",
        "ſize 1",
        "STARTTLS \udcff",
        "starttlſ",
        "\\x1bSTARTTLS",
    ],
)
def test_a_line_that_is_no_ehlo_line_is_left_out(line: str) -> None:
    assert offered(line, "DSN").keywords == {"DSN": ()}


def test_superfluous_blanks_are_overlooked() -> None:
    assert offered("AUTH  PLAIN   LOGIN ").keywords == {"AUTH": ("PLAIN", "LOGIN")}


def test_a_parameter_that_looks_like_a_keyword_is_none() -> None:
    assert offered("X-NEW AUTH=PLAIN STARTTLS").keywords == {"X-NEW": ("AUTH=PLAIN", "STARTTLS")}


def test_parameters_of_a_repeated_keyword_are_put_together() -> None:
    assert offered("SIZE 1", "DSN", "size 2").keywords == {"SIZE": ("1", "2"), "DSN": ()}


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        (("DSN",), None),
        (("SIZE",), 0),
        (("SIZE 0",), 0),
        (("SIZE 1000",), 1000),
        (("SIZE 00001000",), 1000),
        (("SIZE 99999999999999999999",), 99_999_999_999_999_999_999),
        (("SIZE 999999999999999999999",), 0),
        (("SIZE " + "9" * 4000,), 0),
        (("SIZE -1",), 0),
        (("SIZE +1",), 0),
        (("SIZE 1_000",), 0),
        (("SIZE 0x10",), 0),
        (("SIZE abc",), 0),
        (("SIZE abc 1000",), 0),
        (("SIZE 1000", "SIZE 2000"), 1000),
    ],
)
def test_size(lines: tuple[str, ...], size: int | None) -> None:
    assert offered(*lines).size == size


@pytest.mark.parametrize(
    ("lines", "auth"),
    [
        (("DSN",), ()),
        (("AUTH",), ()),
        (("AUTH PLAIN LOGIN",), ("PLAIN", "LOGIN")),
        (("AUTH=PLAIN LOGIN",), ("PLAIN", "LOGIN")),
        (("auth=plain login",), ("PLAIN", "LOGIN")),
        (("AUTH=",), ()),
        (("AUTH PLAIN", "AUTH=LOGIN PLAIN"), ("PLAIN", "LOGIN")),
        (("AUTH=LOGIN", "AUTH PLAIN LOGIN"), ("LOGIN", "PLAIN")),
        (("AUTH plain PLAIN Plain",), ("PLAIN",)),
        (("AUTH CRAM_MD5 SCRAM-SHA-256-PLUS",), ("CRAM_MD5", "SCRAM-SHA-256-PLUS")),
        (("AUTH PLAIN, LOGIN; " + "A" * 21 + " XOAUTH2",), ("XOAUTH2",)),
        (("XAUTH=PLAIN",), ()),
        (("X-AUTH PLAIN",), ()),
    ],
)
def test_auth(lines: tuple[str, ...], auth: tuple[str, ...]) -> None:
    assert offered(*lines).auth == auth


def test_mechanisms_beyond_the_hundredth_are_overlooked() -> None:
    capabilities = offered("AUTH " + " ".join(f"X{number}" for number in range(1000)))
    assert capabilities.auth == tuple(f"X{number}" for number in range(100))


@pytest.mark.parametrize(
    ("line", "limits"),
    [
        ("LIMITS", {}),
        ("LIMITS RCPTMAX=100", {"RCPTMAX": 100}),
        ("limits rcptmax=100 X-New_One=7", {"RCPTMAX": 100, "X-NEW_ONE": 7}),
        ("LIMITS RCPTMAX=0 MAILMAX=x RCPTDOMAINMAX= =5 X Y==5 Z=-1 OK=1", {"OK": 1}),
        ("LIMITS RCPTMAX=" + "9" * 3000, {}),
    ],
)
def test_limits(line: str, limits: dict[str, int]) -> None:
    assert offered(line).limits == limits


# --- Writing

KEYWORDS = st.dictionaries(
    st.from_regex(r"[A-Z0-9][A-Z0-9-]*", fullmatch=True),
    st.lists(st.from_regex(r"[!-~]+", fullmatch=True), max_size=4).map(tuple),
    max_size=8,
)


@given(st.sampled_from(["", "mx.example.org", "[192.0.2.1]", "bücher.example"]), KEYWORDS)
def test_round_trip(domain: str, keywords: dict[str, tuple[str, ...]]) -> None:
    capabilities = Capabilities(domain, keywords)
    again = Capabilities.from_reply(Reply(250, capabilities.lines()))
    assert again == capabilities
    assert list(again.keywords.items()) == list(keywords.items())
    assert hash(again) == hash(capabilities)


def test_lines() -> None:
    capabilities = Capabilities("mx.example.org", {"DSN": (), "AUTH": ("PLAIN", "LOGIN")})
    assert capabilities.lines() == ("mx.example.org", "DSN", "AUTH PLAIN LOGIN")


def test_what_the_keywords_say_is_shown_once() -> None:
    assert "size" not in repr(Capabilities("mx.example.org", {"SIZE": ("1000",)}))


@given(st.lists(st.text(), min_size=1))
def test_no_reply_makes_it_raise(lines: list[str]) -> None:
    try:
        reply = Reply(250, tuple(lines))
    except WireError:
        return
    capabilities = Capabilities.from_reply(reply)
    assert Capabilities.from_reply(Reply(250, capabilities.lines())) == capabilities
    assert (capabilities.size, capabilities.auth, capabilities.limits) is not None
    assert Capabilities.from_helo(reply).domain == capabilities.domain


def test_one_text_is_no_tuple_of_parameters() -> None:
    make: Callable[..., Capabilities] = Capabilities
    with pytest.raises(TypeError, match="SIZE: a tuple, not one str"):
        make("mail.test", {"SIZE": "500"})


@pytest.mark.parametrize("keyword", ["", "dsn", "-X", "A B", "A\r\n", "X_Y", "É", "A="])
def test_a_keyword_that_is_none_is_refused(keyword: str) -> None:
    with pytest.raises(WireError, match="ehlo-keyword"):
        Capabilities("mx.example.org", {keyword: ()})


@pytest.mark.parametrize("parameter", ["", " ", "a b", "a\r\n250 b", "\x7f", "é", "\0"])
def test_a_parameter_that_is_none_is_refused(parameter: str) -> None:
    with pytest.raises(WireError, match="ehlo-param"):
        Capabilities("mx.example.org", {"X": (parameter,)})


@pytest.mark.parametrize("domain", ["a b", "a\tb", "a\r\n250 b", "a\0", "\x1b", "\udc9b"])
def test_a_domain_that_cannot_be_written_is_refused(domain: str) -> None:
    with pytest.raises(WireError):
        Capabilities(domain)


def test_the_keywords_cannot_be_changed() -> None:
    keywords = {"DSN": ()}
    capabilities = Capabilities("mx.example.org", keywords)
    keywords["CHUNKING"] = ()
    assert capabilities.keywords == {"DSN": ()}
    assert isinstance(capabilities.keywords, MappingProxyType)
