"""Our clients of the three worlds, and servers of others: each in each of its modes.

Knows what each server offers, takes and refuses. Must not know how a server is run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from smtp_adapters.tls import ClientTLS
from smtp_proto.engine import Protocol
from smtp_proto.flow import (
    AuthenticationError,
    CapabilityMissing,
    Envelope,
    RecipientsRefused,
    Security,
    Timeouts,
    TLSError,
)
from smtp_proto.wire import (
    MailParameters,
    Notify,
    OriginalRecipient,
    RcptParameters,
    Reply,
    Ret,
)
from tests.adapters.worlds import Client, World
from tests.interop.conftest import Peers
from tests.interop.peers import (
    AIOSMTPD,
    ELSEWHERE,
    HARAKA,
    HOST,
    HOSTNAME,
    MESSAGE_SIZE_LIMIT,
    OPENSMTPD,
    PASSWORD,
    SERVERS,
    UNKNOWN_RECIPIENT,
    USER,
    Mode,
    Server,
    ServerKind,
    address,
)

pytestmark = pytest.mark.interop

SENDER = f"sender@{HOSTNAME}"
# Some servers add the header fields that are missing: none is.
HEADER = (
    b"From: sender@mail.test\r\n"
    b"Date: Fri, 21 Nov 1997 09:55:06 -0600\r\n"
    b"Message-ID: <1@mail.test>\r\n"
)
CONTENT = HEADER + b"Subject: hello\r\n\r\n.\r\n..\r\n.x\r\nGood morning. \r\n\r\n.\r\n"
CONTENT_8BIT = HEADER + "\r\nGuten Morgen, 用户.\r\n".encode()
CONTENT_UTF8 = HEADER + "Subject: Grüße\r\n\r\nGuten Morgen.\r\n".encode()
CONTENT_300_KB = HEADER + b"\r\n" + (b"." * 76 + b"\r\n" + b"x" * 998 + b"\r\n") * 285
SHOW_THE_PASSWORD = {"PLAIN", "LOGIN"}


@dataclass(frozen=True)
class Case:
    kind: ServerKind
    mode: Mode

    def __str__(self) -> str:
        return f"{self.kind.name}-{self.mode.value}"

    @property
    def mechanisms(self) -> list[str]:
        """Those that our clients use."""
        if self.mode is Mode.CLEAR:
            return sorted(self.kind.mechanisms_in_clear - SHOW_THE_PASSWORD)
        return sorted(self.kind.mechanisms)

    @property
    def login(self) -> Mapping[str, object]:
        """The settings to log in with, if that can be done."""
        if not self.mechanisms:
            return {}
        # In clear, nothing weaker than SCRAM is used unless it is named.
        named = {"mechanisms": self.mechanisms} if self.mode is Mode.CLEAR else {}
        return {"auth": (USER, PASSWORD), **named}


CASES = [Case(kind, mode) for kind in SERVERS for mode in kind.modes]
LOGINS = [
    pytest.param(case, mechanism, id=f"{case}-{mechanism}")
    for case in CASES
    for mechanism in case.mechanisms
    if case.mode is not Mode.IMPLICIT
]

Connect = Callable[..., Client]

every_server = pytest.mark.parametrize("case", CASES, ids=str)
every_server_once = pytest.mark.parametrize(
    "case", [Case(kind, kind.modes[-1]) for kind in SERVERS], ids=str
)


@pytest.fixture
def server(case: Case, peers: Peers) -> Iterator[Server]:
    """The server of the case; if the test fails, its log is shown."""
    server = peers.server(case.kind)
    before = len(server.log())
    yield server
    print(server.log()[before:])  # noqa: T201


@pytest.fixture
def connect(case: Case, server: Server, world: World, peers: Peers) -> Connect:
    """Make a client that goes to the server in the mode of the case."""
    kind: Callable[..., Client] = world.client
    clear = case.mode is Mode.CLEAR

    def make(**settings: object) -> Client:
        defaults = {
            "security": Security(case.mode.value),
            "tls": None if clear else ClientTLS(ca_file=peers.certificate.ca),
            "protocol": Protocol.LMTP if case.kind.lmtp else Protocol.SMTP,
            "timeouts": 60.0,
            "port": server.ports[case.mode],
        }
        return kind(HOST, **{**defaults, **settings})

    return make


def codes(replies: Mapping[str, Reply]) -> dict[str, int]:
    return {recipient: reply.code for recipient, reply in replies.items()}


# --- sessions ----------------------------------------------------------------------------------


@every_server
async def test_what_the_server_offers(connect: Connect, case: Case) -> None:
    clear = case.mode is Mode.CLEAR
    async with connect() as client:
        capabilities = client.capabilities
        assert (await client.noop()).code == 250
        assert (client.tls is None) is clear
    offered = set(capabilities.keywords) - {"STARTTLS", "AUTH"}
    assert offered == case.kind.keywords_in(case.mode)
    assert capabilities.domain == HOSTNAME
    # RFC 3207 4.2: not again behind TLS.
    assert not capabilities.starttls or clear
    logins = case.kind.mechanisms_in_clear if clear else case.kind.mechanisms
    assert set(capabilities.auth) == logins | (case.kind.token_mechanisms if logins else set())
    if "SIZE" in case.kind.keywords:
        assert capabilities.size == MESSAGE_SIZE_LIMIT


@pytest.mark.parametrize(("case", "mechanism"), LOGINS)
async def test_every_mechanism(connect: Connect, mechanism: str) -> None:
    async with connect(auth=(USER, PASSWORD), mechanisms=[mechanism]) as client:
        result = await client.send(Envelope.of(SENDER, ELSEWHERE), CONTENT)
    assert list(result.accepted) == [ELSEWHERE]


@pytest.mark.parametrize(
    "case",
    [Case(kind, Mode.STARTTLS) for kind in SERVERS if kind.mechanisms],
    ids=lambda case: case.kind.name,
)
async def test_a_wrong_password(connect: Connect, case: Case) -> None:
    client = connect(auth=(USER, "sesame"))
    with pytest.raises(AuthenticationError) as caught:
        await client.open()
    assert set(caught.value.tried) <= case.kind.mechanisms
    assert len(caught.value.tried) == 1
    assert "sesame" not in str(caught.value)
    assert not client.is_open


@pytest.mark.parametrize("case", [Case(HARAKA, Mode.CLEAR)], ids=str)
async def test_in_clear_nothing_weaker_than_scram_is_used(connect: Connect, case: Case) -> None:
    with pytest.raises(AuthenticationError, match="no mechanism") as caught:
        await connect(auth=(USER, PASSWORD)).open()
    assert set(caught.value.offered) == case.kind.mechanisms_in_clear
    assert caught.value.tried == ()


# --- messages ----------------------------------------------------------------------------------


@every_server
async def test_messages(connect: Connect, case: Case, server: Server) -> None:
    sent = {address("box"): content for content in (CONTENT, CONTENT_8BIT, CONTENT_300_KB)}
    async with connect(**case.login) as client:
        for recipient, content in sent.items():
            result = await client.send(Envelope.of(SENDER, recipient), content)
            assert codes(result.accepted) == {recipient: 250}
    for recipient, content in sent.items():
        delivery = server.delivery(recipient)
        assert delivery.sender == SENDER
        assert delivery.content == content


@every_server_once
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "one by one"])
async def test_messages_without_chunks(
    connect: Connect, case: Case, server: Server, pipelining: bool
) -> None:
    sent = {address("box"): content for content in (CONTENT, CONTENT_300_KB)}
    async with connect(chunking=False, pipelining=pipelining, **case.login) as client:
        for recipient, content in sent.items():
            await client.send(Envelope.of(SENDER, recipient), content)
    for recipient, content in sent.items():
        assert server.delivery(recipient).content == content


@every_server
async def test_addresses_outside_of_ascii(connect: Connect, case: Case, server: Server) -> None:
    recipient = address("用户")
    envelope = Envelope.of("absender-ß@mail.test", recipient)
    async with connect(**case.login) as client:
        if "SMTPUTF8" in case.kind.keywords:
            await client.send(envelope, CONTENT_UTF8)
            delivery = server.delivery(recipient)
            assert (delivery.sender, delivery.content) == ("absender-ß@mail.test", CONTENT_UTF8)
        else:
            with pytest.raises(CapabilityMissing) as caught:
                await client.send(envelope, CONTENT_UTF8)
            assert caught.value.capability == "SMTPUTF8"


@every_server
async def test_notifications(connect: Connect, case: Case, server: Server) -> None:
    recipient = address("notified")
    envelope = Envelope.of(
        SENDER,
        recipient,
        mail_parameters=MailParameters(ret=Ret.HDRS, envid="one two+three"),
        rcpt_parameters=RcptParameters(
            notify=frozenset({Notify.FAILURE, Notify.DELAY}),
            orcpt=OriginalRecipient("rfc822", "first+last@mail.test"),
        ),
    )
    async with connect(**case.login) as client:
        if "DSN" in case.kind.keywords:
            await client.send(envelope, CONTENT)
            assert server.delivery(recipient).content == CONTENT
        else:
            with pytest.raises(CapabilityMissing) as caught:
                await client.send(envelope, CONTENT)
            assert caught.value.capability == "DSN"


@pytest.mark.parametrize("case", [case for case in CASES if case.kind.keywords_behind_tls], ids=str)
async def test_tls_on_all_the_way(connect: Connect, case: Case, server: Server) -> None:
    recipient = address("required")
    required = MailParameters(require_tls=True)
    envelope = Envelope.of(SENDER, recipient, mail_parameters=required)
    async with connect(**case.login) as client:
        if "REQUIRETLS" in case.kind.keywords_in(case.mode):
            await client.send(envelope, CONTENT)
            assert server.delivery(recipient).content == CONTENT
        else:
            with pytest.raises(CapabilityMissing) as caught:
                await client.send(envelope, CONTENT)
            assert caught.value.capability == "REQUIRETLS"


# --- recipients --------------------------------------------------------------------------------


@every_server
async def test_20_recipients_and_one_that_is_refused(
    connect: Connect, case: Case, server: Server
) -> None:
    good = [address("one-of-many") for _ in range(20)]
    everybody = [*good[:10], UNKNOWN_RECIPIENT, *good[10:]]
    async with connect(**case.login) as client:
        result = await client.send(Envelope.of(SENDER, everybody), CONTENT)
    assert codes(result.refused) == {UNKNOWN_RECIPIENT: 550}
    assert list(result.accepted) == good
    assert {server.delivery(recipient).content for recipient in good} == {CONTENT}


@every_server_once
async def test_all_recipients_refused_and_the_next_message_is_none_the_worse(
    connect: Connect, case: Case, server: Server
) -> None:
    recipient = address("next")
    async with connect(**case.login) as client:
        with pytest.raises(RecipientsRefused) as caught:
            await client.send(Envelope.of(SENDER, UNKNOWN_RECIPIENT), CONTENT)
        assert codes(caught.value.refused) == {UNKNOWN_RECIPIENT: 550}
        await client.send(Envelope.of(SENDER, recipient), CONTENT)
    assert server.delivery(recipient).content == CONTENT


# --- a mode that is not said -------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.mode is not Mode.CLEAR], ids=str)
async def test_auto_finds_tls(connect: Connect, case: Case) -> None:
    # A server with TLS from the first octet on waits, and there is no need to wait with it.
    probe = 0.01 if case.mode is Mode.IMPLICIT else 60.0
    timeouts = Timeouts(greeting_probe=probe)
    async with connect(security=Security.AUTO, timeouts=timeouts, **case.login) as client:
        assert client.tls is not None
        assert (await client.noop()).code == 250


@pytest.mark.parametrize("case", [Case(AIOSMTPD, Mode.CLEAR)], ids=str)
async def test_auto_where_there_is_no_tls(connect: Connect) -> None:
    with pytest.raises(TLSError):
        await connect(security=Security.AUTO).open()
    async with connect(security=Security.AUTO, allow_cleartext=True) as client:
        assert client.tls is None


# --- what is broken ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "security",
    [Security.STARTTLS, Security.IMPLICIT, Security.OPPORTUNISTIC, Security.AUTO],
    ids=lambda security: security.value,
)
@pytest.mark.parametrize("case", [Case(OPENSMTPD, Mode.STARTTLS)], ids=str)
async def test_a_server_that_breaks_off_the_handshake(
    connect: Connect, server: Server, security: Security
) -> None:
    """There is no way back to clear text."""
    mode = Mode.IMPLICIT if security is Security.IMPLICIT else Mode.STARTTLS
    client = connect(
        security=security,
        port=server.ports[mode],
        allow_cleartext=security is Security.AUTO,
    )
    with pytest.raises(TLSError):
        await client.open()
    assert not client.is_open
