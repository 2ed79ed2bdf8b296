#!/bin/sh
# Make the private environment: setup.sh VENV [PYTHON]. With SLOW_TOOLS=1 also what `make test-slow` takes, with WEB_TOOLS=1 what
# builds and tests the package in web/.
# Idempotent; every step that is done already is skipped.
# PyTorch is installed first and by exact version, so that no resolver can replace it by another build.
set -eu
venv=${1:?usage: setup.sh VENV [PYTHON]}

say() { echo "setup: $*" >&2; }

debian_install() {
    command -v apt-get >/dev/null 2>&1 || { say "$* is needed; install it and run again"; exit 1; }
    if [ "$(id -u)" = 0 ]; then as_root=""; else as_root="sudo"; fi
    say "installing $* with apt-get"
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@"
}

# A name on the path may be a shim without an interpreter behind it, so each candidate is asked, not looked up.
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
find_python() {
    for candidate in ${1:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then echo "$candidate"; return; fi
    done
}
python=$(find_python "${2:-}")
if [ -z "$python" ] && [ -z "${2:-}" ]; then
    debian_install python3 python3-venv
    python=$(find_python)
fi
[ -n "$python" ] || { say "Python 3.11 or newer is needed, ${2:-python3} is not; give one with 'make PYTHON=...'"; exit 1; }
# Debian splits ensurepip off; without it a virtual environment has no pip.
"$python" -c 'import ensurepip, venv' 2>/dev/null || debian_install python3-venv "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"

if [ ! -x "$venv/bin/python" ]; then
    say "creating $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
pip="$venv/bin/python -m pip --disable-pip-version-check -qq"
torch=$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.txt)
if ! "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(('torch==' + m.version('torch').split('+')[0]) != '$torch')" 2>/dev/null; then
    say "installing $torch"
    $pip install "$torch"
fi
say "installing the pinned packages"
$pip install -r requirements.txt
$pip install --no-deps --no-build-isolation -e .
# The native engine. Without a compiler, and without a way to get one, everything runs on the reference (`s7 backends` says so).
cxx=${CXX:-g++}
has() { for tool in "$@"; do command -v "$tool" >/dev/null 2>&1 || return 1; done; }
has "${cxx%% *}" || (debian_install g++) || true
if has "${cxx%% *}"; then
    say "building what is in C++"
    # native FOLDER ROOM WITHOUT: build native/FOLDER for a room of the package; what is said where that fails.
    native() {
        CXX=$cxx "native/$1/build.sh" "src/sevenfold/$2/_native" || {
            [ -z "${CI:-}" ] || exit 1
            say "native/$1 could not be built: $3"
        }
    }
    native engine engine "the native engine is left out, the reference runs"
    native train model "its kernels are left out, training uses PyTorch's and no law"
    native tokens tokenizer "the encoder is left out, text is encoded by the tokenizers library"
    native corpus corpus "the corpus stage is left to Python and takes longer"
    native memory agent/memory "the scan of a memory is left to NumPy and takes longer"
    native embed artifact "there is no libsevenfold for programs in other languages"
else
    say "no C++ compiler: the native engine is left out, the reference runs"
fi
# What executes programs that nobody vouches for; without it `s7 eval` grades no program, and says so.
[ "$(uname -s)" != Linux ] || has bwrap || (debian_install bubblewrap libseccomp2) || say "no bubblewrap: programs of samples are not executed"
# What the slow tests take to build for other processors, and to run there; a test whose tool is missing is skipped, and says so.
if [ -n "${SLOW_TOOLS:-}" ]; then
    say "installing the tools of the slow tests"
    $pip install -r requirements-slow.txt
    # The fuzzer is 35 MB and has no wheel for every Python.
    $pip install --no-deps --only-binary :all: atheris==3.0.0 || say "no atheris for this Python: the fuzz tests are skipped"
    has qemu-aarch64-static aarch64-linux-gnu-objdump || (debian_install qemu-user-static binutils-aarch64-linux-gnu) || [ -z "${CI:-}" ]
    has shellcheck || (debian_install shellcheck) || [ -z "${CI:-}" ]
    # libFuzzer, and a Go that builds the example with cgo.
    has clang++ || has clang++-14 || (debian_install clang libclang-rt-dev) || [ -z "${CI:-}" ]
    has go || (debian_install golang-go) || [ -z "${CI:-}" ]
    has node || (debian_install nodejs) || [ -z "${CI:-}" ]
    # The page of the server is looked at in a browser.
    has chromium || (debian_install chromium) || [ -z "${CI:-}" ]
    # A GPU in software, for the shaders.
    [ -n "$(find /usr/share/vulkan/icd.d -name 'lvp*' 2>/dev/null)" ] || (debian_install mesa-vulkan-drivers) || [ -z "${CI:-}" ]
    touch "$venv/.slow-ready"
fi
# What builds web/: a compiler for WebAssembly, Node.js, and the packages that web/package-lock.json pins.
if [ -n "${WEB_TOOLS:-}" ]; then
    say "installing the tools of web/"
    $pip install "$(grep '^ziglang==' requirements-slow.txt)" "$(grep '^deno==' requirements-slow.txt)"
    has node || (debian_install nodejs) || [ -z "${CI:-}" ]
    has npm || (debian_install npm) || [ -z "${CI:-}" ]
    # The page is looked at in a browser, on its GPU in software; Deno has Mesa's.
    has chromium || (debian_install chromium) || [ -z "${CI:-}" ]
    [ -n "$(find /usr/share/vulkan/icd.d -name 'lvp*' 2>/dev/null)" ] || (debian_install mesa-vulkan-drivers) || [ -z "${CI:-}" ]
    if has node npm; then
        # No script of a package runs.
        npm ci --prefix web --ignore-scripts --no-audit --no-fund --loglevel error || [ -z "${CI:-}" ]
    else
        say "no Node.js: the package in web/ is not built, and its tests are skipped"
    fi
    touch "$venv/.web-ready"
fi
touch "$venv/.ready"
say "ready"
