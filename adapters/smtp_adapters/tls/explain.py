"""OpenSSL's words for what went wrong, turned into what people can do about it.

Knows its codes and reasons. Must not know contexts and layers.
"""

from __future__ import annotations

import ssl

from smtp_adapters.tls.certificates import names
from smtp_proto.wire import shown

_NAMES_SHOWN = 5

_NO_ISSUER = (
    "its issuer is not known here: give the CA's certificate as ca_file, or let the server send "
    "its intermediate certificates"
)

_A_NAME = "a name that it has"

# By the code of a verification that failed.
_CERTIFICATE_PROBLEMS = {
    9: "it is not valid yet: compare the clocks of both machines",
    10: "it has expired: the server needs a new one, unless the clock here is wrong",
    18: "it is self-signed: if this is the right server, give its certificate as ca_file, or its "
    "fingerprint",
    19: "its chain ends in a root that is not trusted here: if it is the right one, give it as "
    "ca_file",
    20: _NO_ISSUER,
    21: _NO_ISSUER,
    62: f"it is for another name: connect to {_A_NAME}, or set server_hostname to one",
    64: f"it does not have this address: connect by {_A_NAME}, or set server_hostname",
}

# By the reason of another failure: the first that is found in OpenSSL's word counts.
_HANDSHAKE_PROBLEMS = (
    (
        ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW"),
        "there is no version of TLS that both sides allow: compare their limits",
    ),
    (
        ("CERTIFICATE_REQUIRED", "DID_NOT_RETURN_A_CERTIFICATE"),
        "the client has to show a certificate: give it as certificate_file",
    ),
    (
        ("ALERT_HANDSHAKE_FAILURE", "NO_SHARED_CIPHER", "INSUFFICIENT_SECURITY"),
        "there is no cipher that both sides allow, or the client has to show a certificate",
    ),
    (("UNRECOGNIZED_NAME",), "the server has no certificate for the name that was asked for"),
    (
        ("ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE", "ALERT_UNSUPPORTED_CER"),
        "the peer does not accept the certificate of this side",
    ),
)


def certificate_problem(error: ssl.SSLCertVerificationError, chain: tuple[bytes, ...]) -> str:
    """Why the first certificate of a chain (DER) is refused, and what can be done."""
    problem = _CERTIFICATE_PROBLEMS.get(error.verify_code, shown(error.verify_message))
    return problem.replace(_A_NAME, _A_NAME + _listed(names(chain[0]) if chain else ()))


def _listed(names: tuple[str, ...]) -> str:
    """The first names in parentheses; "" where there are none."""
    first = ", ".join(map(shown, names[:_NAMES_SHOWN]))
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f" ({first}{more})" if first else ""


def handshake_problem(error: ssl.SSLError) -> str:
    """Why TLS failed, and what can be done where that is known."""
    reason = error.reason or ""
    for words, problem in _HANDSHAKE_PROBLEMS:
        if any(word in reason for word in words):
            return f"{problem} ({reason})"
    return shown(reason or str(error))
