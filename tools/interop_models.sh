#!/bin/sh
# interop_models.sh PROGRAM: every architecture against transformers, on tiny random checkpoints (tools/interop_models.py).
#
# tools/originals.sh installs it on the first run.
# The environment: BUILD (of PROGRAM's build, set by make interop-models). MODELS="gemma2 phi3" takes these alone.
set -u
program=${1:?usage: interop_models.sh PROGRAM}
build=${BUILD:-$(dirname "$program")}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
out=build/interop/models

. tools/originals.sh
originals base 'torch, transformers, safetensors'
rm -rf "$out"; mkdir -p "$out"
# shellcheck disable=SC2086
"$python" tools/interop_models.py "$build/logits" "$out" ${MODELS:-} 2>"$out/messages" || { tail -3 "$out/messages" >&2; exit 1; }
