"""Takes all mail and shows it, for whoever writes a program that sends some.

    python examples/catch_mail.py 2525
    smtp-proto send message.eml --server 127.0.0.1:2525 --security none

Knows what to do with a message. Must not trust it: whoever wrote it may have put into it what a
terminal obeys.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from smtp_adapters.asyncio import SMTPServer
from smtp_proto import Envelope, Handler, ServerSession


class Catcher(Handler):
    """Shows the envelope, the subject and the text of each message."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.show = show

    async def on_message(self, session: ServerSession, envelope: Envelope, content: bytes) -> None:
        """Show a message; what is not plain ASCII is shown as escapes."""
        message = message_from_bytes(content, _class=EmailMessage, policy=default)
        text = message.get_body(("plain",))
        self.show(f"{envelope.reverse_path} -> {', '.join(envelope.recipients)}")
        self.show(f"  Subject: {str(message['Subject'])!a}")
        for line in str(text.get_content()).splitlines() if text else ():
            self.show(f"  {line!a}")


async def main(port: int, show: Callable[[str], None]) -> None:
    """Serve on loopback until it is cancelled."""
    async with SMTPServer(Catcher(show), port=port) as server:
        show(f"listening on 127.0.0.1:{server.port}")
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]), print))
