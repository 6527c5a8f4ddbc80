"""The challenge in a reply to AUTH. RFC 4954 4

Knows base64. Must not know any mechanism.
"""

import base64
import binascii

from smtp_proto.wire import Reply, WireError


def challenge(reply: Reply) -> bytes:
    """Return the challenge in a reply 334, decoded.

    Raises WireError if it is not base64: cancel with `AuthResponse(None)` then.
    """
    if len(reply.lines) != 1:
        raise WireError("challenge", "more than one line")
    # Some servers write one more blank where the challenge is empty.
    text = reply.lines[0].strip(" ")
    try:
        # Nothing may be ignored.
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise WireError("challenge", "not base64") from None
