# The first two commands of the README, and what CI runs.
PYTHON ?= python3
BIN := .venv/bin
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.PHONY: quickstart test test-all lint bench counts clean

quickstart: .venv/.installed
	$(BIN)/bench weights fetch lite_medsam || echo "No pretrained weights could be fetched: the quick start uses RANDOM weights."
	$(BIN)/bench run --grid quick --cluster local
	$(BIN)/bench table

# Files in parallel, then the clusters, which take ports and processes of the whole machine.
test: .venv/.installed-dev lint
	$(BIN)/python -m pytest $(PARALLEL) --ignore tests/cluster
	$(BIN)/python -m pytest tests/cluster

# With the tests that only a release needs.
test-all: .venv/.installed-dev lint
	$(BIN)/python -m pytest $(PARALLEL) --ignore tests/cluster -m "release or not release"
	$(BIN)/python -m pytest tests/cluster -m "release or not release"

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# All ratios with their targets, in one table; `make bench ONLY=plan` runs benchmarks/test_plan*.py. Fails where a
# benchmark broke, not where a target is missed.
bench: .venv/.installed-dev
	$(BIN)/python -m pytest $(if $(ONLY),benchmarks/test_$(ONLY)*.py,benchmarks)

counts: .venv/.installed-dev
	$(BIN)/python -m bench.estimate.flops
	$(BIN)/python benchmarks/test_grid_economy.py

.venv/bin/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/.installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install -e .
	touch $@

.venv/.installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install -e ".[dev]"
	touch .venv/.installed $@

clean:
	rm -rf .venv build *.egg-info
