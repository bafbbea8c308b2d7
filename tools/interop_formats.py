#!/usr/bin/env python3
"""interop_formats.py: are the checkpoints that `assay quantize` wrote what the originals would have written, and does assay
read the originals'?

    python interop_formats.py PROGRAM BASE FOLDER

BASE is the unquantized model's folder, FOLDER holds folders of variants written from it. For each: transformers loads it (with
bitsandbytes or compressed-tensors) and its logits are finite; every matrix's codes and scales equal those that the original package
makes of BASE's weights; what the loaded model computes with equals what the package decodes. Then the golden checkpoints of
tests/format are made anew: they must still say what the committed ones say, and PROGRAM must read them. One TAP line per check; exit
code 1 if one fails.

Runs on the CPU and on one thread: torch's sums, and so the offset of double quantization, depend on the number of threads.
"""
import json, os, subprocess, sys, tempfile
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
import bitsandbytes.functional as F
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, CompressedTensorsConfig

torch.set_num_threads(1)
count = failed = 0


def check(what, good, note=""):
    global count, failed
    count += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {count} - {what}{' (' + note + ')' if note else ''}", flush=True)


class Tensors:
    """All tensors of a checkpoint by name, single file or shards."""

    def __init__(self, folder):
        index = os.path.join(folder, "model.safetensors.index.json")
        if os.path.exists(index):
            with open(index) as f:
                files = sorted(set(json.load(f)["weight_map"].values()))
        else:
            files = ["model.safetensors"]
        self.where = {}
        for name in files:
            f = safe_open(os.path.join(folder, name), "pt")
            self.where.update({k: f for k in f.keys()})

    def __contains__(self, name):
        return name in self.where

    def __getitem__(self, name):
        return self.where[name].get_tensor(name)

    def modules(self, suffix):
        return sorted(k[: -len(suffix)] for k in self.where if k.endswith(suffix))


def equal(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def check_4bit(name, base, got, model, config):
    bad, weights, modules = [], [], got.modules(".weight.quant_map")
    for m in modules:
        kind = config["bnb_4bit_quant_type"]
        raw = json.loads(bytes(got[f"{m}.weight.quant_state.bitsandbytes__{kind}"].tolist()))
        nested = config["bnb_4bit_use_double_quant"]
        packed, q = F.quantize_4bit(base[m + ".weight"], blocksize=raw["blocksize"], quant_type=kind, compress_statistics=nested)
        for key, want in q.as_dict(packed=True).items():
            have = got[f"{m}.weight.{key}"]
            same = json.loads(bytes(have.tolist())) == json.loads(bytes(want.tolist())) if "quant_state" in key else equal(have, want)
            bad += [] if same else [f"{m}.weight.{key}"]
        bad += [] if equal(got[m + ".weight"], packed) else [m + ".weight"]
        loaded = model.get_submodule(m).weight
        absmax = lambda s: F.dequantize_blockwise(s.absmax, s.state2) + s.offset if s.nested else s.absmax
        decode = lambda w, s: _dequantize_4bit_compute(w.view(torch.uint8).reshape(-1), absmax(s), s.code, s.blocksize, s.shape, torch.float32)
        weights += [] if torch.equal(decode(loaded.data, loaded.quant_state), decode(packed, q)) else [m]
    check(f"{name}: codes, scales and state of {len(modules)} matrices equal bitsandbytes' bytes", modules and not bad, ", ".join(bad[:3]))
    check(f"{name}: transformers' loaded matrices decode to bitsandbytes' values", modules and not weights, ", ".join(weights[:3]))


def check_8bit(name, base, got, model):
    bad, weights, modules = [], [], got.modules(".SCB")
    for m in modules:
        codes, scb, _ = F.int8_vectorwise_quant(base[m + ".weight"].to(torch.float16))
        bad += [] if equal(got[m + ".weight"], codes) and equal(got[m + ".SCB"], scb) else [m]
        loaded = model.get_submodule(m)
        have = loaded.weight.data, loaded.weight.SCB if loaded.weight.SCB is not None else loaded.state.SCB
        weights += [] if torch.equal(F.int8_vectorwise_dequant(*have), F.int8_vectorwise_dequant(codes, scb)) else [m]
    check(f"{name}: codes and SCB of {len(modules)} matrices equal bitsandbytes'", modules and not bad, ", ".join(bad[:3]))
    check(f"{name}: transformers' loaded matrices decode to bitsandbytes' values", modules and not weights, ", ".join(weights[:3]))


def schemes_of(folder, quantization):
    """What the configuration says about each quantized module, by compressed-tensors' own matching."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    apply_quantization_config(skeleton, quantization, show_progress=False)
    return {n: m.quantization_scheme.weights for n, m in skeleton.named_modules() if hasattr(m, "quantization_scheme")}


def check_ct(name, folder, base, got, model, config):
    quantization = QuantizationConfig.model_validate(config)
    minmax = all(g.weights.observer in (None, "minmax") for g in quantization.config_groups.values())
    schemes = schemes_of(folder, quantization)
    codes, scales, weights, modules = [], [], [], got.modules(".weight_scale")
    for m in modules:
        args = schemes[m]
        w, scale = base[m + ".weight"], got[m + ".weight_scale"]
        shape = w.shape
        packed = m + ".weight_packed" in got
        q = unpack_from_int32(got[m + ".weight_packed"], args.num_bits, shape) if packed else got[m + ".weight"]
        zero = got[m + ".weight_zero_point"] if m + ".weight_zero_point" in got else None
        if zero is not None and zero.dtype == torch.int32:
            zero = unpack_from_int32(zero, args.num_bits, (shape[0], scale.shape[-1]), packed_dim=0)
        # The quotient in float32, as on a GPU (the Triton kernel); the CPU's own fallback divides in the model's dtype.
        z = zero if zero is not None else torch.zeros_like(scale, dtype=torch.int8)
        codes += [] if torch.equal(quantize(w.float(), scale.float(), z, args, dtype=torch.int8), q) else [m]
        if minmax:
            v = w.unflatten(-1, (-1, args.group_size)) if args.strategy == "group" else w.unsqueeze(1)
            s, zp = calculate_qparams(v.amin(-1), v.amax(-1), args)
            scales += [] if equal(s, scale) and (zero is None or torch.equal(zp.to(torch.int8), zero)) else [m]
        want = dequantize(q, scale, z, args)
        weights += [] if model is None or torch.equal(model.get_submodule(m).weight.data.to(want.dtype), want) else [m]
    check(f"{name}: what it quantizes is what its configuration names", sorted(schemes) == modules)
    check(f"{name}: codes of {len(modules)} matrices equal compressed-tensors'", modules and not codes, ", ".join(codes[:3]))
    if minmax:
        check(f"{name}: scales and zero points equal compressed-tensors'", not scales, ", ".join(scales[:3]))
    else:
        print(f"# {name}: its clipping was searched; scales are not those of min and max")
    if model is not None:
        check(f"{name}: transformers' loaded matrices decode to compressed-tensors' values", not weights, ", ".join(weights[:3]))


def load(name, folder, config):
    """The model as transformers loads it, or None where this version of transformers cannot."""
    groups, options = config.get("config_groups", {}), {}
    if any(not g["weights"]["symmetric"] for g in groups.values()):
        # transformers 5.23 cannot load packed zero points as they are, from compressed-tensors' own files neither: its skeleton of
        # the model does not pack them. It can decode them while loading, if all layers are quantized in one way.
        if len(groups) > 1:
            print(f"# {name}: transformers cannot load several groups with zero points; codes and scales are compared without it")
            return None
        options["quantization_config"] = CompressedTensorsConfig(dequantize=True)
        print(f"# {name}: has zero points, loaded with dequantize=True")
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    left = sorted(str(k) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for k in info.get(key, ()))
    check(f"{name}: transformers finds every tensor it wants and no other", not left, ", ".join(left[:3]))
    return model.eval()


def check_variant(base, folder):
    name = os.path.basename(os.path.normpath(folder))
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f).get("quantization_config", {})
    got = Tensors(folder)
    model = load(name, folder, config)
    method = config.get("quant_method")
    if method == "bitsandbytes":  # before the forward pass, which packs weights for the CPU
        if config.get("load_in_4bit"):
            check_4bit(name, base, got, model, config)
        else:
            check_8bit(name, base, got, model)
    if model is not None:
        with torch.no_grad():
            logits = model(torch.arange(1, 17).unsqueeze(0) % model.config.vocab_size).logits
        check(f"{name}: its logits are finite", bool(torch.isfinite(logits).all()))
    if method == "compressed-tensors":  # after it, which unpacks them
        check_ct(name, folder, base, got, model, config)


def check_golden(program):
    """What the installed originals save today, against what the tests hold; and the program's reading of it."""
    golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "format", "golden")
    with tempfile.TemporaryDirectory() as fresh:
        made = subprocess.run([sys.executable, os.path.join(golden, "make_format.py"), fresh], capture_output=True, text=True)
        check("golden checkpoints: the originals save them", made.returncode == 0, made.stderr[-200:] if made.returncode else "")
        if made.returncode:
            return
        with open(os.path.join(fresh, "expected.json")) as a, open(os.path.join(golden, "expected.json")) as b:
            check("golden checkpoints: codes, scales and weights are those in tests/format", json.load(a)["models"] == json.load(b)["models"])
        for name in sorted(d for d in os.listdir(fresh) if os.path.isdir(os.path.join(fresh, d))):
            seen = subprocess.run([program, "inspect", os.path.join(fresh, name)], capture_output=True, text=True)
            check(f"golden checkpoints: {program} reads {name}", seen.returncode == 0, seen.stderr.strip())


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, base, folder = sys.argv[1:]
    variants = sorted(d for d in os.listdir(folder) if os.path.exists(os.path.join(folder, d, "config.json")))
    check("there are variants to look at", bool(variants))
    tensors = Tensors(base)
    for name in variants:
        try:
            check_variant(tensors, os.path.join(folder, name))
        except Exception as e:  # one variant that does not load must not hide the others
            check(f"{name}: {type(e).__name__}: {e}", False)
    check_golden(program)
    print(f"1..{count}")
    sys.exit(1 if failed else 0)


main()
