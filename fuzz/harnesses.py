"""What must hold whatever comes in. Each harness is a function of octets: it returns, or raises.

The contract: only documented exceptions come out, input that is cut anywhere gives what it gives
whole, no more is kept than the limits allow, and what was written is read again as it was.

Knows the names of the harnesses. Must not know who makes the octets up, nor what is tried first.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from fuzz.engine import client, server
from fuzz.flow import open_session, send_mail, serve
from fuzz.wire import commands, content_in, content_out, replies, values

Harness: TypeAlias = Callable[[bytes], None]

HARNESSES: Mapping[str, Harness] = {
    "replies": replies,
    "commands": commands,
    "values": values,
    "content_in": content_in,
    "content_out": content_out,
    "client": client,
    "server": server,
    "open_session": open_session,
    "send_mail": send_mail,
    "serve": serve,
}
"""Whatever such a function raises is a finding."""
