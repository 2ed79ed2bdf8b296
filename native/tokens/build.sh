#!/bin/sh
# Build the encoder of tokenizers: build.sh DIRECTORY [more compiler flags]. Makes DIRECTORY/libs7tokens.so, beside and then renamed.
# Any machine of the target; without the library, encoding goes through `tokenizers`, the same ids. CXX is the compiler.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
${CXX:-g++} -std=c++20 -O3 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Werror -shared -pthread "$@" \
    "$here"/*.cpp -o "$work/libs7tokens.so"
mv "$work/libs7tokens.so" "$out/libs7tokens.so"
