"""Law 1: importing smtp_proto loads no module that does I/O, tells the time or throws dice.

Knows that pyproject.toml lists those modules. Must not know who might want one of them.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent

# The interpreter itself loads one or two of the forbidden when it starts: what it knows of them is
# forgotten first, so that an import shows.
PROBE = """
import sys
root, forbidden, names = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()
sys.path.insert(0, root)
for name in forbidden:
    sys.modules.pop(name, None)
for name in names:
    __import__(name)
print(*sys.modules)
"""


def forbidden_modules() -> set[str]:
    """What the contract "Purity" of import-linter forbids: it looks at the text, this test acts."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    return {name for contract in contracts for name in contract.get("forbidden_modules", ())}


def modules_of_smtp_proto() -> list[str]:
    """Every module by its dotted name, but for the strategies, which are hypothesis's."""
    files = sorted((ROOT / "smtp_proto").rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    modules = [name.removesuffix(".__init__") for name in names]
    return [name for name in modules if not name.startswith("smtp_proto.testing.strategies")]


def loaded_by(*names: str) -> set[str]:
    """The modules there are when a fresh interpreter without site packages has imported `names`."""
    arguments = [str(ROOT), " ".join(forbidden_modules()), " ".join(names)]
    command = [sys.executable, "-I", "-S", "-c", PROBE, *arguments]
    return set(subprocess.check_output(command, text=True).split())


def test_no_module_of_smtp_proto_loads_a_forbidden_one() -> None:
    modules = modules_of_smtp_proto()
    loaded = loaded_by(*modules)
    assert set(modules) <= loaded
    assert not loaded & forbidden_modules()


def test_no_module_of_smtp_proto_loads_a_third_party() -> None:
    top_levels = {name.partition(".")[0] for name in loaded_by(*modules_of_smtp_proto())}
    assert top_levels - sys.stdlib_module_names - {"__main__"} == {"smtp_proto"}


def test_what_is_loaded_indirectly_is_seen() -> None:
    """http.client is no socket by its name; importing it loads one all the same."""
    assert {"email", "select", "socket", "ssl"} <= loaded_by("http.client") & forbidden_modules()
    assert "time" in loaded_by("time")
    assert "time" not in loaded_by("re")
