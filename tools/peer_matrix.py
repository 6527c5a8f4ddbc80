"""Runs the tests with servers and proxies of others, and writes what they proved.

`python -m tools.peer_matrix` needs all of them, as tests/interop/install.sh installs them. With
--check it runs all tests of that kind, and says whether the page is what they prove: that is part
of `make test-rest`. Knows the names of those tests and of their parameters. Must not know how a
peer is run.
"""

import argparse
import gzip
import json
import os
import platform
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.interop.clients import CLIENTS
from tests.interop.peers import DOVECOT_SUBMISSION, PROXIES, SERVERS, Mode, ProxyKind, ServerKind
from tools.page import ROOT

PAGE = ROOT / "docs" / "peers.md"
TESTS = tuple(
    f"tests/interop/test_{name}.py"
    for name in ("servers", "auth", "proxies", "clients", "gsasl", "kerberos")
)
UNPACKED = Path(os.environ.get("SMTP_PROTO_PEERS", "/var/cache/smtp-proto-tests"))

OPENING = """\
# Who it was tried with

Made by `python -m tools.peer_matrix`, which runs the tests of `tests/interop` with real servers,
proxies and clients and writes down what passed. "yes" is a test that passed in each of the three
worlds: sockets, asyncio and trio. What has no mark is not offered by the peer, or was not tried.
Postfix asks Dovecot about logins. So does Exim where a token is shown; its SCRAM and DIGEST-MD5 are
those of Cyrus SASL.

`make test-rest` compares all but the versions with what it finds, where every peer has to be there.
"""

# --- What a run proves -----------------------------------------------------------------------

Proof: TypeAlias = tuple[str, frozenset[str]]
"""The name of a test, and its parameters but for the world."""


@dataclass(slots=True, eq=False)  # pytest has it in a set
class Recorder:
    """A plugin of pytest that keeps which of our tests passed."""

    passed: set[Proof] = field(default_factory=set[Proof])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the test, if this is the report that it passed."""
        report = yield
        ours = item.nodeid.partition("::")[0] in TESTS
        if ours and report.when == "call" and report.passed:
            self.passed.add(proof(item))
        return report


def proof(item: pytest.Function) -> Proof:
    """Name what a test proves."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    parameters = (text(value) for name, value in given.items() if name != "world")
    return item.originalname.removeprefix("test_"), frozenset(parameters)


def text(parameter: object) -> str:
    """Write a parameter as the page does: a chain hop by hop, a kind of peer by its name."""
    if isinstance(parameter, tuple):
        return " > ".join(map(str, parameter))
    return str(getattr(parameter, "name", parameter))


# --- Versions --------------------------------------------------------------------------------


def debian(package: str, root: Path = Path("/")) -> Callable[[], str]:
    """Say where the version of a package is found: in its list of changes."""
    changes = root / "usr/share/doc" / package / "changelog.Debian.gz"

    def find() -> str:
        with gzip.open(changes, "rt", encoding="utf-8") as lines:
            return next(lines).partition("(")[2].partition(")")[0]

    return find


def node(package: str) -> Callable[[], str]:
    """Say where the version of a package of Node is found."""
    description = UNPACKED / "node/node_modules" / package / "package.json"
    return lambda: str(json.loads(description.read_text(encoding="utf-8"))["version"])


VERSIONS: Mapping[str, Callable[[], str]] = {
    "Postfix": debian("postfix"),
    "Exim": debian("exim4-daemon-heavy", UNPACKED / "exim4-daemon-heavy"),
    "OpenSMTPD": debian("opensmtpd", UNPACKED / "opensmtpd"),
    "Dovecot submission": debian("dovecot-core"),
    "Dovecot LMTP": debian("dovecot-core"),
    "Haraka": node("Haraka"),
    "smtp-server": node("smtp-server"),
    "aiosmtpd": lambda: version("aiosmtpd"),
    "dante": debian("dante-server"),
    "microsocks": debian("microsocks"),
    "ssh": debian("openssh-server"),
    "tinyproxy": debian("tinyproxy"),
    "squid": debian("squid"),
    "swaks": debian("swaks"),
    "curl": debian("curl"),
    "msmtp": debian("msmtp"),
    "nodemailer": node("nodemailer"),
    "smtplib, of Python": platform.python_version,
    "aiosmtplib": lambda: version("aiosmtplib"),
    "gsasl": debian("gsasl"),
    "Cyrus SASL, in Exim": debian("libsasl2-2"),
    "MIT Kerberos": debian("krb5-kdc"),
}
"""How the version of a peer is found."""

# --- The page --------------------------------------------------------------------------------

LAST = "Versions"
MODES = {Mode.CLEAR: "clear", Mode.STARTTLS: "STARTTLS", Mode.IMPLICIT: "TLS"}
MECHANISMS = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "EXTERNAL",
    "SCRAM-SHA-512",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "OAUTHBEARER",
    "XOAUTH2",
    "DIGEST-MD5",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
)
EXTENSIONS: Mapping[str, str] = {
    "PIPELINING": "messages",
    "CHUNKING": "messages",
    "8BITMIME": "messages",
    "SIZE": "messages",
    "SMTPUTF8": "addresses_outside_of_ascii",
    "DSN": "notifications",
    "REQUIRETLS": "tls_on_all_the_way",
}
"""The extensions that are used where they are offered, and the test that does it."""


def page(passed: frozenset[Proof]) -> str:
    """Write the page, but for the versions."""
    parts = (
        servers(passed),
        mechanisms(passed),
        extensions(passed),
        *proxies(passed),
        *clients(passed),
        kerberos(passed),
    )
    return OPENING + "".join(parts)


def versions() -> str:
    """Write the rest of the page, which may be another one where the same is proven."""
    return table(LAST, ["peer", "version"], ((name, find()) for name, find in VERSIONS.items()))


def servers(passed: frozenset[Proof]) -> str:
    """Write what was sent to which server, in which mode."""

    def row(kind: ServerKind) -> Sequence[str]:
        cases = {mode: f"{kind.name}-{mode.value}" for mode in MODES}
        sent = (mark(passed, "messages", case) for case in cases.values())
        found = any(("auto_finds_tls", frozenset({case})) in passed for case in cases.values())
        refusing = (mark(passed, "20_recipients_and_one_that_is_refused", cases[Mode.CLEAR]),)
        return [*sent, "yes" if found else "", *refusing]

    titles = ["server", *MODES.values(), "AUTO finds TLS", "a recipient is refused"]
    rows = ([kind.name, *row(kind)] for kind in SERVERS)
    return table("Servers: messages that arrive as they were sent", titles, rows)


def mechanisms(passed: frozenset[Proof]) -> str:
    """Write which mechanism was used with which server, and whether in clear or under TLS."""

    def cell(kind: ServerKind, mechanism: str) -> str:
        return in_modes(
            lambda mode: (
                mark(passed, "every_mechanism", f"{kind.name}-{mode.value}", mechanism)
                or mark(passed, "every_mechanism", kind.name, mode.name, mechanism)
            )
        )

    used = [name for name in MECHANISMS if any(name in kind.all_mechanisms for kind in SERVERS)]
    rows = (
        [
            kind.name,
            *(cell(kind, mechanism) for mechanism in used),
            mark(passed, "a_wrong_password", f"{kind.name}-starttls"),
        ]
        for kind in SERVERS
        if kind.mechanisms
    )
    titles = ["server", *used, "a wrong password is told"]
    return table("Servers: logins", titles, rows)


def extensions(passed: frozenset[Proof]) -> str:
    """Write which extension was used with which server, and in which mode."""

    def cell(kind: ServerKind, extension: str, test: str) -> str:
        def marked(mode: Mode) -> str:
            offered = extension in kind.keywords_in(mode)
            return mark(passed, test, f"{kind.name}-{mode.value}") if offered else ""

        return in_modes(marked)

    rows = (
        [kind.name, *(cell(kind, extension, test) for extension, test in EXTENSIONS.items())]
        for kind in SERVERS
    )
    return table("Servers: extensions", ["server", *EXTENSIONS], rows)


def proxies(passed: frozenset[Proof]) -> Iterable[str]:
    """Write which proxies were gone through, alone and one behind another."""

    def row(kind: ProxyKind, scheme: str) -> Sequence[str]:
        hop = f"{kind.name} {scheme}"
        modes = (
            mark(passed, "the_other_modes", hop, "CLEAR"),
            mark(passed, "a_message", hop),
            mark(passed, "the_other_modes", hop, "IMPLICIT"),
        )
        wrong = mark(passed, "a_wrong_password", hop)
        nobody = mark(passed, "a_destination_where_nobody_listens", hop)
        return [kind.name, scheme, *modes, wrong, nobody]

    refusals = ["a wrong password is told", "nobody listens there"]
    titles = ["proxy", "protocol", *MODES.values(), *refusals]
    yield table(
        "Proxies: what goes through to Postfix",
        titles,
        (row(kind, scheme) for kind in PROXIES for scheme in kind.schemes),
    )
    yield table("Chains of proxies", ["chain"], all_of(passed, "chains"))
    headers = all_of(passed, "the_server_learns_where_the_client_is")
    yield table("The PROXY header", ["server", "family", "version"], headers)


def clients(passed: frozenset[Proof]) -> Iterable[str]:
    """Write which clients delivered to our servers, in which mode, and how they logged in."""
    mode_test, none = "every_mode_of_security_with_every_mechanism", str(None)

    def row(client: str) -> Sequence[str]:
        modes = (mark(passed, mode_test, client, mode.value, none) for mode in MODES)
        content = mark(passed, "the_messages_of_the_demo_arrive_as_they_were_sent", client)
        return [client, *modes, content]

    def cell(client: str, mechanism: str) -> str:
        return in_modes(lambda mode: mark(passed, mode_test, client, mode.value, mechanism))

    titles = ["client", *MODES.values(), "messages arrive as they were sent"]
    yield table("Clients that deliver to our servers", titles, map(row, CLIENTS))
    used = [name for name in MECHANISMS if any(cell(client, name) for client in CLIENTS)]
    rows = ([client, *(cell(client, name) for name in used)] for client in CLIENTS)
    yield table("Clients: logins", ["client", *used], rows)
    bound = ([name, mark(passed, "every_mechanism", name)] for name in MECHANISMS)
    yield table("GNU SASL: logins", ["mechanism", "STARTTLS"], (row for row in bound if row[1]))


def kerberos(passed: frozenset[Proof]) -> str:
    """Write who was logged in at with Kerberos tickets, and who logged in with some at ours."""
    used = ("GSSAPI", "GSS-SPNEGO")
    dovecot = (mark(passed, "a_message_to_dovecot", each, "tickets") for each in used)
    rows = [
        [DOVECOT_SUBMISSION.name, *dovecot],
        *(
            [each, mark(passed, "clients_of_others_deliver", each), ""]
            for each in ("curl", "msmtp")
        ),
        ["gsasl", mark(passed, "gsasl_logs_in"), ""],
    ]
    return table("Kerberos: logins behind STARTTLS", ["peer", *used], rows)


def all_of(passed: frozenset[Proof], test: str) -> Sequence[Sequence[str]]:
    """Give the parameters that a test has passed with, the longest first."""
    rows = (parameters for name, parameters in passed if name == test)
    return sorted(sorted(row, key=lambda text: (-len(text), text)) for row in rows)


def in_modes(marked: Callable[[Mode], str]) -> str:
    """Name the modes that have a mark."""
    return ", ".join(name for mode, name in MODES.items() if marked(mode))


def mark(passed: frozenset[Proof], test: str, *parameters: str) -> str:
    """Say whether a test with these parameters has passed."""
    return "yes" if (test, frozenset(parameters)) in passed else ""


def table(title: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table under its title."""
    first, *others = (f"| {' | '.join(row)} |\n" for row in (titles, *rows))
    return f"\n## {title}\n\n{first}{'|---' * len(titles)}|\n{''.join(others)}"


def run(*arguments: str) -> str | None:
    """Run tests, and write the page but for the versions. None: one of them failed."""
    recorder = Recorder()
    code = pytest.main(["--quiet", *arguments], plugins=[recorder])
    return page(frozenset(recorder.passed)) if code == pytest.ExitCode.OK else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 if the page is stale, or if a test failed; then it stays so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing: is the page fresh?")
    if parser.parse_args(arguments).check:
        return check(run("-m", "interop", "--hypothesis-profile=ci"))
    os.environ["SMTP_PROTO_CI"] = "1"  # then a peer that is not there is a failure
    proven = run(*TESTS)
    if proven is not None:
        PAGE.write_text(proven + versions(), encoding="utf-8")
    return int(proven is None)


def check(proven: str | None) -> int:
    """Say whether that is on the page, where every peer had to be there."""
    if proven is None:
        return 1
    shown = PAGE.read_text(encoding="utf-8").rpartition(f"\n## {LAST}\n")[0]
    if os.environ.get("SMTP_PROTO_CI") == "1" and shown != proven:
        print(f"{PAGE} is not what this run has proven: run `make peers`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
