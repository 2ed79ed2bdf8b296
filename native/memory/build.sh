#!/bin/sh
# Build the scan of the memory: build.sh DIRECTORY [more compiler flags].
#
# It writes DIRECTORY/libs7memory.so under a temporary name and renames it. The library runs on any machine of
# the target. Without it, NumPy computes the same numbers. CXX is the compiler.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
${CXX:-g++} -std=c++20 -O3 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Werror -shared "$@" \
    "$here"/*.cpp -o "$work/libs7memory.so"
mv "$work/libs7memory.so" "$out/libs7memory.so"
