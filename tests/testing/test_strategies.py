"""What the strategies draw is what they say, and nothing of what there is is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from smtp_proto.engine import (
    ClientConnection,
    CommandReceived,
    ConnectionEnded,
    ContentEnded,
    RemoteProtocolError,
    ServerConnection,
    Signal,
)
from smtp_proto.testing import strategies
from smtp_proto.wire import (
    Auth,
    AuthResponse,
    Bdat,
    Body,
    Capabilities,
    Command,
    ContentEncoder,
    Data,
    Ehlo,
    EnhancedStatusCode,
    Expn,
    ForwardPath,
    Helo,
    Help,
    Lhlo,
    Limits,
    Mail,
    Mailbox,
    MailParameters,
    Noop,
    OriginalRecipient,
    OtherCommand,
    Parameter,
    Quit,
    Rcpt,
    RcptParameters,
    ReceiveBuffer,
    Reply,
    ReplyReader,
    ReversePath,
    Rset,
    StartTls,
    Vrfy,
    parse_command,
    parse_forward_path,
    parse_reverse_path,
    validate_domain,
)

patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])

OK = Reply(250, ("Ok",))
OFFER = Reply(250, ("mx.example", "PIPELINING", "CHUNKING", "8BITMIME"))

T = TypeVar("T")


def drawn(strategy: st.SearchStrategy[T], wanted: Callable[[T], bool]) -> T:
    """Return some value that is wanted; it need not be the simplest."""
    quick = settings(patient, max_examples=3_000, phases=[Phase.generate], database=None)
    return find(strategy, wanted, settings=quick)


# --- Values ----------------------------------------------------------------------------------


@given(strategies.addresses(), strategies.addresses(ascii_only=True))
def test_addresses(any_address: Mailbox, plain: Mailbox) -> None:
    assert Mailbox.parse(str(any_address)) == any_address
    assert plain.ascii


@given(strategies.reverse_paths(), strategies.forward_paths(), strategies.domains())
def test_paths_and_domains(reverse: ReversePath, forward: ForwardPath, domain: str) -> None:
    assert parse_reverse_path(str(reverse)) == reverse
    assert parse_forward_path(str(forward)) == forward
    assert validate_domain(domain) == domain


@patient
@given(
    strategies.parameters(),
    strategies.original_recipients(),
    strategies.mail_parameters(),
    strategies.rcpt_parameters(),
)
def test_parameters(
    parameter: Parameter, original: OriginalRecipient, mail: MailParameters, rcpt: RcptParameters
) -> None:
    assert Parameter.parse(str(parameter)) == parameter
    assert OriginalRecipient.parse(original.encode()) == original
    assert MailParameters.parse(mail.encode()) == mail
    assert RcptParameters.parse(rcpt.encode()) == rcpt


@patient
@given(strategies.commands(), strategies.auth_responses())
def test_commands(command: Command, response: AuthResponse) -> None:
    assert parse_command(command.encode().removesuffix(b"\r\n")) == command
    assert AuthResponse.parse(response.encode().removesuffix(b"\r\n")) == response


@patient
@given(strategies.commands(Mail, Rcpt))
def test_commands_of_some_classes(command: Command) -> None:
    assert isinstance(command, Mail | Rcpt)


KINDS: list[type[Command]] = [
    *(Helo, Ehlo, Lhlo, Mail, Rcpt, Data, Bdat, Rset),
    *(Vrfy, Expn, Help, Noop, Quit, StartTls, Auth, OtherCommand),
]


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_of_command_is_drawn(kind: type[Command]) -> None:
    assert isinstance(drawn(strategies.commands(kind), lambda _: True), kind)


def test_what_has_extensions_is_drawn() -> None:
    drawn(strategies.addresses(), lambda address: not address.ascii)
    drawn(strategies.addresses(), lambda address: address.literal)
    drawn(strategies.mail_parameters(), lambda parameters: parameters.body is Body.BINARY_MIME)
    drawn(strategies.mail_parameters(), lambda parameters: parameters.auth is not None)
    drawn(strategies.capabilities(), lambda capabilities: "PIPELINING" not in capabilities)


@given(strategies.replies(), strategies.replies(st.just(354)), strategies.status_codes())
def test_replies(reply: Reply, go_ahead: Reply, status: EnhancedStatusCode) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(reply.encode() + go_ahead.encode())
    reader = ReplyReader(Limits())
    assert [reader.read(buffer), reader.read(buffer)] == [reply, go_ahead]
    assert go_ahead.code == 354
    assert EnhancedStatusCode.parse(str(status)) == status


@given(strategies.capabilities())
def test_capabilities(capabilities: Capabilities) -> None:
    assert Capabilities.from_reply(Reply(250, capabilities.lines())) == capabilities


@given(strategies.content())
def test_content(content: bytes) -> None:
    assert not content or content.endswith(b"\r\n")
    without_line_ends = content.replace(b"\r\n", b"")
    assert b"\r" not in without_line_ends
    assert b"\n" not in without_line_ends
    encoder = ContentEncoder()
    assert len(encoder.encode(content) + encoder.end()) >= len(content) + 3


# --- Octets ----------------------------------------------------------------------------------


@patient
@given(strategies.client_bytes(), st.data())
def test_a_server_that_accepts_all_refuses_nothing(octets: bytes, data: st.DataObject) -> None:
    server = ServerConnection()
    server.send_reply(Reply(220, ("mx.example",)))
    for piece in data.draw(strategies.splits(octets)):
        server.receive_data(piece)
        while not isinstance(event := server.next_event(), Signal | ConnectionEnded):
            match event:
                case CommandReceived(Ehlo()):
                    server.send_reply(OFFER)
                case CommandReceived(Data()):
                    server.send_reply(Reply(354, ("Go ahead",)))
                case CommandReceived() | ContentEnded(None):
                    server.send_reply(OK)
                case _:
                    assert not hasattr(event, "reply"), event
    assert server.finished


@given(strategies.server_bytes())
def test_what_a_server_may_say_can_be_read(octets: bytes) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(octets)
    reader = ReplyReader(Limits())
    while reader.read(buffer):
        pass
    assert not len(buffer)
    assert not reader.partial


@patient
@given(strategies.hostile_bytes(), st.data())
def test_nothing_hostile_gets_through_the_engines(octets: bytes, data: st.DataObject) -> None:
    """Any exception but that of the protocol is a bug."""
    pieces = data.draw(strategies.splits(octets))
    client = ClientConnection()
    server = ServerConnection()
    server.send_reply(Reply(220, ("mx.example",)))
    for engine in (client, server):
        for piece in pieces:
            engine.receive_data(piece)
            try:
                while not isinstance(engine.next_event(), Signal | ConnectionEnded):
                    if isinstance(engine, ServerConnection):
                        engine.send_reply(Reply(450, ("Later",)))
            except (RemoteProtocolError, LookupError):
                break


@pytest.mark.parametrize("octets", [b"\0", b"\r\r\n", b"HTTP/1.1", b"\x16\x03\x01", b"A" * 4_097])
def test_what_is_hostile_is_drawn(octets: bytes) -> None:
    assert octets in drawn(strategies.hostile_bytes(), lambda found: octets in found)


def test_what_is_spoilt_was_legal_before() -> None:
    drawn(strategies.hostile_bytes(), lambda found: found.startswith(b"EHLO") and b"\0" in found)


# --- What hypothesis shows -------------------------------------------------------------------


def test_a_failure_shows_the_pieces_themselves() -> None:
    @settings(database=None)
    @given(st.data())
    def fails(data: st.DataObject) -> None:
        data.draw(strategies.splits(b"x" * 50), label="octets")
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        fails()
    [shown] = [note for note in caught.value.__notes__ if note.startswith("Draw 1 (octets): ")]
    assert str([b"x" * 50]) in shown
