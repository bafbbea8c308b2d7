#!/usr/bin/env python3
"""make_hqq.py: golden vectors for tests/precision/test_hqq.c: what hqq makes of small matrices on the CPU.

    python make_hqq.py > hqq.json      (torch, hqq from PyPI)

Settings of hqq_base_quant_config (axis 1, zero points rounded at the start for 4 bits). Inputs are listed or made by the generator `lcg`,
which the test repeats; codes are given as SHA-256, zero points and scales in full: those of "coarse", whose weights are so large that the
solver shrinks errors by a power, are compared to an ulp.
"""
import hashlib, json, os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
from lcg import lcg
import torch
from importlib.metadata import version
from hqq.core.quantize import Quantizer

torch.set_num_threads(1)
f32 = np.float32


def inputs():
    yield "weights", dict(rows=12, cols=256, seed=1, amplitude=0.05)
    yield "odd", dict(rows=5, cols=45, seed=2, amplitude=0.3)
    yield "long", dict(rows=2, cols=1700, seed=3, amplitude=0.1)
    yield "coarse", dict(rows=8, cols=128, seed=4, amplitude=20.0)
    v = lcg(5, 4 * 128, 0.2)
    v[0:32] = 0
    v[32:64] = 0.125                     # a range of zero
    v[64:96] = 0.5 + 1e-5 * (np.arange(32) % 3)      # below 1e-4
    v[96:128] = -1e-6 * np.arange(32)
    v[128:160] = 1e-3 + 1.1e-4 * np.arange(32) / 31  # just above; the scale is capped at 2e4 for many bits
    v[160:192] = 1e-40
    v[192:224] = np.arange(32) / 31 * 7.5 - 4        # ties
    yield "edges", dict(rows=4, cols=128, values=v)


doc = dict(made_by="make_hqq.py", torch=torch.__version__, hqq=version("hqq"), inputs={}, cases=[])
for name, i in inputs():
    v = i.get("values")
    w = torch.from_numpy((v if v is not None else lcg(i["seed"], i["rows"] * i["cols"], i["amplitude"])).astype(f32)).reshape(i["rows"], i["cols"])
    doc["inputs"][name] = {k: x for k, x in i.items() if k != "values"} | ({"values": v.astype(f32).tobytes().hex()} if v is not None else {})
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128, 0):
            if group and i["cols"] % group:
                continue
            q, meta = Quantizer.quantize(w, nbits=bits, group_size=group or i["cols"], optimize=True, round_zero=bits == 4, axis=1,
                                         bitpack=False, device="cpu")
            codes = q.numpy().reshape(-1).astype(np.uint8)
            doc["cases"].append(dict(input=name, bits=bits, group=group, codes=hashlib.sha256(codes.tobytes()).hexdigest(),
                                     scales=meta["scale"].numpy().astype(f32).tobytes().hex(), zeros=meta["zero"].numpy().astype(f32).tobytes().hex()))
json.dump(doc, sys.stdout, indent=0)
print()
