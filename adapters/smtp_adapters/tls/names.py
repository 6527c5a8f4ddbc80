"""How a server's name is written for TLS.

Knows domains and addresses. Must not know contexts and certificates.
"""

from __future__ import annotations

from ipaddress import ip_address

from smtp_proto.wire import Mailbox, validate_domain


def server_name(host: str) -> str:
    """A host's name as TLS sends and verifies it: in A-labels, without a trailing dot.

    An IP address may stand in brackets and have a zone; both are taken off. Raises WireError for
    what is neither an address nor a domain.
    """
    bare = host.removeprefix("[").removesuffix("]").removeprefix("IPv6:").partition("%")[0]
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    host = host.removesuffix(".")
    if host.isascii():
        return validate_domain(host, lenient=True)
    # Each host has this mailbox (RFC 5321 4.5.1), and mailboxes know how to write their domain.
    return Mailbox("postmaster", host).to_ascii().domain
