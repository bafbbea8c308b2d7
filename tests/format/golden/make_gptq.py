#!/usr/bin/env python3
"""make_gptq.py: golden checkpoints in the GPTQ and AWQ conventions, packed by GPTQModel's TorchLinear.pack (and its own change from version 2 to
version 1) and by AutoAWQ's WQLinear_GEMM.from_linear.

    python make_gptq.py [FOLDER]     (torch, gptqmodel, autoawq, safetensors from PyPI; CPU)

Writes FOLDER/{gptq,awq}-NAME/{config.json,model.safetensors} and FOLDER/expected_gptq.json, in the manner of make_format.py. The decoded
weights are held against GPTQModel's dequantize_weight and AutoAWQ's dequantize_gemm.
"""
import hashlib, importlib.metadata, json, os, sys, types
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

torch.set_num_threads(1)
out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
SHAPES = {"mlp.down_proj": (32, 64), "mlp.gate_proj": (64, 32), "mlp.up_proj": (64, 32), "self_attn.k_proj": (32, 32),
          "self_attn.o_proj": (32, 32), "self_attn.q_proj": (32, 32), "self_attn.v_proj": (32, 32)}


def digest(a, dtype):
    return hashlib.sha256(np.ascontiguousarray(a).astype(dtype).tobytes()).hexdigest()


def weights(shape):
    linear = torch.nn.Linear(shape[1], shape[0], bias=False, dtype=torch.float32)
    linear.weight.data = torch.randn(shape) ** 3 * 0.05
    return linear


def grid(w, bits, sym, g_idx, groups, zero_at):
    """Scales in float16 and whole zero points, [out, groups]."""
    scale, zero = torch.empty(w.shape[0], groups), torch.empty(w.shape[0], groups)
    for g in range(groups):
        v = w[:, g_idx == g]
        lo, hi = v.amin(1).clamp(max=0), v.amax(1).clamp(min=0)
        if sym:
            hi = torch.maximum(-lo, hi)
            lo = -hi
        scale[:, g] = ((hi - lo) / (2 ** bits - 1)).half().float()
        zero[:, g] = 2 ** (bits - 1) if sym else torch.round(-lo / scale[:, g])
    if not sym:
        zero.clamp_(min=1)
        zero[zero_at] = 0 if zero_at else zero[zero_at]
    return scale, zero


def record(q, zero, scale, g_idx, bits, group, order):
    plain = bool((zero == 2 ** (bits - 1)).all())
    w = (q.float() - zero[:, g_idx]) * scale[:, g_idx]
    e = dict(codes=digest(q.numpy(), np.uint8), scales=digest(scale.numpy(), np.float32), weights=digest(w.numpy(), np.float32), bits=bits, group=group,
             act_bits=16, act_group=0, input_scale=0.0)
    if not plain:
        e["zeros"] = digest(zero.numpy(), np.uint8)
    if order:
        e["g_idx"] = digest(g_idx.numpy(), np.int32)
    return w, e


def gptq(name, bits, group, sym, v2, order=False, zero_at=()):
    from gptqmodel import QuantizeConfig
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization.config import FORMAT
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module
    torch.manual_seed(7)
    tensors, expected = {}, {}
    config = QuantizeConfig(bits=bits, group_size=group, sym=sym, desc_act=order, act_group_aware=False, format=FORMAT.GPTQ_V2 if v2 else FORMAT.GPTQ)
    for tag, (o, i) in SHAPES.items():
        m = "model.layers.0." + tag
        size = group if group > 0 else i
        g_idx = torch.arange(i, dtype=torch.int32) // size
        if order:
            g_idx = g_idx[torch.randperm(i)]
        linear = weights((o, i))
        scale, zero = grid(linear.weight.data, bits, sym, g_idx, -(-i // size), zero_at)
        layer = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=order, in_features=i, out_features=o, register_buffers=True)
        layer.pack(linear, scale, zero, g_idx)
        q = torch.round((linear.weight.data + (scale * zero)[:, g_idx]) / scale[:, g_idx]).clamp(0, 2 ** bits - 1).to(torch.int32)
        w, e = record(q, zero, scale, g_idx, bits, group if group > 0 else 0, order)
        layer.optimized = False
        theirs = layer.dequantize_weight().T.float()
        assert (theirs - w).abs().max() <= 2 ** -9 * w.abs().max(), (name, m)
        if not v2:
            convert_gptq_v2_to_v1_format_module(layer, config)
        for k in ("qweight", "qzeros", "scales", "g_idx"):
            tensors[f"{m}.{k}"] = getattr(layer, k).contiguous()
        expected[m] = e
    quant = config.to_dict()
    quant["meta"] = {"quantizer": ["gptqmodel:" + importlib.metadata.version("gptqmodel")]}
    write(name, tensors, quant)
    return expected


def awq(name, group, symmetric=False):
    gemm, packing = load_awq()
    torch.manual_seed(7)
    tensors, expected = {}, {}
    for tag, (o, i) in SHAPES.items():
        m = "model.layers.0." + tag
        size = group if group > 0 else i
        g_idx = torch.arange(i, dtype=torch.int32) // size
        linear = weights((o, i))
        scale, zero = grid(linear.weight.data, 4, symmetric, g_idx, i // size, ())
        q = torch.round(linear.weight.data / scale[:, g_idx] + zero[:, g_idx]).clamp(0, 15)
        linear.weight.data = (q - zero[:, g_idx]) * scale[:, g_idx]  # AutoAWQ packs weights that are on the grid
        layer = gemm.from_linear(linear, 4, group, scales=scale.t().contiguous(), zeros=zero.t().contiguous())
        w, e = record(q.to(torch.int32), zero, scale, g_idx, 4, group if group > 0 else 0, False)
        theirs = packing.dequantize_gemm(layer.qweight, layer.qzeros, layer.scales, 4, size).T.float()
        assert (theirs - w).abs().max() <= 2 ** -9 * w.abs().max(), (name, m)
        for k in ("qweight", "qzeros", "scales"):
            tensors[f"{m}.{k}"] = getattr(layer, k).contiguous()
        expected[m] = e
    write(name, tensors, {"quant_method": "awq", "zero_point": True, "group_size": group, "bits": 4, "version": "gemm", "modules_to_not_convert": None})
    return expected


def load_awq():
    """WQLinear_GEMM alone: the package as a whole wants an older transformers."""
    import importlib.util
    if "awq" in sys.modules:
        return sys.modules["awq.modules.linear.gemm"].WQLinear_GEMM, sys.modules["awq.utils.packing_utils"]
    root = os.path.dirname(importlib.util.find_spec("awq").origin)
    for package in ("awq", "awq.utils", "awq.modules", "awq.modules.linear"):
        module = types.ModuleType(package)
        module.__path__ = [os.path.join(root, *package.split(".")[1:])]
        sys.modules[package] = module
    import awq.modules.linear.gemm as gemm
    import awq.utils.packing_utils as packing
    return gemm.WQLinear_GEMM, packing


def write(name, tensors, quant):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, folder + "/model.safetensors", metadata={"format": "pt"})
    with open(folder + "/config.json", "w") as f:
        json.dump({"quantization_config": quant}, f, indent=1)


models = {
    "gptq-int4": gptq("gptq-int4", 4, 16, True, False),
    "gptq-int4-asym": gptq("gptq-int4-asym", 4, 16, False, False),
    "gptq-int4-wrap": gptq("gptq-int4-wrap", 4, 16, False, False, zero_at=(3, 1)),
    "gptq-int3-v2": gptq("gptq-int3-v2", 3, 32, False, True),
    "gptq-int3-wrap": gptq("gptq-int3-wrap", 3, 16, False, False, zero_at=(10, 0)),
    "gptq-int2": gptq("gptq-int2", 2, 16, False, False),
    "gptq-int8-row": gptq("gptq-int8-row", 8, -1, True, False),
    "gptq-order": gptq("gptq-order", 4, 16, False, True, order=True),
    "awq-gemm": awq("awq-gemm", 16),
    "awq-sym": awq("awq-sym", 32, True),
}
versions = {p: importlib.metadata.version(p) for p in ("torch", "transformers", "gptqmodel", "autoawq", "safetensors")}
with open(out + "/expected_gptq.json", "w") as f:
    json.dump(dict(versions=versions, models=models), f, indent=1)
