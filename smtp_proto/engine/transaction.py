"""One mail transaction at the server, and its content as it comes in. RFC 5321 3.3

Knows how many octets the content may have and where it ends.
Must not know the state of the session, nor what becomes of the message.
"""

from smtp_proto.wire import Body, ContentDecoder, Mail, ReceiveBuffer


class Transaction:
    """A mail transaction, or none yet.

    It is replaced whole when it ends, however it ends: nothing of one gets into the next.
    """

    __slots__ = ("_maximum", "_octets", "binary", "recipients", "smtputf8")

    def __init__(self, maximum: int, mail: Mail | None = None) -> None:
        """Begin with `mail`. `maximum`: octets of content; 0: no limit."""
        self._maximum = maximum
        self._octets = 0
        self.recipients = 0  # accepted
        self.binary = mail is not None and mail.parameters.body is Body.BINARY_MIME
        self.smtputf8 = mail is not None and mail.parameters.smtputf8

    def add(self, octets: int) -> int:
        """Count octets of content; return how many of them are within the limit."""
        room = self._maximum - self._octets if self._maximum else octets
        self._octets += octets
        return max(0, min(octets, room))

    @property
    def too_large(self) -> bool:
        """Whether the content has more octets than it may. RFC 1870 6.3"""
        return 0 < self._maximum < self._octets


class Content:
    """The content behind DATA. It is read to its end, whatever is thought of it."""

    __slots__ = ("_decoder", "_transaction")

    def __init__(self, decoder: ContentDecoder, transaction: Transaction) -> None:
        self._decoder = decoder
        self._transaction = transaction

    def read(self, buffer: ReceiveBuffer) -> bytes:
        """Take what is there; return what is content of it, and within the limit."""
        content = self._decoder.decode(buffer)
        return content[: self._transaction.add(len(content))]

    @property
    def ended(self) -> bool:
        """Whether the end was read."""
        return self._decoder.ended

    @property
    def malformed(self) -> str | None:
        """What is wrong with its line ends, if they are to be right."""
        return self._decoder.malformed
