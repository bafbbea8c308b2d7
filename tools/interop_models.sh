#!/bin/sh
# interop_models.sh PROGRAM: every architecture against transformers, on tiny random checkpoints (tools/interop_models.py).
#
# Installs it (pinned) into build/interop/venv on the first run, or uses ASSAY_INTEROP_VENV. Needs PyPI for the installation, nothing after.
# The environment: BUILD (of PROGRAM's build, set by make interop-models). MODELS="gemma2 phi3" takes these alone.
set -u
program=${1:?usage: interop_models.sh PROGRAM}
build=${BUILD:-$(dirname "$program")}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
venv=${ASSAY_INTEROP_VENV:-build/interop/venv}
out=build/interop/models

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import torch, transformers, safetensors' 2>/dev/null; then
    [ -z "${ASSAY_INTEROP_VENV:-}" ] || { echo "interop_models.sh: $venv lacks torch, transformers or safetensors" >&2; exit 4; }
    echo "installing the originals into $venv (about 3 GB)"
    python3 -m venv "$venv" && "$venv/bin/pip" install -q torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6 || {
        echo "interop_models.sh: cannot install the originals: python3-venv and PyPI are needed" >&2; exit 4; }
fi
rm -rf "$out"; mkdir -p "$out"
# shellcheck disable=SC2086
"$venv/bin/python" tools/interop_models.py "$build/logits" "$out" ${MODELS:-} 2>"$out/messages" || { tail -3 "$out/messages" >&2; exit 1; }
