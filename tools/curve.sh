#!/bin/sh
# curve.sh [MODEL] [TEXT] [CALIBRATION]: held-out KL against bits per weight: uniform recipes, and at each one's size the mixture that assay makes.
#
# Prints a line per size: bits per weight in the quantized matrices, KL in nats per token of the uniform recipe and of the mixture, by the same
# method on the same calibration data. Ends with the sizes at which a uniform recipe is better, and exits 1 if there is one. A standard error
# of the difference is not claimed: both are measured on the same windows, the table has the standard error of each over windows.
# METHOD=gptq|rtn (default gptq), LENGTH tokens a window (256), MIX candidates, WORK a folder (temporary).
set -eu
build=${BUILD:-build/release}
model=${1:-models/demo} text=${2:-models/demo/prose.txt} calibration=${3:-models/demo/calibration.jsonl,samples=64,length=256}
method=${METHOD:-gptq} length=${LENGTH:-256}
mix=${MIX:-int2g128 int2g64 int2g32 int3g128 int3g64 int3g32 int4g128 int4g32 int5g128 int6g128 int8g128 bf16}
work=${WORK:-$(mktemp -d)}
make --no-print-directory BUILD="$build" "$build/assay" "$build/kl" >&2
mkdir -p "$work"
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT

number() { sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" "$2" | head -1; }
kl() { "$build/kl" "$model" "$1" "$text" --length "$length" --activations auto > "$work/kl.json"; }
make_one() { # OUT RECIPE [more]
    out=$1 recipe=$2; shift 2
    "$build/assay" quantize "$model" "$out" --overwrite --quiet --json --recipe "$recipe" --calibration "$calibration" "$@" > "$work/q.json" 2> "$work/err" || { cat "$work/err" >&2; exit 1; }
}

printf '%-10s %8s %11s %9s   %8s %11s %9s  %s\n' uniform bits KL se mixture KL se ratio
worse=""
for p in ${UNIFORM:-int2g128 int2g64 int3g128 int3g64 int3g32 int4g128 int4g64 int4g32 int5g128 int6g128 int8g128}; do
    make_one "$work/u" "$method,$p"
    bits=$(number bits_per_quantized_weight "$work/q.json")
    kl "$work/u"; a=$(number kl "$work/kl.json") ea=$(number kl_se "$work/kl.json")
    make_one "$work/m" "$method,int4,group_size=128" --target-bpw "$bits" --mix "$mix"
    mbits=$(number bits_per_quantized_weight "$work/q.json")
    kl "$work/m"; b=$(number kl "$work/kl.json") eb=$(number kl_se "$work/kl.json")
    awk -v p="$p" -v bits="$bits" -v a="$a" -v ea="$ea" -v mb="$mbits" -v b="$b" -v eb="$eb" \
        'BEGIN { printf "%-10s %8.3f %11.6f %9.6f   %8.3f %11.6f %9.6f  %.3f\n", p, bits, a, ea, mb, b, eb, b / a }'
    if awk -v a="$a" -v b="$b" 'BEGIN { exit !(b > a) }'; then worse="$worse $p"; fi
done
[ -z "$worse" ] || { echo "a uniform recipe is better at its own size:$worse"; exit 1; }
echo "the mixture is below every uniform recipe at its own size"
