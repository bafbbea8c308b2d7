#!/bin/sh
# hf.sh: a GGUF file on its own becomes a checkpoint with a tokenizer, whatever command makes it.
. tests/cli/lib.sh

expect 0 'a GGUF file' "$ASSAY" convert models/demo "$work/gguf" --to gguf
mkdir "$work/alone" && cp "$work/gguf/model.gguf" "$work/alone/"
expect 0 'to safetensors' "$ASSAY" convert "$work/alone/model.gguf" "$work/hf" --to hf
for f in tokenizer.json tokenizer_config.json; do [ -s "$work/hf/$f" ]; tap $? "$f is written"; done
"$ASSAY" run "$work/alone" 'Once upon a time' --max-tokens 12 --raw > "$work/a.txt" 2>/dev/null
"$ASSAY" run "$work/hf" 'Once upon a time' --max-tokens 12 --raw > "$work/b.txt" 2>/dev/null
[ -s "$work/a.txt" ] && cmp -s "$work/a.txt" "$work/b.txt"; tap $? 'both say the same'
expect 0 'quantized' "$ASSAY" quantize "$work/alone" "$work/int8" -r rtn,int8
cmp -s "$work/hf/tokenizer.json" "$work/int8/tokenizer.json"; tap $? 'quantize writes the same tokenizer'
mkdir "$work/odd" && LC_ALL=C sed 's/gpt2/gpt9/' "$work/alone/model.gguf" > "$work/odd/model.gguf" # a vocabulary that nobody knows
expect 0 'one that is not known is left out' "$ASSAY" convert "$work/odd" "$work/odd-hf" --to hf; complains 'no tokenizer.json is written'
expect 0 'and so it is when quantizing' "$ASSAY" quantize "$work/odd" "$work/odd-int8" -r rtn,int8; complains 'no tokenizer.json is written'
[ ! -e "$work/odd-int8/tokenizer.json" ]; tap $? 'nothing stands in for it'
[ -e "$work/gguf/tokenizer.json" ]; tap $? 'beside a GGUF file the original travels'
expect 0 'out of such a folder' "$ASSAY" convert "$work/gguf" "$work/copied" --to hf
cmp -s models/demo/tokenizer.json "$work/copied/tokenizer.json"; tap $? 'it is the original again'
done_testing
