# Everything a person or a CI does here. `make` alone explains itself.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
FAST   := tests/unit tests/contract
REAL   := tests/component tests/integration tests/e2e
ARGS   ?=
IMAGE  ?= keep-operator
# What builds it, and more arguments for that: --build-arg BASE=..., say.
BUILDER    ?= $(shell docker info > /dev/null 2>&1 && echo docker || command -v buildah)
BUILD_ARGS ?=

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## Start the sandbox and the operator, and show the sample story live (Ctrl-C ends all of it)
	@$(BIN)/keep-operator sandbox run $(ARGS)

test: $(READY) browser ## Run every test; the first time builds the sandbox's control plane (about three minutes)
	@$(BIN)/keep-operator sandbox prepare
	@$(BIN)/python -m pytest -n 2 $(FAST) $(ARGS)
	@$(BIN)/python -m pytest -n 3 --dist worksteal tests/component tests/integration $(ARGS)
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests/e2e $(ARGS)

check: $(READY) ## The fast ring, under a minute: format, lint, types, layers, spelling, unit and contract tests
	@$(BIN)/ruff format --check --quiet . || { echo "run: make fmt"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports > .lint-imports.out || { cat .lint-imports.out; exit 1; }; rm -f .lint-imports.out
	@$(BIN)/codespell
	@$(BIN)/python -m pytest -q -n 2 $(FAST) $(ARGS)

browser: ## See that there is a Chromium for the tests of the console's pages; as root on Debian, install it
	@command -v chromium > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
	    && echo "Installing Debian's chromium for the browser tests ..." \
	    && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null; } \
	    || echo "The browser tests need Chromium: apt-get install chromium fonts-dejavu-core"

e2e-kind: $(READY) ## The e2e suite on a cluster of kind, and the image in real pods; needs Docker and kind
	@CLUSTER=kind $(BIN)/keep-operator sandbox prepare
	@CLUSTER=kind $(BIN)/python -m pytest tests/e2e $(ARGS)

soak: $(READY) ## The tests with long windows, at full length (more than two hours)
	@KEEP_OPERATOR_SOAK=1 $(BIN)/python -m pytest --timeout 3600 tests/unit/reconcile tests/unit/domain/test_revision.py tests/unit/domain/test_workflow_history.py \
		tests/unit/domain/test_releases_at_random.py $(ARGS)
	@KEEP_OPERATOR_SOAK=1 $(BIN)/python -m pytest -m slow --timeout 3600 $(REAL) $(ARGS)

bench: $(READY) ## Measure beside a bare client and plain kopf: make bench ONLY=ready|workflows|definitions|read_api|console N=2000
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(N),--objects $(N)) $(ARGS)

fmt: $(READY) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

lint: $(READY) ## Lint, layers and spelling
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/codespell

types: $(READY) ## Check the types
	@$(BIN)/mypy

generate: $(READY) ## Make the generated files again: crds/, docs/cli.md, the tables of docs/actions.md, and the chart's
	@$(BIN)/keep-operator crds print --output-dir crds
	@$(BIN)/python -m keep_operator.plugin.reference > docs/cli.md
	@$(BIN)/python -m keep_operator.runner.actions.reference docs/actions.md
	@$(BIN)/python charts/generate.py
	@PYTHONPATH=tests $(BIN)/python -m contract.chart.combinations

vendor: $(READY) ## Make the console's files of others again, from their packages of npm, checked by their integrity
	@PYTHONPATH=tests $(BIN)/python -m contract.console.vendored

verify: $(READY) ## Fail when a generated file is not current
	@$(BIN)/python -m pytest -q tests/contract $(ARGS)

lock: $(READY) ## Resolve the dependencies anew into requirements.lock (hashes, no index)
	@$(BIN)/uv pip compile pyproject.toml --extra admin --extra sandbox --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --upgrade --quiet -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --constraint requirements.lock --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -o requirements-image.lock

image: $(READY) ## Build the image with Docker or buildah: make image IMAGE=registry.example.com/keep-operator
	@[ -n "$(BUILDER)" ] || { echo "make image needs Docker, or buildah: apt-get install buildah"; exit 1; }
	@rm -rf dist && $(BIN)/python -m hatchling build -t wheel -d dist > /dev/null
	@$(BUILDER) build $(BUILD_ARGS) --tag $(IMAGE):$$($(BIN)/python -c 'import keep_operator; print(keep_operator.__version__)') .

clean: ## Stop the sandbox and remove what was made here (the caches under ~/.cache stay)
	@[ ! -x $(BIN)/keep-operator ] || $(BIN)/keep-operator sandbox reset --yes
	@rm -rf $(VENV) .sandbox .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/out dist

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) (about a minute the first time) ..."
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "python3 -m venv does not work here; installing Debian's python3-venv ..."; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: help run test check browser e2e-kind soak bench fmt lint types generate vendor verify lock image clean
