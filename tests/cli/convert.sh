#!/bin/sh
# convert.sh: between formats on the command line: what is exact, what is refused and how, what is told.
. tests/cli/lib.sh

expect 2 'no target' "$ASSAY" convert models/demo "$work/x"; complains '--to'
expect 2 'an unknown target' "$ASSAY" convert models/demo "$work/x" --to squeeze; one_line; complains "'squeeze' is no target"
expect 2 'no place' "$ASSAY" convert models/demo --to gptq; complains 'say where to write'
expect 2 'a dtype where nothing is decoded' "$ASSAY" convert models/demo "$work/x" --to gptq --dtype f16; one_line; complains '--to hf'
expect 4 'a plain model has no codes' "$ASSAY" convert models/demo "$work/x" --to gptq; one_line; complains 'nothing in models/demo is quantized'
[ -e "$work/x/config.json" ] && tap 1 'nothing was written' || tap 0 'nothing was written'

expect 0 'insisting rounds to nearest' "$ASSAY" convert models/demo "$work/awq" --to awq --requantize --group-size 32
says 'ROUNDED ANEW'; says 'score it before use'; complains '28 matrices do not fit'
expect 0 'AWQ to compressed-tensors' "$ASSAY" convert "$work/awq" "$work/ct" --to compressed-tensors
says 'every code and scale is what it was'; says '28 matrices carried over'
expect 0 'and back' "$ASSAY" convert "$work/ct" "$work/back" --to awq
cmp -s "$work/awq/model.safetensors" "$work/back/model.safetensors"; tap $? 'the loop ends in the same file'
expect 0 'as JSON' "$ASSAY" convert "$work/ct" --to awq --dry-run --json; says '"exact": true'; says '"schema": "assay.convert/1"'
expect 4 'what does not fit' "$ASSAY" convert "$work/ct" "$work/no" --to gptq
one_line; complains 'zero point of 0'; complains 'gptq_v2 holds it'; complains 'Exact targets:'
expect 0 'GGUF' "$ASSAY" convert "$work/awq" "$work/gguf" --to gguf
expect 0 'decoding' "$ASSAY" convert "$work/awq" "$work/plain" --to hf --dtype f32; says 'decoded, exactly'
expect 0 'decoding with a loss' "$ASSAY" convert "$work/awq" "$work/plain16" --to hf --dtype bf16; says 'changed'
expect 0 'again does nothing' "$ASSAY" convert "$work/awq" "$work/ct" --to compressed-tensors; says 'already held exactly this'
expect 2 'over something else' "$ASSAY" convert "$work/awq" "$work/ct" --to hqq; complains 'overwrite'
for f in tokenizer.json tokenizer_config.json generation_config.json; do
    cmp -s "models/demo/$f" "$work/ct/$f"; tap $? "$f travels along"
done

# the converted model computes what the source computes
"$ASSAY" run "$work/awq" 'Once upon a time' --max-tokens 24 --raw --activations f32 > "$work/a.txt" 2>/dev/null
"$ASSAY" run "$work/ct" 'Once upon a time' --max-tokens 24 --raw --activations f32 > "$work/b.txt" 2>/dev/null
[ -s "$work/a.txt" ] && cmp -s "$work/a.txt" "$work/b.txt"; tap $? 'both say the same'

# a full disk: the process may write no more than so much to one file
(ulimit -f 500; trap '' XFSZ; exec "$ASSAY" convert "$work/awq" "$work/full" --to hqq) > "$work/.stdout" 2> "$work/.stderr"
[ $? = 5 ]; tap $? 'a full disk is exit code 5'
[ -e "$work/full/model.safetensors" ] && tap 1 'and leaves no half file' || tap 0 'and leaves no half file'
expect 0 'with room again it goes on' "$ASSAY" convert "$work/awq" "$work/full" --to hqq

expect 0 'inspect tells runtimes' "$ASSAY" inspect "$work/awq" --runtimes; says 'vLLM'; says 'llama.cpp'; says 'native'; says 'read 2026-'
expect 0 'to gptq_v2' "$ASSAY" convert "$work/awq" "$work/v2" --to gptq_v2
sed -i 's/"gptq_v2"/"gptq"/' "$work/v2/config.json"
expect 0 'a version 2 file that says 1 is a trap' "$ASSAY" inspect "$work/v2"; says 'trap           version-claim'
done_testing
