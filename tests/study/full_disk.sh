#!/bin/sh
# full_disk.sh: a disk that fills up is one clear line and exit code 5, leaves the store whole, and a run with room again goes on.
# Needs a small file system of its own: root and tmpfs, else it is skipped.
set -u
: "${ASSAY:?set ASSAY to the program}"
top=$(pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/assay-full-XXXXXX") || exit 1
disk=$work/disk; mkdir "$disk"
if ! mount -t tmpfs -o size=3m tmpfs "$disk" 2>/dev/null; then
    rm -rf "$work"; echo "ok 1 - a full disk # SKIP no small file system can be mounted here"; echo 1..1; exit 0
fi
trap 'umount "$disk"; rm -rf "$work"' EXIT
n=0
tap() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi; }
cat > "$work/suite.yaml" <<END
suite: full
version: 1
items: [$top/models/demo/items.jsonl]
chat: true
limit: 6
END
cat > "$work/study.yaml" <<END
study: full
model: $top/models/demo
suite: suite.yaml
variants:
  - {name: int8, method: rtn, precision: int8, group_size: 128}
  - {name: int4, method: rtn, precision: int4, group_size: 128}
END
run() { "$ASSAY" study "$work/study.yaml" --out "$disk/out" --no-progress > "$work/out" 2> "$work/err"; }
full() { # what
    run; code=$?
    [ $code -eq 5 ]; tap $? "$1: exit code 5 (it was $code)"
    [ "$(wc -l < "$work/err")" -eq 1 ] && grep -qiE 'space|full' "$work/err"; tap $? "$1: one line about it: $(head -n 1 "$work/err" | cut -c1-120)"
    [ ! -e "$disk/out/assay.db" ] || [ "$(sqlite3 "$disk/out/assay.db" 'PRAGMA integrity_check' 2>&1)" = ok ]; tap $? "$1: the store is whole"
}
full "no room for the first checkpoint"
mount -o remount,size=24m "$disk" || exit 1
run; code=$?
case $code in 0|1|6) tap 0 "with room it goes on to its end";; *) tap 1 "with room it goes on to its end ($code)"; sed 's/^/# /' "$work/err";; esac
records=$(sqlite3 "$disk/out/assay.db" 'SELECT count(*) FROM records')
# The checkpoints are there: now the store is what fills the disk.
rm -rf "$disk/out/assay.db"*
used=$(df --output=used -k "$disk" | tail -n 1)
mount -o remount,size=$((used + 200))k "$disk" || exit 1
full "no room for the records"
kept=$(sqlite3 "$disk/out/assay.db" 'SELECT count(*) FROM records' 2>/dev/null || echo 0)
mount -o remount,size=24m "$disk" || exit 1
run; code=$?
case $code in 0|1|6) tap 0 "with room again it goes on (from $kept records)";; *) tap 1 "with room again it goes on ($code)"; sed 's/^/# /' "$work/err";; esac
[ "$(sqlite3 "$disk/out/assay.db" 'SELECT count(*) FROM records')" = "$records" ]; tap $? "and has every record ($records)"
echo "1..$n"
