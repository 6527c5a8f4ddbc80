"""SMTP over trio: a client for one task at a time, a server with a task for each connection.

Here are their names; each file of this package says what it knows.
"""

from smtp_adapters.trio.client import SMTPClient, check_credentials
from smtp_adapters.trio.server import SMTPServer

__all__ = ["SMTPClient", "SMTPServer", "check_credentials"]
