"""Envelopes: addresses and their parameters, before anything is sent.

Knows what an envelope is made of. Must not know any server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from smtp_proto.flow.envelope import Envelope
from smtp_proto.wire import (
    NO_RCPT_PARAMETERS,
    NULL_REVERSE_PATH,
    POSTMASTER,
    Mailbox,
    MailParameters,
    Notify,
    RcptParameters,
    WireError,
)

ON_FAILURE = RcptParameters(notify=frozenset({Notify.FAILURE}))


def test_an_envelope_from_strings() -> None:
    envelope = Envelope.of("a@example.org", ["b@example.net", "postmaster"])
    assert envelope.reverse_path == Mailbox("a", "example.org")
    assert envelope.forward_paths == (Mailbox("b", "example.net"), POSTMASTER)
    assert envelope.has_no_parameters


def test_one_recipient_needs_no_list() -> None:
    assert Envelope.of("", "b@example.net") == Envelope.of("", ["b@example.net"])
    assert Envelope.of("", "b@example.net").reverse_path is NULL_REVERSE_PATH


def test_a_recipient_given_twice_counts_once() -> None:
    envelope = Envelope.of("", ["b@example.net", "c@example.net", '"b"@example.net'])
    assert list(map(str, envelope.forward_paths)) == ["b@example.net", "c@example.net"]


@pytest.mark.parametrize(
    "given",
    [
        ["b@exämple.net", "b@xn--exmple-cua.net"],
        ["b@xn--exmple-cua.net", "b@exämple.net"],
        ["b@EXÄMPLE.net", "b@exämple.net"],
        ["é@exämple.net", "é@xn--exmple-cua.net"],
    ],
)
def test_two_spellings_of_a_recipient_count_once(given: list[str]) -> None:
    envelope = Envelope.of("", [*given, "c@example.net", "postmaster"])
    assert envelope == Envelope.of("", [given[0], "c@example.net", "postmaster"])


def test_two_that_may_be_one_stay_two() -> None:
    for recipients in (
        ["b@straße.example", "b@xn--strae-oqa.example"],  # RFC 5894 7.2
        ["é@[192.0.2.1]", "b@[192.0.2.1]"],
        ["é@example.net", "e@example.net"],
    ):
        assert list(Envelope.of("", recipients).recipients) == recipients


def test_nobody_to_send_to() -> None:
    with pytest.raises(ValueError, match="at least one recipient"):
        Envelope.of("a@example.org", [])


def test_a_recipient_may_not_be_there_twice() -> None:
    envelope = Envelope.of("a@example.org", "b@example.net")
    with pytest.raises(WireError, match="twice"):
        replace(envelope, forward_paths=envelope.forward_paths * 2)


@pytest.mark.parametrize("text", ["", "b", "b@", "<b@example.net>", "b@example.net, c@example.net"])
def test_what_is_no_recipient(text: str) -> None:
    with pytest.raises(WireError):
        Envelope.of("a@example.org", text)


@pytest.mark.parametrize("text", ["a", "Postmaster", "<>", "<a@example.org>"])
def test_what_is_no_sender(text: str) -> None:
    with pytest.raises(WireError):
        Envelope.of(text, "b@example.net")


def test_parameters_are_for_each_recipient() -> None:
    envelope = Envelope.of("", ["b@example.net", "postmaster"], rcpt_parameters=ON_FAILURE)
    assert dict(envelope.rcpt_parameters) == dict.fromkeys(envelope.forward_paths, ON_FAILURE)
    assert not envelope.has_no_parameters


def test_parameters_are_for_those_who_are_named() -> None:
    recipients = ["b@example.net", "c@exämple.net", "postmaster"]
    envelope = Envelope.of(
        "", recipients, rcpt_parameters={"c@EXÄMPLE.net": ON_FAILURE, "POSTMASTER": ON_FAILURE}
    )
    assert dict(envelope.rcpt_parameters) == dict.fromkeys(envelope.forward_paths[1:], ON_FAILURE)
    assert Envelope.of("", recipients, rcpt_parameters={}) == Envelope.of("", recipients)


@pytest.mark.parametrize("recipient", ["b@exämple.net", "b@xn--exmple-cua.net"])
@pytest.mark.parametrize("named", ["b@exämple.net", "b@xn--exmple-cua.net"])
def test_parameters_by_another_spelling(recipient: str, named: str) -> None:
    envelope = Envelope.of("", recipient, rcpt_parameters={named: ON_FAILURE})
    assert dict(envelope.rcpt_parameters) == {envelope.forward_paths[0]: ON_FAILURE}


@pytest.mark.parametrize(
    "spellings", [("b@exämple.net", "b@xn--exmple-cua.net"), ("b@example.net", '"b"@example.net')]
)
def test_parameters_for_two_spellings_are_the_same(spellings: tuple[str, str]) -> None:
    never = RcptParameters(notify=frozenset({Notify.NEVER}))
    same = dict.fromkeys(spellings, never)
    envelope = Envelope.of("", spellings, rcpt_parameters=same)
    assert dict(envelope.rcpt_parameters) == {envelope.forward_paths[0]: never}
    with pytest.raises(WireError, match="rcpt_parameters: two that differ for b@ex"):
        Envelope.of("", spellings, rcpt_parameters=same | {spellings[1]: ON_FAILURE})


def test_parameters_of_who_is_no_recipient() -> None:
    for named, why in (
        ("c@example.net", "rcpt_parameters: no recipient is c@example.net"),
        ("c", "forward-path: "),
    ):
        with pytest.raises(WireError) as refused:
            Envelope.of("", "b@example.net", rcpt_parameters={named: ON_FAILURE})
        assert str(refused.value).startswith(why)


@pytest.mark.parametrize("given", [{"b@example.net": None}, {1: ON_FAILURE}, [ON_FAILURE], None])
def test_what_are_no_parameters(given: object) -> None:
    make: Callable[..., Envelope] = Envelope.of
    with pytest.raises(TypeError, match="rcpt_parameters: it takes RcptParameters, or a mapping"):
        make("", "b@example.net", rcpt_parameters=given)


def test_no_parameters() -> None:
    plain = Envelope.of("", "b@example.net", rcpt_parameters=NO_RCPT_PARAMETERS)
    assert plain.has_no_parameters
    assert not replace(plain, mail_parameters=MailParameters(envid="x")).has_no_parameters


@pytest.mark.parametrize(
    ("sender", "recipient", "is_ascii"),
    [
        ("a@example.org", "b@example.net", True),
        ("", "postmaster", True),
        ("é@example.org", "b@example.net", False),
        ("a@exämple.org", "b@example.net", False),
        ("a@example.org", "b@exämple.net", False),
    ],
)
def test_whether_all_addresses_are_ascii(sender: str, recipient: str, *, is_ascii: bool) -> None:
    assert Envelope.of(sender, recipient).ascii is is_ascii


def test_domains_become_a_labels() -> None:
    parameters = MailParameters(envid="x")
    envelope = Envelope.of(
        "a@exämple.org",
        ["b@exämple.net", "postmaster"],
        mail_parameters=parameters,
        rcpt_parameters=ON_FAILURE,
    )
    assert envelope.to_ascii() == Envelope.of(
        "a@xn--exmple-cua.org",
        ["b@xn--exmple-cua.net", "postmaster"],
        mail_parameters=parameters,
        rcpt_parameters=ON_FAILURE,
    )


def test_the_null_reverse_path_stays_what_it_is() -> None:
    assert Envelope.of("", "b@example.net").to_ascii().reverse_path is NULL_REVERSE_PATH


@pytest.mark.parametrize(
    ("sender", "recipient"),
    [
        ("é@example.org", "b@example.net"),
        ("a@example.org", "é@example.net"),
        ("a@example.org", "b@straße.example"),
    ],
)
def test_what_has_no_form_in_ascii(sender: str, recipient: str) -> None:
    with pytest.raises(WireError):
        Envelope.of(sender, recipient).to_ascii()


def test_two_recipients_that_become_one() -> None:
    paths = Mailbox("b", "exämple.net"), Mailbox("b", "xn--exmple-cua.net")
    with pytest.raises(WireError, match="twice"):
        Envelope(NULL_REVERSE_PATH, paths).to_ascii()


def test_an_envelope_can_be_a_key() -> None:
    plain, notified = (
        Envelope.of("a@b.example", "c@d.example", rcpt_parameters=parameters)
        for parameters in (NO_RCPT_PARAMETERS, RcptParameters(frozenset({Notify.NEVER})))
    )
    again = Envelope.of("a@b.example", "c@d.example")
    assert {plain: 1, notified: 2}[again] == 1
