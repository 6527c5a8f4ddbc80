"""Lists the keys of a client's settings: `python -m tools.settings_page [--check]`.

Knows Markdown, and how a key is called in each source. Must not know what any key does: whatever
it shows, it has from the table.
"""

import sys
from collections.abc import Iterable

from smtp_adapters.settings.keys import GROUPS, KEYS, Key
from smtp_adapters.settings.url import SCHEMES
from tools.page import ROOT, keep_fresh

PAGE = ROOT / "docs" / "settings.md"

OPENING = """\
# Settings

Made from the table in `smtp_adapters/settings/keys.py` by `make docs`; `make check` tells when it
is stale. The same keys make a client from a URL, a TOML file, the environment and the command line:

```python
from smtp_adapters.socket import SMTPClient  # or asyncio, or trio

SMTPClient.from_url("smtp+starttls://ada@mail.example.org?password_env=MAIL_PASSWORD")
SMTPClient.from_toml("settings.toml", "smtp")
SMTPClient.from_env("SMTP_")
```

What cannot be used is a `SettingsError`, a `ValueError`: a key that there is not, one that is given
twice, a value that cannot be. What a parameter of `SMTPClient` itself raises, as for settings that
contradict each other or a trace that cannot be written, comes as it is. A `SettingsError` names the
key as it was written, and never shows a value, which may be a secret in the wrong place; only files
that cannot be read are named, if they are not those of secrets.

## URL

```
smtp://user:password@host:port?key=value&key=value
lmtp+unix:///run/lmtp.sock?key=value
```

The scheme says the protocol and when TLS begins; host, port, user and password have their place in
front, and all other keys are in the query. An IPv6 address stands in brackets. In a name, a
password or a value, what is no letter, digit or one of `-._~` is best written as %XX: `%40` is an
`@`. A `+` is a `+`.

Do not take such a URL from strangers: it may have files and variables of yours read and sent to its
host as a password, and a trace written to where it likes.

"""

TOML = """
## TOML

A table, `[smtp]` by default, with a table inside for each group. Yes or no is `true` or `false`;
where there may be several, an array, or one text with commas. The name of a file that does not
begin at the root begins at the folder of the TOML file. That may have 64 KiB, and 100 dots in a
line.

```toml
[smtp]
host = "mail.example.org"
security = "starttls"
proxy = ["socks5h://192.0.2.1:1080", "http://proxy.example.org:3128"]

[smtp.auth]
user = "ada"
password_file = "password"

[smtp.timeouts]
greeting = 30
total = "none"
```

## Environment

A prefix, and the name of the key in capitals: `SMTP_HOST`, `SMTP_TIMEOUTS_GREETING`,
`SMTP_TLS_CA_FILE`. `SMTP_URL` may say all that a URL can. Every variable with the prefix has to be
a key, or be named by a `..._env`: a slip of the pen is an error, not a setting that does nothing.

## Command line

An option for each key but those of secrets, which would be for all to see: `--host`,
`--timeouts-greeting`, `--tls-ca-file`; and `--no-pipelining` where a key is yes or no. What options
say goes before `--url`, that before `--config FILE:SECTION`, and that before `--env PREFIX`. Where
one of them gives a password or a token, no other source is asked for one; likewise for the host
or the socket. `timeout` leaves nothing of the single timeouts of what comes after it.

## In Python

Any parameter of `SMTPClient` given besides stands in place of all that the settings say of it;
`user`, `password`, `token` and `key_password` do so for these keys, the last three as text or as a
callable that returns it. It is called once, when the client is made.

```python
SMTPClient.from_toml("settings.toml", password=ask_the_keyring, timeouts=30)
```

`smtp_adapters.settings` has the steps in between: `from_url`, `from_toml` and `from_env` give
`Settings`, `a.over(b)` puts one before another, and `make_client(SMTPClient, settings)` makes a
client of them; `client_arguments()` is what it calls SMTPClient with. `describe()` prints them, and
`canonical_url()` writes them as a URL: both without passwords, tokens, and what proxies are told.

## Secrets

A password, a token or the password of a key stands there itself, or in a file (`..._file`), or in
an environment variable (`..._env`); exactly one of these. Of a file the first line is taken,
without its line end. A secret that is empty, has NUL or is not UTF-8 is an error. Who else may read
the file is not looked at: in a container that is often everybody, and rightly so.

## Keys

In `tls.ca_file`, `auth.user` and all others of these two groups, the name of the group may be left
out: `ca_file`, `user`, `--ca-file`.
"""


def page() -> str:
    """Write the whole page."""
    chapters = (chapter(group, title) for group, title in GROUPS.items())
    return OPENING + schemes() + TOML + "".join(chapters)


def schemes() -> str:
    """Write the table of schemes."""
    rows = "".join(
        f"| `{name}://` | {scheme.protocol} | {scheme.security} |"
        f" {'a Unix socket' if scheme.unix else 'a host'} |\n"
        for name, scheme in SCHEMES.items()
    )
    return f"| scheme | protocol | security | to |\n|---|---|---|---|\n{rows}"


def chapter(group: str, title: str) -> str:
    """Write the part about one group of keys."""
    return f"\n### {title}\n\n{table(key for key in KEYS if key.group == group)}"


def table(keys: Iterable[Key]) -> str:
    """Write a table of keys."""
    rows = "".join(
        f"| `{key.name}` | {key.says} | {key.kind.expected} | {key.default} |\n" for key in keys
    )
    return f"| key | what it says | value | default |\n|---|---|---|---|\n{rows}"


if __name__ == "__main__":
    sys.exit(keep_fresh(PAGE, page, "List the keys of a client's settings."))
