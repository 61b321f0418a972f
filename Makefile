# `make test` and `make demo` each do all their set-up on a fresh machine with Python 3.11 (another: `make PYTHON=python3.12 ...`).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA ?= $(if $(JOBS_RAY_DATA),$(JOBS_RAY_DATA),../shared/data)

.PHONY: test test-oldest-ray test-core test-search test-tune test-lm test-all test-slow test-slow-lm test-slow-groups gpu soak check demo fuzz chaos bench clean

# what each of several processes prints comes at its end, where make can do that
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

# Lint, types, and the tests that are not marked slow: two processes at a time, since a test of a cluster mostly waits for
# it. Each process starts a Ray of its own; the longest come first, and the last ones are of a length.
test: $(STAMP)
	$(MAKE) --no-print-directory --jobs 2 $(SYNC) test-tune test-lm check test-search test-core

# A test of a real cluster may lose to a busy machine once (a process killed late, a heartbeat missed): those of tests/tune
# and tests/lm are tried twice. The others have one try.
test-tune: $(STAMP)
	$(PYTEST) --reruns 1 -rR -m "not slow" tests/tune

test-lm: $(STAMP)
	$(PYTEST) --reruns 1 -rR -m "not slow" tests/lm

test-search: $(STAMP)
	$(PYTEST) -m "not slow" tests/search tests/models

test-core: $(STAMP)
	$(PYTEST) -m "not slow" $(addprefix --ignore=tests/,tune lm search models) tests

# The slow rest, which `make test` leaves out: every three of Tune's settings, killed nodes, drivers and workers,
# the whole demo, tiny; and real runs on the oldest Ray. In two processes, too: groups of workers take half a minute to
# start, so that they are a lane of their own.
test-all: $(STAMP)
	$(MAKE) --no-print-directory --jobs 2 $(SYNC) test-slow test-slow-groups test-slow-lm test-oldest-ray \
		OLDEST="tests/tune/test_fit.py tests/tune/test_resume.py"

test-slow: $(STAMP)
	$(PYTEST) --reruns 1 -rR -m slow --ignore=tests/lm tests

test-slow-lm: $(STAMP)
	$(PYTEST) --reruns 1 -rR -m slow $(addprefix --ignore=,$(GROUPS)) tests/lm

test-slow-groups: $(STAMP)
	$(PYTEST) --reruns 1 -rR -m slow $(GROUPS)

GROUPS := tests/lm/test_nodes.py tests/lm/test_ray.py tests/lm/test_lm_preflight.py

# What only a machine with NVIDIA GPUs can tell; elsewhere every test is skipped, and says why.
gpu: $(STAMP)
	$(PYTEST) -m gpu tests/lm/test_gpu.py

# On the oldest Ray that the extra [tune] admits, laid over the environment; what that Ray warns of is its own.
OLDEST := tests/tune
test-oldest-ray: $(STAMP)
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target .ray-oldest ray==2.51.2
	PYTHONPATH=$(CURDIR)/.ray-oldest $(PYTEST) --reruns 1 -rR -m "not slow" $(OLDEST) -W ignore::FutureWarning \
		-W ignore::DeprecationWarning -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning

# 5,000 trials in one experiment.
soak: $(STAMP)
	$(BIN)/python -m benchmarks.overhead --soak 5000

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(STAMP)
	$(BIN)/jobs-ray demo

# 10,000 random op sequences against the invariants of the optimiser, and ten times the examples of the other
# property tests, new ones each time.
fuzz: $(STAMP)
	JOBS_RAY_FUZZ=10000 $(PYTEST) tests/search/test_fuzz.py
	JOBS_RAY_EXAMPLES=10 $(PYTEST) $(PROPERTIES)

PROPERTIES := tests/space tests/trials tests/models/test_smoothing.py tests/tune/test_domains.py \
	$(addprefix tests/search/test_,budget.py acquisition.py costs.py lost_checkpoints.py)

# 200 seeded schedules of kills, restores and troubles; JOBS_RAY_CHAOS_FROM is the first seed.
chaos: $(STAMP)
	JOBS_RAY_CHAOS=200 $(PYTEST) -m chaos tests/chaos

bench: $(STAMP)
	$(BIN)/python -m benchmarks.predictor --data $(DATA)
	$(BIN)/python -m benchmarks.search --data $(DATA)
	$(BIN)/python -m benchmarks.latency

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
