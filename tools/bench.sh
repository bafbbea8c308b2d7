#!/bin/sh
# bench.sh PROGRAM: measures on a synthetic checkpoint of Llama 3.2 1B's shape: this machine's limits, quantizing, prefill,
# decode, and converting beside cp.
# Files (about 10 GB) go to build/bench and are kept for the next run; SHAPE=tiny makes a quick trial.
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
echo "== converting"
now() { date +%s.%N; }
seconds() { # COMMAND...: how long it took, until the disk has it
    sync; begin=$(now); "$@" > "$dir/.log" 2>&1 || { cat "$dir/.log" >&2; return 1; }
    echo "$(now) $begin" | awk '{ printf "%.2f", $1 - $2 }'
}
copy() { cp -r "$1" "$2" && sync "$2"/* "$2"; }
quantize gptq rtn,int4,group_size=128,format=gptq > /dev/null
convert() { # FROM TO: beside a plain copy of the same files, both from the page cache
    cat "$dir/$1"/* > /dev/null; rm -rf "$dir/copy"
    cp_seconds=$(seconds copy "$dir/$1" "$dir/copy"); rm -rf "$dir/copy" "$dir/$2"
    ours=$(seconds "$program" convert "$dir/$1" --to "$2" -o "$dir/$2" --no-progress)
    peak=$(sed -n 's/.*peak memory \([^,]*\).*/\1/p' "$dir/.log")
    echo "$1 $2 $ours $cp_seconds" | awk -v peak="$peak" '{ printf "%-18s to %-18s %5.2f s, cp %5.2f s: %3.0f %% of its rate, peak memory %s\n", $1, $2, $3, $4, 100 * $4 / $3, peak }'
}
convert gptq compressed-tensors
convert gptq awq
convert gptq gguf
convert compressed-tensors awq
convert compressed-tensors gptq
convert awq compressed-tensors
convert awq gptq
