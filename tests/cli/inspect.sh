#!/bin/sh
# inspect.sh: a checkpoint as a person and as a program see it; and what a broken one says.
. tests/cli/lib.sh

expect 0 'inspect the demo model' "$ASSAY" inspect models/demo
says 'LlamaForCausalLM, 3.672 million parameters'; says 'layers         4'; says '8 heads, 4 KV heads'; says 'bf16'; says 'tied embeddings'
says 'chat template  yes'; says '16.000'
expect 0 'as JSON' "$ASSAY" inspect models/demo --json; says '"schema": "assay.inspect/1"'; says '"parameters": 3672320'
expect 0 'every tensor' "$ASSAY" inspect models/demo --tensors; says 'model.layers.3.mlp.down_proj.weight'; says '256 x 768'
expect 3 'a folder that is not there' "$ASSAY" inspect "$work/nothing"; one_line; complains "$work/nothing"
expect 3 'a file instead of its folder' "$ASSAY" inspect models/demo/model.safetensors; one_line; complains 'give the folder'
mkdir "$work/empty"
expect 3 'a folder without a model' "$ASSAY" inspect "$work/empty"; one_line; complains 'config.json'

broken() { rm -rf "$work/m"; cp -r models/demo "$work/m"; chmod -R u+w "$work/m"; }
broken; echo '{' > "$work/m/config.json"
expect 3 'broken config.json' "$ASSAY" inspect "$work/m"; one_line; complains 'config.json: line'
broken; sed -i 's/LlamaForCausalLM/WhaleForCausalLM/; s/"llama"/"whale"/' "$work/m/config.json"
expect 4 'an unknown architecture' "$ASSAY" inspect "$work/m"; one_line; complains 'WhaleForCausalLM'; complains 'LlamaForCausalLM'
broken; sed -i 's/"intermediate_size": 768/"intermediate_size": 512/' "$work/m/config.json"
expect 3 'a wrong shape' "$ASSAY" inspect "$work/m"; one_line; complains 'gate_proj'; complains '768'
broken; sed -i 's/"num_hidden_layers": 4/"num_hidden_layers": 5/' "$work/m/config.json"
expect 3 'a missing tensor' "$ASSAY" inspect "$work/m"; one_line; complains 'model.layers.4.'
broken; truncate -s 1000000 "$work/m/model.safetensors"
expect 3 'truncated weights' "$ASSAY" inspect "$work/m"; one_line; complains 'model.safetensors'
broken; printf '\377\377\377\377\377\377\377\177' | dd of="$work/m/model.safetensors" conv=notrunc status=none
expect 3 'a lying header' "$ASSAY" inspect "$work/m"; one_line; complains 'header'
broken; : > "$work/m/model.safetensors"
expect 3 'an empty file' "$ASSAY" inspect "$work/m"; one_line; complains 'model.safetensors'
broken; rm "$work/m/tokenizer.json"
expect 0 'a missing tokenizer is told, not fatal here' "$ASSAY" inspect "$work/m"; says 'tokenizer      none usable'
expect 3 'but it is when running' "$ASSAY" run "$work/m" hello; one_line; complains 'tokenizer.json'
broken; echo '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": [["a"]]}}' > "$work/m/tokenizer.json"
expect 3 'a broken tokenizer' "$ASSAY" run "$work/m" hello; one_line; complains 'tokenizer.json'
# NaN: the first element of a decoder matrix (bf16 0x7fc0), wherever the header says it lies
broken
at=$(head -c 200000 "$work/m/model.safetensors" | tr -d '\0' | grep -ao '"model.layers.0.self_attn.q_proj.weight": *{[^}]*' | grep -o 'data_offsets": *\[[0-9]*' | grep -o '[0-9]*$')
n=$(od -An -tu8 -N8 "$work/m/model.safetensors" | tr -d ' ')
printf '\300\177' | dd of="$work/m/model.safetensors" bs=1 seek=$((8 + n + at)) conv=notrunc status=none
expect 3 'a NaN weight stops quantizing' "$ASSAY" quantize "$work/m" "$work/q" -r rtn,int8; one_line; complains 'q_proj'; complains 'NaN'
expect 3 'and running' "$ASSAY" run "$work/m" hello; one_line; complains 'q_proj'
expect 3 'a model that is not there' "$ASSAY" run nosuch x; one_line; complains "there is no model at 'nosuch'"
for c in inspect run plan "quantize -r rtn,int4 -o $work/y" "convert --to gguf -o $work/y" "bench"; do
    expect 3 "$c of a file that is no model" "$ASSAY" $c models/demo/model.safetensors; one_line; complains 'give the folder'
done
done_testing
