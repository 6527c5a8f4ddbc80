"""The same octets into our server and into others': each difference is known, and has a reason.

Knows how outcomes are compared, and told. Must not know why they differ: the differences say so.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

import pytest
import trustme

from tests.interop.conftest import Peers
from tests.interop.peers import AIOSMTPD as AIOSMTPD_PEER
from tests.interop.peers import EXIM, POSTFIX, Server, ServerKind
from tests.security.differences import (
    ADDRESSES,
    AIOSMTPD,
    BEHIND_STARTTLS,
    CHUNKS,
    COMMANDS,
    DOTS,
    PARAMETERS,
    STARTTLS,
    VERSIONS,
    Difference,
    chunks,
    command,
    end_of_data,
    explained,
    recipient,
    sender,
)
from tests.security.differences import EXIM as OF_EXIM
from tests.security.differences import POSTFIX as OF_POSTFIX
from tests.security.servers import Outcome, aiosmtpd, into_tls, ours, over_socket

Making = Callable[[bytes], tuple[bytes, ...]]
Codes = tuple[int, ...]
STREAMS: Mapping[Making, Sequence[bytes]] = {
    end_of_data: DOTS,
    command: COMMANDS,
    sender: PARAMETERS,
    recipient: ADDRESSES,
    chunks: CHUNKS,
}
ALL = {given: making for making, inputs in STREAMS.items() for given in inputs}


@cache
def here(given: bytes) -> Outcome:
    return ours(ALL[given](given))


# --- What is told --------------------------------------------------------------------------------

MESSAGES = ("no message", "one message", "two messages")


def answers(given: bytes, outcome: Outcome) -> Codes:
    """The codes of the replies to an input."""
    making = ALL[given]
    if making is sender:
        return outcome.codes[2:3]
    if making is recipient:
        return outcome.codes[3:4]
    codes = outcome.codes[len(making(b"")) :]  # each piece comes behind a reply
    return codes[:-1] if codes[-1:] == (421,) else codes  # that to the end of the stream


def told(given: bytes, outcome: Outcome) -> str:
    """What a server made of an input, as a table has it."""
    making = ALL[given]
    said = _said(answers(given, outcome))
    if making in (end_of_data, chunks):
        return f"{said}: {MESSAGES[len(outcome.messages)]}"
    if making is sender and outcome.messages:
        by = outcome.messages[0].sender.encode(errors="surrogateescape")
        return f"{said}, from {repr(by)[2:-1] or 'nobody'}"
    if making is recipient and outcome.messages:
        same = _recipients(outcome) == [_unquoted(given.decode())]
        return said if same else f"{said}, another address"
    return said


def _said(codes: Codes) -> str:
    return ", ".join(map(str, codes)) or "none, more is awaited"


def _recipients(outcome: Outcome) -> list[str]:
    return [_unquoted(each) for message in outcome.messages for each in message.recipients]


def _unquoted(address: str) -> str:
    """The same without quotation marks: some servers add them."""
    return re.sub(r'^"(.*)"@', r"\1@", address)


def assert_told(differences: Iterable[Difference], there: Mapping[bytes, Outcome]) -> None:
    """Each difference is told as it is."""
    for each in differences:
        for column, outcome_of in ((each.ours, here), (each.theirs, there.__getitem__)):
            readings = (told(given, outcome_of(given)) for given in each.shortest_first)
            assert column == " or ".join(dict.fromkeys(readings)), each


@pytest.mark.parametrize(
    "differences",
    [AIOSMTPD, OF_POSTFIX, OF_EXIM, STARTTLS],
    ids=["aiosmtpd", "Postfix", "Exim", "STARTTLS"],
)
def test_no_input_is_explained_twice(differences: Sequence[Difference]) -> None:
    assert len(explained(differences)) == sum(len(each.inputs) for each in differences)


# --- aiosmtpd ------------------------------------------------------------------------------------


def in_memory(outcome: Outcome) -> object:
    return outcome.classes, outcome.messages, outcome.ended


@pytest.mark.parametrize("given", [each for each in ALL if each not in CHUNKS], ids=repr)
def test_aiosmtpd(given: bytes) -> None:
    same = in_memory(here(given)) == in_memory(aiosmtpd(ALL[given](given)))
    assert same == (given not in explained(AIOSMTPD))


def test_what_is_told_of_aiosmtpd() -> None:
    assert_told(AIOSMTPD, {given: aiosmtpd(ALL[given](given)) for given in explained(AIOSMTPD)})


# --- Over a socket -------------------------------------------------------------------------------

_VERSION = re.compile(r"(?:-- version|exim) (\d+\.\d+)")  # as their logs begin


def on_the_wire(given: bytes, outcome: Outcome) -> object:
    """What tells whether two servers read a stream in the same way, whatever else they think."""
    classes = [code // 100 for code in answers(given, outcome)]
    return classes, [each.sender for each in outcome.messages], _recipients(outcome)


def need_version(server: Server) -> None:
    """Skip the test if the table is of another version than the server."""
    found = server.wait(lambda: _VERSION.search(server.log()), "Nobody knows its version.")
    if found[1] != VERSIONS[server.name]:
        pytest.skip(f"The table is of {server.name} {VERSIONS[server.name]}, here is {found[1]}.")


@pytest.mark.interop
@pytest.mark.parametrize(
    ("kind", "differences"),
    [(POSTFIX, OF_POSTFIX), (EXIM, OF_EXIM)],
    ids=["Postfix", "Exim"],
)
def test_each_difference_is_explained(
    kind: ServerKind, differences: Sequence[Difference], peers: Peers
) -> None:
    server = peers.server(kind)
    need_version(server)
    there = {given: over_socket(server, making(given)) for given, making in ALL.items()}
    assert not server.deliveries(0)  # that no reply has told of
    assert set(_differing(there)) == explained(differences).keys()
    assert_told(differences, there)


def _differing(there: Mapping[bytes, Outcome]) -> Iterator[bytes]:
    for given, outcome in there.items():
        if on_the_wire(given, here(given)) != on_the_wire(given, outcome):
            yield given


# --- STARTTLS ------------------------------------------------------------------------------------


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.example.org").configure_cert(made)
    return made


@pytest.mark.parametrize("given", BEHIND_STARTTLS, ids=repr)
def test_nothing_may_follow_starttls(given: bytes) -> None:
    assert ours(command(given), context()) == Outcome((220, 250, 554), (), ended=True)
    assert explained(STARTTLS)[given].ours == "554, and the connection is closed"


@pytest.mark.interop
@pytest.mark.parametrize("given", BEHIND_STARTTLS, ids=repr)
@pytest.mark.parametrize("kind", [AIOSMTPD_PEER, POSTFIX, EXIM], ids=lambda kind: kind.name)
def test_others_shake_hands_and_obey_none_of_it(
    kind: ServerKind, given: bytes, peers: Peers
) -> None:
    in_clear, inside = into_tls(peers.server(kind), command(given), b"NOOP\r\n", b"QUIT\r\n")
    assert in_clear[:2] == (220, 250)
    said = f"{_said(in_clear[2:])}, and inside {_said(inside)} to NOOP and QUIT"
    assert explained(STARTTLS)[given].theirs == said


@pytest.mark.interop
@pytest.mark.parametrize("kind", [AIOSMTPD_PEER, POSTFIX, EXIM], ids=lambda kind: kind.name)
def test_what_is_obeyed_would_be_seen(kind: ServerKind, peers: Peers) -> None:
    server, obeyed = peers.server(kind), b"EHLO injected\r\nNOOP\r\n"
    in_clear, inside = into_tls(server, command(b"STARTTLS\r\n"), obeyed, b"QUIT\r\n")
    assert (in_clear, inside) == ((220, 250, 220), (250, 250, 221))
