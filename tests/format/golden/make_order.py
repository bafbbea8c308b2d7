#!/usr/bin/env python3
"""make_order.py: a golden checkpoint with activation order by group (weight_g_idx), which compressed-tensors wrote and read up to version
0.14; later ones refuse actorder "group", vLLM still reads it.

    PYTHONPATH=FOLDER/OF/compressed-tensors-0.12.2 python make_order.py [FOLDER]     (torch, safetensors from PyPI; CPU)

Writes FOLDER/ct-order/{config.json,model.safetensors} and FOLDER/expected_order.json, in the manner of make_format.py.
"""
import json, os
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import torch
import compressed_tensors
from compressed_tensors.compressors.quantized_compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams
from golden import SHAPES, digest, save_checkpoint, save_json

torch.set_num_threads(1)
torch.manual_seed(7)
args = QuantizationArgs(num_bits=4, type="int", symmetric=False, strategy="group", group_size=8, actorder="group")
tensors, expected = {}, {}
compressor = PackedQuantizationCompressor()
for tag, shape in SHAPES.items():
    m = "model.layers.0." + tag
    w = (torch.randn(shape) ** 3 * 0.05).to(torch.bfloat16)
    perm = torch.randperm(shape[1])
    g_idx = torch.empty(shape[1], dtype=torch.int)
    g_idx[perm] = (torch.arange(shape[1]) // 8).int()
    v = w[:, torch.argsort(g_idx)].unflatten(-1, (-1, 8))
    scale, zero = calculate_qparams(v.amin(-1), v.amax(-1), args)
    packed = compressor.compress_weight(w, scale, args, zero_point=zero, g_idx=g_idx)
    q = quantize(x=w, scale=scale, zero_point=zero, g_idx=g_idx, args=args, dtype=torch.int8)
    group = g_idx.long()
    decoded = (q.float() - zero.float()[:, group]) * scale.float()[:, group]
    packed.update(weight_scale=scale, weight_g_idx=g_idx)
    theirs = dequantize(x_q=q, scale=scale, zero_point=zero, g_idx=g_idx)
    assert torch.equal(decoded.to(theirs.dtype), theirs) or (decoded - theirs.float()).abs().max() <= 2 ** -7 * decoded.abs().max()
    tensors.update({f"{m}.{k}": t.contiguous() for k, t in packed.items()})
    expected[m] = dict(codes=digest(q.numpy().astype(np.int16) + 8, np.uint8), zeros=digest(zero.float().numpy() + 8, np.uint8),
                       scales=digest(scale.float().numpy(), np.float32), weights=digest(decoded.numpy(), np.float32),
                       g_idx=digest(g_idx.numpy(), np.int32), bits=4, group=8, act_bits=16)
config = {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
          "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": None, "output_activations": None,
                                        "weights": json.loads(args.model_dump_json(exclude={"zp_dtype", "scale_dtype"}))}}}
save_checkpoint("ct-order", tensors, config)
save_json("expected_order.json", dict(made_by="make_order.py", torch=torch.__version__, compressed_tensors=compressed_tensors.__version__,
                                      models={"ct-order": expected}))
