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
find cpp/fuzz -name 'fuzz_*' -type f -perm -u+x | sort |
    xargs -P "${JOBS:-2}" -I TARGET sh -c '"$0" "$@" || exit 1' \
        TARGET -runs="$runs" -seed="${SEED:-1}" -max_len=4096 ${CORPUS:+"$CORPUS"}
