"""Settings: whichever way they are written they mean the same, and what is wrong is told.

Knows the sources and the keys. Must not know what a client does with its settings.
"""

import json
import os
import re
import tomllib
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from ssl import TLSVersion
from threading import Thread
from types import ModuleType
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtp_adapters import asyncio, socket, trio
from smtp_adapters.client import Client
from smtp_adapters.settings import (
    KEYS,
    Settings,
    SettingsError,
    canonical_url,
    client_arguments,
    describe,
    from_env,
    from_toml,
    from_url,
    keys,
    make_client,
)
from smtp_adapters.settings.keys import BY_NAME, GROUPS, Key, Kind, option, variable
from smtp_adapters.settings.url import SCHEMES
from smtp_adapters.tls import ClientTLS
from smtp_proto.engine import Protocol
from smtp_proto.flow import Security, Timeouts
from smtp_proto.proxy import parse_proxy
from smtp_proto.sasl import Credentials, ExternalCredentials, TokenCredentials
from smtp_proto.wire import Limits
from tools import settings_page
from tools.page import ROOT

HOST = "mail.example.org"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of all kinds, and a TOML file to be."""
    path = tmp_path_factory.mktemp("settings")
    (path / "ca.pem").write_text("-")
    (path / "secret").write_text("line one\nline two\n")
    (path / "certificates").mkdir()
    return path


def write_toml(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def toml(folder: Path, text: str) -> Settings:
    return from_toml(write_toml(folder, text))


# --- One table -------------------------------------------------------------------------------


def test_no_two_keys_are_called_the_same() -> None:
    names = {name for key in KEYS for name in (key.name, key.short)}
    assert len({key.name for key in KEYS}) == len(KEYS)
    assert len(BY_NAME) == len(names) == sum(len({key.name, key.short}) for key in KEYS)
    assert len({variable(name) for name in names}) == len(names)
    assert len({option(name) for name in names}) == len(names)
    assert not names & GROUPS.keys()


def test_each_key_has_a_group_that_is_told() -> None:
    assert {key.group for key in KEYS} == GROUPS.keys()
    assert all(key.says and "|" not in key.says and "%" not in key.says for key in KEYS)


@pytest.mark.parametrize(
    ("group", "of", "servers"),
    [
        ("timeouts", Timeouts, {"idle"}),
        ("limits", Limits, {"command_line", "message_size", "recipients", "errors"}),
    ],
)
def test_every_timeout_and_limit_of_a_client_is_a_key(
    group: str, of: type[Timeouts] | type[Limits], servers: set[str]
) -> None:
    defaults = {field.name: getattr(of(), field.name) for field in fields(of)}
    assert {key.name.partition(".")[2]: key.default for key in KEYS if key.group == group} == {
        name: "none" if value is None else format(value, "g" if group == "timeouts" else "d")
        for name, value in defaults.items()
        if name not in servers
    }


@pytest.mark.parametrize("group", ["tls", "proxy_tls"])
def test_every_setting_of_tls_that_is_text_is_a_key(group: str) -> None:
    given = {key.name.partition(".")[2] for key in KEYS if key.group == group}
    given -= {"key_password_file", "key_password_env"}
    not_text = {"context", "ca_data", "check_certificate"}
    assert given == {field.name for field in fields(ClientTLS)} - not_text


def test_the_page_is_fresh_and_its_examples_are_settings(folder: Path) -> None:
    text = settings_page.PAGE.read_text(encoding="utf-8")
    assert text == settings_page.page()
    assert settings_page.PAGE.parent == ROOT / "docs"
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (folder / "password").write_text("secret\n")
    arguments = client_arguments(toml(folder, example))
    assert arguments["auth"] == Credentials("ada", "secret")
    assert arguments["timeouts"] == Timeouts(greeting=30, total=None)
    for key in KEYS:
        assert f"| `{key.name}` | {key.says} |" in text


# --- Three ways to write the same ------------------------------------------------------------

letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
mechanisms = st.sampled_from(["PLAIN", "scram-sha-256", "LOGIN", "XOAUTH2"])
proxies = st.sampled_from(
    ["socks5h://u:p%40@proxy.example.org", "http://192.0.2.1:3128", "https://[::1]", "socks4a://h"]
)
numbers = st.integers(1, 65_535).map(str)

TEXTS: Mapping[int, st.SearchStrategy[list[str]]] = {
    id(kind): strategy.map(lambda text: [text])
    for kind, strategy in (
        (keys.TEXT, letters),
        (keys.SECRET, letters),
        (keys.VARIABLE, st.sampled_from(["SECRET_HERE", "NO_SUCH_VARIABLE"])),
        (keys.HOST, st.sampled_from([HOST, "192.0.2.1", "[::1]", "fe80::1%eth0", "grün.example"])),
        (keys.DOMAIN, st.sampled_from([HOST, "[192.0.2.1]", "[IPv6:::1]"])),
        (keys.PORT, numbers),
        (keys.COUNT, numbers),
        (keys.SECONDS, numbers | st.sampled_from(["none", "0.5", "1e2", "1e-05"])),
        (keys.FLAG, st.sampled_from(["yes", "no"])),
        (keys.SECURITY, st.sampled_from([security.value for security in Security])),
        (keys.PROTOCOL, st.sampled_from(["smtp", "lmtp"])),
        (keys.VERSION, st.sampled_from(["1.2", "1.3"])),
        (keys.CIPHERS, st.just("ECDHE+AESGCM")),
        (keys.FILE, st.just("ca.pem")),
        (keys.SECRET_FILE, st.just("secret")),
        (keys.DIRECTORY, st.just("certificates")),
        (keys.PATH, letters),
        (keys.TRACE, letters),
        (keys.LOCAL_ADDRESS, st.sampled_from(["192.0.2.1", "192.0.2.1:9", "::1", "[::1]:9"])),
    )
} | {
    id(keys.MECHANISMS): st.lists(mechanisms, min_size=1),
    id(keys.FINGERPRINTS): st.lists(st.just("ab" * 32), min_size=1),
    id(keys.PROXIES): st.lists(proxies, min_size=1) | st.just(["env"]) | st.just(["none"]),
}

Written = dict[str, list[str]]
"""The texts of each key."""


@st.composite
def written(draw: st.DrawFn) -> Written:
    """Some keys, and always where to."""
    names = draw(st.lists(st.sampled_from([key.name for key in KEYS[3:]]), unique=True, max_size=6))
    target = draw(st.sampled_from(["host", "socket"]))
    if target == "socket":
        names = [name for name in names if name != "port"]
    by_place = {BY_NAME[name].place: name for name in (*names, target)}
    if "auth.password" in by_place.values():
        by_place["auth.user"] = "auth.user"
    return {name: draw(TEXTS[id(BY_NAME[name].kind)]) for name in by_place.values()}


def absolute(folder: Path, texts: Written) -> Written:
    """The same, with the names of files from the root on."""
    return {
        name: [str(folder / text) for text in values] if BY_NAME[name].kind.path else values
        for name, values in texts.items()
    }


def as_url(texts: Written) -> str | None:
    """The same as a URL; None: no URL says it."""
    rest = {name: ",".join(values) for name, values in texts.items()}
    protocol = rest.pop("protocol", "smtp")
    unix = "socket" in rest
    security = rest.pop("security", "none" if unix else "auto")
    scheme = next(
        (name for name, scheme in SCHEMES.items() if scheme == (protocol, security, unix)), None
    )
    if scheme is None:
        return None
    userinfo = quote(rest.pop("auth.user", ""), safe="")
    if "auth.password" in rest:
        userinfo += ":" + quote(rest.pop("auth.password"), safe="")
    host = rest.pop("host", "").strip("[]")
    if unix:
        place = quote(rest.pop("socket"))
    else:
        place = f"[{quote(host, safe=':')}]" if ":" in host else quote(host)
        place += f":{rest.pop('port')}" if "port" in rest else ""
    query = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in rest.items())
    return f"{scheme}://{userinfo and userinfo + '@'}{place}?{query}".removesuffix("?")


def literal(kind: Kind, texts: list[str]) -> str:
    """A value as TOML has it."""
    if kind.several:
        return f"[{', '.join(map(quoted, texts))}]"
    (text,) = texts
    if kind is keys.FLAG:
        return {"yes": "true", "no": "false"}.get(text, quoted(text))
    return text if kind.types[0] is int and text[0].isdigit() else quoted(text)


def quoted(text: str) -> str:
    # JSON escapes as TOML does, but for DEL and what it takes two surrogates for.
    escaped = json.dumps(text, ensure_ascii=False)
    return escaped.replace("\x7f", "\\u007F")


def as_toml(texts: Written) -> str:
    """The same as tables."""
    tables: dict[str, list[str]] = {}
    for name, values in texts.items():
        group, _, last = name.rpartition(".")
        tables.setdefault(group, []).append(f"{last} = {literal(BY_NAME[name].kind, values)}")
    top = "\n".join(["[smtp]", *tables.pop("", [])])
    return "\n".join(
        [top, *("\n".join([f"[smtp.{name}]", *lines]) for name, lines in tables.items())]
    )


def as_environment(texts: Written) -> dict[str, str]:
    return {f"SMTP_{variable(name)}": ",".join(values) for name, values in texts.items()}


ENVIRONMENT = {"SECRET_HERE": "from the environment"}


def outcome(read: Callable[[], Settings]) -> object:
    """What a client would be built with; or why there is none."""
    try:
        return client_arguments(read(), environment=ENVIRONMENT)
    except SettingsError as error:
        return error.why


@given(texts=written())
def test_each_way_to_write_settings_means_the_same(texts: Written, folder: Path) -> None:
    texts = absolute(folder, texts)
    path = write_toml(folder, as_toml(texts))
    expected = outcome(lambda: from_toml(path))
    assert outcome(lambda: from_env(environment=as_environment(texts))) == expected
    url = as_url(texts)
    if url is not None:
        assert outcome(lambda: from_url(url)) == expected
        assert outcome(lambda: from_env(environment={"SMTP_URL": url})) == expected
        path.write_text(f"[smtp]\nurl = {quoted(url)}", encoding="utf-8")
        assert outcome(lambda: from_toml(path)) == expected


@given(texts=written())
def test_what_is_printed_says_the_same_without_secrets(texts: Written, folder: Path) -> None:
    texts = absolute(folder, texts)
    read = from_env(environment=as_environment(texts))
    shown = describe(read)
    again = tomllib.loads(shown)
    assert flattened(again).keys() == texts.keys()
    public = {name: texts[name] for name in texts if not BY_NAME[name].kind.secret}
    if "proxy" in public and public["proxy"][0] not in {"env", "none"}:
        public["proxy"] = [parse_proxy(url).url for url in public["proxy"]]
    hidden = dict.fromkeys(texts.keys() - public.keys(), "***")
    assert flattened(again) == flattened(tomllib.loads(as_toml(public))["smtp"]) | hidden
    if as_url(texts) is not None:
        url = canonical_url(read)
        expected = outcome(lambda: from_env(environment=as_environment(public)))
        assert outcome(lambda: from_url(url)) == expected
        assert canonical_url(from_url(url)) == url


def flattened(table: Mapping[str, object], group: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= flattened(value, f"{group}{name}.")
        else:
            found[group + name] = value
    return found


def test_each_kind_of_value_is_printed_as_toml_has_it() -> None:
    url = "smtp://a%22%5C%0A:p@h:25?pipelining=no&timeout=none&minimum_version=1.2&proxy=http://x"
    assert describe(from_url(url)).splitlines() == [
        'host = "h"',
        "port = 25",
        'security = "auto"',
        'protocol = "smtp"',
        'proxy = ["http://x:80"]',
        "pipelining = false",
        'timeout = "none"',
        'auth.user = "a\\"\\\\\\U0000000A"',
        'auth.password = "***"',
        'tls.minimum_version = "1.2"',
    ]


CANARY = "Canary7"


@pytest.mark.parametrize("place", [key.name for key in KEYS if not key.kind.quoted])
@settings(max_examples=10)
@given(texts=written(), how=st.integers(0, 5))
def test_no_secret_is_in_what_is_shown(texts: Written, place: str, how: int, folder: Path) -> None:
    """Neither where it belongs, nor where somebody put it by mistake."""
    texts = absolute(folder, texts)
    by_proxy = [f"socks5h://Proxyuser9:{CANARY}@proxy.example.org"]
    taken = BY_NAME[place].place
    texts = {name: value for name, value in texts.items() if BY_NAME[name].place != taken}
    texts["proxy"] = by_proxy
    texts[place] = [CANARY + ("", "\0", "@", ":x", " ", "%")[how]]
    path = write_toml(folder, as_toml({name: texts[name] for name in texts if name != "port"}))
    sources: list[Callable[[], Settings]] = [
        lambda: from_env(environment=as_environment(texts)),
        lambda: from_toml(path),
        lambda: from_url(f"{as_url(texts)}"),
    ]
    for read in sources:
        try:
            found = read()
            assert CANARY not in repr(found)
            if BY_NAME[place].kind.secret:
                assert CANARY not in describe(found)
                assert CANARY not in canonical_url(found)
            assert "Proxyuser9" not in describe(found)
            client_arguments(found, environment=ENVIRONMENT)
        except SettingsError as error:
            assert_silent(error)


def assert_silent(error: BaseException | None) -> None:
    """Neither an error nor those that hang on it have the secret."""
    while error is not None:
        assert CANARY not in f"{error} {error!r} {error.args}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("character", [*'/?#@:[]%&=\\" ', "?x=", "?timeout=", "#", "1?", "1/"])
def test_a_password_that_is_not_encoded_is_not_shown(character: str) -> None:
    for password in (CANARY + character, character + CANARY, f"1{character}{CANARY}=1"):
        try:
            read = from_url(f"smtp://ada:{password}@{HOST}")
            assert CANARY not in f"{read!r} {describe(read)} {canonical_url(read)}"
        except SettingsError as error:
            assert_silent(error)


# --- URL -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("smtp://h", {"host": "h", "security": Security.AUTO}),
        ("SMTPS://h:465/", {"host": "h", "port": 465, "security": Security.IMPLICIT}),
        ("smtp+starttls://[::1]:587", {"host": "::1", "port": 587, "security": Security.STARTTLS}),
        ("smtp+none://[fe80::1%25eth0]", {"host": "fe80::1%eth0", "security": Security.NONE}),
        ("smtp+opportunistic://gr%C3%BC.example", {"host": "grü.example"}),
        ("smtp+manual://h", {"security": Security.MANUAL}),
        ("lmtp://h:24", {"protocol": Protocol.LMTP, "port": 24}),
        (
            "lmtp+unix:///run/lmtp.sock",
            {"host": Path("/run/lmtp.sock"), "protocol": Protocol.LMTP, "security": Security.NONE},
        ),
        ("smtp+starttls+unix://ada:p@/x", {"host": Path("/x"), "auth": Credentials("ada", "p")}),
        ("smtp://a%40b:p%3A%2F+@h", {"auth": Credentials("a@b", "p:/+")}),
        ("smtp://a@h?token=t", {"auth": TokenCredentials("a", "t")}),
        ("smtp://h?token=t", {"auth": TokenCredentials("", "t")}),
        ("smtp://a:p@h?authorization_identity=b", {"auth": Credentials("a", "p", "b")}),
        ("smtp://h?external=yes", {"auth": ExternalCredentials()}),
        ("smtp://h?external=1&auth.authorization_identity=b", {"auth": ExternalCredentials("b")}),
        ("smtp://a:p@h?external=no", {"auth": Credentials("a", "p")}),
        ("smtp://h?proxy=socks5h://p:9,http://q", {
            "proxy": (parse_proxy("socks5h://p:9"), parse_proxy("http://q"))}),
        ("smtp://h?proxy=env", {"proxy": "env"}),
        ("smtp://h?proxy=none", {}),
        ("smtp://h?timeout=30&timeouts.greeting=10&timeouts.total=none", {
            "timeouts": replace(Timeouts.of(30.0), greeting=10.0, total=None)}),
        ("smtp://h?limits.reply_lines=5", {"limits": Limits(reply_lines=5)}),
        ("smtp://h?mechanisms=plain,%20SCRAM-SHA-256", {"mechanisms": ("PLAIN", "SCRAM-SHA-256")}),
        ("smtp://h?minimum_version=1.3", {"tls": ClientTLS(minimum_version=TLSVersion.TLSv1_3)}),
        ("smtp://h?pipelining=off&chunking=true", {"pipelining": False, "chunking": True}),
        ("smtp://h?local_address=[::1]:25", {"local_address": ("::1", 25)}),
        ("smtp://h?local_address=192.0.2.1", {"local_address": ("192.0.2.1", 0)}),
    ],
)  # fmt: skip
def test_urls(url: str, arguments: dict[str, object]) -> None:
    found = client_arguments(from_url(url))
    assert found | arguments == found


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no URL"),
        ("mail.example.org", "no URL"),
        ("http://h", "no URL"),
        ("smtp+auto://h", "no URL"),
        ("smtp:h", "no URL"),
        ("smtp://", "(host): it is empty"),
        ("smtp://h:", "(port): it is empty"),
        ("smtp://h:0", "(port): expected a number from 1 to 65535"),
        ("smtp://h:65536", "(port): "),
        ("smtp://h:٢٥", "(port): "),
        ("smtp://::1", "[2001:db8::1]:port"),
        ("smtp://h/path", "%2F"),
        ("smtp://h#x", '%23 for "#"'),
        ("smtp://h#", '%23 for "#"'),
        ("smtp://a b", "(host): expected a host"),
        ("smtp://a@b@h", "%40"),
        ("smtp://@h", "(auth.user): it is empty"),
        ("smtp://a:@h", "(auth.password): it is empty"),
        ("smtp://a%zz@h", "%25"),
        ("smtp://a%ff@h", "(auth.user): expected text"),
        ("smtp://a:%00@h", "(auth.password): expected text without NUL"),
        ("smtp://h?", "no such key"),
        ("smtp://h?timeout", "(timeout): there is no value"),
        ("smtp://h?timeout=", "(timeout): it is empty"),
        ("smtp://h?timeout=0", "(timeout): expected seconds"),
        ("smtp://h?timeout=1e999", "(timeout): expected seconds"),
        ("smtp://h?timout=3", "(timout): there is no such key: did you mean timeout?"),
        ("smtp://h?xyzzyx=3", "(xyzzyx): there is no such key: docs/settings.md"),
        ("smtp://h?x%0a=3", r"(x\n): "),
        ("smtp://a:1?x=3@h", "write %3F"),
        ("smtp://h?timeout=3&timeout=3", "URL (timeout): given twice: leave one of them out"),
        ("smtp://h?ciphers=x", "(ciphers): expected ciphers that are there"),
        ("smtp://h?tls.ciphers=x%00", "(tls.ciphers): expected ciphers that are there"),
        ("smtp://h?tls.ciphers=HIGH&ciphers=HIGH", "URL (tls.ciphers) and URL (ciphers): only"),
        ("smtp://a:p@h?password=p", "(password): not in the query"),
        ("smtp://a:p@h?token=p", "URL (auth.password) and URL (token): only one of them"),
        ("smtp://h?security=none", "(security): not in the query: the scheme"),
        ("smtp://h?url=x", "(url): not in the query"),
        ("lmtp+unix://h/x", "three slashes"),
        ("lmtp+unix://", "(socket): it is empty"),
        ("smtp://h?protocol=lmtp", "(protocol): "),
        ("smtp://h?pipelining=maybe", "(pipelining): expected yes or no"),
        ("smtp://h?mechanisms=A,,B", "(mechanisms): it is empty"),
        ("smtp://h?mechanisms=A+B", "(mechanisms): expected names"),
        ("smtp://h?proxy=ftp://x", "(proxy): expected URLs of proxies"),
        ("smtp://h?fingerprints=ab:cd", "(fingerprints): expected SHA-256 in 64"),
        ("smtp://h?minimum_version=3", "expected one of 1.0, 1.1, 1.2, 1.3"),
        ("smtp://h?local_hostname=a%20b", "expected a domain"),
        ("smtp://h?local_address=h", "expected an IP address"),
        ("smtp://h?local_address=[x", "expected an IP address"),
        ("smtp://h?ca_file=/no/such", "(ca_file): expected a file that can be read: No such "),
        ("smtp://h?ca_file=/no/such", "No such file or directory: /no/such"),
        ("smtp://h?ca_file=/", "directory"),
        ("smtp://h?ca_directory=/dev/null", "(ca_directory): expected a folder"),
        ("smtp://a@h?password_file=/no/such", "(password_file): expected a file"),
    ],
)  # fmt: skip
def test_what_is_no_url(url: str, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_url(url)
    text = str(refused.value)
    assert text.startswith("URL")
    assert why in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("smtp://a@h", "URL (auth.user): a user without a password"),
        ("smtp://h?password_env=X", "auth.user: a password without a user"),
        ("smtp://h?authorization_identity=x", "nobody logs in"),
        ("smtp://h?token=x&authorization_identity=x", "a token says whom"),
        ("smtp://a:p@h?external=yes", "URL (external): the server knows the user"),
        ("smtp://h?proxy=env,socks5://x", '(proxy): "env" and "none" stand alone'),
        ("smtp://a@h?password_env=NO_SUCH", "(password_env): the variable that it names"),
        ("smtp://h?proxy_tls.minimum_version=1.3&timeouts.total=1&proxy=none,none", "alone"),
    ],
)
def test_what_does_not_go_together(url: str, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        client_arguments(from_url(url), environment={"X": "secret"})
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


def test_what_tls_itself_refuses_is_told_with_its_group(folder: Path) -> None:
    key = folder / "ca.pem"
    with pytest.raises(SettingsError, match="^tls: "):
        client_arguments(from_url(f"smtp://h?key_file={key}"))


# --- TOML ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ": there is no table [smtp]"),
        ("smtp = 1", "smtp: expected a table"),
        ("[smtp\n", ": it is no TOML: "),
        ("[smtp]\nhost = 1", ": smtp.host: expected a host's name or its IP address, not a number"),
        ("[smtp]\nport = '25'", ": smtp.port: expected a number from 1 to 65535, not text"),
        ("[smtp]\nport = true", "smtp.port: expected a number from 1 to 65535, not true or false"),
        ("[smtp]\nport = 0", "smtp.port: expected a number"),
        ("[smtp]\ntimeout = inf", "smtp.timeout: expected seconds"),
        ("[smtp]\ntimeout = {}", 'smtp.timeout: expected seconds above 0, or "none", not a t'),
        ("[smtp]\ntimeout = 1979-05-27", "not a date or time"),
        ("[smtp]\npipelining = 'yes'", "smtp.pipelining: expected yes or no (in TOML true or"),
        ("[smtp]\nproxy = []", "smtp.proxy: expected URLs of proxies"),
        ("[smtp]\nproxy = ['http://x', 1]", "not an array"),
        ("[smtp]\nhost = ['x']", "smtp.host: expected a host's name or its IP address, not an"),
        ("[smtp]\ntls = true", "smtp.tls: expected a table, not true or false"),
        ("[smtp.tsl]", "smtp.tsl: there is no such key"),
        ("[smtp.tls]\nca_fil = 'x'", "smtp.tls.ca_fil: there is no such key: did you mean tls.ca"),
        ("[smtp]\nuser = 'x'\n[smtp.auth]\nuser = 'x'", "smtp.user and "),
        ("[smtp]\nhost = 'h'\nurl = 'smtp://h'", "smtp.host and "),
        ("[smtp]\nurl = 'smtp://h:x'", "smtp.url (port): "),
        ("[smtp]\nhost = 'h'\nsocket = '/x'", "only one of them"),
        ("[smtp]\npassword_file = 'no-such'", "smtp.password_file: expected a file that can be re"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_settings(folder: Path, text: str, why: str) -> None:
    path = write_toml(folder, text)
    with pytest.raises(SettingsError) as refused:
        from_toml(path)
    assert str(refused.value).startswith(str(path))
    assert why in str(refused.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(SettingsError, match="x.toml: cannot be read: No such file"):
        from_toml(path)
    path.write_bytes(b"[smtp]\nhost = '" + CANARY.encode() + b"\xff'")
    with pytest.raises(SettingsError, match="x.toml: it is not UTF-8") as refused:
        from_toml(str(path))
    assert_silent(refused.value)


HOSTILE = {
    "nested arrays": "[smtp]\nhost = " + "[" * 60_000,
    "nested tables": "x = " + "{a=" * 20_000,
    "decimal digits": "[smtp]\nport = " + "9" * 5000,
    "hexadecimal digits": "[smtp]\nport = 0x" + "f" * 60_000,
    "hexadecimal seconds": "[smtp]\ntimeout = 0x" + "f" * 60_000,
    "parts of a key": "[smtp]\n" + ".".join("a" * 20_000) + " = 1",
    "parts of a table's name": "\n\n[" + ".".join("a" * 20_000) + "]",
    "octets": "[smtp]\nhost = 'h'\n" + "#" * 65_536,
}
HOSTILE_WHY = {
    "nested arrays": ": its values are nested too deeply",
    "nested tables": ": its values are nested too deeply",
    "decimal digits": ": it has a number with too many digits",
    "hexadecimal digits": ": smtp.port: expected a number from 1 to 65535",
    "hexadecimal seconds": ": smtp.timeout: expected seconds above 0",
    "parts of a key": ": line 2 has more than 100 dots",
    "parts of a table's name": ": line 3 has more than 100 dots",
    "octets": ": it has more than 65536 octets",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_too_much_for_the_parser(folder: Path, name: str) -> None:
    path = write_toml(folder, HOSTILE[name])
    with pytest.raises(SettingsError) as refused:
        from_toml(path)
    assert str(refused.value).startswith(f"{path}{HOSTILE_WHY[name]}")
    assert refused.value.__context__ is None


def test_a_file_as_large_as_it_may_be(folder: Path) -> None:
    text = "[smtp]\nhost = 'h'\nproxy = 'none' # " + "." * 100 + "\n"
    path = write_toml(folder, text.ljust(65_536, "#"))
    assert set(from_toml(path).given) == {"host", "proxy"}


def test_no_more_of_a_file_is_read_than_it_may_have(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with path.open("wb") as file:
        file.truncate(20_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(SettingsError, match="more than 65536 octets"):
            from_toml(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_sections_may_be_inside_others(folder: Path) -> None:
    path = write_toml(
        folder, "[mail.out]\nhost = 'h'\nuser = 'x'\n[mail.out.tls]\nciphers = 'HIGH'"
    )
    assert set(from_toml(path, "mail.out").given) == {"host", "auth.user", "tls.ciphers"}
    with pytest.raises(SettingsError, match=r"no table \[mail.in\]"):
        from_toml(path, "mail.in")
    with pytest.raises(SettingsError, match="no table"):
        from_toml(path, "mail.out.host.x")


def test_files_begin_at_the_folder_of_the_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "[smtp]\nurl = 'smtp://ada@h?password_file=secret'\n[smtp.tls]\nca_file = 'ca.pem'"
    write_toml(folder, text)
    monkeypatch.chdir(folder)
    read = from_toml("settings.toml")
    monkeypatch.chdir(tmp_path)
    arguments = client_arguments(read)
    assert arguments["tls"] == ClientTLS(ca_file=folder / "ca.pem")
    assert arguments["auth"] == Credentials("ada", "line one")


# --- Environment -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"SMTP_HSOT": "h"}, "SMTP_HSOT: there is no such key: did you mean SMTP_HOST?"),
        ({"SMTP_": "h"}, "SMTP_: there is no such key"),
        ({"SMTP_X\x1b": "h"}, r"SMTP_X\x1b: "),
        ({"SMTP_HOST": ""}, "SMTP_HOST: it is empty"),
        ({"SMTP_PORT": "x"}, "SMTP_PORT: expected a number"),
        ({"SMTP_TIMEOUTS_GREETING": "0"}, "SMTP_TIMEOUTS_GREETING: expected seconds"),
        ({"SMTP_USER": "a", "SMTP_AUTH_USER": "a"}, "SMTP_AUTH_USER and SMTP_USER: only one"),
        ({"SMTP_URL": "smtp://h", "SMTP_HOST": "h"}, "SMTP_HOST and SMTP_URL (host): only one"),
        ({"SMTP_URL": "x"}, "SMTP_URL: no URL"),
    ],
)
def test_what_is_no_environment(environment: dict[str, str], why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_env(environment=environment)
    assert why in str(refused.value)


def test_other_variables_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_MAIL_HOST", "h")
    assert set(from_env("MY_MAIL_").given) == {"host"}
    with pytest.raises(SettingsError, match="prefix: "):
        from_env("")


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [("SMTP", 'the prefix "SMTP_"?'), ("SMTP_", "SMTP_HOST?"), ("SMT", "SMTHOST?")],
)
def test_a_prefix_without_its_underscore(prefix: str, hint: str) -> None:
    name = "SMTP__HOST" if prefix == "SMTP_" else "SMTP_HOST"
    with pytest.raises(SettingsError) as refused:
        from_env(prefix, {name: "h"})
    assert str(refused.value) == f"{name}: there is no such key: did you mean {hint}"


def test_a_secret_may_stand_in_a_variable_of_the_same_prefix() -> None:
    environment = {"SMTP_HOST": "h", "SMTP_USER": "a", "SMTP_PASSWORD_ENV": "SMTP_HIDDEN"}
    environment["SMTP_HIDDEN"] = "p"
    arguments = client_arguments(from_env(environment=environment), environment=environment)
    assert arguments["auth"] == Credentials("a", "p")
    del environment["SMTP_PASSWORD_ENV"]
    with pytest.raises(SettingsError, match="SMTP_HIDDEN"):
        from_env(environment=environment)


# --- Secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "secret"),
    [
        (b"s p \xc3\xbc ", "s p ü "),
        (b"one\ntwo\n", "one"),
        (b"one\r\n", "one"),
        (b"x" * 65_536, "x" * 65_536),
    ],
)
def test_a_secret_is_the_first_line_of_its_file(tmp_path: Path, octets: bytes, secret: str) -> None:
    (tmp_path / "secret").write_bytes(octets)
    for name, made in (("password", Credentials), ("token", TokenCredentials)):
        found = from_url(f"smtp://ada@h?{name}_file={tmp_path / 'secret'}")
        assert client_arguments(found)["auth"] == made("ada", secret)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "it is empty"),
        (b"\nx", "it is empty"),
        (b"Canary7\0", "without NUL"),
        (b"Canary7\xff", "expected text"),
        (b"Canary7" * 10_000, "more than 65536 octets"),
    ],
)
def test_what_is_no_secret(tmp_path: Path, octets: bytes, why: str) -> None:
    (tmp_path / "secret").write_bytes(octets)
    found = from_url(f"smtp://ada@h?password_file={tmp_path / 'secret'}")
    with pytest.raises(SettingsError) as refused:
        client_arguments(found)
    assert why in str(refused.value)
    assert "(password_file)" in str(refused.value)
    assert_silent(refused.value)


def test_where_a_secret_is_said_to_be_is_not_shown() -> None:
    """It may be the secret itself, if the key was misread."""
    for key in ("password_file", "password_env", "token_file", "token_env"):
        with pytest.raises(SettingsError) as refused:
            client_arguments(from_url(f"smtp://ada@h?{key}={CANARY}"))
        assert_silent(refused.value)
    with pytest.raises(SettingsError, match="/no/such") as refused:
        from_url("smtp://ada@h?ca_file=/no/such")


def test_a_file_that_goes_away(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    found = from_url(f"smtp://ada@h?password_file={tmp_path / 'secret'}")
    (tmp_path / "secret").unlink()
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        client_arguments(found)


@contextmanager
def pipe(path: Path, text: str) -> Iterator[Path]:
    os.mkfifo(path)
    thread = Thread(target=path.write_text, args=(text,))
    thread.start()
    yield path
    thread.join()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_secret_may_come_from_a_pipe(tmp_path: Path) -> None:
    with pipe(tmp_path / "pipe", "secret\n") as path:
        found = from_url(f"smtp://ada@h?password_file={path}")
        assert client_arguments(found)["auth"] == Credentials("ada", "secret")


def test_the_password_of_a_key(folder: Path) -> None:
    files = f"certificate_file={folder / 'ca.pem'}&key_file={folder / 'ca.pem'}"
    for source in (f"file={folder / 'secret'}", "env=X"):
        found = from_url(f"smtp://h?{files}&key_password_{source}")
        made = client_arguments(found, environment={"X": "line one"})["tls"]
        assert isinstance(made, ClientTLS)
        assert made.key_password == "line one"
        assert "line one" not in repr(made)


# --- One before another ----------------------------------------------------------------------


def over(upper: str, lower: str) -> dict[str, object]:
    return client_arguments(from_url(upper).over(from_url(lower)))


def test_what_goes_before_takes_the_place_of_the_whole(folder: Path) -> None:
    lower = "smtps://ada:wrong@h:25?timeouts.data=5&chunking=no"
    merged = over("smtp://g?timeout=7", lower)
    assert (merged["host"], merged["port"], merged["chunking"]) == ("g", 25, False)
    assert merged["security"] is Security.AUTO
    assert merged["timeouts"] == Timeouts.of(7.0)
    assert merged["auth"] == Credentials("ada", "wrong")
    assert over(f"smtp://g?password_file={folder / 'secret'}", lower)["auth"] == Credentials(
        "ada", "line one"
    )
    assert over("smtp://g?token=t", lower)["auth"] == TokenCredentials("ada", "t")
    assert over("lmtp+unix:///x", lower)["host"] == Path("/x")
    assert over("smtp://g", "lmtp+unix:///x")["host"] == "g"
    assert over("smtp://g?timeouts.data=7", "smtp://h?timeout=5")["timeouts"] == replace(
        Timeouts.of(5.0), data=7.0
    )


def test_a_socket_has_no_port() -> None:
    with pytest.raises(SettingsError, match="SMTP_PORT: a Unix socket has no port"):
        client_arguments(from_env(environment={"SMTP_SOCKET": "/x", "SMTP_PORT": "25"}))


def test_a_socket_cannot_be_told_by_its_port() -> None:
    found = from_env(environment={"SMTP_SOCKET": "/x", "SMTP_SECURITY": "auto"})
    with pytest.raises(SettingsError, match="SMTP_SECURITY: "):
        canonical_url(found)


def test_a_server_has_to_be_named() -> None:
    for make in (client_arguments, canonical_url):
        with pytest.raises(SettingsError, match="host: it is missing"):
            make(from_env(environment={"SMTP_PORT": "25"}))


# --- Overrides -------------------------------------------------------------------------------


def test_parameters_stand_in_place_of_settings() -> None:
    found = from_url("smtp://ada@h?password_env=NO_SUCH&timeouts.data=3&minimum_version=1.3")
    overrides = {"auth": None, "timeouts": 5, "tls": ClientTLS(), "host": "g", "anything": 1}
    arguments = client_arguments(found, overrides)
    assert arguments | overrides == arguments


@pytest.mark.parametrize("secret", ["right", lambda: "right"])
def test_secrets_as_text_or_callable(secret: object, folder: Path) -> None:
    query = f"certificate_file={folder / 'ca.pem'}&key_password"
    found = from_url(f"smtp://ada:wrong@h?{query}=wrong")
    assert client_arguments(found, {"password": secret, "key_password": secret}) == (
        client_arguments(from_url(f"smtp://ada:right@h?{query}=right"))
    )
    arguments = client_arguments(found, {"user": "bob", "token": secret})
    assert arguments["auth"] == TokenCredentials("bob", "right")


@pytest.mark.parametrize(
    ("overrides", "kind", "why"),
    [
        ({"password": 1}, TypeError, "not an int"),
        ({"password": lambda: b"x"}, TypeError, "not a bytes"),
        ({"password": "x\0"}, SettingsError, "password: expected text without NUL"),
        ({"password": ""}, SettingsError, "password: it is empty"),
        ({"password": "x", "token": "x"}, SettingsError, "password and token: only one of them"),
        ({"auth": ("a", "p"), "password": "x"}, SettingsError, "auth: it says all of the login"),
        ({"tls": ClientTLS(), "key_password": "x"}, SettingsError, "tls: it says all of TLS"),
    ],
)
def test_overrides_that_cannot_be(
    overrides: dict[str, object], kind: type[Exception], why: str
) -> None:
    with pytest.raises(kind, match=why):
        client_arguments(from_url("smtp://ada:wrong@h"), overrides)


def test_a_client_is_made_with_both() -> None:
    made = make_client(dict[str, object], from_url("smtps://ada:p@h"), {"port": 25})
    assert made["host"] == "h"
    assert made["port"] == 25


@pytest.mark.parametrize("world", [socket, asyncio, trio], ids=lambda world: world.__name__)
def test_clients_of_all_worlds_are_made_of_settings(
    world: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: type[Client] = world.SMTPClient
    monkeypatch.setenv("XMAIL_HOST", HOST)
    monkeypatch.setenv("XMAIL_SECURITY", "starttls")
    path = write_toml(folder, f"[mail]\nhost = '{HOST}'\nsecurity = 'starttls'")
    overrides = {"user": "ada", "password": lambda: "right", "timeouts": 5}
    for made in (
        client.from_url(f"smtp+starttls://bob:wrong@{HOST}", **overrides),
        client.from_toml(path, "mail", **overrides),
        client.from_env("XMAIL_", **overrides),
    ):
        assert type(made) is client
        assert (made._settings.host, made._settings.security) == (HOST, Security.STARTTLS)
        assert made._settings.credentials == Credentials("ada", "right")
        assert made._settings.timeouts == Timeouts.of(5)
    with pytest.raises(TypeError, match="tmeouts"):
        client.from_url("smtp://h:25", tmeouts=5)


def test_errors_can_be_copied() -> None:
    error = SettingsError("a\n", "b")
    assert str(error.__class__(*error.args)) == r"a\n: b"


def test_a_key_says_how_it_is_called() -> None:
    key = BY_NAME["ca_file"]
    assert isinstance(key, Key)
    assert (key.name, key.group, key.short) == ("tls.ca_file", "tls", "ca_file")
    assert (variable(key.name), option(key.name)) == ("TLS_CA_FILE", "--tls-ca-file")
    assert BY_NAME["proxy_tls.ca_file"].short == "proxy_tls.ca_file"
