"""HTTP proxies: CONNECT, and what comes before the tunnel. RFC 9110 9.3.6, RFC 9112

Knows the request and the header of its answer. Must not know the rest of HTTP: the answer to
CONNECT has no body when it makes a tunnel, and is not read any further when it does not.
"""

import base64
import re
from dataclasses import dataclass, field

from smtp_proto.proxy.codec import (
    Exchange,
    Link,
    ProxyCodec,
    Steps,
    encode_credential,
    require_both,
)
from smtp_proto.proxy.endpoint import Endpoint
from smtp_proto.wire import WireError, shown
from smtp_proto.wire.secrets import Secrets

# All headers of an answer together, those of interim answers, too.
_LONGEST_HEADER = 32_768  # octets: real ones have some hundreds
_MOST_LINES = 100

# status-line = HTTP-version SP status-code SP [ reason-phrase ]; the last blank is often left out.
# RFC 9112 4
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: .*)?")
# field-line = field-name ":" OWS field-value OWS, or the rest of a folded one.
# RFC 9112 5, 5.2
_FIELD_LINE = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*:|[ \t]).*")

_SWITCHING_PROTOCOLS = 101
_CREDENTIALS_WANTED = (401, 407)
_CREDENTIALS = "; give it a user name and a password"
_OTHER_CREDENTIALS = "; it does not accept the user name and the password, or not by Basic"
_UNREACHABLE = "; it cannot reach the destination"
_NO_TUNNELS = "; it does not make tunnels"
_ADVICE = {
    403: "; its rules have to allow the destination and its port",
    405: _NO_TUNNELS,
    501: _NO_TUNNELS,
}


@dataclass(frozen=True, slots=True)
class HttpConnect:
    """An HTTP proxy that makes tunnels. RFC 9110 9.3.6

    With `tls` one speaks TLS with the proxy itself, before anything else (an HTTPS proxy).
    `username`, which has no colon, and `password` go out with the request (RFC 7617 2), in clear
    without `tls`. Raises WireError for what cannot be a host, a port or one of these.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", Endpoint.parse(self.host, self.port).name)
        _encode_credentials(self.username, self.password)

    @property
    def url(self) -> str:
        """The proxy without its credentials, for messages."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{Endpoint.parse(self.host, self.port)}"

    @property
    def resolves_names(self) -> bool:
        """Whether `codec()` takes a name. It does."""
        return True

    def codec(self, destination_host: str, destination_port: int) -> ProxyCodec:
        """Return the codec for one connection. Raises WireError for what is no destination."""
        destination = Endpoint.parse(destination_host, destination_port)
        credentials = _encode_credentials(self.username, self.password)
        link = Link(f"{self.url}, asked for {destination}")
        return Exchange(link, _converse(link, destination, credentials))


def _converse(link: Link, destination: Endpoint, credentials: bytes) -> Steps[None]:
    """Send the request, and read headers up to the one that is final. RFC 9110 15.2"""
    link.send(_encode_request(destination, credentials))
    yield from link.expect(b"HTTP/1.", "HTTP/1")
    left = _LONGEST_HEADER
    status = None
    for _ in range(_MOST_LINES):
        line = yield from link.take_line(left, f"its header has more than {_LONGEST_HEADER} octets")
        left -= len(line) + 2
        if status is None:
            status = _read_status_line(link, line, credentials)
        elif line:
            # Lengths and codings mean nothing here: behind a 2xx the tunnel begins.
            # RFC 9110 9.3.6
            _check_field_line(link, line, credentials)
        elif status >= 200:
            return
        else:
            status = None
    raise link.malformed(f"its header has more than {_MOST_LINES} lines")


# CONNECT host:port HTTP/1.1


def _encode_request(destination: Endpoint, credentials: bytes) -> bytes:
    lines = [f"CONNECT {destination} HTTP/1.1", f"Host: {destination}"]  # RFC 9112 3.2.3, 3.2
    octets = "".join(f"{line}\r\n" for line in lines).encode("ascii")
    if credentials:
        octets += b"Proxy-Authorization: Basic " + credentials + b"\r\n"  # RFC 9110 11.7.2
    return octets + b"\r\n"


def _encode_credentials(username: str | None, password: str | None) -> bytes:
    """Return the credentials of Basic; b"" if there are none. RFC 7617 2"""
    require_both(username, password)
    if username is None or password is None:
        return b""
    if ":" in username:
        raise WireError("user name", "HTTP proxies take none with a colon")
    user_pass = (
        encode_credential("user name", username) + b":" + encode_credential("password", password)
    )
    return base64.b64encode(user_pass)


# status-line, *( field-line CRLF ) CRLF


def _read_status_line(link: Link, line: bytes, credentials: bytes) -> int:
    """Return the status code of an interim answer, or of one that makes a tunnel."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise link.malformed(f'no status line: "{_quoted(line, credentials)}"')
    status = int(match[1])
    if status // 100 in (1, 2) and status != _SWITCHING_PROTOCOLS:
        return status
    # The body, where there is one, is somebody's page: it is not read.
    raise link.refused(f"{_quoted(line, credentials)}{_advice(status, credentials)}", status)


def _advice(status: int, credentials: bytes) -> str:
    if status in _CREDENTIALS_WANTED:
        return _OTHER_CREDENTIALS if credentials else _CREDENTIALS
    if status >= 500:
        return _ADVICE.get(status, _UNREACHABLE)
    return _ADVICE.get(status, "")


def _check_field_line(link: Link, line: bytes, credentials: bytes) -> None:
    """Refuse what is no header field: it may be the tunnel, and nobody would notice."""
    if not _FIELD_LINE.fullmatch(line):
        raise link.malformed(f'no header field: "{_quoted(line, credentials)}"')


def _quoted(line: bytes, credentials: bytes) -> str:
    """Return a line for a message; only "***" if it gives the credentials back."""
    secrets = Secrets()
    secrets.add(credentials.decode("ascii"))
    _, _, password = base64.b64decode(credentials).partition(b":")
    secrets.add(password.decode())
    secrets.add_octets(password)
    return shown(secrets.hidden_in(line.decode(errors="backslashreplace")))
