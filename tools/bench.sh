#!/bin/sh
# bench.sh PROGRAM: measures on a synthetic checkpoint of Llama 3.2 1B's shape: this machine's limits, quantizing, prefill and decode.
# Files (about 6 GB) go to build/bench and are kept for the next run; SHAPE=tiny makes a quick trial.
set -e
program=$1 shape=${SHAPE:-llama-3.2-1b}
dir=build/bench/$shape
make --no-print-directory "$(dirname "$program")/mkcheckpoint"
[ -f "$dir/bf16/config.json" ] || "$(dirname "$program")/mkcheckpoint" --shape "$shape" "$dir/bf16"
echo "== quantizing"
quantize() { # name, recipe
    rm -rf "$dir/$1"
    echo "-- $2"; "$program" quantize "$dir/bf16" "$dir/$1" --recipe "$2" --no-progress --worst 1 | grep -E '^(size|took)'
}
quantize int8 llm_int8
quantize nf4 nf4,double_quant
quantize int4 rtn,int4,group_size=128
echo "== running"
for v in bf16 int8 nf4 int4; do "$program" bench "$dir/$v" --no-progress 2>&1; done
