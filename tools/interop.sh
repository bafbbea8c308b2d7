#!/bin/sh
# interop.sh PROGRAM: compares with the originals in Python: what we write they load and compute alike, what they write we read.
#
# tools/originals.sh says which they are and installs them on the first run.
# The environment: BUILD (of PROGRAM's build, set by make interop), ASSAY_SHARED (as interop_tokenizers.sh has it);
# the methods' originals, where they are installed: without them hqq's checkpoints are left out.
set -u
program=${1:?usage: interop.sh PROGRAM}
build=${BUILD:-$(dirname "$program")}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
model=models/demo
out=build/interop/checkpoints
failed=0

. tools/originals.sh
originals base 'torch, transformers, bitsandbytes, compressed_tensors, tokenizers, safetensors, sentencepiece'

step() { # NAME COMMAND...
    name=$1; shift
    echo "== $name"
    "$@" || { echo "NOT OK: $name"; failed=$((failed + 1)); }
}

rm -rf "$out"; mkdir -p "$out"
# name and recipe of each variant; those with a + are made with calibration
while read -r name recipe; do
    more=
    case $name in +*) name=${name#+} more="--calibration $model/calibration.jsonl,samples=16,length=128" ;; esac
    step "quantize $name ($recipe)" "$program" quantize "$model" "$out/$name" --recipe "$recipe" $more > "$out/$name.log" 2>&1 || cat "$out/$name.log"
done <<'LIST'
llm_int8 llm_int8
llm_int8-skip llm_int8,skip=layers\.0\.
nf4 nf4
nf4-dq nf4,double_quant
fp4-dq-b128 fp4,group_size=128,double_quant
int8 rtn,int8
int4g128 rtn,int4g128
int4g64-asym-mse rtn,int4g64,symmetric=false,mse
int3g128 rtn,int3g128
mixed rtn,int8;match=mlp\.,precision=int4g64;match=layers\.0\.self_attn\.v_proj,none
fp8 fp8
fp8-weights fp8,activations=16bit
fp8-tensor fp8,scale=tensor
fp8-block fp8,scale=block
fp8-e5m2 fp8,fp8_e5m2,activations=16bit
nvfp4 rtn,nvfp4
mxfp4 rtn,mxfp4
hqq4 hqq,int4
hqq3 hqq,int3,group_size=64
+gptq4 gptq,int4g128
+gptq4-static gptq,int4g128,act_order=static
+awq4 awq,int4g128
+autoround4 autoround,int4g128,iters=20
+smoothquant smoothquant
+fp8-static fp8,activations=static
LIST
# What hqq wrote is compared where hqq is: among the originals of methods.
hqq_python=${ASSAY_INTEROP_METHODS_VENV:-build/interop-methods/venv}/bin/python
variants() { # those that $python can judge; hqq's apart
    for d in "$out"/*/; do
        case $d in */hqq*) ;; *) echo "${d%/}" ;; esac
    done
}
step 'logits of our checkpoints in transformers' "$python" tools/interop_logits.py "$build/logits" "$model" $(variants)
if "$hqq_python" -c 'import hqq' 2>/dev/null; then
    step 'logits of our checkpoints in hqq' "$hqq_python" tools/interop_logits.py "$build/logits" "$model" "$out"/hqq[34]
    step 'formats' "$hqq_python" tools/interop_formats.py "$program" "$model" "$out"
else
    echo "== hqq: skipped, $hqq_python lacks it: make interop-methods installs it"
    step 'formats' "$python" tools/interop_formats.py "$program" "$model" "$out"
fi
step 'tokenizers' env BUILD="$build" sh tools/interop_tokenizers.sh

if [ "$failed" -ne 0 ]; then echo "$failed comparisons failed"; exit 1; fi
echo "all comparisons passed"
