"""All mechanisms, by name.

Knows which files hold one. Must not know what they do, nor which one is to be used.

A new mechanism is a new file, and its name in `MECHANISMS`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from smtp_proto.sasl.cram_md5 import CRAM_MD5
from smtp_proto.sasl.login import LOGIN
from smtp_proto.sasl.mechanism import ClientFactory, Mechanism, ServerFactory
from smtp_proto.sasl.plain import PLAIN

MECHANISMS: tuple[Mechanism, ...] = (PLAIN, LOGIN, CRAM_MD5)
"""Of two that are equally strong, the first is preferred."""

CLIENT_MECHANISMS: Mapping[str, ClientFactory] = MappingProxyType(
    {mechanism.name: mechanism.client for mechanism in MECHANISMS}
)
SERVER_MECHANISMS: Mapping[str, ServerFactory] = MappingProxyType(
    {mechanism.name: mechanism.server for mechanism in MECHANISMS}
)
