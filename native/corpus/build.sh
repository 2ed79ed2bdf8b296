#!/bin/sh
# Build what the corpus stage has in C++: build.sh DIRECTORY [more compiler flags]. Makes DIRECTORY/libs7corpus.so, beside and then
# renamed. Integers only, for any machine; without it the stage does the same in Python. CXX is the compiler.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
cxx=${CXX:-g++}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
pids=""
for source in "$here"/*.cpp; do
    name=$(basename "$source" .cpp)
    $cxx -std=c++20 -O3 -fPIC -fvisibility=hidden -Wall -Wextra -Werror "$@" -c "$source" -o "$work/$name.o" & pids="$pids $!"
done
for pid in $pids; do wait "$pid"; done
$cxx -shared "$@" "$work"/*.o -o "$work/libs7corpus.so"
mv "$work/libs7corpus.so" "$out/libs7corpus.so"
