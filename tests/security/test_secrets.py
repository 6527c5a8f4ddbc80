"""A secret goes to the server and nowhere else: into no error, no traceback, no log, no warning.

Knows logins that succeed and fail, at each point. Must not know any mechanism.
"""

from __future__ import annotations

import logging
import random
import traceback
import warnings
from base64 import b64encode
from collections.abc import Callable

import pytest

from smtp_adapters.socket import SMTPClient, SMTPServer
from smtp_proto.flow.errors import SMTPError
from smtp_proto.flow.handler import Handler, ServerSession
from smtp_proto.flow.security import Security
from smtp_proto.flow.timeouts import Timeouts
from smtp_proto.sasl import Credentials, TokenCredentials
from smtp_proto.sasl.scram_secret import ScramSecret
from smtp_proto.wire import Limits, Reply

CANARY = "canary-5d41402abc4b"


def forms(secret: str) -> set[str]:
    """The secret, and what base64 makes of it wherever it stands in a message."""
    found = {secret, secret.encode().hex()}
    for offset in range(3):
        encoded = b64encode(b"\0" * offset + secret.encode()).decode()
        # The first and the last letters depend on what is beside it.
        found.add(encoded[4 if offset else 0 : -4])
    return found


FORMS = forms(CANARY)


class Door(Handler):
    """Knows ann by one password."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.answer: Reply | Exception | None = None

    def _open(self, given: str) -> bool | Reply:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or given == self.password

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool | Reply:
        return self._open(credentials.password)

    def on_token(self, session: ServerSession, credentials: TokenCredentials) -> bool | Reply:
        return self._open(credentials.token)

    def find_password(self, session: ServerSession, authentication_identity: str) -> str:
        self._open("")
        return self.password

    def find_secret(
        self, session: ServerSession, authentication_identity: str, mechanism: str
    ) -> ScramSecret:
        self._open("")
        return ScramSecret.from_password(self.password, b"salt" * 4, mechanism=mechanism)


PASSWORD_MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")
TOKEN_MECHANISMS = ("XOAUTH2", "OAUTHBEARER")
ANSWERS: dict[str, Reply | Exception | None] = {
    "right": None,
    "wrong": None,
    "quoted": Reply.build(535, f"{CANARY} is wrong", status="5.7.8"),
    "raised": RuntimeError("no database"),
}


def test_what_nobody_can_foresee_comes_from_the_system_and_never_twice() -> None:
    """Challenges, and the client's part of SCRAM: whoever knows all of `random` knows none."""

    def again(nonce: Callable[[], bytes]) -> bytes:
        random.seed(1)
        return nonce()

    client = SMTPClient("mail.test", auth=("ann", CANARY))
    server = SMTPServer(Door(CANARY))
    state = random.getstate()
    try:
        for nonce in (client._settings.nonce, server._settings.nonce):
            assert nonce is not None
            fresh = {again(nonce) for _ in range(1000)}
            assert len(fresh) == 1000
            assert {len(each) for each in fresh} == {24}
    finally:
        random.setstate(state)


def proves(mechanism: str) -> bool:
    """Whether the handler is not asked for its opinion, but for what it knows."""
    return mechanism not in {"PLAIN", "LOGIN", *TOKEN_MECHANISMS}


@pytest.mark.parametrize("outcome", ANSWERS)
@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS + TOKEN_MECHANISMS)
def test_a_login_shows_its_secret_to_the_server_alone(
    mechanism: str,
    outcome: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    door = Door("another" if outcome == "wrong" else CANARY)
    door.answer = ANSWERS[outcome]
    told: list[str] = []
    auth = (
        TokenCredentials("ann", CANARY)
        if mechanism in TOKEN_MECHANISMS
        else Credentials("ann", CANARY)
    )
    with (
        warnings.catch_warnings(record=True) as warned,
        SMTPServer(
            door,
            mechanisms=[mechanism],
            allow_cleartext_auth=True,
            limits=Limits(errors=99),
            timeouts=Timeouts(last_words=0.1),
        ) as server,
    ):
        client = SMTPClient(
            "127.0.0.1",
            server.port,
            security=Security.NONE,
            auth=auth,
            mechanisms=[mechanism],
            allow_cleartext_auth=True,
        )
        told += [repr(client), str(vars(client))]
        try:
            with client:
                told += [repr(client), str(vars(client)), str(vars(client._session()))]
                logged_in = True
        except SMTPError as error:
            told += traceback.format_exception(error)
            told += [repr(error), str(vars(error))]
            logged_in = False
    assert logged_in == (outcome == "right" or (outcome == "quoted" and proves(mechanism)))
    said = capsys.readouterr()
    told += [said.out, said.err, *(str(each.message) for each in warned)]
    told += [str(vars(record)) for record in caplog.records]
    for text in told:
        assert not [form for form in FORMS if form in text], text
