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
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam, maybe_pad_tensor_for_block_quant
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


def without_order(config):
    """The configuration without activation order by group, which compressed-tensors gave up after 0.14; and whether it had one."""
    config = json.loads(json.dumps(config))
    ordered = [g["weights"] for g in config["config_groups"].values() if g["weights"].get("actorder") == "group"]
    for w in ordered:
        w["actorder"] = None
    return config, bool(ordered)


def schemes_of(folder, quantization):
    """What the configuration says about each quantized module, by compressed-tensors' own matching."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    apply_quantization_config(skeleton, quantization, show_progress=False)
    return {n: m.quantization_scheme for n, m in skeleton.named_modules() if hasattr(m, "quantization_scheme")}


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


class Stored:
    """One quantized module of a compressed-tensors checkpoint: its values before scaling, scales and zero points."""

    def __init__(self, got, m, args, shape):
        get = lambda suffix: got[m + suffix] if m + suffix in got else None
        self.args, self.raw_scale, self.share = args, get(".weight_scale"), get(".weight_global_scale")
        self.order = get(".weight_g_idx")
        packed, zero = get(".weight_packed"), get(".weight_zero_point")
        if args.type == "float" and args.num_bits == 4:
            self.q = FP4[torch.stack([packed & 15, packed >> 4], -1).flatten(-2).long()]
            self.scale = 2.0 ** (self.raw_scale.float() - 127) if self.raw_scale.dtype == torch.uint8 else self.raw_scale.float()
        else:
            self.q = get(".weight") if packed is None else unpack_from_int32(packed, args.num_bits, shape)
            self.scale = self.raw_scale
        if zero is not None and zero.dtype == torch.int32:
            zero = unpack_from_int32(zero, args.num_bits, (shape[0], self.scale.shape[-1]), packed_dim=0)
        self.zero = zero

    def columns(self, w):
        return w if self.order is None else w[:, torch.argsort(self.order)]

    def wanted_codes(self, w):
        zero = self.zero if self.zero is not None else torch.zeros_like(self.scale.float())
        return quantize(self.columns(w), self.scale, zero, self.args, global_scale=self.share).float()

    def wanted_scales(self, w, fused):
        """fused: the weights that runtimes stack with w, itself included, which share what holds for a whole matrix."""
        w, a, extra = self.columns(w), self.args, {}
        if a.strategy == "tensor":
            v = torch.cat([x.reshape(1, -1) for x in fused], 1)
        elif a.strategy == "block":
            rows, cols = a.block_structure
            v = maybe_pad_tensor_for_block_quant(w, (rows, cols)).unflatten(0, (-1, rows)).unflatten(-1, (-1, cols)).transpose(1, 2).flatten(-2)
        else:
            v = w.unflatten(-1, (-1, a.group_size)) if a.group_size else w.unsqueeze(1)
        if self.share is not None:
            extra["global_scale"] = generate_gparam(min(x.amin() for x in fused).reshape(1), max(x.amax() for x in fused).reshape(1))
            if not torch.equal(extra["global_scale"], self.share):
                return None, None
        scale, zero = calculate_qparams(v.amin(-1), v.amax(-1), a, **extra)
        return scale.reshape(self.scale.shape), zero.reshape(self.scale.shape)

    def decoded(self):
        q = self.columns(self.q).float()
        w = dequantize(q, self.scale.float(), self.zero, self.args, dtype=torch.float32, global_scale=self.share)
        return w if self.order is None else w[:, torch.argsort(torch.argsort(self.order))]


STACKED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def fused_with(m, schemes, base):
    """The weights that vLLM stacks with m's and that are quantized like it."""
    stem, _, own = m.rpartition(".")
    names = next((names for names in STACKED if own in names), (own,))
    return [base[f"{stem}.{n}.weight"] for n in names if f"{stem}.{n}" in schemes and schemes[f"{stem}.{n}"].weights == schemes[m].weights]


def rounded_to_nearest(folder):
    """Modules whose codes are the nearest to BASE's weights, as any other implementation has them: no method chose or scaled them."""
    with open(os.path.join(folder, "layers.jsonl")) as f:
        lines = [json.loads(line) for line in f]
    return {x["name"].removesuffix(".weight") for x in lines if x["choice"]["method"] in ("rtn", "fp8")}


def check_ct(name, folder, base, got, model, config):
    config, ordered = without_order(config)
    quantization = QuantizationConfig.model_validate(config)
    minmax = all(g.weights.observer in (None, "minmax") for g in quantization.config_groups.values())
    schemes = schemes_of(folder, quantization)
    codes, scales, weights, modules = [], [], [], got.modules(".weight_scale")
    nearest = rounded_to_nearest(folder)
    for m in modules:
        w = base[m + ".weight"]
        t = Stored(got, m, schemes[m].weights, w.shape)
        if m in nearest:
            codes += [] if torch.equal(t.wanted_codes(w), t.columns(t.q.float())) else [m]
        if m in nearest and minmax:
            s, zp = t.wanted_scales(w, fused_with(m, schemes, base))
            same = s is not None and torch.equal(s.float(), t.scale.float())
            scales += [] if same and (t.zero is None or torch.equal(zp.to(torch.int8), t.zero)) else [m]
        if model is not None:
            have = model.get_submodule(m).weight.data
            weights += [] if torch.equal(have.float(), t.decoded().to(have.dtype).float()) else [m]
    check(f"{name}: what it quantizes is what its configuration names", sorted(schemes) == modules)
    if not nearest:
        print(f"# {name}: its codes were chosen by a method; tools/interop_methods.py compares what they lose")
    else:
        check(f"{name}: codes of {len(nearest)} matrices equal compressed-tensors'", not codes, ", ".join(codes[:3]))
    if nearest and minmax:
        check(f"{name}: scales and zero points equal compressed-tensors'", not scales, ", ".join(scales[:3]))
    elif nearest:
        print(f"# {name}: its clipping was searched; scales are not those of min and max")
    static = [m for m, s in schemes.items() if s.input_activations is not None and not s.input_activations.dynamic]
    if static:
        check(f"{name}: static scales of the inputs are there", all(m + ".input_scale" in got for m in static))
    if model is not None:
        check(f"{name}: transformers' loaded matrices decode to compressed-tensors' values", modules and not weights, ", ".join(weights[:3]))


def check_fp8(name, base, got, model, config):
    """quant_method fp8: the codes are torch's for the stored scales, what transformers decodes is code times scale."""
    codes, weights = [], []
    modules = got.modules(".weight_scale_inv") or got.modules(".weight_scale")
    block = config.get("weight_block_size")
    for m in modules:
        q, w = got[m + ".weight"], base[m + ".weight"].float()
        scale = got[m + ".weight_scale_inv"] if m + ".weight_scale_inv" in got else got[m + ".weight_scale"]
        rows, cols = block or (w.shape[0] // (len(scale) if scale.ndim else 1), w.shape[1])
        spread = scale.reshape(-(-w.shape[0] // rows), -1).repeat_interleave(rows, 0)[: w.shape[0]].repeat_interleave(cols, 1)[:, : w.shape[1]]
        top = torch.finfo(q.dtype).max
        codes += [] if torch.equal((w / spread).to(base[m + ".weight"].dtype).clamp(-top, top).to(q.dtype).float(), q.float()) else [m]
        if model is not None:
            have = model.get_submodule(m).weight.data
            weights += [] if torch.equal(have, (q.float() * spread).to(have.dtype)) else [m]
    check(f"{name}: codes of {len(modules)} matrices equal torch's casts", modules and not codes, ", ".join(codes[:3]))
    if model is not None:
        check(f"{name}: transformers' loaded matrices are code times scale", modules and not weights, ", ".join(weights[:3]))


def check_hqq(name, base, got, config):
    """hqq's own class loads each matrix and decodes it; its own quantization of BASE gives the same codes, scales and zero points."""
    try:
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
    except ImportError:
        print(f"# {name}: hqq is not installed in this environment: not compared")
        return
    own = BaseQuantizeConfig(**{k: config["quant_config"]["weight_quant_params"][k] for k in ("nbits", "group_size", "axis")})
    loads, same, modules = [], [], got.modules(".W_q")
    for m in modules:
        state = {k[len(m) + 1:]: got[k] for k in got.where if k.startswith(m + ".")}
        layer = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu", initialize=False)
        layer.load_state_dict({k: v.clone() for k, v in state.items()})
        w = base[m + ".weight"]
        error = float((layer.dequantize() - w.float()).norm() / w.float().norm())
        loads += [] if error < 2.0 ** -(layer.meta["nbits"] - 3) else [f"{m} {error:.3f}"]
        linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        linear.weight.data = w.clone()
        theirs = HQQLinear(linear, own, compute_dtype=state["scale"].dtype, device="cpu").state_dict()
        differ = [k for k in theirs if k not in state or not equal(theirs[k].data.reshape(state[k].shape), state[k])]
        same += [f"{m} {differ[0]}"] if differ else []
    check(f"{name}: hqq loads {len(modules)} matrices and decodes them near the original", modules and not loads, ", ".join(loads[:3]))
    check(f"{name}: codes, scales, zero points and settings equal hqq's bytes", modules and not same, ", ".join(same[:3]))


def load(name, folder, config):
    """The model as transformers loads it, or None where this version of transformers cannot."""
    groups, options = config.get("config_groups", {}), {}
    if config.get("quant_method") == "hqq":
        print(f"# {name}: transformers 5.23 cannot load hqq (NotImplementedError); hqq's own classes are asked")
        return None
    if config.get("quant_method") == "fp8" and any(k.endswith(".weight_scale") for k in Tensors(folder).where):
        print(f"# {name}: one scale for a tensor has vLLM's name, which transformers 5.23 does not look for")
        return None
    if any(g["weights"].get("actorder") == "group" for g in groups.values()):
        print(f"# {name}: compressed-tensors refuses activation order by group since 0.15; vLLM reads it")
        return None
    if any(not g["weights"]["symmetric"] and g.get("format", "pack-quantized") == "pack-quantized" for g in groups.values()):
        # transformers 5.23 cannot load packed zero points as they are, from compressed-tensors' own files neither: its skeleton of
        # the model does not pack them. (Unpacked ones fit that skeleton, but its decompression then wants packed ones: no file
        # satisfies both.) It can decode them while loading, if all layers are quantized in one way.
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
    elif method == "fp8":
        check_fp8(name, base, got, model, config)
    elif method == "hqq":
        check_hqq(name, base, got, config)


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


if __name__ == "__main__":
    main()
