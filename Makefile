# What a developer types. Each line works in a fresh clone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install test quick lint docs ci

install: $(BIN)/pytest

$(BIN)/pytest: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e ".[dev]"
	touch $(BIN)/pytest

test: install  ## the tests of every change
	$(BIN)/pytest

quick: install  ## without the tests that train or convert for long
	$(BIN)/pytest -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/check_types.py

docs: install  ## the documentation site, into build/site
	$(BIN)/pip install -q -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

ci:  ## from nothing: fresh clone, fresh environment, wheel
	PYTHON=$(PYTHON) .ci/run
