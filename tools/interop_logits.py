#!/usr/bin/env python3
"""Loads the checkpoints that we wrote with transformers, bitsandbytes and compressed-tensors, and compares their logits with ours.

interop_logits.py LOGITS MODEL DIR...
  LOGITS   tools/logits.c, compiled
  MODEL    the unquantized model
  DIR...   quantized checkpoints
Two comparisons each:
  decoded  the originals decode our codes to float32 weights and run them in float32; ours computes from the codes in float32. What is left
           is the order of summation: at most 1e-4 of the largest logit
  as run   transformers as it comes (bfloat16; LLM.int8() activations; bitsandbytes' own CPU kernels), ours in the format's home mode. They
           round differently, and LLM.int8() takes a column out for the whole batch where ours does for the row, so the yardstick is
           the rounding itself: at most twice as far from theirs as theirs is from the decoded weights in float32, in norm
Exit code 1 when one is off."""
import json, logging, os, re, subprocess, sys, tempfile, warnings

import bitsandbytes.functional
import numpy as np
import torch
import transformers
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file
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
    kw = {}
    if q.get("quant_method") == "compressed-tensors" and any(not g["weights"]["symmetric"] for g in q["config_groups"].values()):
        # transformers 5.23 with compressed-tensors 0.20 expects packed zero points in the wrong shape unless it dequantizes at once.
        kw["quantization_config"] = transformers.CompressedTensorsConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(path, **kw).eval()


def decoded_weights(path, q, model):
    """Each quantized module's weight in float32, by the originals' own decoders."""
    out = {}
    for name, m in model.named_modules():
        kind = type(m).__name__
        if kind == "Linear4bit":
            state = m.weight.quant_state
            state.dtype = torch.float32
            out[name] = bitsandbytes.functional.dequantize_4bit(m.weight.data, state)
        elif kind == "Linear8bitLt":
            out[name] = m.weight.data.float() * (m.weight.SCB.float() / 127)[:, None]
    if q.get("quant_method") != "compressed-tensors":
        return out
    tensors = load_file(path + "/model.safetensors")
    groups = list(QuantizationConfig(**q).config_groups.values())
    for key in tensors:
        if not key.endswith(".weight_packed"):
            continue
        name = key[: -len(".weight_packed")]
        scheme = next(g for g in groups if any(
            t in (name, "Linear") or (t.startswith("re:") and re.match(t[3:], name)) for t in g.targets))
        parts = {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + ".")}
        parts["weight_scale"] = parts["weight_scale"].float()
        parts["weight_shape"] = torch.Size(parts["weight_shape"].tolist())
        out[name] = PackedQuantizationCompressor.decompress(parts, scheme)["weight"]
    return out


def distance(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def main():
    program, base, dirs = sys.argv[1], sys.argv[2], sys.argv[3:]
    n_vocab = json.load(open(base + "/config.json"))["vocab_size"]
    ids = sequences(n_vocab)
    baseline = theirs(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), ids)
    bad = 0
    for path in [base] + dirs:
        q = json.load(open(path + "/config.json")).get("quantization_config", {})
        model = load(path, q)
        as_run = theirs(model, ids)  # before decoding: some kernels repack weights in place
        weights = decoded_weights(path, q, load(path, q))
        dense = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        for name, w in weights.items():
            dense.get_submodule(name).weight.data = w
        exact = theirs(dense, ids)
        f32, auto = ours(program, path, ids, "f32", n_vocab), ours(program, path, ids, "auto", n_vocab)
        decoded = float(np.abs(exact - f32).max() / np.abs(exact).max())
        noise, apart = distance(exact, as_run), distance(as_run, auto)
        ok = decoded <= EXACT and apart <= ROUNDING * noise and (not q or len(weights) > 0)
        bad += not ok
        agree = float((as_run.argmax(1) == auto.argmax(1)).mean())
        print(f"{'ok' if ok else 'NOT OK':6} {os.path.basename(path):18} {len(weights):3} matrices  decoded: {decoded:.1e}   as run: {apart:.4f} apart, "
              f"rounding {noise:.4f}, top-1 agreement {agree:.3f}   (from the baseline {distance(baseline, exact):.4f})", flush=True)
    return bad != 0


sys.exit(main())
