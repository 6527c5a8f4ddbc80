"""Postfix's smtp-sink, which takes and drops any message.

Knows how to start and end it. Must not know what is sent to it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.interop.peers.running import HOST, HOSTNAME, free_ports, need, running


@contextmanager
def smtp_sink(hostname: str = HOSTNAME) -> Iterator[int]:
    """Start it, and end it. Gives its port."""
    need("smtp-sink")
    (port,) = free_ports(1)
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = ["smtp-sink", *user, "-h", hostname, f"{HOST}:{port}", "1000"]
    with running(command, (HOST, port)):
        yield port
