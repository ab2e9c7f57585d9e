# One command from a fresh clone: each target first makes .venv and installs into it what it needs, once.
# Needed beforehand: Python 3.10 or newer and make. Another Python: make test PY=python3.12

PY ?= python3
VENV ?= .venv
PYTHON = $(VENV)/bin/python
ARGS ?=
# modules are compiled once, and not by each of the processes that the tests start
export PYTHONDONTWRITEBYTECODE =

# uv if it is here and new enough to know dependency groups, else venv and pip
UV := $(shell uv pip install --help 2>/dev/null | grep -q -e --group && echo uv)

# what tests/chaos does while a load runs, and measures: all but the failures one by one
MEASURING = $(filter-out %/test_nth_failure.py,$(wildcard tests/chaos/test_*.py))

.PHONY: help demo demo-full test long chaos lint format docs bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.has-demo ## Run the example app on SQLite
	$(PYTHON) -m example_app $(ARGS)

demo-full: $(VENV)/.has-demo-full ## Run the example app on a PostgreSQL and a Redis that it starts itself
	$(PYTHON) -m example_app --full $(ARGS)

test: $(VENV)/.has-test ## Run the whole suite: on SQLite, and on a PostgreSQL and a Redis that it starts itself
	$(PYTHON) -m pytest -n 3 --dist worksteal $(ARGS)

long: $(VENV)/.has-test ## Run the tests that have a long form in that form: every seed, every place
	$(PYTHON) -m pytest --form=long -n 2 --dist worksteal $(addprefix --ignore=,$(MEASURING)) $(ARGS)

chaos: $(VENV)/.has-test ## Break Redis, PostgreSQL and workers for a quarter of an hour, one test at a time, and say the figures
	$(PYTHON) -m pytest --form=all tests/chaos $(ARGS)

lint: $(VENV)/.has-test $(VENV)/.has-lint ## Check style and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

format: $(VENV)/.has-lint ## Format the code
	$(PYTHON) -m ruff check --fix-only
	$(PYTHON) -m ruff format

docs: $(VENV)/.has-docs ## Build the documentation into docs/_build
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs docs/_build $(ARGS)
	@echo "Open docs/_build/index.html"

bench: $(VENV)/.has-bench ## Measure the package beside hand-written programs
	$(PYTHON) -m benchmarks $(ARGS)

clean: ## Remove what the other targets made
	rm -rf $(VENV) docs/_build dist .pytest_cache .mypy_cache .ruff_cache

# a stamp per dependency group of pyproject.toml, so that the second run starts at once
$(VENV)/.has-%: pyproject.toml | $(PYTHON)
ifeq ($(UV),uv)
	uv pip install -q --python $(PYTHON) -e . --group $*
else
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip >/dev/null
	$(PYTHON) -m pip install -qq --upgrade 'pip>=25.1'
	$(PYTHON) -m pip install -qq -e . --group $*
endif
	@touch $@

$(PYTHON):
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PY=python3.12 ..."; exit 1; }
ifeq ($(UV),uv)
	UV_PYTHON_DOWNLOADS=never uv venv -q --allow-existing --python "$$($(PY) -c 'import sys; print(sys.executable)')" $(VENV)
else
	@$(PY) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install -y python3-venv"; exit 1; }
endif
