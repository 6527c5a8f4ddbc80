r"""A TLS layer for stories: octets that can be read, and what was sent through it can be told.

Knows the shape of `smtp_proto.flow.TLSLayer`. Must not know any cipher.

What the peer says stays as it is, so that a seed can be read and mutated. Four octets have a
meaning, which no text has:

    \x16    ends the handshake, as its first octet; any other means that there is no TLS
    \x17    in its place: the certificate is not trusted
    \x15    close_notify
    \x14    the layer breaks
"""

from smtp_proto.flow import CertificateError, TLSError, TLSInfo
from smtp_proto.wire import Octets

HANDSHAKE = b"\x16"
_UNTRUSTED = b"\x17"
_CLOSE_NOTIFY = b"\x15"
_BROKEN = b"\x14"
_SEALED = bytes((octet + 101) % 256 for octet in range(256))  # in two layers, too


class FakeTLS:
    """One layer. `sealed`: whether what is sent is made unreadable, to tell it from clear text."""

    def __init__(self, server_hostname: str | None = None, *, sealed: bool = True) -> None:
        self._sealed = sealed
        self._incoming = bytearray()
        self._outgoing = HANDSHAKE if sealed else b""
        self._established = False
        self._closed = False
        self.info = TLSInfo(
            version="TLSv1.3",
            cipher="TRANSPARENT",
            server_hostname=server_hostname,
            verified=True,
            peer_certificate=None,
            channel_bindings={"tls-exporter": bytes(32)},
        )

    def handshake(self) -> bool:
        """Wait for the one octet."""
        first = bytes(self._incoming[:1])
        if not first:
            return False
        if first == _UNTRUSTED:
            raise CertificateError("the certificate is not trusted")
        if first != HANDSHAKE:
            raise TLSError("there is no TLS")
        del self._incoming[:1]
        self._established = True
        return True

    def receive_data(self, data: Octets) -> bytes:
        """Pass octets through, up to close_notify."""
        if self._closed:
            return b""
        self._incoming += data
        if not self._established:
            return b""
        if self._incoming.startswith(_BROKEN):
            raise TLSError("TLS broke")
        clear, broken, rest = bytes(self._incoming).partition(_BROKEN)
        clear, end, _ = clear.partition(_CLOSE_NOTIFY)
        self._incoming[:] = broken + rest
        self._closed = bool(end)
        return clear

    def receive_eof(self) -> None:
        """Raise TLSError, unless there was a close_notify."""
        if not self._closed:
            raise TLSError("the connection ended without close_notify")

    def encrypt(self, data: Octets) -> bytes:
        """Seal octets, if they are to be."""
        assert self._established, "something is to be sent before the handshake is done"
        return self.data_to_send() + self._seal(bytes(data))

    def data_to_send(self) -> bytes:
        """Return the first octet, once."""
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def close(self) -> bytes:
        """Say close_notify, where it can be told from clear text."""
        return self._seal(_CLOSE_NOTIFY) if self._established and self._sealed else b""

    @property
    def closed(self) -> bool:
        """Whether the peer has said close_notify."""
        return self._closed

    def _seal(self, data: bytes) -> bytes:
        return data.translate(_SEALED) if self._sealed else data
