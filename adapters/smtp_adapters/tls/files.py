"""Certificates and keys from files into a context, and which setting is to be mended if they fail.

Knows PEM files and directories with hashed names. Must not know what a context is used for.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from smtp_adapters.tls.certificates import has_certificate

Source = str | PathLike[str]
Password = str | bytes | bytearray | Callable[[], str | bytes | bytearray]

_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")  # as `openssl rehash` gives them


def fresh_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """Give a new context what `ssl.create_default_context()` gives its own, and TLS 1.2 at least.

    And no renegotiation, in which another certificate could be shown; and no name of a server but
    those in subjectAltName: no authority is held to its constraints in any other.
    """
    defaults = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_flags |= defaults.verify_flags
    if defaults.keylog_filename:  # a debugger's wish: SSLKEYLOGFILE in the environment
        context.keylog_filename = defaults.keylog_filename
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.hostname_checks_common_name = False  # RFC 7817 3, which would permit it
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def trust_file(context: ssl.SSLContext, setting: str, path: Source) -> None:
    """Trust the certificates of a PEM file."""
    if not has_certificate(_read(setting, path)):
        raise ValueError(
            f"{setting} {path}: there is no certificate in it (PEM, -----BEGIN CERTIFICATE-----)"
        )
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"{setting} {path}: a certificate in it is damaged: {error}") from error


def trust_directory(context: ssl.SSLContext, setting: str, path: Source) -> None:
    """Trust the certificates of a directory, which are read when they are wanted."""
    try:
        names = [each.name for each in Path(path).iterdir()]
    except OSError as error:
        raise _unreadable(setting, path, error) from error
    if not any(_HASHED_NAME.fullmatch(name) for name in names):
        raise ValueError(
            f"{setting} {path}: there is no certificate under a hashed name (like 5ed36f99.0) in "
            "it: run `openssl rehash` on it"
        )
    context.load_verify_locations(capath=path)


def trust_data(context: ssl.SSLContext, setting: str, data: str | bytes) -> None:
    """Trust these certificates, PEM or DER."""
    try:
        if isinstance(data, bytes) and has_certificate(data):
            data = data.decode("ascii", "ignore")  # what is not ASCII is a comment
        context.load_verify_locations(cadata=data)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise ValueError(f"{setting}: no certificate that can be read: {error}") from error


def load_certificate(
    context: ssl.SSLContext,
    certificate_file: Source,
    key_file: Source | None,
    key_password: Password | None,
) -> None:
    """Show this certificate chain, with its private key. OpenSSL never asks on the terminal."""
    if not has_certificate(_read("certificate_file", certificate_file)):
        raise ValueError(
            f"certificate_file {certificate_file}: there is no certificate in it (PEM, "
            "-----BEGIN CERTIFICATE-----)"
        )
    where, pem = (
        (f"certificate_file {certificate_file}", _read("certificate_file", certificate_file))
        if key_file is None
        else (f"key_file {key_file}", _read("key_file", key_file))
    )
    if not _PRIVATE_KEY.search(pem):
        raise ValueError(
            f"{where}: there is no private key in it (PEM): give the file that has it as key_file"
        )

    def password() -> str | bytes | bytearray:
        if key_password is None:
            raise ValueError(f"{where}: the private key is encrypted: give its key_password")
        return key_password() if callable(key_password) else key_password

    try:
        context.load_cert_chain(certificate_file, key_file, password)
    except ssl.SSLError as error:
        raise ValueError(f"{where}: {_key_problem(error, pem, certificate_file)}") from error


def _key_problem(error: ssl.SSLError, pem: bytes, certificate_file: Source) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"its private key is not that of the certificate in {certificate_file}"
    if b"ENCRYPTED" in pem:
        return "its private key cannot be decrypted: is key_password right?"
    return f"a certificate or key is damaged, or too weak for this OpenSSL: {error}"


def _read(setting: str, path: Source) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(setting, path, error) from error


def _unreadable(setting: str, path: Source, error: OSError) -> OSError:
    # OSError itself finds the subclass for the number.
    return OSError(error.errno, f"{setting} cannot be read: {error.strerror}", os.fspath(path))
