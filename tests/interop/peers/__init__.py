"""Real servers and proxies, started for tests and ended after them.

Knows which there are. Must not know what is sent to them, nor what is tested.
"""

from tests.interop.peers.aiosmtpd import AIOSMTPD
from tests.interop.peers.dovecot import DOVECOT_LMTP, DOVECOT_SUBMISSION, dovecot_submission
from tests.interop.peers.exim import EXIM
from tests.interop.peers.http_proxies import SQUID, TINYPROXY, TINYPROXY_WITH_LOGIN
from tests.interop.peers.kerberos import OTHER_HOST, REALM, Realm, kerberos
from tests.interop.peers.node import HARAKA, SMTP_SERVER
from tests.interop.peers.opensmtpd import OPENSMTPD
from tests.interop.peers.postfix import POSTFIX, Postfix, Visit, postfix
from tests.interop.peers.running import (
    ELSEWHERE,
    HOST,
    HOSTNAME,
    MESSAGE_SIZE_LIMIT,
    PASSWORD,
    UNKNOWN_RECIPIENT,
    USER,
    Delivery,
    Mode,
    PeerFailed,
    PeerMissing,
    ProxyKind,
    RunningProxy,
    Server,
    ServerCertificate,
    ServerKind,
    address,
    free_ports,
    need,
    need_unpacked,
    oauth_token,
)
from tests.interop.peers.smtp_sink import smtp_sink
from tests.interop.peers.socks import (
    DANTE,
    DANTE_WITH_LOGIN,
    MICROSOCKS,
    MICROSOCKS_WITH_LOGIN,
    SSH,
)

SERVERS: tuple[ServerKind, ...] = (
    POSTFIX,
    EXIM,
    OPENSMTPD,
    DOVECOT_SUBMISSION,
    DOVECOT_LMTP,
    HARAKA,
    SMTP_SERVER,
    AIOSMTPD,
)
PROXIES: tuple[ProxyKind, ...] = (
    DANTE,
    DANTE_WITH_LOGIN,
    MICROSOCKS,
    MICROSOCKS_WITH_LOGIN,
    SSH,
    TINYPROXY,
    TINYPROXY_WITH_LOGIN,
    SQUID,
)

__all__ = [
    "AIOSMTPD",
    "DANTE",
    "DANTE_WITH_LOGIN",
    "DOVECOT_LMTP",
    "DOVECOT_SUBMISSION",
    "ELSEWHERE",
    "EXIM",
    "HARAKA",
    "HOST",
    "HOSTNAME",
    "MESSAGE_SIZE_LIMIT",
    "MICROSOCKS",
    "MICROSOCKS_WITH_LOGIN",
    "OPENSMTPD",
    "OTHER_HOST",
    "PASSWORD",
    "POSTFIX",
    "PROXIES",
    "REALM",
    "SERVERS",
    "SMTP_SERVER",
    "SQUID",
    "SSH",
    "TINYPROXY",
    "TINYPROXY_WITH_LOGIN",
    "UNKNOWN_RECIPIENT",
    "USER",
    "Delivery",
    "Mode",
    "PeerFailed",
    "PeerMissing",
    "Postfix",
    "ProxyKind",
    "Realm",
    "RunningProxy",
    "Server",
    "ServerCertificate",
    "ServerKind",
    "Visit",
    "address",
    "dovecot_submission",
    "free_ports",
    "kerberos",
    "need",
    "need_unpacked",
    "oauth_token",
    "postfix",
    "smtp_sink",
]
