#!/bin/sh
# Build the kernels of training: build.sh DIRECTORY [more compiler flags].
#
# On x86-64 and 64-bit ARM it writes DIRECTORY/libs7train.so under a temporary name and renames it. Elsewhere
# it writes nothing, and training uses only PyTorch. CXX is the compiler.
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
# specs/training-arithmetic.md defines every fused multiply-add, so the compiler must not add others.
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
        # GCC 12 warns about undefined registers in its own headers (bug 105593).
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
    # The BF16 path promises equal bits only on one kind of processor, so contraction is allowed here.
    compile -ffp-contract=fast "$@" -c "$here/bf16.cpp" -o "$work/bf16.o"
    for name in bf16_attention bf16_rows; do
        compile -ffp-contract=fast -Wno-maybe-uninitialized "$@" -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx512bf16 -mfma \
            -mprefer-vector-width=512 -c "$here/$name.cpp" -o "$work/$name.o"
    done
    ;;
esac
# With S7_OBJECTS set, the result is the object files, for a target with static linking.
if [ -n "${S7_OBJECTS:-}" ]; then
    mv "$work"/*.o "$out"
    exit 0
fi
$cxx -shared -pthread "$@" "$work"/*.o -o "$work/libs7train.so"
mv "$work/libs7train.so" "$out/libs7train.so"
