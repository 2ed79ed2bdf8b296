#!/bin/sh
# Make the peers' environment: peers.sh DIRECTORY [PYTHON]. Builds llama.cpp once for each instruction set that this machine has
# (about ten minutes on two cores: its models once, its kernels each time), because its published wheels are built for AVX2 and
# would lose to us for that alone. Done already, a part is skipped.
set -eu
venv=${1:?usage: peers.sh DIRECTORY [PYTHON]}
LLAMA=0.3.36
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$venv/bin/python" ] || "${2:-python3}" -m venv "$venv"
venv=$(cd "$venv" && pwd)
pip="$venv/bin/python -m pip --disable-pip-version-check -q"
$pip install -r "$here/requirements-peers.txt"
source="$venv/llama_cpp_python-$LLAMA/vendor/llama.cpp"
if [ ! -d "$source" ]; then
    $pip download --no-deps --no-binary llama-cpp-python -d "$venv/sdist" "llama-cpp-python==$LLAMA"
    tar -xzf "$venv/sdist/llama_cpp_python-$LLAMA.tar.gz" -C "$venv"
fi
options="-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DLLAMA_BUILD_COMMON=OFF
    -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF"
# build ISA MACHINE OPTIONS..: the kernels for an instruction set, and the loop with all of llama.cpp inside. Its options for wider
# ones stay off; MACHINE is what the compiler of the other files may use.
build() {
    isa=$1
    shift
    [ ! -f "$venv/libllama_loop-$isa.so" ] || return 0
    "$venv/bin/cmake" -S "$source" -B "$venv/llama" $options "$@" >/dev/null
    "$venv/bin/cmake" --build "$venv/llama" --target llama -j "$(nproc)" >/dev/null
    ${CXX:-g++} -std=c++17 -O2 -shared -fPIC -fopenmp -DLLAMA_VERSION="\"$LLAMA\"" -I "$source/include" -I "$source/ggml/include" \
        "$here/llama_loop.cpp" -o "$venv/unfinished.so" \
        -Wl,--start-group $(find "$venv/llama" -name '*.a') -Wl,--end-group -pthread -ldl
    mv "$venv/unfinished.so" "$venv/libllama_loop-$isa.so"
}
flags=" $(sed -n 's/^flags[^:]*://p;T;q' /proc/cpuinfo) "
has() { case $flags in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
if has avx2; then
    narrow="-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_BMI2=ON -DGGML_FMA=ON -DGGML_F16C=ON"
    build avx2 $narrow -DGGML_AVX_VNNI=OFF
    ! has avx_vnni || build avxvnni $narrow -DGGML_AVX_VNNI=ON
    ! has avx512_vnni || build avx512 -DGGML_NATIVE=ON -DGGML_AVX_VNNI=OFF
else
    build native -DGGML_NATIVE=ON
fi
