#!/usr/bin/env python3
"""make_hqq.py: golden checkpoints in the hqq convention: HQQLinear's own quantization and encoded state_dict in safetensors, as transformers
saved it while it could (5.23 raises NotImplementedError for hqq).

    python make_hqq.py [FOLDER]     (torch, hqq, safetensors from PyPI; CPU)

Writes FOLDER/hqq-NAME/{config.json,model.safetensors} and FOLDER/expected_hqq.json, in the manner of make_format.py.
"""
import importlib.metadata, json, os
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear, Quantizer
from golden import SHAPES, digest, save_checkpoint, save_json

torch.set_num_threads(1)


def make(name, bits, group, dtype, view_as_float=False):
    torch.manual_seed(7)
    tensors, expected = {}, {}
    config = BaseQuantizeConfig(nbits=bits, group_size=group, axis=1, view_as_float=view_as_float)
    saved = json.loads(json.dumps(config))
    for tag, shape in SHAPES.items():
        m = "model.layers.0." + tag
        linear = torch.nn.Linear(shape[1], shape[0], bias=False)
        linear.weight.data = torch.randn(shape) ** 3 * 0.05
        layer = HQQLinear(linear, config, compute_dtype=dtype, device="cpu")
        state = layer.state_dict()
        tensors.update({f"{m}.{k}": v.data.contiguous() for k, v in state.items()})
        # The reader's view: float32 arithmetic on what is stored
        again = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu", initialize=False)
        again.load_state_dict({k: v.clone() for k, v in state.items()})
        codes = again.unpack(dtype=torch.uint8) if not view_as_float else Quantizer.unpack[again.meta["packing"]](again.W_q.view(again.meta["unpack_view_dtype"]))
        codes = codes[: shape[0] * shape[1] // (group or shape[1])].reshape(shape)
        expected[m] = dict(codes=digest(codes.numpy(), np.uint8), scales=digest(again.meta["scale"].numpy(), np.float32),
                           real_zeros=digest(again.meta["zero"].numpy(), np.float32), weights=digest(again.dequantize().numpy(), np.float32),
                           bits=bits, group=group or shape[1], act_bits=16)
    save_checkpoint(name, tensors, {"quant_config": saved, "quant_method": "hqq", "skip_modules": ["lm_head"]})
    return expected


models = {
    "hqq-int4": make("hqq-int4", 4, 16, torch.bfloat16),
    "hqq-int8": make("hqq-int8", 8, 32, torch.float32),
    "hqq-int6": make("hqq-int6", 6, 32, torch.bfloat16),
    "hqq-int3": make("hqq-int3", 3, 16, torch.float16),
    "hqq-int2": make("hqq-int2", 2, None, torch.float16),
    "hqq-view": make("hqq-view", 4, 16, torch.bfloat16, view_as_float=True),
}
save_json("expected_hqq.json", dict(made_by="make_hqq.py", torch=torch.__version__, hqq=importlib.metadata.version("hqq"), models=models))
