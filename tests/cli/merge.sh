#!/bin/sh
# merge.sh: LoRA adapters merged and beside a model, on the tiny checkpoints of tests/golden.
. tests/cli/lib.sh

base=tests/golden/tiny/mistral lora=tests/golden/peft/lora
expect 0 'merge' "$ASSAY" merge $base $lora "$work/merged"; says '14 of 21 tensors merged'
expect 0 'again: nothing to do' "$ASSAY" merge $base $lora "$work/merged"; says 'already held exactly this'
expect 0 'what was merged inspects' "$ASSAY" inspect "$work/merged"; says 'MistralForCausalLM'
expect 0 'as JSON' "$ASSAY" merge $base $lora -o "$work/second" --json; says '"merged": 14'
expect 2 'without a folder to write' "$ASSAY" merge $base $lora; one_line; complains 'where to write'
expect 2 'into the model itself' "$ASSAY" merge $base $lora $base; one_line; complains "the model's own"
expect 2 'over something else' "$ASSAY" merge tests/golden/tiny/qwen3 tests/golden/peft/dora "$work/merged"; one_line; complains 'already holds'
expect 3 "another model's adapter" "$ASSAY" merge tests/golden/tiny/qwen3 $lora "$work/third"; one_line; complains 'made for another'
expect 3 'no adapter at all' "$ASSAY" merge $base $base "$work/third"; one_line; complains 'adapter_config.json'
expect 0 'a quantized base' "$ASSAY" quantize models/demo "$work/int8" -r rtn,int8
expect 4 'is refused' "$ASSAY" merge "$work/int8" $lora "$work/third"; one_line; complains 'is quantized'
expect 3 "beside a model it was not made for" "$ASSAY" run models/demo x --adapter $lora; one_line; complains 'made for another'
done_testing
