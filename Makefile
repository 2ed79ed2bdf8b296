# Two commands do everything: `make demo` and `make test`. Each sets up what it needs, and does nothing
# twice. `make help` lists the rest.

# Any Python from 3.11 on; empty: the first that scripts/setup.sh finds.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SLOW_READY := $(VENV)/.slow-ready
WEB_READY := $(VENV)/.web-ready
OUT ?= out/demo
INTEROP := .interop
# One process for each core. A file's tests stay together, because they share what they trained.
FAST := -n auto --dist loadfile -m "not slow"

.PHONY: help setup slow-tools web-tools demo test check check-fast check-optimised release test-slow test-web lint tidy docs \
	web web-build wheels wheels-cross interop versions bench bench-peers bench-corpus durations clean

help:
	@scripts/help.sh $(MAKEFILE_LIST)

$(READY): pyproject.toml requirements.txt scripts/setup.sh $(wildcard native/*/*)
	@scripts/setup.sh "$(VENV)" $(PYTHON)

$(SLOW_READY): $(READY) requirements-slow.txt
	@SLOW_TOOLS=1 scripts/setup.sh "$(VENV)" $(PYTHON)

$(WEB_READY): $(READY) requirements-slow.txt web/package-lock.json
	@WEB_TOOLS=1 scripts/setup.sh "$(VENV)" $(PYTHON)

##@ Use

demo: $(READY) ## real code to a sealed, verified, running model in $(OUT)
	$(BIN)/s7 make recipes/s7/demo-1m.yaml --out $(OUT)

setup: $(READY) ## the private environment in .venv, and what is in C++

##@ Check

test: $(WEB_READY) ## the tests
	$(BIN)/python -m pytest $(FAST)

check: lint test check-optimised release ## what CI runs

# Lint, types, house rules, and the tests of the rooms that differ from the last commit on the main branch.
check-fast: lint ## in about a minute: lint, types, house rules, tests of changed rooms
	$(BIN)/python scripts/changed_tests.py | xargs $(BIN)/python -m pytest $(FAST) tests/test_house.py

release: $(READY) ## everything that the models of models/ need to ship, as a table
	for file in models/sevenfold_models/*.s7l; do $(BIN)/s7 release --check "$$file" || exit $$?; done

# `python -O` removes asserts from the package. pytest rewrites those of the tests, so they stay; its warning
# that it might not is why -W. As a variable, because the processes of the tests get no flags. What -O
# can change is the code that reads input, so the rooms that read run again; the others do not.
check-optimised: $(READY) ## the tests of the rooms that read input, under python -O
	PYTHONOPTIMIZE=1 $(BIN)/python -m pytest -W ignore::pytest.PytestConfigWarning $(FAST) \
		tests/artifact tests/attacks tests/core tests/recipe tests/engine tests/tokenizer tests/cli tests/signing

lint: $(READY) ## ruff, mypy, import contracts, documentation, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --exclude "*.md" .
	$(BIN)/mypy
	$(BIN)/mypy --config-file benchmarks/mypy.ini
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files '*.cpp' '*.cu' '*.h' '*.c')

test-slow: $(SLOW_READY) interop tidy ## the suites that take minutes
	$(BIN)/python -m pytest -m slow

# It downloads PyTorch twice, with CUDA's libraries: 6 GB at a time in build/versions.
versions: $(READY) ## the golden runs and a small model with other versions of PyTorch and the rest
	$(BIN)/python scripts/versions.py

test-web: $(WEB_READY) ## all tests of web/, with a browser where there is one
	$(BIN)/python -m pytest -n 0 tests/web

tidy: $(SLOW_READY) ## clang-tidy over native/ (three minutes)
	scripts/tidy.sh $(BIN)/clang-tidy

durations: $(READY) ## the slowest hundred tests, and the minutes of each folder
	$(BIN)/python -m pytest $(FAST) --durations 100 --junitxml build/durations.xml
	$(BIN)/python scripts/minutes.py build/durations.xml

##@ Build

docs: $(READY) ## the documentation site in build/site, and the manual page build/man/s7.1
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	mkdir -p build/man
	$(BIN)/python -m sevenfold.cli.manual > build/man/s7.1

web-build: $(WEB_READY) ## the npm package `sevenfold` in web/dist, and its page in build/web/site
	scripts/web.sh $(BIN)/python

# Any file host will do: there is no code on the server.
web: web-build ## the page, built and served on http://127.0.0.1:8707/
	$(BIN)/python -m http.server 8707 --bind 127.0.0.1 --directory build/web/site

wheels: $(READY) ## the wheel of this machine in build/wheels
	$(BIN)/python -m pip --disable-pip-version-check -q wheel --no-deps --no-build-isolation -w build/wheels .

wheels-cross: $(SLOW_READY) ## wheels for Linux, macOS and Windows, built by zig, in build/wheels
	scripts/wheels.sh $(BIN)/python build/wheels

web-tools: $(WEB_READY) ## Node.js, esbuild, TypeScript, zig and Chromium, which build and test web/

slow-tools: $(SLOW_READY) ## zig, qemu-user, Node.js, CMake, a GPU in software, a fuzzer

interop: $(INTEROP)/.ready ## llama.cpp and our Go program, which prove exports
$(INTEROP)/.ready: interop/requirements.txt scripts/interop.sh $(wildcard interop/go/*) $(READY)
	@scripts/interop.sh "$(INTEROP)" $(BIN)/python

cuda: $(READY) ## training kernels for GPUs, and what nvcc made of them
	@scripts/cuda.sh "$$(pwd)/$(BIN)/python" src/sevenfold/model/_native

clean: ## remove the environment and caches (not $(OUT))
	rm -rf $(VENV) $(INTEROP) build src/sevenfold/*/_native src/sevenfold/agent/memory/_native .mypy_cache .ruff_cache .import_linter_cache .hypothesis

##@ Measure

# The peers live in an environment of their own. Building llama.cpp takes about ten minutes, once.
bench-peers: build/peers/.ready ## llama.cpp and CTranslate2, built for this machine
build/peers/.ready: benchmarks/peers.sh benchmarks/requirements-peers.txt benchmarks/llama_loop.cpp
	benchmarks/peers.sh build/peers $(PYTHON)
	touch $@

# A peer that could not be built is left out. Leave the machine alone meanwhile.
bench: $(READY) ## tokens/s beside the peers, the seal, the first token, memory
	$(BIN)/python benchmarks/engine.py --isa all --out benchmarks/results/engine
	$(BIN)/python benchmarks/engine_tables.py
	$(BIN)/python benchmarks/opening.py --out benchmarks/results/opening.json

# It takes about forty minutes on a free core, because datatrove is slow. Stopped, the same command goes on.
bench-corpus: $(READY) build/corpus-peers/.ready ## the corpus stage beside datatrove, 10 to 1,000 MB
	$(BIN)/python benchmarks/corpus.py --work build/corpus-bench
build/corpus-peers/.ready: benchmarks/requirements-corpus-peers.txt
	$(BIN)/python -m venv build/corpus-peers
	build/corpus-peers/bin/python -m pip --disable-pip-version-check -q install -r $<
	touch $@
