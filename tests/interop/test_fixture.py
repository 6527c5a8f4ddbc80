"""The servers that interop tests send to are what these take them for.

Knows smtplib. Must not know our own code.
"""

import smtplib
import ssl
from collections.abc import Iterator

import pytest

from tests.interop.peers import (
    HOST,
    HOSTNAME,
    MESSAGE_SIZE_LIMIT,
    PASSWORD,
    UNKNOWN_RECIPIENT,
    USER,
    Postfix,
    ServerCertificate,
    smtp_sink,
)

pytestmark = pytest.mark.interop

SENDER = f"sender@{HOSTNAME}"
CONTENT = (
    "Subject: Grüße\r\nTo: kept@mail.test\r\n\r\n.\r\n..two\r\nlast line\r\n".encode()
    + b"x" * 3000
    + b"\r\n\r\n"
)


@pytest.fixture
def context(server_certificate: ServerCertificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server_certificate.ca)


@pytest.fixture
def client(postfix_server: Postfix, context: ssl.SSLContext) -> Iterator[smtplib.SMTP]:
    """A client that has gone through STARTTLS and AUTH."""
    with smtplib.SMTP(HOST, postfix_server.smtp_port) as client:
        client.starttls(context=context)
        client.login(USER, PASSWORD)
        yield client


def test_what_goes_in_comes_out(client: smtplib.SMTP, postfix_server: Postfix) -> None:
    recipients = [f"one@{HOSTNAME}", f"two@{HOSTNAME}"]
    assert client.sendmail(SENDER, recipients, CONTENT, ["BODY=8BITMIME"]) == {}
    for recipient in recipients:
        delivery = postfix_server.delivery(recipient)
        assert (delivery.sender, delivery.content) == (SENDER, CONTENT)


def test_addresses_outside_of_ascii(client: smtplib.SMTP, postfix_server: Postfix) -> None:
    recipient = f"grüße@{HOSTNAME}"
    client.sendmail(SENDER, [recipient], CONTENT, ["SMTPUTF8", "BODY=8BITMIME"])
    assert postfix_server.delivery(recipient).content == CONTENT


def test_the_unknown_recipient_is_refused_and_the_other_is_not(client: smtplib.SMTP) -> None:
    refused = client.sendmail(SENDER, [UNKNOWN_RECIPIENT, f"known@{HOSTNAME}"], b"\r\n")
    assert {address: code for address, (code, _) in refused.items()} == {UNKNOWN_RECIPIENT: 550}


def test_it_relays_for_who_has_authenticated_only(
    client: smtplib.SMTP, postfix_server: Postfix
) -> None:
    assert client.sendmail(SENDER, ["somebody@elsewhere.test"], b"\r\n") == {}
    with (
        smtplib.SMTP(HOST, postfix_server.smtp_port) as stranger,
        pytest.raises(smtplib.SMTPRecipientsRefused),
    ):
        stranger.sendmail(SENDER, ["somebody@elsewhere.test"], b"\r\n")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_wrong_password_is_refused(
    postfix_server: Postfix, context: ssl.SSLContext, mechanism: str
) -> None:
    with smtplib.SMTP(HOST, postfix_server.smtp_port) as client:
        client.starttls(context=context)
        client.ehlo()
        client.esmtp_features["auth"] = mechanism
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(USER, "wrong")
        client.login(USER, PASSWORD)


def test_submission_wants_tls_first(postfix_server: Postfix, context: ssl.SSLContext) -> None:
    with smtplib.SMTP(HOST, postfix_server.submission_port) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.mail(SENDER)[0] == 530
        client.starttls(context=context)
        client.login(USER, PASSWORD)
        assert client.mail(SENDER)[0] == 250


def test_tls_from_the_first_octet(postfix_server: Postfix, context: ssl.SSLContext) -> None:
    with smtplib.SMTP_SSL(HOST, postfix_server.smtps_port, context=context) as client:
        client.login(USER, PASSWORD)
        assert client.esmtp_features["size"] == str(MESSAGE_SIZE_LIMIT)


def test_the_sink_takes_anything() -> None:
    with smtp_sink() as port, smtplib.SMTP(HOST, port) as client:
        assert client.sendmail(SENDER, [UNKNOWN_RECIPIENT], CONTENT) == {}
