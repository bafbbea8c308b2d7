#!/usr/bin/env python3
"""make_precision.py: golden vectors for tests/precision: what bitsandbytes and compressed-tensors make of small matrices.

    python make_precision.py > precision.json      (torch, bitsandbytes, compressed-tensors from PyPI; CPU)

Inputs are either listed (hex of float32) or made by the generator `lcg` below, which test_precision.c repeats. Large results
are given as SHA-256. Sums run on one thread, because torch's depend on the number of threads.
"""
import hashlib, json, os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import torch
import bitsandbytes
import bitsandbytes.functional as F
import compressed_tensors
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import quantize, fake_quantize
from compressed_tensors.quantization.utils import calculate_qparams

torch.set_num_threads(1)
f32 = np.float32
LISTED = int(os.environ.get("LISTED", "400"))  # bytes up to which a result is listed rather than hashed
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def lcg(seed, n, amplitude):
    x, out = seed, np.empty(n, f32)
    for i in range(n):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        v = f32(f32((x >> 8) - 8388608) * f32(2.0 ** -23))
        out[i] = f32(f32(v * v) * v) * f32(amplitude)
    return out


def hexed(a, dtype):
    raw = np.ascontiguousarray(a).astype(dtype).tobytes()
    return raw.hex() if len(raw) <= LISTED else "sha256:" + hashlib.sha256(raw).hexdigest()


def inputs():
    yield "plain", dict(rows=6, cols=256, dtype="BF16", seed=1, amplitude=0.08)
    yield "wide", dict(rows=40, cols=1000, dtype="BF16", seed=2, amplitude=0.5)
    yield "large", dict(rows=128, cols=768, dtype="F32", seed=3, amplitude=0.1)
    yield "odd", dict(rows=3, cols=33, dtype="F16", seed=4, amplitude=1.0)
    yield "ragged", dict(rows=5, cols=200, dtype="F32", seed=5, amplitude=2.0)
    outliers = lcg(6, 4 * 128, 0.02)
    outliers[[3, 130, 131, 300]] = [12.5, -90.0, 30000.0, -6.0]
    yield "outliers", dict(rows=4, cols=128, dtype="BF16", values=outliers)
    zeros = lcg(7, 6 * 128, 0.1)
    zeros[0:128] = 0
    zeros[192:256] = -0.0
    zeros[256:320] = 1e-40 * np.arange(64)
    zeros[320:384] = 3e-39
    zeros[384:512] = np.abs(zeros[384:512])
    zeros[512:640] = -np.abs(zeros[512:640])
    yield "zeros", dict(rows=6, cols=128, dtype="F32", values=zeros)
    bounds = []
    for kind in ("nf4", "fp4"):
        t = np.sort(F.get_4bit_type(kind, device="cpu").numpy())
        mid = ((t[:-1] + t[1:]) / 2).astype(f32)
        for m in mid:
            bounds += [m, np.nextafter(m, f32(-9)), np.nextafter(m, f32(9))]
        bounds += list(t)
    ties = np.zeros(4 * 128, f32)
    ties[: len(bounds)] = bounds
    ties[63] = 1.0                       # the first blocks' absmax is 1, so the midpoints are met exactly
    ties[127] = -1.0
    ties[128:256] = (np.arange(128) - 64) / 16 * 1.0
    ties[256:384] = (np.arange(128) - 64) / 8 * 0.46875   # 7.5 steps: sym int4 half-way points
    ties[384:512] = (np.arange(128)) / 8                # asym grid half-way points
    yield "ties", dict(rows=4, cols=128, dtype="F32", values=ties)
    alike = np.full(256, 0.25, f32)      # all block scales equal: their double quantization sees only zeros
    yield "alike", dict(rows=2, cols=128, dtype="F32", values=alike)


def tensor_of(i):
    v = i["values"] if "values" in i else lcg(i["seed"], i["rows"] * i["cols"], i["amplitude"])
    return torch.from_numpy(v.astype(f32).reshape(i["rows"], i["cols"]).copy()).to(DTYPES[i["dtype"]])


def codebook_case(name, x, kind, block, nested):
    q, s = F.quantize_4bit(x, blocksize=block, quant_type=kind, compress_statistics=nested)
    b = q.numpy().reshape(-1)
    codes = np.stack([b >> 4, b & 15], 1).reshape(-1)[: x.numel()]
    case = dict(encoder="codebook", input=name, kind=kind, block=block, nested=nested, codes=hexed(codes, np.uint8))
    if nested:
        case |= dict(nested_codes=hexed(s.absmax.numpy(), np.uint8), nested_absmax=hexed(s.state2.absmax.numpy(), f32),
                     offset=hexed(s.offset.numpy().reshape(1), f32))
        scales = F.dequantize_blockwise(s.absmax, s.state2) + s.offset
    else:
        scales = s.absmax
    case["scales"] = hexed(scales.numpy(), f32)
    # Dequantized with torch's own float32 operations, which is what the generic kernel does.
    table = s.code
    flat = table[torch.from_numpy(codes.astype(np.int64))]
    case["decoded"] = hexed((flat * scales.repeat_interleave(block)[: x.numel()]).numpy(), f32)
    return case


def ct_args(bits, symmetric, group):
    return QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, strategy="group" if group else "channel",
                            group_size=group or None)


def by_group(x, group):
    return x.unflatten(-1, (-1, group)) if group else x.unsqueeze(1)


def clip(x, args, group):
    """llm-compressor's _grid_search_eager (observers/mse_quant.py), in float32."""
    v = by_group(x, group)
    lo, hi = v.amin(-1), v.amax(-1)
    best = torch.full_like(lo, torch.finfo(lo.dtype).max)
    best_lo, best_hi, idle = lo.clone(), hi.clone(), 0
    token = args.model_copy(update={"strategy": "token"})
    for i in range(20):
        p = 1 - i / 100.0
        a, b = lo * p, hi * p
        scale, zero = calculate_qparams(a, b, args)
        q = fake_quantize(v, scale.unsqueeze(-1), zero.unsqueeze(-1), token)
        err = (q - v).abs().pow(2.4).sum(-1)
        better = err < best
        if better.any():
            best[better], best_lo[better], best_hi[better], idle = err[better], a[better], b[better], 0
        else:
            idle += 1
            if idle >= 5:
                break
    return best_lo, best_hi


def int_case(name, x, bits, symmetric, group, mse):
    args = ct_args(bits, symmetric, group)
    lo, hi = clip(x, args, group) if mse else (by_group(x, group).amin(-1), by_group(x, group).amax(-1))
    scale, zero = calculate_qparams(lo, hi, args)
    q = quantize(x.float(), scale.float(), zero, args, dtype=torch.int8)
    case = dict(encoder="int", input=name, bits=bits, symmetric=symmetric, group=group, mse=mse,
                codes=hexed(q.numpy().astype(np.int16) + (1 << (bits - 1)), np.uint8), scales=hexed(scale.float().numpy(), f32))
    if not symmetric:
        case["zeros"] = hexed(zero.numpy().astype(np.int16) + (1 << (bits - 1)), np.uint8)
    return case


def int8_case(name, x):
    q, scb, _ = F.int8_vectorwise_quant(x.to(torch.float16))
    return dict(encoder="absmax", input=name, codes=hexed(q.numpy().astype(np.int16) + 128, np.uint8), scb=hexed(scb.numpy(), f32))


def main():
    doc = dict(made_by="make_precision.py", torch=torch.__version__, bitsandbytes=bitsandbytes.__version__,
               compressed_tensors=compressed_tensors.__version__, inputs={}, cases=[])
    doc["dynamic_map"] = hexed(F.create_dynamic_map().numpy(), f32)
    doc["tables"] = {k: hexed(F.get_4bit_type(k, device="cpu").numpy(), f32) for k in ("nf4", "fp4")}
    for name, i in inputs():
        x = tensor_of(i)
        entry = {k: v for k, v in i.items() if k != "values"}
        if "values" in i:
            entry["values"] = x.float().numpy().tobytes().hex()
        doc["inputs"][name] = entry
        for kind in ("nf4", "fp4"):
            for block, nested in ((64, False), (64, True), (128, True), (4096, False)):
                doc["cases"].append(codebook_case(name, x, kind, block, nested))
        for bits in range(2, 9):
            for symmetric in (True, False):
                for group in (0, 32, 64, 128):
                    if group and i["cols"] % group:
                        continue
                    if group == 32 and name == "large":
                        continue
                    doc["cases"].append(int_case(name, x, bits, symmetric, group, False))
        if i["dtype"] == "F32" and name != "zeros":
            for bits, symmetric, group in ((4, True, 128), (3, False, 64), (8, True, 0), (2, True, 32)):
                if not group or i["cols"] % group == 0:
                    doc["cases"].append(int_case(name, x, bits, symmetric, group, True))
        doc["cases"].append(int8_case(name, x))
    json.dump(doc, sys.stdout, indent=0)
    print()


main()
