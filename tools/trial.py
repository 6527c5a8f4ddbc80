"""A copy of the tree in which code is broken, and its tests are run.

Knows pytest, hypothesis and processes. Must not know what is broken, nor why.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from tools.page import ROOT

NEEDED = ("adapters", "fuzz", "smtp_proto", "tests", "pyproject.toml")
MEMORY = 4 << 30
"""The octets that the tests may fill."""
OPTIONS = (
    "-x",
    "--quiet",
    "--hypothesis-profile=trial",
    "-pno:cacheprovider",
    "-Wignore::pytest.PytestAssertRewriteWarning",  # hypothesis was imported before the fork
)
FORK = multiprocessing.get_context("fork")


class Trial:
    """A private copy of the tree; what is broken in it is mended afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in NEEDED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name)
            else:
                shutil.copy2(ROOT / name, folder / name)

    @contextmanager
    def broken(self, sources: Mapping[str, str]) -> Generator[None]:
        """Put these sources in place of those of the files that are named."""
        before = {file: (self.folder / file).read_text(encoding="utf-8") for file in sources}
        try:
            self._write(sources)
            yield
        finally:
            self._write(before)

    def _write(self, sources: Mapping[str, str]) -> None:
        for file, source in sources.items():
            (self.folder / file).write_text(source, encoding="utf-8")

    def run(
        self,
        *arguments: str,
        examples: int,
        processor_seconds: int = resource.RLIM_INFINITY,
        seconds: float | None = None,
    ) -> int | None:
        """Run tests up to the first that fails, in a process of their own.

        `examples`: how often hypothesis tries a property. Returns pytest's exit code; None: the
        tests took longer than they may.
        """
        process = FORK.Process(
            target=_run, args=(self.folder, arguments, examples, processor_seconds)
        )
        process.start()
        process.join(seconds)
        hangs = process.is_alive()
        if hangs:
            process.kill()
            process.join()
        return None if hangs or process.exitcode == -signal.SIGXCPU else process.exitcode


def _run(folder: Path, arguments: Sequence[str], examples: int, processor_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (processor_seconds, resource.RLIM_INFINITY))
    os.chdir(folder)
    sys.path[:] = [path for path in sys.path if path and Path(path).resolve() != ROOT]
    # What is compiled counts for a whole second, in which the source may be broken and mended.
    sys.dont_write_bytecode = True
    # For the processes that tests start.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (folder, folder / "adapters")))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    # What fails need not be made small; the same code has the same fate the next time.
    hypothesis.settings.register_profile(
        "trial",
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    os._exit(pytest.main([*OPTIONS, *arguments]))
