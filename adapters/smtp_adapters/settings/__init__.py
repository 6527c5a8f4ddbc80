"""A client's settings as text: in a URL, a TOML file, the environment, on the command line.

Knows one table of keys, and gives what SMTPClient is built with. Must not know any world.

    settings = from_url("smtp+starttls://ada@mail.example.org?password_env=MAIL_PASSWORD")
    client = make_client(SMTPClient, settings)
"""

from smtp_adapters.settings.arguments import client_arguments, make_client
from smtp_adapters.settings.given import Settings, SettingsError
from smtp_adapters.settings.keys import KEYS, Key
from smtp_adapters.settings.sources import from_env, from_toml
from smtp_adapters.settings.text import describe
from smtp_adapters.settings.url import canonical_url, from_url

__all__ = [
    "KEYS",
    "Key",
    "Settings",
    "SettingsError",
    "canonical_url",
    "client_arguments",
    "describe",
    "from_env",
    "from_toml",
    "from_url",
    "make_client",
]
