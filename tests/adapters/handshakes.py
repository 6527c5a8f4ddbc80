"""Two layers of TLS back to back: what the tests of TLS share.

Knows trustme and the layer. Must not know any world, nor what is tested.
"""

import contextlib
import ssl

import pytest
import trustme

from smtp_adapters.tls import MemoryTLSLayer
from smtp_proto.flow import TLSError, TLSLayer

HOST = "mx.example.org"


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def der(certificate: trustme.LeafCert, place: int = 0) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[place].bytes().decode())


def serving(certificate: trustme.LeafCert, **settings: object) -> TLSLayer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    for name, value in settings.items():
        setattr(context, name, value)
    return MemoryTLSLayer(context, server_side=True)


def shake_hands(client: TLSLayer, server: TLSLayer) -> None:
    """Carry octets to and fro until both are done; an error of either gets its alert across."""
    waiting = {"client": client, "server": server}
    for _ in range(10):
        for name, layer in tuple(waiting.items()):
            other = server if layer is client else client
            try:
                if layer.handshake():
                    del waiting[name]
            except TLSError as error:
                try:
                    other.receive_data(layer.data_to_send())
                except TLSError as answer:
                    raise error from answer
                raise
            other.receive_data(layer.data_to_send())
        if not waiting:
            client.receive_data(server.data_to_send())
            return
    raise AssertionError("the handshake does not end")


def connected(client: TLSLayer, server: TLSLayer) -> tuple[TLSLayer, TLSLayer]:
    shake_hands(client, server)
    return client, server


def refusal(client: TLSLayer, server: TLSLayer, kind: type[TLSError] = TLSError, /) -> str:
    """How the handshake fails, in one line, with nothing but this kind of error."""
    with pytest.raises(TLSError) as caught:
        shake_hands(client, server)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def first_flight(client: TLSLayer, server: TLSLayer) -> bytes:
    """What the server answers to the client's first words."""
    assert not client.handshake()
    server.receive_data(client.data_to_send())
    with contextlib.suppress(TLSError):
        server.handshake()
    return server.data_to_send()
