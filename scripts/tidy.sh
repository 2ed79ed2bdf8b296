#!/bin/sh
# Run clang-tidy on native/: tidy.sh CLANG_TIDY. Each file gets the flags of its instruction set, and
# the files of native/train that are compiled once per set get each set in turn.
set -eu
tidy=${1:?usage: tidy.sh CLANG_TIDY}
cd "$(dirname "$0")/.."
avx2="-mavx2 -mfma"
avx512="$avx2 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16"
status=0
check() {
    source=$1
    shift
    # The count of warnings that were suppressed is no finding.
    "$tidy" --quiet "$source" -- -std=c++20 -I "$(dirname "$source")" "$@" 2>/dev/null || status=1
}
for source in native/*/*.cpp; do
    case $source in
    *avx2.cpp) check "$source" $avx2 ;;
    *avx512.cpp | *bf16*.cpp) check "$source" $avx512 ;;
    *train/*)
        check "$source" -DS7_SET=scalar -DS7_WIDTH=1 -mfma
        check "$source" -DS7_SET=avx2 -DS7_WIDTH=8 $avx2
        check "$source" -DS7_SET=avx512 -DS7_WIDTH=16 $avx512
        ;;
    *) check "$source" ;;
    esac
done
exit $status
