# What can be done here. Each target makes the environment that it needs, beside this file, and
# makes it anew when pyproject.toml changes. Needed: Python 3.11 or later, make, a package index.
#
#   make demo       real messages over TLS with AUTH, from each adapter into the embedded server
#   make test       the tests, but for the slow ones and those that need programs of others, on
#                   each of Python 3.11, 3.12 and 3.13 that is installed
#   make test-rest  the tests that this leaves out (test-slow and test-peers, both at once)
#   make check      what a change has to pass: format, lint, types, layers, docs, coverage
#   make bench      side by side with smtplib and aiosmtplib (needs smtp-sink, of Postfix)
#   make fuzz       fuzzing by chance, FUZZ_SECONDS for all harnesses together
#   make fuzz-guided  coverage-guided, with atheris (Linux), FUZZ_SECONDS for each harness
#   make docs       makes anew what the docs show of the code
#   make mutation   breaks the code in many places and sees whether a test notices (40 minutes)
#   make defences   takes each defence of docs/security.md out and sees its tests go red (10 minutes)
#   make peers      docs/peers.md, from a run of the tests with real servers and proxies
#   make clean      takes away everything that the above made
#
# Another interpreter: make demo PYTHON=python3.13

PYTHON ?= python3
FUZZ_SECONDS ?= 60
BENCH_OPTIONS ?=
MUTATION_OPTIONS ?=
DEFENCES_OPTIONS ?=

VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
TEST_VENV = .venv-test-$(VERSION)
PYTEST = $(TEST_VENV)/bin/python -m pytest -q -n auto

.PHONY: demo test test-one test-rest test-slow test-peers check coverage bench fuzz fuzz-guided docs \
    mutation defences peers clean python

demo: .venv-demo/ready
	@.venv-demo/bin/smtp-proto demo

# An interpreter that is there may still not run (a shim for a version that is not chosen): only
# those that do are taken.
test: python
	@set -e; for python in $$($(PYTHON) tools/pythons.py); do \
	    $(MAKE) --no-print-directory test-one PYTHON="$$python"; \
	done

test-one: $(TEST_VENV)/ready
	@echo "Python $(VERSION)"
	@$(PYTEST) -m "not slow and not interop"

# With what it takes to build them, Python's bindings to Kerberos: without, their tests are skipped.
KERBEROS = $(if $(shell command -v krb5-config 2>/dev/null),.venv-dev/kerberos)

# What each of them prints is shown in one piece, where make knows how.
IN_TURN = $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# Both kinds at once: who waits for a peer leaves the processor to the others. The environment is
# whole before, so that nothing is installed beneath a test.
test-rest: .venv-dev/ready $(KERBEROS)
	@$(MAKE) --no-print-directory -j 2 $(IN_TURN) test-slow test-peers

test-slow: .venv-dev/ready
	.venv-dev/bin/python -m pytest -q -n auto --dist worksteal \
	    -m "slow and not interop" --hypothesis-profile=ci

# Where no test may be skipped, docs/peers.md has to show what was proven.
test-peers: .venv-dev/ready $(KERBEROS)
	.venv-dev/bin/python -m tools.peer_matrix --check

check: .venv-dev/ready
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/ruff check .
	.venv-dev/bin/mypy
	.venv-dev/bin/pyright --pythonpath .venv-dev/bin/python
	.venv-dev/bin/lint-imports --no-logo
	.venv-dev/bin/python -m tools.state_diagram --check
	.venv-dev/bin/python -m tools.rfc_index --check
	.venv-dev/bin/python -m tools.settings_page --check
	.venv-dev/bin/python -m tools.musts --check
	@$(MAKE) --no-print-directory coverage

coverage: .venv-dev/ready
	.venv-dev/bin/python -m pytest -q -n auto -m "not slow and not interop" --cov --cov-report=
	.venv-dev/bin/coverage report --include="adapters/*"
	.venv-dev/bin/coverage report --include="smtp_proto/*" --fail-under=100

bench: .venv-bench/ready
	@.venv-bench/bin/python -m benchmarks.run $(BENCH_OPTIONS)

fuzz: python
	@$(PYTHON) -m fuzz.run --seconds $(FUZZ_SECONDS)

fuzz-guided: .venv-fuzz/ready
	@set -e; names="from fuzz.harnesses import HARNESSES; print(*HARNESSES)"; \
	for name in $$(.venv-fuzz/bin/python -c "$$names"); do \
	    .venv-fuzz/bin/python -m fuzz.run_atheris $$name -max_total_time=$(FUZZ_SECONDS); \
	done

docs: .venv-dev/ready
	.venv-dev/bin/python -m tools.state_diagram
	.venv-dev/bin/python -m tools.musts
	.venv-dev/bin/python -m tools.rfc_index
	.venv-dev/bin/python -m tools.settings_page

mutation: .venv-dev/ready
	nice .venv-dev/bin/python -m tools.mutation $(MUTATION_OPTIONS)

defences: .venv-dev/ready
	nice .venv-dev/bin/python -m tools.defences $(DEFENCES_OPTIONS)

peers: .venv-dev/ready .venv-dev/kerberos
	.venv-dev/bin/python -m tools.peer_matrix

clean:
	rm -rf .venv-* dist build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "This needs Python 3.11 or later; $(PYTHON) is $(or $(VERSION),not there)." >&2; \
	    echo "Name another one: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.13" >&2; \
	    exit 1; }

# A venv holds this project, editable, with the extras named after it.
.venv-demo/ready: EXTRAS = demo
.venv-test-%/ready: EXTRAS = test
.venv-dev/ready: EXTRAS = dev
.venv-bench/ready: EXTRAS = bench
.venv-fuzz/ready: EXTRAS = fuzz

.venv-dev/kerberos: .venv-dev/ready
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check -e ".[kerberos]"
	@touch $@

.venv-%/ready: pyproject.toml | python
	@echo "Making $(@D) ..."
	@$(PYTHON) -m venv --clear $(@D) || { \
	    echo "$(PYTHON) cannot make a venv: is its venv module installed?" >&2; exit 1; }
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check -e ".[$(EXTRAS)]"
	@touch $@
