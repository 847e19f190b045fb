# Everything runs in .venv, made with plain pip and the tested versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DOCS_READY := .venv/.docs-ready
STAMP := $(shell date +%Y%m%d-%H%M%S)
QUICKSTART := runs/quickstart-$(STAMP)
PYTEST := $(BIN)/python -m pytest --durations=30
SIDE_BY_SIDE := $(PYTEST) -n 2 --dist worksteal

.PHONY: train test test-slow bench-check lint docs clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip uninstall --quiet --quiet --yes metarl  # metarl-robots of an earlier version
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# The quick start: real MuJoCo, held-out tasks, under six minutes on two cores.
train: $(READY)
	$(BIN)/metarl train maml-trpo half-cheetah-vel --iterations 60 --out $(QUICKSTART)
	$(BIN)/metarl evaluate $(QUICKSTART) --out $(QUICKSTART)/evaluation
	@echo
	@echo "how it adapts to tasks it never met: $(QUICKSTART)/evaluation/adaptation.png"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python tools/openings.py --commands

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

# The site: docs/_build/html/index.html.
docs: $(DOCS_READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --jobs auto --builder html docs docs/_build/html

# Correctness, some 13 minutes on two cores: no test here asserts how long the product's work takes.
test: lint
	$(SIDE_BY_SIDE) -m "not slow and not bench_check"

# At most 12 minutes on two cores. tests/test_promises.py times things, so nothing runs beside it.
test-slow: $(READY)
	$(SIDE_BY_SIDE) -m slow --ignore=tests/test_promises.py
	$(PYTEST) -m slow tests/test_promises.py

# All timings, the longer trainings and the longer comparisons, on a quiet machine: docs/bench-check.md.
bench-check: $(READY)
	$(SIDE_BY_SIDE) -m bench_check --ignore=tests/test_promises.py
	$(PYTEST) -m bench_check tests/test_promises.py

clean:
	rm -rf .venv build docs/_build docs/_generated *.egg-info .pytest_cache .ruff_cache .mypy_cache
