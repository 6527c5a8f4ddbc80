"""Which mechanism a client uses.

Knows what may go over a connection with TLS and over one without, and which mechanism is best.
Must not know how a mechanism works, nor how the connection came to have TLS.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from smtp_proto.sasl.errors import SASLError
from smtp_proto.sasl.mechanism import (
    MECHANISM_NAME,
    NO_CLIENT_CONTEXT,
    ClientContext,
    ClientMechanism,
    Credentials,
    Mechanism,
    Strength,
)
from smtp_proto.sasl.registry import MECHANISMS


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user lets a client do. Raises ValueError for what is not a mechanism's name."""

    allowed: frozenset[str] | None = None
    """The only mechanisms that may be used, by name; None: all that are safe without naming them.
    With one name alone, nothing else is ever used."""
    allow_cleartext: bool = False
    """Whether a mechanism that reveals the password may be used without TLS."""

    def __post_init__(self) -> None:
        for name in self.allowed or ():
            if not MECHANISM_NAME.fullmatch(name):
                raise ValueError(f"allowed: {name!r} is no mechanism's name, as PLAIN is")


@dataclass(frozen=True, slots=True)
class Choice:
    """The mechanism to use, if any, and why each other one was passed over.

    `passed_over` has a name and a reason, for people, for each mechanism that the server offers
    or the policy names.
    """

    mechanism: ClientMechanism | None
    passed_over: tuple[tuple[str, str], ...]


def choose(
    policy: Policy,
    offered: Sequence[str],
    credentials: Credentials,
    secure: bool,
    *,
    context: ClientContext = NO_CLIENT_CONTEXT,
    mechanisms: Iterable[Mechanism] = MECHANISMS,
) -> Choice:
    """Choose the strongest mechanism that server, policy and credentials admit.

    `offered` are the names that the server offers, in capitals; `secure` tells whether the
    connection has TLS. If what was chosen fails, another choice is the caller's decision: to try
    a weaker mechanism with the same credentials gives them to whoever made the stronger one fail.
    """
    reasons = dict.fromkeys(sorted(policy.allowed or ()), "the server does not offer it")
    reasons |= dict.fromkeys(offered, "it is not known here")
    chosen: ClientMechanism | None = None
    for mechanism in sorted(mechanisms, key=lambda each: each.strength, reverse=True):
        if mechanism.name not in offered:
            continue
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
    credentials: Credentials,
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
            mechanism.strength is Strength.WEAK and not secure and not named,
            "it is weak, there is no TLS, and the policy does not name it",
        ),
        (
            mechanism.strength is Strength.NONE and not named,
            "it proves nothing, and the policy does not name it",
        ),
    )
    for applies, why in objections:
        if applies:
            return why
    try:
        return mechanism.client(credentials, context)
    except SASLError as error:
        return str(error)
