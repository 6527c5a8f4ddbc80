"""Each world with the kit's streams, and that nothing stays open behind a test.

Knows descriptors and threads. Must not know what is tested.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import smtp_adapters.socket.loop
import smtp_adapters.socket.stream
from tests.faults.kit import KITS, Kit, clock_of_sockets

_DESCRIPTORS = Path("/proc/self/fd")


def left_open() -> tuple[int, list[str]]:
    """How many descriptors there are, and which threads."""
    threads = sorted(
        thread.name
        for thread in threading.enumerate()
        # Trio keeps its workers for a while, asyncio as long as the loop runs.
        if not thread.name.startswith(("Trio thread", "asyncio_"))
    )
    return len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.is_dir() else 0, threads


@pytest.fixture(params=KITS, ids=[kit.world.name for kit in KITS])
def kit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """Each world in turn, by the test's clock."""
    each: Kit = request.param
    for module in (smtp_adapters.socket.loop, smtp_adapters.socket.stream):
        monkeypatch.setattr(module, "monotonic", lambda: clock_of_sockets.now)
    before = left_open()
    yield each
    gc.collect()
    assert left_open() == before
