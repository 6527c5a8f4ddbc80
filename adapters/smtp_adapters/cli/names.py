"""What the library's messages call things, in the words of whoever types a command.

Knows the parameters of the library, and the options of each command that stand for them. Must not
know what goes wrong, nor where it is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from smtp_adapters.settings.keys import KEYS, option
from smtp_proto.flow.security import Security


class Names:
    """The names that things have in one command: call it with a message of the library."""

    def __init__(
        self, words: Mapping[str, str], behind_a_proxy: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.words = MappingProxyType({**words})
        self.behind_a_proxy = MappingProxyType({**words, **behind_a_proxy})
        """The same where a message is about TLS with a proxy."""
        # What is longer goes before what is in it.
        longest_first = sorted(self.behind_a_proxy, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_whole, longest_first)))

    def __call__(self, text: str) -> str:
        """The message, with the names of options."""
        words = self.behind_a_proxy if "proxy_tls" in text else self.words
        return self._pattern.sub(lambda found: words.get(found[0], found[0]), text)


def _whole(words: str) -> str:
    """A pattern for the words alone: not in a path, an option, or the key of a settings file."""
    before = r"(?<![\w./-])" if words[0].isalpha() else ""
    after = r"(?![\w/)-]|\.\w)" if words[-1].isalpha() else ""
    return before + re.escape(words) + after


# --- The tables ----------------------------------------------------------------------------------

_SECURITY = {
    words: f"--security {security.value}"
    for security in Security
    for words in (
        f"Security.{security.name}",
        f"security {security.value!r}",
        f"security {security.name}",
    )
}

_OPTIONS = {
    key.short: option(key.short)
    for key in KEYS
    if "_" in key.short and "." not in key.short and not key.kind.secret
}
_OF_PROXIES = {
    key.name.removeprefix("proxy_tls."): option(key.name)
    for key in KEYS
    if key.group == "proxy_tls" and not key.kind.secret
}

CLIENT = Names(
    {
        **_SECURITY,
        **_OPTIONS,
        "allow_cleartext=True": "--allow-cleartext",
        "auth.authorization_identity": "--authorization-identity",
        "auth.user": "--user",
        "choose 'starttls', or give no credentials": (
            "choose --security starttls, or leave --user out"
        ),
        "fingerprints take": "--fingerprints takes",
        "for a URL there is SMTPClient.from_url()": "for a URL there is --url",
        "for a Unix socket give its Path": "for a Unix socket there is --socket",
        "give its key_password": "give --key-password-file or --key-password-env",
        "give password, password_file, password_env or token": (
            "give --password-file or --password-env, or else --token-file or --token-env"
        ),
        "name the server, or its Unix socket by socket": (
            "name the server with --server, or its Unix socket with --socket"
        ),
        "is key_password right": "is its password right",
        "key_password": "--key-password-file",
        "mechanisms:": "--mechanisms:",
        "or its fingerprint": "or its SHA-256 as --fingerprints",
        "own_mechanisms brings more of them": "the README lists those that are",
        "prefix: it is empty": "--env: it is empty",
        "proxy_tls is": "--proxy-tls-ca-file and the like are",
        "proxy_tls says": "--proxy-tls-ca-file says",
        "proxy_tls:": "TLS with the proxy:",
        "say which security": "say which --security",
        "set server_hostname to one": "give one as --server-hostname",
        "set server_hostname": "give the name that it has as --server-hostname",
        "the policy does not allow it": "--mechanisms does not name it",
        "the policy does not name it": "--mechanisms does not name it",
        "tls:": "TLS:",
        "unix_path": "--socket",
        "wants IMPLICIT)": "wants --security implicit)",
        "where the policy allows it by name": "where --mechanisms names it",
    },
    {
        **_OF_PROXIES,
        "fingerprints take": "--proxy-tls-fingerprints takes",
        "give its key_password": (
            "give --proxy-tls-key-password-file or --proxy-tls-key-password-env"
        ),
        "key_password": "--proxy-tls-key-password-file",
        "or its fingerprint": "or its SHA-256 as --proxy-tls-fingerprints",
        "set server_hostname to one": "give one as --proxy-tls-server-hostname",
        "set server_hostname": "give the name that it has as --proxy-tls-server-hostname",
    },
)
"""For `send` and `check-credentials`."""

PROBE = Names(
    {
        "ca_file": "--ca-file",
        "for a URL there is SMTPClient.from_url()": "leave the rest of a URL out",
        "for a Unix socket give its Path": "`probe` takes no Unix socket",
        "give it as certificate_file": "`probe` has none",
        "host: Domain": "HOST",
        "local_hostname: Domain": "--local-hostname",
        ", or its fingerprint": "",
        ", or set server_hostname to one": "",
        ", or set server_hostname": "",
        ": if this port begins in clear text, use Security.STARTTLS": "",
        "timeouts:": "--timeout:",
        "wants IMPLICIT)": "wants TLS from the start)",
    }
)

SERVE = Names(
    {
        **_SECURITY,
        "allow_cleartext_auth=True": "--allow-cleartext-auth",
        "certificate_file": "--tls-cert",
        "Domain:": "--hostname:",
        "give its key_password": "`serve` takes none that is, so decrypt it with `openssl pkey`",
        "give tls": "give --tls-cert",
        "key_file": "--tls-key",
        "require_auth": "--user",
    }
)
