#!/bin/sh
# Build the native engine: build.sh DIRECTORY [more compiler flags]. Makes DIRECTORY/libs7.so, beside and then renamed.
# CXX names the compiler. Each instruction set is one file with its own flags; everything else is compiled for any machine.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
cxx=${CXX:-g++}
here=$(cd "$(dirname "$0")" && pwd)
avx2="" avx512=""
case $("$cxx" -dumpmachine) in
x86_64*)
    avx2="-mavx2"
    avx512="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512"
    ;;
esac
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
pids=""
compile() {
    name=$1
    shift
    "$cxx" -std=c++20 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -Wall -Wextra -Werror \
        -I "$here" "$@" -c "$here/$name.cpp" -o "$work/$name.o"
}
# s7.h makes its own functions visible; nothing else leaves the library.
for name in scalar neon wasm model dispatch cache team forward calls; do
    compile "$name" "$@" & pids="$pids $!"
done
compile avx2 $avx2 "$@" & pids="$pids $!"
# GCC 12 warns of its own headers' deliberately undefined vectors.
compile avx512 $avx512 -Wno-maybe-uninitialized -Wno-uninitialized "$@" & pids="$pids $!"
for pid in $pids; do wait "$pid"; done
"$cxx" -shared -pthread "$@" "$work"/*.o -o "$work/libs7.so"
mv "$work/libs7.so" "$out/libs7.so"
