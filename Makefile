# make demo and make test work on a fresh machine with Python 3.11 or newer, make and g++ (or clang++).

PYTHON ?= python3
VENV   ?= .venv
# Test processes; each computes on one thread (tests/conftest.py).
JOBS   ?= auto

SHELL := /bin/bash
BIN   := $(VENV)/bin
DEMO  := $(VENV)/.installed-examples
DEV   := $(VENV)/.installed-dev
# What the benchmark compares with lives apart: some of it pins versions of what graphc needs.
PEERS := $(VENV)-peers
# Folders that become packages of graphc (setup.py); a checkout run in place may have links to them in graphc/.
ROOMS := passes runtime templates

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench-cpu bench-memory bench-recompute clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO)  ## Train an MLP and a LeNet on handwritten digits, as compiled programs
	@$(BIN)/python examples/train_digits.py

test: $(DEV)  ## Run all tests (T="tests/ir -k print" selects some)
	@$(BIN)/python -m pytest -q -n $(JOBS) --maxprocesses 8 --dist worksteal $(T)

lint: $(DEV)  ## Check style and import rules with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# The four rooms are one package only once installed: mypy reads them through a folder of links.
types: $(DEV)  ## Check types with mypy --strict
	@rm -rf build/types && mkdir -p build/types/graphc
	@ln -s $(addprefix $(CURDIR)/,$(filter-out $(ROOMS:%=graphc/%),$(wildcard graphc/*)) $(ROOMS)) build/types/graphc/
	@cd build/types && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml \
	    --cache-dir $(CURDIR)/.mypy_cache -p graphc

bench-cpu: $(DEV) $(PEERS)/.installed  ## Kernels, training, inference beside five peers (ARGS="--only gelu --quick")
	@$(BIN)/python benchmarks/cpu.py $(ARGS)

bench-memory: $(DEV)  ## Plan the nets of MXNet's memory figure beside its planner, then measure the peak of steps beside torch
	@$(BIN)/python benchmarks/memory.py
	@$(BIN)/python benchmarks/peak.py

bench-recompute: $(DEV)  ## Training steps under memory budgets: bytes, operations, time (results/recompute.md)
	@$(BIN)/python benchmarks/recompute.py

clean:  ## Remove builds and caches; the environment stays (rm -rf .venv removes it)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# One stamp for each set of extras, renewed when the dependencies change.
$(VENV)/.installed-%: pyproject.toml setup.py | $(BIN)/python
	@echo "installing graphc[$*] into $(VENV); the first time this downloads torch"
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(PEERS)/.installed: benchmarks/peers.txt
	@$(PYTHON) -m venv $(PEERS)
	@echo "installing the peers of the benchmark into $(PEERS): about 2 GB"
	@$(PEERS)/bin/python -m pip install --disable-pip-version-check --requirement benchmarks/peers.txt
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("graphc needs Python 3.11 or newer: \
	make PYTHON=/path/to/python3.11 ..., found " + sys.version)'
	@$(PYTHON) -m venv $(VENV)
