"""Which mechanism a client uses.

Knows what may go over a connection with TLS and over one without, and which mechanism is best.
Must not know how a mechanism works, nor how the connection came to have TLS.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    MECHANISM_NAME,
    NO_CLIENT_CONTEXT,
    AnonymousCredentials,
    AnyCredentials,
    ClientContext,
    ClientMechanism,
    ExternalCredentials,
    Mechanism,
    Strength,
)
from smtp_proto.sasl.registry import MECHANISMS
from smtp_proto.wire.errors import check_flag, kind_of


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user lets a client do. Raises ValueError for what is not a mechanism's name."""

    allowed: frozenset[str] | None = None
    """The only mechanisms that may be used, by name; None: all that are safe without naming them.
    With one name alone, nothing else is ever used."""
    allow_cleartext: bool = False
    """Whether a mechanism that reveals the password, or a token, may be used without TLS."""
    minimum: Strength = Strength.NONE
    """No mechanism that is weaker may be used. BOUND: with channel binding or not at all."""
    order: tuple[str, ...] = ()
    """What to prefer, the first one most; all others follow, by strength. It allows nothing."""

    def __post_init__(self) -> None:
        check_flag("allow_cleartext", self.allow_cleartext)
        _check_strength(self.minimum)
        for setting, names in (("allowed", self.allowed or ()), ("order", self.order)):
            for name in names:
                if not MECHANISM_NAME.fullmatch(name):
                    raise ValueError(f"{setting}: {name!r} is no mechanism's name, as PLAIN is")

    def preference(self, mechanism: Mechanism) -> tuple[int, int]:
        """Return a key that sorts what is preferred to the front."""
        name = mechanism.name
        rank = self.order.index(name) if name in self.order else len(self.order)
        return rank, -mechanism.strength


def _check_strength(minimum: object) -> None:
    if not isinstance(minimum, Strength):
        raise TypeError(f"minimum is a Strength, as Strength.PROOF, not {kind_of(minimum)}")


# Who gives these has named the mechanism already.
_OF_ONE_MECHANISM = (ExternalCredentials, AnonymousCredentials)

# The same where the client has answered a challenge: 500 and 501 speak of the answer then, and to
# make the client hash its password once more for each mechanism may be all that is wanted.
_ABOUT_THE_MECHANISM = frozenset({504, 534, 538})

NONE_EXCLUDED: Mapping[str, str] = MappingProxyType({})

# What the server says of the mechanism, or of the form of a message: never of who logs in.
# RFC 4954 4, 6
_NOT_ABOUT_CREDENTIALS = frozenset(
    {
        500,  # a response was longer than the server takes
        501,  # a response was not understood
        504,  # the mechanism is offered, and yet not there
        534,  # the mechanism is too weak for this user
        538,  # the mechanism needs TLS
    }
)


def may_try_another(reply_code: int, *, responded: bool = False) -> bool:
    """Whether the next mechanism may be tried with the same credentials after this refusal.

    After 535 it may not: the credentials are wrong, and a weaker mechanism would only show them.
    Nor after 432, which asks for the password as it is, nor after any other. Ask only about a
    reply that refuses: where the client cancelled ("*") because the server broke the mechanism,
    nothing else may be tried, whatever the server says to that. `responded`: the client has
    answered a challenge.
    """
    return reply_code in (_ABOUT_THE_MECHANISM if responded else _NOT_ABOUT_CREDENTIALS)


@dataclass(frozen=True, slots=True)
class Choice:
    """The mechanism to use, if any, and why each other one was passed over.

    `passed_over` has a name and a reason, for people, for each mechanism that the server offers,
    the policy names, or the caller excludes.
    """

    mechanism: ClientMechanism | None
    passed_over: tuple[tuple[str, str], ...]


def choose(
    policy: Policy,
    offered: Sequence[str],
    credentials: AnyCredentials,
    secure: bool,
    *,
    context: ClientContext = NO_CLIENT_CONTEXT,
    mechanisms: Iterable[Mechanism] = MECHANISMS,
    excluded: Mapping[str, str] = NONE_EXCLUDED,
) -> Choice:
    """Choose the strongest mechanism that server, policy and credentials admit.

    A token is used by the mechanisms for tokens and by no other, and they use nothing else. For a
    `TokenSource` the choice is only made: fetch the token, and choose again with it.
    `offered` are the names that the server offers, in capitals; `secure` tells whether the
    connection has TLS. Of two `mechanisms` of one name the first counts.

    If what was chosen fails, ask `may_try_another()` whether to choose once more, with its name
    and why it failed in `excluded`. It must not be done for any other reason: to try a weaker
    mechanism with the same credentials gives them to whoever made the stronger one fail.
    """
    reasons = dict.fromkeys(sorted(policy.allowed or ()), "the server does not offer it")
    reasons |= dict.fromkeys(offered, "it is not known here")
    reasons |= excluded
    # A -PLUS form that was refused counts as not offered. If somebody on the way refused it, the
    # server learns of that from the next mechanism.  RFC 5802 6
    left = frozenset(offered) - excluded.keys()
    context = replace(context, offered=left)
    known: dict[str, Mechanism] = {}
    for mechanism in mechanisms:
        known.setdefault(mechanism.name, mechanism)
    candidates = [mechanism for name, mechanism in known.items() if name in left]
    chosen: ClientMechanism | None = None
    for mechanism in sorted(candidates, key=policy.preference):
        verdict = (
            _judge(mechanism, policy, credentials, secure, context)
            if chosen is None
            else f"{chosen.name} comes first"
        )
        if isinstance(verdict, str):
            reasons[mechanism.name] = verdict
        else:
            chosen = verdict
            del reasons[mechanism.name]
    return Choice(chosen, tuple(reasons.items()))


def _judge(
    mechanism: Mechanism,
    policy: Policy,
    credentials: AnyCredentials,
    secure: bool,
    context: ClientContext,
) -> ClientMechanism | str:
    """Return the mechanism, ready to start, or why it cannot be used."""
    named = policy.allowed is not None and mechanism.name in policy.allowed
    objections = (
        (policy.allowed is not None and not named, "the policy does not allow it"),
        (
            # RFC 4954 4
            mechanism.client.reveals_password and not secure and not policy.allow_cleartext,
            "it reveals the password, and there is no TLS",
        ),
        (
            (mechanism.by_name_only or mechanism.strength is Strength.NONE)
            and not named
            and not (policy.allowed is None and isinstance(credentials, _OF_ONE_MECHANISM)),
            "it is used only where the policy allows it by name",
        ),
        (
            mechanism.strength is Strength.WEAK and not secure and not named,
            "it is weak, there is no TLS, and the policy does not name it",
        ),
        (
            mechanism.strength < policy.minimum,
            f"it is weaker than the policy's minimum, {policy.minimum.name}",
        ),
    )
    for applies, why in objections:
        if applies:
            return why
    try:
        return mechanism.client(credentials, context)
    except SASLError as error:
        return str(error)
