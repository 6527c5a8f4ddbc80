"""The proxy that the environment names, by the variables that most programs read.

Knows their names, their order, and who is excepted. Must not read the environment itself: nothing
is taken from there unless somebody asks for it.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_network

from smtp_proto.proxy.endpoint import Endpoint
from smtp_proto.proxy.url import Proxy, parse_proxy
from smtp_proto.wire import WireError, domain_to_ascii

# From what is said of SMTP to what is said of all, and at last of tunnels for something else. Not
# http_proxy: it is for requests, and a request's header may set its other form, HTTP_PROXY.
_PROXY_VARIABLES = (
    "smtp_proxy",
    "SMTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
)
_EXCEPTION_VARIABLES = ("no_proxy", "NO_PROXY")

_SEPARATORS = re.compile(r"[,\s]+")
_WITH_PORT = re.compile(r"(\[.*\]|[^:]*):([0-9]{1,5})")


def choose_from_environment(environment: Mapping[str, str], host: str, port: int) -> Proxy | None:
    """Return the proxy for a connection to `host`; None: connect without one.

    The first of these variables that is not empty names it: smtp_proxy, all_proxy, https_proxy,
    each before its form in capitals. Its value is a URL for `parse_proxy()`, or host:port alone
    for an HTTP proxy.

    no_proxy excepts destinations; its members are separated by commas or blanks:

        *                           all
        example.org, .example.org   this name, and all names below it; *.example.org, too
        192.0.2.1, 2001:db8::/32    an address, or a network of them
        example.org:25, [::1]:25    the same for one port only

    Nothing is resolved for that: a name is in no network. A member that is none of these excepts
    nobody. Raises WireError for what is no destination, and for a variable that is no proxy.
    """
    destination = Endpoint.parse(host, port)
    _, exceptions = _first_of(_EXCEPTION_VARIABLES, environment)
    if any(_excepts(member, destination) for member in _SEPARATORS.split(exceptions)):
        return None
    variable, value = _first_of(_PROXY_VARIABLES, environment)
    if not value:
        return None
    try:
        return parse_proxy(value if "://" in value else f"http://{value}")
    except WireError as error:
        raise WireError(variable, str(error)) from None


def _first_of(variables: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the name and the value of the first that is not empty; "" and "" if none is."""
    for variable in variables:
        if value := environment.get(variable, ""):
            return variable, value
    return "", ""


def _excepts(member: str, destination: Endpoint) -> bool:
    if member == "*":
        return True
    with_port = _WITH_PORT.fullmatch(member)
    if with_port:
        if int(with_port[2]) != destination.port:
            return False
        member = with_port[1]
    if isinstance(destination.host, str):
        return _is_below(destination.host, member)
    try:
        return destination.host in ip_network(member.strip("[]"), strict=False)
    except ValueError:
        return False


def _is_below(name: str, member: str) -> bool:
    """Whether `name` is the domain that `member` is, or lies in it."""
    domain = member.removeprefix("*.").removeprefix(".").removesuffix(".")
    try:
        domain = domain_to_ascii(domain, lenient=True)
    except WireError:
        return False
    return f".{name.removesuffix('.')}".lower().endswith(f".{domain}".lower())
