#!/usr/bin/env python3
"""make_gguf_mixes.py OUT: types of every mix for the shapes of known models, from llama.cpp's own quantizer.

llama_model_quantize runs dry on files that have a header and no data; what it logs per tensor is gathered by kind of tensor:
"MODEL MIX blind: KIND count type count type ...; KIND ..." in the order of layers, and a line "seen" where an importance matrix changes
something. Made with llama-cpp-python 0.3.36 and gguf 0.19.0; test_gguf.c has the same models.
"""
import ctypes, os, re, sys
import numpy as np
import gguf, llama_cpp
FTYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15,
          "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq2_xxs": 19, "iq2_xs": 20, "q2_k_s": 21, "iq3_xs": 22, "iq3_xxs": 23, "iq1_s": 24, "iq4_nl": 25,
          "iq3_s": 26, "iq3_m": 27, "iq2_s": 28, "iq2_m": 29, "iq4_xs": 30, "iq1_m": 31, "tq1_0": 36, "tq2_0": 37}
# name, arch, layers, hidden, heads, kv, ff, vocab, experts, tied
MODELS = [("llama-3.1-8b", "llama", 32, 4096, 32, 8, 14336, 128256, 0, False), ("llama-2-13b", "llama", 40, 5120, 40, 40, 13824, 32000, 0, False),
          ("llama-3.1-70b", "llama", 80, 8192, 64, 8, 28672, 128256, 0, False), ("mixtral-8x7b", "llama", 32, 4096, 32, 8, 14336, 32000, 8, False),
          ("qwen2.5-7b", "qwen2", 28, 3584, 28, 4, 18944, 152064, 0, False), ("qwen2.5-0.5b", "qwen2", 24, 896, 14, 2, 4864, 151936, 0, True),
          ("qwen3-30b-a3b", "qwen3moe", 48, 2048, 32, 4, 768, 151936, 128, False)]
lines = []
def log(level, text, ctx):
    lines.append(text.decode(errors="replace"))
cb = llama_cpp.llama_log_callback(log)
llama_cpp.llama_log_set(cb, ctypes.c_void_p(0))
D = llama_cpp.llama_model_imatrix_data
def build(m, path):
    name, arch, L, h, nh, kv, ff, vocab, ex, tied = m
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(L); w.add_context_length(4096); w.add_embedding_length(h); w.add_feed_forward_length(ff); w.add_head_count(nh)
    w.add_head_count_kv(kv); w.add_layer_norm_rms_eps(1e-5); w.add_rope_dimension_count(h // nh if arch != "qwen3moe" else 128); w.add_vocab_size(vocab)
    hd = h // nh
    if arch == "qwen3moe": w.add_key_length(128); w.add_value_length(128); hd = 128; w.add_expert_feed_forward_length(ff)
    if ex: w.add_expert_count(ex); w.add_expert_used_count(2)
    w.add_file_type(1)
    def t(n, *shape):
        w.add_tensor_info(n, shape, np.dtype(np.float16), int(np.prod(shape)) * 2, gguf.GGMLQuantizationType.F16)
    t("token_embd.weight", vocab, h)
    if not tied: t("output.weight", vocab, h)
    for i in range(L):
        p = f"blk.{i}."
        t(p + "attn_q.weight", nh * hd, h); t(p + "attn_k.weight", kv * hd, h); t(p + "attn_v.weight", kv * hd, h); t(p + "attn_output.weight", h, nh * hd)
        if ex:
            t(p + "ffn_gate_exps.weight", ex, ff, h); t(p + "ffn_up_exps.weight", ex, ff, h); t(p + "ffn_down_exps.weight", ex, h, ff)
        else:
            t(p + "ffn_gate.weight", ff, h); t(p + "ffn_up.weight", ff, h); t(p + "ffn_down.weight", h, ff)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_ti_data_to_file(); w.close()
    total = 0
    for ts in w.tensors:
        for x in ts.values(): total += (x.nbytes + 31) // 32 * 32
    size = (os.path.getsize(path) + 31) // 32 * 32
    os.truncate(path, size + total)
def types(path, mix, seen):
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype = FTYPES[mix]; p.dry_run = True; p.nthread = 1
    if seen:
        one = np.ones(1, np.float32)
        d = (D * 2)(); d[0] = D(b"none", one.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), 1)
        p.imatrix = ctypes.cast(d, ctypes.POINTER(D))
    lines.clear()
    rc = llama_cpp.llama_model_quantize(path.encode(), (path + ".none").encode(), ctypes.byref(p))
    text = "".join(lines)
    assert rc == 0, text[-2000:]
    out = {}
    for n, ty in re.findall(r"\[ *\d+/ *\d+\] +(\S+) +- \[.*?\], type = +f16, [^\n]*?size = +[\d.]+ MiB -> +[\d.]+ MiB \((\S+)\)", text):
        out[n] = ty.lower()
    return out
def short(t):
    kinds = {}
    for n, ty in t.items():
        k = re.sub(r"^blk\.\d+\.", "", n)[:-len(".weight")]
        layer = int(n.split(".")[1]) if n.startswith("blk.") else 0
        kinds.setdefault(k, {})[layer] = ty
    parts = []
    for k in sorted(kinds):
        runs = []
        for layer in sorted(kinds[k]):
            if runs and runs[-1][1] == kinds[k][layer]: runs[-1][0] += 1
            else: runs.append([1, kinds[k][layer]])
        parts.append(k + "".join(f" {c} {ty}" for c, ty in runs))
    return "; ".join(parts)
with open(sys.argv[1], "w") as f:
    for m in MODELS:
        path = sys.argv[1] + ".shape"
        build(m, path)
        for mix in FTYPES:
            a, b = short(types(path, mix, False)), short(types(path, mix, True))
            f.write(f"{m[0]} {mix} blind: {a}\n")
            if a != b: f.write(f"{m[0]} {mix} seen: {b}\n")
        os.unlink(path)
