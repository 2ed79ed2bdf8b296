#!/bin/sh
# Build the package for pages and Node.js: web.sh PYTHON. Makes build/web/wasm (the engine's modules), build/web/tests
# (tests and their tools), build/web/site (the page, for any file host) and web/dist (the package). What is newer
# than its sources stays. PYTHON has ziglang.
set -eu
python=${1:?usage: web.sh PYTHON}
cd "$(dirname "$0")/.."
say() { echo "web: $*" >&2; }
out=build/web
mkdir -p "$out"

# fresh STAMP SOURCES: the stamp is there, and none of the sources is newer.
fresh() {
    stamp=$1
    shift
    [ -f "$stamp" ] && [ -z "$(find "$@" -newer "$stamp" -type f | head -1)" ]
}

[ -x web/node_modules/.bin/tsc ] || { say "the packages of web/package.json are missing: make web-tools"; exit 1; }
if ! fresh "$out/.wasm" native/engine native/web native/embed/sha256.h native/embed/sha256.cpp native/embed/common.h; then
    say "compiling the engine to WebAssembly"
    ZIG_GLOBAL_CACHE_DIR=$PWD/.zig-cache ZIG_LOCAL_CACHE_DIR=$PWD/.zig-cache \
        CXX="$python -m ziglang c++ -target wasm32-wasi -Wno-deprecated" native/web/build.sh "$out/wasm"
    touch "$out/.wasm"
fi
if ! fresh "$out/.js" web/src web/test web/page models/sevenfold_models web/build.mjs web/package.json "$out/.wasm"; then
    say "bundling"
    WASM_DIR=$out/wasm node web/build.mjs
    WASM_DIR=$out/wasm node web/build.mjs --tests "$out/tests"
    WASM_DIR=$out/wasm node web/build.mjs --site "$out/site" models/sevenfold_models
    touch "$out/.js"
fi
