"""What the command line calls things: the options that there are, not parameters of the library."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import trustme

from smtp_adapters.cli import main
from smtp_adapters.cli.names import CLIENT, PROBE, SERVE, Names
from smtp_adapters.cli.text import Exit
from smtp_adapters.settings.keys import KEYS
from smtp_adapters.socket import SMTPServer
from smtp_adapters.tls import server_context
from smtp_proto.flow import Handler, Security
from tools.page import ROOT

COMMANDS = {"send": CLIENT, "check-credentials": CLIENT, "probe": PROBE, "serve": SERVE}
OPTION = re.compile(r"--[a-z][a-z-]*")
SECURITY = re.compile(r"--security ([a-z]+)")


@pytest.fixture
def options(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> str:
    """What --help says of a command."""
    with pytest.raises(SystemExit):
        main([request.param, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "names"), COMMANDS.items(), indirect=["options"], ids=list(COMMANDS)
)
def test_every_option_that_a_table_names_is_there(options: str, names: Names) -> None:
    there = set(OPTION.findall(options))
    values = {security.value for security in Security}
    for text in (*names.words.values(), *names.behind_a_proxy.values()):
        assert set(OPTION.findall(text)) <= there, text
        assert set(SECURITY.findall(text)) <= values, text


# --- Every message -------------------------------------------------------------------------------

# What a client of the command line can be told of comes from here.
PLACES = ("smtp_proto/flow", "smtp_proto/sasl", "smtp_proto/proxy", "adapters/smtp_adapters")
ELSEWHERE = re.compile(r"/(cli|testing)/|/serve|server\.py|settings/keys\.py")
OF_THE_LIBRARY = re.compile(
    r"(?<![\w./-])[a-z]+(?:_[a-z]+)+(?![\w/-])|Security\.|=True|\b(?:IMPLICIT|MANUAL|NONE)\b"
)
# Parameters and calls that no option leads to.
NOT_OPTIONS = {
    "check_certificate", "check_hostname", "close_notify", "encode_v", "own_mechanisms",
    "proxy_header", "send_many", "send_message", "smtp_proto",
}  # fmt: skip


def texts_of(path: Path) -> Iterator[str]:
    """All texts in a module but its docstrings; "..." stands for what comes in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    passed: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant() as docstring):
                passed.add(docstring)
            case ast.JoinedStr(values=parts):
                passed.update(parts)
                yield "".join(
                    str(each.value) if isinstance(each, ast.Constant) else "..." for each in parts
                )
            case ast.Constant(value=str(text)) if node not in passed:
                yield text


@cache
def messages() -> tuple[str, ...]:
    files = [file for place in PLACES for file in sorted((ROOT / place).rglob("*.py"))]
    return tuple(
        text
        for file in files
        if not ELSEWHERE.search(str(file.relative_to(ROOT)))
        for text in texts_of(file)
        if " " in text
    )


def test_no_message_has_a_name_of_the_library() -> None:
    assert len([text for text in messages() if OF_THE_LIBRARY.search(text)]) > 20
    for text in messages():
        left = set(OF_THE_LIBRARY.findall(CLIENT(text))) - NOT_OPTIONS
        assert not left, CLIENT(text)


def test_no_phrase_stands_for_a_message_that_there_is_not() -> None:
    known = {key.short for key in KEYS} | {key.name.removeprefix("proxy_tls.") for key in KEYS}
    all_texts = "\n".join(messages())
    for words in CLIENT.behind_a_proxy:
        put_together = words in known or ":" in words or "ecurity" in words or words == "auth.user"
        assert put_together or words in all_texts, words


# --- What is left as it is -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ca_file /a/ca_file.pem: no", "--ca-file /a/ca_file.pem: no"),
        ("give it as ca_file", "give it as --ca-file"),
        ("x.toml: smtp.tls.ca_file: no", "x.toml: smtp.tls.ca_file: no"),
        ("URL (allow_cleartext): no", "URL (allow_cleartext): no"),
        ("SMTP_TLS_CA_FILE and --ca-file", "SMTP_TLS_CA_FILE and --ca-file"),
        ("use Security.STARTTLS", "use --security starttls"),
        ("security 'auto'; 'none' says", "--security auto; 'none' says"),
        (
            "proxy_tls: key_file x: encrypted: give its key_password",
            (
                "TLS with the proxy: --proxy-tls-key-file x: encrypted: give "
                "--proxy-tls-key-password-file or --proxy-tls-key-password-env"
            ),
        ),
    ],
)
def test_names_are_words_of_their_own(text: str, said: str) -> None:
    assert CLIENT(text) == said


# --- As it is seen -------------------------------------------------------------------------------


@pytest.fixture
def message(tmp_path: Path) -> str:
    path = tmp_path / "message.eml"
    path.write_bytes(b"From: a@example.org\nTo: b@example.org\n\nHello\n")
    return str(path)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--security starttls --allow-cleartext", "--allow-cleartext is for --security auto; 's"),
        ("--security none --ca-file {message}", "--security none and settings for TLS contradict"),
        ("--ca-file {message}", "--ca-file {message}: there is no certificate in it"),
        ("--certificate-file {message}", "--certificate-file {message}: there is no certificate"),
        ("--config /no/such", "/no/such: cannot be read"),
        ("--key-file {message}", "--key-file: where is its --certificate-file?"),
        (
            "--minimum-version 1.3 --maximum-version 1.2",
            "--minimum-version TLSv1_3 is above --maximum-version TLSv1_2",
        ),
        (
            "--proxy https://h:1 --proxy-tls-ca-file {message}",
            "--proxy-tls-ca-file {message}: there is no certificate in it",
        ),
        ("--proxy-tls-ca-file {message}", "--proxy-tls-ca-file and the like are for https proxies"),
        ("--mechanisms PLANE", "--mechanisms: PLANE is not known here; did you mean PLAIN?"),
        ("--user ada", "give --password-file or --password-env, or else --token-file"),
        ("--socket /no/such --security auto", "--server and --socket: only one of them"),
    ],
)
def test_a_usage_that_is_refused_is_told_by_the_options(
    message: str, options: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options.format(message=message).split()
    assert main(["send", message, "--server", "127.0.0.1:9", *given]) == Exit.USAGE
    line = capsys.readouterr().err
    assert why.format(message=message) in line


def test_a_check_that_cannot_be_is_told_by_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["check-credentials", "--server", "h", "--external", "--security", "manual"]
    assert main(given) == Exit.USAGE
    assert "--security manual leaves TLS and logging in to you" in capsys.readouterr().err


def test_what_the_server_lacks_is_told_by_the_options(
    message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with SMTPServer(Handler()) as server:
        where = f"127.0.0.1:{server.port}"
        assert main(["send", message, "--server", where]) == Exit.TLS
        assert "(--allow-cleartext goes on without" in capsys.readouterr().err
        assert main(["send", message, "--server", where, "--security", "implicit"]) == Exit.TLS
        assert "use --security starttls" in capsys.readouterr().err
        assert main(["probe", where]) == Exit.OK
        assert "Security." not in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["", "json"])
def test_a_certificate_that_is_not_trusted_is_told_by_the_options(
    tmp_path: Path, authority: trustme.CA, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "c")
    context = server_context(tmp_path / "c")
    with SMTPServer(Handler(), security=Security.STARTTLS, tls=context) as server:
        where = f"127.0.0.1:{server.port}"
        assert main(["probe", where, *flags]) == Exit.CERTIFICATE
    said = capsys.readouterr().out
    assert "as --ca-file" in said
    assert "ca_file" not in said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("--tls-cert {message}", "--tls-cert {message}: there is no certificate in it"),
        ("--tls-cert {pem}", "give the file that has it as --tls-key"),
        ("--tls-cert {pem} --tls-key {message}", "--tls-key {message}: there is no private key"),
    ],
)
def test_a_server_that_cannot_be_is_told_by_its_options(
    tmp_path: Path,
    authority: trustme.CA,
    message: str,
    given: str,
    why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pem = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(pem)
    words = given.format(message=message, pem=pem).split()
    assert main(["serve", "--maildir", str(tmp_path / "m"), *words]) == Exit.USAGE
    assert why.format(message=message) in capsys.readouterr().err
