#!/bin/sh
# Build what training takes beside PyTorch: build.sh DIRECTORY [more compiler flags]. Makes DIRECTORY/libs7train.so, beside and then
# renamed, on x86-64 and 64-bit ARM; elsewhere it makes nothing and training uses PyTorch alone. CXX is the compiler.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
cxx=${CXX:-g++}
here=$(cd "$(dirname "$0")" && pwd)
case $($cxx -dumpmachine) in
x86_64*) sets="scalar avx2 avx512" fused=-mfma ;;
aarch64*) sets="scalar neon" fused= ;;
*) exit 0 ;;
esac
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
compile() {
    $cxx -std=c++20 -O3 -fPIC -fvisibility=hidden -fno-math-errno -Wall -Wextra -Werror -Wno-psabi -Wno-unknown-warning-option "$@"
}
# The law of specs/training-arithmetic.md writes its fused multiply-adds out: the compiler makes none of its own.
law() { compile -ffp-contract=off "$@"; }
width() {
    case $1 in scalar) echo 1 ;; neon) echo 4 ;; avx2) echo 8 ;; avx512) echo 16 ;; esac
}
flags() {
    case $1 in
    scalar) echo "$fused" ;;
    avx2) echo "-mavx2 -mfma" ;;
    avx512) echo "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512" ;;
    esac
}
for name in product rows attention_head hybrid_head; do
    jobs=
    for set in $sets; do
        # GCC 12 takes its own undefined registers for a mistake (bug 105593).
        law -Wno-maybe-uninitialized "$@" $(flags "$set") -DS7_SET="$set" -DS7_WIDTH="$(width "$set")" -c "$here/$name.cpp" \
            -o "$work/$set-$name.o" &
        jobs="$jobs $!"
    done
    for job in $jobs; do wait "$job"; done
done
law "$@" $fused -c "$here/draws.cpp" -o "$work/draws.o"
for name in arithmetic attention hybrid threads; do law "$@" -c "$here/$name.cpp" -o "$work/$name.o"; done
case $sets in
*avx512*)
    # Here products and sums are contracted: the BF16 path keeps the narrower promise of one kind of processor.
    compile -ffp-contract=fast "$@" -c "$here/bf16.cpp" -o "$work/bf16.o"
    for name in bf16_attention bf16_rows; do
        compile -ffp-contract=fast -Wno-maybe-uninitialized "$@" -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx512bf16 -mfma \
            -mprefer-vector-width=512 -c "$here/$name.cpp" -o "$work/$name.o"
    done
    ;;
esac
# With S7_OBJECTS set the object files are the result: for a target whose programs are linked whole.
if [ -n "${S7_OBJECTS:-}" ]; then
    mv "$work"/*.o "$out"
    exit 0
fi
$cxx -shared -pthread "$@" "$work"/*.o -o "$work/libs7train.so"
mv "$work/libs7train.so" "$out/libs7train.so"
