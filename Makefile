# Jobs of the project and, with CONFIG=…, of its users. `make help` lists them.
# Everything runs in .venv with the versions of constraints.txt; torch comes first so that the pinned build is taken.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CONFIG ?=
ARGS ?=
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-loaders lint format bench table1 clean \
	finetune distill prune quantize export evaluate benchmark report pipeline

help:  ## List the targets
	@grep -hE '^[a-z][a-z -]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  %-28s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Create .venv and install the project with its development tools

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## Train a small teacher offline and compress it: distil, prune, quantize, export, report
	$(BIN)/python scripts/make_demo.py runs/demo-inputs
	$(BIN)/compressbert run configs/pipelines/demo.yaml $(ARGS)

test: $(STAMP)  ## Run the default test suite
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m 'not slow' $(ARGS)

test-slow: $(STAMP)  ## Run the tests on real models and data (COMPRESSBERT_MODELS, COMPRESSBERT_DATA)
	$(BIN)/pytest -m slow $(ARGS)

test-loaders: export COMPRESSBERT_LOADERS := $(CURDIR)/.loaders
test-loaders: $(STAMP)  ## Make the environments of other loaders in .loaders and open exports in all of them
	$(BIN)/python -m compressbert.export.environments
	OMP_NUM_THREADS=1 $(BIN)/pytest -m loaders -rs $(ARGS)

lint: $(STAMP)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Run the benchmarks (needs COMPRESSBERT_MODELS and COMPRESSBERT_DATA)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/train_throughput.py

table1: $(STAMP)  ## Fill docs/table1.md: every distillation method and its control on real data (hours; resumes)
	$(BIN)/python scripts/table1.py $(ARGS)

clean:  ## Remove what the tools left (the virtual environment and runs/ stay)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -exec rm -rf {} +

define job
$(1): $(STAMP)
	@test -n "$(CONFIG)" || { echo "usage: make $(1) CONFIG=file.yaml [ARGS='--set key=value']"; exit 2; }
	$(BIN)/compressbert $(if $(filter pipeline,$(1)),run,$(1)) $(CONFIG) $(ARGS)
endef
$(foreach name,finetune distill prune quantize export evaluate benchmark report pipeline,$(eval $(call job,$(name))))
