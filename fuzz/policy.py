"""The harness for the policy that chooses a mechanism.

Knows what may never be chosen. Must not know how a mechanism works.

    letters LF offered LF allowed LF order LF excluded

The letters: S with TLS, C for secrets in clear, A for names that are allowed, 0 to 4 for the least
strength, p, j, e, n for a password, a token, nothing to prove, nobody's name. The rest are names.
"""

from collections.abc import Callable, Mapping

from fuzz.leaks import PASSWORD, TOKEN, assert_hidden
from fuzz.sasl import CLIENT_CONTEXT
from smtp_proto.sasl import (
    MECHANISMS,
    AnonymousCredentials,
    AnyCredentials,
    Choice,
    Credentials,
    ExternalCredentials,
    Policy,
    Strength,
    TokenCredentials,
    choose,
)

_CREDENTIALS: Mapping[str, AnyCredentials] = {
    "p": Credentials("user", PASSWORD),
    "j": TokenCredentials("user", TOKEN),
    "e": ExternalCredentials("user"),
    "n": AnonymousCredentials("user"),
}
_KNOWN = {mechanism.name: mechanism for mechanism in MECHANISMS}


def policy(data: bytes, choose: Callable[..., Choice] = choose) -> None:
    """Choose a mechanism, then the next one, and so on until none is left."""
    letters, offered, allowed, order, excluded = (
        line.split() for line in (*data.decode("latin-1").split("\n", 4), *[""] * 4)[:5]
    )
    options = "".join(letters)
    try:
        rules = Policy(
            frozenset(allowed) if "A" in options else None,
            allow_cleartext="C" in options,
            minimum=Strength(max((int(each) for each in options if each in "01234"), default=0)),
            order=tuple(order),
        )
    except ValueError as error:
        assert_hidden([error], data)
        return
    kind = next((each for each in options if each in _CREDENTIALS), "p")
    credentials = _CREDENTIALS[kind]
    reasons = dict.fromkeys(excluded, "it was refused")
    secure = "S" in options
    for _ in range(len(_KNOWN) + 1):
        choice = choose(
            rules,
            offered,
            credentials,
            secure,
            context=CLIENT_CONTEXT,
            excluded=reasons,
        )
        assert_hidden(choice.passed_over, data)
        name = None if choice.mechanism is None else choice.mechanism.name
        passed_over = dict(choice.passed_over)
        assert len(passed_over) == len(choice.passed_over)
        assert {*offered, *reasons, *(rules.allowed or ())} - {name} <= passed_over.keys()
        if name is None:
            return
        _look_at(name, rules, credentials, secure=secure)
        assert name in offered
        assert name not in reasons
        reasons[name] = "it was refused"
    raise AssertionError("there are always more")


def _look_at(name: str, rules: Policy, credentials: AnyCredentials, *, secure: bool) -> None:
    mechanism = _KNOWN[name]
    named = rules.allowed is not None and name in rules.allowed
    assert named or rules.allowed is None
    assert secure or rules.allow_cleartext or not mechanism.client.reveals_password
    assert mechanism.strength >= rules.minimum
    # Who gives credentials of these kinds has named the mechanism already.
    if not named and not isinstance(credentials, ExternalCredentials | AnonymousCredentials):
        assert not mechanism.by_name_only
        assert mechanism.strength > (Strength.NONE if secure else Strength.WEAK)
