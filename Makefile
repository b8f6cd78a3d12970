# One command each: `make demo` sets up and runs the tracker, `make test` sets up and runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCE ?=

.PHONY: demo test check lock clean

demo: $(VENV)/core.stamp
	$(BIN)/handmesh webcam $(if $(SOURCE),--source $(SOURCE))

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

lock: $(VENV)/core.stamp
	$(BIN)/python scripts/lock_core.py

clean:
	rm -rf $(VENV) outputs runs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[train,dev,stream,openvino,heif,usd]'
	touch $@ $(VENV)/core.stamp
