r"""NTLM, GSSAPI and GSS-SPNEGO for clients, out of the tokens that pyspnego makes. RFC 4752

Knows in which order the tokens go over the wire, and what is said around them. Must not know what
is in a token: that is pyspnego's business. Install this project's extra "spnego", or for tickets
of Kerberos "kerberos", and give a client the mechanisms:

    from smtp_adapters import spnego
    SMTPClient(host, auth=KerberosCredentials(), own_mechanisms=spnego.MECHANISMS)

GSSAPI        Kerberos, by `KerberosCredentials`, or by `Credentials` whose password gets a ticket
GSS-SPNEGO    the same, or NTLM with the password if the server prefers that; by name only
NTLM          `Credentials` alone, "DOMAIN\user" or "user@domain"; by name only

A name or a password that Kerberos cannot use is a reason to pass the mechanism over. Kerberos asks
its own servers while the mechanism is made: the world that waits for it stands still meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import ClassVar, TypeVar

import spnego
from spnego.channel_bindings import GssChannelBindings

from smtp_proto.sasl import (
    NO_CLIENT_CONTEXT,
    AnyCredentials,
    ClientContext,
    Credentials,
    KerberosCredentials,
    Mechanism,
    SASLError,
    Strength,
)
from smtp_proto.sasl.mechanism import encode_identity, encode_password, require
from smtp_proto.wire.errors import escaped

T = TypeVar("T")

_LONGEST_REASON = 300  # characters; those of Kerberos take up to some 200


# --- pyspnego ------------------------------------------------------------------------------------

# It logs each token at the level DEBUG, and a token of NTLM is enough to guess the password.
_at_work: ContextVar[bool] = ContextVar("_at_work", default=False)


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _at_work.get()


for _module in ("_gss", "_negotiate", "_ntlm", "_sspi"):
    logging.getLogger(f"spnego.{_module}").addFilter(_is_not_ours)


def _ask(call: Callable[[], T]) -> T:
    """Return what a call of pyspnego returns. Raises SASLError for whatever it raises."""
    before = _at_work.set(True)
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - a token of the server's can make it raise anything
        why = escaped(str(error))[:_LONGEST_REASON] or type(error).__name__
    finally:
        _at_work.reset(before)
    # Out here nothing of that error, nor of what its frames hold, goes along.
    raise SASLError(why)


def _channel_bindings(context: ClientContext) -> GssChannelBindings | None:
    kind = "tls-server-end-point"
    data = context.channel_bindings.get(kind)
    # RFC 5929 4
    return GssChannelBindings(application_data=kind.encode() + b":" + data) if data else None


# --- What the three have in common ---------------------------------------------------------------


def _split(credentials: AnyCredentials) -> tuple[str | None, str | None, str]:
    """Return user and password, both None for tickets, and the authorization identity.

    Raises SASLError for other credentials, and what is in them that cannot be encoded.
    """
    if not isinstance(credentials, Credentials | KerberosCredentials):
        expected = f"{Credentials.kind} or {KerberosCredentials.kind}"
        raise SASLError(f"it takes {expected}, not {credentials.kind}")
    acts_as = credentials.authorization_identity
    if acts_as:
        encode_identity(acts_as)
    if isinstance(credentials, KerberosCredentials):
        return None, None, acts_as
    encode_identity(credentials.authentication_identity)
    encode_password(credentials.password)
    return credentials.authentication_identity, credentials.password, acts_as


class _Client:
    """Steps through the tokens until both sides have what they need."""

    name: ClassVar[str]
    reveals_password: ClassVar[bool] = False
    protocol: ClassVar[str]
    """What pyspnego calls it."""
    requirements: ClassVar[spnego.ContextReq]
    binds: ClassVar[bool] = True
    """Whether the tokens are bound to TLS, where there is something to bind to."""
    acts_as_others: ClassVar[bool] = False
    """Whether it can carry an authorization identity."""
    __slots__ = ("_authorization_identity", "_context", "_first", "_user")

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        self._user, password, self._authorization_identity = _split(credentials)
        if not self.acts_as_others and self._authorization_identity not in ("", self._user):
            raise SASLError("it cannot carry an authorization identity")
        if not context.hostname:
            raise SASLError("it needs the server's name, and has none")
        self._context = _ask(
            partial(
                spnego.client,
                self._user,
                password,
                hostname=context.hostname,
                service=context.service,
                channel_bindings=_channel_bindings(context) if self.binds else None,
                context_req=self.requirements,
                protocol=self.protocol,
            )
        )
        # Made at once: only then it is certain that there is a ticket for this server.
        self._first = self._step(None)

    def start(self) -> bytes:
        """Return the first token."""
        return self._first

    def respond(self, challenge: bytes) -> bytes:
        """Return the next token. Raises SASLError for what is no token that makes sense here."""
        if self._context.complete:
            return self._end(challenge)
        return self._step(challenge)

    def finish(self) -> None:
        """Raise SASLError if the server reports success too early."""
        if not self._context.complete:
            raise SASLError("the server reports success before the exchange is over")

    def _step(self, token: bytes | None) -> bytes:
        return _ask(partial(self._context.step, token)) or b""

    def _end(self, _challenge: bytes) -> bytes:
        """Take what comes behind the tokens."""
        raise SASLError(f"the server asks for more than {self.name} has to say")


# --- NTLM ----------------------------------------------------------------------------------------


class NTLMClient(_Client):
    """Proves that it knows the password to whoever asks; who listens can guess it at leisure.

    The server learns the name of this machine, too.
    """

    name: ClassVar[str] = "NTLM"
    protocol: ClassVar[str] = "ntlm"
    requirements: ClassVar[spnego.ContextReq] = spnego.ContextReq.none
    __slots__ = ()

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        super().__init__(require(Credentials, credentials), context)


# --- GSSAPI and GSS-SPNEGO -----------------------------------------------------------------------

_NO_SECURITY_LAYER = 1  # RFC 4752 3.3


class _LayeredClient(_Client):
    """Agrees behind the tokens on no security layer: there is TLS for that."""

    __slots__ = ("_agreed",)

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        self._agreed = False
        super().__init__(credentials, context)

    def _end(self, challenge: bytes) -> bytes:
        if self._agreed:
            return super()._end(challenge)
        offer = _ask(partial(self._context.unwrap, challenge)).data
        if len(offer) != 4:  # RFC 4752 3.1
            raise SASLError("the server's offer of security layers is not four octets long")
        # The other three are the size of what the server takes through a layer. It has to be 0 if
        # there is none to choose, but some servers say otherwise, and it makes no difference.
        if not offer[0] & _NO_SECURITY_LAYER:
            raise SASLError("the server wants a security layer of SASL's own, not just TLS")
        answer = bytes((_NO_SECURITY_LAYER, 0, 0, 0)) + self._authorization_identity.encode()
        response = _ask(partial(self._context.wrap, answer, encrypt=False)).data
        self._agreed = True
        return response


class GSSAPIClient(_LayeredClient):
    """Shows a Kerberos ticket, and has the server prove itself."""

    name: ClassVar[str] = "GSSAPI"
    protocol: ClassVar[str] = "kerberos"
    requirements: ClassVar[spnego.ContextReq] = (
        spnego.ContextReq.mutual_auth
        | spnego.ContextReq.sequence_detect
        | spnego.ContextReq.integrity  # RFC 4752 3.1
    )
    binds: ClassVar[bool] = False  # RFC 4752 5
    acts_as_others: ClassVar[bool] = True
    __slots__ = ()

    def finish(self) -> None:
        """Raise SASLError if there was no agreement, with which the server proves itself."""
        if not self._agreed:
            raise SASLError("the server reports success before it has proven itself")


class GSSSpnegoClient(_LayeredClient):
    """Has the server choose between Kerberos and NTLM; with tickets alone it is Kerberos.

    There is no standard for it. With most servers all is over after the tokens, and what they
    require makes the security layer: here, nothing. Others go on as with GSSAPI.
    """

    name: ClassVar[str] = "GSS-SPNEGO"
    protocol: ClassVar[str] = "negotiate"
    requirements: ClassVar[spnego.ContextReq] = (
        spnego.ContextReq.mutual_auth | spnego.ContextReq.no_integrity
    )
    __slots__ = ()

    def _step(self, token: bytes | None) -> bytes:
        answer = super()._step(token)
        if self._user is None and self._context.negotiated_protocol == "ntlm":
            raise SASLError("it would be NTLM, and there are Kerberos tickets only")
        return answer


GSSAPI = Mechanism(GSSAPIClient, None, Strength.PROOF)
GSS_SPNEGO = Mechanism(GSSSpnegoClient, None, Strength.WEAK, by_name_only=True)
NTLM = Mechanism(NTLMClient, None, Strength.WEAK, by_name_only=True)

MECHANISMS: tuple[Mechanism, ...] = (GSSAPI, GSS_SPNEGO, NTLM)
"""What to give a client as `own_mechanisms`."""
