"""The machines, against servers and clients that are right, and against some that are not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from smtp_proto.engine import Protocol, RemoteProtocolError, State
from smtp_proto.flow import Envelope, ServerSession
from smtp_proto.sasl import Credentials
from smtp_proto.testing.strategies import ClientMachine, ServerMachine, SessionError
from smtp_proto.wire import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    NULL_REVERSE_PATH,
    Ehlo,
    ForwardPath,
    Limits,
    Mail,
    Rcpt,
    Reply,
)
from tests.testing.machines import Aiosmtpd, Inbox, OurClient, OurServer, Smtplib

SETTINGS = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FINDING = settings(
    SETTINGS, max_examples=300, derandomize=True, phases=[Phase.generate], database=None
)

# --- Right -----------------------------------------------------------------------------------


class OurLMTPServer(OurServer):
    protocol = Protocol.LMTP


class OurLMTPClient(OurClient):
    protocol = Protocol.LMTP


class Notes(OurServer):
    """What is said to it."""

    said = b""

    def send(self, octets: bytes) -> None:
        self.said += octets
        super().send(octets)


class TakesLittle(Notes):
    limits = Limits(message_size=5)


class DoesNotSayHowLittle(TakesLittle):
    def receive(self) -> bytes:
        return super().receive().replace(b"250-SIZE 5\r\n", b"")


class Unwelcoming(Inbox):
    def on_mail(self, session: ServerSession, mail: Mail) -> Reply:
        return Reply.build(450, "Later")


class TakesNothing(Notes):
    handler = Unwelcoming


class Doorkeeper(Inbox):
    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool | Reply:
        return credentials.password == "secret"


class LetsIn(OurServer):
    """Who knows the password."""

    handler = Doorkeeper
    mechanisms = ("PLAIN",)
    credentials = ("somebody", "secret")


class WantsTime(Doorkeeper):
    """Behind a wrong password, and ever after."""

    guessed = False

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool | Reply:
        fine = super().on_auth(session, credentials)
        self.guessed = self.guessed or not fine
        return Reply.build(454, "Later", status="4.7.0") if fine and self.guessed else fine


class LetsInLater(LetsIn):
    handler = WantsTime


class AsksNobody(Inbox):
    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply:
        return Reply.build(550, "No such user")


class TakesContentForNobody(Notes):
    """As it may: a dot alone has to follow. RFC 2920 3.1"""

    handler = AsksNobody
    for_nobody = False

    def send(self, octets: bytes) -> None:
        if self.for_nobody:
            octets = b"RSET\r\n" if octets.endswith(b"\n") else b""
            self.for_nobody = not octets
        super().send(octets)

    def receive(self) -> bytes:
        octets = super().receive()
        before, refusal, text = octets.rpartition(b"503 5.5.1 ")
        in_flight = self.engine.outstanding > 1 and self.said.endswith(b"DATA\r\n")
        self.for_nobody = in_flight and bool(refusal)
        return before + (b"354 " if self.for_nobody else refusal) + text


@pytest.mark.parametrize(
    "machine",
    [
        OurServer,
        OurLMTPServer,
        TakesLittle,
        TakesNothing,
        LetsIn,
        LetsInLater,
        TakesContentForNobody,
        OurClient,
        OurLMTPClient,
        Aiosmtpd,
        Smtplib,
    ],
)
def test_what_keeps_to_the_protocol_is_not_blamed(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)


class ForgetsChunksBehindData(Notes):
    """As it may. RFC 3030 2"""

    def receive(self) -> bytes:
        octets = super().receive()
        if self.engine.state is State.BDAT and self.said.endswith(b"DATA\r\n"):
            self.stream.write(b"RSET\r\n")
            super().receive()
        return octets


def say_hello(machine: ClientMachine) -> None:
    machine.send(machine.engine.send(Ehlo("client.example")))
    machine.engine.receive_data(machine.receive())
    machine.engine.next_event()


@SETTINGS
@given(st.data())
def test_behind_a_chunk_that_is_refused_there_is_nothing_but_reset(data: st.DataObject) -> None:
    machine = DoesNotSayHowLittle()
    say_hello(machine)
    machine.deliver_in_chunks(data=data, octets=b"too much\r\n", last=True)
    assert machine.said.endswith(b"RSET\r\n")


@SETTINGS
@given(st.data())
def test_without_a_sender_there_is_no_message(data: st.DataObject) -> None:
    machine = TakesNothing()
    say_hello(machine)
    machine.deliver(data=data, octets=b"x\r\n")
    machine.deliver_in_chunks(data=data, octets=b"x\r\n", last=True)
    assert machine.said.count(b"\r\n") == len(["EHLO", "MAIL", "MAIL"])


@SETTINGS
@given(st.data())
def test_data_behind_a_chunk_is_not_said_for_nobody_knows_what_it_does(data: st.DataObject) -> None:
    machine = ForgetsChunksBehindData()
    say_hello(machine)
    machine.deliver_in_chunks(data=data, octets=b"x\r\n", last=False)
    machine.say_out_of_order(data=data)
    machine.deliver_in_chunks(data=data, octets=b"y\r\n", last=True)
    assert machine.inbox.last[1] == b"x\r\ny\r\n"


class Impolite(ServerMachine):
    """A client that says QUIT as soon as it is greeted."""

    keywords = ()

    def connect(self) -> None:
        self.said: bytes | None = None

    def send(self, octets: bytes) -> None:
        if octets.endswith(b"\n") and self.said is None:
            self.said = b"QUIT\r\n"

    def receive(self) -> bytes:
        said, self.said = self.said or b"", b""
        return said


def test_few_sessions_are_thrown_away() -> None:
    """Where many are, hypothesis says so, if it is not told to be silent."""
    checked = settings(SETTINGS, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Impolite, settings=checked)
    run_state_machine_as_test(OurClient, settings=checked)


@pytest.mark.parametrize("machine", [ClientMachine, ServerMachine])
def test_how_octets_get_there_is_for_the_subclass_to_say(
    machine: type[ClientMachine | ServerMachine],
) -> None:
    for method in (machine.connect, machine.receive):
        with pytest.raises(NotImplementedError):
            method(object.__new__(machine))
    with pytest.raises(NotImplementedError):
        machine.send(object.__new__(machine), b"")


# --- Servers that are wrong ------------------------------------------------------------------


class SaysTwoThings(OurServer):
    """Two replies to one command."""

    def receive(self) -> bytes:
        octets = super().receive()
        return octets + b"250 And more\r\n" if octets.startswith(b"250 ") else octets


class AcceptsAnything(OurServer):
    """What is out of order, too."""

    def receive(self) -> bytes:
        return super().receive().replace(b"503 5.5.1 Bad", b"250 2.5.1 Bad")


class SaysTwoThingsOutOfOrder(OurServer):
    def receive(self) -> bytes:
        return super().receive().replace(b"503 5.5.1 Bad", b"503 No\r\n503 Bad")


class RefusesWhatIsLegal(OurServer):
    """NOOP is not welcome in a transaction."""

    def receive(self) -> bytes:
        return super().receive().replace(b"252 ", b"503 ")


class HangsUp(OurServer):
    def receive(self) -> bytes:
        octets = super().receive()
        return b"" if octets.startswith(b"252") else octets


class BreaksOff(OurServer):
    def receive(self) -> bytes:
        octets = super().receive()
        if octets.startswith(b"252"):
            raise ConnectionResetError
        return octets


class HangsUpInAFlight(OurServer):
    """Behind the reply to MAIL."""

    def connect(self) -> None:
        super().connect()
        self.over = False

    def receive(self) -> bytes:
        octets = b"" if self.over else super().receive()
        self.over = octets.startswith(b"250 2.1.0") and self.engine.outstanding == 3
        return octets.partition(b"\r\n")[0] + b"\r\n" if self.over else octets


class HangsUpAtOnce(OurServer):
    def receive(self) -> bytes:
        return b""


class HangsUpBehindContent(OurServer):
    def connect(self) -> None:
        super().connect()
        self.wanted = False

    def receive(self) -> bytes:
        octets = b"" if self.wanted else super().receive()
        self.wanted = octets.startswith(b"354")
        return octets


class ForgetsTheTransaction(OurServer):
    """When it refuses DATA."""

    def receive(self) -> bytes:
        octets = super().receive()
        if octets.startswith(b"354"):
            self.send(b"RSET\r\n.\r\n")
            super().receive()
            return b"451 Later\r\n"
        return octets


class GoesOnBehindQuit(OurServer):
    def connect(self) -> None:
        super().connect()
        self.last = False

    def receive(self) -> bytes:
        octets = super().receive()
        if self.last and not octets:
            return b"250 Still here\r\n"
        self.last = octets.startswith(b"221")
        return octets


class NeverForgetsRecipients(OurServer):
    def connect(self) -> None:
        super().connect()
        self.recipients: list[ForwardPath] = []

    def taken(self) -> tuple[Envelope, bytes]:
        envelope, content = super().taken()
        self.recipients += envelope.forward_paths
        return replace(envelope, forward_paths=tuple(dict.fromkeys(self.recipients))), content


class TakesNobodyForTheSender(OurServer):
    def taken(self) -> tuple[Envelope, bytes]:
        envelope, content = super().taken()
        return replace(envelope, reverse_path=NULL_REVERSE_PATH), content


class LeavesDotsAsTheyCome(OurServer):
    def taken(self) -> tuple[Envelope, bytes]:
        envelope, content = super().taken()
        return envelope, (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]


class LetsEverybodyIn(LetsIn):
    def receive(self) -> bytes:
        return super().receive().replace(b"535 5.7.8 ", b"235 2.7.0 ")


class LetsNobodyIn(LetsIn):
    def receive(self) -> bytes:
        return super().receive().replace(b"235 2.7.0 ", b"535 5.7.8 ")


class TakesEachChunkForAMessage(Notes):
    def taken(self) -> tuple[Envelope, bytes]:
        envelope, content = super().taken()
        chunk = self.said.rpartition(b" LAST\r\n")[2]
        return envelope, chunk if content.endswith(chunk) else content


class RefusesTheSecondChunk(OurServer):
    def receive(self) -> bytes:
        octets = super().receive()
        second = self.engine.state is State.BDAT and octets.startswith(b"250 ")
        return b"503 No\r\n" if second else octets


@pytest.mark.parametrize(
    ("machine", "error", "what"),
    [
        (
            NeverForgetsRecipients,
            SessionError,
            r"^the server has taken the forward-paths .* in place",
        ),
        (TakesNobodyForTheSender, SessionError, "^the server has taken the reverse-path .* in pl"),
        (LeavesDotsAsTheyCome, SessionError, r"^the server has taken the content b.*\.\..* in pl"),
        (TakesEachChunkForAMessage, SessionError, r"^the server has taken the content b.*"),
        (LetsEverybodyIn, SessionError, "^the wrong password is answered by 235 2.7.0 "),
        (LetsNobodyIn, SessionError, "^the right password is answered by 535 5.7.8 "),
        (RefusesTheSecondChunk, SessionError, "^(BDAT|NOOP|RSET).* is legal in this state, and "),
        (SaysTwoThings, (RemoteProtocolError, SessionError), "in answer to nothing|more than one"),
        (AcceptsAnything, SessionError, "^(MAIL|RCPT|DATA).* was answered by 250 2.5.1 Bad"),
        (SaysTwoThingsOutOfOrder, SessionError, "one command, and more than one reply"),
        (RefusesWhatIsLegal, SessionError, "^VRFY someone is legal in this state, and answered by"),
        (HangsUp, SessionError, r"hung up in the state .*, and did not answer VRFY someone\n"),
        (BreaksOff, SessionError, r"hung up in the state .*, and did not answer VRFY someone\n"),
        (
            HangsUpInAFlight,
            SessionError,
            r"did not answer RCPT TO:<.*, (RCPT TO:<.*|RSET|DATA)\n",
        ),
        (
            HangsUpAtOnce,
            SessionError,
            r"in the state GREETING, and did not answer the connection\n",
        ),
        (HangsUpBehindContent, SessionError, r"the server hung up .* did not answer the content\n"),
        (ForgetsTheTransaction, SessionError, "answered by 503|answered by 250 .* in the state"),
        (GoesOnBehindQuit, SessionError, "behind the reply to QUIT the server says b'250"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_blamed(
    machine: type[ClientMachine], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        run_state_machine_as_test(machine, settings=FINDING)


class CannotRead(OurServer):
    """It breaks down at this, which the machine has to say some day."""

    what = b""

    def connect(self) -> None:
        super().connect()
        self.said = b""

    def send(self, octets: bytes) -> None:
        self.said += octets
        if re.search(self.what, self.said):
            raise NotImplementedError(self.what)
        super().send(octets)


@pytest.mark.parametrize(
    "said",
    [
        b" SIZE=",
        b" BODY=8BITMIME",
        b" SMTPUTF8",
        b" RET=HDRS",
        b" ENVID=",
        b" NOTIFY=",
        b" ORCPT=rfc822;",
        rb"RCPT TO:<[^\r]*[\x80-\xff]",
        rb"\r\n\.\r\n",
        b" LAST\r\n",
    ],
)
def test_what_a_server_has_to_understand_is_said(said: bytes) -> None:
    class CannotReadThis(CannotRead):
        what = said

    with pytest.raises(NotImplementedError):
        run_state_machine_as_test(CannotReadThis, settings=FINDING)


class OffersNothing(OurServer):
    def receive(self) -> bytes:
        octets = super().receive()
        return octets.splitlines(keepends=True)[-1] if octets.startswith(b"250-") else octets

    def taken(self) -> tuple[Envelope, bytes]:
        envelope, content = super().taken()
        assert envelope.mail_parameters == NO_MAIL_PARAMETERS
        assert set(envelope.rcpt_parameters.values()) <= {NO_RCPT_PARAMETERS}
        return envelope, content


def test_what_is_not_offered_is_not_said() -> None:
    run_state_machine_as_test(OffersNothing, settings=SETTINGS)


# --- Clients that are wrong ------------------------------------------------------------------


class DoesNotWait(OurClient):
    """It pipelines where nobody has offered that."""

    keywords = ("8BITMIME",)

    def receive(self) -> bytes:
        octets = super().receive()
        return octets + b"RSET\r\n" if octets.startswith(b"MAIL") else octets


class SaysSomethingElse(OurClient):
    """In place of MAIL."""

    keywords = ("8BITMIME",)
    says = b""

    def receive(self) -> bytes:
        octets = super().receive()
        return self.says if octets.startswith(b"MAIL") else octets


class ForgetsTheSender(SaysSomethingElse):
    says = b"RCPT TO:<b@example.net>\r\n"


class SaysItWrongly(OurClient):
    """A sender that is none."""

    keywords = ("8BITMIME",)

    def receive(self) -> bytes:
        return super().receive().replace(b"MAIL FROM:", b"MAIL FROM: \x1b")


class LogsIn(SaysSomethingElse):
    """Though nobody has offered that."""

    says = b"AUTH PLAIN AGEAc2VjcmV0\r\n"


class SaysAPassword(SaysSomethingElse):
    """Where nobody has asked for it."""

    says = b"c2VjcmV0\r\nNOOP\r\n"


class GoesAway(OurClient):
    """In the middle of the content."""

    keywords = ("8BITMIME",)

    def receive(self) -> bytes:
        octets = super().receive()
        return b"" if octets.startswith(b"Subject") else octets


@pytest.mark.parametrize(
    ("machine", "error", "what"),
    [
        (DoesNotWait, SessionError, "has not waited for the reply to MAIL FROM:<a@example.org>"),
        (ForgetsTheSender, SessionError, r"in the state READY: RCPT TO:<b@example.net>\n"),
        (SaysItWrongly, SessionError, r"state READY: MAIL FROM: \\x1b<a@example.org>\n"),
        (LogsIn, SessionError, r"state READY: AUTH PLAIN \*\*\*\n"),
        (SaysAPassword, SessionError, r"the reply to \(8 octets that are no command\)\n"),
        (GoesAway, RemoteProtocolError, "the connection was lost in the state DATA"),
    ],
)
def test_a_client_that_breaks_the_protocol_is_blamed(
    machine: type[ServerMachine], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        run_state_machine_as_test(machine, settings=FINDING)


def test_what_the_client_has_said_is_shown_line_by_line() -> None:
    with pytest.raises(SessionError) as caught:
        run_state_machine_as_test(ForgetsTheSender, settings=FINDING)
    said = [note for note in caught.value.__notes__ if note.startswith("the client says")]
    assert said == [
        "the client says EHLO client.example",
        "the client says RCPT TO:<b@example.net>",
    ]


# --- Settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [ClientMachine, ServerMachine, OurServer, OurLMTPServer])
def test_nothing_is_explained_unless_one_says_so(
    machine: type[ClientMachine | ServerMachine],
) -> None:
    """What would vary each octet of the session that fails takes minutes."""
    usual = machine.TestCase.settings
    assert set(usual.phases) == set(settings().phases) - {Phase.explain}
    assert usual.deadline is None
    assert settings(usual, phases=list(Phase)).phases == tuple(Phase)


def test_settings_of_ones_own_win() -> None:
    class Mine(OurServer):
        pass

    Mine.TestCase.settings = settings(max_examples=7)
    assert Mine.TestCase.settings.max_examples == 7
    assert Phase.explain in Mine.TestCase.settings.phases
    assert Phase.explain not in OurServer.TestCase.settings.phases
