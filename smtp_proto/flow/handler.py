"""What a server's application says to a client's commands.

Knows the questions and what an answer may be, and what can be seen of a client.
Must not know when a question comes up, nor how its answer gets to the client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.tls import TLSInfo
from smtp_proto.sasl.mechanism import Credentials, TokenCredentials
from smtp_proto.sasl.scram_secret import ScramSecret
from smtp_proto.wire.address import ReversePath
from smtp_proto.wire.command import Mail, OtherCommand, Rcpt
from smtp_proto.wire.parameters import NO_MAIL_PARAMETERS, MailParameters
from smtp_proto.wire.reply import Reply

T = TypeVar("T")

Answer: TypeAlias = T | Awaitable[T]
"""An answer, or in a world that awaits, a promise of one."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class ServerSession:
    """One client, as far as it is known by now. For looking at: the server writes it.

    Equal to itself only, and hashable: what a handler keeps for a client it can keep under it, in
    a `WeakKeyDictionary`, say.
    """

    peer: str
    """Who connected, as the transport names it: an IP address as a rule."""
    tls: TLSInfo | None = None
    """What TLS is in force; None on a clear connection."""
    helo: str | None = None
    """The name from HELO, EHLO or LHLO: a claim that nobody has checked."""
    authenticated_as: str | None = None
    """Whom the client acts for, once AUTH has succeeded."""
    reverse_path: ReversePath | None = None
    """The sender of the transaction; None: there is no transaction."""
    mail_parameters: MailParameters = NO_MAIL_PARAMETERS
    recipients: list[Rcpt] = field(default_factory=list[Rcpt])
    """The recipients that were accepted, in order, each with its parameters."""


class Handler:
    """The base class of every server's application: override what you want to decide.

    Each method may be plain, or a coroutine function where the world awaits. Where it returns a
    reply, None says: accepted. 2xx accepts, too, in your own words; 4xx and 5xx refuse; 421
    ends the connection besides (RFC 5321 3.8). Text of the client has no place in a reply.

    UTF-8 may stand in a reply only to show a mailbox, and to a client that said SMTPUTF8 (RFC 6531
    3.7.4). Elsewhere 250 or 252 goes out in place of a reply with a mailbox, or 550 where it is
    refused, and in other text escapes stand for what is not ASCII.

    What a method raises refuses its command with 451 and is given to `on_error`; the connection
    lives on. What is not overridden is not asked.
    """

    def on_connect(self, session: ServerSession) -> Answer[Reply | None]:
        """Say if this client is served at all. A positive reply is not sent, a negative one is.

        After 554 a client may only say QUIT (RFC 5321 3.1); 421 shows it the door.
        """

    def on_helo(self, session: ServerSession, domain: str) -> Answer[Reply | None]:
        """Say if a client of that name is served. A positive reply is not sent."""

    def on_auth(
        self,
        session: ServerSession,
        credentials: Credentials,
    ) -> Answer[bool | Reply]:
        """Check a password. A reply refuses: use it for what is not a wrong password (454, 534)."""
        return False

    def find_password(
        self, session: ServerSession, authentication_identity: str
    ) -> Answer[str | None]:
        """Look up the password for a mechanism that proves it without showing it."""

    def on_token(
        self, session: ServerSession, credentials: TokenCredentials
    ) -> Answer[bool | Reply]:
        """Check an access token: whether it is valid, and opens what the identity names."""
        return False

    def on_anonymous(self, session: ServerSession, trace: str) -> Answer[bool | Reply]:
        """Say if somebody may come in without a name. `trace` may be anything (RFC 4505 2)."""
        return False

    def find_secret(
        self, session: ServerSession, authentication_identity: str, mechanism: str
    ) -> Answer[ScramSecret | None]:
        """Look up what is kept in place of the password for a mechanism ("SCRAM-SHA-256")."""

    def find_identity(
        self, session: ServerSession, authorization_identity: str
    ) -> Answer[str | None]:
        """Say who the client is by its TLS certificate, whatever it says itself; None: nobody."""

    def on_mail(self, session: ServerSession, mail: Mail) -> Answer[Reply | None]:
        """Say if mail from this sender, with these parameters, is taken."""

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Answer[Reply | None]:
        """Say if mail for this recipient is taken. What raises refuses this recipient only."""

    def on_content(self, session: ServerSession, data: bytes) -> Answer[None]:
        """Take a piece of the content as it comes. Without this method, `on_message` gets it whole.

        The pieces count for nothing until `on_message` is called; `on_reset` or `on_disconnect`
        says that it will not be.
        """

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Answer[Reply | Sequence[Reply] | None]:
        """Take a message that has come whole: who accepts it answers for it (RFC 5321 4.2.5).

        `content` is as the client has it; it is b"" if `on_content` is overridden. Its lines end
        in CRLF, unless it came with BDAT: there any octets may come (RFC 3030 2). In LMTP return a
        reply for each of `envelope.forward_paths`, in their order, or one that goes for all
        (RFC 2033 4.2). A recipient that the client gave twice is there once.
        """

    def on_verify(self, session: ServerSession, string: str) -> Answer[Reply | None]:
        """Answer VRFY; None: 252, it may be so or not (RFC 5321 3.5.3)."""

    def on_expand(self, session: ServerSession, string: str) -> Answer[Reply | None]:
        """Answer EXPN; None: 502."""

    def on_other(self, session: ServerSession, command: OtherCommand) -> Answer[Reply | None]:
        """Answer a command of an extension of your own; None: 500, not recognized.

        A reply in UTF-8 goes out as it is: the extension says if that may be.
        """

    def on_reset(self, session: ServerSession) -> Answer[None]:
        """Forget the transaction: it was given up, or it has failed, without `on_message`."""

    def on_disconnect(self, session: ServerSession) -> Answer[None]:
        """Forget the client: the connection is over, in order or not. Comes once, and last."""

    def on_error(self, session: ServerSession, error: Exception) -> Answer[None]:
        """Take note of what another method has raised, or that it took too long."""
