"""What the clients of both asynchronous worlds share: what a caller can ask of them.

Knows which flow does it. Must not know any event loop, nor how a flow is carried out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from email.message import Message
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from smtp_adapters.client import Client, farewell
from smtp_adapters.client_settings import as_credentials
from smtp_adapters.content import NO_PIECES, AnyAsyncContent, AsyncPieces, async_source
from smtp_adapters.many import AnyAsyncPairs, AsyncOutcomes
from smtp_adapters.message import prepare
from smtp_proto.flow import (
    CheckCredentials,
    CloseSession,
    CredentialReport,
    Envelope,
    Flow,
    OpenSession,
    SendMail,
    SendMany,
    SendResult,
    Session,
    authenticate,
    simple,
    start_tls,
)
from smtp_proto.sasl import AnyCredentials
from smtp_proto.wire import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    Octets,
    RcptParameters,
    Reply,
)

P = ParamSpec("P")
T = TypeVar("T")


class AsyncClient(Client):
    """The methods of the SMTPClient of an asynchronous world."""

    @abstractmethod
    def _carry_out(self, flow: Flow[T], pieces: AsyncPieces = NO_PIECES) -> Awaitable[T]:
        """Carry out a flow over the stream."""

    @abstractmethod
    def _overheard(self) -> Octets | None:
        """What has come though nobody waited for it; b"": the stream has ended; None: nothing."""

    @abstractmethod
    def _close_stream(self) -> Awaitable[None]:
        """End the connection at once."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                await self.quit()
            elif isinstance(error, Exception) and self.is_open:
                with suppress(Exception):  # the error that is on its way says more
                    await self._run(farewell)
        finally:
            await self.close()

    async def open(self) -> None:
        """Connect, start TLS and log in, as the settings say.

        Raises ConnectError, TLSError, AuthenticationError, ReplyError, or what any call may raise:
        ConnectionLost, SMTPTimeout, ProtocolViolation.
        """
        with self._turn:
            self._require_closed()
            try:
                flow = OpenSession(self._settings, self._journal())
                self._begin(await self._carry_out(flow))
            except BaseException:
                await self._close()
                raise

    async def start_tls(self) -> None:
        """Start TLS now; for security MANUAL.

        Raises CapabilityMissing where the server does not offer it, which leaves the connection as
        it was; TLSError or what any call may raise.
        """
        await self._run(start_tls)

    async def authenticate(self, auth: tuple[str, str] | AnyCredentials | None = None) -> None:
        """Log in now, with `auth` or what the client was built with; for security MANUAL.

        Raises AuthenticationError. Where the server has said no, another login may be tried.
        """
        credentials = as_credentials(auth)
        await self._run(lambda session: authenticate(session, credentials))

    async def check_credentials(self) -> CredentialReport:
        """Connect, start TLS, log in and end the session; no mail is sent.

        Raises no SMTPError: the report has it, and is true where the login succeeded. Raises
        ValueError for security MANUAL, and LocalProtocolError where this client is open.
        """
        with self._turn:
            self._require_closed()
            flow = CheckCredentials(self._settings, self._journal())
            try:
                return await self._carry_out(flow)
            finally:
                await self._close()

    async def send_message(
        self,
        message: Message,
        *,
        sender: str | None = None,
        recipients: Sequence[str] | None = None,
        mail_parameters: MailParameters = NO_MAIL_PARAMETERS,
        rcpt_parameters: RcptParameters | Mapping[str, RcptParameters] = NO_RCPT_PARAMETERS,
    ) -> SendResult:
        """Send a message to those whom its header fields name, or to `recipients`.

        `mail_parameters`: what is asked for of the whole message; `rcpt_parameters`: for every
        recipient, or by recipient for those that are named.

        Raises what `send()` raises, and ValueError where the fields leave doubt about who is meant.
        """
        prepared = prepare(
            message,
            sender,
            recipients,
            mail_parameters=mail_parameters,
            rcpt_parameters=rcpt_parameters,
        )
        return await self.send(prepared.envelope, prepared.content)

    async def send(self, envelope: Envelope, content: AnyAsyncContent) -> SendResult:
        """Send content, header and all, to the recipients of an envelope.

        `content`: octets, a binary file, or an iterable of octets, which may be asynchronous;
        others have to wait while a file is read. Line ends are made CRLF.

        Raises SenderRefused, RecipientsRefused or ContentRefused: nothing was delivered;
        CapabilityMissing or MessageTooLarge: nothing was sent; DeliveryInDoubt: nobody knows. One
        refused recipient among others is no error: see the result. Of a file or an iterable, 64 KiB
        are read before anything is sent. What is wrong behind them, a NUL or octets above 127
        without 8BITMIME, closes the connection, and so does what it raises: nothing was delivered.
        """
        whole, size, pieces = async_source(content)
        return await self._run(
            lambda session: SendMail(session, envelope, whole, size=size), pieces
        )

    def send_many(self, pairs: AnyAsyncPairs) -> AsyncOutcomes:
        """Send many messages, each a pair for `send()` or a message for `send_message()`.

        Gives what became of each, in the order of `pairs`: what sending it alone would have
        returned, a SendResult, or raised, an SMTPError or a ValueError. A refusal does not stop the
        others. Where the server allows it, the next message goes out before the one in front of it
        is answered: so an outcome is told only when the next pair, if there is one, is there.

        Where the connection ends, each message that was taken has its outcome: DeliveryInDoubt
        where its content was sent whole and was not answered; where not, the error that ended the
        connection, and it was not delivered. Behind these outcomes that error is raised; what is
        left of `pairs` was not touched. What `pairs`, or some content, raises is raised likewise.

        Nothing else can be asked of the client while a message is under way. Who stops early, by
        `aclose()` of the iterator, `quit()` or the end of the block, closes the connection without
        waiting for answers: then nobody knows of messages that were taken and not told.
        """
        return AsyncOutcomes(self._send_many(), pairs, self._go_on, self._give_up, self._session_of)

    async def noop(self) -> Reply:
        """Ask whether the server is still there. Raises ReplyError if it refuses, as all these."""
        return await self._run(simple.noop)

    async def reset(self) -> Reply:
        """Have the server forget what it knows of a mail transaction."""
        return await self._run(simple.reset)

    async def verify(self, string: str) -> Reply:
        """Ask whether a user or mailbox exists. Servers often answer 252: it may be."""
        return await self._run(lambda session: simple.verify(session, string))

    async def expand(self, string: str) -> Reply:
        """Ask who is on a mailing list."""
        return await self._run(lambda session: simple.expand(session, string))

    async def help(self, topic: str = "") -> Reply:
        """Ask for help."""
        return await self._run(lambda session: simple.help_(session, topic))

    async def quit(self) -> None:
        """End the session in order, and close the connection. Does nothing if there is none."""
        if self._is_sending:
            await self._close()
        elif self.is_open:
            await self._run(CloseSession)

    async def close(self) -> None:
        """Close the connection at once, without a word. Does nothing if there is none."""
        await self._close()

    async def _run(
        self, flow_for: Callable[[Session], Flow[T]], pieces: AsyncPieces = NO_PIECES
    ) -> T:
        with self._turn:
            session = self._session()
            return await self._converse(session, flow_for(session), pieces)

    async def _go_on(self, many: SendMany, pieces: AsyncPieces) -> None:
        with self._turn:
            await self._converse(self._session_of(many), many.go_on(), pieces)

    async def _give_up(self, many: SendMany) -> None:
        if self._is_sending_by(many):
            await self.close()

    async def _converse(self, session: Session, flow: Flow[T], pieces: AsyncPieces) -> T:
        heard = self._overheard() if session.usable else None
        if heard is not None:
            session.hear(heard)
        try:
            return await self._carry_out(flow, pieces)
        finally:
            if not self._can_go_on(session):
                await self._close()

    async def _close(self) -> None:
        self._is_open = False
        await self._close_stream()


def with_parameters_of(
    make: Callable[P, AsyncClient],
) -> Callable[P, Awaitable[CredentialReport]]:
    """A function that checks credentials with the parameters of a client."""

    async def check_credentials(*arguments: P.args, **settings: P.kwargs) -> CredentialReport:
        """What `SMTPClient.check_credentials()` does, with the parameters of SMTPClient."""
        return await make(*arguments, **settings).check_credentials()

    return check_credentials
