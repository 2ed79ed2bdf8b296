#!/bin/sh
# Build the training kernels for GPUs, and read what the compiler made of them: cuda.sh PYTHON DIRECTORY.
# nvcc and cuobjdump are those of the PATH; without them, NVIDIA's from PyPI in build/cuda (300 MB).
set -eu
python=${1:?usage: cuda.sh PYTHON DIRECTORY}
out=${2:?usage: cuda.sh PYTHON DIRECTORY}
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/build/cuda
find_tool() {
    command -v "$1" && return
    if [ ! -f "$tools/.ready" ]; then
        "$python" -m venv "$tools"
        "$tools/bin/python" -m pip install -q --no-deps -r "$root/scripts/cuda.requirements.txt" && touch "$tools/.ready"
    fi
    find "$tools/lib" -path "*/bin/$1"
}
NVCC=${NVCC:-$(find_tool nvcc)}
export NVCC
"$root/native/train/cuda/build.sh" "$out"
library=$out/libs7train_cuda.so
echo "cuda: $library, by $("$NVCC" --version | tail -n 1)"
cuobjdump=$(find_tool cuobjdump)
# A tensor core rounds in an order that no page defines; FTZ loses subnormals; an atomic sum has no order. (NVIDIA's division and
# square root, which round as IEEE 754 wants, hold FADD.FTZ and FMUL.FTZ on numbers that they have scaled.)
PATH=$(dirname "$cuobjdump"):$PATH "$cuobjdump" -sass "$library" | awk '
    /Function :/ { n_kernels++ }
    /[ \t]FFMA[ .]/ { n_fused++ }
    /FFMA[^;]*\.FTZ/ { print; n_bad++ }
    /[ \t]([HIBDQ]|HG|QG|IG|BG)MMA[ .]|[ \t](RED|ATOM|ATOMG|ATOMS)[ .]/ { print; n_bad++ }
    END {
        printf "cuda: %d kernels, %d fused multiply-adds, %d instructions that the law forbids\n", n_kernels, n_fused, n_bad
        exit !(n_kernels && n_fused && !n_bad)
    }'
