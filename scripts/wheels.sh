#!/bin/sh
# Wheels for other processors and systems: wheels.sh PYTHON OUT [TAG...], all tags without one. `zig` (PyPI) is the compiler, with the C
# libraries of every target inside; native/build.sh of each folder is still the one that says how its library is compiled, and every
# instruction set of the processor is in it. What can be run here is tested by tests/test_wheels_cross_slow.py; macOS cannot.
set -eu
python=${1:?usage: wheels.sh PYTHON OUT [TAG...]}
out=${2:?usage: wheels.sh PYTHON OUT [TAG...]}
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
# The tag of the wheel, and what zig calls the target.
table="manylinux_2_17_x86_64=x86_64-linux-gnu.2.17 manylinux_2_17_aarch64=aarch64-linux-gnu.2.17
    musllinux_1_2_x86_64=x86_64-linux-musl musllinux_1_2_aarch64=aarch64-linux-musl
    macosx_11_0_arm64=aarch64-macos.11.0 macosx_10_13_x86_64=x86_64-macos.10.13 win_amd64=x86_64-windows-gnu"
export ZIG_GLOBAL_CACHE_DIR="$root/.zig-cache" ZIG_LOCAL_CACHE_DIR="$root/.zig-cache"
[ $# -gt 0 ] || set -- $(for row in $table; do echo "${row%%=*}"; done)
for tag in "$@"; do
    triple=""
    for row in $table; do [ "${row%%=*}" != "$tag" ] || triple=${row#*=}; done
    [ -n "$triple" ] || { echo "wheels: no target has the tag $tag" >&2; exit 2; }
    CXX="$python -m ziglang c++ -target $triple" AR="$python -m ziglang ar" _PYTHON_HOST_PLATFORM=$tag \
        "$python" -m pip --disable-pip-version-check -q wheel --no-deps --no-build-isolation -w "$out" "$root"
    echo "wheels: $tag"
done
