# make run    train on real data under the monitor and write a report
# make test   lint, types, tests
# Both set up .venv with the exact versions of constraints.txt first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_OPTIONS ?=

.PHONY: run test lint types unit slow bench clean

run: $(STAMP)
	$(BIN)/sgdscope run $(RUN_OPTIONS)

test: lint types unit slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# One process per core with one thread each: the tests are many and small
unit slow: export OMP_NUM_THREADS := 1

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
