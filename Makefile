# `make demo` and `make test` need nothing but Python 3.11+; both set everything up on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup demo test check bench docs clean

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"poolscout needs Python 3.11 or newer, this is {v[0]}.{v[1]}: run make PYTHON=python3.12 …") if v < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

demo: setup      ## the whole loop on the embedded sandbox; ends with the report's path
	$(BIN)/poolscout demo --out demo-run

test: setup      ## layers, lint, types and the whole test suite
	$(BIN)/ruff check --quiet src tests benchmarks
	$(BIN)/lint-imports --no-cache --config pyproject.toml
	# One thread each: two workers with two threads each would wait for one another's cores.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

check: setup     ## what a reviewer runs: format, lint, types, layers
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --config pyproject.toml

bench: setup     ## ratios and growth, beside other libraries; never bare times
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable '.[dev,bench]'
	@set -e; for benchmark in $(filter-out %_data.py,$(wildcard benchmarks/*.py)); do echo "== $$benchmark"; $(BIN)/python $$benchmark; done

docs: setup      ## write the generated parts of docs/ again
	$(BIN)/python -m poolscout.tables.document docs/tables.md
	$(BIN)/python -m poolscout.scoring.document docs/scorers.md
	$(BIN)/python -m poolscout.cli.document docs/config.md docs/cli.md

clean:           ## remove what make made
	rm -rf $(VENV) demo-run .pytest_cache .ruff_cache .mypy_cache
