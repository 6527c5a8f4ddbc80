"""How clients are served: what is offered to them, and what they must do first.

Knows extensions, and the rules of TLS and AUTH. Must not know the state of a session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from smtp_proto.engine.table import Protocol
from smtp_proto.flow.handler import ServerSession
from smtp_proto.flow.security import Security, check_security
from smtp_proto.flow.timeouts import Timeouts
from smtp_proto.flow.tls import ServerTLSFactory
from smtp_proto.sasl.registry import SERVER_MECHANISMS
from smtp_proto.wire.address import validate_domain
from smtp_proto.wire.capabilities import Capabilities
from smtp_proto.wire.command import Auth, Command, Ehlo, Helo, Lhlo, Noop, Quit, Rset, StartTls
from smtp_proto.wire.content import BareLineEndings
from smtp_proto.wire.errors import check_flag
from smtp_proto.wire.limits import Limits
from smtp_proto.wire.reply import Reply

_TLS_FIRST = Reply.build(530, "Must issue a STARTTLS command first", status="5.7.0")
_AUTH_FIRST = Reply.build(530, "Authentication required", status="5.7.0")

_BEFORE_TLS = frozenset({Ehlo, Lhlo, StartTls, Noop, Quit})  # RFC 3207 4
_BEFORE_AUTH = _BEFORE_TLS | {Helo, Auth, Rset}  # RFC 4954 6

FOR_CLIENTS = frozenset({Security.AUTO, Security.MANUAL})
"""The modes that a server cannot have."""

_WITH_STARTTLS = frozenset({Security.STARTTLS, Security.OPPORTUNISTIC})


def _report_nothing(_session: ServerSession, _error: Exception) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """All that decides how clients are served, the handler aside.

    Raises ValueError for what does not go together, and TypeError for what must not be mistaken.
    """

    hostname: str
    """The server's own name, as the greeting says it."""
    nonce: Callable[[], bytes]
    """Returns fresh random octets, at least 16, that nobody can foresee; for AUTH."""
    security: Security = Security.NONE
    """IMPLICIT: TLS comes before the greeting. STARTTLS: it is required before anything else.
    OPPORTUNISTIC: it is offered."""
    tls: ServerTLSFactory | None = None
    """Makes the TLS layer; needed in each mode but NONE."""
    mechanisms: tuple[str, ...] = ()
    """The SASL mechanisms for AUTH, by name. Those with channel binding (-PLUS) are offered where
    the TLS layer gives the data for it."""
    require_auth: bool = False
    """Whether mail is taken only after AUTH."""
    salt_key: bytes = field(default=b"", repr=False)
    """A secret that stays the same for as long as possible: it hides who has no SCRAM secret."""
    allow_cleartext_auth: bool = False
    """Whether a mechanism may be used without TLS that shows the password."""
    protocol: Protocol = Protocol.SMTP
    bare_line_endings: BareLineEndings = BareLineEndings.REFUSE
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    report_error: Callable[[ServerSession, Exception], None] = _report_nothing
    """Told what the handler has raised if that has no `on_error`, and what `on_error` raises."""

    def __post_init__(self) -> None:
        validate_domain(self.hostname, lenient=True)
        check_security(self.security)
        check_flag("require_auth", self.require_auth)
        check_flag("allow_cleartext_auth", self.allow_cleartext_auth)
        if self.security in FOR_CLIENTS:
            raise ValueError(f"security {self.security.value!r} is for clients: say what you offer")
        if self.security is not Security.NONE and self.tls is None:
            raise ValueError(f"security {self.security.value!r} needs tls: what makes the layer")
        unknown = [name for name in self.mechanisms if name not in SERVER_MECHANISMS]
        if unknown:
            known = ", ".join(SERVER_MECHANISMS)
            raise ValueError(f"no such mechanisms: {', '.join(unknown)}; there are {known}")
        if self.require_auth and not self.mechanisms:
            raise ValueError("require_auth needs mechanisms: nobody could log in")
        if self.require_auth and self.security is Security.NONE and not self._any_in_clear():
            raise ValueError(
                "require_auth: without TLS nobody could log in, as each of the mechanisms shows "
                "the password or needs TLS; give tls, or allow_cleartext_auth=True"
            )

    def _any_in_clear(self) -> bool:
        return self.allow_cleartext_auth or any(
            not SERVER_MECHANISMS[name].reveals_password and not name.endswith("-PLUS")
            for name in self.mechanisms
        )

    def capabilities(self, mechanisms: tuple[str, ...], *, secure: bool) -> Capabilities:
        """Return what is offered. `mechanisms`: those that may be used now."""
        keywords: dict[str, tuple[str, ...]] = {
            "PIPELINING": (),
            "SIZE": (str(self.limits.message_size),),  # RFC 1870 4
            "8BITMIME": (),
            "SMTPUTF8": (),
            "CHUNKING": (),
            "ENHANCEDSTATUSCODES": (),
            "DSN": (),
            "HELP": (),
        }
        # RFC 3207 4.2
        if self.security in _WITH_STARTTLS and not secure:
            keywords["STARTTLS"] = ()
        if mechanisms:
            keywords["AUTH"] = mechanisms
        return Capabilities(self.hostname, keywords)

    def refusal(self, command: Command, *, secure: bool, authenticated: bool) -> Reply | None:
        """Return why TLS or AUTH must come before `command`; None if neither must."""
        if self.security is Security.STARTTLS and not secure and type(command) not in _BEFORE_TLS:
            return _TLS_FIRST
        if self.require_auth and not authenticated and type(command) not in _BEFORE_AUTH:
            return _AUTH_FIRST
        return None
