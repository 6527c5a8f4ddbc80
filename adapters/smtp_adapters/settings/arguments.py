"""Settings as what SMTPClient is built with.

Knows the parameters of SMTPClient, and where secrets are kept. Must not know where settings come
from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from smtp_adapters.settings.given import Given, Settings, SettingsError
from smtp_adapters.settings.keys import BY_NAME, FROM_ENVIRONMENT, NONE
from smtp_adapters.settings.url import no_host
from smtp_adapters.tls import ClientTLS
from smtp_proto.engine import Protocol
from smtp_proto.flow import Security, Timeouts
from smtp_proto.sasl import AnyCredentials, Credentials, ExternalCredentials, TokenCredentials
from smtp_proto.wire import Limits
from smtp_proto.wire.errors import kind_of

T = TypeVar("T")

_LONGEST_SECRET = 65_536  # octets: a file without end would fill the memory

_PLAIN = (
    "local_hostname",
    "local_address",
    "mechanisms",
    "allow_cleartext",
    "allow_cleartext_auth",
    "pipelining",
    "chunking",
    "trace",
)
"""The parameters that are what their key says."""

_Builder: TypeAlias = Callable[[Settings, Mapping[str, str]], object]
_NOTHING: Mapping[str, object] = {}


def client_arguments(
    settings: Settings,
    overrides: Mapping[str, object] = _NOTHING,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, object]:
    """What to call SMTPClient with. Files of secrets are read here, and callables called.

    `overrides`: parameters of SMTPClient, each of which stands in place of all that the settings
    say of it; or `user`, `password`, `token` and `key_password`, as text or as a callable that
    returns it. Raises SettingsError for what is missing or does not go together.
    """
    given = {name: overrides[name] for name in _IN_OVERRIDES if name in overrides}
    parameters = {name: value for name, value in overrides.items() if name not in given}
    settings = _from_overrides(given).over(settings)
    if "auth" in parameters and given.keys() - {"key_password"}:
        raise SettingsError("auth", "it says all of the login: leave user, password and token out")
    if "tls" in parameters and "key_password" in given:
        raise SettingsError("tls", "it says all of TLS: leave key_password out")
    built = {
        name: build(settings, environment)
        for name, build in _BUILDERS.items()
        if name not in parameters
    }
    return {name: value for name, value in built.items() if value is not None} | parameters


def make_client(
    client: Callable[..., T], settings: Settings, overrides: Mapping[str, object] = _NOTHING
) -> T:
    """Make an SMTPClient of some world. Raises SettingsError, and what the client itself raises."""
    return client(**client_arguments(settings, overrides))


def _plain(name: str) -> _Builder:
    def build(settings: Settings, _environment: Mapping[str, str]) -> object:
        return _value(settings, name)

    return build


def _value(settings: Settings, name: str, default: object = None) -> object:
    given = settings.given.get(name)
    return default if given is None else given.value


# --- Overrides -------------------------------------------------------------------------------

_IN_OVERRIDES = {
    "user": "auth.user",
    "password": "auth.password",
    "token": "auth.token",
    "key_password": "tls.key_password",
}


def _from_overrides(given: Mapping[str, object]) -> Settings:
    return Settings.of(
        Given(BY_NAME[_IN_OVERRIDES[name]], (_called(name, value),), name)
        for name, value in given.items()
    )


def _called(name: str, value: object) -> str:
    text: object = value() if callable(value) else value
    if not isinstance(text, str):
        raise TypeError(f"{name} is text, or a callable that returns it, not {kind_of(text)}")
    return text


# --- One for each parameter that is made of several keys, or has another name -----------------


def _host(settings: Settings, _environment: Mapping[str, str]) -> object:
    host = _value(settings, "socket") or _value(settings, "host")
    if host is None:
        raise no_host()
    return host


def _port(settings: Settings, _environment: Mapping[str, str]) -> object:
    port = settings.given.get("port")
    if port is not None and "socket" in settings.given:
        raise SettingsError(port.where, "a Unix socket has no port: leave it out")
    return port and port.value


def _security(settings: Settings, _environment: Mapping[str, str]) -> object:
    default = Security.NONE if "socket" in settings.given else Security.AUTO
    return _value(settings, "security", default)


def _protocol(settings: Settings, _environment: Mapping[str, str]) -> object:
    return _value(settings, "protocol", Protocol.SMTP)


def _proxy(settings: Settings, _environment: Mapping[str, str]) -> object:
    given = settings.given.get("proxy")
    match given and given.value:
        case None | ("none",):
            return None
        case ("env",):
            return FROM_ENVIRONMENT
        case proxies:
            if given is not None and {NONE, FROM_ENVIRONMENT}.intersection(given.parts):
                raise SettingsError(given.where, '"env" and "none" stand alone')
            return proxies


def _timeouts(settings: Settings, _environment: Mapping[str, str]) -> object:
    timeout = settings.given.get("timeout")
    single = _group(settings, "timeouts")
    if timeout is None:
        return _built(Timeouts, single, "timeouts")
    return _built(_timeouts_for_all, {"timeout": timeout.value} | single, "timeouts")


def _timeouts_for_all(*, timeout: float | None, **single: float | None) -> Timeouts:
    if timeout is None:
        return Timeouts(**dict.fromkeys([field.name for field in fields(Timeouts)]) | single)
    return replace(Timeouts.of(timeout), **single)


def _limits(settings: Settings, _environment: Mapping[str, str]) -> object:
    return _built(Limits, _group(settings, "limits"), "limits")


def _tls(group: str) -> _Builder:
    def build(settings: Settings, environment: Mapping[str, str]) -> object:
        parameters = _group(settings, group)
        password = _secret(settings, f"{group}.key_password", environment)
        for source in ("key_password_file", "key_password_env"):
            parameters.pop(source, None)
        if password is not None:
            parameters["key_password"] = password
        return _built(ClientTLS, parameters, group)

    return build


def _group(settings: Settings, group: str) -> dict[str, object]:
    return {
        name.removeprefix(f"{group}."): given.value
        for name, given in settings.given.items()
        if given.key.group == group
    }


def _built(make: Callable[..., object], parameters: Mapping[str, object], where: str) -> object:
    """What the parameters make; None where there are none."""
    if not parameters:
        return None
    try:
        return make(**parameters)
    except ValueError as error:
        raise SettingsError(where, str(error)) from error


def _auth(settings: Settings, environment: Mapping[str, str]) -> AnyCredentials | None:
    user = _text(settings, "auth.user")
    password = _secret(settings, "auth.password", environment)
    token = _secret(settings, "auth.token", environment)
    acts_as = _text(settings, "auth.authorization_identity")
    external = _value(settings, "auth.external") is True
    match user, password, token:
        case None, None, None if external:
            return ExternalCredentials(acts_as or "")
        case _ if external:
            raise SettingsError(
                settings.given["auth.external"].where,
                "the server knows the user: leave user, password and token out",
            )
        case None, None, None:
            if acts_as is not None:
                raise SettingsError("auth.authorization_identity", "nobody logs in: give a user")
            return None
        case None, str(), None:
            raise SettingsError("auth.user", "a password without a user: say whose it is")
        case str(), str(), None:
            return Credentials(user, password, acts_as or "")
        case _, None, str():
            if acts_as is not None:
                raise SettingsError("auth.authorization_identity", "a token says whom it is for")
            return TokenCredentials(user or "", token)
        case _:
            raise SettingsError(
                settings.given["auth.user"].where,
                "a user without a password: give password, password_file, password_env or token",
            )


_BUILDERS: Mapping[str, _Builder] = {
    "host": _host,
    "port": _port,
    "security": _security,
    "protocol": _protocol,
    **{name: _plain(name) for name in _PLAIN},
    "proxy": _proxy,
    "timeouts": _timeouts,
    "limits": _limits,
    "auth": _auth,
    "tls": _tls("tls"),
    "proxy_tls": _tls("proxy_tls"),
}

# --- Secrets ---------------------------------------------------------------------------------


def _text(settings: Settings, name: str) -> str | None:
    return settings.given[name].text if name in settings.given else None


def _secret(settings: Settings, name: str, environment: Mapping[str, str]) -> str | None:
    """The secret, from wherever it is; None: there is none. Raises SettingsError."""
    given = settings.given
    if (file := given.get(f"{name}_file")) is not None:
        return _checked(file, name, _first_line(file))
    if (variable := given.get(f"{name}_env")) is not None:
        if not environment.get(variable.text):
            # The name is not shown: who misread the key has written the secret itself.
            raise SettingsError(variable.where, "the variable that it names is not set, or empty")
        return _checked(variable, name, environment[variable.text])
    return _text(settings, name)


def _checked(source: Given, name: str, secret: str) -> str:
    _ = replace(source, key=BY_NAME[name], parts=(secret,)).value
    return secret


def _first_line(source: Given) -> str:
    """The first line of a file, without its end: passwords are kept so, with notes below them."""
    try:
        with Path(source.text).open("rb") as file:
            octets = file.read(_LONGEST_SECRET + 1).partition(b"\n")[0].removesuffix(b"\r")
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    else:
        if len(octets) <= _LONGEST_SECRET:
            # What is no UTF-8 becomes what no secret may have.
            return octets.decode("utf-8", "surrogateescape")
        why = f"its first line has more than {_LONGEST_SECRET} octets: is it the right file?"
    raise SettingsError(source.where, why)
