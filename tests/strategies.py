"""Values of `smtp_proto.wire` to test with: a hypothesis strategy for each class.

Knows how a value that exists comes about. Must not know what is tested with it.
"""

from collections.abc import Callable
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
def legal(draw: st.DrawFn, make: Callable[..., T], *arguments: st.SearchStrategy[object]) -> T:
    """What `make` makes of the arguments; those that it refuses are drawn anew."""
    try:
        return make(*map(draw, arguments))
    except WireError:
        reject()


# --- Text ------------------------------------------------------------------------------------

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)
letters = st.text(st.sampled_from("aAzZ09-äßёж中あ\U00010348"), min_size=1, max_size=12)
keywords = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,9}", fullmatch=True)
words = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="="),
    min_size=1,
    max_size=20,
)

hostile_text = st.one_of(
    st.text(max_size=20),
    st.text('\r\n\0\t "\\<>@:;,.=+[]*aA0-é\x1b\x7f\x85\u2028\u200b\udc80\udcff\ud800', max_size=20),
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(
                ["", "a", "a@b", "a.example", "X", "<>", '"a"', "[127.0.0.1]", "rfc822;a"]
            ),
            st.sampled_from(["\r\n", "\n", "\r", "\0", " ", ">", "> ", "\t", "=", "\u2028", ""]),
            st.sampled_from(["RSET", "SIZE=1", "QUIT\r\n", "RCPT TO:<c@d>", ".\r\n", "a", ""]),
        ),
    ),
)
"""Any text, and above all such as would put more on the wire than it should."""

# --- Addresses -------------------------------------------------------------------------------

_ldh_labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
_u_labels = st.text(st.sampled_from("aäßßёжçñ中日本あ-"), min_size=1, max_size=10)
_literals = st.one_of(
    st.ip_addresses(v=4).map("[{}]".format),
    st.ip_addresses(v=6).map("[IPv6:{}]".format),
    st.from_regex(r"\[[A-Za-z0-9]{1,5}:[!#-;=?-Z^-~]{1,10}\]", fullmatch=True),
)
domains = st.lists(_ldh_labels, min_size=1, max_size=4).map(".".join) | _literals
_u_domains = st.lists(_ldh_labels | _u_labels, min_size=1, max_size=3).map(".".join)
_local_parts = st.one_of(
    st.from_regex(r"[A-Za-z0-9+=_'!#-]{1,10}(\.[a-z]{1,5}){0,2}", fullmatch=True),
    printable,
    letters,
)

mailboxes: st.SearchStrategy[Mailbox] = legal(Mailbox, _local_parts, domains | _u_domains)
reverse_paths: st.SearchStrategy[ReversePath] = st.just(NULL_REVERSE_PATH) | mailboxes
forward_paths: st.SearchStrategy[ForwardPath] = st.just(POSTMASTER) | mailboxes

# --- Parameters ------------------------------------------------------------------------------

parameters: st.SearchStrategy[Parameter] = st.builds(Parameter, keywords, st.none() | words)
original_recipients: st.SearchStrategy[OriginalRecipient] = st.one_of(
    st.builds(OriginalRecipient, st.just("rfc822"), printable),
    st.builds(OriginalRecipient, st.sampled_from(["utf-8", "UTF-8"]), printable | words),
)
_others = st.lists(parameters, max_size=3, unique_by=lambda each: each.keyword).map(tuple)
mail_parameters: st.SearchStrategy[MailParameters] = legal(
    MailParameters,
    st.none() | st.integers(0, 10**20 - 1),
    st.none() | st.sampled_from(Body),
    st.booleans(),
    st.none() | st.sampled_from(Ret),
    st.none() | printable,
    st.none() | reverse_paths,
    st.booleans(),
    _others,
)
rcpt_parameters: st.SearchStrategy[RcptParameters] = legal(
    RcptParameters,
    st.just(frozenset({Notify.NEVER})) | st.frozensets(st.sampled_from(list(Notify)[1:])),
    st.none() | original_recipients,
    _others,
)

# --- Commands --------------------------------------------------------------------------------

_mechanisms = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
_remarks = st.just("") | printable.map(str.strip)
_strings = words.filter(lambda text: '"' not in text) | words.map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + ' x"'
)

commands: dict[type[Command], st.SearchStrategy[Command]] = {
    Helo: st.builds(Helo, domains),
    Ehlo: st.builds(Ehlo, domains),
    Lhlo: st.builds(Lhlo, domains),
    Mail: st.builds(Mail, reverse_paths, mail_parameters),
    Rcpt: st.builds(Rcpt, forward_paths, rcpt_parameters),
    Data: st.builds(Data),
    Bdat: st.builds(Bdat, st.integers(0, 10**20 - 1), st.booleans()),
    Rset: st.builds(Rset),
    Vrfy: legal(Vrfy, _strings, st.booleans()),
    Expn: legal(Expn, _strings, st.booleans()),
    Help: st.builds(Help, _remarks),
    Noop: st.builds(Noop, _remarks),
    Quit: st.builds(Quit),
    StartTls: st.builds(StartTls),
    Auth: st.builds(Auth, _mechanisms, st.none() | st.binary(max_size=40)),
    OtherCommand: legal(OtherCommand, keywords, _remarks),
}
"""For each class of command."""

auth_responses: st.SearchStrategy[AuthResponse] = st.builds(
    AuthResponse, st.none() | st.binary(max_size=40)
)

# --- Replies ---------------------------------------------------------------------------------

status_codes: st.SearchStrategy[EnhancedStatusCode] = st.builds(
    EnhancedStatusCode, st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999)
)
_reply_lines = st.one_of(
    printable,
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30),
    st.binary(max_size=20).map(lambda octets: octets.decode("utf-8", "surrogateescape")),
    st.builds("{} {}".format, status_codes, printable),
)
replies: st.SearchStrategy[Reply] = legal(
    Reply, st.integers(200, 599), st.lists(_reply_lines, min_size=1, max_size=5).map(tuple)
)
capabilities: st.SearchStrategy[Capabilities] = legal(
    Capabilities,
    st.just("") | domains | letters,
    st.dictionaries(
        keywords.map(str.upper),
        st.lists(st.from_regex(r"[!-~]{1,10}", fullmatch=True), max_size=3).map(tuple),
        max_size=5,
    ),
)
