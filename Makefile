# make train   train a scheduler on the built-in workload, then compare it on held-out jobs
# make test    run the tests
# make lint / types / check / install / clean
#
# The first call creates .venv and installs what pyproject.toml names (a few minutes). The
# stamp is written only when that went through, and is out of date when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 15))

TRAIN_ARGS ?= --preset fast --minutes 8 --out runs/built-in --resume auto
TEST_WORKERS ?= 2
TEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install train test lint types check clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,3p'

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c '$(SUPPORTED)' || { \
	  echo "error: Python 3.10 to 3.14 is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true);" \
	       "name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(BIN)/python -c 'import pip; $(SUPPORTED)' >/dev/null 2>&1 || { \
	  echo "creating $(VENV)"; \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	    echo "error: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; }; }
	@echo "installing marl_sched and its libraries into $(VENV) (the first time: some minutes)"
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $@

train: $(STAMP)
	$(BIN)/marl-sched train $(TRAIN_ARGS)

# One thread a process: more only fight over the cores that the workers already fill.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(TEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/python -m mypy

check: lint types test

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find marl_sched tests -name __pycache__ -type d -prune -exec rm -rf {} +
