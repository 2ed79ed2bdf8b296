#!/bin/sh
# Make the environment of the runtimes that prove an export: interop.sh DIRECTORY PYTHON. Idempotent.
set -eu
home=${1:?usage: interop.sh DIRECTORY PYTHON}
python=${2:?usage: interop.sh DIRECTORY PYTHON}
here=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$home/bin/python" ] || "$python" -m venv "$home"
"$home/bin/python" -m pip --disable-pip-version-check -qq install -r "$here/interop/requirements.txt"
home=$(cd "$home" && pwd)
# No network, no other toolchain, no C: the program is the standard library and nothing else.
cd "$here/interop/go"
GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=mod CGO_ENABLED=0 "$home/bin/go" build -trimpath -o "$home/bin/s7go" .
touch "$home/.ready"
echo "interop: ready in $home" >&2
