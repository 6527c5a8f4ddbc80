"""Engines brought to a certain point, and what the tests of this directory do with them."""

import copyreg
import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from types import MappingProxyType

from smtp_proto.engine import (
    NEED_DATA,
    PAUSED,
    ClientConnection,
    ClientEvent,
    CommandReceived,
    ConnectionEnded,
    Protocol,
    RemoteProtocolError,
    ReplyReceived,
    Request,
    ServerConnection,
    ServerEvent,
    Signal,
    State,
)
from smtp_proto.wire import (
    NO_MAIL_PARAMETERS,
    Auth,
    AuthResponse,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Limits,
    LineEndings,
    Mail,
    MailParameters,
    Noop,
    OtherCommand,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    Vrfy,
    parse_forward_path,
    parse_reverse_path,
)

KEYWORDS = (
    "PIPELINING",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "BINARYMIME",
    "DSN",
    "SIZE 1000",
    "STARTTLS",
    "AUTH PLAIN LOGIN",
)
GREETING = Reply(220, ("mx.example ESMTP",))
OK = Reply.build(250, "Ok", status="2.0.0")
REFUSED = Reply.build(550, "No", status="5.0.0")
GO_AHEAD = Reply(354, ("Go ahead",))
CHALLENGE = Reply(334, ("cGxlYXNl",))


def ehlo_reply(*keywords: str) -> Reply:
    return Reply(250, ("mx.example", *keywords))


def mail(sender: str = "sender@example.org", parameters: MailParameters | None = None) -> Mail:
    return Mail(parse_reverse_path(sender), parameters or NO_MAIL_PARAMETERS)


def rcpt(recipient: str = "recipient@example.org") -> Rcpt:
    return Rcpt(parse_forward_path(recipient))


COMMANDS: tuple[Command | AuthResponse, ...] = (
    Helo("client.example"),
    Ehlo("client.example"),
    Lhlo("client.example"),
    mail(),
    rcpt(),
    Data(),
    Rset(),
    Vrfy("someone"),
    Expn("list"),
    Help(),
    Noop(),
    Quit(),
    StartTls(),
    Auth("PLAIN", b"\0user\0secret"),
    AuthResponse(b"secret"),
    OtherCommand("XTRA"),
)
"""One of each, but BDAT."""


def state_of(connection: ClientConnection | ServerConnection) -> State:
    """Return the state: a type checker does not remember what a function has returned."""
    return connection.state


def states(client: ClientConnection) -> tuple[State, State]:
    """Return the state that is confirmed and the one that is projected."""
    return client.state, client.projected


def answers(client: ClientConnection, *replies: Reply) -> list[ClientEvent]:
    """Feed replies; return all events."""
    client.receive_data(b"".join(reply.encode() for reply in replies))
    return poll(client)


def poll(client: ClientConnection) -> list[ClientEvent]:
    """Return all events that there are."""
    return list(iterate(client))


def iterate(client: ClientConnection) -> Iterator[ClientEvent]:
    while (event := client.next_event()) is not NEED_DATA:
        yield event
        if isinstance(event, ConnectionEnded):
            break


def ask(client: ClientConnection, command: Command | AuthResponse, reply: Reply) -> Request:
    """Send one command and have it answered; return what the reply was said to answer."""
    client.send(command)
    [event] = answers(client, reply)
    assert isinstance(event, ReplyReceived)
    assert event.reply == reply
    return event.command


def client_in(
    state: State,
    *,
    protocol: Protocol = Protocol.SMTP,
    keywords: Iterable[str] = KEYWORDS,
    pipelining: bool = True,
    secure: bool = False,
    limits: Limits | None = None,
    line_endings: LineEndings = LineEndings.NORMALISE,
) -> ClientConnection:
    """Return a client that has come to `state`, with nothing outstanding but the greeting."""
    client = ClientConnection(
        protocol=protocol,
        limits=limits or Limits(),
        pipelining=pipelining,
        secure=secure,
        line_endings=line_endings,
    )
    if state is State.GREETING:
        return client
    answers(client, GREETING)
    if state is State.HELO:
        return client
    hello = Lhlo("c.example") if protocol is Protocol.LMTP else Ehlo("c.example")
    ask(client, hello, ehlo_reply(*keywords))
    match state:
        case State.READY:
            pass
        case State.AUTH:
            ask(client, Auth("PLAIN"), CHALLENGE)
        case State.TLS:
            ask(client, StartTls(), GREETING)
        case State.CLOSED:
            ask(client, Quit(), Reply(221, ("Bye",)))
        case _:
            ask(client, mail(), OK)
            if state is not State.MAIL:
                ask(client, rcpt(), OK)
            if state is State.DATA:
                ask(client, Data(), GO_AHEAD)
            if state is State.BDAT:
                client.send_chunk(b"chunk")
                answers(client, OK)
    assert client.state is state
    return client


Responder = Callable[[ServerEvent], Reply]


def drive(
    server: ServerConnection,
    respond: Responder,
    data: bytes = b"",
    log: list[ServerEvent | Reply] | None = None,
) -> list[ServerEvent | Reply]:
    """Feed octets and answer all that wants an answer; return events and replies in order.

    They are added to `log`, if there is one, as they come.
    """
    if log is None:
        log = []
    if data:
        server.receive_data(data)
    asked: ServerEvent | None = None
    while (event := server.next_event()) is not NEED_DATA:
        if event is not PAUSED:
            log.append(event)
            asked = event
            if isinstance(event, ConnectionEnded):
                break
        elif asked is None or server.state is State.TLS:
            break
        else:
            reply = respond(asked)
            server.send_reply(reply)
            log.append(reply)
    return log


def said(server: ServerConnection, line: bytes) -> ServerEvent:
    """Feed one line; return its event."""
    server.receive_data(line)
    event = server.next_event()
    assert event is not NEED_DATA
    assert event is not PAUSED
    return event


def command(server: ServerConnection, line: bytes, reply: Reply) -> Command:
    """Feed one legal line and answer it; return the command."""
    event = said(server, line)
    assert isinstance(event, CommandReceived)
    server.send_reply(reply)
    return event.command


def server_in(
    state: State,
    *,
    protocol: Protocol = Protocol.SMTP,
    keywords: Iterable[str] = KEYWORDS,
    secure: bool = False,
    limits: Limits | None = None,
) -> ServerConnection:
    """Return a server that has come to `state`; in GREETING it has refused the client."""
    server = ServerConnection(protocol=protocol, limits=limits or Limits(), secure=secure)
    if state is State.GREETING:
        server.send_reply(Reply(554, ("No",)))
        return server
    server.send_reply(GREETING)
    if state is State.HELO:
        return server
    hello = b"LHLO" if protocol is Protocol.LMTP else b"EHLO"
    command(server, hello + b" c.example\r\n", ehlo_reply(*keywords))
    match state:
        case State.READY:
            pass
        case State.AUTH:
            command(server, b"AUTH PLAIN\r\n", CHALLENGE)
        case State.TLS:
            command(server, b"STARTTLS\r\n", GREETING)
        case State.CLOSED:
            command(server, b"QUIT\r\n", Reply(221, ("Bye",)))
        case _:
            command(server, b"MAIL FROM:<sender@example.org>\r\n", OK)
            if state is not State.MAIL:
                command(server, b"RCPT TO:<recipient@example.org>\r\n", OK)
            if state is State.DATA:
                command(server, b"DATA\r\n", GO_AHEAD)
            if state is State.BDAT:
                drive(server, lambda _: OK, b"BDAT 5\r\nchunk")
    assert server.state is state
    return server


def _plain(mapping: MappingProxyType[object, object]) -> tuple[type, tuple[object, ...]]:
    return dict, (dict(mapping),)


def snapshot(connection: ClientConnection | ServerConnection) -> bytes:
    """Return all that a connection knows, so that two moments can be compared."""
    if isinstance(connection, ClientConnection):
        assert connection.projected in State  # it is computed when somebody looks
    octets = io.BytesIO()
    pickler = pickle.Pickler(octets)
    # What a server offers is kept read-only, which cannot be pickled as it is.
    pickler.dispatch_table = {**copyreg.dispatch_table, MappingProxyType: _plain}
    pickler.dump(connection)
    return octets.getvalue()


def broken(poll_once: Callable[[], object]) -> RemoteProtocolError:
    """Poll until the peer is found to break the protocol; return the error."""
    try:
        while not isinstance(event := poll_once(), Signal):
            assert not isinstance(event, ConnectionEnded)
    except RemoteProtocolError as error:
        return error
    raise AssertionError("the protocol was not broken")
