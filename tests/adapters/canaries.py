"""The secrets that tests log in with, all in one place, and how to find one where none may be.

Knows in which forms a secret can be shown. Must not know who is looked at.
"""

import json
import traceback
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote

PASSWORD = "correct-horse-4f2d"
WRONG_PASSWORD = "battery-staple-81c"
UNICODE_PASSWORD = "pässwörd-7e30"
TOKEN = "ya29.canary-of-a-token-c5"
WRONG_TOKEN = "ya29.stolen-token-0b7"
PROXY_PASSWORD = "who-goes-there-93a"

SECRETS = (PASSWORD, WRONG_PASSWORD, UNICODE_PASSWORD, TOKEN, WRONG_TOKEN, PROXY_PASSWORD)


def forms(secret: str) -> Iterator[str]:
    """The secret as text, as octets, in hex, in a URL, in JSON, and within any base64."""
    octets = secret.encode()
    yield secret
    yield repr(octets)[2:-1]
    yield octets.hex()
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    for offset in range(3):
        encoded = b64encode(b"\0" * offset + octets).decode()
        # The first and the last letters depend on what is beside it.
        yield encoded[4 if offset else 0 : -4]


_FORMS = {form: secret for secret in SECRETS for form in forms(secret)}


def found_in(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Each secret that can be read in a text, with that text."""
    return [(secret, text) for text in texts for form, secret in _FORMS.items() if form in text]


def told_by(error: BaseException) -> list[str]:
    """All that an exception can show, its traceback included."""
    return [*traceback.format_exception(error), *texts_of(error)]


def texts_of(error: BaseException) -> list[str]:
    """What an exception says and has, with its causes and contexts."""
    told: list[str] = []
    chain: list[BaseException | None] = [error]
    while chain:
        each = chain.pop()
        if each is not None:
            told += [str(each), repr(each), repr(each.args), repr(vars(each))]
            chain += [each.__cause__, each.__context__]
    return told
