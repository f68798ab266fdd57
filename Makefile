# Two commands do everything on a fresh machine with Python 3.11 and pip: make run, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run review test lint bench docs clean

# Trains ten clients on Fashion-MNIST (or on embedded digits where it cannot be had) and reports.
run: $(VENV)/.core
	$(BIN)/fedlens run --preset first --or-embedded

# The reviewer's console of that run, on its test images.
review: $(VENV)/.review
	test -e runs/first/result.json || $(BIN)/fedlens run --preset first --or-embedded
	$(BIN)/fedlens review serve runs/first --demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

# Each prints ratios measured in one run (--out FILE keeps them); the peers: benchmarks/README.md.
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/grad_cam.py
	$(BIN)/python benchmarks/algorithms.py
	$(BIN)/python benchmarks/explanations.py
	$(BIN)/python benchmarks/explanation_curves.py

# Writes the pages that are generated from the code.
docs: $(VENV)/.core
	$(BIN)/python -m fedlens.experiment.documentation docs/configuration.md

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.review: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[review]'
	touch $@ $(VENV)/.core

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/.core $(VENV)/.review
