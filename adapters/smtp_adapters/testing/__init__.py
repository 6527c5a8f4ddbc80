"""What tests need of the outside world: real connections, and asyncio's and trio's own streams.

What needs neither is in `smtp_proto.testing`. `trio_stream` is not loaded here: trio may not be
installed.
"""

from smtp_adapters.testing.check import check_transport
from smtp_adapters.testing.streams import asyncio_streams

__all__ = ["asyncio_streams", "check_transport"]
