"""Serve: STARTTLS, TLS from the start, and that nothing crosses the border in clear."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import cast

import pytest
import trustme

from smtp_adapters.tls import ClientTLS, MemoryTLSLayer, server_factory
from smtp_proto.engine import Protocol
from smtp_proto.flow.actions import Done, Receive, Send
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.security import Security
from smtp_proto.flow.serve import Serve, ServeSettings
from smtp_proto.flow.timeouts import Phase
from smtp_proto.flow.tls import ServerTLSFactory, TLSInfo, TLSLayer
from smtp_proto.sasl.mechanism import Credentials
from tests.flow.serving import HOSTNAME, Client, settings

EHLO = b"EHLO client.example\r\n"
STARTTLS = b"STARTTLS\r\n"
READY = b"220 2.0.0 Ready to start TLS\r\n"
TLS_FIRST = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
AUTH_PLAIN = b"AUTH PLAIN " + b64encode(b"\0ann\0secret") + b"\r\n"
TRANSACTION = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.org>\r\n"

AUTHORITY = trustme.CA()


def server_tls() -> ServerTLSFactory:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(HOSTNAME).configure_cert(context)
    return server_factory(context)


SERVER_TLS = server_tls()
CLIENT_TLS = ClientTLS(ca_data=AUTHORITY.cert_pem.bytes().decode()).factory()


def client_layer() -> TLSLayer:
    return CLIENT_TLS(HOSTNAME)


class Looking(Handler):
    """Lets ann in, and notes what the session shows."""

    def __init__(self) -> None:
        self.seen: list[tuple[str | None, str | None, str | None]] = []
        self.messages: list[bytes] = []
        self.connects = 0
        self.disconnects = 0

    def on_connect(self, session: ServerSession) -> None:
        self.connects += 1

    def on_helo(self, session: ServerSession, domain: str) -> None:
        info = session.tls
        version = info.version if isinstance(info, TLSInfo) else None
        self.seen.append((version, session.helo, session.authenticated_as))

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        return credentials == Credentials("ann", "secret")

    def on_message(self, session: ServerSession, envelope: object, content: bytes) -> None:
        self.messages.append(content)

    def on_disconnect(self, session: ServerSession) -> None:
        self.disconnects += 1


def served(security: Security, protocol: Protocol = Protocol.SMTP) -> ServeSettings:
    return settings(security=security, tls=SERVER_TLS, mechanisms=("PLAIN",), protocol=protocol)


def clear(handler: Handler | None = None, security: Security = Security.STARTTLS) -> Client:
    """A client that has said EHLO, in clear."""
    client = Client(handler, served(security))
    client.sends.clear()
    client.say(EHLO)
    return client


def encrypted(handler: Handler | None = None, security: Security = Security.STARTTLS) -> Client:
    """A client that has started TLS."""
    if security is Security.IMPLICIT:
        client = Client(handler, served(security))
        assert client.start_tls(client_layer()) == b"220 mx.example.org ESMTP\r\n"
        return client
    client = clear(handler, security)
    assert client.say(STARTTLS) == READY
    client.start_tls(client_layer())
    return client


def keywords(said: bytes) -> list[bytes]:
    return [line[4:] for line in said.splitlines()[1:]]


# --- In order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.OPPORTUNISTIC])
def test_starttls(security: Security) -> None:
    handler = Looking()
    client = Client(handler, served(security))
    offered = keywords(client.say(EHLO))
    assert b"STARTTLS" in offered
    assert b"AUTH PLAIN" not in offered
    assert client.say(STARTTLS) == READY
    assert client.phase is Phase.TLS
    client.start_tls(client_layer())
    assert client.say(TRANSACTION).startswith(b"503 ")
    offered = keywords(client.say(EHLO))
    assert b"STARTTLS" not in offered
    assert b"AUTH PLAIN" in offered
    assert client.say(AUTH_PLAIN).startswith(b"235 ")
    client.say(TRANSACTION + b"DATA\r\n")
    assert client.say(b"x\r\n.\r\n").startswith(b"250 ")
    assert client.say(b"QUIT\r\n").startswith(b"221 ")
    assert client.closed
    assert client.layer is not None
    assert client.layer.closed
    assert handler.seen == [(None, None, None), ("TLSv1.3", None, None)]
    assert handler.messages == [b"x\r\n"]
    assert (handler.connects, handler.disconnects) == (1, 1)


def test_implicit_tls() -> None:
    handler = Looking()
    client = encrypted(handler, Security.IMPLICIT)
    offered = keywords(client.say(EHLO))
    assert b"STARTTLS" not in offered
    assert b"AUTH PLAIN" in offered
    assert client.say(STARTTLS).startswith(b"503 ")
    client.say(TRANSACTION + b"DATA\r\n")
    client.say(b"x\r\n.\r\n")
    assert handler.messages == [b"x\r\n"]
    assert handler.seen == [("TLSv1.3", None, None)]


def test_lmtp_over_tls() -> None:
    client = Client(None, served(Security.STARTTLS, protocol=Protocol.LMTP))
    client.sends.clear()
    assert b"STARTTLS" in client.say(b"LHLO client.example\r\n")
    client.say(STARTTLS)
    client.start_tls(client_layer())
    assert client.say(b"LHLO client.example\r\n").startswith(b"250-")


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_cipher_text_in_any_pieces(size: int) -> None:
    handler = Looking()
    client = clear(handler)
    client.say(STARTTLS)
    layer = client_layer()

    def feed(data: bytes) -> bytes:
        return b"".join(client.send(data[at : at + size]) for at in range(0, len(data), size))

    while not layer.handshake():
        layer.receive_data(feed(layer.data_to_send()))
    finished = layer.data_to_send()
    client.layer = layer
    # The first command comes in one piece with the end of the handshake.
    said = feed(finished + layer.encrypt(EHLO))
    assert said.startswith(b"250-")
    content = b"".join(b"line %d\r\n" % number for number in range(1000))
    feed(layer.encrypt(TRANSACTION + b"DATA\r\n"))
    assert feed(layer.encrypt(content + b".\r\n")).startswith(b"250 ")
    assert handler.messages == [content]


# --- What comes first ----------------------------------------------------------------------------


def test_before_starttls_nothing_goes_that_matters() -> None:
    handler = Looking()
    client = clear(handler)
    for command in (
        TRANSACTION.splitlines(keepends=True)[0],
        b"HELO client.example\r\n",
        b"RSET\r\n",
        b"VRFY ann\r\n",
        b"EXPN ann\r\n",
        b"HELP\r\n",
        b"TURN\r\n",
        b"AUTH PLAIN\r\n",
        AUTH_PLAIN,
    ):
        assert client.say(command) == TLS_FIRST
    assert client.say(b"NOOP\r\n").startswith(b"250 ")
    assert client.say(b"QUIT\r\n").startswith(b"221 ")
    assert handler.seen == [(None, None, None)]


def test_where_tls_is_optional_mail_may_come_in_clear_and_passwords_may_not() -> None:
    client = clear(Looking(), Security.OPPORTUNISTIC)
    assert client.say(AUTH_PLAIN).startswith(b"538 5.7.11 ")
    assert client.say(TRANSACTION).startswith(b"250 ")


def test_without_tls_there_is_no_starttls() -> None:
    client = Client(None, settings(tls=SERVER_TLS))
    assert b"STARTTLS" not in client.say(EHLO)
    assert client.say(STARTTLS).startswith(b"502 ")


def test_starttls_takes_no_argument_and_comes_once() -> None:
    client = clear()
    assert client.say(b"STARTTLS now\r\n").startswith(b"501 ")
    client.say(STARTTLS)
    client.start_tls(client_layer())
    client.say(EHLO)
    assert client.say(STARTTLS).startswith(b"503 ")


# --- The border ----------------------------------------------------------------------------------


@pytest.mark.parametrize("injected", [b"N", b"NOOP\r\n", EHLO + TRANSACTION])
def test_clear_text_behind_starttls_is_never_obeyed(injected: bytes) -> None:
    """RFC 3207 6: whoever put it there wants it obeyed as if it came by TLS."""
    handler = Looking()
    client = clear(handler)
    said = client.say(STARTTLS + injected)
    assert said.startswith(b"554 5.5.1 ")
    assert said.count(b"\r\n") == 1
    assert client.phase is Phase.LAST_WORDS
    client.end()
    assert client.closed
    assert handler.disconnects == 1


def test_clear_text_where_the_handshake_is_due() -> None:
    handler = Looking()
    client = clear(handler)
    client.say(STARTTLS)
    client.send(EHLO)
    assert client.closed
    assert len(handler.seen) == 1
    assert handler.disconnects == 1


def test_a_client_that_does_not_like_the_certificate() -> None:
    client = clear()
    client.say(STARTTLS)
    layer = MemoryTLSLayer(
        ssl.create_default_context(), server_side=False, server_hostname=HOSTNAME
    )
    layer.handshake()
    layer.receive_data(client.send(layer.data_to_send()))
    with pytest.raises(Exception, match="certificate"):
        layer.handshake()
    client.send(layer.data_to_send())
    assert client.closed


def test_the_alert_of_the_server_is_sent() -> None:
    client = clear()
    client.say(STARTTLS)
    alert = client.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
    assert alert[:1] == b"\x15"
    assert client.closed


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT])
@pytest.mark.parametrize("end", ["eof", "time", "reset"])
def test_a_handshake_that_comes_to_nothing(security: Security, end: str) -> None:
    handler = Looking()
    client = Client(handler, served(security))
    if security is Security.STARTTLS:
        client.say(EHLO)
        client.say(STARTTLS)
    assert client.phase is Phase.TLS
    said = (
        client.end()
        if end == "eof"
        else client.fail(TimeoutError() if end == "time" else ConnectionResetError())
    )
    assert said == b""
    assert client.closed
    # Who never got as far as the greeting was never there for the handler.
    met = int(security is Security.STARTTLS)
    assert (handler.connects, handler.disconnects) == (met, met)


def test_a_handshake_has_one_timer() -> None:
    client = clear()
    client.say(STARTTLS)
    timer = client.timers[-1]
    layer = client_layer()
    layer.handshake()
    for octet in layer.data_to_send():
        client.send(bytes([octet]))
    assert client.timers[-1] is timer


# --- Ends ----------------------------------------------------------------------------------------


def test_the_end_of_tls_is_the_end_of_the_session() -> None:
    handler = Looking()
    client = encrypted(handler)
    client.say(EHLO)
    assert client.layer is not None
    client.send(client.layer.close())
    assert client.closed
    assert client.layer.closed  # the server has said close_notify, too
    assert handler.disconnects == 1


def test_commands_in_front_of_the_end_of_tls_are_obeyed() -> None:
    handler = Looking()
    client = encrypted(handler)
    client.say(EHLO)
    client.say(TRANSACTION + b"DATA\r\n")
    assert client.layer is not None
    said = client.send(client.layer.encrypt(b"x\r\n.\r\n") + client.layer.close())
    assert said.startswith(b"250 ")
    assert client.closed
    assert handler.messages == [b"x\r\n"]


@pytest.mark.parametrize("said", [EHLO, EHLO + TRANSACTION + b"DATA\r\nx\r\n"])
def test_a_stream_that_is_cut_inside_tls(said: bytes) -> None:
    handler = Looking()
    client = encrypted(handler)
    client.say(said)
    client.flow.receive_eof()
    assert client.flow.next_action() != Done(None, close=True)  # on_disconnect comes before it
    client.flow.answer(None)
    assert client.flow.next_action() == Done(None, close=True)
    assert (handler.messages, client.sends) == ([], [])


def test_cipher_text_that_was_touched() -> None:
    handler = Looking()
    client = encrypted(handler)
    assert client.layer is not None
    record = bytearray(client.layer.encrypt(EHLO))
    record[-1] ^= 1
    client.send(bytes(record))
    assert client.closed
    assert handler.seen == [(None, None, None)]
    assert handler.disconnects == 1


def test_time_that_is_up_inside_tls() -> None:
    client = encrypted()
    client.say(EHLO)
    assert client.fail(TimeoutError()).startswith(b"421 4.4.2 ")
    assert client.layer is not None
    assert client.layer.closed
    client.end()
    assert client.closed


def test_cipher_text_of_the_server_that_nobody_asked_for_is_sent() -> None:
    """As when keys are changed: whatever the layer has to send goes out at once."""

    class Talkative:
        def __init__(self) -> None:
            self.to_send = b""

        def handshake(self) -> bool:
            return True

        def receive_data(self, data: bytes) -> bytes:
            self.to_send = b"key update" if data else b""
            return b""

        def data_to_send(self) -> bytes:
            data, self.to_send = self.to_send, b""
            return data

        def encrypt(self, data: bytes) -> bytes:
            return data

        info = closed = False

    flow = Serve(
        Handler(),
        settings(security=Security.IMPLICIT, tls=lambda: cast("TLSLayer", Talkative())),
        "192.0.2.1",
    )
    assert isinstance(flow.next_action(), Send)
    assert isinstance(flow.next_action(), Receive)
    flow.receive_data(b"x")
    action = flow.next_action()
    assert isinstance(action, Send)
    assert action.data == b"key update"
    assert not isinstance(flow.next_action(), Done)
