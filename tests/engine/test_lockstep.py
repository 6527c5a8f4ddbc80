"""Client and server joined back to back agree on everything whenever nothing is in flight.

The client says whatever is legal, in any order, pipelined or not; the server answers however it
may; the octets between them come in any pieces, at any time.
"""

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.engine import (
    NEED_DATA,
    PAUSED,
    AuthResponseReceived,
    ClientConnection,
    CommandReceived,
    CommandRefused,
    ConnectionEnded,
    ContentEnded,
    ContentReceived,
    EndOfContent,
    Greeting,
    LocalProtocolError,
    Protocol,
    RemoteProtocolError,
    ReplyReceived,
    Request,
    ServerConnection,
    ServerEvent,
    State,
    Unsolicited,
)
from smtp_proto.wire import (
    Auth,
    AuthResponse,
    Bdat,
    Body,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Mailbox,
    MailParameters,
    Noop,
    OtherCommand,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    Vrfy,
)
from tests.engine.sessions import KEYWORDS, OK, mail, rcpt

CODES = (220, 235, 250, 250, 250, 250, 334, 354, 354, 451, 550)
CONTENT = (b"", b".", b"..\r\n", b"a\r\n.b\r\n", b"\r\n.\r\n", b"x" * 100, b"QUIT\r\n")


# What may come into the client's mind: more often what mail is made of.
MAILING: tuple[Command | AuthResponse, ...] = (
    *(Ehlo("c.example"), Lhlo("c.example")),
    *(mail(), mail(parameters=MailParameters(body=Body.BINARY_MIME))),
    *(rcpt(), rcpt(), rcpt(), Data(), Data(), Rset()),
    *(Bdat(0), Bdat(0, last=True), Bdat(0, last=True)),
)
OTHERS: tuple[Command | AuthResponse, ...] = (
    *(Helo("c.example"), Vrfy("a"), Expn("a"), Help(), Noop(), OtherCommand("XTRA")),
    *(StartTls(), Auth("PLAIN", b"secret"), Auth("LOGIN"), Quit()),
    *(AuthResponse(b"secret"), AuthResponse(b""), AuthResponse(None)),
)
REPERTORY = (*MAILING * 4, *OTHERS)


class Link:
    """Both engines, and what is on its way between them."""

    def __init__(self, random: Random, protocol: Protocol, *, pipelining: bool) -> None:
        self.random = random
        self.pipelining = pipelining
        self.client = ClientConnection(protocol=protocol, pipelining=pipelining)
        self.server = ServerConnection(protocol=protocol)
        self.to_server = bytearray()
        self.to_client = bytearray()
        # What the server takes for the request of each reply, and that reply.
        self.said: deque[tuple[Request | None, Reply]] = deque()
        self.asked: ServerEvent | Greeting | None = Greeting.GREETING
        self.due = True  # the server's turn
        self.commands = 0
        self.refused = False  # since nothing was in flight the last time
        # Each message has a number, in its sender, its recipients and its content.
        self.number = 0
        self.sent: dict[int, bytes] = {}
        self.envelope: list[Mailbox] = []
        self.received = b""
        self.delivered = 0
        self.deepest = 0

    # --- The client --------------------------------------------------------------------------

    def ask(self) -> None:
        """Have the client say something, if it can."""
        client = self.client
        command = self.random.choice(REPERTORY)
        if client.can_send(command):
            self.commands += 1
            self.deepest = max(self.deepest, client.outstanding)
            match command:
                case Bdat():
                    self.send_chunk(command)
                case Mail():
                    self.number += 1
                    self.sent[self.number] = b""
                    sender = f"{self.number}@example.org"
                    self.to_server += client.send(mail(sender, command.parameters))
                case Rcpt():
                    self.to_server += client.send(rcpt(f"{self.number}@example.org"))
                case _:
                    self.to_server += client.send(command)
        elif client.state is State.DATA and not client.outstanding:
            self.send_content()

    def send_chunk(self, chunk: Bdat) -> None:
        octets = self.random.choice(CONTENT)
        self.to_server += self.client.send_chunk(octets, chunk.last)
        self.sent[self.number] += octets

    def send_content(self) -> None:
        """Send some content, or its end."""
        octets = self.random.choice(CONTENT)
        try:
            self.to_server += self.client.send_content(octets)
        except LocalProtocolError:
            # No recipient was accepted.
            self.to_server += self.client.end_content()
        else:
            self.sent[self.number] += octets
            if self.random.random() < 0.5:
                self.to_server += self.client.end_content()
                if not self.sent[self.number].endswith(b"\r\n") and self.sent[self.number]:
                    self.sent[self.number] += b"\r\n"

    def hear(self) -> None:
        """Have the client read some of what is on its way."""
        self.client.receive_data(self.some_of(self.to_client))
        while (event := self.client.next_event()) is not NEED_DATA:
            assert isinstance(event, ReplyReceived)
            request, reply = self.said.popleft()
            assert event.reply == reply
            match event.command:
                case Bdat() | EndOfContent():
                    assert request is None or isinstance(request, EndOfContent)
                case Unsolicited():
                    assert reply.code == 421
                case heard if reply.code != 421:
                    assert request is None or heard == request

    # --- The server --------------------------------------------------------------------------

    def listen(self) -> None:
        """Have the server read some of what is on its way."""
        self.server.receive_data(self.some_of(self.to_server))
        self.poll_server()

    def poll_server(self) -> None:
        while (event := self.server.next_event()) is not NEED_DATA and event is not PAUSED:
            assert not isinstance(event, ConnectionEnded)
            if isinstance(event, ContentReceived):
                self.received += event.data
            else:
                self.asked = event
            if isinstance(event, CommandRefused) and event.reply.code == 503:
                # Only what was sent before something else was refused can be out of order.
                assert self.refused
        self.due = event is PAUSED and self.server.state is not State.TLS

    def answer(self) -> None:
        """Have the server answer, or close."""
        silent = self.server.state in {State.TLS, State.CLOSED}
        closing = self.random.random() < 0.001 and not silent
        if not self.due and not closing:
            return
        reply = Reply(421, ("Closing",)) if closing else self.some_reply()
        before = self.server.state
        try:
            self.reply(reply)
        except LocalProtocolError:
            assert self.server.state is before
        else:
            self.poll_server()

    def some_reply(self) -> Reply:
        match self.asked:
            case CommandRefused(reply) | ContentEnded(Reply() as reply):
                return reply
            case CommandReceived(Rset()) if self.pipelining:
                # Nobody can help a client whose server does not do what it must.
                return OK
            case CommandReceived(Ehlo() | Lhlo()):
                offered = [word for word in KEYWORDS if self.random.random() < 0.9]
                return Reply(self.random.choice(CODES), ("mx.example", *offered))
            case _:
                return Reply(self.random.choice(CODES), ("2.0.0 Text",))

    def reply(self, reply: Reply) -> None:
        recipients = self.server.recipients_accepted
        octets = self.server.send_reply(reply)
        self.to_client += octets
        self.said.append((self.request() if self.due else None, reply))
        self.refused |= reply.code >= 400
        match self.asked:
            case CommandReceived(Mail() as begun) if reply.positive:
                assert isinstance(begun.reverse_path, Mailbox)
                self.envelope = [begun.reverse_path]
                self.received = b""
            case CommandReceived(Rcpt() as added) if reply.positive:
                assert isinstance(added.forward_path, Mailbox)
                self.envelope.append(added.forward_path)
                assert self.server.recipients_accepted == recipients + 1
            case ContentEnded(last=True) if reply.positive:
                self.check_message(recipients)
            case _:
                pass

    def request(self) -> Request | None:
        """What the server takes the reply for the answer to, if it can tell."""
        match self.asked:
            case CommandReceived(command):
                return command
            case AuthResponseReceived(data):
                return AuthResponse(data)
            case ContentEnded():
                return EndOfContent()
            case Greeting():
                return Greeting.GREETING
            case _:
                return None

    def check_message(self, recipients: int) -> None:
        """What is accepted has the sender, the recipients and the content of one message."""
        [number] = {int(mailbox.local_part) for mailbox in self.envelope}
        assert len(self.envelope) == 1 + recipients
        assert self.received == self.sent[number]
        self.delivered += 1

    # --- Both --------------------------------------------------------------------------------

    def some_of(self, pipe: bytearray) -> bytes:
        size = self.random.choice([1, 2, 10, len(pipe)])
        octets = bytes(pipe[:size])
        del pipe[:size]
        return octets

    def check(self) -> None:
        """If nothing is in flight, both must be of one mind."""
        client, server = self.client, self.server
        if self.to_server or self.to_client or client.outstanding:
            return
        assert not self.said
        assert client.state is client.projected is server.state
        assert client.authenticated is server.authenticated
        assert client.capabilities == server.capabilities
        self.refused = False
        if client.state is State.TLS:
            client.tls_started()
            server.tls_started()
        assert client.secure is server.secure

    def run(self, steps: int) -> None:
        """Do so many things, or go on until the session is over."""
        acts = [self.ask, self.ask, self.listen, self.listen, self.answer, self.answer, self.hear]
        for _ in range(steps):
            try:
                self.random.choice(acts)()
            except RemoteProtocolError as error:
                # This a server may do; but no client can go on behind it.
                if "challenges" not in str(error):
                    raise
            if self.client.finished:
                break
            self.check()


@given(
    st.randoms(use_true_random=False), st.sampled_from(Protocol), st.booleans(), st.integers(0, 300)
)
def test_client_and_server_agree(
    random: Random, protocol: Protocol, pipelining: bool, steps: int
) -> None:
    Link(random, protocol, pipelining=pipelining).run(steps)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("pipelining", [False, True])
def test_client_and_server_agree_for_a_long_time(protocol: Protocol, pipelining: bool) -> None:
    random = Random(f"{protocol}{pipelining}")
    commands = delivered = deepest = 0
    while commands < 30_000:
        link = Link(random, protocol, pipelining=pipelining)
        link.run(10_000)
        commands += link.commands
        delivered += link.delivered
        deepest = max(deepest, link.deepest)
    # It was about mail, and about pipelining.
    assert delivered > 300
    assert (deepest > 10) is pipelining
