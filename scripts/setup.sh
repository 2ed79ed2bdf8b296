#!/bin/sh
# Make the private environment: setup.sh PYTHON VENV. Idempotent; every step that is done already is skipped.
# PyTorch is installed first and by exact version, so that no resolver can replace it by another build.
set -eu
python=${1:?usage: setup.sh PYTHON VENV}
venv=${2:?usage: setup.sh PYTHON VENV}

say() { echo "setup: $*" >&2; }

debian_install() {
    command -v apt-get >/dev/null 2>&1 || { say "$* is needed; install it and run again"; exit 1; }
    if [ "$(id -u)" = 0 ]; then as_root=""; else as_root="sudo"; fi
    say "installing $* with apt-get"
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@"
}

command -v "$python" >/dev/null 2>&1 || { debian_install python3 python3-venv; python=python3; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "Python 3.11 or newer is needed, $("$python" --version) was found; give one with 'make PYTHON=python3.12'"
    exit 1
}
# Debian splits ensurepip off; without it a virtual environment has no pip.
"$python" -c 'import ensurepip, venv' 2>/dev/null || debian_install python3-venv "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"

if [ ! -x "$venv/bin/python" ]; then
    say "creating $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
pip="$venv/bin/python -m pip --disable-pip-version-check -q"
torch=$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.txt)
if ! "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(('torch==' + m.version('torch').split('+')[0]) != '$torch')" 2>/dev/null; then
    say "installing $torch"
    $pip install "$torch"
fi
say "installing the pinned packages"
$pip install -r requirements.txt
$pip install --no-deps --no-build-isolation -e .
touch "$venv/.ready"
say "ready"
