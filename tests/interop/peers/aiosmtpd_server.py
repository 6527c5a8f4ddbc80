"""A server made of aiosmtpd.

    aiosmtpd_server.py FOLDER RELAYS CLEAR-PORT STARTTLS-PORT IMPLICIT-PORT

Knows aiosmtpd, the one user and the folder. Must not know what is sent to it.
"""

import asyncio
import itertools
import ssl
import sys
from functools import partial
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

_HOST = "127.0.0.1"
_LIMIT = 50 * 1024 * 1024


class _Box:
    """Takes mail for anybody at mail.test but nosuch; for all others if it relays, or by AUTH."""

    def __init__(self, folder: Path, relays: bool) -> None:
        self._relays = relays
        self._folder = folder / "mail" / "box" / "new"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nosuch@"):
            return "550 5.1.1 no such user"
        known = session.authenticated or self._relays
        if not address.endswith("@mail.test") and not known:
            return "554 5.7.1 relay access denied"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert envelope.original_content is not None
        for recipient in envelope.rcpt_tos:
            trace = f"Return-Path: <{envelope.mail_from}>\r\nDelivered-To: {recipient}\r\n"
            name = str(next(self._numbers))
            unfinished = self._folder.parent / name
            unfinished.write_bytes(trace.encode() + envelope.original_content)
            unfinished.rename(self._folder / name)
        return "250 2.0.0 OK"


def _authenticate(*given: object) -> AuthResult:
    data = given[-1]
    assert isinstance(data, LoginPassword)
    right = (data.login, data.password) == (b"alice", b"secret")
    return AuthResult(success=right, handled=right)


async def _main(folder: Path, relays: bool, clear: int, starttls: int, implicit: int) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "tls" / "chain.pem", folder / "tls" / "key.pem")
    server = partial(
        SMTP,
        _Box(folder, relays),
        enable_SMTPUTF8=True,
        data_size_limit=_LIMIT,
        hostname="mail.test",
    )
    login = {"authenticator": _authenticate, "auth_required": False}
    loop = asyncio.get_running_loop()
    await loop.create_server(partial(server, loop=loop), _HOST, clear)
    await loop.create_server(partial(server, loop=loop, tls_context=tls, **login), _HOST, starttls)
    await loop.create_server(
        partial(server, loop=loop, auth_require_tls=False, **login), _HOST, implicit, ssl=tls
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2] == "yes", *map(int, sys.argv[3:])))
