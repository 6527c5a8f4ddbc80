"""Our clients of the three worlds, and a Postfix that takes their mail.

Knows what Postfix has been told to take and to refuse, and what it says about a session.
Must not know how octets get there.
"""

import itertools
from collections.abc import Callable, Mapping

import pytest

from smtp_adapters.cli import demo
from smtp_adapters.tls import ClientTLS
from smtp_proto.flow import (
    AuthenticationError,
    ContentRefused,
    Envelope,
    MessageTooLarge,
    PermanentError,
    RecipientsRefused,
    Security,
    SendResult,
)
from smtp_proto.wire import Reply
from tests.adapters.worlds import Client, World
from tests.interop.peers import (
    HOST,
    HOSTNAME,
    MESSAGE_SIZE_LIMIT,
    PASSWORD,
    POSTFIX,
    UNKNOWN_RECIPIENT,
    USER,
    Postfix,
    ServerCertificate,
    Visit,
    address,
)

pytestmark = pytest.mark.interop

SENDER = f"sender@{HOSTNAME}"
ELSEWHERE = "somebody@elsewhere.test"
CONTENT = b"Subject: hello\r\n\r\nGood morning.\r\n.\r\n..\r\n"
LINE = b"x" * 998 + b"\r\n"
LOGIN = {"auth": (USER, PASSWORD)}
LETTERS = {Security.NONE: "", Security.OPPORTUNISTIC: "S"}  # of RFC 3848; all other modes: SA
PORTS: Mapping[Security, Callable[[Postfix], int]] = {
    Security.NONE: lambda server: server.smtp_port,
    Security.OPPORTUNISTIC: lambda server: server.smtp_port,
    Security.STARTTLS: lambda server: server.submission_port,
    Security.IMPLICIT: lambda server: server.smtps_port,
}

Connect = Callable[..., Client]
Messages = dict[str, demo._Message]

modes = pytest.mark.parametrize(
    ("pipelining", "chunking"),
    [(True, True), (True, False), (False, True), (False, False)],
    ids=["chunked", "pipelined", "one by one, chunked", "one by one"],
)


@pytest.fixture(scope="module")
def messages() -> Messages:
    return demo._messages()


@pytest.fixture
def connect(
    world: World, postfix_server: Postfix, server_certificate: ServerCertificate
) -> Connect:
    """Make a client for the port that goes with a mode of security."""
    kind: Callable[..., Client] = world.client

    def make(security: Security = Security.NONE, **settings: object) -> Client:
        clear = security is Security.NONE
        tls = None if clear else ClientTLS(ca_file=server_certificate.ca)
        defaults = {"tls": tls, "security": security, "timeouts": 60.0}
        return kind(HOST, PORTS[security](postfix_server), **{**defaults, **settings})

    return make


def visit(server: Postfix, result: SendResult) -> Visit:
    """What Postfix says about the session in which a message went out, once it is over."""
    assert result.reply.code == 250
    return server.visit(result.reply.text.split()[-1])


# --- messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("security", PORTS, ids=lambda security: security.value)
async def test_the_messages_of_the_demo_arrive_as_they_were_sent(
    world: World,
    connect: Connect,
    postfix_server: Postfix,
    messages: Messages,
    security: Security,
) -> None:
    letters = LETTERS.get(security, "SA")
    mechanism = demo._ADAPTERS[world.name][0] if "A" in letters else None
    login = {**LOGIN, "mechanisms": [mechanism]} if mechanism else {}
    sent: dict[str, demo._Message] = {}
    async with connect(security, **login) as client:
        for message, prepared in messages.values():
            recipient = address("box" if prepared.envelope.ascii else "用户")
            sent[recipient] = demo._Message(message, prepared)
            sender = str(prepared.envelope.reverse_path)
            if message:
                result = await client.send_message(message, recipients=[recipient])
            else:
                result = await client.send(Envelope.of(sender, recipient), prepared.content)
            assert list(result.accepted) == [recipient]
    for recipient, (_, prepared) in sent.items():
        delivery = postfix_server.delivery(recipient)
        assert demo._compared(prepared.content, delivery.content) == demo._SAME
        assert delivery.sender == str(prepared.envelope.reverse_path)
        # RFC 6531 4.3
        name = "ESMTP" if prepared.envelope.ascii else "UTF8SMTP"
        assert delivery.protocol == name + letters
    over = visit(postfix_server, result)
    assert over.mechanism == mechanism
    assert over.commands["mail"] == over.commands["rcpt"] == str(len(messages))
    assert over.commands["quit"] == "1"


@modes
async def test_every_way_to_send_content(
    connect: Connect,
    postfix_server: Postfix,
    messages: Messages,
    pipelining: bool,
    chunking: bool,
) -> None:
    contents = {
        address(name.split()[0]): prepared.content
        for name, (_, prepared) in messages.items()
        if name != "5 MB attachment"
    }
    async with connect(pipelining=pipelining, chunking=chunking) as client:
        for recipient, content in contents.items():
            result = await client.send(Envelope.of(SENDER, recipient), content)
    for recipient, content in contents.items():
        assert demo._compared(content, postfix_server.delivery(recipient).content) == demo._SAME
    # RFC 3030 2: BDAT pays where it goes out with all the rest.
    verb = "bdat" if pipelining and chunking else "data"
    commands = visit(postfix_server, result).commands
    assert {"bdat", "data"} & commands.keys() == {verb}
    assert commands[verb] == str(len(contents))


async def test_content_in_pieces(connect: Connect, postfix_server: Postfix) -> None:
    recipient = address("pieces")
    async with connect(Security.STARTTLS, **LOGIN) as client:
        # Cut in the middle of CRLF, and between CRLF and a dot.
        pieces = [b"Subject: pieces\r\n\r", b"\n", b".", b"\r", b"\n", b".." * 50_000, b"\r\n.\r"]
        await client.send(Envelope.of(SENDER, recipient), [*pieces, b"\n"])
    arrived = postfix_server.delivery(recipient).content
    assert arrived.partition(b"\r\n\r\n")[2] == b".\r\n" + b".." * 50_000 + b"\r\n.\r\n"


async def test_many_messages_over_one_connection(connect: Connect, postfix_server: Postfix) -> None:
    count = 100
    contents = {address("many"): b"Subject: %d\r\n\r\n.%d\r\n" % (n, n) for n in range(count)}
    async with connect(Security.IMPLICIT, **LOGIN) as client:
        for recipient, content in contents.items():
            result = await client.send(Envelope.of(SENDER, recipient), content)
    assert {
        recipient: postfix_server.delivery(recipient).content for recipient in contents
    } == contents
    commands = visit(postfix_server, result).commands
    assert commands == {
        "ehlo": "1", "auth": "1", "mail": "100", "rcpt": "100", "bdat": "100", "quit": "1",
    }  # fmt: skip


async def test_a_bounce_has_no_sender(connect: Connect, postfix_server: Postfix) -> None:
    recipient = address("bounced")
    async with connect() as client:
        await client.send(Envelope.of("", recipient), CONTENT)
    assert postfix_server.delivery(recipient).sender == ""


# --- recipients --------------------------------------------------------------------------------


@modes
async def test_a_refused_recipient_does_not_stop_the_others(
    connect: Connect, postfix_server: Postfix, pipelining: bool, chunking: bool
) -> None:
    good = [address("first"), address("last")]
    recipients = [good[0], UNKNOWN_RECIPIENT, ELSEWHERE, good[1]]
    async with connect(pipelining=pipelining, chunking=chunking) as client:
        result = await client.send(Envelope.of(SENDER, recipients), CONTENT)
    assert list(result.accepted) == good
    assert codes(result.refused) == {UNKNOWN_RECIPIENT: 550, ELSEWHERE: 554}
    for recipient in good:
        assert postfix_server.delivery(recipient).content == CONTENT
    assert visit(postfix_server, result).commands["rcpt"] == "2/4"


@modes
async def test_all_recipients_refused_and_the_next_message_is_none_the_worse(
    connect: Connect, postfix_server: Postfix, pipelining: bool, chunking: bool
) -> None:
    recipient = address("next")
    async with connect(pipelining=pipelining, chunking=chunking) as client:
        for _ in range(2):
            with pytest.raises(RecipientsRefused) as caught:
                await client.send(Envelope.of(SENDER, [UNKNOWN_RECIPIENT, ELSEWHERE]), CONTENT)
            assert codes(caught.value.refused) == {UNKNOWN_RECIPIENT: 550, ELSEWHERE: 554}
        result = await client.send(Envelope.of(SENDER, recipient), CONTENT)
    assert postfix_server.delivery(recipient).content == CONTENT
    assert visit(postfix_server, result).commands["rcpt"] == "1/5"


async def test_who_has_logged_in_may_send_elsewhere(connect: Connect) -> None:
    async with connect(Security.STARTTLS, **LOGIN) as client:
        result = await client.send(Envelope.of(SENDER, ELSEWHERE), CONTENT)
    assert list(result.accepted) == [ELSEWHERE]


@pytest.mark.parametrize("pipelining", [True, False])
async def test_300_recipients(connect: Connect, postfix_server: Postfix, pipelining: bool) -> None:
    # One by one it is the same for each recipient: some will do.
    recipients = [address("one-of-many") for _ in range(300 if pipelining else 30)]
    everybody = [*recipients[:10], UNKNOWN_RECIPIENT, *recipients[10:]]
    async with connect(Security.STARTTLS, pipelining=pipelining, **LOGIN) as client:
        result = await client.send(Envelope.of(SENDER, everybody), CONTENT)
    assert list(result.accepted) == recipients
    assert list(result.refused) == [UNKNOWN_RECIPIENT]
    assert {postfix_server.delivery(recipient).content for recipient in recipients} == {CONTENT}


def codes(replies: Mapping[str, Reply]) -> dict[str, int]:
    return {recipient: reply.code for recipient, reply in replies.items()}


# --- limits ------------------------------------------------------------------------------------


async def test_a_message_above_its_size_is_not_even_begun(
    connect: Connect, postfix_server: Postfix
) -> None:
    recipient = address("small")
    content = LINE * (MESSAGE_SIZE_LIMIT // len(LINE) + 1)
    async with connect() as client:
        assert client.capabilities.size == MESSAGE_SIZE_LIMIT
        with pytest.raises(MessageTooLarge) as caught:
            await client.send(Envelope.of(SENDER, recipient), content)
        result = await client.send(Envelope.of(SENDER, recipient), CONTENT)
    assert caught.value.maximum == MESSAGE_SIZE_LIMIT
    assert postfix_server.delivery(recipient).content == CONTENT
    assert visit(postfix_server, result).commands["mail"] == "1"


async def test_a_message_of_unknown_size_is_refused_when_it_has_become_too_large(
    connect: Connect, postfix_server: Postfix
) -> None:
    recipient = address("small")
    piece = LINE * 1000
    pieces = itertools.repeat(piece, MESSAGE_SIZE_LIMIT // len(piece) + 1)
    async with connect() as client:
        with pytest.raises(ContentRefused, match=r"552 5\.3\.4"):
            await client.send(Envelope.of(SENDER, recipient), pieces)
        result = await client.send(Envelope.of(SENDER, recipient), CONTENT)
    assert postfix_server.delivery(recipient).content == CONTENT
    assert visit(postfix_server, result).commands["data"] == "0/1"


# --- login -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", sorted(POSTFIX.mechanisms))
async def test_every_mechanism(connect: Connect, postfix_server: Postfix, mechanism: str) -> None:
    async with connect(Security.STARTTLS, mechanisms=[mechanism], **LOGIN) as client:
        result = await client.send(Envelope.of(SENDER, ELSEWHERE), CONTENT)
    assert visit(postfix_server, result).mechanism == mechanism


async def test_in_clear_no_mechanism_shows_the_password(
    connect: Connect, postfix_server: Postfix
) -> None:
    with pytest.raises(AuthenticationError, match="no mechanism") as caught:
        await connect(mechanisms=["PLAIN", "LOGIN"], **LOGIN).open()
    assert {"PLAIN", "LOGIN"} <= set(caught.value.offered)
    assert caught.value.tried == ()
    for named, used in (({}, "SCRAM-SHA-256"), ({"mechanisms": ["CRAM-MD5"]}, "CRAM-MD5")):
        async with connect(**named, **LOGIN) as client:
            result = await client.send(Envelope.of(SENDER, ELSEWHERE), CONTENT)
        assert visit(postfix_server, result).mechanism == used


async def test_a_wrong_password(world: World, connect: Connect) -> None:
    mechanism = demo._ADAPTERS[world.name][0]
    client = connect(Security.STARTTLS, auth=(USER, "sesame"), mechanisms=[mechanism])
    with pytest.raises(AuthenticationError, match=r"535 5\.7\.8") as caught:
        await client.open()
    assert caught.value.tried == (mechanism,)
    assert "sesame" not in str(caught.value)
    assert not client.is_open


async def test_submission_without_a_login_takes_no_mail_for_elsewhere(connect: Connect) -> None:
    async with connect(Security.STARTTLS) as client:
        with pytest.raises(RecipientsRefused, match=r"554 5\.7\.1"):
            await client.send(Envelope.of(SENDER, ELSEWHERE), CONTENT)


# --- other commands ----------------------------------------------------------------------------


async def test_commands_of_one_line(connect: Connect, postfix_server: Postfix) -> None:
    recipient = address("after-all-that")
    async with connect(Security.STARTTLS, **LOGIN) as client:
        assert (await client.noop()).code == 250
        assert (await client.verify(f"{USER}@{HOSTNAME}")).code == 252
        with pytest.raises(PermanentError, match=r"550 5\.1\.1"):
            await client.verify(UNKNOWN_RECIPIENT)
        for ask in (client.expand, client.help):
            with pytest.raises(PermanentError, match=r"500 5\.5\.2"):
                await ask("list")
        assert (await client.reset()).code == 250
        result = await client.send(Envelope.of(SENDER, recipient), CONTENT)
        assert (await client.reset()).code == 250
    assert postfix_server.delivery(recipient).content == CONTENT
    commands = visit(postfix_server, result).commands
    assert (commands["noop"], commands["vrfy"], commands["rset"]) == ("1", "1/2", "2")
