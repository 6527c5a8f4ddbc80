"""Values of `smtp_proto.wire` to test with: a strategy for each.

Knows how a value that is legal comes about. Must not know what is tested with it.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from hypothesis import reject
from hypothesis import strategies as st

from smtp_proto.wire import (
    NULL_REVERSE_PATH,
    POSTMASTER,
    Auth,
    AuthResponse,
    Bdat,
    Body,
    Capabilities,
    Command,
    Data,
    Ehlo,
    EnhancedStatusCode,
    Expn,
    ForwardPath,
    Helo,
    Help,
    Lhlo,
    Mail,
    Mailbox,
    MailParameters,
    Noop,
    Notify,
    OriginalRecipient,
    OtherCommand,
    Parameter,
    Quit,
    Rcpt,
    RcptParameters,
    Reply,
    Ret,
    ReversePath,
    Rset,
    StartTls,
    Vrfy,
    WireError,
)

T = TypeVar("T")


@st.composite
def _legal(draw: st.DrawFn, make: Callable[..., T], *arguments: st.SearchStrategy[object]) -> T:
    """Return what `make` makes of the arguments; those that it refuses are drawn anew."""
    try:
        return make(*map(draw, arguments))
    except WireError:
        reject()


# --- Text ------------------------------------------------------------------------------------

_printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)
_letters = st.text(st.sampled_from("aAzZ09-äßёж中あ\U00010348"), min_size=1, max_size=12)
_keywords = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,9}", fullmatch=True)
_words = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="="), min_size=1, max_size=20
)

# --- Addresses -------------------------------------------------------------------------------

_ldh_labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
_u_labels = st.text(st.sampled_from("aäßßёжçñ中日本あ-"), min_size=1, max_size=10)
_literals = st.one_of(
    st.ip_addresses(v=4).map("[{}]".format),
    st.ip_addresses(v=6).map("[IPv6:{}]".format),
    st.from_regex(r"\[[A-Za-z0-9]{1,5}:[!#-;=?-Z^-~]{1,10}\]", fullmatch=True),
)
_domains = st.lists(_ldh_labels, min_size=1, max_size=4).map(".".join) | _literals
_u_domains = st.lists(_ldh_labels | _u_labels, min_size=1, max_size=3).map(".".join)
_local_parts = st.from_regex(r"[A-Za-z0-9+=_'!#-]{1,10}(\.[a-z]{1,5}){0,2}", fullmatch=True)
_plain = _legal(Mailbox, _local_parts | _printable, _domains)
_any = _legal(Mailbox, _local_parts | _printable | _letters, _domains | _u_domains)


def domains() -> st.SearchStrategy[str]:
    """Domains and address literals, in ASCII. RFC 5321 4.1.2"""
    return _domains


def addresses(*, ascii_only: bool = False) -> st.SearchStrategy[Mailbox]:
    """Mailboxes; with `ascii_only` none that wants SMTPUTF8. RFC 5321 4.1.2, RFC 6531 3.3"""
    return _plain if ascii_only else _any


def reverse_paths(*, ascii_only: bool = False) -> st.SearchStrategy[ReversePath]:
    """What MAIL can say: a mailbox, or nothing. RFC 5321 4.1.2"""
    return st.just(NULL_REVERSE_PATH) | addresses(ascii_only=ascii_only)


def forward_paths(*, ascii_only: bool = False) -> st.SearchStrategy[ForwardPath]:
    """What RCPT can say: a mailbox, or Postmaster. RFC 5321 4.1.2"""
    return st.just(POSTMASTER) | addresses(ascii_only=ascii_only)


# --- Parameters ------------------------------------------------------------------------------

_parameters: st.SearchStrategy[Parameter] = st.builds(Parameter, _keywords, st.none() | _words)
_original_recipients: st.SearchStrategy[OriginalRecipient] = st.one_of(
    st.builds(OriginalRecipient, st.just("rfc822"), _printable),
    st.builds(OriginalRecipient, st.sampled_from(["utf-8", "UTF-8"]), _printable | _words),
)
_others = st.lists(_parameters, max_size=3, unique_by=lambda each: each.keyword).map(tuple)
_mail_parameters: st.SearchStrategy[MailParameters] = _legal(
    MailParameters,
    st.none() | st.integers(0, 10**20 - 1),
    st.none() | st.sampled_from(Body),
    st.booleans(),
    st.none() | st.sampled_from(Ret),
    st.none() | _printable,
    st.none() | reverse_paths(),
    st.booleans(),
    _others,
)
_rcpt_parameters: st.SearchStrategy[RcptParameters] = _legal(
    RcptParameters,
    st.just(frozenset({Notify.NEVER})) | st.frozensets(st.sampled_from(list(Notify)[1:])),
    st.none() | _original_recipients,
    _others,
)


def parameters() -> st.SearchStrategy[Parameter]:
    """Parameters of an extension that this package does not know. RFC 5321 4.1.2"""
    return _parameters


def original_recipients() -> st.SearchStrategy[OriginalRecipient]:
    """Values of ORCPT. RFC 3461 4.2, RFC 6533 3"""
    return _original_recipients


def mail_parameters() -> st.SearchStrategy[MailParameters]:
    """The parameters of one MAIL."""
    return _mail_parameters


def rcpt_parameters() -> st.SearchStrategy[RcptParameters]:
    """The parameters of one RCPT."""
    return _rcpt_parameters


# --- Commands --------------------------------------------------------------------------------

_mechanisms = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
_remarks = st.just("") | _printable.map(str.strip)
_strings = _words.filter(lambda text: '"' not in text) | _words.map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + ' x"'
)
_commands: Mapping[type[Command], st.SearchStrategy[Command]] = {
    Helo: st.builds(Helo, _domains),
    Ehlo: st.builds(Ehlo, _domains),
    Lhlo: st.builds(Lhlo, _domains),
    Mail: st.builds(Mail, reverse_paths(), _mail_parameters),
    Rcpt: st.builds(Rcpt, forward_paths(), _rcpt_parameters),
    Data: st.builds(Data),
    Bdat: st.builds(Bdat, st.integers(0, 10**20 - 1), st.booleans()),
    Rset: st.builds(Rset),
    Vrfy: _legal(Vrfy, _strings, st.booleans()),
    Expn: _legal(Expn, _strings, st.booleans()),
    Help: st.builds(Help, _remarks),
    Noop: st.builds(Noop, _remarks),
    Quit: st.builds(Quit),
    StartTls: st.builds(StartTls),
    Auth: st.builds(Auth, _mechanisms, st.none() | st.binary(max_size=40)),
    OtherCommand: _legal(OtherCommand, _keywords, _remarks),
}
_auth_responses = st.builds(AuthResponse, st.none() | st.binary(max_size=40))


def commands(*kinds: type[Command]) -> st.SearchStrategy[Command]:
    """Commands of these classes; of all, if none is named."""
    return st.one_of([_commands[kind] for kind in kinds or _commands])


def auth_responses() -> st.SearchStrategy[AuthResponse]:
    """Lines of an AUTH exchange: responses, and its cancellation. RFC 4954 4"""
    return _auth_responses


# --- Replies ---------------------------------------------------------------------------------

_status_codes: st.SearchStrategy[EnhancedStatusCode] = st.builds(
    EnhancedStatusCode, st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999)
)
# However they are put together they are no UTF-8: that would have to be decoded.
_eight_bit = st.text(
    st.sampled_from([*map(chr, range(0xDCA0, 0xDCC0)), *map(chr, range(0xDCF8, 0xDD00))]),
    max_size=10,
)
_reply_lines = st.one_of(
    _printable,
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30),
    st.builds("{}{}".format, _printable, _eight_bit),
    st.builds("{} {}".format, _status_codes, _printable),
)
_texts = st.lists(_reply_lines, min_size=1, max_size=5).map(tuple)
_capabilities: st.SearchStrategy[Capabilities] = _legal(
    Capabilities,
    st.just("") | _domains | _letters,
    st.dictionaries(
        _keywords.map(str.upper),
        st.lists(st.from_regex(r"[!-~]{1,10}", fullmatch=True), max_size=3).map(tuple),
        max_size=5,
    ),
)


def status_codes() -> st.SearchStrategy[EnhancedStatusCode]:
    """Enhanced status codes. RFC 3463 2"""
    return _status_codes


def replies(
    codes: st.SearchStrategy[int] = st.integers(200, 599),  # noqa: B008 - it does not change
) -> st.SearchStrategy[Reply]:
    """Replies with any text, of one line or several. RFC 5321 4.2"""
    return _legal(Reply, codes, _texts)


def capabilities() -> st.SearchStrategy[Capabilities]:
    """What a server can say to EHLO. RFC 5321 4.1.1.1"""
    return _capabilities


# --- Content ---------------------------------------------------------------------------------

_content_lines = st.one_of(
    st.sampled_from([b"", b".", b"..", b". ", b"Subject: x", b"QUIT", b"From here"]),
    st.binary(max_size=40).map(lambda octets: octets.translate(None, b"\r\n")),
)


def content() -> st.SearchStrategy[bytes]:
    """Content: lines that end with CRLF, in which any other octet may be. RFC 5321 4.1.1.4"""
    return st.lists(_content_lines, max_size=8).map(
        lambda lines: b"".join(line + b"\r\n" for line in lines)
    )
