"""What goes wrong between a client and its proxy, or a server and the proxy in front of it.

Knows how to say it on one line, without a secret. Must not know any proxy's protocol.

    Exception
        ProxyCodecError         there is no tunnel, and there will be none
            ProxyRefused        the proxy says no
            ProxyMalformed      the proxy says what its protocol does not have
            ProxyClosed         the proxy closes the connection instead of answering

What the caller gets wrong, before anything is sent, is a WireError.
"""

from smtp_proto.wire import escaped


class ProxyCodecError(Exception):
    """There is no tunnel, and there will be none: close the connection.

    `where` names the proxy and what it was asked for, `why` what happened and what to change. No
    credential is in them. `str()` gives both on one line that any terminal or log can take.
    """

    # Not calling super().__init__() leaves in `args` what each class was built with: with that
    # the errors can be copied and pickled, whatever a subclass adds.
    def __init__(self, where: str, why: str) -> None:
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return escaped(f"{self.where}: {self.why}")


class ProxyRefused(ProxyCodecError):
    """The proxy says no.

    `code` is its own word for the reason: METHOD, STATUS or REP of SOCKS5, CD of SOCKS4, the
    status code of HTTP.
    """

    def __init__(self, where: str, why: str, code: int) -> None:
        super().__init__(where, why)
        self.code = code


class ProxyMalformed(ProxyCodecError):
    """The proxy says what its protocol does not have: it may be none, or one of another kind."""


class ProxyClosed(ProxyCodecError):
    """The proxy closes the connection instead of answering."""
