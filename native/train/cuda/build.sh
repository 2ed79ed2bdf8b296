#!/bin/sh
# Build the training kernels for GPUs: build.sh DIRECTORY [more flags]. Makes DIRECTORY/libs7train_cuda.so, beside and then renamed.
# NVCC is the compiler, S7_CUDA_ARCH the architectures. With S7_EMULATED=1, $CXX builds the same text for the processor, for tests.
set -eu
out=${1:?usage: build.sh DIRECTORY [flags]}
shift
here=$(cd "$(dirname "$0")" && pwd)
files="library.cu product.cu rows.cu losses.cu attention.cu"
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
# The law writes its fused multiply-adds out: the compilers make none of their own, and subnormals, divisions and roots are IEEE 754's.
if [ -n "${S7_EMULATED:-}" ]; then
    case $(${CXX:-g++} -dumpmachine) in x86_64*) fused=-mfma ;; *) fused= ;; esac
    compile() {
        ${CXX:-g++} -x c++ -std=c++20 -O2 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Werror -Wno-unknown-pragmas \
            $fused "$@"
    }
    link="${CXX:-g++} -shared"
else
    nvcc=${NVCC:-nvcc}
    architectures=
    for number in ${S7_CUDA_ARCH:-80 90}; do architectures="$architectures -gencode arch=compute_$number,code=sm_$number"; done
    compile() {
        $nvcc -x cu -std=c++20 -O3 $architectures --fmad=false --ftz=false --prec-div=true --prec-sqrt=true \
            -Xcompiler -fPIC,-fvisibility=hidden,-ffp-contract=off "$@"
    }
    link="$nvcc -shared $architectures -cudart static"
fi
for name in $files; do compile "$@" -c "$here/$name" -o "$work/${name%.cu}.o"; done
$link "$work"/*.o -o "$work/libs7train_cuda.so"
mv "$work/libs7train_cuda.so" "$out/libs7train_cuda.so"
