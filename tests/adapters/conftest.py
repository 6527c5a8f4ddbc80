"""What the adapters' tests share: certificates, the worlds, that nothing stays open or is told.

Knows trustme, and how pytest calls a test. Must not know what is tested.
"""

import functools
import gc
import inspect
import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from smtp_adapters.tls import ClientTLS
from tests.adapters.canaries import found_in, told_by
from tests.adapters.worlds import WORLDS, World

HOST = "mx.example.org"
_DESCRIPTORS = Path("/proc/self/fd")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in the world that it asks for."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    world = pyfuncitem.funcargs["world"]
    assert isinstance(world, World)
    names = inspect.signature(pyfuncitem.obj).parameters
    world.run(
        functools.partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    )
    return True


@pytest.fixture(params=WORLDS, ids=[world.name for world in WORLDS])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Each world in turn; when the test is over, no descriptor and no thread may be left of it."""
    before = _left_open()
    each: World = request.param
    yield each
    gc.collect()
    assert _left_open() == before


def _left_open() -> tuple[int, list[str]]:
    threads = sorted(
        thread.name
        for thread in threading.enumerate()
        if not thread.name.startswith("Trio thread")  # trio keeps its workers for a while
    )
    return len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.is_dir() else 0, threads


class _Listener(logging.Handler):
    """Keeps all that a log could show of each record."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [record.getMessage(), repr(record.args)]
        if record.exc_info and (error := record.exc_info[1]):
            self.texts += told_by(error)


@pytest.fixture(autouse=True)
def no_secret_is_logged() -> Iterator[None]:
    """Whatever a test does: what is logged meanwhile, lines of the dialogue and all, has no secret.

    The secrets are those of `canaries`.
    """
    listener = _Listener()
    loggers = [logging.getLogger(name) for name in ("smtp_proto", "smtp_adapters")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(listener)
        logger.setLevel(logging.DEBUG)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(listener)
        logger.setLevel(level)
    assert found_in(listener.texts) == []


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_certificate(authority: trustme.CA) -> trustme.LeafCert:
    """Good for the name of the tests and for where they connect to."""
    return authority.issue_cert(HOST, "localhost", "127.0.0.1")


@pytest.fixture(scope="session")
def server_tls(server_certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_certificate.configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ClientTLS:
    return ClientTLS(ca_data=authority.cert_pem.bytes().decode())


@pytest.fixture(scope="session")
def certificate_file(
    server_certificate: trustme.LeafCert, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Key and certificate chain in one file."""
    path = tmp_path_factory.mktemp("certificates") / "server.pem"
    server_certificate.private_key_and_cert_chain_pem.write_to_path(path)
    return path
