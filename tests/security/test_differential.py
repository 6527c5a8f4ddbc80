"""The same octets into our server and into others': each difference is known, and has a reason.

Knows how two outcomes are compared. Must not know why they differ: the differences say so.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType

import pytest
import trustme

from tests.interop.conftest import Peers
from tests.interop.peers import AIOSMTPD as AIOSMTPD_PEER
from tests.interop.peers import EXIM, HOST, POSTFIX, Mode, ServerKind
from tests.security.differences import (
    ADDRESSES,
    AIOSMTPD,
    BEHIND_STARTTLS,
    COMMANDS,
    DOTS,
    PARAMETERS,
    STARTTLS,
    Difference,
    command,
    end_of_data,
    explained,
    recipient,
)
from tests.security.differences import EXIM as OF_EXIM
from tests.security.differences import POSTFIX as OF_POSTFIX
from tests.security.servers import Outcome, aiosmtpd, ours, over_socket

Making = Callable[[bytes], tuple[bytes, ...]]
STREAMS: tuple[tuple[Sequence[bytes], Making], ...] = (
    (DOTS, end_of_data),
    (COMMANDS, command),
    (PARAMETERS, command),
    (ADDRESSES, recipient),
)
ALL = [(each, making) for inputs, making in STREAMS for each in inputs]


# --- aiosmtpd ------------------------------------------------------------------------------------


def in_memory(outcome: Outcome) -> object:
    return outcome.classes, outcome.messages, outcome.ended


def _identifier(value: object) -> str:
    """The same in each process: the representation of a function is not."""
    return value.__name__ if isinstance(value, FunctionType) else repr(value)


@pytest.mark.parametrize(("given", "making"), ALL, ids=_identifier)
def test_aiosmtpd(given: bytes, making: Making) -> None:
    same = in_memory(ours(making(given))) == in_memory(aiosmtpd(making(given)))
    assert same == (given not in explained(AIOSMTPD))


def test_no_difference_is_explained_that_is_none() -> None:
    streams = {each for each, _ in ALL} | set(BEHIND_STARTTLS)
    for differences in (AIOSMTPD, OF_POSTFIX, OF_EXIM, STARTTLS):
        inputs = [each for difference in differences for each in difference.inputs]
        assert len(set(inputs)) == len(inputs)
        assert set(inputs) <= streams


# --- Over a socket -------------------------------------------------------------------------------


def on_the_wire(outcome: Outcome, making: Making) -> object:
    """What tells whether two servers read a stream in the same way, whatever else they think."""
    codes = list(outcome.codes)
    if making is end_of_data:
        # 220, 250 three times, 354, and the verdict; then QUIT, if nothing was smuggled.
        return codes[5] // 100, codes[6:] in ([], [221])
    if making is recipient:
        return codes[3] // 100
    if codes[-1] == 421:  # the stream has ended
        codes.pop()
    return [code // 100 for code in codes]


def differing(kind: ServerKind, peers: Peers) -> Iterator[bytes]:
    port = peers.server(kind).ports[Mode.CLEAR]
    for given, making in ALL:
        theirs = over_socket(HOST, port, making(given))
        if on_the_wire(ours(making(given)), making) != on_the_wire(theirs, making):
            yield given


@pytest.mark.interop
@pytest.mark.parametrize(
    ("kind", "differences"),
    [(POSTFIX, OF_POSTFIX), (EXIM, OF_EXIM)],
    ids=["Postfix", "Exim"],
)
def test_each_difference_is_explained(
    kind: ServerKind, differences: Sequence[Difference], peers: Peers
) -> None:
    # Another version may have closed a hole: fewer differences are no failure.
    assert set(differing(kind, peers)) <= explained(differences).keys()


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.example.org").configure_cert(made)
    return made


@pytest.mark.parametrize("given", BEHIND_STARTTLS, ids=repr)
def test_nothing_may_follow_starttls(given: bytes) -> None:
    assert ours(command(given), context()) == Outcome((220, 250, 554), (), ended=True)


@pytest.mark.interop
@pytest.mark.parametrize("kind", [AIOSMTPD_PEER, POSTFIX, EXIM], ids=lambda kind: kind.name)
def test_others_drop_it(kind: ServerKind, peers: Peers) -> None:
    port = peers.server(kind).ports[Mode.STARTTLS]
    for given in BEHIND_STARTTLS:
        there = over_socket(HOST, port, command(given))
        assert there.codes[:3] in ((220, 250, 220), (220, 250, 554)), given
        assert not there.codes[3:], given
    assert explained(STARTTLS).keys() == set(BEHIND_STARTTLS)
