"""Sends what lies in a folder, and puts each message where it belongs then.

    python examples/spool.py FOLDER smtp://mail.example.org

Each FILE.eml goes to `sent/` or `refused/`, or stays for the next time. One whose fate nobody knows
goes to `in-doubt/`: sent again, it might come twice, and only a person can decide that. Who was
refused while others were not is named, and not tried again.

For a server without TLS, as catch_mail.py is one, the URL is smtp+none://127.0.0.1:2525.

Knows what each outcome means for a message. Must not know how one is sent.
"""

import sys
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from smtp_adapters.socket import SMTPClient
from smtp_proto import (
    CapabilityMissing,
    DeliveryInDoubt,
    MessageTooLarge,
    PermanentError,
    SMTPError,
)


def place_of(error: SMTPError | ValueError) -> str:
    """Name the folder for a message that was not sent; "": it stays where it is."""
    match error:
        case DeliveryInDoubt():
            return "in-doubt"
        case PermanentError() | CapabilityMissing() | MessageTooLarge():
            return "refused"
        case ValueError():  # nobody's address, or no address at all
            return "refused"
        case _:
            return ""


def send(client: SMTPClient, file: Path) -> str:
    """Send a message. Return the folder where it belongs now."""
    message = message_from_bytes(file.read_bytes(), _class=EmailMessage, policy=SMTP)
    try:
        result = client.send_message(message)
    except (SMTPError, ValueError) as error:
        print(f"{file.name}: {error}")
        return place_of(error)
    for recipient, reply in result.refused.items():
        print(f"{file.name}: {recipient} was refused: {reply}")
    return "sent"


def send_all(client: SMTPClient, folder: Path) -> None:
    """Send what is there, over one session as long as it lasts. Raises SMTPError without one."""
    for file in sorted(folder.glob("*.eml")):
        if not client.is_open:
            client.open()
        place = send(client, file)
        if place:
            (folder / place).mkdir(exist_ok=True)
            file.rename(folder / place / file.name)
    client.quit()


if __name__ == "__main__":
    try:
        send_all(SMTPClient.from_url(sys.argv[2]), Path(sys.argv[1]))
    except (SMTPError, ValueError) as error:
        sys.exit(str(error))
