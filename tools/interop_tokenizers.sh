#!/bin/sh
# interop_tokenizers.sh [GROUP...]: token ids, decoded texts and chat templates against tokenizers, sentencepiece, transformers and llama.cpp's
# test vectors (interop_tokenizers.py).
#
# tools/originals.sh installs them on the first run (PYTHONPATH may add to them).
# The environment: BUILD (of encode_file and render_file, set by make), ASSAY_SHARED (folder with tokenizers and texts, default ../shared),
# ASSAY_TEMPLATES (a folder of further *.jinja chat templates, as llama.cpp's models/templates).
set -u
build=${BUILD:-build/release}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
shared=${ASSAY_SHARED:-../shared}
[ -d "$shared/tokenizers" ] || { echo "tokenizers: skipped, $shared/tokenizers is absent (ASSAY_SHARED)"; exit 0; }
. tools/originals.sh
originals base 'jinja2, sentencepiece, tiktoken, tokenizers, transformers'
exec "$python" tools/interop_tokenizers.py "$build" "$shared" build/interop-tokenizers "$@"
