"""What the clients of all worlds share: settings, the session they have, and where content is.

Knows which values make a session's settings, and that one task at a time uses a client.
Must not know any world: nothing here waits, reads or writes.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from enum import Enum
from functools import partial
from io import SEEK_END, IOBase, TextIOBase
from secrets import token_bytes
from socket import gaierror
from threading import Lock
from types import TracebackType
from typing import Protocol as Interface
from typing import TypeAlias, cast, runtime_checkable

from smtp_adapters.tls import ClientTLS, server_name
from smtp_proto.engine import LocalProtocolError, Protocol
from smtp_proto.flow import OpenSettings, Security, Session, Timeouts, TLSInfo
from smtp_proto.flow.tls import no_tls
from smtp_proto.sasl import AnyCredentials, Credentials, Policy
from smtp_proto.wire import Capabilities, Limits, Octets, Reply, validate_domain

_PIECE = 65_536  # octets read from a file at a time


class Client:
    """The part of each SMTPClient that needs no I/O.

    `host`: a name or an IP address. `port`: by default the one that goes with `security`, which
    says when TLS is required: by default IMPLICIT on port 465, STARTTLS on any other. `tls`: whom
    to trust, or an ssl context of your own. `auth`: a user name and a password, or the credentials
    of another kind of login. `timeouts`: seconds for everything, or for each phase.
    `local_hostname`: what EHLO says, by default the address literal of the connection's own end.
    `limits`: the most that is taken from the server. `protocol`: SMTP or LMTP. `pipelining`,
    `chunking`: False to do without, for servers that offer what they cannot do. `mechanisms`: the
    only ones of AUTH that may be used. `allow_cleartext_auth`: whether the password may go over a
    clear connection.

    Raises ValueError or TypeError for what makes no sense, and OSError for a file that cannot be
    read.
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        *,
        security: Security | None = None,
        tls: ClientTLS | ssl.SSLContext | None = None,
        auth: tuple[str, str] | AnyCredentials | None = None,
        timeouts: Timeouts | float | None = None,
        local_hostname: str | None = None,
        limits: Limits | None = None,
        protocol: Protocol = Protocol.SMTP,
        pipelining: bool = True,
        chunking: bool = True,
        allow_cleartext_auth: bool = False,
        mechanisms: Sequence[str] | None = None,
    ) -> None:
        security = _default_security(port) if security is None else security
        check_security(security)
        tls = _tls_settings(security, tls)
        self._settings = OpenSettings(
            host=_host(host),
            port=_port(security.default_port if port is None else port),
            security=security,
            tls=no_tls if tls is None else tls.factory(),
            server_hostname=None if tls is None else tls.server_hostname,
            credentials=_credentials(auth),
            policy=Policy(_names(mechanisms), allow_cleartext=allow_cleartext_auth),
            nonce=nonce,
            local_hostname=None if local_hostname is None else validate_domain(local_hostname),
            protocol=protocol,
            timeouts=as_timeouts(timeouts),
            limits=limits or Limits(),
            pipelining=pipelining,
            chunking=chunking,
        )
        self._turn = Turn()
        self._last_session: Session | None = None
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection. The server may have ended it: the next call tells."""
        return self._is_open

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers. Also after the end; before `open()` a LocalProtocolError."""
        return self._seen_session().capabilities

    @property
    def tls(self) -> TLSInfo | None:
        """What TLS is in force, None on a clear connection; see `capabilities` for when."""
        return self._seen_session().tls

    @property
    def greeting(self) -> Reply:
        """What the server said first; see `capabilities` for when."""
        # A session that was opened has been greeted.
        return cast("Reply", self._seen_session().greeting)

    def _begin(self, session: Session) -> None:
        self._last_session = session
        self._is_open = True

    def _require_closed(self) -> None:
        if self._is_open:
            raise LocalProtocolError("this client is open already: close() it first")

    def _session(self) -> Session:
        """The session to use now. Raises LocalProtocolError if there is none."""
        session = self._seen_session()
        if not self._is_open:
            raise LocalProtocolError(
                "the connection has been closed, or an earlier call has failed: open() it again"
            )
        return session

    def _seen_session(self) -> Session:
        if self._last_session is None:
            raise LocalProtocolError("this client is not open: open() it, or use it in a `with`")
        return self._last_session


class Turn:
    """One call at a time, from whichever thread or task: the replies of two would be mixed up."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise LocalProtocolError(
                "another thread or task is using this client: give each one its own"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


# --- settings --------------------------------------------------------------------------------


def as_timeouts(timeouts: Timeouts | float | None) -> Timeouts:
    """The timeouts that are meant: the defaults, the same for all, or those given."""
    if isinstance(timeouts, Timeouts):
        return timeouts
    return Timeouts() if timeouts is None else Timeouts.of(timeouts)


def check_security(security: object) -> None:
    """Look at what a caller gave. Raises TypeError: its mere name must not mean no TLS."""
    if not isinstance(security, Security):
        members = ", ".join(f"Security.{member.name}" for member in Security)
        raise TypeError(f"security is one of {members}, not a {type(security).__name__}")


def _default_security(port: int | None) -> Security:
    implicit = port == Security.IMPLICIT.default_port
    return Security.IMPLICIT if implicit else Security.STARTTLS


def _credentials(auth: object) -> AnyCredentials | None:
    if auth is None or isinstance(auth, AnyCredentials):
        return auth
    match auth:
        case (str(user), str(password)):
            return Credentials(user, password)
        case _:  # nothing of it is shown: there may be a password in it
            raise TypeError("auth is a user name and a password, or credentials of smtp_proto.sasl")


def _tls_settings(security: Security, tls: ClientTLS | ssl.SSLContext | None) -> ClientTLS | None:
    if security is Security.NONE:
        if tls is not None:
            raise ValueError("security NONE and settings for TLS contradict each other")
        return None
    match tls:
        case None:
            return ClientTLS()
        case ClientTLS():
            return tls
        case ssl.SSLContext():
            return ClientTLS(context=tls)
        case _:
            raise TypeError(f"tls is a ClientTLS or an SSLContext, not a {type(tls).__name__}")


def _host(host: str) -> str:
    """The host as a resolver takes it: an address without brackets, a name in A-labels."""
    name = server_name(host)
    return host.removeprefix("[").removesuffix("]") if host.isascii() else name


def check_port(port: object, lowest: int) -> None:
    """Look at what a caller gave. Raises TypeError or ValueError."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"a port is an int, not a {type(port).__name__}")
    if not lowest <= port <= 65_535:
        raise ValueError(f"port {port}: a port is a number from {lowest} to 65535")


def _port(port: int) -> int:
    check_port(port, 1)
    return port


def mechanism_names(mechanisms: Sequence[str]) -> tuple[str, ...]:
    """The names as they are registered. Raises TypeError for one that stands for a list."""
    if isinstance(mechanisms, str):
        raise TypeError("mechanisms is a sequence of names, not one str: put it into a list")
    return tuple(name.upper() for name in mechanisms)


def _names(mechanisms: Sequence[str] | None) -> frozenset[str] | None:
    return None if mechanisms is None else frozenset(mechanism_names(mechanisms))


def nonce() -> bytes:
    """Fresh randomness for a login, beyond guessing."""
    return token_bytes(24)


# --- errors ----------------------------------------------------------------------------------


def connect_error(errors: Sequence[OSError]) -> OSError:
    """What to raise where none of a host's addresses could be reached: `errors`, one for each."""
    plain = [
        # Some worlds put the address into the words, which the host's name says better.
        OSError(error.errno, os.strerror(error.errno))
        if error.errno is not None and not isinstance(error, gaierror)
        else error
        for error in errors
    ]
    if len({error.errno for error in plain}) == 1:
        return plain[0]
    return OSError("; ".join(error.strerror or str(error) for error in plain))


# --- content ---------------------------------------------------------------------------------


@runtime_checkable
class BinaryFile(Interface):
    """What can be read from, open for octets."""

    def read(self, size: int, /) -> bytes:
        """Return `size` octets at most; b"" at the end."""
        ...


Content: TypeAlias = Octets | BinaryFile | Iterable[Octets]
AsyncContent: TypeAlias = Content | AsyncIterable[Octets]
Pieces: TypeAlias = Iterator[Octets] | AsyncIterator[Octets]

NO_PIECES: Iterator[Octets] = iter(())


class End(Enum):
    """What comes behind the last piece. None may also be what a faulty iterator gives."""

    END = "end"


END = End.END


def source(content: Content) -> tuple[Octets | None, int | None, Iterator[Octets]]:
    """The content if it is all there; else its size, if that can be told, and its pieces.

    Raises TypeError for text, and for what is no content at all.
    """
    if isinstance(content, str | TextIOBase):
        raise TypeError("content is octets, not text: encode() it, or open the file as binary")
    if isinstance(content, memoryview):
        return content.cast("B"), None, NO_PIECES  # its octets, whatever its items are
    if isinstance(content, bytes | bytearray):
        return content, None, NO_PIECES
    if isinstance(content, BinaryFile):
        return None, _size(content), iter(partial(content.read, _PIECE), b"")
    return None, None, iter(content)


def async_source(content: AsyncContent) -> tuple[Octets | None, int | None, Pieces]:
    """What `source()` says, where pieces may have to be awaited."""
    if isinstance(content, AsyncIterable):
        return None, None, aiter(content)
    return source(content)


def _size(file: BinaryFile) -> int | None:
    """The octets that are left in the file; None: it cannot tell."""
    if not isinstance(file, IOBase) or not file.seekable():
        return None
    position = file.tell()
    end = file.seek(0, SEEK_END)
    file.seek(position)
    return end - position


def check(piece: object) -> None:
    """Look at what a caller's file or iterator gave. Raises TypeError if it is not octets."""
    if not isinstance(piece, Octets | End):
        raise TypeError(f"content comes in octets, not as {type(piece).__name__}")
