#!/bin/sh
# fuzz.sh [TARGET] SECONDS: builds with clang, libFuzzer and sanitizers into build/fuzz and runs one target or each in turn.
# New inputs go to build/fuzz/corpus; a finding stops the run and is left in build/fuzz/findings.
set -e
target=$1 seconds=${2:-60}
command -v clang >/dev/null || { echo "fuzz.sh: needs clang" >&2; exit 5; }
make --no-print-directory BUILD=build/fuzz CC=clang OPT='-O1 -g' SANITIZE=fuzzer-no-link,address,undefined build/fuzz/libassay.a
for f in tests/fuzz/fuzz_${target:-*}.c; do
    n=$(basename "$f" .c); n=${n#fuzz_}
    mkdir -p "build/fuzz/corpus/$n" build/fuzz/findings
    clang -g -O1 -std=c17 -Iinclude -Isrc -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined "$f" \
        -o "build/fuzz/fuzz_$n" build/fuzz/libassay.a $(pkg-config --libs jansson yaml-0.1 libpcre2-8 libutf8proc sqlite3 libcrypto) -lm
    echo "== $n for $seconds s"
    "build/fuzz/fuzz_$n" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="build/fuzz/findings/$n-" "build/fuzz/corpus/$n" "tests/fuzz/corpus/$n" 2>&1 | grep -E 'ERROR|SUMMARY|stat::number_of_executed|stat::peak|runtime error' || true
    ls build/fuzz/findings/"$n"-* >/dev/null 2>&1 && { echo "fuzz.sh: $n has a finding in build/fuzz/findings" >&2; exit 1; }
    true
done
