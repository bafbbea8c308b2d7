"""golden.py: what the generators of golden checkpoints share: where they write (the first argument, else this folder), a tiny model's
matrices, and how results are given."""
import hashlib, json, os, sys

import numpy as np
from safetensors.torch import save_file

out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
SHAPES = {"mlp.down_proj": (32, 64), "mlp.gate_proj": (64, 32), "mlp.up_proj": (64, 32), "self_attn.k_proj": (16, 32),
          "self_attn.o_proj": (32, 32), "self_attn.q_proj": (32, 32), "self_attn.v_proj": (16, 32)}


def digest(a, dtype):
    return hashlib.sha256(np.ascontiguousarray(a).astype(dtype).tobytes()).hexdigest()


def save_json(path, value):
    with open(os.path.join(out, path), "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def save_checkpoint(name, tensors, quantization_config):
    os.makedirs(os.path.join(out, name), exist_ok=True)
    save_file(tensors, os.path.join(out, name, "model.safetensors"), metadata={"format": "pt"})
    save_json(name + "/config.json", {"quantization_config": quantization_config})
