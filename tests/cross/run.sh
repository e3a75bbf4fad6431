#!/bin/sh
# Proves that aarch64 gives the bytes and floats of this machine, in an emulator:  tests/cross/run.sh [fuzz runs]
# Needs g++-aarch64-linux-gnu and qemu-user. Both builds print digests of what every codec makes of inputs given by
# formulas, after comparing their own instruction sets; the digests must be equal. Then every fuzz target runs
# (default: 1000 inputs each), of which some compare instruction sets on damaged streams too.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/build/cross
options="-DNNCODEC_FUZZ=ON -DNNCODEC_SANITIZE=OFF -DNNCODEC_STRICT=ON"
emulate="qemu-aarch64 -L /usr/aarch64-linux-gnu"
# shellcheck disable=SC2086
{
    cmake -S "$root" -B "$here/native" $options >/dev/null
    cmake -S "$root" -B "$here/aarch64" $options -DCMAKE_TOOLCHAIN_FILE="$root/tests/cross/aarch64.cmake" >/dev/null
}
cmake --build "$here/native" --parallel "${JOBS:-2}" --target digest >/dev/null
cmake --build "$here/aarch64" --parallel "${JOBS:-2}" >/dev/null

"$here/native/cpp/fuzz/digest" >"$here/native.txt"
$emulate "$here/aarch64/cpp/fuzz/digest" >"$here/aarch64.txt"
diff "$here/native.txt" "$here/aarch64.txt"
echo "$(wc -l <"$here/native.txt") digests are the same on $(uname -m) and aarch64"

cd "$here"
for target in aarch64/cpp/fuzz/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    $emulate "$target" -runs="${1:-1000}" -seed="${SEED:-1}" -max_len=4096
done
