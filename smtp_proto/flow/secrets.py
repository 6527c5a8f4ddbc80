"""What must not be found in anything that is told of a login.

Knows the secrets of one exchange. Must not know how they are found in a text, nor to whom it is
told.
"""

from __future__ import annotations

from contextlib import suppress

from smtp_proto.sasl import AnyCredentials, Credentials, SASLError, TokenCredentials
from smtp_proto.sasl.saslprep import saslprep
from smtp_proto.wire import Reply
from smtp_proto.wire.secrets import Secrets

_KNOWN = 100  # replies that need not be looked through again


class LoginSecrets(Secrets):
    """The secrets of an exchange; its responses are among them: give each to `add_octets()`."""

    __slots__ = ("_known",)

    def __init__(self, credentials: AnyCredentials | None) -> None:
        super().__init__()
        self._known: dict[Reply, Reply] = {}  # a server says the same again and again
        match credentials:
            case Credentials(password=secret):
                self._add_both(secret)
                with suppress(SASLError):  # then it is not sent so
                    self._add_both(saslprep(secret))
            case TokenCredentials(token=secret):
                self._add_both(secret)
            case _:
                pass

    def _add_both(self, secret: str) -> None:
        self.add(secret)
        self.add_octets(secret.encode(errors="surrogatepass"))

    def add(self, text: str) -> None:
        """Hide `text` from now on, also in replies that are known."""
        self._known.clear()
        super().add(text)

    def reply_without(self, reply: Reply) -> Reply:
        """The reply, without its text if that quotes a secret."""
        without = self._known.get(reply)
        if without is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            without = self._known[reply] = self._look_through(reply)
        return without

    def _look_through(self, reply: Reply) -> Reply:
        if self.hidden_in(reply.text) == reply.text:
            return reply
        status = reply.enhanced_status
        return Reply.build(reply.code, "***", status=None if status is None else str(status))
