#!/bin/sh
# Builds and runs every fuzz target:  cpp/fuzz/run.sh [--libfuzzer] [runs]
# Default: the system's compiler, the built-in driver, 2000 runs each. --libfuzzer: clang and libFuzzer.
# NNCODEC_FORCE_ISA chooses the kernels, CORPUS names a folder of seeds. Failing inputs are left in the build folder.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$root/build/fuzz
set -- "$@" ""
if [ "$1" = --libfuzzer ]; then
    shift
    build=$root/build/libfuzzer
    options="-DNNCODEC_LIBFUZZER=ON -DCMAKE_CXX_COMPILER=${CXX:-clang++}"
fi
runs=${1:-2000}
# shellcheck disable=SC2086
cmake -S "$root" -B "$build" -DNNCODEC_FUZZ=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo ${options:-} >/dev/null
cmake --build "$build" --parallel "${JOBS:-2}" >/dev/null
cd "$build"
failed=0
for target in cpp/fuzz/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    "$target" -runs="$runs" -seed="${SEED:-1}" -max_len=4096 ${CORPUS:+"$CORPUS"} || failed=1
done
exit $failed
