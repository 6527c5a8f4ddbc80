"""Serve: the order of a session, groups of replies, waits, and how a session ends."""

from __future__ import annotations

from typing import cast
from weakref import WeakKeyDictionary

import pytest

from smtp_proto.engine import Protocol
from smtp_proto.flow.actions import Done, Send
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.handler import Answer, Handler, ServerSession
from smtp_proto.flow.security import Security
from smtp_proto.flow.serve import Serve, ServeSettings
from smtp_proto.flow.timeouts import Phase, Timeouts
from smtp_proto.sasl import Credentials
from smtp_proto.wire.command import Mail, OtherCommand, Rcpt
from smtp_proto.wire.limits import Limits
from smtp_proto.wire.reply import Reply
from tests.flow.serving import Client, settings

EHLO = b"EHLO client.example\r\n"
EHLO_REPLY = (
    b"250-mx.example.org\r\n"
    b"250-PIPELINING\r\n"
    b"250-SIZE 52428800\r\n"
    b"250-8BITMIME\r\n"
    b"250-SMTPUTF8\r\n"
    b"250-CHUNKING\r\n"
    b"250-ENHANCEDSTATUSCODES\r\n"
    b"250-DSN\r\n"
    b"250 HELP\r\n"
)
TRANSACTION = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.org>\r\n"
GREETED = b"220 mx.example.org ESMTP\r\n"


class Recorder(Handler):
    """Notes what it is told, and accepts everything."""

    def __init__(self) -> None:
        self.messages: list[tuple[Envelope, bytes]] = []
        self.resets = 0
        self.disconnects = 0
        self.errors: list[Exception] = []

    def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        self.messages.append((envelope, content))

    def on_reset(self, session: ServerSession) -> None:
        self.resets += 1

    def on_disconnect(self, session: ServerSession) -> None:
        self.disconnects += 1

    def on_error(self, session: ServerSession, error: Exception) -> None:
        self.errors.append(error)


class Refusing(Handler):
    """Answers what is asked with the replies that it was given."""

    def __init__(self, **replies: Reply) -> None:
        self.replies = replies

    def on_connect(self, session: ServerSession) -> Reply | None:
        return self.replies.get("connect")

    def on_helo(self, session: ServerSession, domain: str) -> Reply | None:
        return self.replies.get("helo")

    def on_verify(self, session: ServerSession, string: str) -> Reply | None:
        return self.replies.get("verify")

    def on_expand(self, session: ServerSession, string: str) -> Reply | None:
        return self.replies.get("expand")

    def on_other(self, session: ServerSession, command: OtherCommand) -> Answer[Reply | None]:
        return self.replies.get(command.keyword.lower())


def greeted(handler: Handler | None = None, served: ServeSettings | None = None) -> Client:
    """A client that has read the greeting."""
    client = Client(handler, served)
    client.sends.clear()
    return client


def ready(handler: Handler | None = None, served: ServeSettings | None = None) -> Client:
    """A client that has said EHLO."""
    client = greeted(handler, served)
    assert client.say(EHLO).startswith(b"250-")
    return client


# --- In order ------------------------------------------------------------------------------------


def test_a_session_from_beginning_to_end() -> None:
    handler = Recorder()
    client = Client(handler)
    assert client.said == GREETED
    assert client.say(EHLO) == EHLO_REPLY
    assert client.say(b"MAIL FROM:<ann@example.com>\r\n") == b"250 2.1.0 Sender ok\r\n"
    assert client.say(b"RCPT TO:<bob@example.org>\r\n") == b"250 2.1.5 Recipient ok\r\n"
    assert client.say(b"DATA\r\n") == b"354 End the content with <CRLF>.<CRLF>\r\n"
    assert client.say(b"Subject: x\r\n\r\n..y\r\n.\r\n") == b"250 2.0.0 Message accepted\r\n"
    assert client.say(b"QUIT\r\n") == b"221 2.0.0 Goodbye\r\n"
    assert client.closed
    envelope = Envelope.of("ann@example.com", "bob@example.org")
    assert handler.messages == [(envelope, b"Subject: x\r\n\r\n.y\r\n")]
    assert (handler.resets, handler.disconnects, handler.errors) == (0, 1, [])


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"NOOP", b"250 2.0.0 Ok\r\n"),
        (b"RSET", b"250 2.0.0 Ok\r\n"),
        (b"HELP", b"214 2.0.0 The commands are those of RFC 5321\r\n"),
        (b"VRFY bob", b"252 2.0.0 Cannot verify, but will try to deliver\r\n"),
        (b"EXPN staff", b"502 5.5.1 Lists are not expanded\r\n"),
        (b"TURN", b"500 5.5.1 Command not recognized\r\n"),
        (b"HELO client.example", b"250 mx.example.org\r\n"),
    ],
)
def test_commands_beside_a_transaction(command: bytes, reply: bytes) -> None:
    assert ready().say(command + b"\r\n") == reply


def test_what_the_engine_refuses_is_answered_as_the_engine_says() -> None:
    client = greeted()
    assert client.say(b"DATA\r\n").startswith(b"503 5.5.1 ")
    assert client.say(b"MAIL FROM <x>\r\n").startswith(b"501 ")


def test_helo_offers_nothing() -> None:
    client = greeted()
    assert client.say(b"HELO client.example\r\n") == b"250 mx.example.org\r\n"
    assert client.say(b"MAIL FROM:<ann@example.com> SIZE=1\r\n").startswith(b"555 ")


def test_lmtp() -> None:
    client = Client(None, settings(protocol=Protocol.LMTP))
    assert client.said == b"220 mx.example.org LMTP\r\n"
    assert client.say(EHLO).startswith(b"500 ")
    assert client.say(b"LHLO client.example\r\n") == EHLO_REPLY


def test_the_limit_of_the_message_is_offered() -> None:
    assert b"250-SIZE 1234\r\n" in greeted(None, settings(limits=Limits(message_size=1234))).say(
        EHLO
    )
    assert b"250-SIZE 0\r\n" in greeted(None, settings(limits=Limits(message_size=0))).say(EHLO)


def test_the_session_shows_the_client() -> None:
    seen: list[tuple[str, str | None]] = []

    class Looking(Handler):
        def on_helo(self, session: ServerSession, domain: str) -> None:
            seen.append((session.peer, session.helo))

    client = greeted(Looking())
    client.say(EHLO)
    client.say(b"EHLO [192.0.2.9]\r\n")
    assert seen == [("192.0.2.1", None), ("192.0.2.1", "client.example")]


def test_sessions_are_equal_to_themselves_only() -> None:
    assert ServerSession("x") != ServerSession("x")
    session = ServerSession("x")
    kept = WeakKeyDictionary({session: "what a handler keeps"})
    assert kept[session] == "what a handler keeps"
    assert ServerSession("x") not in kept


# --- The handler's word --------------------------------------------------------------------------


def test_a_client_that_is_refused_may_only_say_quit() -> None:
    client = Client(Refusing(connect=Reply(554, ("no",))))
    assert client.said == b"554 no\r\n"
    assert client.say(EHLO).startswith(b"503 ")
    assert client.say(b"QUIT\r\n").startswith(b"221 ")
    assert client.closed


def test_a_positive_reply_takes_no_place_of_the_server_s_own() -> None:
    accept = Reply(250, ("welcome",))
    client = Client(Refusing(connect=accept, helo=accept))
    assert client.said == GREETED
    assert client.say(EHLO) == EHLO_REPLY.replace(b"250 HELP", b"250-HELP\r\n250 EXPN")


def test_a_name_that_is_refused_leaves_things_as_they_are() -> None:
    client = greeted(Refusing(helo=Reply(550, ("go away",))))
    assert client.say(EHLO) == b"550 go away\r\n"
    assert client.say(b"HELO client.example\r\n") == b"550 go away\r\n"
    assert client.say(TRANSACTION).startswith(b"503 ")


def test_the_handler_answers_questions() -> None:
    client = ready(
        Refusing(
            verify=Reply(250, ("<bob@example.org>",)),
            expand=Reply(250, ("<a@example.org>", "<b@example.org>")),
            xhello=Reply(299, ("hello",)),
        )
    )
    assert client.say(b"VRFY bob\r\n") == b"250 <bob@example.org>\r\n"
    assert client.say(b"EXPN staff\r\n") == b"250-<a@example.org>\r\n250 <b@example.org>\r\n"
    assert client.say(b"XHELLO world\r\n") == b"299 hello\r\n"
    assert client.say(b"XBYE\r\n").startswith(b"500 ")
    assert client.asked == ["on_connect", "on_helo", "on_verify", "on_expand", *2 * ["on_other"]]


MAILBOX = "Käthe <käthe@bücher.example>"
SAID_UTF8 = b"MAIL FROM:<a@example.org> SMTPUTF8\r\n"
SAID_NOTHING = b"MAIL FROM:<a@example.org>\r\n"


@pytest.mark.parametrize(
    ("command", "said", "code", "without"),
    [
        # RFC 6531 3.7.4.2
        (b"VRFY k", b"VRFY k SMTPUTF8", 250, b"252 2.6.8 "),
        (b"VRFY k", b"VRFY k SMTPUTF8", 251, b"252 2.6.8 "),
        (b"VRFY k", b"VRFY k SMTPUTF8", 551, b"550 5.6.8 "),
        (b"VRFY k", b"VRFY k SMTPUTF8", 553, rb"553-K\xe4the"),
        (b"EXPN k", b"EXPN k SMTPUTF8", 250, b"252 2.6.8 "),
        # RFC 6531 3.7.4.1
        (SAID_NOTHING + b"RCPT TO:<k@x>", SAID_UTF8 + b"RCPT TO:<k@x>", 251, b"250 2.1.5 "),
        (SAID_NOTHING + b"RCPT TO:<k@x>", SAID_UTF8 + b"RCPT TO:<k@x>", 551, b"550 5.6.8 "),
    ],
)
def test_a_mailbox_beyond_ascii_is_shown_to_who_has_said_smtputf8(
    command: bytes, said: bytes, code: int, without: bytes
) -> None:
    reply = Reply(code, (MAILBOX, "and more"))

    class Showing(Handler):
        def on_verify(self, session: ServerSession, string: str) -> Reply:
            return reply

        def on_expand(self, session: ServerSession, string: str) -> Reply:
            return reply

        def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply:
            return reply

    assert reply.encode() in ready(Showing()).say(said + b"\r\n")
    answer = ready(Showing()).say(command + b"\r\n")
    assert answer.isascii()
    assert without in answer


WORDS = "Störung, später"
ESCAPED = rb"St\xf6rung, sp\xe4ter"


def test_no_other_reply_has_utf8() -> None:
    # RFC 6531 3.7.4.2
    class Wordy(Handler):
        def on_mail(self, session: ServerSession, mail: Mail) -> Reply:
            return Reply(250, (WORDS,))

        def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply:
            return Reply(250, (WORDS,))

        def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> Reply:
            return Reply.build(250, "", WORDS, status="2.0.0")

        def on_auth(self, session: ServerSession, credentials: Credentials) -> Reply:
            return Reply(454, (WORDS,))

        def on_other(self, session: ServerSession, command: OtherCommand) -> Reply:
            return Reply(299, (WORDS,))

    client = ready(Wordy(), settings(mechanisms=("PLAIN",), allow_cleartext_auth=True))
    assert client.say(b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n") == b"454 " + ESCAPED + b"\r\n"
    assert client.say(SAID_UTF8) == b"250 " + ESCAPED + b"\r\n"
    assert client.say(b"RCPT TO:<k@x>\r\n") == b"250 " + ESCAPED + b"\r\n"
    client.say(b"DATA\r\n")
    assert client.say(b".\r\n") == b"250-2.0.0 \r\n250 2.0.0 " + ESCAPED + b"\r\n"
    # An extension has rules of its own.
    assert client.say(b"XWORDS\r\n") == f"299 {WORDS}\r\n".encode()


def test_what_is_not_overridden_is_not_asked() -> None:
    client = ready()
    client.say(TRANSACTION + b"DATA\r\n")
    client.say(b"x\r\n.\r\nVRFY bob\r\n")
    client.say(b"EXPN staff\r\n")
    client.say(b"TURN\r\n")
    client.say(b"MAIL FROM:<>\r\nRSET\r\nQUIT\r\n")
    assert client.closed
    assert client.asked == []


def test_a_method_that_is_set_on_the_handler_itself_is_asked() -> None:
    handler = Handler()
    vars(handler)["on_helo"] = lambda _, domain: Reply(550, (domain,))
    assert greeted(handler).say(EHLO) == b"550 client.example\r\n"


# --- Groups --------------------------------------------------------------------------------------


def test_fifty_pipelined_recipients_cost_one_send() -> None:
    client = ready()
    flight = b"MAIL FROM:<ann@example.com>\r\n"
    flight += b"".join(b"RCPT TO:<user%d@example.org>\r\n" % number for number in range(50))
    client.flow.receive_data(flight + b"DATA\r\n")
    client.action = client._next()
    assert len(client.sends) == 1
    assert client.said.count(b"\r\n") == 52


@pytest.mark.parametrize(
    "command", [b"RSET\r\n", b"RCPT TO:<user@example.org>\r\n", b"BDAT 0\r\n", b"BDAT 1\r\nx"]
)
def test_however_much_comes_at_once_the_next_send_is_near(command: bytes) -> None:
    client = ready()
    client.flow.receive_data(TRANSACTION + command * 10_000)
    client.action = client._next()
    assert max(map(len, client.sends)) < 4_200
    assert client.said.count(b"\r\n") == TRANSACTION.count(b"\r\n") + 10_000


def test_the_end_of_content_and_the_next_group_cost_one_send() -> None:
    client = ready()
    client.say(TRANSACTION + b"DATA\r\n")
    client.flow.receive_data(b"x\r\n.\r\n" + TRANSACTION + b"QUIT\r\n")
    client.action = client._next()
    assert len(client.sends) == 1
    assert client.closed


def test_the_reply_to_a_command_that_ends_a_group_waits_for_none() -> None:
    """RFC 2920 3.2: a client that goes on all the same gets its replies one by one."""
    client = ready()
    client.flow.receive_data(TRANSACTION + b"NOOP\r\nRSET\r\nVRFY x\r\n" + EHLO + b"QUIT\r\n")
    client.action = client._next()
    assert [sent.count(b"\r\n") for sent in client.sends] == [3, 2, 9, 1]


# --- Waits ---------------------------------------------------------------------------------------


def waits(client: Client) -> list[Phase]:
    phases = [timer.phase for timer in client.timers]
    client.timers.clear()
    return phases


def test_each_command_and_each_block_has_a_timer_of_its_own() -> None:
    client = greeted()
    assert waits(client) == [Phase.IDLE]
    client.say(EHLO)
    assert waits(client) == [Phase.IDLE]
    client.say(TRANSACTION)
    assert waits(client) == [Phase.IDLE]
    client.say(b"DATA\r\n")
    assert waits(client) == [Phase.BLOCK]
    client.say(b"Subject: x\r\n")
    assert waits(client) == [Phase.BLOCK]
    client.say(b"\r\nx\r\n.\r\n")
    assert waits(client) == [Phase.IDLE]


def test_octets_that_drip_do_not_move_a_deadline() -> None:
    client = greeted()
    for octet in EHLO[:-1]:
        client.say(bytes([octet]))
    assert waits(client) == [Phase.IDLE]
    client.say(b"\n")
    client.say(TRANSACTION + b"DATA\r\n")
    client.say(b"x")
    client.timers.clear()
    for _ in range(1000):
        client.say(b"x")
    assert len(client.timers) == 1


@pytest.mark.parametrize("command", [b"DATA\r\n", b"BDAT 1000000 LAST\r\n"])
def test_who_sends_a_block_in_time_gets_time_for_the_next(command: bytes) -> None:
    client = ready()
    client.say(TRANSACTION)
    client.say(command)
    client.say(b"x")
    client.timers.clear()
    for _ in range(32):
        client.say(b"x" * 8192)
    assert waits(client) == 5 * [Phase.BLOCK]


def test_octets_that_are_dropped_count_as_well() -> None:
    client = ready(None, settings(limits=Limits(message_size=10)))
    client.say(TRANSACTION + b"DATA\r\n")
    client.say(b"x" * 11)
    client.timers.clear()
    for _ in range(32):
        client.say(b"x" * 8192)
    assert waits(client) == 5 * [Phase.BLOCK]


def test_the_first_chunk_is_awaited_as_content() -> None:
    client = ready()
    client.say(TRANSACTION)
    client.timers.clear()
    client.say(b"BDAT 3\r\nab")
    assert waits(client) == [Phase.BLOCK]
    client.say(b"c")
    assert waits(client) == [Phase.BLOCK]  # for the next BDAT
    client.say(b"RSET\r\n")
    assert waits(client) == [Phase.IDLE]


def test_the_timers_have_the_seconds_of_the_settings() -> None:
    client = greeted(None, settings(timeouts=Timeouts(idle=7.0, block=8.0)))
    client.say(EHLO)
    client.say(TRANSACTION + b"DATA\r\n")
    assert [timer.seconds for timer in client.timers] == [7.0, 7.0, 8.0]


def test_the_whole_flow_has_the_total_of_the_settings() -> None:
    assert Client(None, settings(timeouts=Timeouts(total=9.0))).flow.total == 9.0


# --- Ends ----------------------------------------------------------------------------------------


def test_a_client_that_says_nothing_is_told_so() -> None:
    handler = Recorder()
    client = greeted(handler)
    assert client.fail(TimeoutError()) == b"421 4.4.2 Timeout, closing the connection\r\n"
    assert client.phase is Phase.LAST_WORDS
    client.end()
    assert client.closed
    assert handler.disconnects == 1


def test_last_words_are_waited_for_only_so_long() -> None:
    client = greeted()
    client.fail(TimeoutError())
    timer = client.timers[-1]
    client.send(b"NOOP\r\n")
    client.send(b"NOOP\r\n")
    assert client.timers[-1] is timer
    assert client.said == b""
    client.fail(TimeoutError())
    assert client.closed


def test_time_that_is_up_within_content_delivers_nothing() -> None:
    handler = Recorder()
    client = ready(handler)
    client.say(TRANSACTION + b"DATA\r\n")
    client.say(b"x\r\n")
    assert client.fail(TimeoutError()).startswith(b"421 4.4.2 ")
    client.send(b".\r\n")
    client.end()
    assert client.closed
    assert (handler.messages, handler.disconnects) == ([], 1)


@pytest.mark.parametrize("error", [ConnectionResetError(), BrokenPipeError(), OSError(5, "x")])
def test_a_stream_that_breaks(error: OSError) -> None:
    handler = Recorder()
    client = ready(handler)
    client.say(TRANSACTION + b"DATA\r\n")
    client.say(b"x\r\n")
    assert client.fail(error) == b""
    assert client.closed
    assert (handler.messages, handler.disconnects) == ([], 1)


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError()])
def test_replies_that_cannot_be_sent(error: OSError) -> None:
    flow = Serve(Handler(), settings(), "192.0.2.1")
    assert isinstance(flow.next_action(), Send)
    flow.failed(error)
    assert flow.next_action() == Done(None, close=True)


def test_last_words_that_cannot_be_sent() -> None:
    handler = Recorder()
    client = greeted(handler)
    client.reset = True
    client.fail(TimeoutError())
    assert client.closed
    assert handler.disconnects == 1


@pytest.mark.parametrize("said", [b"", EHLO, EHLO + TRANSACTION])
def test_a_client_that_goes_away_between_commands(said: bytes) -> None:
    handler = Recorder()
    client = greeted(handler)
    for line in said.splitlines(keepends=True):
        client.say(line)
    assert client.end() == b""
    assert client.closed
    assert handler.disconnects == 1


@pytest.mark.parametrize(
    "said", [b"NO", TRANSACTION + b"DATA\r\nx\r\n", TRANSACTION + b"BDAT 5\r\nabc"]
)
def test_a_client_that_goes_away_in_the_middle(said: bytes) -> None:
    handler = Recorder()
    client = ready(handler)
    client.say(said)
    assert client.end() == b""
    assert client.closed
    assert (handler.messages, handler.disconnects) == ([], 1)


def test_commands_behind_quit_are_not_obeyed() -> None:
    handler = Recorder()
    client = ready(handler)
    assert client.say(b"QUIT\r\n" + TRANSACTION).startswith(b"221 ")
    assert client.closed
    assert client.said == b""


def test_too_many_errors() -> None:
    client = ready(None, settings(limits=Limits(errors=3)))
    for _ in range(3):
        assert client.say(b"\x00\r\n").startswith(b"500 ")
    assert client.say(b"\x00\r\n" + EHLO).startswith(b"421 4.7.0 ")
    assert client.phase is Phase.LAST_WORDS
    client.end()
    assert client.closed


def test_the_handler_can_end_the_session_with_421() -> None:
    for name in ("helo", "verify", "xbye"):
        handler = Refusing(**{name: Reply(421, ("enough",))})
        client = greeted(handler)
        said = client.say(EHLO)
        if name != "helo":
            said = client.say({"verify": b"VRFY x\r\n", "xbye": b"XBYE\r\n"}[name])
        assert said == b"421 enough\r\n"
        client.end()
        assert client.closed


def test_a_client_that_is_shown_the_door() -> None:
    client = Client(Refusing(connect=Reply(421, ("full",))))
    assert client.said == b"421 full\r\n"
    client.end()
    assert client.closed


def test_a_browser_is_told_once() -> None:
    client = greeted()
    said = client.say(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + EHLO + TRANSACTION)
    assert said.startswith(b"554 ")
    assert said.count(b"\r\n") == 1
    client.end()
    assert client.closed


def test_expn_is_offered_where_somebody_expands() -> None:
    class Lists(Handler):
        def on_expand(self, session: ServerSession, string: str) -> Reply | None:
            return Reply.build(250, "<a@example.org>")

    assert b"EXPN\r\n" in Client(Lists()).say(b"EHLO client.example\r\n")
    assert b"EXPN" not in Client().say(b"EHLO client.example\r\n")


def test_a_mode_of_security_is_no_text() -> None:
    with pytest.raises(TypeError, match=r"one of Security\.\w+, .*, not a str"):
        ServeSettings(
            hostname="mx.example.org",
            security=cast("Security", "starttls"),
            nonce=lambda: b"sixteen octets..",
        )
