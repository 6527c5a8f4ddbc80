"""SMTP over blocking sockets: a client for one thread at a time, a server with a thread for each.

Here are their names; each file of this package says what it knows.
"""

from smtp_adapters.socket.client import SMTPClient, check_credentials
from smtp_adapters.socket.server import SMTPServer

__all__ = ["SMTPClient", "SMTPServer", "check_credentials"]
