"""`smtp-proto demo`: real messages, through every adapter, into a server of our own.

Knows which messages are hard, and that they must arrive as they were sent.
Must not know how any adapter works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from hmac import compare_digest
from os import urandom
from queue import SimpleQueue
from time import perf_counter
from typing import NamedTuple, TypeAlias, TypeVar

import trio
import trustme

from smtp_adapters import asyncio as in_asyncio
from smtp_adapters import socket as in_sockets
from smtp_adapters import trio as in_trio
from smtp_adapters.cli.text import Exit, complain, explained, progress, say, show_table
from smtp_adapters.client import Client
from smtp_adapters.message import PreparedMessage, prepare, prepare_octets
from smtp_adapters.tls import ClientTLS, server_context
from smtp_proto.flow.envelope import Envelope
from smtp_proto.flow.errors import SMTPError
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.security import Security
from smtp_proto.sasl.mechanism import Credentials

ClientT = TypeVar("ClientT", bound=Client)
Row: TypeAlias = tuple[str, ...]

_HOST = "127.0.0.1"
_USER, _PASSWORD = "demo", urandom(16).hex()
_ATTACHMENT = 5_242_880  # octets
_SECURITIES = (Security.IMPLICIT, Security.STARTTLS)
_COLUMNS = ("adapter", "security", "message", "octets", "login", "TLS", "ms", "compared")
_SAME = "same"


def run() -> Exit:
    """Deliver everything in every way and show the table; REFUSED if anything went wrong."""
    messages = _messages()
    inbox = _Inbox()
    authority = trustme.CA()
    trusted = ClientTLS(ca_data=authority.cert_pem.bytes().decode())
    rows: list[Row] = []
    expected = len(_ADAPTERS) * len(_SECURITIES) * len(messages)
    with ExitStack() as stack:
        ports = {
            security: stack.enter_context(_server(inbox, security, authority)).port
            for security in _SECURITIES
        }
        for security, port in ports.items():
            say(f"server on {_HOST} port {port}: TLS {security.value}, login required")
        advance = stack.enter_context(progress("Delivering", expected, "messages"))

        def note(row: Row) -> None:
            rows.append(row)
            advance(1)

        for adapter, (mechanism, deliver) in _ADAPTERS.items():
            for security, port in ports.items():
                leg = _Leg(adapter, security, port, mechanism, trusted, messages, inbox, note)
                try:
                    deliver(leg)
                except SMTPError as error:
                    complain(f"{adapter}, {security.value}: {explained(error)}")
    show_table(_COLUMNS, rows)
    same = sum(row[-1] == _SAME for row in rows)
    say(f"{same} of {expected} deliveries arrived octet by octet as they were sent")
    return Exit.OK if same == expected else Exit.REFUSED


# --- What is sent -----------------------------------------------------------------------------


class _Message(NamedTuple):
    """What is sent, either as the standard library has it or in octets, and what that means."""

    message: EmailMessage | None
    prepared: PreparedMessage


def _messages() -> dict[str, _Message]:
    """Each message with the name that the table shows."""
    made = {
        "plain": _message("Hello"),
        "5 MB attachment": _with_attachment(),
        "UTF-8 and 8 bit": _in_utf8(),
    }
    raw = {
        "lines of dots": b".\r\n..\r\n.x\r\n\r\n.\r\nx.\r\n....\r\n.\r\n",
        "no newline at end": b"The last line\r\nhas no end",
        "empty body": b"",
    }
    header = b"From: ada@example.org\r\nTo: bob@example.net\r\nSubject: By hand\r\n\r\n"
    return {name: _Message(message, prepare(message)) for name, message in made.items()} | {
        name: _Message(None, prepare_octets(header + body)) for name, body in raw.items()
    }


def _message(subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ada <ada@example.org>"
    message["To"] = "Bob <bob@example.net>, carol@example.net"
    message["Bcc"] = "dan@example.net"
    message["Subject"] = subject
    message.set_content("Good morning.\n")
    return message


def _with_attachment() -> EmailMessage:
    message = _message("A large attachment")
    message.add_alternative("<p>Good morning.</p>\n", subtype="html")
    message.add_attachment(
        urandom(_ATTACHMENT), maintype="application", subtype="octet-stream", filename="random.bin"
    )
    # Chosen here: otherwise each time that the message is written it gets other boundaries.
    for number, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"part-{number}-{urandom(8).hex()}")
    return message


def _in_utf8() -> EmailMessage:
    message = _message("Grüße aus Łódź")
    message.replace_header("From", "Zoë <zoë@bücher.example>")
    message.replace_header("To", "用户 <用户@例子.example>")
    message.set_content("Жили-были.\n", cte="8bit")
    return message


# --- Where it arrives -------------------------------------------------------------------------


class _Inbox(Handler):
    """Has one user, and keeps what arrives until it is compared."""

    def __init__(self) -> None:
        self.contents: SimpleQueue[bytes] = SimpleQueue()

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool:
        password = self.find_password(session, credentials.authentication_identity)
        return password is not None and compare_digest(password, credentials.password)

    def find_password(
        self,
        session: ServerSession,  # noqa: ARG002 - the same for every client
        authentication_identity: str,
    ) -> str | None:
        return _PASSWORD if authentication_identity == _USER else None

    def on_message(
        self,
        session: ServerSession,  # noqa: ARG002 - the same for every client
        envelope: Envelope,  # noqa: ARG002 - and for every recipient
        content: bytes,
    ) -> None:
        self.contents.put(content)


def _server(inbox: Handler, security: Security, authority: trustme.CA) -> in_sockets.SMTPServer:
    with authority.issue_cert(_HOST).private_key_and_cert_chain_pem.tempfile() as file:
        context = server_context(file)
    return in_sockets.SMTPServer(
        inbox,
        _HOST,
        security=security,
        tls=context,
        mechanisms=[mechanism for mechanism, _ in _ADAPTERS.values()],
        require_auth=True,
    )


# --- How it gets there ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Leg:
    """All messages over one connection of one adapter."""

    adapter: str
    security: Security
    port: int
    mechanism: str
    trusted: ClientTLS
    messages: Mapping[str, _Message]
    inbox: _Inbox
    note: Callable[[Row], None]

    def client(self, kind: Callable[..., ClientT]) -> ClientT:
        """The adapter's client, not open yet."""
        return kind(
            _HOST,
            self.port,
            security=self.security,
            tls=self.trusted,
            auth=(_USER, _PASSWORD),
            mechanisms=(self.mechanism,),
        )

    @contextmanager
    def delivery(self, client: Client, name: str, sent: bytes) -> Generator[None]:
        """Take the time, and then compare what has arrived with what was sent."""
        start = perf_counter()
        yield
        milliseconds = (perf_counter() - start) * 1000
        self.note(
            (
                self.adapter,
                self.security.value,
                name,
                str(len(sent)),
                self.mechanism,
                client.tls.version.removeprefix("TLSv") if client.tls else "none",
                f"{milliseconds:.1f}",
                _compared(sent, self.inbox.contents.get_nowait()),
            )
        )


def _compared(sent: bytes, arrived: bytes) -> str:
    # RFC 5321 2.3.8: in SMTP each line has an end, the last one too.
    if not sent.endswith(b"\r\n"):
        sent += b"\r\n"
    if arrived == sent:
        return _SAME
    pairs = enumerate(zip(sent, arrived, strict=False))
    offset = next((at for at, (a, b) in pairs if a != b), min(len(sent), len(arrived)))
    return f"differs at {offset}"


def _in_a_thread(leg: _Leg) -> None:
    with leg.client(in_sockets.SMTPClient) as client:
        for name, (message, prepared) in leg.messages.items():
            with leg.delivery(client, name, prepared.content):
                if message:
                    client.send_message(message)
                else:
                    client.send(prepared.envelope, prepared.content)


async def _in_a_task(leg: _Leg, client: in_asyncio.SMTPClient | in_trio.SMTPClient) -> None:
    async with client:
        for name, (message, prepared) in leg.messages.items():
            with leg.delivery(client, name, prepared.content):
                if message:
                    await client.send_message(message)
                else:
                    await client.send(prepared.envelope, prepared.content)


def _in_a_task_of_asyncio(leg: _Leg) -> None:
    asyncio.run(_in_a_task(leg, leg.client(in_asyncio.SMTPClient)))


def _in_a_task_of_trio(leg: _Leg) -> None:
    trio.run(_in_a_task, leg, leg.client(in_trio.SMTPClient))


_ADAPTERS: Mapping[str, tuple[str, Callable[[_Leg], None]]] = {
    "socket": ("PLAIN", _in_a_thread),
    "asyncio": ("LOGIN", _in_a_task_of_asyncio),
    "trio": ("CRAM-MD5", _in_a_task_of_trio),
}
"""Each with the mechanism that it logs in with, and how it delivers."""
