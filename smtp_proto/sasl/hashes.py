"""The hash functions that mechanisms are made of, and whether this Python has them.

Knows that a build may lack some: MD5, where security rules forbid it. Must not know what the
hashes are used for.
"""

import hashlib
import hmac
from functools import partial

from smtp_proto.sasl.errors import SASLError

# It is the mechanism that asks for MD5: a build that forbids it for security may still have it.
_new_md5 = partial(hashlib.new, "md5", usedforsecurity=False)


def is_available(hash_: str) -> bool:
    """Whether there is a hash function of this name, which is that in `hashlib`."""
    try:
        hashlib.new(hash_, usedforsecurity=False)
    except ValueError:
        return False
    return True


def require_hash(hash_: str) -> None:
    """For mechanisms that are built on a hash. Raises SASLError if it is not there."""
    if not is_available(hash_):
        raise SASLError(f"it needs {hash_.upper()}, which this Python does not have")


def md5(octets: bytes) -> bytes:
    """Return the digest."""
    return _new_md5(octets).digest()


def hmac_md5(key: bytes, octets: bytes) -> bytes:
    """Return the keyed digest. RFC 2104 2"""
    return hmac.new(key, octets, _new_md5).digest()
