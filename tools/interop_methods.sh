#!/bin/sh
# interop_methods.sh PROGRAM: the originals of the quantization methods and ours on the same models, calibration tokens, bits and groups: a
# table of held-out KL to the baseline, perplexity, seconds and peak memory. Exit code 1 when a row falls outside the limits.
#
# tools/originals.sh installs them on the first run. What they give is cached in build/interop-methods/originals: FRESH=1 measures them
# again. ONLY=PATTERN takes the rows whose "MODEL METHOD BITS" it matches. The environment: BUILD (set by make), ASSAY_SHARED (folder with stories260K and its texts, default ../shared; without it the
# demo model alone is compared).
set -u
program=${1:?usage: interop_methods.sh PROGRAM}
build=${BUILD:-$(dirname "$program")}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
. tools/originals.sh
originals methods 'auto_round, bitsandbytes, compressed_tensors, datasets, gptqmodel, hqq, llmcompressor, torch, transformers'
[ -z "${FRESH:-}" ] || rm -rf build/interop-methods/originals
exec "$python" tools/interop_methods.py table "$program" "$build/kl" ${ONLY:+--only "$ONLY"}
