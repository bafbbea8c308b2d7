#!/usr/bin/env python3
"""Loads the checkpoints that we wrote with transformers, bitsandbytes and compressed-tensors, and compares their logits with ours.

interop_logits.py LOGITS MODEL DIR...
  LOGITS   tools/logits.c, compiled
  MODEL    the unquantized model
  DIR...   quantized checkpoints
Two comparisons each:
  decoded  the originals decode our codes to float32 weights and run them in float32; ours computes from the codes in float32. What is left
           is the order of summation: at most 1e-4 of the largest logit
  as run   transformers as it comes (bfloat16; 8-bit activations where the format says so; bitsandbytes' own CPU kernels), ours in the format's home mode. They
           round differently, and LLM.int8() takes a column out for the whole batch where ours does for the row, so the yardstick is
           the rounding itself: at most twice as far from theirs as theirs is from the decoded weights in float32, in norm
Exit code 1 when one is off."""
import json, logging, os, subprocess, sys, tempfile, warnings

import bitsandbytes.functional
import numpy as np
import torch
import transformers
from compressed_tensors.quantization import QuantizationConfig
from interop_formats import Stored, Tensors, schemes_of, without_order
from transformers import AutoModelForCausalLM

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
EXACT, ROUNDING = 1e-4, 2.0


def sequences(n_vocab):
    g = torch.Generator().manual_seed(1)
    return [torch.randint(0, n_vocab, (n,), generator=g).tolist() for n in (2, 17, 64, 120)]


def ours(program, model, ids, mode, n_vocab):
    with tempfile.TemporaryDirectory() as d:
        with open(d + "/ids", "w") as f:
            f.writelines(" ".join(map(str, s)) + "\n" for s in ids)
        subprocess.run([program, model, d + "/ids", d + "/out", mode], check=True)
        return np.fromfile(d + "/out", dtype=np.float32).reshape(-1, n_vocab)


def theirs(model, ids):
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([s])).logits[0, :-1].float().numpy() for s in ids])


def load(path, q):
    """The model as transformers loads it; None where it cannot (interop_formats.py says why)."""
    kw, groups = {}, q.get("config_groups", {}).values()
    if q.get("quant_method") == "hqq" or any(g["weights"].get("actorder") == "group" for g in groups):
        return None
    if q.get("quant_method") == "fp8" and any(k.endswith(".weight_scale") for k in Tensors(path).where):
        return None
    if any(not g["weights"]["symmetric"] and g.get("format", "pack-quantized") == "pack-quantized" for g in groups):
        # transformers 5.23 with compressed-tensors 0.20 expects packed zero points in the wrong shape unless it dequantizes at once.
        kw["quantization_config"] = transformers.CompressedTensorsConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(path, **kw).eval()


def decoded_hqq(got, m):
    from hqq.core.quantize import HQQLinear
    layer = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu", initialize=False)
    layer.load_state_dict({k[len(m) + 1:]: got[k].clone() for k in got.where if k.startswith(m + ".")})
    return layer.dequantize()


def decoded_fp8(got, m, block):
    w = got[m + ".weight"].float()
    scale = got[m + ".weight_scale_inv"] if m + ".weight_scale_inv" in got else got[m + ".weight_scale"]
    if scale.ndim < 2 or block is None:
        return w * scale
    return w * scale.repeat_interleave(block[0], 0)[: w.shape[0]].repeat_interleave(block[1], 1)[:, : w.shape[1]]


def decoded_weights(path, q, model, base):
    """Each quantized module's weight in float32, by the originals' own decoders."""
    got, method = Tensors(path), q.get("quant_method")
    if method == "hqq":
        return {m: decoded_hqq(got, m) for m in got.modules(".W_q")}
    if method == "fp8":
        modules = got.modules(".weight_scale_inv") or got.modules(".weight_scale")
        return {m: decoded_fp8(got, m, q.get("weight_block_size")) for m in modules}
    if method == "compressed-tensors":
        schemes = schemes_of(path, QuantizationConfig.model_validate(without_order(q)[0]))
        return {m: Stored(got, m, s.weights, base[m + ".weight"].shape).decoded() for m, s in schemes.items()}
    out = {}
    for name, m in model.named_modules() if model else ():
        kind = type(m).__name__
        if kind == "Linear4bit":
            state = m.weight.quant_state
            state.dtype = torch.float32
            out[name] = bitsandbytes.functional.dequantize_4bit(m.weight.data, state)
        elif kind == "Linear8bitLt":
            out[name] = m.weight.data.float() * (m.weight.SCB.float() / 127)[:, None]
    return out


def distance(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def main():
    program, base, dirs = sys.argv[1], sys.argv[2], sys.argv[3:]
    n_vocab = json.load(open(base + "/config.json"))["vocab_size"]
    ids = sequences(n_vocab)
    baseline = theirs(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), ids)
    tensors, bad = Tensors(base), 0
    for path in [base] + dirs:
        q = json.load(open(path + "/config.json")).get("quantization_config", {})
        model = load(path, q)
        as_run = theirs(model, ids) if model is not None else None  # before decoding: some kernels repack weights in place
        weights = decoded_weights(path, q, load(path, q) if q.get("quant_method") == "bitsandbytes" else None, tensors)
        dense = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        stored = Tensors(path)
        changed = {k: stored[k].float() for k in dense.state_dict() if k in stored and k.removesuffix(".weight") not in weights}
        dense.load_state_dict(changed, strict=False)  # norms that took up a scaling
        for name, w in weights.items():
            dense.get_submodule(name).weight.data = w
        exact = theirs(dense, ids)
        f32, auto = ours(program, path, ids, "f32", n_vocab), ours(program, path, ids, "auto", n_vocab)
        decoded = float(np.abs(exact - f32).max() / np.abs(exact).max())
        ok = decoded <= EXACT and (not q or len(weights) > 0)
        run = "not loadable in transformers"
        if q.get("quant_method") == "fp8" and "activation_scheme" in q and model is not None:
            run = "transformers decodes fp8 on a CPU, ours computes in 8 bits: not compared"
        elif model is not None:
            noise, apart = distance(exact, as_run), distance(as_run, auto)
            ok = ok and apart <= ROUNDING * noise
            agree = float((as_run.argmax(1) == auto.argmax(1)).mean())
            run = f"{apart:.4f} apart, rounding {noise:.4f}, top-1 agreement {agree:.3f}"
        bad += not ok
        print(f"{'ok' if ok else 'NOT OK':6} {os.path.basename(path):18} {len(weights):3} matrices  decoded: {decoded:.1e}   as run: {run}"
              f"   (from the baseline {distance(baseline, exact):.4f})", flush=True)
    return bad != 0


sys.exit(main())
