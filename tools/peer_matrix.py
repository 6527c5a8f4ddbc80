"""Runs the tests with servers and proxies of others, and writes what they proved.

`python -m tools.peer_matrix` needs all of them, as tests/interop/install.sh installs them. Knows
the names of those tests and of their parameters. Must not know how a peer is run.
"""

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
from tests.interop.peers import PROXIES, SERVERS, Mode, ProxyKind, ServerKind
from tools.page import ROOT

PAGE = ROOT / "docs" / "peers.md"
TESTS = tuple(
    f"tests/interop/test_{name}.py" for name in ("servers", "auth", "proxies", "clients", "gsasl")
)
UNPACKED = Path(os.environ.get("SMTP_PROTO_PEERS", "/var/cache/smtp-proto-tests"))

OPENING = """\
# Who it was tried with

Made by `python -m tools.peer_matrix`, which runs the tests of `tests/interop` with real servers,
proxies and clients and writes down what passed. "yes" is a test that passed in each of the three
worlds: sockets, asyncio and trio. What has no mark is not offered by the peer, or was not tried.
"""

# --- What a run proves -----------------------------------------------------------------------

Proof: TypeAlias = tuple[str, frozenset[str]]
"""The name of a test, and its parameters but for the world."""


@dataclass(slots=True)
class Recorder:
    """A plugin of pytest that keeps which tests passed."""

    passed: set[Proof] = field(default_factory=set[Proof])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the test, if this is the report that it passed."""
        report = yield
        if report.when == "call" and report.passed:
            self.passed.add(proof(item))
        return report


def proof(item: pytest.Function) -> Proof:
    """Name what a test proves."""
    parameters = {name: value for name, value in item.callspec.params.items() if name != "world"}
    return item.originalname.removeprefix("test_"), frozenset(map(text, parameters.values()))


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
    "smtplib": platform.python_version,
    "aiosmtplib": lambda: version("aiosmtplib"),
    "gsasl": debian("gsasl"),
}
"""The name of a peer, of a proxy its first word, and how its version is found."""

# --- The page --------------------------------------------------------------------------------

MODES = {Mode.CLEAR: "clear", Mode.STARTTLS: "STARTTLS", Mode.IMPLICIT: "TLS"}
MECHANISMS = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
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
}
"""The extensions that are used where they are offered, and the test that does it."""


def page(passed: frozenset[Proof]) -> str:
    """Write the whole page."""
    python = f"\nThis run: Python {platform.python_version()}, {platform.system()}.\n"
    parts = (
        servers(passed),
        mechanisms(passed),
        extensions(passed),
        *proxies(passed),
        *clients(passed),
    )
    return OPENING + python + "".join(parts)


def servers(passed: frozenset[Proof]) -> str:
    """Write what was sent to which server, in which mode."""

    def row(kind: ServerKind) -> Sequence[str]:
        cases = {mode: f"{kind.name}-{mode.value}" for mode in MODES}
        sent = (mark(passed, "messages", case) for case in cases.values())
        found = any(("auto_finds_tls", frozenset({case})) in passed for case in cases.values())
        refusing = (mark(passed, "20_recipients_and_one_that_is_refused", cases[Mode.CLEAR]),)
        return [found_version(kind.name), *sent, "yes" if found else "", *refusing]

    titles = ["server", "version", *MODES.values(), "AUTO finds TLS", "a recipient is refused"]
    rows = ([kind.name, *row(kind)] for kind in SERVERS)
    return table("Servers: messages that arrive as they were sent", titles, rows)


def mechanisms(passed: frozenset[Proof]) -> str:
    """Write which mechanism was used with which server, and whether in clear or under TLS."""

    def cell(kind: ServerKind, mechanism: str) -> str:
        return ", ".join(
            name
            for mode, name in MODES.items()
            if mark(passed, "every_mechanism", f"{kind.name}-{mode.value}", mechanism)
            or mark(passed, "every_mechanism", kind.name, mode.name, mechanism)
        )

    used = [
        mechanism
        for mechanism in MECHANISMS
        if any(mechanism in kind.mechanisms | kind.token_mechanisms for kind in SERVERS)
    ]
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
    """Write which extension was used with which server."""

    def cell(kind: ServerKind, extension: str, test: str) -> str:
        offered = extension in kind.keywords
        return mark(passed, test, f"{kind.name}-{kind.modes[-1].value}") if offered else ""

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
        return [kind.name, found_version(kind.name.split()[0]), scheme, *modes, wrong, nobody]

    refusals = ["a wrong password is told", "nobody listens there"]
    titles = ["proxy", "version", "protocol", *MODES.values(), *refusals]
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
        return [client, found_version(client), *modes, content]

    def cell(client: str, mechanism: str) -> str:
        return ", ".join(
            name
            for mode, name in MODES.items()
            if mark(passed, mode_test, client, mode.value, mechanism)
        )

    titles = ["client", "version", *MODES.values(), "messages arrive as they were sent"]
    yield table("Clients that deliver to our servers", titles, map(row, CLIENTS))
    used = [name for name in MECHANISMS if any(cell(client, name) for client in CLIENTS)]
    rows = ([client, *(cell(client, name) for name in used)] for client in CLIENTS)
    yield table("Clients: logins", ["client", *used], rows)
    bound = ([name, mark(passed, "every_mechanism", name)] for name in MECHANISMS)
    titles = ["mechanism", f"STARTTLS, version {found_version('gsasl')}"]
    yield table("GNU SASL: logins", titles, (row for row in bound if row[1]))


def all_of(passed: frozenset[Proof], test: str) -> Sequence[Sequence[str]]:
    """Give the parameters that a test has passed with, the longest first."""
    rows = (parameters for name, parameters in passed if name == test)
    return sorted(sorted(row, key=lambda text: (-len(text), text)) for row in rows)


def mark(passed: frozenset[Proof], test: str, *parameters: str) -> str:
    """Say whether a test with these parameters has passed."""
    return "yes" if (test, frozenset(parameters)) in passed else ""


def found_version(name: str) -> str:
    """Find the version of a peer."""
    return VERSIONS[name]()


def table(title: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table under its title."""
    first, *others = (f"| {' | '.join(row)} |\n" for row in (titles, *rows))
    return f"\n## {title}\n\n{first}{'|---' * len(titles)}|\n{''.join(others)}"


def main() -> int:
    """Return the exit code of the tests; if one of them failed, the page stays as it was."""
    os.environ["SMTP_PROTO_CI"] = "1"  # then a peer that is not there is a failure
    recorder = Recorder()
    code = pytest.main(["--quiet", *(str(ROOT / test) for test in TESTS)], plugins=[recorder])
    if code == pytest.ExitCode.OK:
        PAGE.write_text(page(frozenset(recorder.passed)), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
