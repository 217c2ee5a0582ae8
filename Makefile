# scorefield: each target makes the environment it needs on first use.
PYTHON ?= python3
# Where PyTorch comes from, e.g. TORCH_INDEX=https://… for a CPU-only index. Empty: pip's default.
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_FLAGS := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),)

DEMO_RUN ?= runs/demo
DEMO_BUDGET ?=

.PHONY: help demo docs check test test-all test-hardware lint bench-env env clean

help:
	@echo "make demo           train on mnist5k, sample, inpaint, report -> $(DEMO_RUN)/   (DEMO_BUDGET=20s trains less)"
	@echo "make check          lint and the core tests, under 90 s on two cores: run it before each commit"
	@echo "make test           the test suite       make test-all       with the slow checks"
	@echo "make lint           ruff, mypy, import layers"
	@echo "make docs           the pages of docs/ and the API reference -> docs/_build/html/index.html"
	@echo "make test-hardware  import time, memory, rates: for an idle machine"
	@echo "make bench-env      the environment of other libraries, .venv-bench"

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(TORCH_FLAGS) -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: env
	$(BIN)/scorefield demo --run $(DEMO_RUN) $(if $(DEMO_BUDGET),--budget $(DEMO_BUDGET),)

# One process a core, one thread each: two test files at a time are faster than one on two threads.
PYTEST := OMP_NUM_THREADS=1 GOMP_SPINCOUNT=3000 $(BIN)/python -m pytest -n auto --dist loadfile
PYTEST_FLAGS ?=
# What the numerical core promises; trainings are left out.
CORE := contract conditions units rng noise wrapped exact orders sde_kernels sampling objectives networks config code

check: lint
	$(PYTEST) -m 'not slow and not hardware and not training' $(wildcard $(CORE:%=tests/test_%.py)) $(PYTEST_FLAGS)

test: env
	$(PYTEST) $(PYTEST_FLAGS)

test-all: env
	$(PYTEST) -m 'not hardware' $(PYTEST_FLAGS)

test-hardware: env
	OMP_NUM_THREADS=1 GOMP_SPINCOUNT=3000 $(BIN)/python -m pytest -n 0 -m hardware $(PYTEST_FLAGS)

docs: env
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lint: env
	$(BIN)/ruff check src bench tests examples docs
	$(BIN)/ruff format --check src bench tests examples docs
	$(BIN)/mypy
	$(BIN)/lint-imports

# azula, deepinv, diffusers, denoising-diffusion-pytorch and pylops beside this package, on one torch (5.5 GB).
bench-env: .venv-bench/.installed

.venv-bench/.installed: pyproject.toml constraints-bench.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip --disable-pip-version-check install -q -c constraints-bench.txt torch torchvision
	.venv-bench/bin/python -m pip --disable-pip-version-check install -q -c constraints-bench.txt -e '.[demo,dev]' azula deepinv diffusers denoising-diffusion-pytorch pylops
	touch $@

clean:
	rm -rf $(VENV) .venv-bench build dist docs/_build docs/api
