"""All that can go wrong, as its users meet it.

Knows phases, commands and replies; knows nothing of how errors come about.

SMTPError
├── ConnectError            the host could not be reached
├── ProxyError              a proxy did not make the tunnel
├── TLSError                the handshake failed, or TLS is required and not to be had
│   └── CertificateError    the certificate is not trusted, or not the server's
├── AuthenticationError     no mechanism that is allowed, or the server refused the credentials
├── CapabilityMissing       the message needs what the server does not offer; nothing was sent
├── MessageTooLarge         the server announced that it would not take it; nothing was sent
├── ReplyError              the server refused: phase, command, reply
│   ├── TransientError      4xx: the same may succeed later
│   ├── PermanentError      5xx: it will not
│   ├── SenderRefused       MAIL was refused (and an instance of one of the two above)
│   ├── RecipientsRefused   not one recipient was accepted: a reply for each (likewise)
│   └── ContentRefused      DATA or the content was refused (likewise)
├── ProtocolViolation       the server said what no server may say
├── ConnectionLost          the connection ended in the middle
├── SMTPTimeout             a phase took too long (also a TimeoutError)
└── DeliveryInDoubt         all was sent and no final reply came: it may have been delivered, or not
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TypeVar

from smtp_proto.flow.security import Security
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire import Reply

E = TypeVar("E", bound="SMTPError")


class SMTPError(Exception):
    """The root.

    `str(error)` is one line for people: what happened, in which phase, and what to change.
    """

    phase: Phase | None = None
    """What the flow was doing; None where nothing had begun."""
    attempts: tuple[Attempt, ...] = ()
    """The ways to the server that AUTO had tried, this one last; see `Session.attempts`."""

    def __str__(self) -> str:
        tried = "".join(f"; before that {attempt}" for attempt in self.attempts[:-1])
        return super().__str__() + tried


def in_phase(phase: Phase, error: E) -> E:
    """The error, with its phase."""
    error.phase = phase
    return error


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way in which AUTO tried to reach the server."""

    port: int
    security: Security
    """IMPLICIT or STARTTLS."""
    error: SMTPError | None
    """Why it was left; None: the server greeted, and this is the way that is used."""

    def __str__(self) -> str:
        # Without the ways before it, which stand before it.
        outcome = "the server greeted" if self.error is None else Exception.__str__(self.error)
        return f"port {self.port}, {self.security.value}: {outcome}"


class ConnectError(SMTPError):
    """The host could not be reached, or the connection was refused."""

    phase: Phase | None = Phase.CONNECT


class ProxyError(SMTPError):
    """A proxy did not make the tunnel; nothing was sent to the server.

    `proxy`: which one, as a URL without credentials; `code`: its own word for the reason (STATUS or
    REP of SOCKS5, CD of SOCKS4, the status code of HTTP), if it gave one.
    """

    phase: Phase | None = Phase.PROXY

    def __init__(self, message: str, *, proxy: str, code: int | None = None) -> None:
        super().__init__(message)
        self.proxy = proxy
        self.code = code


class TLSError(SMTPError):
    """TLS failed, or was required and is not to be had. Nothing confidential has been sent."""


class CertificateError(TLSError):
    """The server's certificate is not trusted, or is not the server's.

    Trying again, or in another way, does not help: somebody may be in between.
    """


class AuthenticationError(SMTPError):
    """Logging in failed.

    `offered`: the server's mechanisms; `allowed`: those that the policy names, None: any; `tried`:
    those used, in order; `passed_over`: the others, each with the reason; `reply`: what the server
    said, if it was asked; `explanation`: what it said besides, inside the mechanism (RFC 7628
    3.2.2), on one line, and `explanation_fields` the same by name, where it has such a form.
    """

    phase: Phase | None = Phase.AUTH

    def __init__(
        self,
        message: str,
        *,
        offered: tuple[str, ...] = (),
        allowed: frozenset[str] | None = None,
        tried: tuple[str, ...] = (),
        passed_over: tuple[tuple[str, str], ...] = (),
        reply: Reply | None = None,
    ) -> None:
        super().__init__(message)
        self.offered = offered
        self.allowed = allowed
        self.tried = tried
        self.passed_over = passed_over
        self.reply = reply
        self.explanation = ""
        self.explanation_fields: Mapping[str, str] = {}


class CapabilityMissing(SMTPError):
    """The message needs what the server does not offer.

    Found before the first command: the session is as it was. Only where octets above 127 come late
    in content that comes in pieces, it is not usable any more, and nothing was delivered.

    `capability`: the keyword, such as "SMTPUTF8".
    """

    def __init__(self, message: str, *, capability: str) -> None:
        super().__init__(message)
        self.capability = capability


class MessageTooLarge(SMTPError):
    """The server announced a limit (SIZE, RFC 1870 6.1) below the message's size, both in octets.

    The session is as it was.
    """

    def __init__(self, size: int, maximum: int) -> None:
        super().__init__(f"the message has {size} octets and the server takes {maximum} at most")
        self.size = size
        self.maximum = maximum


class ReplyError(SMTPError):
    """The server refused.

    `command`: the verb that was refused, as on the wire, or "the content"; `reply`: the refusal.
    """

    def __init__(self, phase: Phase, command: str, reply: Reply) -> None:
        super().__init__(f"{command} was refused in phase {phase.value}: {reply}")
        self.phase = phase
        self.command = command
        self.reply = reply


class TransientError(ReplyError):
    """The refusal is 4xx: the same may succeed later (RFC 5321 4.2.1)."""


class PermanentError(ReplyError):
    """The refusal is 5xx: the same will fail again (RFC 5321 4.2.1)."""


class SenderRefused(ReplyError):
    """MAIL was refused: nothing was delivered. The session can be used further, unless by 421."""


class RecipientsRefused(ReplyError):
    """Not one recipient was accepted.

    Nothing was delivered. `refused`: each with its reply; `reply`: the first that is 4xx, else the
    first of all. Where it was said to the content, which LMTP has a reply to for each recipient
    (RFC 2033 4.2), `phase` is FINAL and `command` "the content"; else they are those of RCPT. The
    session can be used further, unless by 421.
    """

    def __init__(self, phase: Phase, refused: Mapping[str, Reply]) -> None:
        replies = list(refused.values())
        command = "the content" if phase is Phase.FINAL else "RCPT"
        super().__init__(phase, command, next(filter(_is_transient, replies), replies[0]))
        first = "; ".join(
            f"<{recipient}>: {reply}" for recipient, reply in list(refused.items())[:3]
        )
        more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
        self.args = (f"no recipient was accepted: {first}{more}",)
        self.refused = dict(refused)


class ContentRefused(ReplyError):
    """The content, or leave to send it, was refused.

    Nothing was delivered. The session can be used further, unless the reply is 421.
    """


class TransientSenderRefused(SenderRefused, TransientError):
    """MAIL was refused with 4xx."""


class PermanentSenderRefused(SenderRefused, PermanentError):
    """MAIL was refused with 5xx."""


class TransientRecipientsRefused(RecipientsRefused, TransientError):
    """At least one recipient was refused with 4xx: the same may succeed later, for some."""


class PermanentRecipientsRefused(RecipientsRefused, PermanentError):
    """Each recipient was refused with 5xx."""


class TransientContentRefused(ContentRefused, TransientError):
    """The content was refused with 4xx."""


class PermanentContentRefused(ContentRefused, PermanentError):
    """The content was refused with 5xx."""


def reply_error(phase: Phase, command: str, reply: Reply) -> ReplyError:
    """The error for a refused command that is neither MAIL nor content.

    Transient or permanent by the reply's first digit.
    """
    kind = TransientError if reply.transient else PermanentError
    return kind(phase, command, reply)


def sender_refused(phase: Phase, reply: Reply) -> SenderRefused:
    """The error for a refused MAIL."""
    kind = TransientSenderRefused if reply.transient else PermanentSenderRefused
    return kind(phase, "MAIL", reply)


def recipients_refused(refused: Mapping[str, Reply], accepted: Container[str]) -> RecipientsRefused:
    """The error where each recipient was refused; there is at least one.

    `accepted`: those whom RCPT had accepted, so that it was the content that was refused for them.
    """
    transient = [recipient for recipient, reply in refused.items() if reply.transient]
    kind = TransientRecipientsRefused if transient else PermanentRecipientsRefused
    decisive = next(iter(transient or refused))
    return kind(Phase.FINAL if decisive in accepted else Phase.RCPT, refused)


def _is_transient(reply: Reply) -> bool:
    return reply.transient


def content_refused(phase: Phase, command: str, reply: Reply) -> ContentRefused:
    """The error for refused content, where `command` is "DATA" or "the content"."""
    kind = TransientContentRefused if reply.transient else PermanentContentRefused
    return kind(phase, command, reply)


class ProtocolViolation(SMTPError):
    """The server broke the protocol: the connection is out of step and has been given up."""


class ConnectionLost(SMTPError):
    """The connection ended where it should have gone on.

    The message was not delivered. `reply`: the server's last words, if any.
    """

    def __init__(self, message: str, *, reply: Reply | None = None) -> None:
        super().__init__(message)
        self.reply = reply


class SMTPTimeout(SMTPError, TimeoutError):
    """A phase, or the whole operation, took too long. The connection has been given up.

    `seconds`: the limit that was passed; `whole`: whether it is that of the whole operation, not
    the phase's; `received`: octets that came during the wait.
    """

    def __init__(
        self, phase: Phase, seconds: float | None, received: int = 0, *, whole: bool = False
    ) -> None:
        after = "" if seconds is None else f" after {seconds:g} s"
        limit = " (the limit of the whole operation)" if whole else ""
        heard = (
            f"{received} octets had come, but no whole answer" if received else "nothing had come"
        )
        super().__init__(f"timed out{after}{limit} in phase {phase.value}: {heard}")
        self.phase = phase
        self.seconds = seconds
        self.whole = whole
        self.received = received


class DeliveryInDoubt(SMTPError):
    """The content was sent whole, but the final reply did not come.

    The message may have been delivered, or not.

    Only the caller can decide to send again. The cause (`__cause__`) is what ended the wait.
    `accepted` and `refused`: the recipients
    whose outcome is known all the same (LMTP answers for each, RFC 2033 4.2).
    """

    def __init__(
        self, message: str, *, accepted: Mapping[str, Reply], refused: Mapping[str, Reply]
    ) -> None:
        super().__init__(message)
        self.accepted = dict(accepted)
        self.refused = dict(refused)
