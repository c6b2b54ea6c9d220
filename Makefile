# The commands of the README. Every target sets up what it needs; a second `make env` does nothing.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8000

.PHONY: env run demo test check bench lock clean

env: $(VENV)/.ready static/vendor/.ready

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@echo "== Python environment ($(VENV))"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

static/vendor/.ready: package-lock.json
	@echo "== Front-end packages (static/vendor)"
	$(BIN)/python tools/vendor.py
	@touch $@

run: env
	$(BIN)/wayleave serve --host $(HOST) --port $(PORT)

test: env
	$(BIN)/python -m pytest

check: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not slow and not windows and not browser and not containers" -n 2

# Pins anew what requirements/*.in name; the result holds hashes and no index address.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	$(LOCK) --upgrade requirements/dev.in -o requirements/dev.txt
	$(LOCK) requirements/server.in -c requirements/dev.txt -o requirements/server.txt
	$(LOCK) requirements/agent.in -c requirements/dev.txt -o requirements/agent.txt
