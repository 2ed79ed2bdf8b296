#!/bin/sh
# Build libsevenfold: build.sh DIRECTORY [more compiler flags]. Makes a tree that can be moved anywhere: include/sevenfold.h,
# lib/libsevenfold.so and .a, a pkg-config file, and a CMake package. With S7_STATIC=1 the static library alone, for a target
# without shared ones. CXX is the compiler and its arguments, AR the archiver. The engine is compiled as its own build.sh says.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
cxx=${CXX:-g++}
ar=${AR:-ar}
here=$(cd "$(dirname "$0")" && pwd)
native=$(dirname "$here")
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$native/../pyproject.toml" | head -1)
abi=$(sed -n 's/^#define S7F_ABI \([0-9]*\).*/\1/p' "$here/sevenfold.h")
# Outside of Linux, where exports are named in other ways, the static library alone.
case $($cxx -dumpmachine) in *linux*) ;; *) S7_STATIC=1 ;; esac
mkdir -p "$out/include" "$out/lib/pkgconfig" "$out/lib/cmake/sevenfold"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
# Nothing is thrown in the engine, so nothing unwinds it. Files of version 2 are refused, so it has no hybrid attention.
S7_OBJECTS=1 "$native/engine/build.sh" "$work" -DS7_CAUSAL_ONLY -fno-asynchronous-unwind-tables -ffunction-sections "$@" & engine=$!
pids=""
compile() {
    source=$1
    shift
    $cxx -std=c++20 -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -ffp-contract=off -ffunction-sections -fdata-sections \
        -Wall -Wextra -Werror -DS7F_LIBRARY_VERSION="\"$version\"" -I "$here" -I "$native/engine" -I "$native/tokens" \
        "$@" -c "$source" -o "$work/$(basename "$(dirname "$source")")-$(basename "$source" .cpp).o"
}
# What is run once for each file is made small; hashing and the engine are made fast.
for source in "$here"/*.cpp; do
    case $source in */sha256.cpp) level=-O2 ;; *) level=-Os ;; esac
    compile "$source" $level -fno-exceptions -fno-rtti -fno-asynchronous-unwind-tables "$@" & pids="$pids $!"
done
# The encoder uses the containers of the C++ library; it catches what they throw.
for source in "$native"/tokens/*.cpp; do
    compile "$source" -O2 "$@" & pids="$pids $!"
done
for pid in $engine $pids; do wait "$pid"; done
$ar rcs "$work/libsevenfold.a" "$work"/*.o
mv "$work/libsevenfold.a" "$out/lib/libsevenfold.a"
if [ -z "${S7_STATIC:-}" ]; then
    # One page less for the loader; zig's linker does not know it.
    case $cxx in *zig*) layout="" ;; *) layout=-Wl,-z,noseparate-code ;; esac
    # Nothing but the interface leaves the library.
    printf '{ global: s7f_*; local: *; };\n' >"$work/exports"
    $cxx -shared -pthread "$@" "$work"/*.o -Wl,--gc-sections $layout -Wl,--version-script="$work/exports" \
        -Wl,-soname,"libsevenfold.so.$abi" -o "$work/libsevenfold.so"
    mv "$work/libsevenfold.so" "$out/lib/libsevenfold.so.$abi"
    ln -sf "libsevenfold.so.$abi" "$out/lib/libsevenfold.so"
fi
cp "$here/sevenfold.h" "$out/include/"
for name in pkgconfig/sevenfold.pc cmake/sevenfold/sevenfold-config.cmake cmake/sevenfold/sevenfold-config-version.cmake; do
    sed "s/@VERSION@/$version/g; s/@ABI@/$abi/g" "$here/package/$(basename "$name").in" >"$out/lib/$name"
done
