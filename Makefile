# Everything a newcomer or CI calls. Needs make and Python 3.11 or newer; the rest comes into .venv from locked hashes.

# The first Python on PATH that is new enough; `make setup PYTHON=/path/to/python3` uses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
READY := $(VENV)/.ready
SOURCES := sched tests examples bench
# For `make dev`, `make test`, `make bench` and `make bench-peers`: options to hand on, e.g. make test ARGS="tests/cli -x".
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup dev test check torture bench bench-peers lock clean dashboard-picture

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## make .venv with the taskward command (the others do it for you)

$(READY): requirements/dev.txt requirements/python3.13.txt pyproject.toml | $(BIN)/python
	@echo "setup: installing what requirements/dev.txt locks into $(VENV) (about half a minute)"
	@$(PIP) install --require-hashes -r requirements/dev.txt -r requirements/python3.13.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# A missing or dangling interpreter: start from nothing.
$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "setup: Python 3.11 or newer is needed (none on PATH): install it," \
		"or name one: make setup PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "setup: $(PYTHON) is not" \
		"Python 3.11 or newer: install it, or name one: make setup PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "setup: $(PYTHON) lacks venv or ensurepip:" \
		"install them (on Debian and Ubuntu: apt-get install python3-venv)"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

dev: setup ## run server, API and worker on this machine, with the example handlers
	@$(BIN)/taskward dev $(ARGS)

test: setup ## run all tests but the ones that take minutes
	@$(BIN)/python -m pytest -rs -m "not slow" $(ARGS)

check: setup ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict sched
	$(BIN)/lint-imports
	find sched -name '*.py' -exec $(BIN)/flake8-async --disable=ASYNC9,ASYNC114 {} +

torture: setup ## run the tests that take minutes: kills, stalls, outages
	@$(BIN)/python -m pytest -rs -m slow $(ARGS)

bench: setup ## measure Taskward on this machine (ARGS=--quick: a tenth of it)
	@$(BIN)/python -m bench $(ARGS)

bench-peers: setup ## the same work by Taskward and other queues, each in an environment of its own
	@$(BIN)/python -m bench.peers $(ARGS)

COMPILE := CUSTOM_COMPILE_COMMAND="make lock" build/lock/bin/pip-compile --quiet --generate-hashes --strip-extras \
	--unsafe-package taskward --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

lock: ## write requirements/*.txt anew, with Python 3.11 (UPGRADE=--upgrade for newer releases)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "lock: Python 3.11, the oldest" \
		"that is supported, is needed: make lock PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/pip --disable-pip-version-check --quiet install pip-tools
	$(COMPILE) $(UPGRADE) -o requirements/runtime.txt pyproject.toml requirements/lock.in
	$(COMPILE) $(UPGRADE) --extra examples -c requirements/runtime.txt \
		-o requirements/examples.txt pyproject.toml requirements/lock.in
	$(COMPILE) $(UPGRADE) --extra dev -c requirements/runtime.txt \
		-o requirements/dev.txt pyproject.toml requirements/lock.in

clean: ## remove .venv and what tools left, not the data in .taskward
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis sched/taskward.egg-info
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

# The dashboard is held against Grafana's types, then drawn from a real system under the traffic script. Needs prometheus,
# chromium, npm.
dashboard-picture: setup ## draw docs/grafana-dashboard.b64 anew from a real system under load
	@cd grafana/picture && npm ci --no-audit --no-fund --loglevel=error
	@$(BIN)/python grafana/picture/check.py
	@$(BIN)/python -m tests.end_to_end.picture --minutes $(or $(MINUTES),15) --out docs/grafana-dashboard.b64
