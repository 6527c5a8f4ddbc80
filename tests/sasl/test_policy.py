"""The policy: the strongest mechanism that is allowed, and a reason for each other one."""

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    ClientContext,
    Credentials,
    Mechanism,
    ServerContext,
    Strength,
)
from smtp_proto.sasl.plain import PlainServer
from smtp_proto.sasl.policy import Choice, Policy, choose
from smtp_proto.sasl.registry import MECHANISMS

CREDENTIALS = Credentials("tim", "secret")

NOT_OFFERED = "the server does not offer it"
UNKNOWN = "it is not known here"
NOT_ALLOWED = "the policy does not allow it"
REVEALING = "it reveals the password, and there is no TLS"
WEAK = "it is weak, there is no TLS, and the policy does not name it"
PLAIN_FIRST = "PLAIN comes first"


def allow(*names: str, allow_cleartext: bool = False) -> Policy:
    return Policy(frozenset(names), allow_cleartext)


def told(choice: Choice) -> tuple[str | None, dict[str, str]]:
    name = None if choice.mechanism is None else choice.mechanism.name
    return name, dict(choice.passed_over)


ALL = ("LOGIN", "CRAM-MD5", "PLAIN")


@pytest.mark.parametrize(
    ("policy", "offered", "secure", "chosen", "passed_over"),
    [
        # With TLS, the strongest first whatever the server's order; CRAM-MD5 is the last resort.
        (Policy(), ALL, True, "PLAIN", {"LOGIN": PLAIN_FIRST, "CRAM-MD5": PLAIN_FIRST}),
        (Policy(), ("LOGIN", "CRAM-MD5"), True, "LOGIN", {"CRAM-MD5": "LOGIN comes first"}),
        (Policy(), ("CRAM-MD5",), True, "CRAM-MD5", {}),
        (Policy(), (), True, None, {}),
        # Without TLS, nothing by itself.
        (Policy(), ALL, False, None, {"PLAIN": REVEALING, "LOGIN": REVEALING, "CRAM-MD5": WEAK}),
        (allow("PLAIN"), ("PLAIN",), False, None, {"PLAIN": REVEALING}),
        (
            Policy(allow_cleartext=True),
            ALL,
            False,
            "PLAIN",
            {"LOGIN": PLAIN_FIRST, "CRAM-MD5": PLAIN_FIRST},
        ),
        (Policy(allow_cleartext=True), ("CRAM-MD5",), False, None, {"CRAM-MD5": WEAK}),
        (
            allow("CRAM-MD5"),
            ALL,
            False,
            "CRAM-MD5",
            {"PLAIN": NOT_ALLOWED, "LOGIN": NOT_ALLOWED},
        ),
        (
            allow("CRAM-MD5", "PLAIN"),
            ALL,
            False,
            "CRAM-MD5",
            {"PLAIN": REVEALING, "LOGIN": NOT_ALLOWED},
        ),
        # One that is named alone is never replaced.
        (
            allow("LOGIN"),
            ALL,
            True,
            "LOGIN",
            {"PLAIN": NOT_ALLOWED, "CRAM-MD5": "LOGIN comes first"},
        ),
        (
            allow("LOGIN"),
            ("PLAIN", "CRAM-MD5"),
            True,
            None,
            {"LOGIN": NOT_OFFERED, "PLAIN": NOT_ALLOWED, "CRAM-MD5": NOT_ALLOWED},
        ),
        (allow("PLAIN", "X-OWN"), ("PLAIN",), True, "PLAIN", {"X-OWN": NOT_OFFERED}),
        (allow("X-OWN"), ("X-OWN",), True, None, {"X-OWN": UNKNOWN}),
        (allow(), ("PLAIN",), True, None, {"PLAIN": NOT_ALLOWED}),
        # Names are matched exactly.
        (
            Policy(),
            ("PLAIN2", "LOGIN1", "CRAM_MD5", "plain"),
            True,
            None,
            {"PLAIN2": UNKNOWN, "LOGIN1": UNKNOWN, "CRAM_MD5": UNKNOWN, "plain": UNKNOWN},
        ),
        (Policy(), ("PLAIN", "PLAIN"), True, "PLAIN", {}),
    ],
)
def test_the_choice(
    policy: Policy,
    offered: tuple[str, ...],
    secure: bool,
    chosen: str | None,
    passed_over: dict[str, str],
) -> None:
    assert told(choose(policy, offered, CREDENTIALS, secure)) == (chosen, passed_over)


def test_a_mechanism_that_cannot_carry_the_credentials_is_passed_over() -> None:
    credentials = Credentials("tim", "secret", "ursel")
    choice = choose(Policy(), ("LOGIN", "CRAM-MD5"), credentials, secure=True)
    why = "it cannot carry an authorization identity"
    assert told(choice) == (None, {"LOGIN": why, "CRAM-MD5": why})
    assert told(choose(Policy(), ALL, credentials, secure=True))[0] == "PLAIN"


def test_no_reason_quotes_a_credential() -> None:
    credentials = Credentials("canary", "canary\0")
    choice = choose(Policy(), ALL, credentials, secure=True)
    assert choice.mechanism is None
    assert "canary" not in repr(choice)
    assert "canary" not in repr(choose(Policy(), ALL, Credentials("canary", "canary"), True))


@pytest.mark.parametrize("name", ["plain", "", "PLAIN ", "PLÄIN", "A" * 21, "PLAIN\n"])
def test_what_is_no_name_cannot_be_allowed(name: str) -> None:
    with pytest.raises(ValueError, match="allowed"):
        allow("PLAIN", name)


NAMES = st.sampled_from(["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "X-OWN"])


@given(
    policy=st.builds(Policy, st.none() | st.frozensets(NAMES), st.booleans()),
    offered=st.lists(NAMES),
    secure=st.booleans(),
)
def test_every_name_is_accounted_for(policy: Policy, offered: list[str], secure: bool) -> None:
    choice = choose(policy, offered, CREDENTIALS, secure)
    names = [name for name, _ in choice.passed_over]
    if choice.mechanism is not None:
        names.append(choice.mechanism.name)
        assert choice.mechanism.name in offered
        assert policy.allowed is None or choice.mechanism.name in policy.allowed
        assert secure or policy.allow_cleartext or not choice.mechanism.reveals_password
    assert sorted(names) == sorted({*offered, *(policy.allowed or ())})


# --- Mechanisms of others ------------------------------------------------------------------------


class ProofClient:
    name: ClassVar[str] = "X-PROOF"
    reveals_password: ClassVar[bool] = False

    def __init__(
        self, credentials: Credentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        if context.nonce is None:
            raise SASLError("it needs a nonce")
        self._message = credentials.authentication_identity.encode() + context.nonce()

    def start(self) -> bytes:
        return self._message

    def respond(self, _challenge: bytes) -> bytes:
        return b""

    def finish(self) -> None:
        pass


class BoundClient(ProofClient):
    name: ClassVar[str] = "X-PROOF-PLUS"

    def __init__(
        self, credentials: Credentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        super().__init__(credentials, context)
        if not context.channel_bindings:
            raise SASLError("it needs a channel binding")


class UselessClient(ProofClient):
    name: ClassVar[str] = "X-USELESS"


OTHERS = (
    *MECHANISMS,
    Mechanism(UselessClient, PlainServer, Strength.NONE),
    Mechanism(ProofClient, PlainServer, Strength.PROOF),
    Mechanism(BoundClient, PlainServer, Strength.BOUND),
)
OTHER_NAMES = ("PLAIN", "X-USELESS", "X-PROOF", "X-PROOF-PLUS")
NONCE = ClientContext(nonce=lambda: b"-nonce")
BINDING = ClientContext(nonce=lambda: b"-nonce", channel_bindings={"tls-exporter": b"\1"})


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(
    ("context", "chosen", "missing"),
    [
        (BINDING, "X-PROOF-PLUS", {}),
        (NONCE, "X-PROOF", {"X-PROOF-PLUS": "it needs a channel binding"}),
    ],
)
def test_a_proof_goes_before_a_password_on_any_connection(
    secure: bool, context: ClientContext, chosen: str, missing: dict[str, str]
) -> None:
    choice = choose(Policy(), OTHER_NAMES, CREDENTIALS, secure, context=context, mechanisms=OTHERS)
    name, passed_over = told(choice)
    assert name == chosen
    assert missing.items() <= passed_over.items()
    assert choice.mechanism is not None
    assert choice.mechanism.start() == b"tim-nonce"


def test_what_proves_nothing_is_used_by_name_only() -> None:
    choice = choose(
        Policy(), ["X-USELESS"], CREDENTIALS, secure=True, context=NONCE, mechanisms=OTHERS
    )
    assert told(choice) == (
        None,
        {"X-USELESS": "it proves nothing, and the policy does not name it"},
    )
    choice = choose(
        allow("X-USELESS"), ["X-USELESS"], CREDENTIALS, False, context=NONCE, mechanisms=OTHERS
    )
    assert told(choice) == ("X-USELESS", {})


def test_a_server_context_allows_nothing_by_itself() -> None:
    assert not ServerContext("mx.example.org", lambda: bytes(16)).proxy_authorization
