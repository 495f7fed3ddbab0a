# `make demo` and `make test` need nothing but python3 with pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
# Two test processes with one thread each beat one process with two threads.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.PHONY: demo test test-fast lint docs format wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	$(BIN)/irprune demo

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not real and not slow and not gpu and not browser"
	$(PYTEST) -m "real or slow or gpu or browser"

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not real and not slow and not gpu and not browser"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site, into site/; any warning fails the build. Its pages can be read from disk.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --wheel

# Each stamp records one finished installation, so that it is not repeated until pyproject.toml changes.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml | $(BIN)/python
	$(PIP) install -e ".[sevennet]"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) install -e ".[mace,sevennet,dev]"
	@touch $@ $(VENV)/.installed-demo

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
