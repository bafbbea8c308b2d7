#!/bin/sh
# eval.sh: suites, scorecards, gates and studies from the command line, and what broken ones say.
. tests/cli/lib.sh
db=$work/a.db
ev() { "$ASSAY" eval "$1" --suite models/demo/suite.yaml --store "$db" --name "$2" --limit 6 --quiet; }

expect 0 'the baseline' ev models/demo bf16; says 'math'; says 'structured'
expect 0 'again: nothing is scored twice' ev models/demo bf16
expect 0 'the same under another name' ev models/demo same
expect 0 'is found under both, and nothing differs' sh -c "printf 'margin: 60 pt\nslice_margin: 90 pt\n' > $work/p.yaml; '$ASSAY' gate bf16 same --store '$db' --policy $work/p.yaml"; says 'same against bf16'
expect 0 'a variant' "$ASSAY" quantize models/demo "$work/int8" -r rtn,int8,group_size=128 --quiet
expect 0 'scored against it' "$ASSAY" eval "$work/int8" --suite models/demo/suite.yaml --store "$db" --name int8 --baseline bf16 --limit 6 --quiet --json
says '"schema": "assay.scorecard/1"'
expect 6 'a gate of six items a slice is inconclusive' "$ASSAY" gate bf16 int8 --store "$db"; says 'inconclusive'
expect 0 'with a margin that six items can show it passes' sh -c "printf 'margin: 60 pt\nslice_margin: 90 pt\n' > $work/p.yaml; '$ASSAY' gate bf16 int8 --store '$db' --policy $work/p.yaml"; says 'pass'
expect 0 'two bits' "$ASSAY" quantize models/demo "$work/int2" -r rtn,int2,group_size=128 --quiet
expect 0 'scored' "$ASSAY" eval "$work/int2" --suite models/demo/suite.yaml --store "$db" --name int2 --baseline bf16 --limit 6 --quiet
expect 1 'fail' "$ASSAY" gate bf16 int2 --store "$db" --flips 3; says 'fail'
expect 1 'as JSON' "$ASSAY" gate bf16 int2 --store "$db" --json; says '"schema": "assay.verdict/1"'
expect 0 'a quantized KV cache is a variant of the same model' "$ASSAY" eval models/demo --suite models/demo/suite.yaml --store "$db" --kv int4 --baseline bf16 --limit 6 --quiet
says 'demo-kv-int4 on demo'; says 'KV cache int4, the newest 64 positions at most bf16'
expect 6 'and is gated like any other' "$ASSAY" gate bf16 demo-kv-int4 --store "$db"; says 'demo-kv-int4'
expect 0 'its manifest and scorecard say it' "$ASSAY" eval models/demo --suite models/demo/suite.yaml --store "$db" --kv int4 --baseline bf16 --limit 6 --quiet --json; says '"kv": {'; says '"type": "int4"'
expect 0 'another limit is another suite' "$ASSAY" eval models/demo --suite models/demo/suite.yaml --store "$db" --name other --limit 3 --quiet
expect 3 'not comparable' "$ASSAY" gate other int8 --store "$db"; one_line; silent
expect 3 'a scorecard that is not there' "$ASSAY" gate bf16 int9 --store "$db"; one_line; complains 'int9'
expect 3 'a store that is not there' "$ASSAY" gate a b --store "$work/none.db"; one_line
expect 3 'a folder instead of the store' "$ASSAY" gate a b --store "$work"; one_line; complains 'assay.db'
expect 3 'a file that is no store' "$ASSAY" gate a b --store models/demo/config.json; one_line
expect 3 'a policy with a typing error' sh -c "printf 'margin: 2 pt\nconfidnce: 0.9\n' > $work/p.yaml; '$ASSAY' gate bf16 int8 --store '$db' --policy $work/p.yaml"; one_line; complains 'p.yaml:2:'; complains 'confidence'

item='{"id": "a", "dimension": "d", "slice": "s", "prompt": "2+2?", "answer": "4", "evaluator": "exact"}'
suite() { printf 'suite: s\nversion: 1\nitems: [i.jsonl]\nchat: true\n%s' "$1" > "$work/s.yaml"; printf '%s\n' "$2" > "$work/i.jsonl"; }
run_suite() { "$ASSAY" eval models/demo --suite "$work/s.yaml" --store "$work/b.db" --quiet; }
suite '' ''; expect 3 'an empty suite' run_suite; one_line; complains 'i.jsonl'
suite '' "$item
$item"; expect 3 'an id given twice' run_suite; one_line; complains 'i.jsonl:2:'
suite '' '{"id": "a"'; expect 3 'an item that is no JSON' run_suite; one_line; complains 'i.jsonl:1:'
suite '' '{"id": "a", "dimension": "d", "slice": "s", "prompt": "x", "anser": "4", "evaluator": "exact"}'; expect 3 'a key that is unknown' run_suite; one_line; complains 'answer'
suite '' '{"id": "a", "dimension": "d", "slice": "s", "prompt": "x", "answer": "4", "evaluator": "exakt"}'; expect 3 'an evaluator that is unknown' run_suite; one_line; complains 'exakt'
suite 'max_token: 3' "$item"; expect 3 'a key of the suite' run_suite; one_line; complains 's.yaml:5:'; complains 'max_tokens'
suite '' '{"id": "a", "dimension": "d", "slice": "s", "prompt": "x", "answer": "4", "evaluator": "exact", "extract": "(("}'; expect 3 'a pattern that does not compile' run_suite; one_line; complains 'i.jsonl:1:'
suite '' "$item"; expect 0 'a suite of one item' run_suite

expect 3 'a folder instead of the suite' "$ASSAY" eval models/demo --suite "$work" --store "$work/b.db"; one_line; complains 'Is a directory'

study() { printf '%s\n' "$1" > "$work/study.yaml"; }
run_study() { "$ASSAY" study "$work/study.yaml" --out "$work/out" --quiet; }
head="study: x
model: $(pwd)/models/demo
suite: $(pwd)/models/demo/suite.yaml"
study "$head
variants: [{name: a, method: rtn, precision: int8"; expect 3 'broken YAML' run_study; one_line; complains 'study.yaml:'
study "$head
variants:
  - {name: a, metod: rtn, precision: int8}"; expect 3 'an unknown key in a variant' run_study; one_line; complains 'study.yaml:5:'; complains 'method'
study "$head
variants:
  - {name: a, method: rtn, precision: int9}"; expect 3 'a precision that is none' run_study; one_line; complains 'study.yaml:5:'
study "$head
variants:
  - {name: a, method: aqlm, precision: int2}"; expect 4 'a method that is not in this build' run_study; one_line; complains 'aqlm'
study "$head
devices: [rtx-4091]
variants:
  - {name: a, method: rtn, precision: int8}"; expect 3 'a device that is not in the table' run_study; one_line; complains 'rtx-4090'
study "study: x
model: /no/such/model
suite: $(pwd)/models/demo/suite.yaml
variants:
  - {name: a, method: rtn, precision: int8}"; expect 3 'a model that is not there' run_study; one_line; complains '/no/such/model'
study "$head
variants:
  - {name: a, method: rtn, precision: int8, group_size: 128}"
expect 0 'a dry run lists the steps' "$ASSAY" study "$work/study.yaml" --out "$work/out" --dry-run; says 'quantize'; says 'to do'
expect 6 'a small study' "$ASSAY" study "$work/study.yaml" --out "$work/out" --limit 4 --quiet; says 'DECISION'; says 'report.html'
says 'items instead of'; says '1 of 1 inconclusive'
expect 0 'then everything is done' "$ASSAY" study "$work/study.yaml" --out "$work/out" --limit 4 --dry-run; says 'done'
expect 6 'the report again, with the records' "$ASSAY" report "$work/out" --html "$work/r.html" --markdown "$work/r.md" --json-file "$work/r.json" --records "$work/records"; says 'DECISION'
expect 0 'files are there' sh -c "grep -q '<!doctype html>' -i $work/r.html && test -s $work/r.md && test -s $work/r.json && ls $work/records | grep -q jsonl"
chmod 755 "$work"; chmod -R a+rX "$work/out"; mv "$work/out" "$work/read #1?.%20"
if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --clear-groups test -x "$ASSAY" 2> /dev/null; then
    expect 6 'a report from a folder that cannot be written' setpriv --reuid=65534 --regid=65534 --clear-groups "$ASSAY" report "$work/read #1?.%20"; says 'DECISION'
else skip 'a report from a folder that cannot be written' 'needs root and setpriv'; fi
study "$head
variants: [{name: a, method: rtn, precision: int4, group_size: 100}]"
expect 1 'only variants that cannot be made: no number of items would help' "$ASSAY" study "$work/study.yaml" --out "$work/none" --limit 2 --quiet
says '1 could not be made or scored'; says 'the group size does not divide its columns'
done_testing
