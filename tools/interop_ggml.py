#!/usr/bin/env python3
"""interop_ggml.py PROGRAM OUT [MODEL]: quantizing to GGUF against llama.cpp's own quantizer.

MODEL (models/demo) is written as a GGUF in its own type by `assay convert`, and llama.cpp's llama_model_quantize makes every mix of it;
`assay quantize` makes the same from MODEL. Tensor by tensor: the types are the same, and so are the bytes.

  mixes    without an importance matrix
  imatrix  with one that `assay imatrix` computed, read by both; and the legacy kind of the same, written here
  rows     models whose rows no block of 256 (or of 32) divides: llama.cpp's fallbacks
  experts  a small Mixtral and a Qwen2-MoE, whose mixes have rules of their own

PROGRAM is assay, OUT a folder for what is made. Python needs torch, transformers, numpy, gguf 0.19, llama-cpp-python 0.3.36.
"""
import ctypes, json, os, shutil, struct, subprocess, sys
import numpy as np
import gguf
import llama_cpp

program, out = sys.argv[1:3]
model = sys.argv[3] if len(sys.argv) > 3 else "models/demo"
calibration = "models/demo/calibration.jsonl,samples=16,length=128"
failures = 0

FTYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15,
          "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq2_xxs": 19, "iq2_xs": 20, "q2_k_s": 21, "iq3_xs": 22, "iq3_xxs": 23, "iq1_s": 24, "iq4_nl": 25,
          "iq3_s": 26, "iq3_m": 27, "iq2_s": 28, "iq2_m": 29, "iq4_xs": 30, "iq1_m": 31, "tq1_0": 36, "tq2_0": 37, "f16": 1, "bf16": 32}
NEED = {"iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq1_s", "iq1_m", "iq3_xxs", "q2_k_s", "iq3_xs"}


ImatrixData = llama_cpp.llama_model_imatrix_data


def quiet(level, text, ctx):
    pass


log_callback = llama_cpp.llama_log_callback(quiet)
llama_cpp.llama_log_set(log_callback, ctypes.c_void_p(0))


def check(ok, what):
    global failures
    failures += not ok
    print(("ok      " if ok else "NOT OK  ") + what, flush=True)
    return ok


def assay(*args):
    r = subprocess.run([program, *args], capture_output=True, text=True)
    if r.returncode:
        raise RuntimeError(" ".join(args) + ": " + r.stderr.strip())


def folder(name):
    path = os.path.join(out, name)
    shutil.rmtree(path, ignore_errors=True)
    return path


def weights_of(path):
    """What llama-quantize makes of an importance matrix (tools/quantize/quantize.cpp: load_imatrix)."""
    sums, counts = {}, {}
    for t in gguf.GGUFReader(path).tensors:
        if t.name.endswith(".in_sum2"):
            sums[t.name[:-8]] = np.array(t.data, dtype=np.float32).reshape(-1)
        elif t.name.endswith(".counts"):
            counts[t.name[:-7]] = np.array(t.data, dtype=np.float32).reshape(-1)
    result = {}
    for name, s in sums.items():
        c = np.rint(counts[name]).astype(np.float32)
        rows = s.reshape(len(c), -1)
        result[name] = np.where(c[:, None] > 0, rows / np.where(c > 0, c, 1)[:, None], np.float32(1)).astype(np.float32).reshape(-1)
    return result


def theirs(source, mix, weights):
    path = os.path.join(out, "theirs.gguf")
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype = FTYPES[mix]
    p.nthread = 2
    if weights:
        data = (ImatrixData * (len(weights) + 1))()
        for i, (name, v) in enumerate(weights.items()):
            data[i] = ImatrixData(name.encode(), v.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), len(v))
        p.imatrix = ctypes.cast(data, ctypes.POINTER(ImatrixData))
    rc = llama_cpp.llama_model_quantize(source.encode(), path.encode(), ctypes.byref(p))
    return {t.name: t for t in gguf.GGUFReader(path).tensors} if rc == 0 else None


def compare(label, mix, source, model, weights=None, extra=()):
    reference = theirs(source, mix, weights)
    directory = folder("ours")
    try:
        assay("quantize", model, directory, "--recipe", "gguf," + mix, "--overwrite", *extra)
    except RuntimeError as e:
        return check(reference is None, f"{label} {mix}: both refuse" if reference is None else f"{label} {mix}: {e}")
    if reference is None:
        return check(False, f"{label} {mix}: llama.cpp refuses what we make")
    reader = gguf.GGUFReader(os.path.join(directory, "model.gguf"))
    ours = {t.name: t for t in reader.tensors}
    kinds = sorted({t.tensor_type.name for t in reference.values()})
    if ours.keys() != reference.keys():
        return check(False, f"{label} {mix}: tensors differ: {sorted(ours.keys() ^ reference.keys())[:4]}")
    types = [n for n in ours if ours[n].tensor_type != reference[n].tensor_type]
    if types:
        n = types[0]
        return check(False, f"{label} {mix}: {len(types)} types differ: {n} {ours[n].tensor_type.name}, llama.cpp {reference[n].tensor_type.name}")
    file_type = reader.fields["general.file_type"].contents()
    differ = [n for n in ours if ours[n].data.tobytes() != reference[n].data.tobytes()]
    blocks = sum(int((np.frombuffer(ours[n].data.tobytes(), np.uint8) != np.frombuffer(reference[n].data.tobytes(), np.uint8)).sum()) for n in differ)
    return check(not differ and file_type == FTYPES[mix],
                 f"{label} {mix}: {len(ours)} tensors, {' '.join(kinds)}" + (f"; {len(differ)} differ in {blocks} bytes, first {differ[0]}" if differ else ""))


def legacy(path, weights):
    """llama.cpp's older kind (tools/imatrix/imatrix.cpp: save_imatrix_legacy), of one call."""
    with open(path, "wb") as f:
        f.write(struct.pack("<i", len(weights)))
        for name, v in sorted(weights.items()):
            f.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, len(v)) + v.tobytes())
        f.write(struct.pack("<ii", 1, 4) + b"data")


def small(name, config):
    import torch, transformers
    path = folder(name)
    torch.manual_seed(1)
    m = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    m.to(torch.bfloat16).save_pretrained(path)
    for f in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join("models/demo", f), path)
    return path


def run(label, model, mixes, with_imatrix):
    base = folder(label + "-base")
    assay("convert", model, base, "--to", "gguf")
    source = os.path.join(base, "model.gguf")
    for mix in mixes:
        compare(label, mix, source, model)
    if not with_imatrix:
        return
    file = os.path.join(out, label + ".imatrix.gguf")
    assay("imatrix", model, "-c", calibration, "-o", file)
    weights = weights_of(file)
    for mix in mixes:
        compare(label + " imatrix", mix, source, model, weights, ("--imatrix", file))
    old = os.path.join(out, label + ".imatrix.dat")
    legacy(old, weights)
    compare(label + " legacy imatrix", "q4_k_m", source, model, weights, ("--imatrix", old))
    compare(label + " calibrated", "q4_k_m", source, model, weights, ("-c", calibration))


def main():
    os.makedirs(out, exist_ok=True)
    with_imatrix = "imatrix" in subprocess.run([program, "--help"], capture_output=True, text=True).stdout
    run("demo", model, list(FTYPES), with_imatrix)
    import transformers as T
    common = dict(vocab_size=2048, num_hidden_layers=9, num_attention_heads=4, max_position_embeddings=128, bos_token_id=0, eos_token_id=1,
                  initializer_range=0.2, tie_word_embeddings=False)
    few = ["q4_0", "q5_0", "q2_k", "q3_k_m", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k", "iq4_xs", "iq3_s", "iq3_m", "q8_0", "iq2_m", "iq1_s"]
    run("rows-96", small("rows-96", T.LlamaConfig(**common, hidden_size=96, intermediate_size=160, num_key_value_heads=2)), few, False)
    run("rows-40", small("rows-40", T.LlamaConfig(**common, hidden_size=40, intermediate_size=72, num_key_value_heads=4)), ["q4_k_m", "q8_0"], False)
    run("gqa", small("gqa", T.LlamaConfig(**common, hidden_size=256, intermediate_size=256, num_key_value_heads=1)), few, with_imatrix)
    run("mixtral", small("mixtral", T.MixtralConfig(**common, hidden_size=256, intermediate_size=256, num_key_value_heads=2, num_local_experts=8,
                                                    num_experts_per_tok=2, sliding_window=None)), few, with_imatrix)
    run("qwen2moe", small("qwen2moe", T.Qwen2MoeConfig(**{**common, "num_hidden_layers": 4}, hidden_size=256, intermediate_size=256, num_key_value_heads=2, num_experts=4,
                                                       num_experts_per_tok=2, moe_intermediate_size=256, shared_expert_intermediate_size=256)), few, with_imatrix)
    print(f"{failures} failures")
    return failures != 0


sys.exit(main())
