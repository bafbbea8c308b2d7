#!/bin/sh
# Builds the kernels with their NEON set for AArch64 and runs checkkern under qemu: every NEON kernel against the
# reference, bit for bit. cmocka is not there for the other architecture: tests/kern/cmocka_lite.h stands in for the
# few words that checkkern uses.
set -u
cd "$(dirname "$0")/../.." || exit 1
out=${BUILD:-build/release}/neon
cross=${ASSAY_CROSS:-aarch64-linux-gnu-gcc}
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static)
if ! command -v "$cross" > /dev/null || [ -z "$qemu" ]; then
    echo "ok 1 - neon kernels # SKIP needs $cross and qemu-aarch64 (Debian: gcc-aarch64-linux-gnu qemu-user)"
    exit 0
fi
mkdir -p "$out/include" || exit 1
cp tests/kern/cmocka_lite.h "$out/include/cmocka.h"
# The rooms that kern stands on, less what needs libraries.
if ! "$cross" -static -std=c17 -O2 -Wall -Wextra -Werror -ffp-contract=off -fno-math-errno -D_GNU_SOURCE \
    -Iinclude -Isrc -I"$out/include" -o "$out/checkkern" tests/kern/test_checkkern.c \
    src/kern/*.c src/kern/ref/*.c src/kern/arm/*.c src/num/*.c \
    src/precision/block.c src/precision/block_expand.c src/precision/iq_points.c \
    src/base/status.c src/base/mem.c src/base/rng.c src/base/clock.c src/base/thread.c -lm > "$out/log" 2>&1; then
    echo "not ok 1 - neon kernels compile"
    sed 's/^/# /' "$out/log"
    exit 1
fi
echo "ok 1 - neon kernels compile"
"$qemu" "$out/checkkern" | sed 's/^\(ok\|not ok\) [0-9]* - /\1 - neon /'
