"""All mechanisms, by name.

Knows which files hold one. Must not know what they do, nor which one is to be used.

A new mechanism is a new file, and its name in `MECHANISMS`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from smtp_proto.sasl.anonymous import ANONYMOUS
from smtp_proto.sasl.cram_md5 import CRAM_MD5
from smtp_proto.sasl.digest_md5 import DIGEST_MD5
from smtp_proto.sasl.external import EXTERNAL
from smtp_proto.sasl.login import LOGIN
from smtp_proto.sasl.mechanism import ClientFactory, Mechanism, ServerFactory
from smtp_proto.sasl.oauthbearer import OAUTHBEARER
from smtp_proto.sasl.plain import PLAIN
from smtp_proto.sasl.scram import SCRAM, SCRAM_PLUS
from smtp_proto.sasl.xoauth2 import XOAUTH2

MECHANISMS: tuple[Mechanism, ...] = (
    *SCRAM_PLUS,
    EXTERNAL,
    *SCRAM,
    OAUTHBEARER,
    XOAUTH2,
    PLAIN,
    LOGIN,
    CRAM_MD5,
    DIGEST_MD5,
    ANONYMOUS,
)
"""Of two that are equally strong, the first is preferred."""

CLIENT_MECHANISMS: Mapping[str, ClientFactory] = MappingProxyType(
    {mechanism.name: mechanism.client for mechanism in MECHANISMS}
)
SERVER_MECHANISMS: Mapping[str, ServerFactory] = MappingProxyType(
    {each.name: each.server for each in MECHANISMS if each.server is not None}
)
"""What a server can do: it offers what it names, never all of this."""
