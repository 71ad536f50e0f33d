# Every target sets up and reuses .venv by itself.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(VENV)/.torch-installed

.DEFAULT_GOAL := help
.PHONY: help test check format crds bench demo controlplane chart-tools profile clean

help:  ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --quiet install uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	@touch $@

$(TORCH): $(STAMP)
	@echo "installing torch, 5 GB on disk, for the profiling package (about half a minute) ..."
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev,profiling]'
	@touch $@

test: $(STAMP) $(TORCH) controlplane chart-tools  ## Install what is needed and run every test
	$(BIN)/python -m pytest -m "not benchmark"

check: $(STAMP)  ## Style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

crds: $(STAMP)  ## Generate crds/*.yaml (and the chart's copy) from the models
	$(BIN)/python -m sluice.api.generate

bench: $(STAMP)  ## Measure; nothing here can fail a test
	$(BIN)/python -m pytest tests/benchmarks -m benchmark -s --timeout=0

demo: $(STAMP)  ## The closed loop on this machine: Envoy, Prometheus, simulated replicas
	$(BIN)/sluice demo

controlplane:  ## Build the real control plane for tests/control (once per machine)
	@$(PYTHON) tests/controlplane/programs.py

chart-tools:  ## Fetch the helm and kubectl that tests/chart runs (once per machine)
	@$(PYTHON) tests/chart/programs.py > /dev/null

profile: $(STAMP) $(TORCH)  ## Install torch and measure a tiny model's iteration-time law here
	$(BIN)/sluice profile kernel --tiny --output out/profile

clean:  ## Remove what the targets made inside the checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis out
