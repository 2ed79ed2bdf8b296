#!/bin/sh
# Build the native engine: build.sh DIRECTORY [more compiler flags].
#
# It writes DIRECTORY/libs7.so under a temporary name and renames it. With S7_OBJECTS=1 it writes the objects
# instead, for a target without shared libraries or a program that is linked statically. CXX is the compiler
# with its arguments ("zig c++ -target aarch64-linux-musl"). Each instruction set is one file with its own
# flags. Everything else is compiled for any machine of the target.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
cxx=${CXX:-g++}
here=$(cd "$(dirname "$0")" && pwd)
avx2="" avxvnni="" avx512="" wasm=""
case $($cxx -dumpmachine) in
x86_64*)
    avx2="-mavx2"
    avxvnni="-mavx2 -mavxvnni"
    # GCC 12 warns about deliberately undefined vectors in its own headers.
    avx512="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512
        -Wno-unknown-warning-option -Wno-maybe-uninitialized -Wno-uninitialized"
    ;;
wasm32*) wasm="-msimd128" ;;
esac
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
pids=""
compile() {
    name=$1
    shift
    $cxx -std=c++20 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-asynchronous-unwind-tables -Wall -Wextra -Werror \
        -I "$here" "$@" -c "$here/$name.cpp" -o "$work/$name.o"
}
# s7.h makes its own functions visible; nothing else leaves the library.
for name in neon model dispatch pages cache state team forward hybrid api freestanding; do
    compile "$name" "$@" & pids="$pids $!"
done
# The scalar path is the oracle, so its speed does not matter.
compile scalar -O2 "$@" & pids="$pids $!"
compile avx2 $avx2 "$@" & pids="$pids $!"
compile avxvnni $avxvnni "$@" & pids="$pids $!"
compile avx512 $avx512 "$@" & pids="$pids $!"
compile wasm $wasm "$@" & pids="$pids $!"
for pid in $pids; do wait "$pid"; done
if [ -n "${S7_OBJECTS:-}" ]; then
    mv "$work"/*.o "$out"
else
    $cxx -shared -pthread "$@" "$work"/*.o -o "$work/libs7.so"
    mv "$work/libs7.so" "$out/libs7.so"
fi
