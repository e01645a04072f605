# The habits. `make` alone lists them.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LISTEN ?= 127.0.0.1:50051
EDGE ?= 127.0.0.1:8080
# A server that runs already; `make edge` starts one of its own where none is named.
SERVER ?=
WORKERS ?= 3
# The image that `make container-check` builds.
STAGE ?= cpu

IMAGE ?= docs/sample.png
# Photographs for the benchmarks of media, and a folder with weights that need not be fetched.
IMAGES ?= $(or $(wildcard ../shared/images),docs/sample.png)
MODELS ?= $(wildcard ../shared/models)
MODEL ?= real-esrgan-x4-plus
SCALE ?= 4

.DEFAULT_GOAL := help
.PHONY: help venv demo serve test cluster-test parity kernels edge edge-test edge-descriptors cluster-demo chaos cluster-chaos lint format proto proto-check docs docs-check bench bench-media bench-load bench-gpu bench-keys bench-edge bench-jobs bench-cluster manifests-check bench-autoscaling alerts-check locks sbom container-check bench-stores bench-telemetry fuzz soak security clean reliability-report

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-23s %s\n", $$1, $$2}'

# torch is constrained to one version so that a stray upgrade cannot bring gigabytes of CUDA libraries.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[server,torch,images,cli,dev]'
	@touch $(READY)

venv: $(READY) ## make .venv with server, torch, images, cli and dev extras

demo: $(READY) ## start a server, upscale an image through the client, stop it (IMAGE=… MODEL=… SCALE=…)
	@$(BIN)/python scripts/demo.py "$(IMAGE)" --model "$(MODEL)" --scale "$(SCALE)"

serve: $(READY) ## run a server in the foreground (LISTEN=HOST:PORT)
	@$(BIN)/upscaled serve --listen $(LISTEN)

# Most of the tests that take long wait for a process or a clock, so a few at once are faster even on two cores.
# The image's build has a target of its own: it takes root, and minutes.
test: $(READY) ## every test of a server by itself (WORKERS=N of them at once)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --max-worker-restart 0 --ignore=tests/container -m "not cluster" $(PYTEST_ARGS)

cluster-test: $(READY) ## every test of servers that share NATS and an object store, which run here too
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --max-worker-restart 0 --ignore=tests/container --ignore=tests/edge -m cluster $(PYTEST_ARGS)

# Apart from `make test`: basicsr builds for two minutes, and not on Python 3.13.
$(VENV)/.reference: $(READY)
	@echo "installing the reference engine into $(VENV) (basicsr is built from source, about two minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[realesrgan]'
	@touch $@

REFERENCE := tests/conformance/test_reference_engine.py tests/conformance/test_reference_compare.py

parity: $(VENV)/.reference ## compare with RealESRGANer of the realesrgan package, which is installed for it
	@$(BIN)/python -m pytest -q $(REFERENCE) $(PYTEST_ARGS)

# Apart from `make test`: Triton is 200 MB, and comes with torch only where that brings CUDA.
$(VENV)/.triton: $(READY)
	@echo "installing Triton into $(VENV) (200 MB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt triton
	@touch $@

KERNELS := tests/unit/engine/test_cuda_kernels.py tests/integration/engine/test_cuda_kernels_in_networks.py

kernels: $(VENV)/.triton ## compare the kernels for CUDA cards with plain operations, without a card
	@$(BIN)/python -m pytest -q $(KERNELS) $(PYTEST_ARGS)

lint: $(READY) ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## fix what ruff and buf can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/buf format -w proto

.proto-deps: $(READY)
	@$(BIN)/python scripts/generate_stubs.py --dependencies $@

proto: $(READY) ## regenerate what comes of the contract: client/upscaled/v1, docs/openapi.json
	@$(BIN)/python scripts/generate_stubs.py client
	@$(BIN)/python scripts/render_openapi.py

proto-check: $(READY) .proto-deps ## buf lint, buf format, and stubs and OpenAPI as the contract gives them
	@$(BIN)/buf lint proto
	@$(BIN)/buf format --exit-code --diff proto
	@sh scripts/check_stubs.sh $(BIN)/python
	@$(BIN)/python scripts/render_openapi.py --check

# A test tells where a script is left out.
DOCS := scripts/render_settings.py scripts/render_metrics.py scripts/render_benchmarks.py scripts/render_capacity.py scripts/render_cluster.py scripts/render_exactness.py scripts/render_media.py scripts/render_dashboard.py

docs: $(READY) ## write the pages that come of code and measurements
	@for script in $(DOCS); do $(BIN)/python $$script || exit 1; done
	@$(BIN)/python -m tests.reliability.report

docs-check: $(READY) ## whether the pages that come of code and measurements are as these give them
	@for script in $(DOCS); do $(BIN)/python $$script --check || exit 1; done
	@$(BIN)/python -m tests.reliability.report --check

$(VENV)/.edge: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[edge]'
	@touch $@

edge: $(VENV)/.edge ## Envoy in front of a server: HTTP, JSON and the playground (EDGE=HOST:PORT SERVER=HOST:PORT)
	@$(BIN)/python scripts/edge.py --listen $(EDGE) --server "$(SERVER)"

edge-test: $(VENV)/.edge ## HTTP through a real Envoy, and the playground in a real browser
	@$(BIN)/python scripts/edge.py --check
	@$(BIN)/python -m pytest -q tests/edge $(PYTEST_ARGS)

edge-descriptors: $(READY) ## the descriptor set that Envoy needs beside deploy/envoy/envoy.yaml
	@$(BIN)/python scripts/generate_stubs.py --descriptors deploy/envoy/upscaled.pb

cluster-demo: $(VENV)/.edge ## three servers, three nodes of NATS, S3 and Envoy here; 100 jobs, and kill -9 on the way (DEMO_ARGS=--jobs N)
	@$(BIN)/python -m tests.cluster.demo $(DEMO_ARGS)

manifests-check: $(READY) ## the Kubernetes manifests: valid, restricted, and fitting the server (needs kubectl)
	@$(BIN)/python -m pytest -q tests/kubernetes $(PYTEST_ARGS)

chaos: $(READY) ## what a server must survive: callers that misbehave, kills, cuts (CHAOS_ARGS=--short, CHAOS_ARGS=NAME)
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

cluster-chaos: SCENARIOS ?= cluster_jobs cluster_cut cluster_rolling
cluster-chaos: $(VENV)/.edge ## a cluster under kill -9, a cut network, a rolling restart (CHAOS_ARGS=--short)
	@$(BIN)/python -m tests.chaos $(SCENARIOS) $(CHAOS_ARGS)

soak: $(READY) ## the whole corpus of images, or 10,000 requests of every kind (SOAK_ARGS=--corpus or --mixed, --short)
	@$(BIN)/python -m tests.soak $(SOAK_ARGS)

# Records of full runs are copied to docs/reliability by whoever ran them; the tests take a few minutes.
reliability-report: $(READY) ## run the tests that docs/reliability.md names, and write that page and its charts
	@$(BIN)/python -m tests.reliability.suite
	@$(BIN)/python -m tests.reliability.report

security: $(READY) ## ruff's security rules, secrets, licences and known weaknesses of dependencies
	@$(BIN)/ruff check .
	@$(BIN)/python scripts/check_secrets.py
	@$(BIN)/python scripts/check_licences.py
	@$(BIN)/python scripts/check_advisories.py

$(VENV)/.fuzz: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

fuzz: $(VENV)/.fuzz ## absurd input to decoders, weight files, rpcs, uploads, URLs, callbacks (FUZZ_ARGS=--short, --seconds N)
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

bench: $(VENV)/.reference ## the engine against its peers, PNG against Pillow's, each in one run (BENCH_ARGS=--short, IMAGES=…)
	@$(BIN)/python -m tests.benchmarks.peers $(BENCH_ARGS)
	@$(BIN)/python -m tests.benchmarks.png $(filter --short,$(BENCH_ARGS)) $(MODELS:%=--models %) $(IMAGES)

bench-media: $(READY) ## how early the first byte leaves, peak memory, how far colours move (IMAGES=…)
	@for input in jpeg png; do \
		$(BIN)/python -m tests.benchmarks.first_byte --input $$input \
			--out bench-results/first_byte-$$input.json || exit 1; done
	@$(BIN)/python -m tests.benchmarks.colours $(MODELS:%=--models %) $(IMAGES)

bench-gpu: $(VENV)/.reference ## the engine on a CUDA card, against RealESRGANer and torch.compile (BENCH_ARGS=…); writes docs/benchmarks/gpu.json
	@$(BIN)/python -m tests.benchmarks.gpu $(BENCH_ARGS)

bench-keys: $(READY) ## what wrong keys cost, and that their timing tells nothing
	@$(BIN)/python -m tests.benchmarks.keys

bench-edge: $(VENV)/.edge ## what HTTP through Envoy adds to gRPC, and 200 callers over HTTP at once
	@$(BIN)/python -m tests.benchmarks.edge

bench-jobs: $(READY) ## what 100,000 finished jobs cost those that come after
	@$(BIN)/python -m tests.benchmarks.jobs_store

bench-cluster: $(READY) ## eight servers and two against one, on simulated devices; writes docs/benchmarks/cluster.json
	@$(BIN)/python -m tests.benchmarks.cluster $(BENCH_ARGS)
	@$(BIN)/python scripts/render_cluster.py

bench-autoscaling: $(READY) ## a day of traffic and autoscaling, simulated; writes docs/benchmarks/autoscaling.json
	@$(BIN)/python -m tests.benchmarks.autoscaling
	@$(BIN)/python scripts/render_capacity.py

# promtool comes with Prometheus (Debian: the package prometheus).
alerts-check: $(READY) ## rules, alerts and their cases with promtool, and the dashboard as its script gives it
	@promtool check rules deploy/prometheus/rules.yaml deploy/prometheus/alerts.yaml
	@promtool check config deploy/prometheus/prometheus.yaml
	@promtool test rules deploy/prometheus/tests/*.yaml
	@$(BIN)/python scripts/render_dashboard.py --check

bench-load: $(READY) ## many callers at once, killed workers, and what scheduling costs; writes docs/benchmarks/load.json
	@$(BIN)/python -m tests.benchmarks.load

locks: $(READY) ## pin and hash what the images install, from the public index (LOCK_ARGS=--upgrade)
	@$(BIN)/python scripts/locks.py $(LOCK_ARGS)

sbom: $(READY) ## what is in the images, with licences, as CycloneDX: deploy/docker/sbom
	@$(BIN)/python scripts/sbom.py

# Takes root, for the overlays that stand for a container engine.
container-check: $(READY) ## build the Dockerfile's image without an engine and run its server (STAGE=cuda: the other)
	@CONTAINER_STAGE=$(STAGE) $(BIN)/python -m pytest -q --timeout 1800 tests/container $(PYTEST_ARGS)

bench-stores: $(READY) ## what an operation costs in SQLite and in NATS, one node and three
	@$(BIN)/python -m tests.benchmarks.stores

bench-telemetry: $(READY) ## what metrics cost: of a scrape, and of every request; writes docs/benchmarks/telemetry.json
	@$(BIN)/python -m tests.benchmarks.telemetry

clean: ## remove what the targets made, except .venv
	@rm -rf bench-results demo-output dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .proto-deps
