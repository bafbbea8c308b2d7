#!/bin/sh
# interop_tokenizers.sh [GROUP...]: token ids, decoded texts and chat templates against tokenizers, sentencepiece, transformers and llama.cpp's
# test vectors (interop_tokenizers.py).
#
# Installs the originals (pinned) into build/interop-tokenizers/venv on the first run, or uses ASSAY_INTEROP_VENV (PYTHONPATH may add to it).
# The environment: BUILD (of encode_file and render_file, set by make), ASSAY_SHARED (folder with tokenizers and texts, default ../shared),
# ASSAY_TEMPLATES (a folder of further *.jinja chat templates, as llama.cpp's models/templates).
set -u
build=${BUILD:-build/release}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
shared=${ASSAY_SHARED:-../shared}
venv=${ASSAY_INTEROP_VENV:-build/interop-tokenizers/venv}
probe='import jinja2, sentencepiece, tiktoken, tokenizers, transformers'

[ -d "$shared/tokenizers" ] || { echo "tokenizers: skipped, $shared/tokenizers is absent (ASSAY_SHARED)"; exit 0; }
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c "$probe" >/dev/null 2>&1; then
    [ -z "${ASSAY_INTEROP_VENV:-}" ] || { echo "interop_tokenizers.sh: $venv lacks one of: ${probe#import }" >&2; exit 4; }
    echo "installing the originals into $venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install -q transformers==5.23.0 tokenizers==0.23.3 sentencepiece==0.2.3 tiktoken==0.12.0 jinja2 || {
        echo "interop_tokenizers.sh: cannot install the originals: python3-venv and PyPI are needed" >&2; exit 4; }
fi
exec "$venv/bin/python" tools/interop_tokenizers.py "$build" "$shared" build/interop-tokenizers "$@"
