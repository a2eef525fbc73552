# Each target sets itself up in .venv from Python >= 3.11 alone and reuses it while setup.cfg is unchanged.

PYTHON ?= python3
BIN = .venv/bin
READY = .venv/.ready

.PHONY: demo test test-all lint bench setup clean

demo: $(READY)  ## search, train, export and predict on real handwritten digits
	$(BIN)/handgrad run --data digits --model lenet5 --trials 6 --epochs 16 --name digits --overwrite
	$(BIN)/handgrad data digits --samples build/digits
	$(BIN)/handgrad predict saved_models/digits build/digits

test: $(READY)  ## all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY)  ## all tests
	$(BIN)/python -m pytest

lint: $(READY)  ## flake8
	$(BIN)/python -m flake8

bench: $(READY)  ## ours beside stock Keras
	$(BIN)/python -m benchmarks

setup: $(READY)

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Handgrad needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=python3.x"; exit 1; }
	@echo "Setting up .venv (TensorFlow is large: a minute or two) ..."
	@$(PYTHON) -m venv .venv || \
	  { echo "Python cannot make a virtual environment. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean:  ## remove what was set up and built, not runs and exports
	rm -rf .venv build *.egg-info
