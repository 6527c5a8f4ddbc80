"""Where a server's replies may have characters beyond ASCII, and what they say elsewhere.

Knows RFC 6531 3.7.4, and which answers show a mailbox. Must not know what a client has said.
"""

from collections.abc import Mapping

from smtp_proto.wire.reply import Reply

_VERIFIED = Reply.build(252, "Only with SMTPUTF8 can the mailbox be shown", status="2.6.8")
_ELSEWHERE = Reply.build(550, "Only with SMTPUTF8 can the mailbox be shown", status="5.6.8")

# RFC 6531 3.7.4.1, 3.7.4.2
_STAND_INS: Mapping[tuple[str, int], Reply] = {
    ("on_rcpt", 251): Reply.build(250, "Recipient ok, will forward", status="2.1.5"),
    ("on_rcpt", 551): _ELSEWHERE,
    ("on_verify", 250): _VERIFIED,
    ("on_verify", 251): _VERIFIED,
    ("on_verify", 551): _ELSEWHERE,
    ("on_expand", 250): _VERIFIED,
}
"""What a method answers that shows a mailbox, and what says the same without it."""


def as_permitted(method: str, reply: Reply, *, smtputf8: bool) -> Reply:
    """Return a method's reply as it may go out.

    `smtputf8`: whether the client has said so, with VRFY, EXPN, or the MAIL in front of a RCPT.
    Without it a mailbox is left out; in any other text escapes stand for what is not ASCII.
    """
    if all(map(str.isascii, reply.lines)) or (smtputf8 and _permitted(method, reply.code)):
        return reply
    stand_in = _STAND_INS.get((method, reply.code))
    return stand_in or Reply(reply.code, tuple(map(_escaped, reply.lines)))


def _permitted(method: str, code: int) -> bool:
    # RFC 6531 3.7.4.2: to RCPT, only where a mailbox has to be shown
    return method in {"on_verify", "on_expand"} or (method == "on_rcpt" and code in {251, 551})


def _escaped(line: str) -> str:
    return line.encode("ascii", "backslashreplace").decode("ascii")
