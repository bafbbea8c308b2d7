#!/bin/sh
# gguf.sh: a GGUF file stands wherever a model's folder does, and the way there and back changes nothing.
. tests/cli/lib.sh

expect 0 'to GGUF' "$ASSAY" convert models/demo "$work/g" --to gguf
mkdir "$work/alone" && mv "$work/g/model.gguf" "$work/alone/demo.gguf"
expect 0 'the file alone answers, with its own tokenizer and template' "$ASSAY" run "$work/alone/demo.gguf" 'What is 32 + 39?'; says '71'
expect 0 'so does its folder' "$ASSAY" run "$work/alone" 'What is 32 + 39?'; says '71'
expect 0 'inspect reads it' "$ASSAY" inspect "$work/alone/demo.gguf"; says 'LlamaForCausalLM'; says '38 tensors'; says '2048 tokens, begins with <|begin|>'
expect 0 'and back' "$ASSAY" convert "$work/alone/demo.gguf" "$work/back" --to hf --dtype bf16
expect 0 'to the same answers' "$ASSAY" compare models/demo "$work/back" 'What is 32 + 39?'; says 'answers are the same'
expect 0 'rounded to blocks' "$ASSAY" convert models/demo "$work/blocks" --to gguf:q8_0 --requantize
expect 0 'of a type that ggml has' "$ASSAY" inspect "$work/blocks/model.gguf"; says 'q8_0'
expect 0 'planned as they are' "$ASSAY" plan "$work/blocks/model.gguf" -d rtx-4090; says 'q8_0'; says 'computed +0.00 %'
expect 0 'which run' "$ASSAY" run "$work/blocks/model.gguf" 'What is 32 + 39?'; says '71'
expect 0 'in several files, too' "$ASSAY" convert models/demo "$work/split" --to gguf --shard-gb 0.003
expect 0 'the first of which is enough to name' sh -c "'$ASSAY' run \"\$(ls '$work'/split/model-00001-of-*.gguf)\" 'What is 32 + 39?'"; says '71'
expect 3 'a part alone is no model' sh -c "'$ASSAY' inspect \"\$(ls '$work'/split/model-00002-of-*.gguf)\""; complains 'name the first one'; one_line
head -c 5000 "$work/alone/demo.gguf" > "$work/cut.gguf"
expect 3 'a file that was cut short' "$ASSAY" inspect "$work/cut.gguf"; complains 'cut.gguf'; one_line
expect 3 'two models in a folder' sh -c "cp '$work/alone/demo.gguf' '$work/alone/other.gguf'; '$ASSAY' run '$work/alone' x"; complains 'several models'; one_line
done_testing
