#!/usr/bin/env python3
"""make_blocks.py: golden vectors for tests/precision/test_block.c: what ggml makes of small matrices in each of its block types.

    PYTHONPATH=... python make_blocks.py > blocks.json      (llama-cpp-python, gguf from PyPI; CPU)

Calls ggml_quantize_chunk (what llama-quantize calls) and the types' to_float functions in the wheel's libggml-base. Short rows are
listed (hex of float32); longer matrices come from the generator of lcg.py, which the test repeats, and their results
are given as SHA-256. Blocks of random bytes come from `noise`; NaNs in what they mean are made 7fc00000 before hashing.
"""
import ctypes, hashlib, importlib.metadata, json, math, os, sys
import numpy as np
from lcg import lcg
import gguf

f32 = np.float32
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
         "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "IQ1_M", "TQ1_0", "TQ2_0"]
NEED = {"IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"}  # ggml aborts without importance
COLS = 512

lib = ctypes.CDLL(os.path.join(os.path.dirname(importlib.metadata.distribution("llama_cpp_python").locate_file("llama_cpp/x")),
                               "lib", "libggml-base.so"))


class Traits(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleave", ctypes.c_int64), ("size", ctypes.c_size_t),
                ("quantized", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64))]


lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
lib.ggml_quantize_chunk.restype = ctypes.c_size_t
lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]


def number(name):
    return int(gguf.GGMLQuantizationType[name])


def row_bytes(name, cols):
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    return cols // elements * size


def quantize(name, w, importance):
    w = np.ascontiguousarray(w, f32)
    out = np.zeros(w.shape[0] * row_bytes(name, w.shape[1]), np.uint8)
    n = lib.ggml_quantize_chunk(number(name), w.ctypes.data, out.ctypes.data, 0, w.shape[0], w.shape[1],
                                None if importance is None else importance.ctypes.data)
    assert n == out.size
    return out


def dequantize(name, blocks):
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    out = np.empty(blocks.size // size * elements, f32)
    lib.ggml_get_type_traits(number(name)).contents.to_float(blocks.ctypes.data, out.ctypes.data, out.size)
    bits = out.view(np.uint32)
    bits[np.isnan(out)] = 0x7FC00000
    return bits


def noise(seed, n):
    x, out = seed, np.empty(n, np.uint8)
    for i in range(n):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = x >> 24
    return out


def weights(cols, seed):
    v = lcg(seed, cols, 1.0)
    return (v * v + f32(0.01)).astype(f32)


def rows():
    g = np.random.default_rng(20).standard_normal
    i = np.arange(COLS)
    outlier = g(COLS) * 0.01
    outlier[300] = 12.5
    yield "normal", g(COLS) * 0.05
    yield "heavy tails", g(COLS) ** 3
    yield "constant", np.full(COLS, 0.37)
    yield "zero", np.zeros(COLS)
    yield "minus zero", np.full(COLS, -0.0)
    yield "tiny", g(COLS) * 1e-7
    yield "subnormal", g(COLS) * 1e-41
    yield "huge", g(COLS) * 5e3
    yield "outlier", outlier
    yield "positive", abs(g(COLS))
    yield "negative", -1 - abs(g(COLS))
    yield "integers", np.round(g(COLS))
    yield "two values", np.where(i % 3, 0.5, -0.5)
    yield "scales apart", g(COLS) * 10.0 ** -(i // 32 % 6)
    yield "gaps", np.where(i // 32 % 2, g(COLS), 0)  # groups that are zero beside others


def sha(a):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


def main():
    importance, large, large_importance = weights(COLS, 5), lcg(9, 64 * 1024, 0.2).reshape(64, 1024), weights(1024, 6)
    out = {"made by": "tests/precision/golden/make_blocks.py, llama-cpp-python %s, gguf %s" %
           tuple(importlib.metadata.version(p) for p in ("llama_cpp_python", "gguf")),
           "cols": COLS, "importance_seed": 5, "rows": [], "types": []}
    listed = []
    for name, w in rows():
        w = np.asarray(w, f32)
        listed.append(w)
        out["rows"].append({"name": name, "w": w.tobytes().hex()})
    for t in TYPES:
        lib.ggml_quantize_init(number(t))
        entry = {"name": t.lower(), "plain": None, "importance": None}
        for kind, v, lv in (("plain", None, None), ("importance", importance, large_importance)):
            if v is None and t in NEED:
                continue
            # ggml puts the groups after a zero group of IQ3_S in the wrong place
            blocks = [None if t == "IQ3_S" and r["name"] == "gaps" else quantize(t, w[None], v) for r, w in zip(out["rows"], listed)]
            big = quantize(t, large, lv)
            entry[kind] = {"rows": [None if b is None else b.tobytes().hex() for b in blocks],
                           "values": [None if b is None else sha(dequantize(t, b)) for b in blocks],
                           "large": sha(big), "large_values": sha(dequantize(t, big))}
        entry["noise_values"] = sha(dequantize(t, noise(7, 64 * gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[t]][1])))
        out["types"].append(entry)
    json.dump(out, sys.stdout, indent=1)
    print()


main()
