#!/bin/sh
# usage.sh: what a new user types wrong, and what every command promises: help, one line of complaint, the right exit code.
. tests/cli/lib.sh

expect 2 'no command shows the overview' "$ASSAY"; complains 'usage: assay COMMAND'; silent
expect 0 'help lists the commands' "$ASSAY" help; says 'study'; says 'exit codes'
expect 0 '--help is help' "$ASSAY" --help; says 'usage: assay COMMAND'
expect 0 '--version' "$ASSAY" --version; says 'assay 0.'
expect 0 '--version --json tells the build' "$ASSAY" --version --json; says '"kernels"'
expect 2 'a misspelt command' "$ASSAY" quantise; complains "did you mean 'quantize'?"; one_line; silent
expect 2 'a misspelt option' "$ASSAY" inspect models/demo --tensor; complains "did you mean '--tensors'?"; one_line
expect 2 'a missing argument' "$ASSAY" inspect; complains 'usage: assay inspect MODEL'; one_line
expect 2 'too many arguments' "$ASSAY" inspect a b; complains 'too many arguments'; one_line
expect 2 'a value that is no number' "$ASSAY" run models/demo x --max-tokens many; complains 'wants a whole number'; one_line
expect 2 'a value out of range' "$ASSAY" run models/demo x --top-p 2; complains 'from 0 to 1'; one_line
expect 2 'a word that is none of the list' "$ASSAY" run models/demo x --activations int3; complains 'auto, f32, bf16, f16, int8'; one_line
expect 2 'quantize without a place' "$ASSAY" quantize models/demo; complains 'say where to write'; one_line
expect 2 'quantize without a recipe' "$ASSAY" quantize models/demo "$work/x"; complains 'no recipe'; one_line
expect 2 'eval without a suite' "$ASSAY" eval models/demo; complains '--suite'; one_line
for c in study inspect quantize run compare eval gate plan bench report; do
    expect 0 "$c --help" "$ASSAY" "$c" --help; says "usage: assay $c"; says '--json'
done
expect 0 'man pages from the same tables' sh -c "mkdir $work/man && '$ASSAY' help --man $work/man && ls $work/man"; says 'assay-quantize.1'; says 'assay.1'
if command -v man > /dev/null; then
    expect 0 'man renders them without a warning' sh -c "LC_ALL=C.UTF-8 man --warnings -l $work/man/assay-quantize.1 2>&1 >/dev/null | grep . && exit 1 || exit 0"
else skip 'man renders them' 'no man program'; fi
expect 0 'completion is valid bash' sh -c "'$ASSAY' completion bash | bash -n"
expect 0 'a reader that has enough is none' sh -c "{ '$ASSAY' plan models/demo --json; echo \$? > $work/piped; } | true; exit \$(cat $work/piped)"; silent
expect 5 'a full stdout is an error' sh -c "'$ASSAY' inspect models/demo > /dev/full"
done_testing
