#!/bin/sh
# interop_formats.sh PROGRAM: converts a model between the conventions and has the originals (GPTQModel, AutoAWQ, hqq, transformers with
# compressed-tensors and bitsandbytes) read every file; then packs the golden files anew with the originals and compares. What `make interop`
# does with quantized variants is not repeated here. GGUF is tools/interop_gguf.sh's.
#
# tools/originals.sh installs them on the first run.
set -u
program=${1:?usage: interop_formats.sh PROGRAM}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
model=models/demo
out=build/interop-formats
failed=0
. tools/originals.sh
originals methods 'torch, gptqmodel, awq, hqq, transformers, compressed_tensors, bitsandbytes'
rm -rf "$out"; mkdir -p "$out"
step() { # NAME COMMAND...
    what=$1; shift
    echo "== $what"
    "$@" || { echo "NOT OK: $what"; failed=$((failed + 1)); }
}
convert() { "$program" convert "$@" -q > "$out/.log" 2>&1 || { cat "$out/.log"; return 1; }; }

# name, source, target and options of each; what is made of the plain model is rounded to nearest
while read -r name from options; do
    [ "$from" = base ] && from=$model || from=$out/$from
    # shellcheck disable=SC2086
    step "convert $name" convert "$from" "$out/$name" $options
    step "decode $name" convert "$out/$name" "$out/$name-plain" --to hf --dtype f32 # of what was written
done <<'LIST'
gptq base --to gptq --requantize --group-size 64
awq base --to awq --requantize --group-size 64
gptq3 base --to gptq:int3 --requantize --group-size 64
gptq-int8 base --to gptq:int8 --requantize --group-size 64
gptq_v2 awq --to gptq_v2
gptq-asym gptq --to gptq
ct awq --to compressed-tensors
hqq gptq_v2 --to hqq
bnb base --to bnb --requantize
LIST
step 'what the originals make of it' "$python" tools/interop_packed.py "$out"
mkdir -p "$out/golden"
step 'the golden files packed anew' env PYTHONDONTWRITEBYTECODE=1 "$python" tests/format/golden/make_gptq.py "$out/golden" > "$out/golden.log" 2>&1
for d in "$out"/golden/gptq-* "$out"/golden/awq-*; do
    step "$(basename "$d") is what was committed" cmp "$d/model.safetensors" "tests/format/golden/$(basename "$d")/model.safetensors"
done
if [ -f tools/interop_gguf.sh ]; then step 'GGUF' sh tools/interop_gguf.sh "$program"; fi
if [ "$failed" -ne 0 ]; then echo "$failed comparisons failed"; exit 1; fi
echo "all comparisons passed"
