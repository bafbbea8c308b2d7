#!/bin/sh
# run.sh: runs every test and ends with one line, "N passed, N failed" (", N skipped" when some were).
#
# Unit tests are cmocka programs and shell tests are scripts tests/*/*.sh; both speak TAP, which is what is counted. A program that
# dies, or says nothing, is one failure. ONLY=pattern runs the tests whose path matches. Needs BUILD and ASSAY (make check sets them).
set -u
: "${BUILD:=build/release}" "${ASSAY:=$BUILD/assay}"
export BUILD ASSAY
export CMOCKA_MESSAGE_OUTPUT=TAP
ASSAY=$(cd "$(dirname "$ASSAY")" && pwd)/$(basename "$ASSAY"); export ASSAY
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
logs=$BUILD/logs; mkdir -p "$logs"
passed=0 failed=0 skipped=0

count() { # name, exit code, log
    # cmocka says "not ok N # SKIP name" of a skipped test, TAP itself "ok N # SKIP reason"
    s=$(grep -cE '^(not )?ok .*# SKIP' "$3"); p=$(grep '^ok ' "$3" | grep -vc '# SKIP'); f=$(grep '^not ok ' "$3" | grep -vc '# SKIP')
    if [ "$2" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; echo "not ok - $1 exited with $2"; tail -n 30 "$3"
    elif [ $((p + f + s)) -eq 0 ]; then f=1; echo "not ok - $1 said nothing"; tail -n 30 "$3"
    elif [ "$f" -ne 0 ]; then grep -A 8 '^not ok ' "$3" | grep -v '# SKIP' | head -n 60; fi
    [ "$s" -eq 0 ] || grep -E '^(not )?ok .*# SKIP' "$3" | sed 's/^not ok/ok/'
    passed=$((passed + p)); failed=$((failed + f)); skipped=$((skipped + s))
    printf '%-44s %4d passed %3d failed %3d skipped\n' "$1" "$p" "$f" "$s"
}
run() { # name, command...
    name=$1; shift
    case "$name" in *${ONLY:-}*) ;; *) return ;; esac
    log=$logs/$(echo "$name" | tr '/ ' '__').log
    "$@" > "$log" 2>&1 < /dev/null; count "$name" $? "$log"
}

for t in tests/*/test_*.c; do
    [ -e "$t" ] || continue
    run "${t%.c}" "$BUILD/${t%.c}"
done
for t in tests/fuzz/fuzz_*.c; do
    [ -e "$t" ] || continue
    n=$(basename "$t" .c)
    run "${t%.c}" "$BUILD/${t%.c}" "tests/fuzz/corpus/${n#fuzz_}"
done
for t in tests/*/*.sh; do
    case "$t" in */lib.sh|tests/support/*) continue ;; esac
    [ -e "$t" ] || continue
    run "${t%.sh}" sh "$t"
done
if [ "$skipped" -ne 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ "$failed" -eq 0 ]
