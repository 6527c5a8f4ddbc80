"""Real clients, each told in the same way to deliver a message.

Knows how each of them is told. Must not know our own code, nor what is tested.
"""

import asyncio
import json
import os
import re
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from tests.interop.peers import HOST, PASSWORD, USER, PeerMissing, need, need_unpacked

_PATIENCE = 60.0  # seconds
_NODEMAILER = Path(__file__).with_name("nodemailer_client.js")


class ClientFailed(Exception):
    """The message was not delivered to all; the client's own words say why."""


@dataclass(frozen=True)
class Errand:
    """What is to be delivered, and how."""

    port: int
    sender: str
    recipients: Sequence[str]
    content: bytes
    security: str = "none"
    """Or "starttls", or "implicit"."""
    ca: Path | None = None
    mechanism: str | None = None
    """None: no login. With GSSAPI it is whoever the tickets are for."""
    password: str = PASSWORD

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


def swaks(errand: Errand) -> None:
    """Deliver it with swaks."""
    need("swaks")
    command = ["swaks", "--server", HOST, "--port", str(errand.port), "--helo", "swaks.test"]
    command += ["--from", errand.sender or "<>", "--to", ",".join(errand.recipients)]
    command += {
        "none": [],
        "starttls": ["-tls", "--tls-verify", "--tls-ca-path", str(errand.ca)],
        "implicit": ["-tlsc", "--tls-verify", "--tls-ca-path", str(errand.ca)],
    }[errand.security]
    if errand.mechanism is not None:
        command += ["--auth", errand.mechanism, "--auth-user", USER]
        command += ["--auth-password", errand.password]
    # What it would make of the content is not what was given to it: it gets it as RFC 5321 4.5.2
    # wants it on the wire, but for the last line end.
    stuffed = re.sub(rb"^\.", b"..", errand.content, flags=re.MULTILINE)
    end = b"." if stuffed.endswith(b"\r\n") else b"\r\n."
    command += ["--suppress-data", "--no-data-fixup", "--data", "-"]
    _run(command, stuffed + end)


def curl(errand: Errand) -> None:
    """Deliver it with curl."""
    need("curl")
    scheme = "smtps" if errand.security == "implicit" else "smtp"
    command = ["curl", "--silent", "--show-error", f"{scheme}://{HOST}:{errand.port}/curl.test"]
    command += ["--mail-from", errand.sender, "--mail-rcpt-allowfails", "--upload-file", "-"]
    for recipient in errand.recipients:
        command += ["--mail-rcpt", recipient]
    if errand.security != "none":
        command += ["--ssl-reqd", "--cacert", str(errand.ca)]
    if errand.mechanism is not None:
        # Without a name it may be that of the tickets.
        user = ":" if errand.mechanism == "GSSAPI" else f"{USER}:{errand.password}"
        command += ["--user", user]
        command += ["--login-options", f"AUTH={errand.mechanism}"]
    _run(command, errand.content)


def msmtp(errand: Errand) -> None:
    """Deliver it with msmtp."""
    need("msmtp")
    command = ["msmtp", "--file=/dev/null", f"--host={HOST}", f"--port={errand.port}"]
    command += [f"--from={errand.sender}", "--domain=msmtp.test"]
    # It would mend the header: "off" leaves it as it is.
    headers = ("set-from", "set-date", "set-msgid", "remove-bcc")
    command += [f"--{header}-header{'s' * (header == 'remove-bcc')}=off" for header in headers]
    if errand.security != "none":
        command += ["--tls=on", f"--tls-trust-file={errand.ca}"]
        command += [f"--tls-starttls={'on' if errand.security == 'starttls' else 'off'}"]
    if errand.mechanism is not None:
        command += [f"--auth={errand.mechanism.lower()}", f"--user={USER}"]
        command += [f"--passwordeval=echo {errand.password}"]
    _run([*command, "--", *errand.recipients], errand.content)


def nodemailer(errand: Errand) -> None:
    """Deliver it with nodemailer."""
    need("node")
    packages = need_unpacked("node", "node_modules", "nodemailer").parent
    settings = {
        "host": HOST,
        "port": errand.port,
        "name": "nodemailer.test",
        "secure": errand.security == "implicit",
        "requireTLS": errand.security == "starttls",
        "ignoreTLS": errand.security == "none",
        "ca": None if errand.security == "none" else str(errand.ca),
        "sender": errand.sender,
        "recipients": list(errand.recipients),
    }
    if errand.mechanism is not None:
        settings["auth"] = {"user": USER, "pass": errand.password}
        settings["authMethod"] = errand.mechanism
    command = ["node", str(_NODEMAILER), json.dumps(settings)]
    _run(command, errand.content, NODE_PATH=str(packages))


def _run(command: Sequence[str], content: bytes, **environment: str) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        input=content,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace")
        raise ClientFailed(f"{command[0]} ends with {done.returncode}: {said}")


def with_smtplib(errand: Errand) -> None:
    """Deliver it with the standard library."""
    options = [] if _addresses(errand).isascii() else ["SMTPUTF8"]
    try:
        with _smtplib(errand) as client:
            client.ehlo_or_helo_if_needed()
            if errand.mechanism is not None:
                client.user, client.password = USER, errand.password
                client.auth(errand.mechanism, _SMTPLIB_LOGINS[errand.mechanism](client))
            refused = client.sendmail(
                errand.sender, errand.recipients, errand.content, [*options, "BODY=8BITMIME"]
            )
    except smtplib.SMTPException as error:
        raise ClientFailed(str(error)) from error
    if refused:
        raise ClientFailed(str(refused))


_SMTPLIB_LOGINS: Mapping[str, Callable[[smtplib.SMTP], Callable[..., str]]] = {
    "PLAIN": lambda client: client.auth_plain,
    "LOGIN": lambda client: client.auth_login,
    "CRAM-MD5": lambda client: client.auth_cram_md5,
}


def _smtplib(errand: Errand) -> smtplib.SMTP:
    if errand.security == "implicit":
        return smtplib.SMTP_SSL(HOST, errand.port, timeout=_PATIENCE, context=errand.context)
    client = smtplib.SMTP(HOST, errand.port, timeout=_PATIENCE)
    if errand.security == "starttls":
        client.starttls(context=errand.context)
    return client


def with_aiosmtplib(errand: Errand) -> None:
    """Deliver it with aiosmtplib."""
    if find_spec("aiosmtplib") is None:
        raise PeerMissing("not installed: aiosmtplib")
    asyncio.run(_aiosmtplib(errand))


async def _aiosmtplib(errand: Errand) -> None:
    import aiosmtplib  # noqa: PLC0415 - where it is missing the other clients are not

    options = [] if _addresses(errand).isascii() else ["SMTPUTF8"]
    client = aiosmtplib.SMTP(
        hostname=HOST,
        port=errand.port,
        timeout=_PATIENCE,
        use_tls=errand.security == "implicit",
        start_tls=errand.security == "starttls",
        tls_context=None if errand.security == "none" else errand.context,
    )
    logins = {
        "PLAIN": client.auth_plain,
        "LOGIN": client.auth_login,
        "CRAM-MD5": client.auth_crammd5,
    }
    try:
        async with client:
            await client.ehlo()
            if errand.mechanism is not None:
                await logins[errand.mechanism](USER, errand.password)
            refused, _ = await client.sendmail(
                errand.sender,
                errand.recipients,
                errand.content,
                mail_options=[*options, "BODY=8BITMIME"],
            )
    except aiosmtplib.SMTPException as error:
        raise ClientFailed(str(error)) from error
    if refused:
        raise ClientFailed(str(refused))


def _addresses(errand: Errand) -> str:
    return "".join((errand.sender, *errand.recipients))


CLIENTS: Mapping[str, Callable[[Errand], None]] = MappingProxyType(
    {
        "swaks": swaks,
        "curl": curl,
        "msmtp": msmtp,
        "nodemailer": nodemailer,
        "smtplib": with_smtplib,
        "aiosmtplib": with_aiosmtplib,
    }
)
