# Everything here works in $(VENV), made from locks/ on first use and kept until a lock changes.
#   make test PYTHON=python3.13 VENV=.venv-py313 PYTEST_ARGS="-k bandit -x"
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo env test test-slow lint format notebooks notebooks-check docs worlds lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## install what running needs, and draw the entropy-collapse figure
	@scripts/venv.sh "$(VENV)" runtime "$(PYTHON)"
	$(BIN)/jaxrl-lab run entropy_collapse

env: ## install everything the targets below need
	@scripts/venv.sh "$(VENV)" test "$(PYTHON)"

test: env ## run the test suite (PYTEST_ARGS="..." adds options)
	$(BIN)/python -m pytest -n 2 -m "not slow" $(PYTEST_ARGS)

test-slow: env ## run the statistical tests that need minutes, optimized as users run them
	JAXRL_LAB_TEST_OPTIMIZED=1 $(BIN)/python -m pytest -n 2 -m slow $(PYTEST_ARGS)

lint: env ## style, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: env ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: env ## execute the notebooks in place and store their outputs (NOTEBOOKS="..." picks)
	$(BIN)/python scripts/notebooks.py execute $(NOTEBOOKS)

notebooks-check: env ## execute copies of the notebooks and compare their two halves
	$(BIN)/python scripts/notebooks.py check $(NOTEBOOKS)

docs: env ## build the site into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -c docs -b html -W --keep-going -q . docs/_build/html
	@echo "docs/_build/html/index.html"

worlds: env ## measure every world, and write the tables of README.md and docs/worlds.md
	$(BIN)/python benchmarks/worlds.py --json docs/benchmarks/worlds.json
	$(BIN)/python scripts/worlds_table.py

lock: ## resolve pyproject.toml anew, for every supported Python at hand
	@for version in 3.11 3.12 3.13; do \
	    if python=$$(scripts/python.sh $$version); then "$$python" scripts/lock.py || exit 1; \
	    else echo "No Python $$version at hand: its locks stay as they are"; fi; \
	done

clean: ## remove the environments, caches and builds (not runs/)
	rm -rf .venv .venv-* build dist docs/_build docs/slots docs/reference docs/papers.md .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
