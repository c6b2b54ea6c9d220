# The commands of the README. Every target sets up what it needs; a second `make env` does nothing.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8000
KILLS ?= 200
AWAY_S ?= 60
export WAYLEAVE_DATA_DIR ?= var
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help env run demo test check bench package faults catalogue-check lighthouse lock clean

help: ## List these commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

env: $(VENV)/.ready static/vendor/.ready ## Set up .venv/ and the front-end packages

$(VENV)/.ready: requirements/dev.txt pyproject.toml tools/venv.sh
	@echo "== Python environment ($(VENV))" >&2
	@tools/venv.sh $(VENV) $(PYTHON)
	@$(PIP) --require-hashes -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

static/vendor/.ready: package.json package-lock.json .npmrc tools/icons.txt tools/vendor.py requirements/node.txt | $(VENV)/.ready
	@echo "== Front-end packages (static/vendor)" >&2
	@$(BIN)/python tools/vendor.py

run: env ## Serve on http://127.0.0.1:8000 (HOST, PORT, WAYLEAVE_DATA_DIR, WAYLEAVE_DATABASE_URL)
	@$(BIN)/python -m app.cli.main db upgrade
	@exec $(BIN)/python -m app.cli.main serve --host "$(HOST)" --port "$(PORT)"

demo: export WAYLEAVE_DATA_DIR := $(if $(filter var,$(WAYLEAVE_DATA_DIR)),var/demo,$(WAYLEAVE_DATA_DIR))
demo: env ## The same with a made fleet of 2,000 workstations and a login (data in var/demo)
	@BIN=$(BIN) tools/demo.sh
	@exec $(BIN)/python -m app.cli.main serve --host "$(HOST)" --port "$(PORT)"

test: env ## All tests; those whose programs are missing skip, and say which
	@$(BIN)/python tools/run_tests.py $(PARTS)

check: env ## Format, lint, types, import contracts and the fast tests, in under two minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 -m "not (slow or postgresql or browser or windows or containers)"

bench: env ## Measure; one JSON line a figure (ONLY="name ..." chooses, FULL=1 takes the long forms)
	@FULL=$(FULL) $(BIN)/python benchmarks/run.py $(ONLY)

package: env ## The agent for a roll-out: MSI, bill of materials, trial archive, in dist/ (SIGN=program)
	@$(BIN)/python -m installer.build $(if $(SIGN),--sign "$(SIGN)")

faults: env ## Kill the server under load KILLS times (200) on each database, and every other fault at length (WAYLEAVE_SEED)
	@WAYLEAVE_KILLS=$(KILLS) WAYLEAVE_AWAY_S=$(AWAY_S) WAYLEAVE_CANARY_KILLS=20 $(BIN)/python -m pytest -n0 -s --timeout 3600 \
	  tests/faults tests/windows/test_canaries_harmless.py

catalogue-check: env ## Hold the catalogue against what real uv does on the Windows bench (UV: any version; root)
	@$(BIN)/python -m tests.windows.bench catalogue $(UV)

lighthouse: env ## Lighthouse over the pages of a made fleet (needs Chromium)
	@$(BIN)/python tools/lighthouse.py $(PAGES)

# Pins anew what requirements/*.in name; the result holds hashes and no index address.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock: env ## Pin the newest versions in requirements/*.txt
	$(LOCK) --upgrade requirements/dev.in -o requirements/dev.txt
	$(LOCK) requirements/server.in -c requirements/dev.txt -o requirements/server.txt
	$(LOCK) requirements/agent.in -c requirements/dev.txt -o requirements/agent.txt
	$(LOCK) requirements/demo.in -c requirements/dev.txt -o requirements/demo.txt
	$(LOCK) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) --upgrade requirements/node.in -o requirements/node.txt

clean: ## Remove what the commands above made, but not the data in var/
	rm -rf $(VENV) node_modules static/vendor static/.vendor-* build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
