"""The policy: the strongest mechanism that is allowed, and a reason for each other one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    NO_CLIENT_CONTEXT,
    AnonymousCredentials,
    AnyCredentials,
    ClientContext,
    ClientMechanism,
    Credentials,
    ExternalCredentials,
    KerberosCredentials,
    Mechanism,
    Rejected,
    ServerContext,
    Strength,
    TokenCredentials,
    TokenSource,
    require,
)
from smtp_proto.sasl.policy import NONE_EXCLUDED, Choice, Policy, choose, may_try_another
from smtp_proto.sasl.registry import CLIENT_MECHANISMS, MECHANISMS
from tests.sasl.exchanges import CLIENT_CONTEXT, SERVER_CONTEXT, scram_server

CREDENTIALS = Credentials("tim", "secret")

NOT_OFFERED = "the server does not offer it"
UNKNOWN = "it is not known here"
NOT_ALLOWED = "the policy does not allow it"
REVEALING = "it reveals the password, and there is no TLS"
WEAK = "it is weak, there is no TLS, and the policy does not name it"
PLAIN_FIRST = "PLAIN comes first"
BY_NAME = "it is used only where the policy allows it by name"
NO_NONCE = "it needs fresh random octets, and has no source of them"
NO_BINDING = "it needs channel binding, which this connection does not have"
NO_PASSWORD = "it takes a password, not a token"
NO_TOKEN = "it takes a token, not a password"


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
    with pytest.raises(ValueError, match="order"):
        Policy(order=("PLAIN", name))


# --- All that there is ---------------------------------------------------------------------------

DEFAULT = Policy()
EVERY = tuple(sorted(CLIENT_MECHANISMS))
UNBOUND = replace(CLIENT_CONTEXT, channel_bindings={})
TOKEN = TokenCredentials("tim", "secret")
SOURCE = TokenSource("tim", lambda: "secret")


def chosen(
    policy: Policy = DEFAULT,
    offered: Iterable[str] = EVERY,
    credentials: AnyCredentials = CREDENTIALS,
    *,
    secure: bool = True,
    context: ClientContext = CLIENT_CONTEXT,
) -> str | None:
    return told(choose(policy, tuple(offered), credentials, secure, context=context))[0]


def ranking(credentials: AnyCredentials, policy: Policy = DEFAULT, *, secure: bool) -> list[str]:
    """What is chosen, what is chosen if that is not offered, and so on."""
    names: list[str] = []
    while name := chosen(
        policy, [each for each in EVERY if each not in names], credentials, secure=secure
    ):
        names.append(name)
    return names


PROOFS = [
    "SCRAM-SHA-512-PLUS",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
]
TOKENS = ["OAUTHBEARER", "XOAUTH2"]
BY_NAME_ONLY = {"DIGEST-MD5", "EXTERNAL", "ANONYMOUS"}


def test_the_order_of_things() -> None:
    assert ranking(CREDENTIALS, secure=True) == [*PROOFS, "PLAIN", "LOGIN", "CRAM-MD5"]
    assert ranking(CREDENTIALS, secure=False) == PROOFS
    everything = allow(*EVERY)
    assert ranking(CREDENTIALS, everything, secure=True) == [
        *PROOFS,
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "DIGEST-MD5",
    ]
    assert ranking(CREDENTIALS, everything, secure=False) == [*PROOFS, "CRAM-MD5", "DIGEST-MD5"]
    cleartext = Policy(allow_cleartext=True)
    assert ranking(CREDENTIALS, cleartext, secure=False) == [*PROOFS, "PLAIN", "LOGIN"]


@pytest.mark.parametrize("policy", [Policy(), allow(*EVERY)])
def test_a_token_is_for_the_mechanisms_for_tokens(policy: Policy) -> None:
    assert ranking(TOKEN, policy, secure=True) == TOKENS
    assert ranking(TOKEN, policy, secure=False) == []
    assert ranking(TOKEN, replace(policy, allow_cleartext=True), secure=False) == TOKENS
    _, passed_over = told(choose(policy, ["PLAIN", "SCRAM-SHA-256"], TOKEN, secure=True))
    assert passed_over["PLAIN"] == passed_over["SCRAM-SHA-256"] == NO_PASSWORD


@pytest.mark.parametrize("policy", [Policy(), allow(*EVERY)])
def test_a_source_of_tokens_fits_where_a_token_does(policy: Policy) -> None:
    """The choice is the same before there is a token, and then with it."""
    for secure in (True, False):
        assert ranking(SOURCE, policy, secure=secure) == ranking(TOKEN, policy, secure=secure)
    _, passed_over = told(choose(policy, ["PLAIN"], SOURCE, secure=True))
    assert passed_over["PLAIN"] == "it takes a password, not a source of tokens"


def test_a_password_is_not_for_them() -> None:
    name, passed_over = told(choose(Policy(), TOKENS, CREDENTIALS, secure=True))
    assert name is None
    assert passed_over == dict.fromkeys(TOKENS, NO_TOKEN)


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(
    ("name", "credentials"),
    [
        ("EXTERNAL", ExternalCredentials()),
        ("ANONYMOUS", AnonymousCredentials()),
    ],
)
def test_who_gives_the_credentials_of_one_mechanism_has_named_it(
    name: str, credentials: AnyCredentials, secure: bool
) -> None:
    assert chosen(Policy(), [name], credentials, secure=secure) == name
    assert chosen(allow("PLAIN"), [name], credentials, secure=secure) is None
    choice = choose(Policy(), [name], CREDENTIALS, secure, context=CLIENT_CONTEXT)
    assert told(choice) == (None, {name: BY_NAME})


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(("name", "credentials"), [("DIGEST-MD5", CREDENTIALS)])
def test_what_is_used_by_name_only(name: str, credentials: AnyCredentials, secure: bool) -> None:
    choice = choose(Policy(), [name], credentials, secure, context=CLIENT_CONTEXT)
    assert told(choice) == (None, {name: BY_NAME})
    assert chosen(allow(name), [name], credentials, secure=secure) == name
    assert chosen(Policy(order=(name,)), [name], credentials, secure=secure) is None


def test_without_a_nonce_or_a_binding_there_is_a_reason() -> None:
    offered = ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"]
    assert told(choose(Policy(), offered, CREDENTIALS, secure=True)) == (
        None,
        {"SCRAM-SHA-1-PLUS": NO_BINDING, "SCRAM-SHA-1": NO_NONCE},
    )
    assert chosen(offered=offered, context=UNBOUND) == "SCRAM-SHA-1"


@pytest.mark.parametrize(
    ("offered", "header"),
    [
        (["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], b"p=tls-exporter,,"),
        (["SCRAM-SHA-256"], b"y,,"),
    ],
)
def test_the_mechanism_is_told_what_was_offered(offered: list[str], header: bytes) -> None:
    choice = choose(Policy(), offered, CREDENTIALS, secure=True, context=CLIENT_CONTEXT)
    assert choice.mechanism is not None
    assert (choice.mechanism.start() or b"").startswith(header)


@pytest.mark.parametrize(
    ("minimum", "weakest"),
    [
        (Strength.NONE, "CRAM-MD5"),
        (Strength.WEAK, "CRAM-MD5"),
        (Strength.PASSWORD, "LOGIN"),
        (Strength.PROOF, "SCRAM-SHA-1"),
        (Strength.BOUND, "SCRAM-SHA-1-PLUS"),
    ],
)
def test_nothing_is_weaker_than_the_minimum(minimum: Strength, weakest: str) -> None:
    assert ranking(CREDENTIALS, Policy(minimum=minimum), secure=True)[-1] == weakest


def test_the_minimum_is_a_reason() -> None:
    policy = Policy(frozenset({"PLAIN"}), minimum=Strength.PROOF)
    why = "it is weaker than the policy's minimum, PROOF"
    assert told(choose(policy, ["PLAIN"], CREDENTIALS, secure=True)) == (None, {"PLAIN": why})


def test_with_the_highest_minimum_there_is_no_way_without_binding() -> None:
    policy = Policy(minimum=Strength.BOUND)
    assert chosen(policy, context=UNBOUND) is None
    assert chosen(policy, ["SCRAM-SHA-256", "PLAIN"]) is None


def test_an_order_of_the_users_own() -> None:
    policy = Policy(order=("LOGIN", "SCRAM-SHA-1", "X-OWN"))
    assert ranking(CREDENTIALS, policy, secure=True) == [
        "LOGIN",
        "SCRAM-SHA-1",
        *PROOFS[:-1],
        "PLAIN",
        "CRAM-MD5",
    ]
    # It is still no leave to show the password, nor to use what is used by name only.
    assert ranking(CREDENTIALS, policy, secure=False) == ["SCRAM-SHA-1", *PROOFS[:-1]]
    passed_over = dict(choose(policy, ["LOGIN", "PLAIN"], CREDENTIALS, secure=True).passed_over)
    assert passed_over == {"PLAIN": "LOGIN comes first"}


NAMES = st.sampled_from([*EVERY, "X-OWN"])


@given(
    policy=st.builds(
        Policy,
        st.none() | st.frozensets(NAMES),
        st.booleans(),
        st.sampled_from(Strength),
        st.lists(NAMES).map(tuple),
    ),
    offered=st.lists(NAMES),
    secure=st.booleans(),
    credentials=st.sampled_from(
        [
            CREDENTIALS,
            TOKEN,
            SOURCE,
            KerberosCredentials(),
            ExternalCredentials(),
            AnonymousCredentials(),
        ]
    ),
    context=st.sampled_from([NO_CLIENT_CONTEXT, UNBOUND, CLIENT_CONTEXT]),
    excluded=st.dictionaries(NAMES, st.sampled_from(["it answered 504", "it answered 501"])),
)
def test_every_name_is_accounted_for(
    policy: Policy,
    offered: list[str],
    secure: bool,
    credentials: AnyCredentials,
    context: ClientContext,
    excluded: Mapping[str, str],
) -> None:
    choice = choose(policy, offered, credentials, secure, context=context, excluded=excluded)
    assert excluded.items() <= dict(choice.passed_over).items()
    names = [name for name, _ in choice.passed_over]
    if choice.mechanism is not None:
        name = choice.mechanism.name
        names.append(name)
        assert name in offered
        assert policy.allowed is None or name in policy.allowed
        own = isinstance(credentials, ExternalCredentials | AnonymousCredentials)
        assert policy.allowed is not None or own or name not in BY_NAME_ONLY
        assert secure or policy.allow_cleartext or not choice.mechanism.reveals_password
        assert secure or policy.allowed is not None or name != "CRAM-MD5"
        assert name not in excluded
        assert (name in TOKENS) is isinstance(credentials, TokenCredentials | TokenSource)
    assert sorted(names) == sorted({*offered, *(policy.allowed or ()), *excluded})
    assert "secret" not in repr(choice)


# --- A second try --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply_code", "may"),
    [
        # RFC 4954 4 and 6
        (500, True),
        (501, True),
        (504, True),
        (534, True),
        (538, True),
        # The credentials, a wish for the password, trouble of the server's own
        (535, False),
        (432, False),
        (454, False),
        (421, False),
        (530, False),
        (235, False),
        (334, False),
        (550, False),
    ],
)
def test_when_another_may_be_tried(reply_code: int, may: bool) -> None:
    assert may_try_another(reply_code) is may


def test_behind_an_answer_fewer_replies_are_about_the_mechanism() -> None:
    may = {code for code in range(200, 600) if may_try_another(code, responded=True)}
    assert may == {504, 534, 538}


def test_the_next_one_and_all_the_reasons() -> None:
    offered = ("PLAIN", "SCRAM-SHA-256", "LOGIN", "CRAM-MD5")
    excluded: dict[str, str] = {}
    order: list[str] = []
    while name := told(
        choose(Policy(), offered, CREDENTIALS, True, context=UNBOUND, excluded=excluded)
    )[0]:
        order.append(name)
        excluded[name] = f"the server refused it ({len(order)})"
    assert order == ["SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"]
    last = choose(Policy(), offered, CREDENTIALS, True, context=UNBOUND, excluded=excluded)
    assert told(last) == (None, excluded)


def test_what_is_excluded_is_told_whatever_else_there_is_to_say() -> None:
    choice = choose(allow("LOGIN"), ["PLAIN"], CREDENTIALS, True, excluded={"LOGIN": "a", "X": "b"})
    assert told(choice) == (None, {"LOGIN": "a", "PLAIN": NOT_ALLOWED, "X": "b"})
    assert not NONE_EXCLUDED


def test_nothing_weaker_than_the_minimum_follows() -> None:
    policy = Policy(minimum=Strength.PROOF)
    choice = choose(
        policy,
        ["SCRAM-SHA-256", "PLAIN"],
        CREDENTIALS,
        True,
        context=UNBOUND,
        excluded={"SCRAM-SHA-256": "504"},
    )
    assert choice.mechanism is None


def test_who_breaks_channel_binding_on_the_way_is_found_out() -> None:
    """A server that does offer it hears from the next mechanism that somebody denied it."""
    offered = ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]
    choice = choose(
        Policy(),
        offered,
        CREDENTIALS,
        True,
        context=CLIENT_CONTEXT,
        excluded={"SCRAM-SHA-256-PLUS": "504"},
    )
    assert choice.mechanism is not None
    first = choice.mechanism.start()
    assert first is not None
    assert first.startswith(b"y,,")
    server = scram_server(
        "SCRAM-SHA-256", replace(SERVER_CONTEXT, offered=frozenset(offered))
    ).start(first)
    assert server == Rejected("somebody hid from the client that channel binding is offered")


# --- Mechanisms of others ------------------------------------------------------------------------


class OwnClient:
    """All that a mechanism of one's own needs."""

    name: ClassVar[str] = "X-REVERSE"
    reveals_password: ClassVar[bool] = True

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        self._password = require(Credentials, credentials).password

    def start(self) -> None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if challenge != b"password?":
            raise SASLError("the server asks for something else")
        return self._password[::-1].encode()

    def finish(self) -> None:
        pass


OWN = Mechanism(OwnClient, None, Strength.PASSWORD)


def test_a_mechanism_of_ones_own() -> None:
    offered = ["X-REVERSE", "PLAIN"]
    policy = Policy(order=("X-REVERSE",))
    choice = choose(policy, offered, CREDENTIALS, True, mechanisms=(OWN, *MECHANISMS))
    assert told(choice) == ("X-REVERSE", {"PLAIN": "X-REVERSE comes first"})
    own: ClientMechanism | None = choice.mechanism
    assert own is not None
    assert own.start() is None
    assert own.respond(b"password?") == b"terces"
    own.finish()
    # It is held to the same rules as the others.
    name, passed_over = told(choose(policy, offered, CREDENTIALS, False, mechanisms=(OWN,)))
    assert (name, passed_over["X-REVERSE"]) == (None, REVEALING)
    name, passed_over = told(choose(policy, offered, TOKEN, True, mechanisms=(OWN,)))
    assert (name, passed_over["X-REVERSE"]) == (None, NO_PASSWORD)


def test_one_of_ones_own_takes_the_place_of_another() -> None:
    class OwnPlain(OwnClient):
        name: ClassVar[str] = "PLAIN"

    own = Mechanism(OwnPlain, None, Strength.PASSWORD)
    choice = choose(Policy(), ["PLAIN"], CREDENTIALS, True, mechanisms=(own, *MECHANISMS))
    assert isinstance(choice.mechanism, OwnPlain)
    assert choice.passed_over == ()


class ProofClient:
    name: ClassVar[str] = "X-PROOF"
    reveals_password: ClassVar[bool] = False

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        if context.nonce is None:
            raise SASLError("it needs a nonce")
        own = require(Credentials, credentials)
        self._message = own.authentication_identity.encode() + context.nonce()

    def start(self) -> bytes:
        return self._message

    def respond(self, _challenge: bytes) -> bytes:
        return b""

    def finish(self) -> None:
        pass


class BoundClient(ProofClient):
    name: ClassVar[str] = "X-PROOF-PLUS"

    def __init__(
        self, credentials: AnyCredentials, context: ClientContext = NO_CLIENT_CONTEXT
    ) -> None:
        super().__init__(credentials, context)
        if not context.channel_bindings:
            raise SASLError("it needs a channel binding")


class UselessClient(ProofClient):
    name: ClassVar[str] = "X-USELESS"


OTHERS = (
    *MECHANISMS,
    Mechanism(UselessClient, None, Strength.NONE),
    Mechanism(ProofClient, None, Strength.PROOF),
    Mechanism(BoundClient, None, Strength.BOUND),
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
        {"X-USELESS": BY_NAME},
    )
    choice = choose(
        allow("X-USELESS"), ["X-USELESS"], CREDENTIALS, False, context=NONCE, mechanisms=OTHERS
    )
    assert told(choice) == ("X-USELESS", {})


def test_a_server_context_allows_nothing_by_itself() -> None:
    assert not ServerContext("mx.example.org", lambda: bytes(16)).proxy_authorization


@pytest.mark.parametrize("value", ["no", 1, None])
def test_a_word_for_no_is_no_leave_for_clear_text(value: object) -> None:
    make: Callable[..., Policy] = Policy
    with pytest.raises(TypeError, match="allow_cleartext is True or False"):
        make(allow_cleartext=value)


@pytest.mark.parametrize("value", ["PROOF", 3, None])
def test_a_minimum_is_a_strength(value: object) -> None:
    make: Callable[..., Policy] = Policy
    with pytest.raises(TypeError, match="minimum is a Strength, as Strength.PROOF, not "):
        make(minimum=value)
