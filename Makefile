# make run    train on real data under the monitor and write a report
# make test   lint, types, tests
# make studies   what five papers claim, measured beside predicted, at the size that takes minutes
# All set up .venv with the exact versions of constraints.txt first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_OPTIONS ?=
STUDY_OPTIONS ?=

.PHONY: run test studies lint types unit slow bench clean

run: $(STAMP)
	$(BIN)/sgdscope run $(RUN_OPTIONS)

test: lint types unit slow

studies: $(STAMP)
	$(BIN)/sgdscope study all --quiet $(STUDY_OPTIONS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# One process per core with one thread each: tests and cells are many and small
unit slow studies: export OMP_NUM_THREADS := 1

unit: $(STAMP)
	$(BIN)/pytest -n auto -m "not slow"

slow: $(STAMP)
	$(BIN)/pytest -n auto --dist loadfile -m slow

bench: $(STAMP)
	$(BIN)/python -m benchmarks

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
