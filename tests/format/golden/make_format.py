#!/usr/bin/env python3
"""make_format.py: golden checkpoints for tests/format: tiny random Llamas saved by transformers with bitsandbytes and by
compressed-tensors, and what their codes, scales and weights are according to those packages.

    python make_format.py [FOLDER]     (torch, transformers, bitsandbytes, compressed-tensors from PyPI; CPU)

Writes FOLDER/NAME/{config.json,model.safetensors} and FOLDER/expected.json. Arrays are given as SHA-256 of their bytes: codes unsigned,
one a byte (q + 2^(b-1) for integers), scales and weights as float32.
"""
import hashlib, json, os, shutil, sys, tempfile
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import torch
import transformers, bitsandbytes, compressed_tensors
import bitsandbytes.functional as F
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from compressed_tensors.compressors import BaseCompressor, ModelCompressor
from compressed_tensors.config import CompressionFormat
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import (QuantizationArgs, QuantizationConfig, QuantizationScheme, QuantizationStatus,
                                             apply_quantization_config, preset_name_to_scheme)
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam, maybe_pad_tensor_for_block_quant
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
here = os.path.dirname(os.path.abspath(__file__))
out = sys.argv[1] if len(sys.argv) > 1 else here


def digest(a, dtype):
    return hashlib.sha256(np.ascontiguousarray(a).astype(dtype).tobytes()).hexdigest()


def base_model(dtype=torch.bfloat16):
    torch.manual_seed(7)
    config = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                         vocab_size=16, max_position_embeddings=64, tie_word_embeddings=False)
    model = LlamaForCausalLM(config)
    for p in model.parameters():
        if p.ndim == 2:
            p.data = torch.randn_like(p) ** 3 * 0.05
    return model.to(dtype)


def keep(folder, name):
    target = os.path.join(out, name)
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    for f in ("config.json", "model.safetensors"):
        shutil.copy(os.path.join(folder, f), os.path.join(target, f))
    return load_file(os.path.join(target, "model.safetensors"))


def modules_of(tensors, suffix):
    return sorted(k[: -len(suffix)] for k in tensors if k.endswith(suffix))


def bnb(name, **options):
    with tempfile.TemporaryDirectory() as t:
        base_model().save_pretrained(t + "/base")
        model = AutoModelForCausalLM.from_pretrained(t + "/base", quantization_config=BitsAndBytesConfig(**options), dtype=torch.bfloat16)
        model.save_pretrained(t + "/saved")
        tensors = keep(t + "/saved", name)
    expected = {}
    for m in modules_of(tensors, ".SCB"):
        w, scb = tensors[m + ".weight"], tensors[m + ".SCB"]
        expected[m] = dict(codes=digest(w.numpy().astype(np.int16) + 128, np.uint8), scb=digest(scb.numpy(), np.float32),
                           scales=digest((scb / 127).numpy(), np.float32), weights=digest((w.float() * (scb / 127)[:, None]).numpy(), np.float32))
    for m in modules_of(tensors, ".weight.quant_map"):
        q = model.get_submodule(m).weight.quant_state
        scales = F.dequantize_blockwise(q.absmax, q.state2) + q.offset if q.nested else q.absmax
        b = tensors[m + ".weight"].view(torch.uint8).numpy().reshape(-1)
        codes = np.stack([b >> 4, b & 15], 1).reshape(-1)
        flat = q.code[torch.from_numpy(codes.astype(np.int64))] * scales.repeat_interleave(q.blocksize)[: codes.size]
        # The generic kernel: the AVX-512 one of 0.50.2 takes the wrong scale where blocks cross rows (columns % 64 != 0).
        packed = tensors[m + ".weight"].view(torch.uint8).reshape(-1)
        assert torch.equal(flat.to(q.dtype).reshape(q.shape), _dequantize_4bit_compute(packed, scales, q.code, q.blocksize, q.shape, q.dtype))
        expected[m] = dict(codes=digest(codes, np.uint8), scales=digest(scales.numpy(), np.float32), weights=digest(flat.numpy(), np.float32))
    return expected


def scheme(targets, bits, symmetric=True, group=None, activations=False, static=False):
    weights = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, strategy="group" if group else "channel", group_size=group)
    inputs = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True) if activations else None
    if static:
        inputs = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="tensor", dynamic=False)
    return QuantizationScheme(targets=targets, weights=weights, input_activations=inputs)


def fp8(targets, inputs=None, **sharing):
    if inputs:
        inputs = QuantizationArgs(num_bits=8, type="float", symmetric=True, **inputs)
    return QuantizationScheme(targets=targets, weights=QuantizationArgs(num_bits=8, type="float", symmetric=True, **sharing), input_activations=inputs)


def preset(name, targets):
    return preset_name_to_scheme(name, targets)


def spread(scale, args, shape):
    """One scale per weight."""
    if args.strategy == "tensor":
        return scale.expand(shape)
    if args.strategy == "block":
        rows, cols = args.block_structure
        return scale.repeat_interleave(rows, 0)[: shape[0]].repeat_interleave(cols, 1)[:, : shape[1]]
    return scale.repeat_interleave(int(shape[1]) // scale.shape[-1], 1)


def set_parameters(m, a):
    """Scales by absmax as the originals' observers have them."""
    w = m.weight.data
    extra = {}
    if a.strategy == "tensor":
        v = w.reshape(1, -1)
    elif a.strategy == "block":
        rows, cols = a.block_structure
        padded = maybe_pad_tensor_for_block_quant(w, (rows, cols))
        v = padded.unflatten(0, (-1, rows)).unflatten(-1, (-1, cols)).transpose(1, 2).flatten(-2)
    else:
        v = w.unflatten(-1, (-1, a.group_size)) if a.group_size else w.unsqueeze(1)
    if a.strategy == "tensor_group":
        extra["global_scale"] = generate_gparam(w.amin().reshape(1), w.amax().reshape(1))
        m.weight_global_scale.data.copy_(extra["global_scale"])
    scale, zero = calculate_qparams(v.amin(-1), v.amax(-1), a, **extra)
    m.weight_scale.data.copy_(scale.reshape(m.weight_scale.shape))
    if getattr(m, "weight_zero_point", None) is not None:
        m.weight_zero_point.data.copy_(zero.reshape(m.weight_zero_point.shape))
    if getattr(m, "input_scale", None) is not None:
        m.input_scale.data.fill_(0.0157)


def expected_int(tensors, m, a):
    half = 1 << (a.num_bits - 1)
    scale = tensors[m + ".weight_scale"].float()
    if m + ".weight_packed" in tensors:
        shape = tensors[m + ".weight_shape"]
        q = unpack_from_int32(tensors[m + ".weight_packed"], a.num_bits, shape)
    else:
        q, shape = tensors[m + ".weight"], tensors[m + ".weight"].shape
    z = tensors.get(m + ".weight_zero_point")
    if z is not None and z.dtype == torch.int32:
        z = unpack_from_int32(z, a.num_bits, (shape[0], scale.shape[-1]), packed_dim=0)
    zero = z if z is not None else torch.zeros_like(scale)
    w = (q.float() - spread(zero.float(), a, shape)) * spread(scale, a, shape)
    e = dict(codes=digest(q.numpy().astype(np.int16) + half, np.uint8), bits=a.num_bits, group=a.group_size or 0)
    if not a.symmetric:
        e["zeros"] = digest(z.numpy().astype(np.int16) + half, np.uint8)
    return w, scale, e


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def expected_float(tensors, m, a):
    scale = tensors[m + ".weight_scale"]
    if a.num_bits == 8:
        q = tensors[m + ".weight"]
        codes, value, scale = q.view(torch.uint8), q.float(), scale.float()
        precision = "fp8_e4m3"
    else:
        b = tensors[m + ".weight_packed"]
        codes = torch.stack([b & 15, b >> 4], -1).flatten(-2)
        value = FP4[codes.long()]
        precision = "nvfp4" if a.strategy == "tensor_group" else "mxfp4"
        scale = scale.float() if precision == "nvfp4" else 2.0 ** (scale.float() - 127)
    e = dict(codes=digest(codes.numpy(), np.uint8), precision=precision,
             group=a.group_size or (a.block_structure[1] if a.block_structure else 0),
             row_block=len(codes) if a.strategy == "tensor" else a.block_structure[0] if a.block_structure else 0)
    effective = scale
    if m + ".weight_global_scale" in tensors:
        e["global"] = float(tensors[m + ".weight_global_scale"])
        effective = scale / tensors[m + ".weight_global_scale"]
    return value * spread(effective, a, codes.shape), scale, e


def compressed(name, groups, dtype=torch.bfloat16):
    model = base_model(dtype)
    config = QuantizationConfig(config_groups={f"group_{i}": g for i, g in enumerate(groups)}, ignore=["lm_head"],
                                quantization_status=QuantizationStatus.FROZEN)
    apply_quantization_config(model, config)
    schemes = {}
    for n, m in model.named_modules():
        s = getattr(m, "quantization_scheme", None)
        if s is not None:
            set_parameters(m, s.weights)
            schemes[n] = s
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    with tempfile.TemporaryDirectory() as t:
        model.save_pretrained(t)
        compressor.update_config(t)
        tensors = keep(t, name)
    expected = {}
    for m, s in schemes.items():
        a, x = s.weights, s.input_activations
        w, scale, e = (expected_float if a.type == "float" else expected_int)(tensors, m, a)
        parts = {k[len(m) + 1:]: v for k, v in tensors.items() if k.startswith(m + ".")}
        if "weight_shape" in parts:
            parts["weight_shape"] = torch.Size(parts["weight_shape"].tolist())
        theirs = BaseCompressor.get_value_from_registry(CompressionFormat(s.format).value).decompress(parts, s)["weight"]
        assert torch.equal(w.to(theirs.dtype), theirs) or (w - theirs.float()).abs().max() <= 2 ** -7 * w.abs().max(), (name, m)
        e.update(scales=digest(scale.numpy(), np.float32), weights=digest(w.numpy(), np.float32))
        if m + ".input_scale" in tensors:
            e["input_scale"] = float(tensors[m + ".input_scale"])
        e["act_bits"] = 8 if x is not None and a.num_bits * (a.type == "float") != 4 else 16
        e["act_group"] = x.group_size or 0 if e["act_bits"] == 8 else 0
        expected[m] = e
    return expected


def native_fp8(name, dtype, block, static=False, inv=True):
    """As vLLM and transformers load quant_method "fp8": the codes are torch's, the decoding is transformers'."""
    model = base_model()
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    top = torch.finfo(dtype).max
    config = dict(quant_method="fp8", activation_scheme="static" if static else "dynamic", weight_block_size=block,
                  modules_to_not_convert=["lm_head"])
    expected = {}
    for m in modules_of(tensors, "_proj.weight"):
        m += "_proj"
        w = tensors[m + ".weight"].float()
        rows, cols = block or w.shape
        v = w.unflatten(0, (-1, rows)).unflatten(-1, (-1, cols)).transpose(1, 2)
        scale = v.abs().amax((-1, -2)) / top
        q = (v / scale[..., None, None]).to(dtype).transpose(1, 2).flatten(0, 1).flatten(-2)
        tensors[m + ".weight"] = q
        tensors[m + (".weight_scale_inv" if inv else ".weight_scale")] = scale if block else scale.reshape(())
        if static:
            tensors[m + ".input_scale"] = torch.tensor(0.0157)
        decoded = q.float() * scale.repeat_interleave(rows, 0).repeat_interleave(cols, 1)
        expected[m] = dict(codes=digest(q.view(torch.uint8).numpy(), np.uint8), scales=digest(scale.numpy(), np.float32),
                           weights=digest(decoded.numpy(), np.float32), precision="fp8_e4m3" if dtype == torch.float8_e4m3fn else "fp8_e5m2",
                           group=cols if block else 0, row_block=rows, act_bits=8, act_group=0 if static or not block else cols)
        if static:
            expected[m]["input_scale"] = float(tensors[m + ".input_scale"])
    with tempfile.TemporaryDirectory() as t:
        model.config.quantization_config = config
        model.config.save_pretrained(t)
        save_file(tensors, t + "/model.safetensors", metadata={"format": "pt"})
        keep(t, name)
        if inv and not static:
            loaded = AutoModelForCausalLM.from_pretrained(t, dtype=torch.float32)
            for m, e in expected.items():
                assert digest(loaded.get_submodule(m).weight.data.numpy(), np.float32) == e["weights"], (name, m)
    return expected


def main():
    four = dict(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
    L = ["Linear"]
    models = {
        "bnb-nf4-nested": bnb("bnb-nf4-nested", bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, **four),
        "bnb-fp4": bnb("bnb-fp4", bnb_4bit_quant_type="fp4", **four),
        "bnb-nf4-bf16-storage": bnb("bnb-nf4-bf16-storage", bnb_4bit_quant_type="nf4", bnb_4bit_quant_storage=torch.bfloat16, load_in_4bit=True),
        "bnb-int8": bnb("bnb-int8", load_in_8bit=True),
        "ct-int4-group": compressed("ct-int4-group", [scheme(L, 4, group=16)]),
        "ct-int3-asym": compressed("ct-int3-asym", [scheme(L, 3, symmetric=False, group=32)]),
        "ct-int8-channel": compressed("ct-int8-channel", [scheme(L, 8)], torch.float16),
        "ct-w8a8": compressed("ct-w8a8", [scheme(L, 8, activations=True)]),
        "ct-mixed": compressed("ct-mixed", [scheme([r"re:.*\.(q|k)_proj$"], 2, symmetric=False, group=16),
                                            scheme(["re:.*self_attn.*"], 5, group=16),
                                            scheme(["model.layers.0.mlp.down_proj"], 6, symmetric=False),
                                            scheme([r"re:model\.layers\.\d+\.mlp\.(?:gate|up)_proj"], 8, activations=True)]),
        "ct-w8a8-static": compressed("ct-w8a8-static", [scheme(L, 8, static=True)]),
        "ct-w4a8": compressed("ct-w4a8", [scheme(L, 4, symmetric=False, group=16, activations=True)]),
        "ct-fp8-tensor": compressed("ct-fp8-tensor", [preset("FP8", L)]),
        "ct-fp8-channel": compressed("ct-fp8-channel", [preset("FP8_DYNAMIC", L)], torch.float16),
        "ct-fp8-weight": compressed("ct-fp8-weight", [fp8(L, strategy="channel")]),
        "ct-fp8-block": compressed("ct-fp8-block", [fp8(L, dict(strategy="group", group_size=16, dynamic=True), strategy="block", block_structure=[24, 16])]),
        "ct-nvfp4": compressed("ct-nvfp4", [preset("NVFP4A16", L)]),
        "ct-mxfp4": compressed("ct-mxfp4", [preset("MXFP4A16", L)]),
        "ct-mixed-float": compressed("ct-mixed-float", [preset("NVFP4A16", [r"re:.*(gate|up)_proj$"]), preset("FP8_DYNAMIC", [r"re:.*(q|k|v)_proj$"]),
                                                        preset("MXFP4A16", [r"re:.*down_proj$"]), scheme([r"re:.*o_proj$"], 6, group=32)]),
        "fp8-block": native_fp8("fp8-block", torch.float8_e4m3fn, [16, 16]),
        "fp8-static": native_fp8("fp8-static", torch.float8_e4m3fn, None, static=True, inv=False),
        "fp8-e5m2": native_fp8("fp8-e5m2", torch.float8_e5m2, [16, 32]),
    }
    doc = dict(made_by="make_format.py", torch=torch.__version__, transformers=transformers.__version__,
               bitsandbytes=bitsandbytes.__version__, compressed_tensors=compressed_tensors.__version__, models=models)
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump(doc, f, indent=1)
        f.write("\n")


main()
