"""What a flow needs of TLS.

A layer that turns octets into octets. Knows no ssl module; adapters bring the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from smtp_proto.flow.errors import TLSError, in_phase
from smtp_proto.flow.timeouts import Phase
from smtp_proto.wire import Octets


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """What can be said of an established TLS layer."""

    version: str
    """As OpenSSL names it: "TLSv1.3"."""
    cipher: str
    server_hostname: str | None
    """The name that was sent (SNI) and verified; None on the server's side."""
    verified: bool
    """Whether the peer's certificate was checked: against those trusted and, by a client, against
    the name; or against a fingerprint."""
    peer_certificate: bytes | None = field(repr=False)
    """The peer's own certificate, DER."""
    not_verified_because: str = ""
    """Why `verified` is false, for people; "" where it is true."""
    peer_certificate_chain: tuple[bytes, ...] = field(default=(), repr=False)
    """What the peer showed, its own certificate first, DER; empty where the interpreter does not
    tell."""
    channel_bindings: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    """What SASL can bind to, by type: "tls-server-end-point" (RFC 5929), "tls-unique" up to TLS 1.2
    (RFC 5929), "tls-exporter" where the interpreter gives it (RFC 9266)."""

    def __str__(self) -> str:
        verified = "verified" if self.verified else f"not verified, {self.not_verified_because}"
        name = f" for {self.server_hostname}" if self.server_hostname else ""
        return f"{self.version}, {self.cipher}, certificate {verified}{name}"


class TLSLayer(Protocol):
    """One TLS connection in memory: cipher text in and out on one side, clear text on the other.

    After each call that may have produced cipher text, take it with `data_to_send()` and write it.
    """

    def handshake(self) -> bool:
        """Go on with the handshake.

        True: done. False: send what there is, then more input is wanted. Raises TLSError.
        """
        ...

    def receive_data(self, data: Octets) -> bytes:
        """Take in cipher text.

        Returns the clear text that is readable now (during the handshake none). Raises TLSError.
        """
        ...

    def receive_eof(self) -> None:
        """The peer closed the transport.

        If it had not said so inside TLS (close_notify), raises TLSError: a cut may have been made.

        After a close_notify it returns in silence.
        """
        ...

    def encrypt(self, data: Octets) -> bytes:
        """Clear text in; returns all cipher text that waits to be sent. Raises TLSError."""
        ...

    def data_to_send(self) -> bytes:
        """Cipher text that waits to be sent; b"" if none."""
        ...

    def close(self) -> bytes:
        """Say close_notify; returns the cipher text to send. Never raises."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the peer has said close_notify: nothing more will come."""
        ...

    @property
    def info(self) -> TLSInfo:
        """What was agreed; valid once the handshake is done."""
        ...


class ClientTLSFactory(Protocol):
    """Makes the client's layer for a host name.

    Called by a flow when TLS begins, once for each layer.
    """

    def __call__(self, server_hostname: str) -> TLSLayer:
        """Make the layer."""
        ...


class ServerTLSFactory(Protocol):
    """Makes the server's layer."""

    def __call__(self) -> TLSLayer:
        """Make the layer."""
        ...


def no_tls(server_hostname: str) -> TLSLayer:
    """Stands in where the settings bring no TLS layer. Raises TLSError."""
    nothing = f"TLS with {server_hostname} was asked for, and nothing was given to make it"
    raise in_phase(Phase.TLS, TLSError(nothing))
