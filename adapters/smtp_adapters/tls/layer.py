"""One TLS connection in memory, for either side.

Knows the ssl module's objects. Must not know where their context comes from, nor SMTP; there is no
socket here.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

from smtp_adapters.tls.certificates import shown_chain
from smtp_adapters.tls.channel_binding import channel_bindings
from smtp_adapters.tls.explain import certificate_problem, handshake_problem
from smtp_adapters.tls.names import server_name
from smtp_adapters.tls.server import ServerContext
from smtp_adapters.tls.verification import CertificateCheck, Verification, refused
from smtp_proto.flow import ServerTLSFactory, TLSError, TLSInfo
from smtp_proto.wire import Octets, shown

_RECORD = 16_384  # octets of clear text in one record at most.  RFC 8446 5.1

# What stands in a record's header, up to TLS 1.2.  RFC 5246 A.1
_VERSIONS = {b"\x03\x01": "TLSv1", b"\x03\x02": "TLSv1.1", b"\x03\x03": "TLSv1.2"}


class MemoryTLSLayer:
    """One TLS connection between two memory buffers: a `smtp_proto.flow.tls.TLSLayer`.

    The context is used as it is. A client gives `server_hostname`, a domain or an IP address: the
    name that is sent and that the certificate must have; and may give a `verification`, which is
    asked in the handshake once the server has shown its certificate, before any answer to it.
    """

    __slots__ = (
        "_closed",
        "_context",
        "_established",
        "_failure",
        "_incoming",
        "_info",
        "_not_verified_because",
        "_object",
        "_outgoing",
        "_server_hostname",
        "_server_side",
        "_started",
        "_verification",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        verification: Verification | None = None,
    ) -> None:
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
        self._verification = verification  # None: there is none, or it is done
        self._not_verified_because = (
            "the handshake is not done"
            if verification is not None
            else _what_is_missing(context, server_side=server_side)
        )
        self._info: TLSInfo | None = None
        self._started = False  # something has come from the peer
        self._established = False
        self._closed = False
        self._failure: TLSError | None = None  # what was found behind clear text that was read

    def handshake(self) -> bool:
        """Go on with the handshake; see `TLSLayer`."""
        try:
            self._object.do_handshake()
            complete = True
        except ssl.SSLWantReadError:
            complete = False
        except ssl.SSLError as error:
            if self._verification is not None:
                self._outgoing.read()  # an answer may stand before the alert: it must not leave
            raise self._explained("the TLS handshake failed", error) from error
        if self._verification is not None:
            self._verify(self._verification, complete=complete)
        self._established = complete
        return complete

    def receive_data(self, data: Octets) -> bytes:
        """Take in cipher text, return the clear text that can be read; see `TLSLayer`."""
        if self._closed:
            return b""  # what follows close_notify is ignored.  RFC 8446 6.1
        self._raise_failure()
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
        self._raise_failure()
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
        if not self._established:
            raise TLSError("TLS cannot send: the handshake is not done")
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
        if self._established:
            # The peer has not said it yet, or TLS is broken: what can be said, is.
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
        if self._info is None:
            self._info = self._described()
        return self._info

    @property
    def _peer(self) -> str:
        return "client" if self._server_side else "server"

    def _verify(self, verification: Verification, *, complete: bool) -> None:
        """Ask before the answer to a certificate leaves; it never does where this raises."""
        answer = self._outgoing.read()
        chain = shown_chain(self._object)
        # With an answer, or at the end, the server has also proved that it has the key.
        if complete or (answer and chain):
            self._not_verified_because = verification(
                CertificateCheck(
                    host=self._server_hostname or "",
                    chain=chain,
                    error="",
                    version=self._object.version() or _VERSIONS.get(answer[1:3], ""),
                    cipher=self._cipher,
                )
            )
            self._verification = None
        self._outgoing.write(answer)

    @property
    def _cipher(self) -> str:
        cipher = self._object.cipher()
        return cipher[0] if cipher else ""

    def _described(self) -> TLSInfo:
        certificate = self._object.getpeercert(binary_form=True)
        context = self._object.context
        own = context.certificate if isinstance(context, ServerContext) else None
        because = self._not_verified_because or (
            "" if certificate else f"the {self._peer} showed no certificate"
        )
        return TLSInfo(
            version=self._object.version() or "",
            cipher=self._cipher,
            server_hostname=self._server_hostname,
            verified=not because,
            peer_certificate=certificate,
            not_verified_because=because,
            peer_certificate_chain=shown_chain(self._object) if certificate else (),
            channel_bindings=channel_bindings(
                self._object, own if self._server_side else certificate
            ),
        )

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
                self._failure = self._explained("TLS broke", error)
                if not pieces:
                    raise self._failure from error
                break  # what was read is good, and may be the last reply: the failure is next
            if piece:
                pieces.append(piece)
            else:
                self._closed = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

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
            problem = certificate_problem(error, shown_chain(self._object))
            return refused(self._server_hostname, problem, self._peer)
        return TLSError(f"{what}: {handshake_problem(error)}")


def _what_is_missing(context: ssl.SSLContext, *, server_side: bool) -> str:
    """Why the peer's certificate is not verified by a context, "" if it is."""
    match context.verify_mode, context.check_hostname:
        case ssl.CERT_NONE, _:
            return (
                "clients are not asked for a certificate"
                if server_side
                else "the context that was given does not verify (CERT_NONE)"
            )
        case _, False if not server_side:
            return "the context that was given does not verify the name (check_hostname)"
        case _:
            return ""


def server_factory(context: ssl.SSLContext) -> ServerTLSFactory:
    """Make what Serve takes: one layer of TLS for each call, by a server's context."""

    def layer() -> MemoryTLSLayer:
        return MemoryTLSLayer(context, server_side=True)

    return layer
