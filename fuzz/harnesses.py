"""What must hold whatever comes in. Each harness is a function of octets: it returns, or raises.

The contract: only documented exceptions come out, input that is cut anywhere gives what it gives
whole, no more is kept than the limits allow, what is longer takes steps in proportion, what was
written is read again as it was, no error shows a secret, and none is sent in clear before TLS.

Knows the names of the harnesses. Must not know who makes the octets up, nor what is tried first.
"""

from collections.abc import Mapping

from fuzz.engine import client, server
from fuzz.opening import open_session
from fuzz.policy import policy
from fuzz.proxy import proxy_codecs, proxy_header, proxy_values
from fuzz.sasl import sasl_both, sasl_client, sasl_server
from fuzz.sending import send_mail, send_many
from fuzz.serving import serve
from fuzz.settings import settings_env, settings_toml, settings_url
from fuzz.states import (
    CLIENT_STATES,
    OPEN_STATES,
    SERVE_STATES,
    SERVER_STATES,
    Harness,
    in_states,
)
from fuzz.steps import steps
from fuzz.tls import tls
from fuzz.wire import commands, content_in, content_out, replies, values

HARNESSES: Mapping[str, Harness] = {
    "replies": replies,
    "commands": commands,
    "values": values,
    "content_in": content_in,
    "content_out": content_out,
    "client": client,
    "client_states": in_states(client, CLIENT_STATES),
    "server": server,
    "server_states": in_states(server, SERVER_STATES),
    "sasl_client": sasl_client,
    "sasl_server": sasl_server,
    "sasl_both": sasl_both,
    "policy": policy,
    "proxy_codecs": proxy_codecs,
    "proxy_header": proxy_header,
    "proxy_values": proxy_values,
    "open_session": open_session,
    "open_states": in_states(open_session, OPEN_STATES),
    "send_mail": send_mail,
    "send_many": send_many,
    "serve": serve,
    "serve_states": in_states(serve, SERVE_STATES),
    "tls": tls,
    "settings_url": settings_url,
    "settings_toml": settings_toml,
    "settings_env": settings_env,
    "steps": steps,
}
"""Whatever such a function raises is a finding."""
