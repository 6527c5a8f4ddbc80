"""The keys: what each is called, what it may be, and what it says.

Knows how a value is written as text; this one table makes the parsers, the options of the command
line and the page of the docs. Must not know where a text comes from, nor what is done with a value.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from math import isfinite
from pathlib import Path
from types import MappingProxyType

from smtp_adapters.tls import ClientTLS, server_name
from smtp_proto.engine import Protocol
from smtp_proto.flow import Security
from smtp_proto.proxy import Proxy, parse_proxy
from smtp_proto.sasl.mechanism import MECHANISM_NAME
from smtp_proto.wire import validate_domain

NONE = "none"
FROM_ENVIRONMENT = "env"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be, and how it is written."""

    metavar: str
    """One word for it, which the command line shows."""
    expected: str
    """The same for errors and the docs."""
    read: Callable[[str], object]
    """Text to value. Raises ValueError, or OSError for a file; neither's words are shown."""
    types: tuple[type, ...] = (str,)
    """What TOML may have in place of text."""
    several: bool = False
    """Whether there may be more than one: with commas between them, or as an array."""
    secret: bool = False
    """Whether it is shown to nobody."""
    path: bool = False
    """Whether it is the name of a file, which is relative to the folder of a TOML file."""
    quoted: bool = False
    """Whether an error may show it: what may have a secret in it by mistake, it may not."""


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that can be set."""

    name: str
    """With its group: "tls.ca_file". In TOML the group is a table."""
    kind: Kind
    says: str
    default: str = ""
    """For people: what holds where it is not given."""
    slot: str = ""
    """Of the keys that have the same slot, one can be given."""

    @property
    def group(self) -> str:
        """What stands before the dot; "" where there is none."""
        return self.name.rpartition(".")[0]

    @property
    def short(self) -> str:
        """The name without its group, where that may be left out."""
        return self.name.removeprefix("tls.").removeprefix("auth.")

    @property
    def place(self) -> str:
        """What can be given once: its own name, or what it shares with others."""
        return self.slot or self.name


def variable(name: str) -> str:
    """The name of a key as the environment has it, without a prefix."""
    return name.upper().replace(".", "_")


def option(name: str) -> str:
    """The name of a key as the command line has it."""
    return "--" + name.replace(".", "-").replace("_", "-")


# --- Kinds -----------------------------------------------------------------------------------


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("NUL")
    text.encode()  # a lone surrogate is no text: UnicodeEncodeError is a ValueError
    return text


def _host(text: str) -> str:
    server_name(text)
    return text.removeprefix("[").removesuffix("]")


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        # Longer ones take their time, and none is as long.
        if not (text.isascii() and text.isdigit() and lowest <= int(text[:20]) <= highest):
            raise ValueError("not a number in the range")
        return int(text)

    return read


_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def _seconds(text: str) -> float | None:
    if text == NONE:
        return None
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if not (seconds > 0 and isfinite(seconds)):
        raise ValueError("not seconds above 0")
    return seconds


def _one_of(values: Mapping[str, object]) -> Callable[[str], object]:
    def read(text: str) -> object:
        if text.lower() not in values:
            raise ValueError("not one of those")
        return values[text.lower()]

    return read


def _mechanism(text: str) -> str:
    if not MECHANISM_NAME.fullmatch(text.upper()):
        raise ValueError("not a mechanism's name")
    return text.upper()


def _fingerprint(text: str) -> str:
    ClientTLS(fingerprints=(text,))
    return text


def _ciphers(text: str) -> str:
    ClientTLS(ciphers=_text(text))
    return text


def _proxy(text: str) -> Proxy | str:
    return text if text in (NONE, FROM_ENVIRONMENT) else parse_proxy(text)


_ADDRESS = re.compile(r"\[([^\[\]]*)\](?::([0-9]{1,5}))?|([0-9.]+):([0-9]{1,5})|([^\[\]]+)")
_any_port = _number(0, 65_535)


def _local_address(text: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("not an address")
    address = ip_address(match[1] or match[3] or match[5])
    return str(address), int(_any_port(match[2] or match[4] or "0"))


def _file(text: str) -> Path:
    path = Path(_text(text))
    # A pipe, as a shell puts in place of "<(...)", can be opened once.
    if not stat.S_ISFIFO(path.stat().st_mode):
        path.open("rb").close()
    return path


def _directory(text: str) -> Path:
    os.scandir(_text(text)).close()
    return Path(text)


def _path(text: str) -> Path:
    return Path(_text(text))


def _trace(text: str) -> Path:
    if text == "-":
        raise ValueError("nobody means a file of this name")
    return _path(text)


_SECURITIES = {security.value: security for security in Security}
_PROTOCOLS = {protocol.value.lower(): protocol for protocol in Protocol}
_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_YES = ("yes", "true", "on", "1")
_NO = ("no", "false", "off", "0")
_FLAGS = {text: text in _YES for text in _YES + _NO}


def _named(values: Mapping[str, object]) -> Kind:
    return Kind("|".join(values), f"one of {', '.join(values)}", _one_of(values))


TEXT = Kind("TEXT", "text", _text)
SECRET = Kind("TEXT", "text without NUL", _text, secret=True)
URL = Kind("URL", "a URL", _text, secret=True)
VARIABLE = Kind("VARIABLE", "the name of an environment variable", _text)
HOST = Kind("HOST", "a host's name or its IP address", _host)
DOMAIN = Kind("NAME", "a domain in ASCII or an address literal", validate_domain)
PORT = Kind("NUMBER", "a number from 1 to 65535", _number(1, 65_535), (int,))
COUNT = Kind("NUMBER", "a number from 1 on", _number(1, 2**63 - 1), (int,))
SECONDS = Kind("SECONDS", f'seconds above 0, or "{NONE}"', _seconds, (int, float, str))
FLAG = Kind("yes|no", "yes or no (in TOML true or false)", _one_of(_FLAGS), (bool,))
SECURITY = _named(_SECURITIES)
PROTOCOL = _named(_PROTOCOLS)
VERSION = _named(_VERSIONS)
FILE = Kind("FILE", "a file that can be read", _file, path=True, quoted=True)
SECRET_FILE = Kind("FILE", "a file that can be read", _file, path=True)
DIRECTORY = Kind("FOLDER", "a folder that can be read", _directory, path=True, quoted=True)
PATH = Kind("PATH", "a path", _path, path=True)
TRACE = Kind("PATH", "the path of a file, or /dev/stderr", _trace, path=True)
LOCAL_ADDRESS = Kind(
    "ADDRESS", "an IP address, as 192.0.2.1, 192.0.2.1:0 or [::1]:0", _local_address
)
CIPHERS = Kind("LIST", "ciphers that are there, as `openssl ciphers` takes them", _ciphers)
MECHANISMS = Kind(
    "NAME,...", "names of SASL mechanisms, as SCRAM-SHA-256,PLAIN", _mechanism, several=True
)
FINGERPRINTS = Kind(
    "HEX,...",
    "SHA-256 in 64 hexadecimal digits, with or without colons",
    _fingerprint,
    several=True,
)
PROXIES = Kind(
    "URL,...",
    f'URLs of proxies, as socks5h://user:password@host:1080; or "{FROM_ENVIRONMENT}", or "{NONE}"',
    _proxy,
    several=True,
)

# --- The table -------------------------------------------------------------------------------

_LOGIN = "login"


def _secret(name: str, what: str, slot: str) -> tuple[Key, ...]:
    return (
        Key(name, SECRET, what, slot=slot),
        Key(f"{name}_file", SECRET_FILE, f"{what}: the first line of this file", slot=slot),
        Key(f"{name}_env", VARIABLE, f"{what}: the value of this environment variable", slot=slot),
    )


def _tls(group: str) -> tuple[Key, ...]:
    key_password = f"{group}.key_password"
    return (
        Key(f"{group}.ca_file", FILE, "trust these certificates (PEM) instead of the system's"),
        Key(
            f"{group}.ca_directory",
            DIRECTORY,
            "trust those in this folder, under the names that `openssl rehash` gives them",
        ),
        Key(f"{group}.certificate_file", FILE, "the client's own certificate chain (PEM)"),
        Key(f"{group}.key_file", FILE, "its private key, if that is in another file"),
        *_secret(key_password, "the password of that key", key_password),
        Key(f"{group}.server_hostname", HOST, "send and verify this name instead of the host's"),
        Key(
            f"{group}.fingerprints", FINGERPRINTS, "the only certificates to take, by their SHA-256"
        ),
        Key(f"{group}.minimum_version", VERSION, "refuse older versions of TLS", "1.2"),
        Key(f"{group}.maximum_version", VERSION, "refuse newer ones"),
        Key(f"{group}.ciphers", CIPHERS, "the only ciphers to use with TLS 1.2"),
    )


_TIMEOUTS = {
    "connect": ("one address of the host", "60"),
    "proxy": ("one proxy, to the tunnel that it makes", "60"),
    "tls": ("one handshake", "60"),
    "greeting_probe": ("with security auto: until a silent server is taken for one of TLS", "5"),
    "greeting": ("the server's first words", "300"),
    "command": ("EHLO, STARTTLS, RSET and the like, each", "300"),
    "mail": ("MAIL", "300"),
    "rcpt": ("RCPT", "300"),
    "data": ("DATA", "120"),
    "block": ("one block of the content", "180"),
    "final": ("the reply to the whole content", "600"),
    "auth": ("each step of a login", "300"),
    "quit": ("QUIT", "10"),
    "last_words": ("one look at what the server said before a send failed", "1"),
    "total": ("a whole operation: open, send, close", "none"),
}

_LIMITS = {
    "reply_line": ("octets in one line of a reply", "4096"),
    "reply_lines": ("lines in one reply", "1000"),
    "reply_octets": ("octets in one reply", "262144"),
    "pipelined_commands": ("commands in one flight", "100"),
    "pipelined_octets": ("octets of content in one flight of several messages", "262144"),
    "auth_line": ("octets in one line of a login", "12290"),
    "auth_rounds": ("challenges in one login", "10"),
}

KEYS: tuple[Key, ...] = (
    Key("url", URL, "what a URL can say; not inside a URL"),
    Key("host", HOST, "the server", slot="host"),
    Key("socket", PATH, "the server's Unix socket, in place of host and port", slot="host"),
    Key("port", PORT, "the server's port", "the one that goes with security"),
    Key("security", SECURITY, "when TLS begins", "auto; on a Unix socket none"),
    Key("protocol", PROTOCOL, "SMTP, or LMTP for local delivery", "smtp"),
    Key("local_hostname", DOMAIN, "what to call this host in EHLO", "its address"),
    Key("local_address", LOCAL_ADDRESS, "where the connection is to begin", "anywhere"),
    Key(
        "proxy",
        PROXIES,
        "the way to the server, the nearest proxy first; "
        f'"{FROM_ENVIRONMENT}": what the environment names',
        "none",
    ),
    Key(
        "mechanisms",
        MECHANISMS,
        "the only mechanisms of AUTH that may be used",
        "all that are safe",
    ),
    Key(
        "allow_cleartext",
        FLAG,
        "with security auto: go on without TLS where the server has none",
        "no",
    ),
    Key("allow_cleartext_auth", FLAG, "let the password go over a connection without TLS", "no"),
    Key("pipelining", FLAG, "send several commands at once where the server can take them", "yes"),
    Key("chunking", FLAG, "send content in chunks where the server can take them", "yes"),
    Key("trace", TRACE, "write the dialogue, without secrets, to this file"),
    Key("timeout", SECONDS, "for each step, and for all of them together", "see below"),
    Key("auth.user", TEXT, "log in under this name"),
    *_secret("auth.password", "the password", _LOGIN),
    *_secret("auth.token", "an access token of OAuth 2.0", _LOGIN),
    Key("auth.external", FLAG, "log in as whom the server knows, by a certificate say", "no"),
    Key("auth.authorization_identity", TEXT, "act as this user", "the one who logs in"),
    *_tls("tls"),
    *_tls("proxy_tls"),
    *(Key(f"timeouts.{name}", SECONDS, *says) for name, says in _TIMEOUTS.items()),
    *(Key(f"limits.{name}", COUNT, *says) for name, says in _LIMITS.items()),
)

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "": "The connection",
        "auth": "Login",
        "tls": "TLS",
        "proxy_tls": "TLS with an https proxy",
        "timeouts": "Seconds for each phase",
        "limits": "The most that is taken from the server",
    }
)

BY_NAME: Mapping[str, Key] = MappingProxyType(
    {key.name: key for key in KEYS} | {key.short: key for key in KEYS}
)
"""Each key by its name, and by its short one."""
