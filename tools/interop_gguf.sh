#!/bin/sh
# interop_gguf.sh PROGRAM: GGUF files of every architecture against llama.cpp, both ways (tools/interop_gguf.py), and
# quantizing to GGUF against llama.cpp's quantizer (tools/interop_ggml.py; not when architectures are named).
#
# Uses torch and transformers (tools/originals.sh), and beside them gguf and llama-cpp-python, which are installed into
# build/interop-gguf/python when ASSAY_INTEROP_GGUF names no folder that has them (the second is compiled: about ten minutes). Its source
# package holds llama.cpp with its converter; LLAMA_CPP names a tree of it that is there already.
# The environment: BUILD (of PROGRAM's build).
set -u
program=${1:?usage: interop_gguf.sh PROGRAM}; shift
build=${BUILD:-$(dirname "$program")}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
work=build/interop-gguf
packages=${ASSAY_INTEROP_GGUF:-$work/python}
. tools/originals.sh
originals base 'torch, transformers, safetensors'
mkdir -p "$work"
if ! PYTHONPATH=$packages "$python" -c 'import gguf, llama_cpp' 2> /dev/null; then
    echo "installing gguf and llama-cpp-python into $packages"
    "$python" -m pip install -q --target "$packages" --no-deps gguf==0.19.0 llama-cpp-python==0.3.36 diskcache jinja2 typing_extensions || {
        echo "interop_gguf.sh: cannot install them: PyPI, cmake and a C++ compiler are needed" >&2; exit 4; }
fi
if [ -z "${LLAMA_CPP:-}" ]; then
    LLAMA_CPP=$work/source/vendor/llama.cpp
    [ -d "$LLAMA_CPP" ] || {
        "$python" -m pip download -q --no-deps --no-binary :all: --no-build-isolation -d "$work" llama-cpp-python==0.3.36 && mkdir -p "$work/source" &&
            tar xzf "$work"/llama_cpp_python-*.tar.gz -C "$work/source" --strip-components=1 || {
            echo "interop_gguf.sh: no source of llama.cpp: its converter is not compared" >&2; LLAMA_CPP=; }
    }
fi
export LLAMA_CPP PYTHONPATH="$packages" TRANSFORMERS_VERBOSITY=error
"$python" tools/interop_gguf.py "$program" "$build/logits" "$work/files" "$@"; failed=$?
[ $# -gt 0 ] || "$python" tools/interop_ggml.py "$program" "$work/quantized" || failed=1
exit $failed
