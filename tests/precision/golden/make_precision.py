#!/usr/bin/env python3
"""make_precision.py: golden vectors for tests/precision: what bitsandbytes and compressed-tensors make of small matrices.

    python make_precision.py > precision.json      (torch, bitsandbytes, compressed-tensors from PyPI; CPU)

Inputs are either listed (hex of float32) or made by the generator of lcg.py, which golden.h repeats. Large results
are given as SHA-256. Sums run on one thread, because torch's depend on the number of threads.
"""
import hashlib, json, os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
from lcg import lcg
import torch
import bitsandbytes
import bitsandbytes.functional as F
import compressed_tensors
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import quantize, fake_quantize
from compressed_tensors.quantization.quant_scheme import MXFP4A16, NVFP4A16
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from compressed_tensors.quantization.utils.helpers import maybe_pad_tensor_for_block_quant
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8

torch.set_num_threads(1)
f32 = np.float32
LISTED = int(os.environ.get("LISTED", "400"))  # bytes up to which a result is listed rather than hashed
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def hexed(a, dtype):
    raw = np.ascontiguousarray(a).astype(dtype).tobytes()
    return raw.hex() if len(raw) <= LISTED else "sha256:" + hashlib.sha256(raw).hexdigest()


def inputs():
    yield "plain", dict(rows=6, cols=256, dtype="BF16", seed=1, amplitude=0.08)
    yield "wide", dict(rows=40, cols=1000, dtype="BF16", seed=2, amplitude=0.5)
    yield "large", dict(rows=128, cols=768, dtype="F32", seed=3, amplitude=0.1)
    for dtype in ("BF16", "F16"):        # many quotients near the middle of two codes
        yield "many " + dtype, dict(rows=96, cols=512, dtype=dtype, seed=8, amplitude=0.1)
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
    q = quantize(x, scale, zero, args, dtype=torch.int8)
    case = dict(encoder="int", input=name, bits=bits, symmetric=symmetric, group=group, mse=mse,
                codes=hexed(q.numpy().astype(np.int16) + (1 << (bits - 1)), np.uint8), scales=hexed(scale.float().numpy(), f32))
    if not symmetric:
        case["zeros"] = hexed(zero.numpy().astype(np.int16) + (1 << (bits - 1)), np.uint8)
    return case


def float_inputs():
    """Only for the small floats: every tie of e2m1 and e4m3 on grids whose scale is a power of two, tiny, huge and empty groups."""
    e2m1 = [v * s for v in (0, .25, .5, .75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7) for s in (1, -1)]
    t = [np.array([6.0] + [-v for v in e2m1[1:]], f32)]
    for k in (-20, -3, 9):                    # groups of 32 and of 16 that hold each tie exactly, and its neighbours
        v = np.array(e2m1, f32) * f32(2.0 ** k)
        t += [v, np.nextafter(v, f32(0)), np.clip(np.nextafter(v, f32(99e9)), -7 * 2.0 ** k, 7 * 2.0 ** k)]
    t += [np.array([m * 2.0 ** -4] + [0.01] * 31, f32) for m in (1.0, 1.49, 1.5, 1.74, np.nextafter(f32(1.75), f32(0)), 1.75, 1.99)]
    t += [np.zeros(32, f32), np.full(32, -0.0, f32), np.full(32, 1e-40, f32), np.full(32, -1e-45, f32), np.full(32, 2.0 ** -126, f32)]
    t += [np.full(32, x, f32) for x in (1.2e-38, 1e-30, 2.0 ** -15, 6e-5, 7e-5, 2.0 ** -24, 1e4, 6e4)]
    t = np.concatenate(t)
    t = np.concatenate([t, np.zeros(-len(t) % 128, f32)])
    yield "float ties", dict(rows=len(t) // 128, cols=128, dtype="F32", values=t)
    yield "half ties", dict(rows=len(t) // 128, cols=128, dtype="F16", values=t)
    x = np.arange(256, dtype=np.uint8).view(np.uint8)
    e4m3 = torch.from_numpy(x.copy()).view(torch.float8_e4m3fn).float().numpy()
    e4m3 = np.sort(e4m3[np.isfinite(e4m3)])
    mid = ((e4m3[1:] + e4m3[:-1]) / 2).astype(f32)
    t = np.concatenate([e4m3, mid, np.nextafter(mid, f32(0)), np.nextafter(mid, f32(1e9)), [448, -448, -464, 447.9, 1e-9, -1e-9]]).astype(f32)
    t = np.clip(np.concatenate([t, np.zeros(-len(t) % 64, f32)]), -448, 448)
    yield "e4m3 ties", dict(rows=len(t) // 64, cols=64, dtype="F32", values=t)
    huge = lcg(11, 4 * 64, 1.0) * f32(1e38)
    huge[64:128] *= f32(1e-70)
    yield "huge", dict(rows=4, cols=64, dtype="F32", values=huge)
    yield "blocks", dict(rows=200, cols=320, dtype="BF16", seed=12, amplitude=0.3)


def float_case(name, x, kind, strategy, group):
    """kind fp8, mxfp4 or nvfp4."""
    if kind == "fp8":
        extra = dict(block_structure=[128, 128]) if strategy == "block" else dict(group_size=group) if strategy == "group" else {}
        args = QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy=strategy, **extra)
    else:
        args = (MXFP4A16 if kind == "mxfp4" else NVFP4A16)["weights"]
    row_block, global_scale = 0, None
    if strategy == "tensor":
        v, row_block = x.reshape(1, -1), x.shape[0]
    elif strategy == "channel":
        v = x.unsqueeze(1)
    elif strategy == "block":
        p = maybe_pad_tensor_for_block_quant(x, (128, 128))
        v = p.reshape(p.shape[0] // 128, 128, p.shape[1] // 128, 128).transpose(1, 2).flatten(-2, -1)
        group, row_block = 128, 128
    else:
        v = by_group(x, group)
    if kind == "nvfp4":
        top = x.abs().max().reshape(1)
        global_scale = generate_gparam(-top, top)
    scale, _ = calculate_qparams(v.amin(-1), v.amax(-1), args, global_scale=global_scale)
    scale = scale.to(x.dtype)                 # as the module's weight_scale has it
    if not torch.isfinite(scale.float()).all():
        return None
    q = quantize(x, scale, None, args, global_scale=global_scale).float()
    if kind == "fp8":
        codes = q.to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    else:
        # the type of the quotient does not matter here
        assert torch.equal(q, quantize(x.float(), scale.float(), None, args, global_scale=global_scale).float())
        packed = pack_fp4_to_uint8(q).numpy()
        codes = np.stack([packed & 15, packed >> 4], -1)
    case = dict(encoder="float", input=name, kind=kind, group=group, row_block=row_block, scales=hexed(scale.float().numpy(), f32),
                codes=hexed(codes, np.uint8))
    if kind == "nvfp4":
        case["global"] = hexed(global_scale.numpy(), f32)
    return case


def e5m2_case(name, x):
    """compressed-tensors has no E5M2: its rule for E4M3 with torch's type and largest value."""
    scale = x.abs().amax(-1, keepdim=True) / torch.tensor(57344.0, dtype=x.dtype)
    scale = torch.where(scale == 0, torch.finfo(x.dtype).eps, scale)
    q = (x / scale).clamp(-57344, 57344).to(torch.float8_e5m2)
    return dict(encoder="float", input=name, kind="e5m2", group=0, row_block=0, scales=hexed(scale.float().numpy(), f32),
                codes=hexed(q.view(torch.uint8).numpy(), np.uint8))


def float_cases(name, x):
    wide = x.shape[1]
    todo = [("fp8", "tensor", 0), ("fp8", "channel", 0), ("fp8", "block", 0)]
    todo += [("fp8", "group", 64)] if wide % 64 == 0 else []
    todo += [("mxfp4", "group", 32)] if wide % 32 == 0 else []
    todo += [("nvfp4", "tensor_group", 16)] if wide % 16 == 0 else []
    return [c for c in (float_case(name, x, *t) for t in todo) if c] + [e5m2_case(name, x)]


def int8_case(name, x):
    q, scb, _ = F.int8_vectorwise_quant(x.to(torch.float16))
    return dict(encoder="absmax", input=name, codes=hexed(q.numpy().astype(np.int16) + 128, np.uint8), scb=hexed(scb.numpy(), f32))


def main():
    doc = dict(made_by="make_precision.py", torch=torch.__version__, bitsandbytes=bitsandbytes.__version__,
               compressed_tensors=compressed_tensors.__version__, inputs={}, cases=[])
    doc["dynamic_map"] = hexed(F.create_dynamic_map().numpy(), f32)
    doc["tables"] = {k: hexed(F.get_4bit_type(k, device="cpu").numpy(), f32) for k in ("nf4", "fp4")}
    small = dict(float_inputs())
    for name, i in [*inputs(), *small.items()]:
        x = tensor_of(i)
        entry = {k: v for k, v in i.items() if k != "values"}
        if "values" in i:
            entry["values"] = x.float().numpy().tobytes().hex()
        doc["inputs"][name] = entry
        doc["cases"] += float_cases(name, x)
        if name in small:
            continue
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
