"""`smtp-proto serve`: a server that keeps what it is sent in a Maildir.

Knows who may log in and what to say about each message. Must not know how mail comes in.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from hmac import compare_digest
from logging import INFO, LogRecord, getLogger
from logging import Handler as LogHandler
from pathlib import Path
from secrets import token_bytes
from socket import gethostname
from ssl import SSLContext
from threading import Event

from smtp_adapters.cli.arguments import Endpoint, add_login, endpoint, login, readable
from smtp_adapters.cli.names import SERVE
from smtp_adapters.cli.text import Exit, complain, say
from smtp_adapters.maildir import MaildirHandler
from smtp_adapters.reach import in_plain_words
from smtp_adapters.socket import SMTPServer
from smtp_adapters.tls import server_context
from smtp_proto.engine.table import Protocol
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.handler import ServerSession
from smtp_proto.flow.security import Security
from smtp_proto.flow.serve_settings import FOR_CLIENTS
from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import Credentials
from smtp_proto.sasl.saslprep import saslprep
from smtp_proto.sasl.scram_secret import ScramSecret
from smtp_proto.wire.address import validate_domain
from smtp_proto.wire.errors import WireError

_PORT = 2525  # one that needs no privilege

NAMES = SERVE
HELP = "receive mail into a Maildir"
DESCRIPTION = """\
Receive mail for every recipient and keep it in one Maildir; nothing is passed on
to anybody. A line is printed for each message that is on the disk. Ctrl-C and
SIGTERM end the server: messages that are coming are still taken, for half a
minute; the second time it ends at once."""

_SCRAM = "SCRAM-SHA-256"
_MECHANISMS = ("CRAM-MD5", "PLAIN", "LOGIN")  # what any user and password can serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `serve` can be given."""
    parser.add_argument(
        "--maildir", metavar="DIR", type=Path, required=True, help="made if it is not there"
    )
    parser.add_argument(
        "--listen",
        metavar="HOST[:PORT]",
        type=endpoint,
        default=f"127.0.0.1:{_PORT}",
        help="where to listen (default: %(default)s); port 0 is any free port",
    )
    parser.add_argument("--hostname", metavar="NAME", help="what to call this server in greetings")
    parser.add_argument("--lmtp", action="store_true", help="speak LMTP (RFC 2033)")
    tls = parser.add_argument_group("TLS")
    tls.add_argument(
        "--security",
        choices=[security.value for security in Security if security not in FOR_CLIENTS],
        help="when TLS begins; without it starttls if there is --tls-cert, and else none",
    )
    tls.add_argument(
        "--tls-cert", metavar="FILE", type=readable, help="the server's certificate chain (PEM)"
    )
    tls.add_argument(
        "--tls-key", metavar="FILE", type=readable, help="its private key, if that is another file"
    )
    add_login(parser, "take mail only from who logs in under this name")


def run(given: argparse.Namespace) -> Exit:
    """Serve until a signal comes. Raises ValueError or OSError for what cannot be used."""
    security, context = _tls(given.security, given.tls_cert, given.tls_key)
    user = login(given)
    protocol = Protocol.LMTP if given.lmtp else Protocol.SMTP
    hostname: str = given.hostname or _own_name()
    listen: Endpoint = given.listen
    inbox = _Inbox(given.maildir, hostname, protocol, user)
    server = SMTPServer(
        inbox,
        listen.host,
        _PORT if listen.port is None else listen.port,
        security=security,
        tls=context,
        hostname=hostname,
        mechanisms=inbox.mechanisms,
        require_auth=user is not None,
        allow_cleartext_auth=given.allow_cleartext_auth,
        protocol=protocol,
    )
    # Both signals end one of the waits below.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        stack.enter_context(_log_on_stderr())
        try:
            stack.enter_context(server)
        except OSError as error:
            why = in_plain_words(error).strerror or error
            complain(f"cannot listen on {listen}: {why}; change --listen")
            return Exit.CONNECT
        with suppress(KeyboardInterrupt):
            say(
                f"listening on {Endpoint(*server.address)}: {protocol.value},"
                f" TLS: {security.value}, login: {'required' if user else 'none'};"
                f" mail goes to {given.maildir}"
            )
            Event().wait()
        with suppress(KeyboardInterrupt):
            say("ending")
            server.shut_down()
    return Exit.OK


def _tls(
    name: str | None, certificate: Path | None, key: Path | None
) -> tuple[Security, SSLContext | None]:
    security = Security(name or ("starttls" if certificate else "none"))
    if security is Security.NONE:
        if certificate or key:
            raise ValueError("--security none and a certificate contradict each other")
        return security, None
    if certificate is None:
        raise ValueError(f"--security {security.value} needs --tls-cert")
    return security, server_context(certificate, key)


def _own_name() -> str:
    try:
        return validate_domain(gethostname())
    except WireError:
        return "localhost"


class _Inbox(MaildirHandler):
    """The Maildir, with a word about each message, and one user who may log in."""

    def __init__(
        self, directory: Path, hostname: str, protocol: Protocol, user: tuple[str, str] | None
    ) -> None:
        super().__init__(directory, hostname, protocol=protocol)
        self._user = user
        self._scram = _scram(user)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What the user can log in by."""
        if self._user is None:
            return ()
        return _MECHANISMS if self._scram is None else (_SCRAM, *_MECHANISMS)

    def deliver(self, session: ServerSession, envelope: Envelope, content: bytes) -> str:
        identifier = super().deliver(session, envelope, content)
        recipients = ", ".join(f"<{path}>" for path in envelope.forward_paths)
        user = f", logged in as {session.authenticated_as}" if session.authenticated_as else ""
        version = session.tls.version if session.tls else "no TLS"
        say(
            f"{identifier}: {len(content)} octets from <{envelope.reverse_path}> to {recipients}"
            f" by {session.peer}, {version}{user}"
        )
        return identifier

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        """Compare in a time that tells nothing about where the difference is."""
        password = self.find_password(session, credentials.authentication_identity)
        return password is not None and compare_digest(
            password.encode(), credentials.password.encode()
        )

    def find_password(
        self,
        session: ServerSession,  # noqa: ARG002 - the same for every client
        authentication_identity: str,
    ) -> str | None:
        if self._user is None or self._user[0] != authentication_identity:
            return None
        return self._user[1]

    def find_secret(
        self,
        session: ServerSession,  # noqa: ARG002 - the same for every client
        authentication_identity: str,
        mechanism: str,  # noqa: ARG002 - there is one
    ) -> ScramSecret | None:
        if self._scram is None or self._scram[0] != authentication_identity:
            return None
        return self._scram[1]

    def on_error(self, session: ServerSession, error: Exception) -> None:
        complain(f"a command of {session.peer} failed: {type(error).__name__}: {error}")


def _scram(user: tuple[str, str] | None) -> tuple[str, ScramSecret] | None:
    """The user's prepared name and secret; None: there is no user, or none that SCRAM can have."""
    if user is None:
        return None
    name, password = user
    try:
        return saslprep(name), ScramSecret.from_password(password, token_bytes(16))
    except SASLError:
        return None


@contextmanager
def _log_on_stderr() -> Generator[None]:
    """Show what happens in each connection, each failed login, and what should not happen."""
    handler = _OneLine()
    loggers = [getLogger(name) for name in ("smtp_proto", "smtp_adapters")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(INFO)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


class _OneLine(LogHandler):
    """What is logged, as lines without tracebacks."""

    def emit(self, record: LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        try:
            complain(record.getMessage() + (f": {type(error).__name__}: {error}" if error else ""))
        except Exception:  # noqa: BLE001 - as the standard library's own handlers
            self.handleError(record)
