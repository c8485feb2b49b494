# Everything runs from .venv, which `make setup` builds from requirements.lock. Python 3.11+ and make are all it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup run test test-unit test-real test-api test-pipeline test-proof test-chaos chaos soak lint types lock bench bench-quick bench-ingest clean deploy-check rules sbom audit k8s-check citus-check viewer test-pages test-browser screenshots console-libs

help: ## Show what make can do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Build .venv from the lock file; fetch Kafka into the user cache

$(VENV)/.ready: requirements.lock pyproject.toml pipeline/local/kafka.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is not: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/gamemetrics local fetch
	@touch $@

run: setup ## Start everything, send a first load, say where to look; Ctrl-C stops it
	@$(BIN)/gamemetrics run

# The longest first: with -j2 two run at a time, each on servers of its own.
test: test-api test-chaos test-pipeline test-proof test-pages test-unit ## Run every test: pure, on the real servers, of failures, in a browser (-j2: side by side)

test-unit: setup ## Run the pure tests
	$(PYTEST) tests/unit

test-real: test-api test-pipeline test-proof ## Run the tests on the real servers

test-api: setup ## Run those of the HTTP API
	$(PYTEST) tests/real/api tests/real/trail

test-pipeline: setup ## Run those of all else but the proof
	$(PYTEST) tests/real --ignore tests/real/api --ignore tests/real/trail --ignore tests/real/verify

test-proof: setup ## Run those of verify
	$(PYTEST) tests/real/verify

test-chaos: setup ## Run the tests that kill, cut and freeze, in their short form
	$(PYTEST) tests/chaos

test-pages: setup ## Run the tests of the console in a browser, or say that there is none
	$(PYTEST) tests/browser

test-browser: setup ## Run the tests of the console in a browser, which must be there
	REQUIRE_BROWSER=1 $(PYTEST) tests/browser

screenshots: setup ## Draw the pictures of the console anew: docs/console-*.png
	REQUIRE_BROWSER=1 SCREENSHOTS=docs $(PYTEST) tests/browser/test_pictures.py

chaos: setup ## Run the tests that kill, cut and freeze, in their long form too
	$(PYTEST) tests/chaos -m chaos

soak: setup ## Break something every few seconds for MINUTES=20, by SEED=1; exact sums at the end
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),20) --seed $(or $(SEED),1)

lint: setup ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## Check types, strictly
	$(BIN)/mypy

lock: setup ## Resolve the dependencies anew: requirements.lock and pipeline/local/kafka.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade pyproject.toml --universal --python-version 3.11 --all-extras \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock
	$(BIN)/python scripts/lock_kafka.py
	$(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --constraint requirements.lock \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o deploy/image/requirements.lock
	echo 'setuptools>=77' | $(BIN)/uv pip compile --quiet - --universal --python-version 3.11 --constraint requirements.lock \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o deploy/image/build.lock

viewer: setup ## Fetch the viewer of the API's page anew (needs npm)
	$(BIN)/python scripts/fetch_viewer.py $(VERSION)

console-libs: setup ## Fetch the libraries of the console's pages anew (needs npm)
	$(BIN)/python scripts/fetch_console.py $(PACKAGES)

deploy-check: setup ## Check image, manifests, rules and dashboards (needs kubectl, Go, Prometheus, buildah, debootstrap)
	$(PYTEST) tests/deploy

k8s-check: setup ## Roll every overlay out on the cluster of KUBECONFIG, and let its consumers scale by lag
	$(BIN)/python -m pytest -s tests/cluster

citus-check: setup ## Run the pipeline on the PostgreSQL with Citus that DB_HOST leads to
	$(PYTEST) tests/citus

rules: setup ## Write the PrometheusRule from deploy/prometheus
	$(BIN)/python scripts/write_rules.py

sbom: setup ## Write the image's bill of materials: build/sbom.json (CycloneDX)
	$(PYTHON) -m venv build/tools && build/tools/bin/pip install --quiet cyclonedx-bom==7.5.0
	build/tools/bin/cyclonedx-py requirements deploy/image/requirements.lock --pyproject pyproject.toml \
		--output-reproducible --output-file build/sbom.json

audit: setup ## Look the image's packages up among the known vulnerabilities
	$(PYTHON) -m venv build/tools && build/tools/bin/pip install --quiet pip-audit==2.10.1
	build/tools/bin/pip-audit --require-hashes --disable-pip --requirement deploy/image/requirements.lock

bench: setup ## Measure throughput, its limit and freshness on this machine, in about 5 minutes
	$(BIN)/python -m bench

bench-quick: setup ## The same in under a minute, with a tenth of the events
	$(BIN)/python -m bench --quick

bench-ingest: setup ## Measure the HTTP API beside a bare server, by wrk where there is one
	$(BIN)/python -m bench.ingest

clean: ## Stop the servers, and remove the environment, the data and the caches
	@if [ -x $(BIN)/gamemetrics ]; then $(BIN)/gamemetrics local down --wipe; fi
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
