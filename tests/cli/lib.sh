# lib.sh: how shell tests say what they expect. Sourced; needs ASSAY, the program.
#
#   expect CODE 'description' command...      runs it; stdout in $out, stderr in $err; checks the exit code
#   says 'text'  /  complains 'text'          stdout / stderr of the last command contains it
#   one_line                                  stderr of the last command is exactly one line
#   silent                                    stdout of the last command is empty
# Each prints one TAP line; `done_testing` prints the plan.
: "${ASSAY:?set ASSAY to the program}"
tests_run=0
work=$(mktemp -d "${TMPDIR:-/tmp}/assay-cli-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
unset NO_COLOR ASSAY_CPU
tap() { # 0|1, description
    tests_run=$((tests_run + 1))
    if [ "$1" = 0 ]; then echo "ok $tests_run - $2"; else echo "not ok $tests_run - $2"; fi
}
diag() { sed 's/^/#   /'; }
expect() {
    want=$1 what=$2; shift 2
    "$@" > "$work/.stdout" 2> "$work/.stderr" < /dev/null; code=$?
    if [ "$code" = "$want" ]; then tap 0 "$what"; else
        tap 1 "$what (exit code $code, not $want)"; head -n 5 "$work/.stdout" | diag; head -n 5 "$work/.stderr" | diag
    fi
}
says() {
    if grep -qF -- "$1" "$work/.stdout"; then tap 0 "says: $1"; else tap 1 "says: $1"; head -n 20 "$work/.stdout" | diag; fi
}
complains() {
    if grep -qF -- "$1" "$work/.stderr"; then tap 0 "complains: $1"; else tap 1 "complains: $1"; head -n 5 "$work/.stderr" | diag; fi
}
one_line() {
    n=$(wc -l < "$work/.stderr"); if [ "$n" -eq 1 ]; then tap 0 "in one line"; else tap 1 "in one line, not $n"; head -n 5 "$work/.stderr" | diag; fi
}
silent() { if [ -s "$work/.stdout" ]; then tap 1 "nothing on stdout"; else tap 0 "nothing on stdout"; fi; }
skip() { tests_run=$((tests_run + 1)); echo "ok $tests_run - $1 # SKIP $2"; }
done_testing() { echo "1..$tests_run"; }
