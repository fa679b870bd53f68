# Two commands do everything on a fresh Debian 12 machine: `make demo` and `make test` (as root: the lab makes
# network namespaces and starts its own libvirt daemons).
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11 /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Whole files, in the order of tests/longest_first.py.
SHARED := --dist loadfile --no-loadscope-reorder

.PHONY: all setup system demo test test-fast lint format docs tour lab lock clean

all: setup

system:
	@scripts/install-system-packages

$(READY): requirements.lock pyproject.toml
	@$(MAKE) --no-print-directory system
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Python packages into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: system $(READY)

demo: setup
	@$(BIN)/leeward lab demo $(if $(ONCE),--once)

lab: setup
	@$(BIN)/leeward lab up

# Everything, real guests included. Three at a time on two cores, each with a lab of its own: a third of their time they
# wait, for lines that are cut, agents that hang, seats that run out.
test: setup lint
	@$(BIN)/python -m pytest -n 3 $(SHARED)

# No root, no guests: under two minutes. A third of the time is patience, which a fourth one uses.
test-fast: $(READY)
	@$(BIN)/python -m pytest -n 4 $(SHARED) --hypothesis-profile=fast -m "not lab and not slow and not cloudstore"

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# What the tables themselves tell in the documents.
docs: $(READY)
	@$(BIN)/python -m leeward.domain.guide docs/failover.md

# The pictures of docs/tour.md, taken anew on real guests.
tour: setup
	@$(BIN)/python -m pytest -q tests/console/web/test_walk_lab.py
	@$(BIN)/python scripts/tour-pictures artifacts/tour docs/tour

# Resolve the lock file anew after a change of pyproject.toml (needs the `uv` command).
lock:
	uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    --no-header --group dev --extra postgresql pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis artifacts
