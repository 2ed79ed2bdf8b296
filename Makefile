# Two commands do everything: `make demo` and `make test`. Each sets up what it needs, and does nothing twice.
# Any Python from 3.11 on; empty: the first that scripts/setup.sh finds.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WEBGPU := $(VENV)/.webgpu
OUT ?= out/demo
# The fuzzer is 35 MB and has no wheel for every Python: it comes with the tests that use it, and they skip without it.
FUZZER := atheris==3.0.0

.PHONY: demo test check test-slow lint setup bench bench-peers clean help

help:
	@echo "make demo       set up, then real code to a sealed, verified, running model in $(OUT)"
	@echo "make test       set up, then the tests"
	@echo "make check      what CI runs: lint, types, house rules, tests, tests under python -O"
	@echo "make test-slow  the suites that take minutes"
	@echo "make bench      tokens/s beside the peers of 'make bench-peers', the seal, the first token, memory"
	@echo "make clean      remove the environment and caches (not $(OUT))"

$(READY): pyproject.toml requirements.txt scripts/setup.sh $(wildcard native/*)
	@scripts/setup.sh "$(VENV)" $(PYTHON)

setup: $(READY)

demo: $(READY)
	$(BIN)/s7 make recipes/s7/demo-1m.yaml --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --exclude "*.md" .
	$(BIN)/mypy
	$(BIN)/lint-imports

# -O removes asserts from the package; the tests keep theirs, because pytest rewrites them. Its warning that it might not is why -W.
check: lint test
	$(BIN)/python -O -m pytest -W ignore::pytest.PytestConfigWarning -m "not slow"

$(WEBGPU): $(READY)
	@WEBGPU=1 scripts/setup.sh "$(VENV)" $(PYTHON)
	@touch $@

test-slow: $(READY) $(WEBGPU)
	-$(BIN)/python -m pip install --quiet --no-deps --only-binary :all: $(FUZZER)
	$(BIN)/python -m pytest -m slow

# The peers live in an environment of their own. Builds llama.cpp: about ten minutes, once.
bench-peers: build/peers/.ready
build/peers/.ready: benchmarks/peers.sh benchmarks/requirements-peers.txt benchmarks/llama_loop.cpp
	benchmarks/peers.sh build/peers $(PYTHON)
	touch $@

# Without the peers, or with one that could not be built, what is there is measured. Leave the machine alone meanwhile.
bench: $(READY)
	$(BIN)/python benchmarks/engine.py --out benchmarks/results/engine
	$(BIN)/python benchmarks/opening.py --out benchmarks/results/opening.json

clean:
	rm -rf $(VENV) build src/sevenfold/engine/_native .mypy_cache .ruff_cache .import_linter_cache .hypothesis
