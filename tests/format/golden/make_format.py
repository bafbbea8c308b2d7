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
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import (QuantizationArgs, QuantizationConfig, QuantizationScheme, QuantizationStatus,
                                             apply_quantization_config)
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file

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


def scheme(targets, bits, symmetric=True, group=None, activations=False):
    weights = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, strategy="group" if group else "channel", group_size=group)
    inputs = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True) if activations else None
    return QuantizationScheme(targets=targets, weights=weights, input_activations=inputs)


def compressed(name, groups, dtype=torch.bfloat16):
    model = base_model(dtype)
    config = QuantizationConfig(config_groups={f"group_{i}": g for i, g in enumerate(groups)}, ignore=["lm_head"],
                                quantization_status=QuantizationStatus.FROZEN)
    apply_quantization_config(model, config)
    schemes = {}
    for n, m in model.named_modules():
        s = getattr(m, "quantization_scheme", None)
        if s is None:
            continue
        w = m.weight.data
        v = w.unflatten(-1, (-1, s.weights.group_size)) if s.weights.group_size else w.unsqueeze(1)
        scale, zero = calculate_qparams(v.amin(-1), v.amax(-1), s.weights)
        m.weight_scale.data.copy_(scale)
        if getattr(m, "weight_zero_point", None) is not None:
            m.weight_zero_point.data.copy_(zero)
        schemes[n] = s.weights
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    with tempfile.TemporaryDirectory() as t:
        model.save_pretrained(t)
        compressor.update_config(t)
        tensors = keep(t, name)
    expected = {}
    for m, a in schemes.items():
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
        group = int(shape[1]) // scale.shape[-1]
        zero = z if z is not None else torch.zeros_like(scale)
        w = (q.float() - zero.float().repeat_interleave(group, 1)) * scale.repeat_interleave(group, 1)
        e = dict(codes=digest(q.numpy().astype(np.int16) + half, np.uint8), scales=digest(scale.numpy(), np.float32),
                 weights=digest(w.numpy(), np.float32), bits=a.num_bits, group=a.group_size or 0)
        if not a.symmetric:
            e["zeros"] = digest(z.numpy().astype(np.int16) + half, np.uint8)
        expected[m] = e
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
    }
    doc = dict(made_by="make_format.py", torch=torch.__version__, transformers=transformers.__version__,
               bitsandbytes=bitsandbytes.__version__, compressed_tensors=compressed_tensors.__version__, models=models)
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump(doc, f, indent=1)
        f.write("\n")


main()
