"""How the tests run.

Knows the hypothesis profiles, what of memory is no test's, and what a skipped test means where
every peer has to be there.
Must not know what is tested.
"""

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# No deadline and no complaint about slow input: a busy machine is no fault of the code.
settings.register_profile(
    "default", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=500, print_blob=True)
settings.load_profile("default")

ALL_PEERS_ARE_HERE = os.environ.get("SMTP_PROTO_CI") == "1"


def pytest_collection_finish() -> None:
    """What is there before the first test stays: whoever looks for garbage need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where every peer has to be there, a test that is skipped has failed."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if ALL_PEERS_ARE_HERE and skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, and SMTP_PROTO_CI=1 allows no skip: {report.longrepr}"
    return report
