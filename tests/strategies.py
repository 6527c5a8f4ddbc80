"""What the tests draw from: the strategies of the kit, and text that nobody should send.

Knows `smtp_proto.testing.strategies`. Must not know what is tested.
"""

from __future__ import annotations

from hypothesis import strategies as st

from smtp_proto.testing import strategies as kit
from smtp_proto.wire import (
    Auth,
    Bdat,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    OtherCommand,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
)

_COMMANDS: tuple[type[Command], ...] = (
    Helo,
    Ehlo,
    Lhlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Vrfy,
    Expn,
    Help,
    Noop,
    Quit,
    StartTls,
    Auth,
    OtherCommand,
)

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)
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

commands = {kind: kit.commands(kind) for kind in _COMMANDS}
"""For each class of command."""

mailboxes = kit.addresses()
parameters = kit.parameters()
original_recipients = kit.original_recipients()
mail_parameters = kit.mail_parameters()
rcpt_parameters = kit.rcpt_parameters()
auth_responses = kit.auth_responses()
status_codes = kit.status_codes()
replies = kit.replies()
capabilities = kit.capabilities()
