"""The harness for the layer of TLS that the adapters bring, made by the ssl module.

Knows a handshake without certificates, so that none has to be made. Must not know any cipher.

Options: s for the server's side; e for a layer that is established, which then hears the octets in
place of a record, or with g behind a good one, and with c in front of the end of TLS. Else they
come in place of the handshake.
"""

import ssl
from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeAlias

import fuzz.tree  # noqa: F401 - finds the adapters
from fuzz.leaks import PASSWORD, assert_hidden, with_causes
from fuzz.script import Cut, Script, the_same_however_cut
from fuzz.wire import assert_says_why
from smtp_adapters.tls.layer import MemoryTLSLayer
from smtp_proto.flow import TLSError, TLSLayer

Outcome: TypeAlias = tuple[bytes, bool, type[object]]
"""The clear text, whether the peer has ended TLS, and what was raised."""

_GOOD = b"250 Ok\r\n"


def tls(data: bytes, wrap: Callable[[TLSLayer], TLSLayer] = lambda layer: layer) -> None:
    """Tell a layer what a peer may say: it gives clear text, or raises TLSError."""
    script = Script.read(data)
    heard = b"".join(turn.octets for turn in script.turns)

    def tell(cut: Cut) -> Outcome:
        layers = _layer(server_side=True), _layer(server_side=False)
        layer, peer = layers if "s" in script.options else layers[::-1]
        octets = heard
        if "e" in script.options:
            _shake_hands(*layers)
            if "g" in script.options:
                octets = peer.encrypt(_GOOD) + octets
            if "c" in script.options:
                octets += peer.close()
        return _hear(wrap(layer), cut(octets), heard)

    the_same_however_cut(data, tell)


def _hear(layer: TLSLayer, pieces: Iterable[bytes], heard: bytes) -> Outcome:
    clear = b""
    try:
        for piece in pieces:
            clear += layer.receive_data(piece)
            if not _established(layer):
                assert not layer.handshake(), "whoever said this can shake hands"
            layer.data_to_send()
        layer.receive_eof()
    except TLSError as error:
        assert_says_why(error)
        assert_hidden(with_causes(error), heard)
        assert len(layer.close()) < 1024
        return clear, layer.closed, type(error)
    assert layer.closed
    return clear, layer.closed, object


def _established(layer: TLSLayer) -> bool:
    try:
        layer.encrypt(PASSWORD.encode())
    except TLSError:
        return False
    return True


@cache
def _context(*, server_side: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Anonymous ciphers went out with TLS 1.2.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH:ADH:@SECLEVEL=0")
    return context


def _layer(*, server_side: bool) -> MemoryTLSLayer:
    return MemoryTLSLayer(_context(server_side=server_side), server_side=server_side)


def _shake_hands(server: TLSLayer, client: TLSLayer) -> None:
    done = False
    while not done:
        client_done = client.handshake()
        server.receive_data(client.data_to_send())
        done = server.handshake() and client_done
        client.receive_data(server.data_to_send())
