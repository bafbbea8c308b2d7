# originals.sh, sourced: the Python originals that we are held to, pinned, in one place.
#
#   originals SET MODULES   leaves in $python an interpreter that can import MODULES ("torch, transformers"), all of the set
#
#   base      build/interop/venv, or ASSAY_INTEROP_VENV            runtimes and formats (about 3 GB)
#   methods   build/interop-methods/venv, or ASSAY_INTEROP_METHODS_VENV   quantizers (about 6 GB)
#
# An environment that was named and lacks something is told and ends the script (exit code 4): it is not ours to change. Else what is missing
# is installed; that needs python3-venv and PyPI, once. Two sets, because llm-compressor wants an older compressed-tensors.

install_base() { # PIP
    "$1" install -q torch==2.15.0 transformers==5.23.0 bitsandbytes==0.50.2 compressed-tensors==0.20.0 tokenizers==0.23.3 \
        sentencepiece==0.2.3 tiktoken==0.12.0 safetensors==0.8.0 accelerate==1.15.0 numpy==2.4.6 jinja2
}

# llm-compressor, GPTQModel, auto-round and AutoAWQ each pin torch or transformers more tightly than they need: installed without.
install_methods() { # PIP
    "$1" install -q torch==2.15.0 transformers==5.23.0 bitsandbytes==0.50.2 tokenizers==0.23.3 safetensors==0.8.0 accelerate==1.15.0 \
        numpy==2.4.6 datasets==5.2.0 &&
        "$1" install -q hqq==0.2.8.post1 auto-round==0.15.1 gptqmodel==7.7.0 torchao==0.18.0 &&
        "$1" install -q loguru pydantic pyyaml frozendict nvidia-ml-py &&
        "$1" install -q --no-deps llmcompressor==0.14.0.1 compressed-tensors==0.19.0 autoawq==0.2.9
}

originals() { # SET MODULES
    case $1 in
    base) named=${ASSAY_INTEROP_VENV:-} at=build/interop/venv variable=ASSAY_INTEROP_VENV ;;
    methods) named=${ASSAY_INTEROP_METHODS_VENV:-} at=build/interop-methods/venv variable=ASSAY_INTEROP_METHODS_VENV ;;
    esac
    python=${named:-$at}/bin/python
    "$python" -c "import $2" > /dev/null 2>&1 && return
    [ -z "$named" ] || { echo "$(basename "$0"): $named ($variable) lacks one of $2" >&2; exit 4; }
    echo "installing the originals into $at"
    python3 -m venv "$at" && "install_$1" "$at/bin/pip" && "$python" -c "import $2" > /dev/null 2>&1 || {
        echo "$(basename "$0"): cannot install the originals: python3-venv and PyPI are needed" >&2; exit 4; }
}
