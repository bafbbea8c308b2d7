#!/bin/sh
# run.sh: quantize, run, compare, plan on the demo model, as the README shows them.
. tests/cli/lib.sh

expect 0 'a question' "$ASSAY" run models/demo 'What is 32 + 39?'; says '71'
expect 0 'from a pipe' sh -c "printf 'What is 32 + 39?' | '$ASSAY' run models/demo"; says '71'
expect 0 'as JSON' "$ASSAY" run models/demo 'What is 32 + 39?' --json; says '"text": "71"'; says '"stop": "eos"'
expect 0 'a stop string is not printed' "$ASSAY" run models/demo 'What is 32 + 39?' --stop 1 --json; says '"text": "7"'; says '"stop": "stop"'
expect 0 'a raw prompt' "$ASSAY" run models/demo 'In the cave lived' --raw -n 12
expect 0 'with a quantized KV cache' "$ASSAY" run models/demo 'What is 32 + 39?' --kv int4; says '71'
expect 2 'a KV cache that is none' "$ASSAY" run models/demo x --kv int5; complains 'auto, f32, bf16, f16, int8, fp8, int4'; one_line
expect 0 'the plan knows its bytes' "$ASSAY" plan models/demo --kv int4 --runtime native --json; says '"bytes_per_token": 608'
expect 0 'and the bench' "$ASSAY" bench models/demo --prompt 130 --output 4 --repeat 1 --kv int8 --json; says '"kv_bytes_per_token": 1120'
expect 0 'the same seed says the same' sh -c "a=\$('$ASSAY' run models/demo 'In the' --raw -n 20 --temperature 1 --seed 7); b=\$('$ASSAY' run models/demo 'In the' --raw -n 20 --temperature 1 --seed 7); test \"\$a\" = \"\$b\" && test -n \"\$a\""
expect 3 'a prompt longer than the context' sh -c "yes word | head -n 2000 | '$ASSAY' run models/demo --raw"; complains 'context'
expect 0 'quantize' "$ASSAY" quantize models/demo "$work/nf4" -r nf4,double_quant; says 'bits per weight'; says 'matrices that lost most'
expect 0 'again: nothing to do' "$ASSAY" quantize models/demo "$work/nf4" -r nf4,double_quant; says 'already held exactly this'
expect 2 'another recipe into the same folder' "$ASSAY" quantize models/demo "$work/nf4" -r fp4; one_line
expect 0 'unless told to' "$ASSAY" quantize models/demo "$work/nf4" -r fp4 --overwrite
expect 0 'inspect knows the convention' "$ASSAY" inspect "$work/nf4"; says 'bnb convention'; says 'fp4 block 64'
expect 0 'the variant answers' "$ASSAY" run "$work/nf4" 'What is 32 + 39?'; says '71'
expect 4 'quantizing what is quantized' "$ASSAY" quantize "$work/nf4" "$work/again" -r rtn,int8; one_line
expect 0 'a dry run writes nothing' sh -c "'$ASSAY' quantize models/demo '$work/dry' -r rtn,int4,group_size=128 --dry-run && test ! -e '$work/dry'"; says 'would take'
expect 0 "a mix of llama.cpp's is recipe enough" "$ASSAY" quantize models/demo "$work/mix" -r Q4_K_M; says 'gguf q4_k_m'
expect 2 'a word with a typing error' "$ASSAY" quantize models/demo "$work/y" -r gguf,q4_km; one_line; complains "did you mean 'q4_k_m'"
expect 2 'a method that is none' "$ASSAY" quantize models/demo "$work/y" -r gtpq,int4; one_line; complains "did you mean 'gptq'"
expect 2 'a recipe with a typing error' "$ASSAY" quantize models/demo "$work/y" -r rtn,int4,group_siz=128; one_line; complains 'group_size'
for f in gptq,int4,format=gptq gptq,int4,symmetric=false,format=gptq_v2 awq,int4,format=awq; do
    rm -rf "$work/format"
    expect 0 "$f" "$ASSAY" quantize models/demo "$work/format" -r $f -c models/demo/calibration.jsonl,samples=16,length=128; says "${f##*=} convention"
    expect 0 'answers' "$ASSAY" run "$work/format" 'What is 32 + 39?'; says '71'
done
expect 0 'scales in float16 go on to GGUF' "$ASSAY" quantize models/demo "$work/gptq" -r rtn,int4,group_size=32,format=gptq
expect 0 'with the same codes' "$ASSAY" convert "$work/gptq" --to gguf -o "$work/gptq-gguf"; says 'from gptq to gguf'
expect 2 'a zero point that version 1 lacks' "$ASSAY" quantize models/demo "$work/y" -r rtn,int4,symmetric=false,format=gptq; one_line; complains 'gptq_v2'
expect 2 'bits that GPTQ lacks' "$ASSAY" quantize models/demo "$work/y" -r rtn,int5,format=gptq; one_line
expect 3 'a model that fits as it is' "$ASSAY" quantize models/demo "$work/fit" -r rtn,int4 --fit rtx-4090 --context 512; one_line; complains 'fits on rtx-4090 as it is'
expect 2 'two budgets' "$ASSAY" quantize models/demo "$work/fit" -r rtn,int4 --fit rtx-4090 --target-bpw 4; one_line
# so many sequences that their cache leaves a little less than the model's 7 MiB
most=$("$ASSAY" plan models/demo -d rtx-4090 --context 512 --json | sed -n 's/.*"max_concurrency": \([0-9]*\).*/\1/p')
expect 0 'a mixture that fits' "$ASSAY" quantize models/demo "$work/fit" -r gptq,int4 -c models/demo/calibration.jsonl,samples=8,length=64 --fit rtx-4090 --context 512 --concurrency $((most + 3)); says 'for the weights'; says 'mixture:'
expect 3 'a cache that does not' "$ASSAY" quantize models/demo "$work/fit2" -r gptq,int4 -c models/demo/calibration.jsonl,samples=8,length=64 --fit rtx-4090 --context 512 --concurrency $((most + 99)); one_line; complains 'alone do not fit'
expect 0 'compare' "$ASSAY" compare models/demo "$work/nf4" 'What is 32 + 39?'; says 'answers are the same'
expect 0 'two bits are told apart' "$ASSAY" quantize models/demo "$work/int2" -r rtn,int2,group_size=128
expect 0 'and compared' "$ASSAY" compare models/demo "$work/int2" 'What is 32 + 39?' --json; says '"same": false'
expect 0 'plan from config.json alone' "$ASSAY" plan models/demo/config.json -r nf4,double_quant -d rtx-4090; says 'rtx-4090'
expect 0 'of a quantized model as it is stored' "$ASSAY" plan "$work/fit" -d rtx-4090; says 'on disk'; says 'int8g128'
expect 2 'which a recipe is not applied to' "$ASSAY" plan "$work/fit" -r nf4; one_line; complains 'without a recipe'
expect 2 'nor is its config.json enough' "$ASSAY" plan "$work/fit/config.json"; one_line; complains 'give its folder'
expect 3 'a device that is not in the table' "$ASSAY" plan models/demo -d rtx-4091; one_line; complains 'rtx-4090'
expect 0 'the device table' "$ASSAY" plan --devices; says 'h100-sxm'
expect 5 'a full disk stops quantizing with one line' sh -c "ulimit -f 500; '$ASSAY' quantize models/demo '$work/full' -r rtn,int8 --quiet"; one_line
expect 0 'and the same command then goes on' "$ASSAY" quantize models/demo "$work/full" -r rtn,int8
done_testing
