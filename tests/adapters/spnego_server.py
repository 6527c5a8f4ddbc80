"""A server of NTLM, GSSAPI and GSS-SPNEGO, as pyspnego has it.

Knows what a server does with the tokens, and behind them. Must not know how they travel.
"""

from dataclasses import dataclass, field

import spnego
from spnego.channel_bindings import GssChannelBindings

from smtp_proto.sasl import ClientMechanism


class Refused(Exception):
    """What the server would say with 535."""


@dataclass
class SpnegoServer:
    """Accepts tokens; then, with an offer of security layers, does as RFC 4752 3.2 has it."""

    protocol: str
    offer: bytes | None = None
    bindings: GssChannelBindings | None = None
    hostname: str = "mx.example.org"
    acts_as: str = ""
    granted: spnego.ContextReq = spnego.ContextReq.none
    received: list[bytes] = field(default_factory=list[bytes])

    def run(self, client: ClientMechanism) -> str | None:
        """Return who the client is. Raises Refused, or what the client raises."""
        context = spnego.server(
            hostname=self.hostname,
            service="smtp",
            protocol=self.protocol,
            channel_bindings=self.bindings,
        )
        response = client.start()
        while not context.complete:
            assert response is not None
            self.received.append(response)
            try:
                challenge = context.step(response)
            except Exception as error:
                raise Refused from error
            if challenge is not None:
                response = client.respond(challenge)
        if self.offer is not None:
            answer = client.respond(context.wrap(self.offer, encrypt=False).data)
            choice = context.unwrap(answer).data
            assert choice[:4] == b"\x01\0\0\0"
            self.acts_as = choice[4:].decode()
        client.finish()
        self.granted = context.context_attr
        return context.client_principal
