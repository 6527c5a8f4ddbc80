"""The secrets that harnesses give away, and how to find them again.

Knows in which forms a secret can be written, and where an error can hide one. Must not know who has
let it out.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator

PASSWORD = "pass word"
TOKEN = "t0ken.of~nobody"
PROXY_PASSWORD = "pr0xy-pass"

SECRETS = (PASSWORD, TOKEN, PROXY_PASSWORD)

_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
# As errors and repr() have them, also one in the other, and cut at the end of what is shown.
_ESCAPE = re.compile(
    rb"\\+(?:([tnrvf]|x0[9a-d])|x[0-9a-f]{0,2}|u[0-9a-f]{0,4}|U[0-9a-f]{0,8}|[ab0\"'])"
)


def forms(secret: str) -> tuple[bytes, bytes]:
    """Return a secret as it is, and in base64."""
    return secret.encode(), b64encode(secret.encode())


def said(octets: bytes, secrets: Iterable[str] = SECRETS) -> list[str]:
    """Return those secrets that are in `octets`, also inside of base64 at the end of a line."""
    lines = octets.split(b"\r\n")
    text = b"\n".join([octets, *(_decoded(word) for line in lines for word in line.split())])
    return [secret for secret in secrets if any(form in text for form in forms(secret))]


def _decoded(word: bytes) -> bytes:
    """What the letters of base64 in a word are, as far as they go."""
    letters = _NO_BASE64.sub(b"", word)
    return b64decode(letters[: len(letters) - (len(letters) % 4 == 1)] + b"==")


def assert_hidden(errors: Iterable[object], heard: bytes) -> None:
    """No error, and nothing that hangs on it, has a secret that was not `heard` from the peer."""
    known = {*said(heard), *said(_without_escapes(heard))}
    for text in map(_text, errors):
        found = [secret for secret in said(_without_escapes(text)) if secret not in known]
        assert not found, f"{found} in {text!r}"


def _without_escapes(text: bytes) -> bytes:
    r"""Each escape is no letter, or the end of a word. "\x9cGF" has no "c" in it."""
    return _ESCAPE.sub(lambda escape: b"\n" if escape[1] else b"\xff", text)


def with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that hang on it, as a traceback shows them."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _text(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return f"{value}\n{value!r}".encode("utf-8", "backslashreplace")
