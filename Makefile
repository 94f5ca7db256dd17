PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help reproduce test lint format clean

help: ## show these targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

reproduce: $(VENV)/installed ## run the experiments: figures/ and the claims table
	$(BIN)/mgt-np reproduce

test: $(VENV)/installed-for-tests ## check the code's style and run the whole test suite
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest

lint: $(VENV)/installed-for-tests ## check the code's style alone
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/installed-for-tests ## put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment and what tools left
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-for-tests: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(VENV)/installed $@
