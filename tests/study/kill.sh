#!/bin/sh
# kill.sh: a study killed with SIGKILL at 20 points spread over its run and started again comes to the same scorecards as an undisturbed one, and
# nothing that was finished is done twice. Runs a small form of the demo study; FULL=1 runs all of it (some minutes a round).
#
# "The same": every record but its time (seconds), item by item; every loss; the verdicts. "Not twice": at each kill the store's records are
# listed, and at the end each of them is still the very row that it was (rowid and seconds).
set -u
: "${ASSAY:?set ASSAY to the program}"
command -v sqlite3 >/dev/null || { echo "ok 1 - killed studies # SKIP no sqlite3 program"; echo 1..1; exit 0; }
top=$(pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/assay-kill-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
n=0
tap() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi; }

study=$top/examples/demo.yaml
if [ -z "${FULL:-}" ]; then
    cat > "$work/suite.yaml" <<END
suite: kill
version: 1
items: [$top/models/demo/items.jsonl]
chat: true
limit: 4
max_tokens: 64
evaluators: {perplexity_llamacpp: {context: 128}}
language: {prose: {file: $top/models/demo/prose.txt, limit: 8, evaluators: [perplexity_llamacpp, perplexity_rolling, kl]}}
END
    cat > "$work/study.yaml" <<END
study: kill
model: $top/models/demo
suite: suite.yaml
baseline: {name: bf16}
variants:
  - {name: llm_int8, method: llm_int8}
  - {name: nf4, method: nf4, double_quant: true}
  - {name: int4, method: rtn, precision: int4, group_size: 64, mse: true}
END
    study=$work/study.yaml
fi
run() { "$ASSAY" study "$study" --out "$1" --no-progress > "$work/out" 2> "$work/err"; }
sql() { sqlite3 -readonly "$1/assay.db" "$2" 2>/dev/null; }
# Times differ from run to run, everything else may not.
records="SELECT s.variant, s.role, r.position, r.item_id, r.dimension, r.slice, r.evaluator, r.item_hash, r.prompt_hash, r.ids_hash, r.output, r.output_ids, r.answer, r.detail, r.binary, r.score, r.aux, r.weight, r.outcome, r.stop, r.n_prompt, r.n_output FROM records r JOIN scorecards s ON s.id = r.card ORDER BY 1, 2, 3"
losses="SELECT tensor, precision, method, bits, weight_error FROM losses ORDER BY step, tensor"
cards="SELECT variant, role, key, model_hash, suite_hash, n_items, state FROM scorecards ORDER BY 1, 2"

before=$(date +%s%N)
run "$work/whole"; code=$?
after=$(date +%s%N)
case $code in 0|1|6) tap 0 "an undisturbed run (exit code $code)";; *) tap 1 "an undisturbed run (exit code $code)"; sed 's/^/# /' "$work/err"; echo "1..$n"; exit 1;; esac
total=$(sql "$work/whole" "SELECT count(*) FROM records")
span=$(((after - before) / 1000000)) # ms

# 20 kills: four early ones by time, while variants are being made, and sixteen when another seventeenth of the records is there.
kills=0 met=0 lost=0
: > "$work/seen"
await() { # records: until the store has so many, or the program has ended
    while kill -0 $pid 2>/dev/null; do
        have=$(sql "$work/killed" "SELECT count(*) FROM records"); [ "${have:-0}" -ge "$1" ] && return
        sleep 0.01
    done
}
while [ $kills -lt 20 ]; do
    "$ASSAY" study "$study" --out "$work/killed" --no-progress > "$work/out" 2> "$work/err" & pid=$!
    if [ $kills -lt 4 ]; then sleep "$(printf '0.%03d' $((20 + 30 * kills)))"; else await $((total * (kills - 3) / 17)); fi
    kill -KILL $pid 2>/dev/null && met=$((met + 1))
    wait $pid 2>/dev/null
    kills=$((kills + 1))
    [ -e "$work/killed/assay.db" ] || continue
    [ "$(sqlite3 "$work/killed/assay.db" 'PRAGMA integrity_check' 2>/dev/null)" = ok ] || { lost=1; echo "# the store is damaged after kill $kills"; }
    sql "$work/killed" "SELECT rowid, card, item_id, seconds FROM records" >> "$work/seen"
done
[ $met -eq 20 ]; tap $? "$met of 20 kills met a running program (an undisturbed run takes $span ms)"
tap $lost "the store is whole after each kill"
: > "$work/killed/report.html.tmp.1" # as a kill leaves it while the report is written
run "$work/killed"; again=$?
[ $again -eq $code ]; tap $? "started once more it ends with exit code $code"
[ $again -eq $code ] || sed 's/^/# /' "$work/err"

for what in records losses cards; do
    eval "query=\$$what"
    sql "$work/whole" "$query" > "$work/a"; sql "$work/killed" "$query" > "$work/b"
    [ -s "$work/a" ] && cmp -s "$work/a" "$work/b"; tap $? "the same $what ($(wc -l < "$work/a"))"
    cmp -s "$work/a" "$work/b" || diff "$work/a" "$work/b" | head -n 4 | cut -c1-200 | sed 's/^/# /'
done
sql "$work/killed" "SELECT rowid, card, item_id, seconds FROM records" | sort > "$work/final"
sort -u "$work/seen" > "$work/seen.sorted"
[ "$(comm -23 "$work/seen.sorted" "$work/final" | wc -l)" = 0 ]; tap $? "no record that was there at a kill was made again ($(wc -l < "$work/seen.sorted") seen)"
for v in "$work"/whole/variants/*; do
    cmp -s "$v/model.safetensors" "$work/killed/variants/$(basename "$v")/model.safetensors"
    tap $? "the same weights: $(basename "$v")"
done
find "$work/killed" -name '*.tmp.*' -o -name '.partial-*' | grep -q . ; [ $? -ne 0 ]; tap $? "no half-written file is left"
echo "1..$n"
