"""Harnesses for the mechanisms of SASL, both sides, and for the policy that chooses one.

Knows what a mechanism may never do, whoever is at the other end. Must not know how any of them
works, nor base64 and replies.

The first line of a script is the name of a mechanism, and letters behind it; no such name: each of
them in turn. What stands behind it is what the other side says, a message for each turn.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, TypeVar

from fuzz.leaks import PASSWORD, TOKEN, assert_hidden, said, with_causes
from fuzz.script import Script
from fuzz.wire import assert_says_why
from smtp_proto.sasl import (
    CLIENT_MECHANISMS,
    SERVER_MECHANISMS,
    Accepted,
    AnonymousCredentials,
    Answer,
    AnyCredentials,
    Challenge,
    CheckAnonymous,
    CheckPassword,
    CheckToken,
    ClientContext,
    ClientFactory,
    ClientMechanism,
    Credentials,
    ExplainsRefusal,
    ExternalCredentials,
    FetchIdentity,
    FetchPassword,
    FetchSecret,
    Question,
    Rejected,
    SASLError,
    ScramSecret,
    ServerContext,
    ServerFactory,
    Step,
    TokenCredentials,
    saslprep,
)
from smtp_proto.sasl.scram_secret import HASHES, derive_keys

T = TypeVar("T")

USER = "user"
_NONCE = b"0123456789abcdef"
_BINDINGS = {"tls-exporter": bytes(32)}
_ITERATIONS = 2  # so few that it costs no time

CLIENT_CONTEXT = ClientContext(
    nonce=lambda: _NONCE,
    channel_bindings=_BINDINGS,
    hostname="s.example",
    port=587,
    iterations=range(1, 100),
)
SERVER_CONTEXT = ServerContext("s.example", lambda: _NONCE, channel_bindings=_BINDINGS)

_CREDENTIALS: tuple[AnyCredentials, ...] = (
    Credentials(USER, PASSWORD),
    TokenCredentials(USER, TOKEN),
    ExternalCredentials(USER),
    AnonymousCredentials(USER),
)


def _named(script: Script, mechanisms: Mapping[str, T]) -> Iterator[T]:
    name = script.options.partition(" ")[0]
    return iter([mechanisms[name]] if name in mechanisms else mechanisms.values())


# --- The client ------------------------------------------------------------------------------


def sasl_client(data: bytes, mechanisms: Mapping[str, ClientFactory] = CLIENT_MECHANISMS) -> None:
    """Tell clients what a server may say."""
    script = Script.read(data)
    for factory in _named(script, mechanisms):
        assert _client_says(factory, script) == _client_says(factory, script)


def _client_says(factory: ClientFactory, script: Script) -> list[bytes | str | None]:
    mechanism = _build(factory)
    heard = b"\n".join(turn.octets for turn in script.turns)
    story: list[bytes | str | None] = [mechanism.start()]
    try:
        for turn in script.turns:
            response = mechanism.respond(turn.octets)
            assert len(response) <= 2 * len(turn.octets) + 512
            story.append(response)
        mechanism.finish()
    except SASLError as error:
        assert_says_why(error)
        assert_hidden(with_causes(error), heard)
        story.append(str(error))
    else:
        story.append("trusted")
    if not factory.reveals_password:
        octets = b"\r\n".join(each for each in story if isinstance(each, bytes))
        assert not set(said(octets)) - set(said(heard)), "the secret in clear"
    if isinstance(mechanism, ExplainsRefusal):
        _look_at_refusal(mechanism)
    return story


def _build(factory: ClientFactory) -> ClientMechanism:
    for credentials in _CREDENTIALS:
        try:
            return factory(credentials, CLIENT_CONTEXT)
        except SASLError:
            continue  # it takes another kind
    raise AssertionError(f"{factory.name} takes no credentials at all")


def _look_at_refusal(mechanism: ExplainsRefusal) -> None:
    for text in (mechanism.refusal, *mechanism.refusal_fields.values()):
        assert text.isprintable()
        assert TOKEN not in text  # also where the server says it
        assert len(text) <= 1000


# --- The server ------------------------------------------------------------------------------


def sasl_server(data: bytes, mechanisms: Mapping[str, ServerFactory] = SERVER_MECHANISMS) -> None:
    """Tell servers what a client may say; nothing is ever raised.

    Letters behind the name: 0 for AUTH without an initial response; an application that says - to
    all, or ? what is no answer. Else it is honest, and knows one user.
    """
    script = Script.read(data)
    for factory in _named(script, mechanisms):
        assert _serve(factory, script) == _serve(factory, script)


def _serve(factory: ServerFactory, script: Script) -> list[Step]:
    letters = script.options.partition(" ")[2]
    messages = [turn.octets for turn in script.turns]
    mechanism = factory(SERVER_CONTEXT)
    step = mechanism.start(None if "0" in letters else messages.pop(0))
    story = [step]
    while True:
        match step:
            case Challenge(challenge):
                assert not said(challenge), "the server tells a secret"
                if not messages:
                    break
                step = mechanism.respond(messages.pop(0))
            case Accepted():
                _look_at_acceptance(step, letters)
                break
            case Rejected(why):
                assert why.isprintable()
                assert_hidden([why], b"\n".join(turn.octets for turn in script.turns))
                break
            case _:
                step = mechanism.answer(_answer(step, letters))
        story.append(step)
        assert len(story) <= 2 * len(script.turns) + 2
    return story


def _look_at_acceptance(accepted: Accepted, letters: str) -> None:
    assert not {"-", "?"} & set(letters), "accepted, though the application did not"
    assert accepted.authentication_identity in (USER, "anonymous")
    assert accepted.authorization_identity == accepted.authentication_identity


def _answer(question: Question, letters: str) -> Answer:
    if "-" in letters:
        return None if isinstance(question, _FETCHES) else False
    if "?" in letters:
        return True if isinstance(question, _FETCHES) else "yes"
    return _honest(question)


_FETCHES = (FetchPassword, FetchSecret, FetchIdentity)


def _honest(question: Question) -> Answer:
    match question:
        case CheckPassword(credentials):
            return credentials == Credentials(USER, PASSWORD)
        case CheckToken(credentials):
            return credentials == TokenCredentials(USER, TOKEN)
        case FetchPassword(identity):
            return PASSWORD if identity == USER else None
        case FetchSecret(identity, mechanism):
            return scram_secret(mechanism, PASSWORD) if identity == USER else None
        case FetchIdentity():
            return USER
        case CheckAnonymous():
            return True


def scram_secret(mechanism: str, password: str) -> ScramSecret:
    """Return a secret with fewer iterations than a real one may have."""
    client_key, server_key = derive_keys(mechanism, password, b"salt", _ITERATIONS)
    return ScramSecret(b"salt", _ITERATIONS, _stored_key(mechanism, client_key), server_key)


def _stored_key(mechanism: str, client_key: bytes) -> bytes:
    return hashlib.new(HASHES[mechanism], client_key).digest()


# --- Both ------------------------------------------------------------------------------------

Login: TypeAlias = Callable[[ClientFactory, ServerFactory, Credentials, str], Step]


def log_in(
    client: ClientFactory, server: ServerFactory, credentials: Credentials, password: str
) -> Step:
    """Return the server's last word to a client, when this is the right password.

    Raises SASLError where the client cannot say it, or does not trust the server.
    """
    context = ServerContext(
        "s.example", lambda: _NONCE, channel_bindings=_BINDINGS, proxy_authorization=True
    )
    mechanism, other = client(credentials, CLIENT_CONTEXT), server(context)
    step = other.start(mechanism.start())
    for _ in range(8):
        match step:
            case Challenge(challenge):
                step = other.respond(mechanism.respond(challenge))
            case CheckPassword(claimed):
                step = other.answer(claimed.password == password)
            case FetchPassword():
                step = other.answer(password)
            case FetchSecret(mechanism=name):
                step = other.answer(scram_secret(name, password))
            case Accepted():
                mechanism.finish()
                return step
            case _:
                return step
    raise AssertionError("the two do not come to an end")


def _hmac_key(password: str) -> str:
    """A key of HMAC is filled up with zeros: one that ends in them is the same without."""
    return password.rstrip("\0")


def sasl_both(data: bytes, log_in: Login = log_in) -> None:
    """Log in to a server that knows the password, and to one that knows another.

    The octets are identity, password, another password and authorization identity, each in a turn.
    """
    texts = [turn.octets.decode("utf-8", "surrogateescape") for turn in Script.read(data).turns]
    identity, password, other, authzid = (*texts, "", "", "", "")[1:5]
    credentials = Credentials(identity, password, authzid)
    for name, server in SERVER_MECHANISMS.items():
        client = CLIENT_MECHANISMS[name]
        try:
            client(credentials, CLIENT_CONTEXT)
        except SASLError as error:
            assert_says_why(error)
            continue
        prepare = saslprep if name.startswith("SCRAM-") else str
        key = _hmac_key if name == "CRAM-MD5" else prepare
        who = prepare(identity)
        acts_as = prepare(authzid) or who
        assert log_in(client, server, credentials, password) == Accepted(who, acts_as), name
        if prepare_or_none(key, other) not in (None, "", key(password)):
            _fail_to_log_in(log_in, client, server, credentials, other)


def prepare_or_none(prepare: Callable[[str], str], text: str) -> str | None:
    """Return the prepared form of a password; None: it cannot be one."""
    try:
        text.encode()
        return prepare(text)
    except (SASLError, UnicodeEncodeError):
        return None


def _fail_to_log_in(
    log_in: Login,
    client: ClientFactory,
    server: ServerFactory,
    credentials: Credentials,
    other: str,
) -> None:
    try:
        step = log_in(client, server, credentials, other)
    except SASLError as error:
        assert_says_why(error)
    else:
        assert isinstance(step, Rejected), f"{client.name} lets a wrong password pass"
