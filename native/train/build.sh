#!/bin/sh
# Build what training takes beside PyTorch: build.sh DIRECTORY [more compiler flags]. Makes DIRECTORY/libs7train.so, beside and then
# renamed. x86-64 only; elsewhere it makes nothing and training uses PyTorch's own attention. CXX is the compiler.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
cxx=${CXX:-g++}
here=$(cd "$(dirname "$0")" && pwd)
case $($cxx -dumpmachine) in
x86_64*) ;;
*) exit 0 ;;
esac
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
# Products and sums are contracted to fused multiply-adds: kernels.cpp counts on it in every instruction set.
compile() {
    $cxx -std=c++20 -O3 -fPIC -fvisibility=hidden -ffp-contract=fast -fno-math-errno -Wall -Wextra -Werror -Wno-psabi "$@"
}
compile "$@" -mavx2 -mfma -DS7_SET=avx2 -DS7_WIDTH=8 -c "$here/kernels.cpp" -o "$work/avx2.o" &
compile "$@" -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512 -DS7_SET=avx512 -DS7_WIDTH=16 \
    -c "$here/kernels.cpp" -o "$work/avx512.o"
wait $!
for name in attention bf16 threads; do compile "$@" -c "$here/$name.cpp" -o "$work/$name.o"; done
# GCC 12 takes its own undefined registers for a mistake (bug 105593).
for name in bf16_attention bf16_rows; do
    compile -Wno-maybe-uninitialized "$@" -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx512bf16 -mfma -mprefer-vector-width=512 \
        -c "$here/$name.cpp" -o "$work/$name.o"
done
$cxx -shared -pthread "$@" "$work"/*.o -o "$work/libs7train.so"
mv "$work/libs7train.so" "$out/libs7train.so"
