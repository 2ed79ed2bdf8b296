# Two commands do everything: `make demo` and `make test`. Each sets up what it needs, and does nothing twice.
# Any Python from 3.11 on; empty: the first that scripts/setup.sh finds.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SLOW_READY := $(VENV)/.slow-ready
OUT ?= out/demo
INTEROP := .interop
# A process for each core; a file's tests stay together, for they share what they trained.
FAST := -n auto --dist loadfile -m "not slow"

.PHONY: demo test check test-slow slow-tools interop lint setup bench bench-peers bench-corpus clean help

help:
	@echo "make demo       set up, then real code to a sealed, verified, running model in $(OUT)"
	@echo "make test       set up, then the tests"
	@echo "make check      what CI runs: lint, types, house rules, tests, tests under python -O"
	@echo "make test-slow  the suites that take minutes"
	@echo "make bench      tokens/s beside the peers of 'make bench-peers', the seal, the first token, memory"
	@echo "make slow-tools what they build and run with for other processors: zig, qemu-user, Node.js, CMake; a GPU in software; a fuzzer"
	@echo "make interop    llama.cpp and our Go program, in $(INTEROP): they prove exports"
	@echo "make clean      remove the environment and caches (not $(OUT))"

$(READY): pyproject.toml requirements.txt scripts/setup.sh $(wildcard native/* native/*/*)
	@scripts/setup.sh "$(VENV)" $(PYTHON)

$(SLOW_READY): $(READY) requirements-slow.txt
	@SLOW_TOOLS=1 scripts/setup.sh "$(VENV)" $(PYTHON)

setup: $(READY)

slow-tools: $(SLOW_READY)

demo: $(READY)
	$(BIN)/s7 make recipes/s7/demo-1m.yaml --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest $(FAST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --exclude "*.md" .
	$(BIN)/mypy
	$(BIN)/mypy --config-file benchmarks/mypy.ini
	$(BIN)/lint-imports

# python -O removes asserts from the package; the tests keep theirs, because pytest rewrites them. Its warning that it might not is
# why -W. As a variable, because the processes of the tests get no flags.
check: lint test
	PYTHONOPTIMIZE=1 $(BIN)/python -m pytest -W ignore::pytest.PytestConfigWarning $(FAST)

test-slow: $(SLOW_READY) interop
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

# datatrove beside the corpus stage, 10 to 1,000 MB; it is slow: about forty minutes on a free core. Stopped, the same command goes on.
bench-corpus: $(READY) build/corpus-peers/.ready
	$(BIN)/python benchmarks/corpus.py --work build/corpus-bench
build/corpus-peers/.ready: benchmarks/requirements-corpus-peers.txt
	$(BIN)/python -m venv build/corpus-peers
	build/corpus-peers/bin/python -m pip --disable-pip-version-check -q install -r $<
	touch $@

$(INTEROP)/.ready: interop/requirements.txt scripts/interop.sh $(wildcard interop/go/*) $(READY)
	@scripts/interop.sh "$(INTEROP)" $(BIN)/python

interop: $(INTEROP)/.ready

clean:
	rm -rf $(VENV) $(INTEROP) build src/sevenfold/*/_native .mypy_cache .ruff_cache .import_linter_cache .hypothesis
