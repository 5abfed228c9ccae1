# Everything is installed into .venv from requirements.lock; only Python >= 3.11 and make are needed.
PYTHON ?= python3
BIN := .venv/bin
# Tests run side by side. Most wait for stores and other processes now and then, so there is one more than cores.
TEST_PROCESSES ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')

.DEFAULT_GOAL := help
.PHONY: help install up test long slow check bench crash lock clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The stamp is newer than the lock file and the project file when the installation is complete.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11 to 3.13 is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	# Without compiled bytecode `import dagster` takes more than twice as long in every process.
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 .venv/lib ingest_platform || true
	@touch $@

install: .venv/installed  ## install into .venv

up: install  ## start everything on this machine
	$(BIN)/ingest up

# Killing processes at every point takes long and is a command of its own; so is trying the API at length. A module's
# tests share stores, so they stay in one process; in the order of their names, which puts the thousands of quick ones of tidiness last.
test: install  ## run the test suite
	$(BIN)/python -m pytest -m "not crash and not slow and not long" --numprocesses $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder

long: install  ## run the tests that take long (about 4 minutes)
	$(BIN)/python -m pytest -m "long and not slow" --numprocesses 2 --dist loadscope

slow: install  ## try the API's document for much longer (about 10 minutes)
	$(BIN)/python -m pytest -m slow

bench: install  ## measure on this machine (about 25 minutes)
	$(BIN)/python -m benchmarks

crash: install  ## kill processes at every named point of the path
	$(BIN)/python -m pytest -m crash

# The rules that ruff, pyright and import-linter do not know, and the documents, are checked by tests of their own.
check: install  ## check style, types, imports and documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --quiet ingest_platform_tests/test_tidy.py ingest_platform_tests/test_documents.py

lock:  ## make requirements.lock again (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-strip-extras \
		--extra dev pyproject.toml --output-file requirements.lock

clean:  ## remove the installation
	rm -rf .venv
