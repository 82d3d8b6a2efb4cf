# make demo, make demo-text: the main job on embedded data (SEED=1: with another seed). make test: the whole suite.
# make check: the developer's loop. make soak: every documented command at full size.
PYTHON ?= python3
SEED   ?= 0
MINUTES ?= 5
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: install demo demo-text test check soak bench clean

install: $(VENV)/.dev  ## package, test extras and developer tools into .venv

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# torch first and alone: the CPU build is enough for everything here, and some indexes offer several
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

$(VENV)/.dev: $(VENV)/.tested
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/.installed  ## search, derive, retrain, compare with random cells, report: about five minutes on two cores
	rm -rf runs/demo
	$(BIN)/enas search scattered-micro --seed $(SEED) --out runs/demo
	$(BIN)/enas derive runs/demo
	$(BIN)/enas retrain runs/demo
	$(BIN)/enas compare runs/demo --cells 12 --seeds 3
	$(BIN)/enas report runs/demo

demo-text: $(VENV)/.installed  ## the same for recurrent cells on text, beside an LSTM of as many parameters: about five minutes
	rm -rf runs/demo-text
	$(BIN)/enas search text-rnn --seed $(SEED) --out runs/demo-text
	$(BIN)/enas derive runs/demo-text
	$(BIN)/enas retrain runs/demo-text
	$(BIN)/enas compare runs/demo-text --cells 16 --seeds 3 --references lstm
	$(BIN)/enas report runs/demo-text

test: $(VENV)/.tested  ## everything
	$(BIN)/pytest -q -n auto --dist worksteal

check: $(VENV)/.dev  ## format, lint, types, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n auto --dist worksteal -m "not slow"

soak: $(VENV)/.tested  ## laws over more draws, 50 kills in each case, memory over 2,000 steps, every documented command at full size, MINUTES each, both demos with two seeds: about an hour
	ENAS_SOAK=1 $(BIN)/pytest -q -n auto --dist worksteal -m soak
	$(BIN)/python tests/kills.py --kills 50
	$(BIN)/python tests/memory.py
	$(BIN)/python tests/soak.py $(MINUTES)

bench: $(VENV)/.installed  ## speed, as ratios measured in one run
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
