"""A server's application that puts each message into a Maildir.

Knows directories, names and trace fields, and what must have happened before a server may say
that it has a message. Must not know how the message came.
"""

import errno
import itertools
import os
import re
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from io import BufferedWriter
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from smtp_proto.engine.table import Protocol
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.wire.address import validate_domain
from smtp_proto.wire.parameters import NO_MAIL_PARAMETERS, MailParameters
from smtp_proto.wire.reply import Reply

_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What a file system says that has no hard links."""

_LONGEST_NAME = 200  # octets: most file systems take 255, and readers put their flags behind it

_BLOCK = 65_536  # octets of a message that are looked at together

# message = (fields / obs-fields) [CRLF body].  RFC 5322 3.5, 4.5
_BEGINS_AS_MESSAGE = re.compile(rb"[!-9;-~]++[ \t]*+:|\r\n")

_FULL = Reply.build(452, "Insufficient system storage", status="4.3.1")


class MaildirHandler(Handler):
    """Takes every message for every recipient, and keeps it in one Maildir.

    `directory` is made if it is not there. `hostname` is the server's name, as it greets clients
    with it. Lines in the files end in LF, as mail readers expect them there. Content that begins
    with no header field is all body: an empty line goes in front of it.

    The files are written in the call itself, by plain methods, so that it works in every world;
    each message takes the time that the disk needs to have it for good. Raises OSError if the
    directory cannot be used, and WireError if `hostname` is no domain.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        hostname: str,
        *,
        protocol: Protocol = Protocol.SMTP,
    ) -> None:
        self.directory = Path(directory)
        self._hostname = validate_domain(hostname, lenient=True)
        self._protocol = protocol
        self._count = itertools.count()
        for name in ("cur", "new", "tmp"):
            (self.directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_directory(self.directory)

    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> Reply:
        """Deliver the message, then accept it; 452 if there is no space left for it."""
        try:
            identifier = self.deliver(session, envelope, content)
        except OSError as error:
            if error.errno in _FULL_ERRORS:
                return _FULL
            raise
        return Reply.build(250, f"Ok, kept as {identifier}", status="2.0.0")

    def deliver(self, session: ServerSession, envelope: Envelope, content: bytes) -> str:
        """Put the message into `new` and return its identifier.

        That stands in the name of the file and in its Received field. The message outlasts a
        loss of power from now on: RFC 5321 6.1. Raises OSError, and leaves nothing behind.
        """
        while True:
            identifier = self._identifier()
            trace = self._trace(session, envelope, identifier)
            # Nothing that a client sends may go on with what we say: a blank would.
            if not _BEGINS_AS_MESSAGE.match(content):
                trace += "\r\n"
            # Another file of this name is another message.
            with suppress(FileExistsError):
                self._keep(identifier, trace.encode(), content)
                return identifier

    def _keep(self, identifier: str, trace: bytes, content: bytes) -> None:
        """Write a file into `new`. Raises FileExistsError if there is one of its name."""
        # A name must not be used twice, whatever other programs and hosts deliver here, and has
        # neither of these two characters.
        host = self._hostname.replace("/", r"\057").replace(":", r"\072")
        name = f"{int(time.time())}.{identifier}.{host}"[:_LONGEST_NAME]
        temporary = self.directory / "tmp" / name
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _write_lines(file, trace)
                _write_lines(file, content)
                file.flush()
                os.fsync(descriptor)
            _move(temporary, self.directory / "new" / name)
        finally:
            # Mail readers clear up what is left there.
            with suppress(OSError):
                temporary.unlink()
        _sync_directory(self.directory / "new")

    def _identifier(self) -> str:
        # The clock, the process and the count may be those of another container, too.
        microsecond = time.time_ns() // 1000 % 1_000_000
        chance = secrets.token_hex(8).upper()
        return f"M{microsecond:06}P{os.getpid()}Q{next(self._count)}R{chance}"

    def _trace(self, session: ServerSession, envelope: Envelope, identifier: str) -> str:
        """Return the fields that final delivery puts in front of a message. RFC 5321 4.4"""
        tls = f" ({session.tls.version}, {session.tls.cipher})" if session.tls else ""
        # One path at most: who else gets the message is nobody's business.  RFC 5321 4.4, 7.2
        recipients = envelope.forward_paths
        for_clause = f"\r\n\tfor <{recipients[0]}>" if len(recipients) == 1 else ""
        date = format_datetime(datetime.now(UTC).astimezone())
        return (
            f"Return-Path: <{envelope.reverse_path}>\r\n"
            f"Received: from {session.helo}{_tcp_info(session.peer)}\r\n"
            f"\tby {self._hostname} with {self._with(session, envelope.mail_parameters)}{tls}\r\n"
            f"\tid {identifier}{for_clause};\r\n"
            f"\t{date}\r\n"
        )

    def _with(self, session: ServerSession, parameters: MailParameters) -> str:
        """The transmission type, as far as it can be told. RFC 3848, RFC 6531 4.3"""
        security = ("S" if session.tls else "") + ("A" if session.authenticated_as else "")
        name = self._protocol.value
        if parameters.smtputf8:
            name = f"UTF8{name}"
        elif self._protocol is Protocol.SMTP and (security or parameters != NO_MAIL_PARAMETERS):
            name = "ESMTP"
        return name + security


def _tcp_info(peer: str) -> str:
    """The client's address literal as a comment; nothing if `peer` is no IP address."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return ""
    tag = "IPv6:" if isinstance(address, IPv6Address) else ""
    return f" ([{tag}{address}])"


def _write_lines(file: BufferedWriter, octets: bytes) -> None:
    """Write with LF for each CRLF, and with no other copy of it all."""
    start = 0
    while start < len(octets):
        end = start + _BLOCK
        if octets[end - 1 : end + 1] == b"\r\n":
            end += 1
        file.write(octets[start:end].replace(b"\r\n", b"\n"))
        start = end


def _move(source: Path, target: Path) -> None:
    """Give a file its last name; its old one may stay. Raises FileExistsError if that is taken."""
    try:
        os.link(source, target)  # a rename would replace what is there
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)


def _sync_directory(directory: Path) -> None:
    """Make the names in a directory last. Elsewhere than on POSIX there is no way to ask for it."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
