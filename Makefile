# The two commands of a newcomer are `make run` and `make test`. They need Python 3.11 or newer, make and git, no root and
# no compiler; what they install goes into folders of this project (.venv, .cache) and nowhere else.
#   make run PYTHON=python3.12        another Python
#   make run ARGS='--bind 127.0.0.1'  more flags for `tripylon run`

PYTHON ?= python3
ARGS ?=
SOAK_SECONDS ?= 1800
PYTEST_ARGS ?= -n 2 --dist loadfile
BIN := .venv/bin
export TRIPYLON_CACHE_DIR ?= $(CURDIR)/.cache/tripylon

.DEFAULT_GOAL := help
.PHONY: help run test check bench soak pins clean environment dev stubs
.PHONY: cluster-build cluster-up cluster-down test-cluster conformance bench-cluster

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: environment ## serve examples/quickstart, with a small backend behind it
	@$(BIN)/python examples/quickstart/backend.py --with-parent & backend=$$!; \
	$(BIN)/tripylon run examples/quickstart $(ARGS); code=$$?; \
	kill $$backend 2>/dev/null; test $$code -eq 130 || exit $$code

test: check ## run every check, then every test that needs no cluster
	@$(BIN)/pytest $(PYTEST_ARGS)
	@$(BIN)/python -m tests.cluster left-out

check: dev stubs ## lint, format, types, import contracts, house rules
	@echo "== ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run $(BIN)/ruff format ."; exit 1; }
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== import-linter"
	@$(BIN)/lint-imports --no-logo
	@echo "== house rules"
	@$(BIN)/pytest -q tests/house

bench: dev ## print the tables of docs/benchmarks.md
	@$(BIN)/python -m tests.bench $(ARGS)

soak: dev ## half an hour of changes under load: nothing may fail or grow; SOAK_SECONDS=300 for less
	@SOAK_SECONDS='$(SOAK_SECONDS)' $(BIN)/python -m tests.live.soak

# The test cluster and the suite; they need Linux, root (or user namespaces), iproute2 and nftables. Go and kubectl are
# taken from the package index where they are missing.
#   make conformance PROFILES=GATEWAY-HTTP RUN=HTTPRouteHeaderMatching
#   make conformance PARALLEL=0                   one test after the other
#   make conformance KUBECONFIG=~/.kube/config    a cluster of your own, where Tripylon is installed
#   make cluster-up NAME=mine                     several clusters side by side
NAME ?= main
PROFILES ?=
RUN ?=
CLUSTER := $(BIN)/python -m tests.cluster --name $(NAME)

cluster-build: dev ## build etcd, Kubernetes and the conformance suite, once (ten minutes)
	@$(CLUSTER) build

cluster-up: dev ## start a Kubernetes cluster on this machine
	@$(CLUSTER) up

cluster-down: dev ## end it, and leave nothing
	@$(CLUSTER) down

test-cluster: dev ## run the tests that need a Kubernetes cluster
	@$(CLUSTER) pytest tests/cluster tests/kube $(ARGS)

conformance: dev ## run the official Gateway API suite
	@PROFILES='$(PROFILES)' RUN='$(RUN)' $(if $(KUBECONFIG),KUBECONFIG='$(KUBECONFIG)') $(CLUSTER) conformance

bench-cluster: dev ## print the tables of a large cluster
	@$(BIN)/python -m tests.bench.scale $(ARGS)

pins: dev ## compile requirements/*.txt anew; UPGRADE=--upgrade takes newer versions
	@echo uv | $(BIN)/uv pip compile --quiet --python-version 3.11 --universal --generate-hashes $(UPGRADE) - -o requirements/uv.txt
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --universal --generate-hashes $(UPGRADE) --group build pyproject.toml -o requirements/run.txt
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --universal --generate-hashes $(UPGRADE) --group dev pyproject.toml -c requirements/run.txt -o requirements/dev.txt

clean: ## remove everything that was made here
	rm -rf .venv .cache .stubs .tripylon dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f src/tripylon/pb/messages.pyi
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@$(PYTHON) tools/environment.py run

dev:
	@$(PYTHON) tools/environment.py dev

stubs: dev
	@$(BIN)/python tools/stubs.py
