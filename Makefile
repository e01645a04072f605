# The habits. `make` alone lists them.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LISTEN ?= 127.0.0.1:50051

IMAGE ?= docs/sample.png
MODEL ?= real-esrgan-x4-plus
SCALE ?= 4

.DEFAULT_GOAL := help
.PHONY: help venv demo serve test lint format proto proto-check bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

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

test: $(READY) ## every test that needs nothing but this machine
	@$(BIN)/python -m pytest -q $(PYTEST_ARGS)

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

proto: $(READY) ## regenerate the stubs of the contract into client/upscaled/v1
	@$(BIN)/python scripts/generate_stubs.py client

proto-check: $(READY) .proto-deps ## buf lint, buf format, and stubs as the contract generates them
	@$(BIN)/buf lint proto
	@$(BIN)/buf format --exit-code --diff proto
	@sh scripts/check_stubs.sh $(BIN)/python

bench: $(READY) ## end to end against plain torch, in one run; writes bench-results/*.json
	@$(BIN)/python -m tests.benchmarks.end_to_end

clean: ## remove what the targets made, except .venv
	@rm -rf bench-results demo-output dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .proto-deps
