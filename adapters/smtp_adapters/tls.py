"""TLS in memory: the layer that the flows put over a byte stream, and the settings to make it.

Knows the ssl module, what its errors mean to people, and how a server's name is written for it.
Must not know SMTP, nor how octets travel: there is no socket here.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from os import PathLike

from smtp_proto.flow import ClientTLSFactory, ServerTLSFactory, TLSError, TLSInfo
from smtp_proto.wire import Mailbox, Octets, shown, validate_domain

_RECORD = 16_384  # octets of clear text in one record at most.  RFC 8446 5.1

# What OpenSSL's verification codes mean to who has to do something about them.
_CERTIFICATE_ERRORS = {
    9: "it is not valid yet: compare the clocks of both machines",
    10: "it has expired: the server needs a new one, unless the clock here is wrong",
    18: "it is self-signed: if this is the right server, give its certificate as ca_file",
    19: "its chain ends in a root that is not trusted here: if it is the right one, give it as "
    "ca_file",
    20: "its issuer is not known here: give the CA's certificate as ca_file, or let the server "
    "send its intermediate certificates",
    21: "its issuer is not known here: give the CA's certificate as ca_file, or let the server "
    "send its intermediate certificates",
    62: "it is for another name: connect to a name that it has, or set server_hostname to one",
    64: "it does not have this address: connect by a name that it has, or set server_hostname",
}

# The same for the reasons of other failures: the first that is found in OpenSSL's word counts.
_REASONS = (
    (
        ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW"),
        "there is no version of TLS that both sides allow: compare their limits",
    ),
    (
        ("CERTIFICATE_REQUIRED", "DID_NOT_RETURN_A_CERTIFICATE"),
        "the client has to show a certificate: load one into its context",
    ),
    (
        ("ALERT_HANDSHAKE_FAILURE", "NO_SHARED_CIPHER", "INSUFFICIENT_SECURITY"),
        "there is no cipher that both sides allow, or the client has to show a certificate",
    ),
    (("UNRECOGNIZED_NAME",), "the server has no certificate for the name that was asked for"),
    (
        ("ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE", "ALERT_UNSUPPORTED_CER"),
        "the peer does not accept the certificate of this side",
    ),
)


def server_name(host: str) -> str:
    """A host's name as TLS sends and verifies it: in A-labels, without a trailing dot.

    An IP address may stand in brackets and have a zone; both are taken off. Raises WireError for
    what is neither an address nor a domain.
    """
    bare = host.removeprefix("[").removesuffix("]").removeprefix("IPv6:").partition("%")[0]
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    host = host.removesuffix(".")
    if host.isascii():
        return validate_domain(host, lenient=True)
    # Each host has this mailbox (RFC 5321 4.5.1), and mailboxes know how to write their domain.
    return Mailbox("postmaster", host).to_ascii().domain


class MemoryTLSLayer:
    """One TLS connection between two memory buffers: a `smtp_proto.flow.tls.TLSLayer`.

    The context is used as it is. A client gives `server_hostname`, a domain or an IP address:
    the name that is sent and that the certificate must have.
    """

    __slots__ = (
        "_closed",
        "_context",
        "_established",
        "_incoming",
        "_object",
        "_outgoing",
        "_server_hostname",
        "_server_side",
        "_started",
    )

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        self._context = context
        self._server_side = server_side
        self._server_hostname = None if server_hostname is None else server_name(server_hostname)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=self._server_hostname,
        )
        self._started = False  # something has come from the peer
        self._established = False
        self._closed = False

    def handshake(self) -> bool:
        """Go on with the handshake; see `TLSLayer`."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise self._explained("the TLS handshake failed", error) from error
        self._established = True
        return True

    def receive_data(self, data: Octets) -> bytes:
        """Take in cipher text, return the clear text that can be read; see `TLSLayer`."""
        if self._closed:
            return b""  # what follows close_notify is ignored.  RFC 8446 6.1
        if data:
            if not self._started:
                self._started = True
                self._refuse_clear_text(data)
            self._incoming.write(data)
        return self._read() if self._established else b""

    def receive_eof(self) -> None:
        """The transport has ended; see `TLSLayer`."""
        if self._closed:
            return
        if not self._established:
            raise TLSError(
                f"the {self._peer} closed the connection in the TLS handshake: does it speak TLS "
                "on this port?"
            )
        raise TLSError(
            f"the {self._peer} closed the connection without ending TLS (no close_notify): "
            "what it said may have been cut off"
        )

    def encrypt(self, data: Octets) -> bytes:
        """Turn clear text into cipher text; see `TLSLayer`."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._object.write(rest) :]
        except ssl.SSLError as error:
            raise self._explained("TLS cannot send", error) from error
        return self._outgoing.read()

    def data_to_send(self) -> bytes:
        """Cipher text that waits; see `TLSLayer`."""
        return self._outgoing.read()

    def close(self) -> bytes:
        """Say close_notify; see `TLSLayer`."""
        # The peer has not said it yet, or there is no TLS to end: what can be said, is.
        with suppress(ssl.SSLError, ValueError):
            self._object.unwrap()
        return self._outgoing.read()

    @property
    def closed(self) -> bool:
        """Whether the peer has said close_notify."""
        return self._closed

    @property
    def info(self) -> TLSInfo:
        """What was agreed; valid once the handshake is done."""
        cipher = self._object.cipher()
        return TLSInfo(
            version=self._object.version() or "",
            cipher=cipher[0] if cipher else "",
            server_hostname=self._server_hostname,
            verified=self._context.verify_mode is ssl.CERT_REQUIRED
            and (self._server_side or self._context.check_hostname),
            peer_certificate=self._object.getpeercert(binary_form=True),
        )

    @property
    def _peer(self) -> str:
        return "client" if self._server_side else "server"

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        while self._incoming.pending and not self._closed:
            try:
                piece = self._object.read(_RECORD)
            except ssl.SSLWantReadError:
                break  # the rest of a record is still to come
            except ssl.SSLZeroReturnError:
                piece = b""
            except ssl.SSLError as error:
                raise self._explained("TLS broke", error) from error
            if piece:
                pieces.append(piece)
            else:
                self._closed = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _refuse_clear_text(self, data: Octets) -> None:
        # A record begins with a type from 20 to 24 (RFC 8446 5.1), a text with a visible character.
        if not 0x20 <= data[0] < 0x7F:
            return
        if self._server_side:
            # Nothing of it is shown: who speaks too soon may have said a password.
            raise TLSError("the client speaks clear text where TLS has to begin")
        line = bytes(data[:256]).splitlines()[0]
        raise TLSError(
            f"the server speaks clear text where TLS has to begin ({shown(line)}): "
            "if this port begins in clear text, use Security.STARTTLS"
        )

    def _explained(self, what: str, error: ssl.SSLError) -> TLSError:
        if isinstance(error, ssl.SSLCertVerificationError):
            why = _CERTIFICATE_ERRORS.get(error.verify_code, shown(error.verify_message))
            name = f" for {self._server_hostname}" if self._server_hostname else ""
            return TLSError(f"the {self._peer}'s certificate is refused{name}: {why}")
        reason = error.reason or ""
        for words, why in _REASONS:
            if any(word in reason for word in words):
                return TLSError(f"{what}: {why} ({reason})")
        return TLSError(f"{what}: {shown(reason or str(error))}")


@dataclass(frozen=True, slots=True)
class ClientTLS:
    """How a client makes its TLS connections. By default as the system's own trust store says.

    `ca_file`, `ca_data`: trust these certificates (PEM; `ca_data` also DER as bytes) instead of the
    system's. `server_hostname`: send and verify this name instead of the host's.
    `minimum_version`: refuse older ones. `context`: a context of your own for all that; it is used
    as it is and never changed, so the other settings but `server_hostname` do not go with it.
    """

    context: ssl.SSLContext | None = None
    ca_file: str | PathLike[str] | None = None
    ca_data: str | bytes | None = field(default=None, repr=False)
    server_hostname: str | None = None
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2

    def __post_init__(self) -> None:
        if self.context is not None and (self.ca_file is not None or self.ca_data is not None):
            raise ValueError("a context of your own is never changed: load the CA into it yourself")
        if self.server_hostname is not None:
            server_name(self.server_hostname)

    def factory(self) -> ClientTLSFactory:
        """Make what OpenSession takes: one layer of TLS for each call.

        Files are read here. Raises OSError for a file that cannot be read, and ValueError for
        certificates that are none and for a version that the ssl module does not have.
        """
        context = self.context or self._verified_context()

        def layer(server_hostname: str) -> MemoryTLSLayer:
            return MemoryTLSLayer(context, server_side=False, server_hostname=server_hostname)

        return layer

    def _verified_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file, cadata=self.ca_data)
        except ssl.SSLError as error:
            given = "ca_data" if self.ca_file is None else f"ca_file {self.ca_file}"
            raise ValueError(f"{given}: no certificates that can be read: {error}") from error
        context.minimum_version = self.minimum_version
        return context


def server_context(
    certificate_file: str | PathLike[str], key_file: str | PathLike[str] | None = None
) -> ssl.SSLContext:
    """A context for a server: TLS 1.2 or newer, with this certificate chain (PEM).

    `key_file`: its private key, where it is not in the same file. Raises OSError for a file that
    cannot be read, and ValueError where they are not a certificate and its key.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate_file, key_file)
    except ssl.SSLError as error:
        raise ValueError(
            f"{certificate_file}: no certificate chain with its private key: {error}"
        ) from error
    return context


def server_factory(context: ssl.SSLContext) -> ServerTLSFactory:
    """Make what Serve takes: one layer of TLS for each call, by a server's context."""

    def layer() -> MemoryTLSLayer:
        return MemoryTLSLayer(context, server_side=True)

    return layer
