#!/bin/sh
# Build the engine as WebAssembly: build.sh DIRECTORY. Makes DIRECTORY/s7.wasm, for one thread, and DIRECTORY/s7-threads.wasm,
# whose memory the host shares with its workers. CXX is a clang for wasm32 with its arguments: "zig c++ -target wasm32-wasi".
# The headers of that target are used, and nothing of its libraries.
set -eu
out=${1:?usage: build.sh DIRECTORY}
cxx=${CXX:-zig c++ -target wasm32-wasi}
here=$(cd "$(dirname "$0")" && pwd)
native=$(dirname "$here")
mkdir -p "$out"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
exports="s7_abi s7_status_text s7_model_create s7_model_free s7_model_bytes s7_team_create s7_team_free s7_session_create
    s7_session_free s7_session_fork s7_session_truncate s7_session_length s7_session_bytes s7_forward s7_greedy s7_generate
    s7_session_kv s7_isa_widest s7_take s7_give s7w_sha256_bytes s7w_sha256_begin s7w_sha256_add s7w_sha256_end"

# make NAME FLAGS LINKER-FLAGS EXPORTS
make() {
    common="-mbulk-memory -msimd128 -DS7_FREESTANDING_CORE -DS7_LENT_CODES -ffreestanding -fno-stack-protector $2"
    mkdir -p "$work/$1"
    CXX=$cxx S7_OBJECTS=1 "$native/engine/build.sh" "$work/$1" $common
    for source in "$here/web.cpp" "$native/embed/sha256.cpp"; do
        $cxx -std=c++20 -O3 -fvisibility=hidden -fno-exceptions -fno-rtti -fno-asynchronous-unwind-tables -Wall -Wextra \
            -Werror -I "$native/engine" -I "$native/embed" $common -c "$source" -o "$work/$1/web-$(basename "$source" .cpp).o"
    done
    link="-nostdlib -Wl,--no-entry -Wl,--gc-sections -Wl,--strip-all -Wl,-z,stack-size=262144 -mbulk-memory $2 $3"
    for name in $4; do link="$link -Wl,--export=$name"; done
    $cxx $link "$work/$1"/*.o -o "$work/$1.wasm"
    mv "$work/$1.wasm" "$out/$1.wasm"
}

make s7 "" "" "$exports"
# A gibibyte of addresses is reserved by no engine that has not written there.
make s7-threads "-matomics" "-Wl,--shared-memory -Wl,--import-memory -Wl,--max-memory=1073741824" \
    "$exports s7w_wait_for_work s7w_n_waiting s7w_send_away __stack_pointer"
