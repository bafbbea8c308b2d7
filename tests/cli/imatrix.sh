#!/bin/sh
# imatrix.sh: an importance matrix, what it is for, and quantizing to GGUF by name.
. tests/cli/lib.sh

data=models/demo/calibration.jsonl,samples=8,length=64
expect 2 'without data' "$ASSAY" imatrix models/demo "$work/i.gguf"; complains 'no calibration data'; one_line
expect 2 'without a place' "$ASSAY" imatrix models/demo -c "$data"; complains 'say where to write'
expect 0 'computed' "$ASSAY" imatrix models/demo "$work/i.gguf" -c "$data" -q; says '28 matrices, 512 tokens'
expect 1 'what lay beside it meanwhile is gone' test -e "$work/i.gguf.work"
expect 2 'the smallest types want one' "$ASSAY" quantize models/demo "$work/none" -r gguf,iq2_xs; complains 'needs an importance matrix'; one_line
expect 0 'and take it' "$ASSAY" quantize models/demo "$work/iq2" -r gguf,IQ2_XS --imatrix "$work/i.gguf" -q; says 'recipe         gguf iq2_xs, gguf convention'
expect 0 'a mix' "$ASSAY" quantize models/demo "$work/q4" -r gguf,q4_k_m -q; says '5.059 bits per weight'
expect 0 'has the types of that name' "$ASSAY" inspect "$work/q4"; says 'q4_k'; says 'q6_k'
expect 0 'which run' "$ASSAY" run "$work/q4/model.gguf" 'What is 32 + 39?'; says '71'
expect 0 'planned as it comes out' "$ASSAY" plan models/demo -r gguf,q4_k_m; says '5.059'
expect 3 'another file' "$ASSAY" quantize models/demo "$work/x" -r gguf,q4_0 --imatrix models/demo/model.safetensors; complains 'no importance matrix'; one_line
expect 2 'another method' "$ASSAY" quantize models/demo "$work/x" -r rtn,int8 --imatrix "$work/i.gguf"; complains 'for method gguf alone'; one_line
done_testing
