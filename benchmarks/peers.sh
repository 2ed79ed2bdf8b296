#!/bin/sh
# Make the peers' environment: peers.sh DIRECTORY [PYTHON]. Builds llama.cpp for this machine (about ten minutes on two cores),
# because its published wheels are built for AVX2 and would lose to us for that alone.
set -eu
venv=${1:?usage: peers.sh DIRECTORY [PYTHON]}
here=$(dirname "$0")
[ -x "$venv/bin/python" ] || "${2:-python3}" -m venv "$venv"
pip="$venv/bin/python -m pip --disable-pip-version-check -q"
CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
CMAKE_ARGS="$CMAKE_ARGS -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF"
export CMAKE_ARGS
$pip install --no-binary llama-cpp-python -r "$here/requirements-peers.txt"
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
${CXX:-g++} -std=c++17 -O2 -shared -fPIC -I "$packages/include" "$here/llama_loop.cpp" -o "$venv/libllama_loop.so" \
    -L "$packages/llama_cpp/lib" -lllama -Wl,-rpath,"$packages/llama_cpp/lib"
