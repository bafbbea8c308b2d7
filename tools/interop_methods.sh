#!/bin/sh
# interop_methods.sh PROGRAM: the originals of the quantization methods and ours on the same models, calibration tokens, bits and groups: a
# table of held-out KL to the baseline, perplexity, seconds and peak memory. Exit code 1 when a row falls outside the limits.
#
# Installs the originals (pinned) into build/interop-methods/venv on the first run, or uses ASSAY_INTEROP_METHODS_VENV. What they
# give is cached in build/interop-methods/originals: FRESH=1 measures them again. ONLY=PATTERN takes the rows whose "MODEL METHOD BITS" it
# matches. The environment: BUILD (set by make), ASSAY_SHARED (folder with stories260K and its texts, default ../shared; without it the
# demo model alone is compared).
set -u
program=${1:?usage: interop_methods.sh PROGRAM}
build=${BUILD:-$(dirname "$program")}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
venv=${ASSAY_INTEROP_METHODS_VENV:-build/interop-methods/venv}
probe='import auto_round, bitsandbytes, compressed_tensors, datasets, gptqmodel, hqq, llmcompressor, torch, transformers'

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c "$probe" >/dev/null 2>&1; then
    [ -z "${ASSAY_INTEROP_METHODS_VENV:-}" ] || { echo "interop_methods.sh: $venv lacks one of: ${probe#import }" >&2; exit 4; }
    echo "installing the originals into $venv (about 6 GB)"
    # llm-compressor, GPTQModel and auto-round each pin torch or transformers more tightly than they need: installed without their dependencies.
    python3 -m venv "$venv" && "$venv/bin/pip" install -q torch==2.15.0 transformers==5.23.0 bitsandbytes==0.50.2 tokenizers==0.23.3 \
        safetensors==0.8.0 accelerate==1.15.0 numpy==2.4.6 datasets==5.2.0 &&
        "$venv/bin/pip" install -q hqq==0.2.8.post1 auto-round==0.15.1 gptqmodel==7.7.0 torchao==0.18.0 &&
        "$venv/bin/pip" install -q loguru pydantic pyyaml frozendict nvidia-ml-py &&
        "$venv/bin/pip" install -q --no-deps llmcompressor==0.14.0.1 compressed-tensors==0.19.0 || {
        echo "interop_methods.sh: cannot install the originals: python3-venv and PyPI are needed" >&2; exit 4; }
fi
[ -z "${FRESH:-}" ] || rm -rf build/interop-methods/originals
exec "$venv/bin/python" tools/interop_methods.py table "$program" "$build/kl" ${ONLY:+--only "$ONLY"}
