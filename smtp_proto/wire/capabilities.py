"""What a server offers: the reply to EHLO. RFC 5321 4.1.1.1

Knows the keywords of the extensions and the parameters that they announce.
Must not know which of them anybody wants to use.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from smtp_proto.wire.errors import WireError, refuse_text, shown
from smtp_proto.wire.reply import Reply

# ehlo-keyword and ehlo-param.  RFC 5321 4.1.1.1
_KEYWORD = re.compile(r"[A-Z0-9][A-Z0-9-]*")
_PARAMETER = re.compile(r"[!-~]+")
_EHLO_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)((?: +[!-~]+)*) *")

# What ends the first word of the reply, the server's name.
_BLANK = re.compile(r"[ \t]")

# Some servers still say "AUTH=PLAIN LOGIN", for clients older than RFC 2554.
_OLD_AUTH = re.compile(r"\AAUTH=", re.IGNORECASE)

# Not even a server that tests its clients has that many to offer.
_MOST_MECHANISMS = 100
# sasl-mech.  RFC 4422 3.1
_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}")

# RFC 1870 3: up to 20 digits; more are not worth the time that reading them takes.
_SIZE = re.compile(r"[0-9]{1,20}")
# A limit of zero is not allowed.  RFC 9422 4
_LIMIT = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)=([1-9][0-9]{0,19})")


class _Offered:
    """An attribute of `Capabilities`: whether the server offers the extension."""

    def __init__(self, keyword: str) -> None:
        self._keyword = keyword

    def __get__(self, capabilities: "Capabilities", owner: type["Capabilities"]) -> bool:
        return self._keyword in capabilities.keywords


@dataclass(frozen=True, slots=True)
class Capabilities:
    """A server's name and the extensions that it offers.

    `domain` is the name that the server gives itself: nothing has verified it. `keywords` maps
    each keyword, in capitals, to its parameters as they were sent, in the order of the reply.
    Raises WireError for what cannot be written as a reply.

    Forget it when TLS begins: what a server said before is hearsay. RFC 3207 4.2
    """

    domain: str
    keywords: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]], hash=False
    )
    size: int | None = field(init=False, repr=False, compare=False)
    """The largest message that the server takes, in octets. RFC 1870 3

    None: the extension is not offered. 0: it is, without a limit or without a legible one.
    """

    def __post_init__(self) -> None:
        for keyword, parameters in self.keywords.items():
            if not _KEYWORD.fullmatch(keyword):
                raise WireError("ehlo-keyword", f"not capitals, digits, hyphens: {shown(keyword)}")
            refuse_text(keyword, parameters)
            for parameter in parameters:
                if not _PARAMETER.fullmatch(parameter):
                    raise WireError("ehlo-param", f"blank or not ASCII: {shown(parameter)}")
        if _BLANK.search(self.domain):
            raise WireError("Domain", f"a blank in it: {shown(self.domain)}")
        Reply(250, self.lines())  # refuses what is left to refuse
        object.__setattr__(self, "keywords", MappingProxyType(dict(self.keywords)))
        object.__setattr__(self, "size", _read_size(self.keywords.get("SIZE")))

    @classmethod
    def from_reply(cls, reply: Reply) -> "Capabilities":
        """Read the reply to EHLO or LHLO. Never raises: a line that is no ehlo-line is left out.

        The parameters of a keyword that comes twice are put together, in order.
        """
        keywords: dict[str, list[str]] = {}
        for line in reply.lines[1:]:
            match = _EHLO_LINE.fullmatch(_OLD_AUTH.sub("AUTH ", line))
            if match:
                # RFC 5321 4.1.1.1: keywords are recognized in any case.
                keywords.setdefault(match[1].upper(), []).extend(match[2].split())
        return cls(_domain(reply), {keyword: tuple(keywords[keyword]) for keyword in keywords})

    @classmethod
    def from_helo(cls, reply: Reply) -> "Capabilities":
        """Read the reply to HELO: a name, and no extension. Never raises."""
        return cls(_domain(reply))

    def lines(self) -> tuple[str, ...]:
        """Return the lines of the reply that offers this: `Reply(250, capabilities.lines())`."""
        return (
            self.domain,
            *(" ".join((keyword, *parameters)) for keyword, parameters in self.keywords.items()),
        )

    def __contains__(self, keyword: str) -> bool:
        """Whether the extension is offered: `"PIPELINING" in capabilities`, in any case."""
        return keyword.upper() in self.keywords

    pipelining = _Offered("PIPELINING")  # RFC 2920
    eight_bit_mime = _Offered("8BITMIME")  # RFC 6152
    binary_mime = _Offered("BINARYMIME")  # RFC 3030
    chunking = _Offered("CHUNKING")  # RFC 3030
    smtputf8 = _Offered("SMTPUTF8")  # RFC 6531
    starttls = _Offered("STARTTLS")  # RFC 3207
    dsn = _Offered("DSN")  # RFC 3461
    enhanced_status_codes = _Offered("ENHANCEDSTATUSCODES")  # RFC 2034
    require_tls = _Offered("REQUIRETLS")  # RFC 8689
    vrfy = _Offered("VRFY")  # RFC 5321 3.5.2
    expn = _Offered("EXPN")  # RFC 5321 3.5.2
    help = _Offered("HELP")  # RFC 5321 4.1.1.8

    @property
    def auth(self) -> tuple[str, ...]:
        """The names of the SASL mechanisms, in capitals, each once, 100 at most. RFC 4954 3"""
        names = (name.upper() for name in self.keywords.get("AUTH", ()))
        mechanisms = dict.fromkeys(name for name in names if _MECHANISM.fullmatch(name))
        return tuple(mechanisms)[:_MOST_MECHANISMS]

    @property
    def limits(self) -> Mapping[str, int]:
        """The server's limits by name, in capitals: MAILMAX, RCPTMAX, RCPTDOMAINMAX. RFC 9422

        Other names are kept, other values than positive numbers are not.
        """
        matches = map(_LIMIT.fullmatch, self.keywords.get("LIMITS", ()))
        return {match[1].upper(): int(match[2]) for match in matches if match}


def _read_size(parameters: tuple[str, ...] | None) -> int | None:
    if parameters is None:
        return None
    return int(parameters[0]) if parameters and _SIZE.fullmatch(parameters[0]) else 0


NO_CAPABILITIES = Capabilities("")
"""What is known of a server that has not been greeted yet: no name, no extension."""


def _domain(reply: Reply) -> str:
    """Return the server's name, the first word of its reply to EHLO or HELO."""
    return _BLANK.split(reply.lines[0], maxsplit=1)[0]
