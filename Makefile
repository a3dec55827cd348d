# `make demo` and `make test` need Python 3.11+ and a package index; everything lands in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FLOOR := .venv-floor

.PHONY: demo test test-slow test-notebooks test-floor every-part docs lint clean

demo: $(VENV)/.installed
	$(BIN)/python -m jaxasr.train --task=asr --encoder=sanm

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow -n 0

# of some only: make test-notebooks NOTEBOOKS="01 04"
test-notebooks: $(VENV)/.installed-notebooks
	$(BIN)/python tests/run_notebooks.py $(NOTEBOOKS)

# the fast tests and the first notebook with the lowest versions that setup.cfg allows, in an environment of their own
test-floor: $(FLOOR)/.installed
	$(FLOOR)/bin/python -m pytest
	$(FLOOR)/bin/python tests/run_notebooks.py 01

every-part: $(VENV)/.installed
	$(BIN)/python benchmarks/every_part.py

# into site/, which `$(BIN)/python -m http.server -d site` shows; it needs no network, and any warning is an error
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $@

$(VENV)/.installed-notebooks: $(VENV)/bin/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[notebooks]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/bin/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@

$(FLOOR)/.installed: setup.cfg pyproject.toml tools/floor.py
	$(PYTHON) -m venv --clear $(FLOOR)
	$(PYTHON) tools/floor.py > $(FLOOR)/constraints.txt
	$(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(FLOOR)/constraints.txt \
	    --editable ".[test,notebooks]"
	touch $@

clean:
	rm -rf $(VENV) $(FLOOR) site build dist *.egg-info
